"""The command `cloudpods`: what a person types, what it says, how it ends."""

import re
import subprocess
import sys

import pytest
from click.testing import CliRunner

from shim import db, migrations
from shim.cli import main
from shim.embedded.up import _queues
from shim.tenants.tokens import ApiToken

STEPS = sorted(path.stem for path in migrations.DIRECTORY.glob("[0-9]*.sql"))


@pytest.fixture
def cloudpods(empty_database, servers, tmp_path):
    """Return a way to run the command against a database with nothing in it."""
    environ = {
        "CLOUDPODS_DATABASE_URL": empty_database,
        "CLOUDPODS_REDIS_URL": servers.redis_url,
        "CLOUDPODS_STATE_DIR": str(tmp_path),
    }

    def run(*words, **other):
        return CliRunner().invoke(main, list(words), env={**environ, **other})

    return run


def said(result):
    """Return what a command that must not end in a trace said."""
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result.output


def test_migrate_applies_the_schema_and_then_has_nothing_to_do(cloudpods):
    assert said(cloudpods("migrate")) == "".join(f"applied {name}\n" for name in STEPS)
    assert said(cloudpods("migrate")) == "nothing to do\n"


def test_migrate_sql_prints_the_schema_and_touches_nothing(cloudpods, sql_of_empty):
    result = cloudpods("migrate", "--sql", CLOUDPODS_DATABASE_URL="postgresql://nobody@/none?host=/nowhere")
    assert result.exit_code == 0
    assert said(result) == migrations.as_sql()
    assert sql_of_empty("SELECT 1 FROM pg_tables WHERE schemaname IN ('public', 'cloudpods')") == []


def test_a_tokens_secret_is_printed_once_and_works(cloudpods, empty_database):
    cloudpods("migrate")
    secret = said(cloudpods("token", "create", "panel")).strip()
    assert re.fullmatch(r"cpods_[A-Za-z0-9_-]{40,}", secret)
    db.connect(empty_database)
    with db.session():
        assert ApiToken.holder(secret).name == "panel"


def test_a_users_token_is_made_listed_and_revoked(cloudpods, empty_database):
    cloudpods("migrate")
    cloudpods("seed")
    words = ("--tenant", "TENANT-123", "--role", "dev", "--user", "anna@example.com", "--expires-days", "7")
    secret = said(cloudpods("token", "create", "anna", *words)).strip()
    cloudpods("token", "create", "panel")
    db.connect(empty_database)
    with db.session():
        holder = ApiToken.holder(secret)
    assert (holder.role, holder.tenant_id, holder.user_id) == ("dev", "TENANT-123", "anna@example.com")
    panel, anna = said(cloudpods("token", "list")).splitlines()
    assert "panel  service  never used  does not expire" in panel
    assert anna.startswith(f"{holder.token_id}  anna  anna@example.com as dev of TENANT-123  last used 20")
    assert secret not in panel + anna
    assert said(cloudpods("token", "list", "--tenant", "TENANT-123")).splitlines() == [anna]
    assert said(cloudpods("token", "revoke", holder.token_id)) == f"token {holder.token_id}: revoked\n"
    with db.session():
        assert ApiToken.holder(secret) is None


WRONG_TOKENS = [
    (("token", "create", "anna", "--tenant", "TENANT-123"), "belong together"),
    (("token", "create", "anna", "--tenant", "TENANT-789", "--role", "dev", "--user", "anna"), "there is no tenant"),
    (("token", "create", ""), "name"),
    (("token", "revoke", "no-such-token"), "there is no token"),
]


@pytest.mark.parametrize(("words", "hint"), WRONG_TOKENS)
def test_a_token_that_cannot_be_made_or_revoked_is_said_in_a_line(cloudpods, sql_of_empty, words, hint):
    cloudpods("migrate")
    result = cloudpods(*words)
    assert result.exit_code == 1
    assert hint in said(result)
    assert sql_of_empty.value("SELECT count(*) FROM api_tokens") == 0


def test_seed_twice_makes_everything_once(cloudpods, sql_of_empty):
    cloudpods("migrate")
    first, second = said(cloudpods("seed")), said(cloudpods("seed"))
    assert first.splitlines() == [
        "plan cloud-basic: made",
        "user owner@example.com: made",
        "tenant TENANT-123: made",
        "node lab1: made",
        *(f"blueprint {slug}: made" for slug in ("postgres-db", "static-site", "wordpress")),
    ]
    assert second == first.replace("made", "was there")
    for table in ("plans", "users", "tenants", "tenant_quotas", "cloud_pod_nodes", "address_pools"):
        assert sql_of_empty.value(f"SELECT count(*) FROM {table}") == 1


def test_a_seeded_tenants_quota_is_its_plans(cloudpods, sql_of_empty):
    cloudpods("migrate")
    cloudpods("seed")
    limits = "max_cloud_pods, max_cpu_cores, max_ram_mb, max_disk_gb"
    assert sql_of_empty(f"SELECT {limits} FROM tenant_quotas") == sql_of_empty(f"SELECT {limits} FROM plans")


