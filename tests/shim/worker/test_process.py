"""Ending a whole process tree, with real processes: also those that left for a session of their own, or ignore the request."""

import subprocess
import sys
import textwrap

import pytest

from tests.processes import has_ended

# Starts a child that starts a grandchild in a session of its own and exits; prints the grandchild's pid.
STRAY = """
    import subprocess, sys
    output = {{"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}}
    grandchild = subprocess.Popen([sys.executable, "-c", {code!r}], start_new_session=True, **output)
    grandchild.stdout.readline()
    print(grandchild.pid, flush=True)
"""
SLEEPS = "import time; print('up', flush=True); time.sleep(300)"
CLEANS_UP = """
import pathlib, signal, sys, time
def clean(*_):
    pathlib.Path({file!r}).write_text("cleaned")
    sys.exit()
signal.signal(signal.SIGTERM, clean)
print("up", flush=True)
time.sleep(300)
"""
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
time.sleep(300)
"""
ENDS = """
    import subprocess, sys
    from shim.process import become_subreaper, collect_zombies, end_descendants
    become_subreaper()
    stray = subprocess.run([sys.executable, "-c", {stray!r}], capture_output=True, text=True, check=True)
    ended = end_descendants(grace_s={grace_s})
    collect_zombies()
    print(stray.stdout.strip(), ended)
"""


def runs(pid):
    """Return whether a process is still at work: one that ended may wait as a zombie for init to take note."""
    return not has_ended(pid)


def end_a_stray(code, *, grace_s=10.0):
    """Return (pid of a grandchild that strayed, how many were ended), from a process made to end what is below it."""
    stray = textwrap.dedent(STRAY).format(code=code)
    program = textwrap.dedent(ENDS).format(stray=stray, grace_s=grace_s)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    pid, ended = done.stdout.split()
    return int(pid), int(ended)


def test_a_grandchild_in_a_session_of_its_own_is_ended():
    pid, ended = end_a_stray(SLEEPS)
    assert ended == 1
    assert not runs(pid)


def test_what_is_asked_to_end_may_clean_up(tmp_path):
    file = tmp_path / "trace"
    end_a_stray(CLEANS_UP.format(file=str(file)))
    assert file.read_text() == "cleaned"


def test_what_does_not_end_when_asked_is_killed():
    pid, ended = end_a_stray(STUBBORN, grace_s=0.3)
    assert ended == 1
    assert not runs(pid)


def test_with_nothing_below_there_is_nothing_to_do():
    program = "from shim.process import end_descendants, collect_zombies; collect_zombies(); print(end_descendants())"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.strip() == "0"


@pytest.mark.parametrize("number", [5])
def test_a_child_that_keeps_starting_others_is_ended_with_them(number):
    code = f"""
import subprocess, sys
for n in range({number}):
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"], start_new_session=bool(n % 2))
print("up", flush=True)
import time; time.sleep(300)
"""
    pid, ended = end_a_stray(code)
    assert ended == number + 1
    assert not runs(pid)


MASTER = """
    import subprocess, time
    from shim.process import become_subreaper, end_descendants
    become_subreaper()
    master = subprocess.Popen(["bash", "-c", "exec -a 'ssh: /run/cp/abc [mux]' sleep 300"])
    other = subprocess.Popen(["sleep", "300"])
    while b"mux" not in open(f"/proc/{master.pid}/cmdline", "rb").read():
        time.sleep(0.01)
    end_descendants(spare_ssh_masters=True)
    print(master.poll(), other.poll())
    end_descendants()
    print(master.poll())
"""


def test_a_shared_ssh_connection_outlives_the_run_that_opened_it():
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(MASTER)], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.split() == ["None", "-15", "-15"]
