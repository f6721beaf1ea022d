SET LOCAL search_path = cloudpods, public;

-- The process of the run that may still be alive: it stays when the job is found lost, and is empty when the run is known to
-- have ended. The host is a kernel's boot, a pid namespace and a user; the start time is in clock ticks since that boot. An
-- attempt that settles a lost run has not yet made sure of its end while `run_attempt` is not its own.
ALTER TABLE cloud_pod_jobs
    ADD COLUMN run_host text,
    ADD COLUMN run_pid integer,
    ADD COLUMN run_started bigint,
    ADD COLUMN run_attempt integer,
    ADD CHECK (num_nulls(run_host, run_pid, run_started, run_attempt) IN (0, 4));
