"""What is installed from a wheel: an editable checkout hides what the package forgot."""

import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]


def test_every_file_of_the_package_that_is_not_python_is_declared():
    declared = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]["shim"]
    shim = REPOSITORY / "shim"
    wanted = {path for path in shim.rglob("*") if path.is_file() and path.suffix != ".py" and "__pycache__" not in path.parts}
    assert wanted == {path for pattern in declared for path in shim.glob(pattern)}
    assert wanted
