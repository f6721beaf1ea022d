"""The house's own rules that no linter knows."""

import ast
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).resolve().parent.parent.parent
SHIM = CHECKOUT / "shim"
MODULES = sorted(SHIM.rglob("*.py"))
BANNED = {"utils", "util", "helpers", "helper", "common", "base", "manager", "managers", "misc"}


def name(path):
    return str(path.relative_to(CHECKOUT))


def test_no_file_or_folder_has_a_name_that_says_nothing():
    entries = [path for path in SHIM.rglob("*") if "__pycache__" not in path.parts]
    assert [name(path) for path in entries if path.stem in BANNED] == []


@pytest.mark.parametrize("module", MODULES, ids=name)
def test_every_module_says_what_it_is(module):
    assert ast.get_docstring(ast.parse(module.read_text()))


@pytest.mark.parametrize("module", MODULES, ids=name)
def test_what_a_module_offers_says_what_it_does(module):
    tree = ast.parse(module.read_text())
    kinds = (ast.FunctionDef, ast.ClassDef)
    public = [node for node in tree.body if isinstance(node, kinds) and not node.name.startswith("_")]
    assert [node.name for node in public if not ast.get_docstring(node)] == []


@pytest.mark.parametrize("module", MODULES, ids=name)
def test_no_module_of_the_control_plane_imports_the_collection(module):
    found = [node for node in ast.walk(ast.parse(module.read_text())) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.name for node in found for alias in node.names} | {getattr(node, "module", None) or "" for node in found}
    assert not {word for word in names if word.startswith(("ansible_collections", "ansible."))}


def test_the_collection_does_not_import_the_control_plane():
    plugins = (CHECKOUT / "collections/ansible_collections/migra/cloudpods/plugins").rglob("*.py")
    assert [name(path) for path in plugins if "import shim" in path.read_text() or "from shim" in path.read_text()] == []
