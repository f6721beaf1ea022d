"""node_files: many files in one call, laid once, each replaced whole."""

from __future__ import annotations

import grp
import os
import pwd
from pathlib import Path

import pytest


@pytest.fixture
def wanted(tmp_path: Path) -> dict:
    """Return parameters for two files in a new directory."""
    return {
        "owner": pwd.getpwuid(os.getuid()).pw_name,
        "group": grp.getgrgid(os.getgid()).gr_name,
        "directories": [f"{tmp_path}/lib/deep"],
        "files": [
            {"path": f"{tmp_path}/lib/deep/library", "content": "one\n"},
            {"path": f"{tmp_path}/lib/script", "content": "two\n", "mode": "0755"},
        ],
    }


def laid(tmp_path: Path) -> dict[str, tuple[str, int]]:
    """Return text and mode of every file."""
    files = [path for path in sorted(tmp_path.rglob("*")) if path.is_file()]
    return {str(path.relative_to(tmp_path)): (path.read_text(), path.stat().st_mode & 0o777) for path in files}


def test_files_are_laid_as_asked_and_once(run_module, wanted, tmp_path):
    before = os.umask(0o077)
    try:
        first = run_module("node_files", **wanted)
    finally:
        os.umask(before)
    assert first.changed_paths == [f"{tmp_path}/lib/deep", f"{tmp_path}/lib/deep/library", f"{tmp_path}/lib/script"]
    assert laid(tmp_path) == {"lib/deep/library": ("one\n", 0o644), "lib/script": ("two\n", 0o755)}
    assert (tmp_path / "lib").stat().st_mode & 0o777 == 0o755
    second = run_module("node_files", **wanted)
    assert (second.raw["changed"], second.changed_paths) == (False, [])


def test_only_what_differs_is_changed_and_the_diff_shows_it(run_module, wanted, tmp_path):
    run_module("node_files", **wanted)
    (tmp_path / "lib/script").write_text("other\n")
    (tmp_path / "lib/deep/library").chmod(0o600)
    again = run_module("node_files", **wanted)
    assert again.changed_paths == [f"{tmp_path}/lib/deep/library", f"{tmp_path}/lib/script"]
    assert [(each["before"], each["after"]) for each in again.diff] == [("other\n", "two\n")]
    assert laid(tmp_path) == {"lib/deep/library": ("one\n", 0o644), "lib/script": ("two\n", 0o755)}


def test_check_mode_says_the_same_and_lays_nothing(run_module, wanted, tmp_path):
    said = run_module("node_files", _check=True, **wanted)
    assert said.raw["changed"] and len(said.changed_paths) == 3 and len(said.diff) == 2
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_may_stay_stays(run_module, wanted, tmp_path):
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/script").write_text("the site's\n")
    wanted["files"][1]["force"] = False
    run_module("node_files", **wanted)
    assert (tmp_path / "lib/script").read_text() == "the site's\n"
    assert (tmp_path / "lib/deep/library").read_text() == "one\n"


def test_a_running_script_keeps_its_text(run_module, wanted, tmp_path):
    run_module("node_files", **wanted)
    with (tmp_path / "lib/script").open() as running:
        wanted["files"][1]["content"] = "three\n"
        run_module("node_files", **wanted)
        assert running.read() == "two\n"
    assert (tmp_path / "lib/script").read_text() == "three\n"


def test_what_cannot_be_laid_is_named(run_module, wanted, tmp_path):
    (tmp_path / "lib").write_text("in the way")
    refused = run_module("node_files", **wanted)
    assert refused.failed
    assert f"{tmp_path}/lib" in refused.msg and "could not be laid" in refused.msg
