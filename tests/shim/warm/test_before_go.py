"""Until `go` a plain command may do the work, so nothing that fails before costs a job; and no signal is lost."""

from __future__ import annotations

import resource
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest

from shim.warm import keeper
from tests.processes import has_ended
from tests.shim.warm.conftest import Ways, gone, marked
from tests.stack import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

PLAY = "[{hosts: here, gather_facts: false, tasks: [{debug: {msg: ran}}]}]"
STUBBORN = """
- hosts: here
  gather_facts: false
  tasks: [{command: "sh -c 'trap : TERM; echo > begun; while :; do sleep 0.1; done'"}]
"""


def ran(ways: Ways, **more: str) -> dict[str, int]:
    """Run a play that ends well, and return why it was a plain one, if it was."""
    ways.project.write("play.yml", PLAY)
    ended = ways.run("warm", "-i", "hosts", "play.yml", **more)
    assert (ended.rc, ended.out.count('"msg": "ran"'), ended.err) == (0, 1, "")
    return ways.plainly()


def temporary(ways: Ways) -> list[Path]:
    return list((ways.project.folder / ".ansible/tmp").glob("ansible-local-*"))


@pytest.mark.parametrize("fault", ["raise OSError('no room')", "os.kill(os.getpid(), 9)", "sys.exit(5)"])
def test_a_run_that_cannot_be_prepared_is_a_plain_one(changed_ways: Callable[..., Ways], fault: str) -> None:
    ways = changed_ways(f"""
        renew = become._renew_ansible
        def broken(*given):
            renew(*given)
            if "BREAKS" in os.environ:
                {fault}
        become._renew_ansible = broken
    """)
    assert ran(ways) == {}
    before = temporary(ways)
    assert ran(ways, BREAKS="yes") == {"broken": 1}
    wait_until(lambda: temporary(ways) == before or "kill" in fault, "what it made is removed")
    assert ran(ways) == {}


def test_an_ansible_that_lacks_what_a_run_needs_is_never_used(changed_ways: Callable[..., Ways]) -> None:
    ways = changed_ways("become._renew_ansible = lambda *_: {}['what another release has not got']")
    warm = psutil.Process(ways.keeper.pid)
    assert set(ran(ways)) <= {"broken", "absent"}
    wait_until(lambda: has_ended(warm), "it has ended")
    assert ran(ways) == {"absent": 1}


def test_an_ansible_that_does_not_find_plugins_is_never_used(changed_ways: Callable[..., Ways]) -> None:
    ways = changed_ways(
        "preload._keep_overridden_plugins_apart = lambda plugins: setattr("
        "preload.importlib.import_module('ansible.plugins.loader').PluginLoader, '_load_module_source', None)"
    )
    warm = psutil.Process(ways.keeper.pid)
    wait_until(lambda: has_ended(warm), "it has ended")
    assert ran(ways) == {"absent": 1}


