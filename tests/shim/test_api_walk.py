"""docs/api.md stays true: its commands, run in their order against a stack, give answers of the shape that it shows."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any

from tests.stack import REPOSITORY, Stack

BLOCKS = re.findall(r"^```(json)?\n(.*?)^```$", (REPOSITORY / "docs/api.md").read_text(), re.S | re.M)


def _shape(value: Any) -> Any:
    """Return an answer's fields; what a job's payload and result or an event's data hold, its own tests know."""
    if isinstance(value, dict):
        return {
            name: None if name in ("payload", "result", "data", "items", "job") else _shape(inner)
            for name, inner in value.items()
        }
    return type(value).__name__ if isinstance(value, list) else None


def _ids(shown: Any, given: Any) -> dict[str, str]:
    """Return which id of this run stands for each id that the page shows."""
    if isinstance(shown, dict) and isinstance(given, dict):
        found = {shown["id"]: given["id"]} if "id" in shown and "id" in given else {}
        return {
            **found,
            **{old: new for name in shown.keys() & given.keys() for old, new in _ids(shown[name], given[name]).items()},
        }
    return {}


def test_the_commands_of_the_page_give_the_answers_that_it_shows(tmp_path_factory):
    home = Path(tmp_path_factory.mktemp("walk"))
    stack = Stack(home)
    stack.lay_lab()
    stack.start()
    try:
        stack.seed()
        _, (_, words), *walk = BLOCKS
        token = stack.session.headers["Authorization"].split()[1]
        environment = {**os.environ, "API": stack.url, "TOKEN": token}
        names: dict[str, str] = {}
        for (_, command), (kind, text) in zip(walk[::2], walk[1::2], strict=True):
            assert kind == "json"
            script = words + command
            for old, new in names.items():
                script = script.replace(old, new)
            run = {"env": environment, "capture_output": True, "text": True, "timeout": 60}
            done = subprocess.run(["bash", "-c", script], check=False, **run)
            shown, given = json.loads(text), json.loads(done.stdout)
            assert (given.get("status"), given.get("code")) == (shown.get("status"), shown.get("code")), (
                f"{command}{done.stdout}"
            )
            assert _shape(given) == _shape(shown), command
            names |= _ids(shown, given)
            if "job" in given:
                assert stack.finished(given["job"]["id"])["status"] == "success"
    finally:
        stack.stop()
