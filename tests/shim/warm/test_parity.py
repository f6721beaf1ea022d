"""A run that was forked from a warm process is the plain command's run, to whoever looks at it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import ansible_runner
import pytest

from tests.shim.warm.conftest import gone, kill_all
from tests.stack import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.shim.warm.conftest import Project, Ways

BOTH = ("plain", "warm")

PLAYS = {
    "ok": "[{hosts: '{{ who | default(\"here\") }}', gather_facts: false,"
    " tasks: [{ping: {}, name: one}, {debug: {msg: two}}]}]",
    "facts": "[{hosts: here, tasks: [{debug: {var: ansible_facts.system}}]}]",
    "failed": "[{hosts: here, gather_facts: false, tasks: [{fail: {msg: no},"
    " when: inventory_hostname == 'here'}, {ping: {}}]}]",
    "unreachable": "[{hosts: away, gather_facts: false, tasks: [{ping: {}}]}]",
    "skipped": "[{hosts: here, gather_facts: false, tasks: [{ping: {}, when: false}]}]",
    "rescued": "[{hosts: here, gather_facts: false, tasks: [{block: [{fail: {msg: no}}], rescue: [{debug: {msg: saved}}],"
    " always: [{debug: {msg: always}}]}, {fail: {msg: never mind}, ignore_errors: true}]}]",
    "become": "[{hosts: here, gather_facts: false, become: true, become_exe: ./as_root, tasks: [{command: id -u}]}]",
    "tags": "[{hosts: here, gather_facts: false, tasks: [{debug: {msg: a}, tags: a}, {debug: {msg: b}, tags: b}]}]",
    "change": "[{hosts: here, gather_facts: false, tasks: [{copy: {content: 'new\n', dest: '{{ playbook_dir }}/made'}}]}]",
    "syntax": "[{hosts: here, tasks: [{ping: {}, debug: {}}]}]",
    "no yaml": "[{hosts: here",
    "role": "[{hosts: here, gather_facts: false, roles: [nowhere]}]",
    "undefined": "[{hosts: here, gather_facts: false, tasks: [{debug: {msg: '{{ nobody.knows }}'}}]}]",
    "handlers": "[{hosts: here, gather_facts: false, tasks: [{command: 'true', notify: told}],"
    " handlers: [{name: told, debug: {msg: done}}]}]",
    "stats": "[{hosts: here, gather_facts: false, tasks: [{set_stats: {data: {result: {a: 1}}, per_host: false}}]}]",
    "secret": "[{hosts: here, gather_facts: false, vars_files: [vault.yml], tasks: [{debug: {var: hidden}}]}]",
    "hidden": "[{hosts: here, gather_facts: false, tasks: [{command: echo pssst, no_log: true}]}]",
    "ours": "[{hosts: here, gather_facts: false, tasks: [{migra.cloudpods.cloudpod_info:"
    " {script_dir: /nowhere, sudo: false}}]}]",
    "overriding": '[{hosts: here, gather_facts: false, tasks: [{debug: {msg: \'{{ lookup("env", "HOME") }}\'}}]}]',
    "asked": "[{hosts: here, gather_facts: false, vars_prompt: [{name: word, prompt: say, private: false}],"
    " tasks: [{debug: {var: word}}]}]",
    "around": """
- hosts: here
  gather_facts: false
  tasks:
    - debug: {msg: "{{ lookup('pipe', item) }}"}
      loop:
        - env | grep -v '^_=\\|^LINES=\\|^COLUMNS=' | sort
        - pwd; umask; ulimit -a
        - id
        - grep -E '^Sig(Ign|Blk)' /proc/self/status
        - ls -l /proc/self/fd | grep -c socket || true
    - debug: {msg: "{{ ansible_playbook_python }} {{ ansible_config_file }} {{ ansible_version.full }}"}
    - debug: {msg: "{{ lookup('config', 'DEFAULT_FORKS', 'COLLECTIONS_PATHS') }}"}
    - debug: {msg: "{{ lookup('pipe', 'ls ' ~ ansible_config_file | dirname ~ '; ls -d $HOME/.ansible/tmp/*local*') }}"}
