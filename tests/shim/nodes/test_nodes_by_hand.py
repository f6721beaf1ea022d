"""`cloudpods nodes list`, `cordon`, `uncordon` and `drain`."""

import pytest
from click.testing import CliRunner

from shim.cli import main


@pytest.fixture
def cloudpods(servers, tmp_path):
    """Return a way to run the command on the test's database."""
    environ = {
        "CLOUDPODS_DATABASE_URL": servers.database_url,
        "CLOUDPODS_REDIS_URL": servers.redis_url,
        "CLOUDPODS_STATE_DIR": str(tmp_path),
    }
    return lambda *words: CliRunner().invoke(main, ["nodes", *words], env=environ)


def test_nodes_are_listed_with_what_is_free(cloudpods, rows, sql):
    rows.pod("lab1", tenant_id="TENANT-456", memory_mb=1024)
    sql("UPDATE cloud_pod_nodes SET total_memory_mb = 4096 WHERE name = 'lab1'")
    sql("UPDATE cloud_pod_nodes SET status = 'offline', deleted_at = now() WHERE name = 'lab2'")
    done = cloudpods("list")
    assert done.stdout == ("lab1: active, region migra-us-east-1, 1 pod, free: unknown cores, 3072 MB, unknown GB\n"), (
        done.output
    )


@pytest.mark.parametrize(("verb", "status"), [("cordon", "cordoned"), ("drain", "draining"), ("uncordon", "active")])
def test_nodes_are_taken_out_of_use_and_back(cloudpods, rows, sql, verb, status):
    rows.pod("lab1")
    sql("UPDATE cloud_pod_nodes SET status = %s", "active" if verb != "uncordon" else "draining")
    done = cloudpods(verb, "lab1", "lab2")
    assert done.stdout == f"lab1: {status}, 1 pod\nlab2: {status}, 0 pods\n", done.output
    assert sql("SELECT DISTINCT status FROM cloud_pod_nodes") == [(status,)]


def test_an_unknown_or_offline_node_is_told_in_a_line(cloudpods, rows, sql):
    sql("UPDATE cloud_pod_nodes SET status = 'offline' WHERE name = 'lab1'")
    for name, why in (("nobody", "there is no node"), ("lab1", "offline")):
        done = cloudpods("uncordon", name)
        assert (done.exit_code, why in done.output, "Traceback" in done.output) == (1, True, False)
