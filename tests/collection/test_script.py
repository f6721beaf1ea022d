"""Reading what scripts print, and starting them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from ansible_collections.migra.cloudpods.plugins.module_utils import _errors as errors
from ansible_collections.migra.cloudpods.plugins.module_utils import _script as script
from hypothesis import given
from hypothesis import strategies as st

OURS = "#!/bin/bash\n# migra.cloudpods: something\n"
COMMAND = ["sudo", "-n", "/usr/local/sbin/cloudpod-create.sh", "--vmid", "9101"]


def reply(rc: int = 0, stdout: str = "", stderr: str = "", command: list[str] | None = None):
    return script.Reply(command or COMMAND, rc, stdout, stderr)


# --- the summary -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "read"),
    [
        (
            "VMID     : 9101\nIP       : 10.1.10.91\nResult   : created\n",
            {"VMID": "9101", "IP": "10.1.10.91", "Result": "created"},
        ),
        ("IP: 10.1.10.91", {"IP": "10.1.10.91"}),
        ("  Status :  running  \r\n", {"Status": "running"}),
        (
            "Archive  : vzdump-backups:backup/vzdump-lxc-9101-2026_11_21-00_04_57.tar.zst",
            {"Archive": "vzdump-backups:backup/vzdump-lxc-9101-2026_11_21-00_04_57.tar.zst"},
        ),
        ("Pending  :\n", {"Pending": ""}),
        ("Result   : half\nResult   : whole", {"Result": "whole"}),
        ("http://example\nno key here\n12:30:00 time", {}),
        ("", {}),
    ],
)
def test_summary(text: str, read: dict) -> None:
    assert script.parse_summary(text) == read


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("IP       : 10.1.10.91\n", "10.1.10.91"),
        ("IP: 10.1.10.91", "10.1.10.91"),
        ("container created\nIP : 10.1.10.91 (auto)\nbye", "10.1.10.91"),
        ("IP : 10.1.10.1\nIP : 10.1.10.91", "10.1.10.91"),
        ("IP : 10.1.10.91\nIP : ...", "10.1.10.91"),
        ("IP : 999.1.1.1", None),
        ("IP : none", None),
        ("", None),
    ],
)
def test_address_of_the_master_spec(text: str, address: str | None) -> None:
    assert script.parse_ip(text) == address


KEYS = st.from_regex(r"[A-Z][A-Za-z]{0,8}", fullmatch=True)
VALUES = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1)


@given(st.dictionaries(KEYS, VALUES))
def test_a_summary_is_read_back_as_it_was_written(summary: dict[str, str]) -> None:
    text = "".join(f"{key:<9}: {value}\n" for key, value in summary.items())
    assert script.parse_summary("extracting archive '/x'\n" + text) == summary


@given(st.text())
def test_any_text_can_be_read(text: str) -> None:
    assert all(isinstance(value, str) for value in script.parse_summary(text).values())
    script.parse_ip(text)
    assert len(script.tail(text)) <= script.TAIL_CHARS + 1


# --- JSON --------------------------------------------------------------------------------------------------------


def test_json_of_the_contract_is_read() -> None:
    assert script.parse_json(reply(stdout='{"node": "lab1", "pods": [{"vmid": 9101}]}'))["pods"] == [{"vmid": 9101}]


@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"pods": null}', '{"pods": [1]}', '{"pods": {}}'])
def test_json_of_another_shape_is_an_error(text: str) -> None:
    with pytest.raises(errors.ScriptFailed, match="did not answer with the JSON object"):
        script.parse_json(reply(stdout=text))


@given(st.recursive(st.none() | st.integers() | st.text(), lambda child: st.lists(child) | st.dictionaries(st.text(), child)))
def test_any_json_is_read_or_refused(document: object) -> None:
    try:
        rows = script.parse_json(reply(stdout=json.dumps(document)))["pods"]
    except errors.ScriptFailed:
        return
    assert all(isinstance(row, dict) for row in rows)


# --- failures ----------------------------------------------------------------------------------------------------

LAST_LINES = "pct said something\nError    : CT is locked (backup)\nRetryable: yes\nLeft     : container 9101\n"


def test_the_last_lines_of_our_scripts_say_it_all() -> None:
    failure = script.failure_of(reply(1, stderr=LAST_LINES), ours=True)
    assert failure.msg == "cloudpod-create.sh: CT is locked (backup)"
    assert failure.retryable is True
    assert failure.left_behind == "container 9101"
    assert failure.details["rc"] == 1
    assert failure.details["cmd"] == " ".join(COMMAND)
    assert failure.details["stderr"].endswith("container 9101")


@pytest.mark.parametrize(
    ("rc", "retryable", "nothing_left"),
    [
        (1, False, False),
        (64, False, True),
        (66, False, True),
        (69, False, True),
        (73, False, True),
        (75, True, True),
        (77, False, True),
        (129, True, False),
        (130, True, False),
        (143, True, False),
        (137, True, False),
        (-9, True, False),
        (2, False, False),
        (255, False, False),
    ],
)
def test_exit_codes_of_our_scripts(rc: int, retryable: bool, nothing_left: bool) -> None:
    failure = script.failure_of(reply(rc), ours=True)
    assert failure.retryable is retryable
    assert (failure.left_behind == "nothing") is nothing_left
    assert failure.msg.startswith("cloudpod-create.sh: ")


TAKEN = "Taken    : {}\nError    : there\nRetryable: no\nLeft     : nothing\n"


@pytest.mark.parametrize("word", ["vmid", "ip"])
def test_what_somebody_else_has_is_told_by_a_word(word: str) -> None:
    assert script.failure_of(reply(73, stderr=TAKEN.format(word)), ours=True).details["taken"] == word


@pytest.mark.parametrize(("rc", "word", "ours"), [(1, "vmid", True), (73, "disk", True), (73, "", True), (73, "vmid", False)])
def test_a_word_of_anybody_elses_means_nothing(rc: int, word: str, ours: bool) -> None:
    assert "taken" not in script.failure_of(reply(rc, stderr=TAKEN.format(word)), ours=ours).details


@pytest.mark.parametrize("rc", [1, 64, 75, 143, -9])
def test_exit_codes_of_a_sites_own_scripts_mean_nothing(rc: int) -> None:
    failure = script.failure_of(reply(rc, stderr="it broke\n\n"), ours=False)
    assert failure.msg == "cloudpod-create.sh: it broke"
    assert failure.retryable is False
    assert failure.left_behind == script.UNKNOWN_LEFT


def test_what_sudo_says_is_told_with_what_to_do() -> None:
    failure = script.failure_of(reply(1, stderr="sudo: a password is required\n"), ours=True)
    assert "a password is required" in failure.msg
    assert "cloudpod_node" in failure.msg
    assert failure.left_behind == "nothing"


# --- starting ----------------------------------------------------------------------------------------------------


class RunCommand:
    """Stands for AnsibleModule.run_command: remembers its calls and answers with one reply."""

    def __init__(self, rc: int = 0, stdout: str = "", stderr: str = "") -> None:
        self.answer = (rc, stdout, stderr)
        self.calls: list[tuple[list[str], dict]] = []

    def __call__(self, command: list[str], **options: object) -> tuple[int, str, str]:
        self.calls.append((command, options))
        return self.answer


def put(folder: Path, name: str, text: str, mode: int = 0o755) -> Path:
    path = folder / name
    path.write_text(text)
    path.chmod(mode)
    return path


def test_a_script_is_started_as_an_argument_vector_through_sudo(tmp_path: Path) -> None:
    put(tmp_path, "cloudpod-scale.sh", OURS)
    run_command = RunCommand(stdout="Result   : scaled\n")
    answer = script.Scripts(run_command, str(tmp_path), True, 60).run("cloudpod-scale.sh", ["9101", "--cores", "2"])
    ((command, options),) = run_command.calls
    assert command == ["sudo", "-n", f"{tmp_path}/cloudpod-scale.sh", "9101", "--cores", "2"]
    assert options["expand_user_and_vars"] is False
    assert answer.stdout == "Result   : scaled\n"


def test_without_sudo_the_script_itself_is_started(tmp_path: Path) -> None:
    scripts = script.Scripts(RunCommand(), str(tmp_path), False, 60)
    assert scripts.command("cloudpod-info.sh", ["--all"]) == [f"{tmp_path}/cloudpod-info.sh", "--all"]


def test_a_script_is_ours_by_its_marker_alone(tmp_path: Path) -> None:
    put(tmp_path, "cloudpod-info.sh", "#!/bin/bash\n#\n#\n#\n# migra.cloudpods: the fifth line\n")
    put(tmp_path, "cloudpod-create.sh", "#!/bin/bash\n#\n#\n#\n#\n# migra.cloudpods: the sixth line\n")
    scripts = script.Scripts(RunCommand(), str(tmp_path), False, 60)
    assert scripts.is_ours("cloudpod-info.sh")
    assert scripts.can_look()
    assert not scripts.is_ours("cloudpod-create.sh")


def test_a_sites_own_info_script_is_not_looked_with(tmp_path: Path) -> None:
    put(tmp_path, "cloudpod-info.sh", "#!/bin/bash\n# Acme\n")
    assert not script.Scripts(RunCommand(), str(tmp_path), False, 60).can_look()


def test_a_script_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(errors.ScriptFailed, match=r"cloudpod-scale\.sh is not on this node.*cloudpod_node") as failed:
        script.Scripts(RunCommand(), str(tmp_path), True, 60).run("cloudpod-scale.sh", [])
    assert failed.value.left_behind == "nothing"


def test_a_script_that_cannot_be_read_is_not_guessed_about(tmp_path: Path) -> None:
    (tmp_path / "cloudpod-scale.sh").mkdir()  # cannot be read by root either
    with pytest.raises(errors.ScriptFailed, match="cannot be read to see whose it is"):
        script.Scripts(RunCommand(), str(tmp_path), True, 60).run("cloudpod-scale.sh", [])


def start(command: list[str], before_communicate_callback, **options: object) -> tuple[int, str, str]:
    """Start a process as run_command does, without Ansible."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    before_communicate_callback(process)
    stdout, stderr = process.communicate()
    return process.returncode, stdout.decode(), stderr.decode()