""",
}

CASES: list[tuple[str, tuple[str, ...], int]] = [
    ("ok", (), 0),
    ("ok", ("-v",), 0),
    ("ok", ("--list-tasks", "--list-hosts"), 0),
    ("ok", ("--syntax-check",), 0),
    ("ok", ("--limit", "other", "-e", "who=all"), 0),
    ("ok", ("--limit", "nobody"), 1),
    ("ok", ("--start-at-task", "one"), 0),
    ("ok", ("--forks", "1", "-e", "a=b"), 0),
    ("ok", ("--no-such-option",), 2),
    ("facts", (), 0),
    ("failed", (), 2),
    ("unreachable", (), 4),
    ("skipped", (), 0),
    ("rescued", (), 0),
    ("become", (), 0),
    ("tags", ("--tags", "b"), 0),
    ("tags", ("--skip-tags", "b"), 0),
    ("change", ("--check", "--diff"), 0),
    ("syntax", (), 4),
    ("no yaml", (), 4),
    ("role", (), 1),
    ("undefined", (), 2),
    ("handlers", (), 0),
    ("stats", (), 0),
    ("secret", ("--vault-password-file", "password"), 0),
    ("secret", ("--vault-password-file", "wrong"), 1),
    ("secret", (), 1),
    ("hidden", ("-v",), 0),
    ("ours", (), 2),
    ("around", (), 0),
    ("asked", ("-e", "word=given"), 0),
]

VAULTED = ["ansible-vault", "encrypt", "vault.yml", "--vault-password-file", "password"]


@pytest.fixture(scope="module", autouse=True)
def written(project: Project) -> None:
    """Write what the plays need."""
    for name, text in PLAYS.items():
        project.write(f"{name}.yml", text)
    project.write("password", "one\n")
    project.write("wrong", "two\n")
    project.write("vault.yml", "hidden: found\n")
    program = Path(project.write("as_root", '#!/bin/sh\nwhile [ "$1" != /bin/sh ]; do shift; done\nexec "$@"\n'))
    (project.folder / program).chmod(0o755)
    subprocess.run(VAULTED, cwd=project.folder, env=project.environment, check=True, capture_output=True)


@pytest.mark.parametrize(("play", "words", "rc"), CASES, ids=[" ".join([play, *words]) for play, words, _ in CASES])
def test_it_prints_and_ends_the_same(ways: Callable[..., Ways], play: str, words: tuple[str, ...], rc: int) -> None:
    under = ways()
    plain, warm = (under.run(way, "-i", "hosts", f"{play}.yml", *words) for way in BOTH)
    assert warm == plain
    assert warm.rc == rc, warm
    assert under.plainly() == {}


@pytest.mark.parametrize("play", ["ok", "failed", "around", "change"])
def test_it_does_on_a_terminal(ways: Callable[..., Ways], play: str) -> None:
    """With colours and the terminal's width; and the terminal is its own, as the plain command's is."""
    under = ways()
    plain, warm = (under.on_terminal(way, "-i", "hosts", f"{play}.yml", "--check") for way in BOTH)
    assert warm == plain
    assert "\x1b[" in warm.out
    assert under.plainly() == {}


def test_it_asks_on_its_terminal(ways: Callable[..., Ways]) -> None:
    under = ways()
    plain, warm = (under.on_terminal(way, "-i", "hosts", "asked.yml", typed="friend") for way in BOTH)
    assert warm == plain
    assert "friend" in warm.out
    assert under.plainly() == {}


SETTINGS = [
    {"ANSIBLE_STDOUT_CALLBACK": "minimal"},
    {"ANSIBLE_STDOUT_CALLBACK": "oneline", "ANSIBLE_FORCE_COLOR": "1"},
    {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_DISPLAY_SKIPPED_HOSTS": "0", "ANSIBLE_STRATEGY": "free"},
    {"ANSIBLE_CONFIG": "other.cfg"},
    {"ANSIBLE_LOG_PATH": "log"},
    {"ANSIBLE_GATHERING": "explicit", "ANSIBLE_CACHE_PLUGIN": "jsonfile", "ANSIBLE_CACHE_PLUGIN_CONNECTION": "facts"},
    {"LANG": "en_US.ISO-8859-1", "LC_ALL": "C"},
]


@pytest.mark.parametrize("settings", SETTINGS, ids=[" ".join(each) for each in SETTINGS])
def test_it_does_under_other_settings(ways: Callable[..., Ways], project: Project, settings: dict[str, str]) -> None:
    """A setting that names a file means one in the project's folder."""
    project.write("other.cfg", "[defaults]\ncallback_result_format = yaml\nforks = 3\nnocows = 1\n")
    files = ("ANSIBLE_CONFIG", "ANSIBLE_LOG_PATH", "ANSIBLE_CACHE_PLUGIN_CONNECTION")
    under = ways(**{name: str(project.folder / value) if name in files else value for name, value in settings.items()})
    found = []
    for way in BOTH:
        ended = [under.run(way, "-i", "hosts", f"{play}.yml") for play in ("ok", "failed", "skipped")]
        log = project.folder / "log"
        found.append((ended, len(log.read_text().splitlines()) if log.exists() else 0))
        log.unlink(missing_ok=True)
    assert found[0] == found[1]
    assert under.plainly() == {} or settings.get("LC_ALL") == "C"


