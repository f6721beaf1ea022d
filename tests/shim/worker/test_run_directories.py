"""What runs leave on their host: nothing when they end well, for a time what explains it when they do not."""

import os
import subprocess
import sys
import time

import pytest

from shim.worker.run_directories import RunDirectories

DAY_S = 24 * 3600


@pytest.fixture
def directories(tmp_path):
    return RunDirectories(tmp_path, keep_days=7, keep_mb=1)


@pytest.fixture
def filled():
    """Return a way to put into a run's directory what ansible-runner does."""

    def fill(path, output="TASK [x]\nfatal: [lab1]\n"):
        (path / "env").mkdir()
        (path / "env/extravars").write_text("hunter2")
        (path / "env/envvars").write_text("hunter2")
        artifacts = path / "artifacts/ident"
        (artifacts / "job_events").mkdir(parents=True)
        (artifacts / "fact_cache").mkdir()
        (artifacts / "fact_cache/lab1").write_text("hunter2")
        (artifacts / "job_events/1-partial.json").write_text("hunter2")
        for name, text in (("command", "hunter2"), ("stdout", output), ("rc", "2"), ("status", "failed")):
            (artifacts / name).write_text(text)

    return fill


def kept(tmp_path):
    return sorted(path.name for path in (tmp_path / "runs/failed").glob("*"))


def test_a_run_that_ended_well_leaves_nothing(directories, filled, tmp_path):
    held = directories.make("a.1.create")
    assert held.path.stat().st_mode & 0o777 == 0o700
    filled(held.path)
    held.end(None)
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [".lock"]


def test_a_run_that_failed_leaves_what_it_printed_and_no_secret(directories, filled, tmp_path):
    held = directories.make("a.1.create")
    filled(held.path)
    held.end("node lab1: no space left \udcff")
    (run,) = (tmp_path / "runs/failed").iterdir()
    assert run.name == "a.1.create"
    assert {path.name: path.read_text() for path in run.iterdir()} == {
        "stdout": "TASK [x]\nfatal: [lab1]\n",
        "rc": "2",
        "status": "failed",
        "why": "node lab1: no space left ?\n",
    }
    assert {path.stat().st_mode & 0o777 for path in (run, run.parent, run.parent.parent)} == {0o700}


def test_what_a_run_is_to_hide_is_in_nothing_that_is_kept(directories, filled, tmp_path):
    held = directories.make("a.1.blueprint", ("hunter2",))
    filled(held.path, "pw is hunter2\n")
    held.end("a step failed")
    (run,) = (tmp_path / "runs/failed").iterdir()
    assert (run / "stdout").read_text() == "pw is ********\n"
    assert {path.name for path in run.iterdir()} == {"stdout", "rc", "status", "why"}


def test_nothing_that_was_to_be_hidden_is_kept_of_a_run_that_was_killed(directories, filled, tmp_path):
    held = directories.make("a.1.blueprint", ("hunter2",))
    filled(held.path, "pw is hunter2\n")
    # The lock goes with the process.
    os.close(held._lock)
    directories.tidy()
    (run,) = (tmp_path / "runs/failed").iterdir()
    assert {path.name for path in run.iterdir()} == {"why"}


def test_a_second_look_of_one_attempt_that_failed_is_kept_beside_the_first(directories, tmp_path):
    for _ in range(2):
        directories.make("a.1.info").end("no answer")
    assert len(kept(tmp_path)) == 2


@pytest.mark.parametrize("none", [{"keep_days": 0}, {"keep_mb": 0}], ids=["no days", "no MB"])
def test_a_site_may_keep_nothing(filled, tmp_path, none):
    directories = RunDirectories(tmp_path, **{"keep_days": 7, "keep_mb": 500, **none})
    held = directories.make("a.1.create")
    filled(held.path)
    held.end("it failed")
    assert [path.name for path in (tmp_path / "runs").iterdir()] == [".lock"]


def test_a_run_that_cannot_be_kept_is_removed(directories, filled, tmp_path):
    held = directories.make("a.1.create")
    filled(held.path)
    (tmp_path / "runs/failed").write_text("somebody's file")
    held.end("it failed")
    assert not held.path.exists()


DIES = """
import os, pathlib, signal, sys
from shim.worker.run_directories import RunDirectories
held = RunDirectories(pathlib.Path(sys.argv[1]), keep_days=7, keep_mb=1).make("killed.1.create")
(held.path / "env").mkdir()
(held.path / "env/extravars").write_text("hunter2")
print("made", flush=True)
sys.stdin.read()
"""


def test_the_directory_of_a_killed_process_is_kept_and_that_of_a_living_one_left_alone(directories, tmp_path):
    living = directories.make("living.1.create")
    with subprocess.Popen(
        [sys.executable, "-c", DIES, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"made\n"
        directories.tidy()
        assert kept(tmp_path) == []
        process.kill()
    # Another worker's, and at the same time one of our own.
    RunDirectories(tmp_path, keep_days=7, keep_mb=1).tidy()
    directories.tidy()
    assert kept(tmp_path) == ["killed.1.create"]
    assert [path.name for path in (tmp_path / "runs/failed/killed.1.create").iterdir()] == ["why"]
    assert living.path.exists()
    living.end(None)


def test_what_an_earlier_release_left_is_kept_for_a_time_too(directories, filled, tmp_path):
    (tmp_path / "runs/old.1.create").mkdir(parents=True)
    filled(tmp_path / "runs/old.1.create")
    directories.tidy()
    assert kept(tmp_path) == ["old.1.create"]


def test_too_old_ones_go(directories, tmp_path):
    for name, days in (("old", 7.1), ("young", 6.9)):
        directories.make(name).end("it failed")
        os.utime(tmp_path / "runs/failed" / name, (time.time() - days * DAY_S,) * 2)
    directories.tidy()
    assert kept(tmp_path) == ["young"]


def test_of_too_many_the_oldest_go_first(directories, filled, tmp_path):
    now = time.time()
    for age_s, name in enumerate("abcdefgh"):
        held = directories.make(name)
        filled(held.path, "x" * 300_000)
        held.end("it failed")
        os.utime(tmp_path / "runs/failed" / name, (now - age_s,) * 2)
    directories.tidy()
    assert kept(tmp_path) == ["a", "b", "c"]


def test_one_that_is_larger_than_all_may_be_goes_itself_and_takes_no_other_along(directories, filled, tmp_path):
    directories.make("small").end("it failed")
    held = directories.make("large")
    filled(held.path, "x" * 2_000_000)
    held.end("it failed")
    directories.tidy()
    assert kept(tmp_path) == ["small"]


MANY = """
import pathlib, sys
from shim.worker.run_directories import RunDirectories
directories = RunDirectories(pathlib.Path(sys.argv[1]), keep_days=7, keep_mb=50)
for number in range(60):
    held = directories.make(f"{sys.argv[2]}.{number}.create")
    (held.path / "artifacts/x").mkdir(parents=True)
    (held.path / "artifacts/x/stdout").write_text("x")
    held.end("it failed" if number % 2 else None)
    directories.tidy()
    assert number % 2 == 0 or (directories._failed / f"{sys.argv[2]}.{number}.create/stdout").read_text() == "x"
"""


def test_several_workers_at_once_are_in_nobodys_way(tmp_path):
    started = [subprocess.Popen([sys.executable, "-c", MANY, str(tmp_path), str(number)]) for number in range(4)]
    assert [process.wait(60) for process in started] == [0] * 4
    assert len(kept(tmp_path)) == 4 * 30
    assert sorted(path.name for path in (tmp_path / "runs").iterdir()) == [".lock", "failed"]
