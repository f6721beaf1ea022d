"""`cloudpods check` on nodes: one that is well, some that are not, in one run."""

import json
import shutil
import socket
import sys
from types import SimpleNamespace

import pytest
from click.testing import CliRunner

from shim import config
from shim.cli import main
from tests.lab_node import LabNode
from tests.node_scripts import Scripts


def lay(directory):
    """Lay a lab node with our scripts; return the variables by which the inventory leads there."""
    lab = LabNode(directory)
    lab.init()
    Scripts(SimpleNamespace(dir=directory)).install()
    return {
        "ansible_connection": "local",
        "ansible_python_interpreter": sys.executable,
        "cloudpod_script_dir": str(directory / "sbin"),
        "cloudpod_sudo": False,
    }


@pytest.fixture
def check(tenants, tmp_path, sql):
    """Return a way to check nodes that an inventory leads to in some way; it gives what is wrong, by what was tried."""

    def run(settings=None, /, **hosts):
        sql("UPDATE cloud_pod_nodes SET status = 'offline'")
        for name in hosts:
            sql("INSERT INTO cloud_pod_nodes (name) VALUES (%s) ON CONFLICT (name) DO UPDATE SET status = 'active'", name)
        named = {name: variables for name, variables in hosts.items() if variables is not None}
        inventory = tmp_path / "hosts.json"
        inventory.write_text(json.dumps({"cloudpod_nodes": {"hosts": named}}))
        environ = {
            "CLOUDPODS_DATABASE_URL": tenants.database_url,
            "CLOUDPODS_REDIS_URL": tenants.redis_url,
            "CLOUDPODS_STATE_DIR": str(tenants.state_dir),
            "CLOUDPODS_INVENTORY": str(inventory),
            **(settings or {}),
        }
        assert set(config.given(environ)) <= set(config.Settings.model_fields)
        result = CliRunner().invoke(main, ["check", "--json"], env=environ)
        assert result.exception is None or isinstance(result.exception, SystemExit), result.output
        tried = json.loads(result.output.splitlines()[0])
        faults = {each["check"]: each["hint"] for each in tried if not each["ok"]}
        assert result.exit_code == (1 if faults else 0)
        return [each["check"] for each in tried], faults

    return run


def closed_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def test_a_node_that_is_well(check, tmp_path):
    tried, faults = check(lab1=lay(tmp_path / "lab1"))
    assert faults == {}
    expected = {"answers", "has our scripts", "lets us call every script"}
    assert {name.removeprefix("node lab1 ") for name in tried if name.startswith("node ")} == expected
    assert not [name for name in tried if "lab2" in name], "a node that is offline was asked"


def test_each_fault_is_told_with_what_to_do_and_hides_no_other(check, tmp_path):
    bare, older = lay(tmp_path / "bare"), lay(tmp_path / "older")
    shutil.rmtree(tmp_path / "bare/sbin")
    library = tmp_path / "older/lib/cloudpods/library.bash"
    library.write_text(library.read_text().replace("SCRIPTS_VERSION=", "SCRIPTS_VERSION=0."))
    (tmp_path / "older/sbin/cloudpod-scale.sh").chmod(0o644)
    (tmp_path / "older/sbin/cloudpod-power.sh").unlink()
    away = {"ansible_host": "127.0.0.1", "ansible_port": closed_port(), "ansible_python_interpreter": sys.executable}
    _tried, faults = check(well=lay(tmp_path / "well"), bare=bare, older=older, away=away, nowhere=None)
    assert not [name for name in faults if "node well" in name]
    assert "CLOUDPODS" not in faults["node away answers"]
    assert "check that the node is up" in faults["node away answers"]
    assert "cloudpod_node" in faults["node bare answers"]
    assert "are of version 0.0.1.0, ours are 0.1.0" in faults["node older has our scripts"]
    assert "sudo" in faults["node older lets us call cloudpod-scale.sh"]
    assert "it is not there" in faults["node older lets us call cloudpod-power.sh"]
    assert "offline" in faults["node nowhere is in the inventory"]
    assert len(faults) == 6


def test_what_blueprints_need_on_this_host(check, tmp_path):
    (tmp_path / "roles").mkdir()
    (tmp_path / "key").write_text("a key")
    well = {"CLOUDPODS_ROLES_DIR": str(tmp_path / "roles"), "CLOUDPODS_POD_KEY_FILE": str(tmp_path / "key")}
    assert check(well)[1] == {}
    faults = check({name: f"{path}s" for name, path in well.items()})[1]
    assert set(faults) == {f"site's own roles in {tmp_path}/roless", f"key for pods {tmp_path}/keys"}


def test_an_inventory_that_cannot_be_read(check, tmp_path):
    _tried, faults = check(lab1={"ansible_connection": "local"})
    (tmp_path / "hosts.json").write_text("{odd")
    assert "node lab1 answers" in faults