def test_a_script_that_takes_too_long_is_told_to_end_and_may_clean_up(tmp_path: Path) -> None:
    body = "trap 'kill %1; echo \"Left     : an address\" >&2; exit 143' TERM\nsleep 60 &\nwait\n"
    put(tmp_path, "cloudpod-create.sh", OURS + body)
    with pytest.raises(errors.ScriptFailed, match="did not end within 5 s") as failed:
        script.Scripts(start, str(tmp_path), False, 5).run("cloudpod-create.sh", [])
    assert failed.value.retryable is True
    assert failed.value.left_behind == "an address"


def test_a_script_that_cannot_be_signalled_is_said_to_run_on(tmp_path: Path) -> None:
    class Roots:
        """A process of root's: sudo's cannot be signalled by who called it."""

        def terminate(self) -> None:
            raise PermissionError

    def hang(command: list[str], before_communicate_callback, **options: object) -> None:
        before_communicate_callback(Roots())
        subprocess.run(["sleep", "60"], check=True)

    put(tmp_path, "cloudpod-create.sh", OURS)
    with pytest.raises(errors.ScriptFailed) as failed:
        script.Scripts(hang, str(tmp_path), True, 1).run("cloudpod-create.sh", [])
    assert failed.value.retryable is True
    assert failed.value.left_behind == script.STILL_RUNNING


def test_a_script_that_cannot_be_started_is_an_error(tmp_path: Path) -> None:
    put(tmp_path, "cloudpod-create.sh", OURS, mode=0o644)
    with pytest.raises(errors.ScriptFailed, match="cannot be started: Permission denied"):
        script.Scripts(start, str(tmp_path), False, 60).run("cloudpod-create.sh", [])
