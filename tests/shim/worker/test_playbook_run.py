"""A few real runs of ansible-runner, each in a process of its own as a worker's are: what comes out, what is left."""

import json
import subprocess
import sys
import textwrap

import pytest

from tests.processes import has_ended

SETS_STATS = """
    - ansible.builtin.set_stats:
        data: {result: {node: "{{ inventory_hostname }}", said: "{{ word }}"}}
        per_host: false
"""
FAILS = """
    - ansible.builtin.fail: {msg: no space left}
"""
SLEEPS = """
    - ansible.builtin.shell: echo $$ > {pidfile}; exec sleep 300
"""
RUNS = """
    import json, pathlib, sys, time, types
    from shim.process import become_subreaper
    from shim.worker import playbook
    become_subreaper()
    here = pathlib.Path(sys.argv[1])
    run = playbook.Run(playbook="one.yml", inventory=here / "hosts", limit="lab1", variables={"word": "{{ 1 + 1 }} ; id"},
                       timeout_s=float(sys.argv[2]), directory=here / "run", project_dir=here, control_dir=here / "cp",
                       check=sys.argv[4] == "check")
    # Its time is over when its script is at work, however long that took to begin.
    pid = here / "pid"
    at_work = lambda: pid.exists() and pid.read_text().endswith("\\n")
    playbook.time = types.SimpleNamespace(monotonic=lambda: time.monotonic() + (3600 if at_work() else 0))
    # No waiting for the end of what has ended.
    import ptyprocess.ptyprocess
    waited = []
    ptyprocess.ptyprocess.time = types.SimpleNamespace(sleep=lambda seconds: waited.append(seconds) or time.sleep(seconds))
    tasks = []
    outcome = playbook.execute(run, on_task=tasks.append, should_stop=lambda: sys.argv[3] or None)
    print(json.dumps({"result": outcome.result, "failure": outcome.failure, "tasks": tasks, "waited": sum(waited)}))
"""


@pytest.fixture
def execute(tmp_path):
    """Return a way to run a playbook of these tasks; it gives result, failure and the tasks' names."""

    def run(tasks, *, timeout_s=60.0, stop="", check=False):
        (tmp_path / "playbooks").mkdir()
        (tmp_path / "run").mkdir()
        (tmp_path / "hosts").write_text(f"lab1 ansible_connection=local ansible_python_interpreter={sys.executable}\n")
        (tmp_path / "ansible.cfg").write_text("[defaults]\n")
        play = "- hosts: all\n  gather_facts: false\n  tasks:" + tasks
        (tmp_path / "playbooks/one.yml").write_text(play)
        command = [sys.executable, "-c", textwrap.dedent(RUNS), str(tmp_path), str(timeout_s), stop, "check" if check else ""]
        path = f"{sys.executable.rsplit('/', 1)[0]}:/usr/bin:/bin"
        environment = {"PATH": path, "HOME": str(tmp_path), "LC_ALL": "C.UTF-8"}
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True, env=environment)
        return json.loads(done.stdout.splitlines()[-1])

    return run


def test_a_playbooks_stats_are_the_result_and_its_tasks_the_progress(execute):
    done = execute(SETS_STATS)
    assert done["failure"] is None
    # What a client wrote is data to Ansible, never a template.
    assert done["result"] == {"node": "lab1", "said": "{{ 1 + 1 }} ; id"}
    assert done["tasks"] == ["ansible.builtin.set_stats"]
    assert done["waited"] == 0


WRITES = """
    - ansible.builtin.copy: {{content: x, dest: {file}}}
      register: made
    - ansible.builtin.set_stats:
        data: {{result: {{changed: "{{{{ made.changed }}}}"}}}}
        per_host: false
"""


def test_a_run_in_check_mode_changes_nothing_and_says_what_it_would(execute, tmp_path):
    done = execute(WRITES.format(file=tmp_path / "written"), check=True)
    assert done["result"] == {"changed": True}
    assert not (tmp_path / "written").exists()


def test_a_failed_tasks_message_is_the_failure(execute):
    done = execute(FAILS)
    assert (done["result"], done["failure"]["msg"]) == (None, "node lab1: no space left")


def test_a_run_beyond_its_time_is_ended_with_all_it_started(execute, tmp_path):
    pidfile = tmp_path / "pid"
    done = execute(SLEEPS.format(pidfile=pidfile), timeout_s=600.0)
    assert done["failure"]["msg"] == "the run was ended: took longer than 600 s"
    assert done["failure"]["retryable"]
    pid = int(pidfile.read_text())
    assert has_ended(pid)
