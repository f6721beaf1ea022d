"""What `cloudpods check` tries: this host's parts one after the other, then all nodes in one run."""

import multiprocessing
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import peewee

from shim import db, migrations
from shim.config import Settings
from shim.errors import CloudPodsError, Unavailable
from shim.jobs import looks
from shim.jobs.queue import Wakeups
from shim.worker import playbook

OLDEST_POSTGRES = 14
# For all nodes together: ssh gives each ten seconds to answer, and they are asked side by side.
NODES_S = 120.0


@dataclass(frozen=True)
class Tried:
    """One thing that was tried, and what to do if it is not well."""

    name: str
    fine: bool
    hint: str = ""

    def as_json(self) -> dict[str, Any]:
        """Return it as `--json` prints it."""
        return {"check": self.name, "ok": self.fine, "hint": "" if self.fine else self.hint}


def run(settings: Settings) -> Iterator[Tried]:
    """Yield what came of each thing that the settings name, and of each node that may be asked."""
    yield from _database(settings)
    yield Tried("Redis answers", Wakeups(settings.redis_url).answers(), "start it, or correct CLOUDPODS_REDIS_URL")
    yield from _files(settings)
    nodes = _nodes()
    if nodes and _can_ask(settings):
        yield from _nodes_one_by_one(settings, nodes)


def _database(settings: Settings) -> Iterator[Tried]:
    db.connect(settings.database_url, pool_size=1)
    try:
        with db.session():
            major = int(db.rows("SHOW server_version_num")[0][0]) // 10000
            missing = migrations.pending()
    except Unavailable as error:
        yield Tried("database answers", False, f"{db.first_line(error.__cause__ or error)}; see CLOUDPODS_DATABASE_URL")
        return
    yield Tried("database answers", True)
    yield Tried(f"PostgreSQL {major}", major >= OLDEST_POSTGRES, f"use PostgreSQL {OLDEST_POSTGRES} or later")
    yield Tried("schema is up to date", not missing, "run `cloudpods migrate`")


def _files(settings: Settings) -> Iterator[Tried]:
    yield Tried(f"inventory {settings.inventory}", settings.inventory.exists(), "correct CLOUDPODS_INVENTORY")
    there = (settings.project_dir / "playbooks/cloudpod_create.yml").exists()
    yield Tried(f"playbooks in {settings.project_dir}", there, "set CLOUDPODS_PROJECT_DIR to a checkout of CloudPods")
    if settings.roles_dir is not None:
        yield Tried(f"site's own roles in {settings.roles_dir}", settings.roles_dir.is_dir(), "correct CLOUDPODS_ROLES_DIR")
    if settings.pod_key_file is not None:
        readable = os.access(settings.pod_key_file, os.R_OK)
        yield Tried(f"key for pods {settings.pod_key_file}", readable, "correct CLOUDPODS_POD_KEY_FILE, or let us read it")
    yield Tried("ansible-playbook", shutil.which("ansible-playbook", path=_path()) is not None, "pip install ansible-core")


def _path() -> str:
    # ansible-playbook stands beside the interpreter that runs us.
    return os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])


def _nodes() -> tuple[str, ...]:
    try:
        with db.session():
            return looks.may_be_asked()
    except (Unavailable, peewee.ProgrammingError):
        # Told already: no database, or no schema in it.
        return ()


def _can_ask(settings: Settings) -> bool:
    return settings.inventory.exists() and (settings.project_dir / "playbooks/node_info.yml").exists()


def _nodes_one_by_one(settings: Settings, nodes: tuple[str, ...]) -> Iterator[Tried]:
    os.environ["PATH"] = _path()
    try:
        named = playbook.hosts(settings.inventory, settings.project_dir)
    except CloudPodsError as error:
        yield Tried("inventory can be read", False, error.message)
        return
    yield Tried("inventory can be read", True)
    for name in sorted(set(nodes) - named):
        hint = f"name it in {settings.inventory}, or take it out of use: PUT /internal/nodes/{name} with status offline"
        yield Tried(f"node {name} is in the inventory", False, hint)
    known = [name for name in nodes if name in named]
    if known:
        yield from _asked(settings, known)


def _asked(settings: Settings, nodes: list[str]) -> Iterator[Tried]:
    directory = Path(tempfile.mkdtemp(prefix="check-"))
    try:
        asked = playbook.Run(
            playbook="node_info.yml",
            inventory=settings.inventory.absolute(),
            limit=",".join(nodes),
            variables={},
            timeout_s=NODES_S,
            directory=directory,
            project_dir=settings.project_dir,
            # A connection of its own, which shows whether one can be made now.
            control_dir=directory,
        )
        with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
            found = pool.submit(playbook.survey, asked).result()
    finally:
        playbook.remove(directory)
    for name in nodes:
        yield from _node(name, found)


def _node(name: str, found: playbook.Survey) -> Iterator[Tried]:
    said = found.results.get(name)
    if said is None:
        why = found.failures.get(name) or found.trouble or {"msg": "it did not answer"}
        yield Tried(f"node {name} answers", False, why["msg"])
        return
    yield Tried(f"node {name} answers", True)
    ours = version("migra-cloudpods")
    hint = f"they are of version {said['version'] or 'unknown'}, ours are {ours}; {_install(name)}"
    yield Tried(f"node {name} has our scripts", said["version"] == ours, hint)
    for script in said["scripts"]:
        if not script["callable"]:
            yield Tried(f"node {name} lets us call {script['name']}", False, _why_not(name, script))
    if all(script["callable"] for script in said["scripts"]):
        yield Tried(f"node {name} lets us call every script", True)


def _why_not(name: str, script: dict[str, Any]) -> str:
    why = "sudo has no rule for it" if script["present"] else "it is not there"
    return f"{why}; {_install(name)}"


def _install(name: str) -> str:
    return f"run `ansible-playbook playbooks/node.yml --limit {name}`"