def test_packed_modules_that_are_gone_cost_no_run(own_ways: Ways, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ran(own_ways) == {}
    shutil.rmtree(own_ways.keeper.bin.parent / "modules")
    monkeypatch.setattr(keeper, "_AGAIN_S", 0.0)
    assert ran(own_ways) == {"broken": 1}
    assert ran(own_ways) == {}


def test_a_signal_before_go_ends_what_has_not_begun(changed_ways: Callable[..., Ways]) -> None:
    ways = changed_ways("""
        renew = become._renew_streams
        def slowly():
            if "SLOW" in os.environ:
                waits("prepared")
            renew()
        become._renew_streams = slowly
    """)
    ways.project.write("play.yml", PLAY)
    process = ways.started("warm", "-i", "hosts", "play.yml", mark="job-1.1", SLOW="1")
    wait_until((ways.project.folder / "prepared.reached").exists, "it is being prepared")
    process.send_signal(signal.SIGINT)
    wait_until(lambda: process.poll() is not None, "the stand-in has ended")
    ways.project.write("prepared.on", "")
    out, _ = process.communicate(timeout=30)
    assert (process.returncode, out) == (-signal.SIGINT, "")
    gone("job-1.1")
    assert len(temporary(ways)) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_right_after_go_counts(changed_ways: Callable[..., Ways], number: signal.Signals) -> None:
    """As it does for a plain command that has not begun with the play."""
    ways = changed_ways("""
        ended = become._ended
        def slowly(main):
            if "SLOW" in os.environ:
                waits("begun")
            return ended(main)
        become._ended = slowly
    """)
    ways.project.write("play.yml", PLAY)
    process = ways.started("warm", "-i", "hosts", "play.yml", mark="job-2.1", SLOW="1")
    wait_until((ways.project.folder / "begun.reached").exists, "it has begun")
    (guard,) = marked("job-2.1", below=ways.keeper.pid)
    (run,) = guard.children()
    process.send_signal(number)
    wait_until(lambda: _waits_for(run.pid, number), "the signal has come to the run")
    ways.project.write("begun.on", "")
    out, _ = process.communicate(timeout=30)
    assert (process.returncode, out) == (-number, "")
    assert ways.plainly() == {}


def _waits_for(pid: int, number: signal.Signals) -> bool:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    pending = next(int(line.split()[1], 16) for line in lines if line.startswith("ShdPnd:"))
    return bool(pending & 1 << (number - 1))


def test_nobody_waits_for_what_a_run_left_when_the_stand_in_has_gone(changed_ways: Callable[..., Ways]) -> None:
    own_ways = changed_ways("guard.GRACE_S = 300")
    own_ways.project.write("slow.yml", STUBBORN)
    process = own_ways.started("warm", "-i", "hosts", "slow.yml", mark="job-3.1")
    wait_until((own_ways.project.folder / "begun").exists, "the task has begun")
    (guard,) = marked("job-3.1", below=own_ways.keeper.pid)
    (run,) = guard.children()
    process.terminate()
    wait_until(lambda: not run.is_running(), "the run has ended")
    # What it left goes on for a time, as a rule: Ansible's own worker may have killed it as it ended.
    process.kill()
    process.communicate(timeout=30)
    gone("job-3.1", 60)
    assert own_ways.plainly() == {}


@pytest.mark.parametrize("number", [signal.SIGCHLD, signal.SIGTERM])
def test_a_worker_with_blocked_signals_has_its_runs_ended(changed_ways: Callable[..., Ways], number: signal.Signals) -> None:
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {number})
    try:
        ways = changed_ways("")
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    assert ran(ways) == {}
    warm = psutil.Process(ways.keeper.pid)
    warm.terminate()
    wait_until(lambda: has_ended(warm), "it has ended")


def test_a_host_without_room_for_a_connection_has_it_a_little_later(own_ways: Ways) -> None:
    assert ran(own_ways) == {}
    warm = own_ways.keeper.pid or 0
    before = resource.prlimit(warm, resource.RLIMIT_NOFILE)
    open_ones = {int(each.name) for each in Path(f"/proc/{warm}/fd").iterdir()}
    free = min(set(range(100)) - open_ones)
    resource.prlimit(warm, resource.RLIMIT_NOFILE, (free, before[1]))
    assert ran(own_ways) == {"late": 1}
    resource.prlimit(warm, resource.RLIMIT_NOFILE, before)
    assert ran(own_ways) == {}
    assert own_ways.keeper.pid == warm


def test_what_hangs_while_it_packs_is_ended(changed_ways: Callable[..., Ways]) -> None:
    ways = changed_ways("""
        serve._PACK_S = 5
        pack = preload.pack
        def packs(loaded, name, target):
            if "ping" in name:
                waits("packed")
            signal.alarm(60)
            pack(loaded, name, target)
        preload.pack = packs
    """)
    ways.project.write("ping.yml", "[{hosts: here, gather_facts: false, tasks: [{ping: {}}]}]")
    ways.project.write("stat.yml", "[{hosts: here, gather_facts: false, tasks: [{stat: {path: /}}]}]")
    for name in ("ping", "stat"):
        assert ways.run("warm", "-i", "hosts", f"{name}.yml").rc == 0
    assert ways.plainly() == {}
    wait_until((ways.keeper.bin.parent / "modules/ansible.modules.stat-ZIP_DEFLATED-none").exists, "the other is packed")


def test_an_ordinary_end_leaves_nothing(own_ways: Ways) -> None:
    assert ran(own_ways) == {}
    assert len(temporary(own_ways)) == 1
    own_ways.keeper.stop()
    assert temporary(own_ways) == []


def test_one_whose_log_nobody_reads_goes_on(changed_ways: Callable[..., Ways]) -> None:
    ways = changed_ways("""
        serving = serve.Server.serve
        def unread(self):
            read, write = os.pipe()
            os.close(read)
            sys.stderr = open(write, "w", buffering=1)
            serving(self)
        serve.Server.serve = unread
    """)
    assert ran(ways) == {}
    ways.project.write("play.yml", PLAY)
    assert ways.run("warm", "-i", "hosts", "play.yml", ANSIBLE_FORKS="3").rc == 0
    assert ways.plainly() == {"settings": 1}
    assert ran(ways) == {}