BAD_POOLS = [
    "10.1.10.50",
    "10.1.10.50-",
    "-10.1.10.50",
    "a-b",
    "10.1.10.50-10.1.10.400",
    "10.1.10.90-10.1.10.50",
    "10.1.10.50-fe80::1",
    "10.1.10.0/24-10.1.10.9",
    "10.1.10.50-10.1.10.60-10.1.10.70",
]


@pytest.mark.parametrize("pool", BAD_POOLS)
def test_a_pool_that_is_none_is_refused_in_a_line_and_nothing_made(cloudpods, sql_of_empty, pool):
    cloudpods("migrate")
    result = cloudpods("seed", "--pool", pool)
    assert result.exit_code == 1
    assert "pool" in said(result)
    assert sql_of_empty.value("SELECT count(*) FROM tenants") == 0


def test_a_gateway_that_is_none_is_refused_in_a_line(cloudpods):
    cloudpods("migrate")
    result = cloudpods("seed", "--gateway", "router")
    assert result.exit_code == 1
    assert "gateway" in said(result)


def test_a_pool_that_overlaps_with_another_nodes_is_refused(cloudpods, sql_of_empty):
    cloudpods("migrate")
    cloudpods("seed")
    result = cloudpods("seed", "--node", "lab2", "--pool", "10.1.10.249-10.1.10.250")
    assert result.exit_code == 1
    assert "overlaps with the address pool lab1-pool" in said(result)
    assert sql_of_empty.value("SELECT count(*) FROM cloud_pod_nodes") == 1


@pytest.mark.parametrize("words", [("seed",), ("token", "create")], ids=" ".join)
def test_a_command_before_the_schema_is_there_says_what_to_do(cloudpods, words):
    result = cloudpods(*words)
    assert result.exit_code == 1
    assert "cloudpods migrate" in said(result)


@pytest.mark.parametrize("words", [("migrate",), ("seed",), ("token", "create")], ids=" ".join)
def test_a_database_that_does_not_answer_is_said_with_its_reason(cloudpods, words):
    result = cloudpods(*words, CLOUDPODS_DATABASE_URL="postgresql://nobody@/none?host=/nowhere")
    assert result.exit_code == 1
    why, what = said(result).splitlines()
    assert "/nowhere/.s.PGSQL.5432" in why
    assert what.startswith("cloudpods: the database does not answer")


def test_a_wrong_setting_is_said_in_a_line(cloudpods):
    result = cloudpods("migrate", CLOUDPODS_COLOUR="red")
    assert (result.exit_code, said(result).startswith("cloudpods: CLOUDPODS_COLOUR is no setting")) == (1, True)


def test_check_is_content_with_a_stack_that_works(cloudpods, tmp_path):
    cloudpods("migrate")
    inventory = tmp_path / "hosts"
    inventory.touch()
    result = cloudpods("check", CLOUDPODS_INVENTORY=str(inventory))
    assert result.exit_code == 0, said(result)
    assert all(line.startswith("ok ") for line in said(result).splitlines())


def test_check_before_the_schema_is_there_says_what_to_do(cloudpods):
    result = cloudpods("check")
    assert result.exit_code == 1
    assert "FAULT schema is up to date: run `cloudpods migrate`" in said(result)


def test_check_names_every_fault_with_what_to_do(cloudpods, tmp_path):
    wrong = {
        "CLOUDPODS_DATABASE_URL": "postgresql://nobody@/none?host=/nowhere",
        "CLOUDPODS_REDIS_URL": "unix:///nowhere/redis.sock",
        "CLOUDPODS_INVENTORY": str(tmp_path / "absent"),
        "CLOUDPODS_PROJECT_DIR": str(tmp_path),
    }
    result = cloudpods("check", **wrong)
    faults = [line for line in said(result).splitlines() if line.startswith("FAULT")]
    assert (result.exit_code, len(faults)) == (1, 4)
    for hint in ("CLOUDPODS_DATABASE_URL", "CLOUDPODS_REDIS_URL", "CLOUDPODS_INVENTORY", "CLOUDPODS_PROJECT_DIR"):
        assert any(hint in line for line in faults)
    assert "4 faults" in said(result)


@pytest.mark.parametrize("queues", ["bad", "cloudpods:create,bad", "cloudpods:create,", "CREATE"])
def test_a_worker_refuses_a_queue_that_is_none(cloudpods, queues):
    result = cloudpods("worker", "--queues", queues)
    assert result.exit_code == 2
    assert "unknown queue" in said(result)
    assert "cloudpods:destroy" in said(result)


def test_the_command_itself_starts_and_ends_without_a_trace(tmp_path):
    command = [sys.executable, "-m", "shim.cli", "--state-dir", str(tmp_path), "migrate"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, env={"PATH": "/usr/bin:/bin"})
    assert done.returncode == 1
    assert done.stderr.startswith("cloudpods: CLOUDPODS_DATABASE_URL is not set")
    assert "Traceback" not in done.stderr


def test_of_several_workers_the_first_takes_no_long_jobs():
    first = _queues(0, 2)
    assert first[0] == "--queues"
    assert not {"cloudpods:backup", "cloudpods:drill", "cloudpods:restore"} & set(first[1].split(","))
    assert "cloudpods:destroy" in first[1].split(",")
    assert _queues(1, 2) == _queues(0, 1) == []
