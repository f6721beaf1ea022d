"""What is sent to a node with its bytecode is what is sent without, to every Python."""

from __future__ import annotations

import importlib.util
import io
import shutil
import subprocess
import sys
import traceback
import zipfile
import zipimport
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from shim.warm import bytecode
from tests.stack import REPOSITORY, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.shim.warm.conftest import Ended, Ways

FILES = {"one/__init__.py": "", "one/two.py": 'WHERE = "here"\n\n\ndef fail():\n    raise ValueError(WHERE)\n', "one/data": "x"}
CREATE = """[{hosts: here, gather_facts: false, tasks: [
    {migra.cloudpods.cloudpod_create: {vmid: 9101, hostname: h, tenant_id: t, cores: 1, memory_mb: 512, ip: 10.1.1.9,
     gateway: 10.1.1.1, sudo: false, script_dir: "{{ playbook_dir }}/at_once"}, register: made},
    {debug: {var: made}}]}]"""
NAMES = """
import base64, io, sys, zipfile
from ansible.executor.module_common import _CachedModule
packed = base64.b64decode(_CachedModule.load(sys.argv[1]).zip_data)
print(*zipfile.ZipFile(io.BytesIO(packed)).namelist())
"""
PACKED = "modules/ansible_collections.migra.cloudpods.plugins.modules.cloudpod_create-ZIP_DEFLATED-none"


def zipped(files: dict[str, str]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return made.getvalue()


def names_in(packed: Path) -> list[str]:
    """Return the names of a packed module's files. Asked elsewhere: Ansible, once loaded, changes a process."""
    asked = subprocess.run([sys.executable, "-c", NAMES, str(packed)], capture_output=True, text=True, timeout=60, check=True)
    return asked.stdout.split()


@pytest.mark.parametrize("python", ["the same", "another"])
def test_every_python_finds_the_same(tmp_path: Path, python: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if python == "another":
        # Whoever made it had another version.
        monkeypatch.setattr("importlib._bootstrap_external.MAGIC_NUMBER", b"\x01\x02\r\n")
    both = bytecode.beside_sources(zipped(FILES), "/tmp/sent.zip", tmp_path)
    monkeypatch.undo()
    path = tmp_path / "sent.zip"
    path.write_bytes(both)
    with zipfile.ZipFile(path) as archive:
        assert sorted(archive.namelist()) == sorted([*FILES, "one/__init__.pyc", "one/two.pyc"])
        assert {name: archive.read(name).decode() for name in FILES} == FILES
        assert archive.read("one/two.pyc").startswith(importlib.util.MAGIC_NUMBER) == (python == "the same")
    archive_path = "/tmp/sent.zip" if python == "the same" else str(path)
    assert zipimport.zipimporter(str(path)).get_code("one/two").co_filename == f"{archive_path}/one/two.py"
    monkeypatch.syspath_prepend(str(path))
    two = importlib.import_module("one.two")
    try:
        assert two.WHERE == "here"
        with pytest.raises(ValueError, match="here") as raised:
            two.fail()
        told = "".join(traceback.format_exception(raised.value))
        assert "raise ValueError(WHERE)" in told
        assert f"{archive_path}/one/two.py" in told
    finally:
        del sys.modules["one.two"], sys.modules["one"]


def test_a_module_without_bytecode_is_packed_all_the_same(changed_ways: Callable[..., Ways]) -> None:
    changes = """
    def fail(*_):
        raise OSError("no bytecode today")
    preload.bytecode.beside_sources = fail
    """
    ways = changed_ways(changes)
    shutil.copytree(REPOSITORY / "tests/benchmarks/at_once", ways.project.folder / "at_once")
    ways.project.write("create.yml", CREATE)
    packed = ways.keeper.bin.parent / PACKED
    assert ways.run("warm", "-i", "hosts", "create.yml").rc == 0
    wait_until(packed.exists, "the module is packed")
    assert not [name for name in names_in(packed) if name.endswith(".pyc")]


def test_a_file_that_does_not_compile_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="invalid syntax"):
        bytecode.beside_sources(zipped({"one.py": "def def"}), "/tmp/sent.zip", tmp_path)


def test_a_module_of_ours_says_the_same_with_and_without(own_ways: Ways) -> None:
    shutil.copytree(REPOSITORY / "tests/benchmarks/at_once", own_ways.project.folder / "at_once")
    own_ways.project.write("create.yml", CREATE)
    packed = own_ways.keeper.bin.parent / PACKED

    def created(way: str) -> Ended:
        for noted in (own_ways.project.folder / "at_once").glob("*.json"):
            noted.unlink()
        return own_ways.run(way, "-i", "hosts", "create.yml")

    first = created("warm")
    wait_until(packed.exists, "the module is packed")
    assert "ansible_collections/migra/cloudpods/plugins/modules/cloudpod_create.pyc" in names_in(packed)
    assert created("warm") == created("plain") == first
    assert first.rc == 0, first
    shutil.rmtree(own_ways.project.folder / "at_once")
    failed = created("warm")
    assert failed == created("plain")
    assert failed.rc == 2, failed
    assert own_ways.plainly() == {}
