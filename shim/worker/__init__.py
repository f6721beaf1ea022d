"""Workers: woken by RQ, they claim a job, run its playbook and write what came of it."""