def test_plugins_beside_the_playbook_are_found(ways: Callable[..., Ways], project: Project) -> None:
    """Also one that has the name of one of Ansible's own, which is loaded already."""
    project.write(
        "beside/lookup_plugins/env.py",
        "from ansible.plugins.lookup import LookupBase\n"
        "class LookupModule(LookupBase):\n    def run(self, terms, variables=None, **kw):\n        return ['beside']\n",
    )
    project.write("beside/library/ping.py", '#!/usr/bin/python\nprint(\'{"changed": true, "beside": 1}\')\n')
    play = '[{hosts: here, gather_facts: false, tasks: [{debug: {msg: \'{{ lookup("env", "HOME") }}\'}}, {ping: {}}]}]'
    project.write("beside/play.yml", play)
    under = ways()
    plain, warm = (under.run(way, "-i", "hosts", "beside/play.yml", "-v") for way in BOTH)
    assert warm == plain
    assert "beside" in warm.out
    assert under.plainly() == {}
    again = under.run("warm", "-i", "hosts", "ok.yml", "-v")
    assert "beside" not in again.out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL, signal.SIGQUIT, signal.SIGUSR1])
def test_a_signal_ends_it_the_same(ways: Callable[..., Ways], project: Project, number: signal.Signals) -> None:
    """And nothing is left of it, where a killed plain one leaves its workers."""
    project.write("slow.yml", "[{hosts: here, gather_facts: false, tasks: [{command: sh -c 'echo > begun; exec sleep 300'}]}]")
    under, ended = ways(), []
    for way in BOTH:
        mark = f"{way}-{int(number)}.1"
        process = under.started(way, "-i", "hosts", "slow.yml", mark=mark)
        begun = project.folder / "begun"
        wait_until(begun.exists, "the task has begun")
        begun.unlink()
        process.send_signal(number)
        ended.append(process.wait(60))
        if way == "warm":
            gone(mark)
        else:
            kill_all(mark)
        process.communicate(timeout=30)
    assert ended[1] == ended[0]
    assert under.plainly() == {}


def _events(ways: Ways, way: str, folder: Path, play: str) -> tuple[str, int | None, list[Any]]:
    path = f"{ways.program(way).parent}{os.pathsep}{ways.environment['PATH']}"
    folder.mkdir()
    # What ansible-runner sets itself means something else where it is given.
    given = {name: value for name, value in ways.environment.items() if name not in RUNNERS}
    runner = ansible_runner.run(
        private_data_dir=str(folder),
        project_dir=str(ways.project.folder),
        playbook=f"{play}.yml",
        inventory=str(ways.project.folder / "hosts"),
        envvars={**given, "PATH": path},
        settings={"suppress_ansible_output": True},
        quiet=True,
    )
    return runner.status, runner.rc, list(runner.events)


def _without_its_own(event: dict[str, Any]) -> dict[str, Any]:
    data = {name: value for name, value in event.get("event_data", {}).items() if "uuid" not in name and name not in OWN}
    return {"event": event["event"], "stdout": event["stdout"], "counter": event["counter"], "data": json.loads(_json(data))}


RUNNERS = ("ANSIBLE_CALLBACK_PLUGINS", "ANSIBLE_STDOUT_CALLBACK")
OWN = ("start", "end", "duration", "created", "pid")


def _json(data: dict[str, Any]) -> str:
    from tests.shim.warm.conftest import shown

    return shown(json.dumps(data, default=str, sort_keys=True))


@pytest.mark.parametrize("play", ["ok", "failed", "rescued", "stats", "unreachable"])
def test_its_events_are_the_same(ways: Callable[..., Ways], tmp_path: Path, play: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What ansible-runner collects; and no two runs give their events one name."""
    from shim.worker import playbook

    for name in set(os.environ) - {"PATH"}:
        monkeypatch.delenv(name)
    given = playbook.environment(ways().project.folder / "hosts", ways().project.folder, tmp_path)
    settings = {name: value for name, value in given.items() if name.startswith("ANSIBLE_")}
    for name in ("ANSIBLE_CACHE_PLUGIN_CONNECTION", "ANSIBLE_SSH_CONTROL_PATH_DIR", "ANSIBLE_NOCOLOR", "ANSIBLE_FORCE_COLOR"):
        settings.pop(name)
    settings["ANSIBLE_HOST_KEY_CHECKING"] = "False"
    under = ways(**settings)
    runs = [_events(under, way, tmp_path / f"{number}", play) for number, way in enumerate(("plain", "warm", "warm"))]
    said = [(status, rc, [_without_its_own(event) for event in events]) for status, rc, events in runs]
    assert said[1] == said[0]
    assert said[2] == said[0]
    names = Counter(event["uuid"] for _, _, events in runs for event in events)
    assert len(said[0][2]) > 3
    assert set(names.values()) == {1}
    assert under.plainly() == {}
