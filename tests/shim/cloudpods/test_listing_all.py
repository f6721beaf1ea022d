"""GET /cloudpods: the pods of all tenants, with what an inventory needs of each."""

import peewee
import pytest

from shim import db

TENANT, OTHER_TENANT = "TENANT-123", "TENANT-456"
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ7p0q0Yk3oXv0m2bq1WkYw0Q5y5l6f7h8j9k0l1m2n3"


@pytest.fixture
def listed(api):
    """Return a way to list all pods."""
    return lambda query="", prefix="/internal": api.simulate_get(f"{prefix}/cloudpods", query_string=query)


def vmids(answer):
    return [pod["vmid"] for pod in answer.json["items"]]


@pytest.fixture
def four(rows):
    """Make pods of two tenants on two nodes, the newest last."""
    for day, (vmid, tenant, node, other) in enumerate(
        [
            (9101, TENANT, "lab1", {"hostname": "shop", "region": "eu"}),
            (9102, OTHER_TENANT, "lab2", {"hostname": "shop"}),
            (9103, TENANT, "lab2", {"status": "failed"}),
            (9104, OTHER_TENANT, "lab1", {"status": "deleted"}),
        ],
        1,
    ):
        rows.pod(node, vmid=vmid, tenant_id=tenant, created_at=f"2026-01-0{day}", **other)


@pytest.mark.parametrize("prefix", ["/internal", "/api"])
def test_the_pods_of_all_tenants_are_listed_newest_first(listed, four, prefix):
    assert vmids(listed(prefix=prefix)) == [9103, 9102, 9101]


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (f"tenantId={TENANT}", [9103, 9101]),
        (f"tenantId={OTHER_TENANT}", [9102]),
        (f"tenantId={OTHER_TENANT}&status=deleted", [9104]),
        ("node=lab2", [9103, 9102]),
        ("region=eu", [9101]),
        ("hostname=shop", [9102, 9101]),
        (f"hostname=shop&tenantId={TENANT}", [9101]),
        ("status=failed", [9103]),
    ],
)
def test_filters(listed, four, query, expected):
    assert vmids(listed(query)) == expected


def test_pages_show_every_pod_of_every_tenant_once(listed, four):
    first = listed("limit=2")
    second = listed(f"limit=2&cursor={first.json['next']}")
    assert (vmids(first) + vmids(second), second.json["next"]) == ([9103, 9102, 9101], None)


@pytest.mark.parametrize(
    ("query", "status", "code"),
    [
        ("tenantId=TENANT-999", 404, "tenant_not_found"),
        ("tenant=x", 422, "invalid_request"),
        ("status=ill", 422, "invalid_request"),
    ],
)
def test_a_bad_query_is_refused(listed, assert_problem, query, status, code):
    assert_problem(listed(query), status, code)


def test_each_pod_tells_its_role_its_blueprint_and_its_host_key(listed, rows, sql):
    blueprint = sql.value("INSERT INTO blueprints (name, slug, spec) VALUES ('WordPress', 'wordpress', '{}') RETURNING id")
    pod = rows.pod(vmid=9101, blueprint_id=blueprint, host_key=KEY, wanted_power="stopped")
    sql("UPDATE cloud_pod_allocations SET role = 'db' WHERE cloud_pod_id = %s", pod)
    rows.pod(vmid=9102, allocation=False, created_at="2026-01-01")
    first, second = listed().json["items"]
    told = ("role", "blueprint", "hostKey", "wantedPower", "node")
    assert [first[name] for name in told] == ["db", "wordpress", KEY, "stopped", "lab1"]
    assert [second[name] for name in told] == [None, None, None, "running", "lab1"]


def test_a_page_costs_one_query_however_many_pods_it_has(listed, rows, monkeypatch):
    for vmid in range(9101, 9111):
        rows.pod(vmid=vmid)
    sent, execute = [], peewee.PostgresqlDatabase.execute_sql

    def spy(self, statement, params=None):
        sent.append(statement)
        return execute(self, statement, params)

    monkeypatch.setattr(peewee.PostgresqlDatabase, "execute_sql", spy)
    assert len(listed().json["items"]) == 10
    assert len([statement for statement in sent if '"cloud_pods"' in statement]) == 1
    assert db.database.is_closed()
