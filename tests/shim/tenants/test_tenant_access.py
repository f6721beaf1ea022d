"""Who may read and change tenants, users, plans, quotas and usage: the panel everything, users what is their tenant's."""

import pytest

OWN, OTHER = "/tenants/TENANT-123", "/tenants/TENANT-456"
ROLES = ("owner", "admin", "dev", "billing")
MANAGED = [
    ("GET", "/tenants"),
    ("POST", "/tenants"),
    ("PUT", OWN),
    ("DELETE", OWN),
    ("PUT", f"{OWN}/quota"),
    ("GET", "/users"),
    ("POST", "/users"),
    ("GET", "/users/x"),
    ("PUT", "/users/x"),
    ("DELETE", "/users/x"),
    ("GET", "/plans"),
    ("POST", "/plans"),
    ("GET", "/plans/cloud-basic"),
    ("PUT", "/plans/cloud-basic"),
    ("DELETE", "/plans/cloud-basic"),
]


@pytest.fixture
def ask(api):
    """Return a way to ask as a user of TENANT-123."""
    tokens = {role: api.as_user(role) for role in ROLES}
    return lambda role, path, method="GET", **more: api.simulate_request(
        method, f"/internal{path}", headers=tokens[role], **more
    )


@pytest.mark.parametrize("role", ROLES)
def test_a_user_manages_nothing(ask, sql, assert_problem, role):
    tables = ("tenants", "users", "plans", "tenant_quotas")
    before = [sql(f"SELECT * FROM {table} ORDER BY id") for table in tables]
    for method, path in MANAGED:
        body = {"name": "x", "maxCloudPods": 9} if method in ("PUT", "POST") else None
        assert_problem(ask(role, path, method, json=body), 403, "forbidden")
    assert [sql(f"SELECT * FROM {table} ORDER BY id") for table in tables] == before


@pytest.mark.parametrize(("role", "may"), [("owner", True), ("admin", True), ("dev", True), ("billing", False)])
def test_those_who_see_the_pods_see_their_tenant_and_no_other(ask, assert_problem, role, may):
    if may:
        assert ask(role, OWN).json["id"] == "TENANT-123"
        assert_problem(ask(role, OTHER), 404, "tenant_not_found")
    else:
        assert_problem(ask(role, OWN), 403, "forbidden")


@pytest.mark.parametrize("what", ["quota", "usage"])
@pytest.mark.parametrize("role", ROLES)
def test_every_user_sees_quota_and_usage_of_their_tenant_and_no_other(ask, rows, assert_problem, role, what):
    rows.pod(tenant_id="TENANT-456")
    assert ask(role, f"{OWN}/{what}").status_code == 200
    assert_problem(ask(role, f"{OTHER}/{what}"), 404, "tenant_not_found")


def test_another_tenant_and_none_are_answered_alike(ask):
    answers = [ask("owner", path).json for path in (OTHER, "/tenants/TENANT-999")]
    assert {answer["code"] for answer in answers} == {"tenant_not_found"}
    assert answers[0].keys() == answers[1].keys()
