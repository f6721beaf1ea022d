"""Run ansible-test sanity on the collection, also where nothing but a package mirror can be reached.

Usage: ``.venv/bin/python tests/collection/run_sanity.py [further arguments of ansible-test sanity]``

ansible-test wants a checkout at ``…/ansible_collections/migra/cloudpods`` and makes a virtual environment for each
test. Into these it puts pip by a script that it downloads, unless its cache has it. Ours, made of the standard library's
ensurepip, is laid there first. As ansible-test strips the environment, that script also hands pip's settings (index,
certificate) to the environment it stands in.

The environments are below ``.cache/ansible-test``, which serves as HOME, so that nobody's own cache gets a doctored
script and a second run is quick. The tree is a temporary one: inside this repository git would call it ignored, and
ansible-test would find nothing in it.
"""

from __future__ import annotations

import inspect
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
COLLECTION = ROOT / "collections" / "ansible_collections" / "migra" / "cloudpods"
HOME = ROOT / ".cache" / "ansible-test"

# Beside the collection, not in it: it is about the node's own programs, which Ansible never loads.
IGNORED = Path(__file__).with_name("sanity_ignore.txt")

# test → why it is left out.
SKIPPED = {
    "pslint": "needs PowerShell; the collection has none",
}

GET_PIP = '''\
"""Put pip into a fresh virtual environment, and give it the settings of whoever started the tests."""
import os
import runpy
import sys

with open(os.path.join(sys.prefix, "pip.conf"), "w") as conf:
    conf.write({conf!r})
sys.argv = ["ensurepip", "--default-pip"]
runpy.run_module("ensurepip", run_name="__main__")
'''


def pip_settings() -> str:
    """Return the pip.conf that says what this process's pip would do, from its files and its environment."""
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True).stdout
    # Later lines win with pip too: files first, the environment last.
    settings = dict(re.findall(r"^(?:global|install|:env:)\.([a-z-]+)='(.*)'$", listed, re.MULTILINE))
    return "[global]\n" + "".join(f"{key} = {value}\n".replace("\\n", "\n  ") for key, value in settings.items())


def lay_bootstrap() -> None:
    """Put our bootstrap script where ansible-test looks before it downloads one."""
    from ansible_test._internal import python_requirements

    version = re.search(r"pip='([0-9.]+)'", inspect.getsource(python_requirements.get_venv_packages))
    if version is None:
        sys.exit("run_sanity: this ansible-test names its pip in another way; see get_venv_packages")
    cache = HOME / ".ansible" / "test" / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    script = cache / f"get_pip_{version[1].replace('.', '_')}.py"
    script.write_text(GET_PIP.format(conf=pip_settings()))
    script.chmod(0o600)


def copy_collection(copy: Path) -> None:
    """Make the tree that ansible-test wants, of what git knows or could know, so that no cache or build is tested."""
    listed = subprocess.run(
        ["git", "-C", COLLECTION, "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        capture_output=True,
        check=True,
    ).stdout
    for name in filter(None, os.fsdecode(listed).split("\0")):
        source = COLLECTION / name
        if source.exists():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy / name, follow_symlinks=False)


def lay_ignores(copy: Path) -> None:
    """Put what is ignored, and why, where the ansible-core that runs looks for it: each has a file name of its own."""
    from ansible.release import __version__

    sanity = copy / "tests" / "sanity"
    sanity.mkdir(parents=True)
    shutil.copy2(IGNORED, sanity / f"ignore-{'.'.join(__version__.split('.')[:2])}.txt")


def command() -> list[str]:
    """Return the command line of ansible-test."""
    skips = [word for name in SKIPPED for word in ("--skip-test", name)]
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    ansible_test = str(Path(sys.executable).with_name("ansible-test"))
    return [ansible_test, "sanity", "--venv", "--python", version, "--color", "no", *skips, *sys.argv[1:]]


def environment() -> dict[str, str]:
    """Return the environment of ansible-test. It looks for shellcheck on PATH; ours stands beside Python."""
    path = os.pathsep.join((str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)))
    return {**os.environ, "HOME": str(HOME), "PATH": path}


def main() -> int:
    """Run the tests and return ansible-test's exit code."""
    lay_bootstrap()
    for name, why in SKIPPED.items():
        print(f"run_sanity: {name} is left out: {why}", flush=True)
    with tempfile.TemporaryDirectory(prefix="sanity-") as scratch:
        copy = Path(scratch) / "ansible_collections" / "migra" / "cloudpods"
        copy_collection(copy)
        lay_ignores(copy)
        return subprocess.run(command(), check=False, cwd=copy, env=environment()).returncode


if __name__ == "__main__":
    sys.exit(main())
