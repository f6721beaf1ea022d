"""Tenants over HTTP: made with their quotas, read, changed, listed, and what is refused."""

import pytest

GOOD = {"name": "Bücher & Söhne GmbH", "planId": "cloud-basic"}
LIMITS = {"maxCloudPods": 500, "maxCpuCores": 2000, "maxRamMb": 4_000_000, "maxDiskGb": 40_000}


@pytest.fixture
def owner(api):
    """Make a user who owns nothing yet; return the id."""
    return api.send("POST", "/users", {"id": "olga", "email": "olga@example.com"}).json["id"]


@pytest.fixture
def make(api, owner):
    """Return a way to make a tenant."""
    return lambda **more: api.send("POST", "/tenants", {**GOOD, "ownerUserId": owner, **more})


def actions(sql, tenant):
    return [row[0] for row in sql("SELECT data ->> 'action' FROM cloud_pod_events WHERE tenant_id = %s ORDER BY seq", tenant)]


@pytest.mark.parametrize("prefix", ["/internal", "/api"])
def test_a_new_tenant_has_its_place_its_slug_and_its_plans_quota(api, owner, prefix):
    answer = api.simulate_post(f"{prefix}/tenants", json={**GOOD, "ownerUserId": owner})
    assert answer.status_code == 201, answer.text
    tenant = answer.json
    assert answer.headers["location"] == f"{prefix}/tenants/{tenant['id']}"
    assert (tenant["slug"], tenant["region"], tenant["deletedAt"]) == ("b-cher-s-hne-gmbh", "migra-us-east-1", None)
    read = api.simulate_get(answer.headers["location"])
    assert (read.json, read.headers["etag"]) == (tenant, answer.headers["etag"])
    quota = api.simulate_get(f"{prefix}/tenants/{tenant['id']}/quota").json
    assert {name: quota[name] for name in LIMITS} == LIMITS
    assert (quota["usedCloudPods"], quota["reservedCloudPods"], quota["followsPlan"]) == (0, 0, True)


def test_what_the_panel_says_is_kept_and_a_pod_can_be_ordered(api, make, sql):
    tenant = make(id="panel:42", slug="buecher", region="migra-us-east-1").json
    assert (tenant["id"], tenant["slug"]) == ("panel:42", "buecher")
    order = {"tenantId": "panel:42", "hostname": "shop", "cores": 1, "memoryMb": 512}
    assert api.send("POST", "/cloudpods", order).json["cloudPod"]["tenantId"] == "panel:42"
    assert actions(sql, "panel:42")[0] == "TENANT_CREATED"


def test_a_pod_is_of_its_tenants_region_unless_said_otherwise(api, make, sql, assert_problem):
    make(id="eu", region="eu-west-1")
    order = {"tenantId": "eu", "hostname": "shop", "cores": 1, "memoryMb": 512}
    assert_problem(api.send("POST", "/cloudpods", order), 422, field="region")
    sql("UPDATE cloud_pod_nodes SET region = 'eu-west-1' WHERE name = 'lab2'")
    assert api.send("POST", "/cloudpods", order).json["cloudPod"]["region"] == "eu-west-1"
    named = api.send("POST", "/cloudpods", {**order, "region": "migra-us-east-1"})
    assert named.json["cloudPod"]["node"] == "lab1"


def test_two_of_one_name_get_two_slugs(make):
    slugs = [make().json["slug"] for _ in range(3)]
    assert len(set(slugs)) == 3
    assert all(slug.startswith("b-cher-s-hne-gmbh") for slug in slugs)


@pytest.mark.parametrize(
    ("name", "slug"), [("東京", "tenant-"), ("a" * 200, "a" * 63), ("-x-", "x"), ("a" * 62 + "-b", "a" * 62)]
)
def test_a_name_of_any_letters_gives_a_slug(make, name, slug):
    made = make(name=name).json
    assert made["name"] == name
    assert made["slug"].startswith(slug)
    assert 1 <= len(made["slug"]) <= 63


@pytest.mark.parametrize(
    ("change", "code", "field", "rule"),
    [
        ({"name": None}, "invalid_request", "name", "valid string"),
        ({"name": " \t"}, "invalid_request", "name", "pattern"),
        ({"name": "a\x00"}, "invalid_request", "name", ""),
        ({"name": "\ud800"}, "invalid_request", "name", ""),
        ({"name": "a" * 201}, "invalid_request", "name", "200"),
        ({"slug": "Upper"}, "invalid_request", "slug", "pattern"),
        ({"slug": "-a"}, "invalid_request", "slug", "pattern"),
        ({"slug": "a\n"}, "invalid_request", "slug", "pattern"),
        ({"slug": "a~b"}, "invalid_request", "slug", "pattern"),
        ({"slug": "a" * 64}, "invalid_request", "slug", "pattern"),
        ({"slug": ""}, "invalid_request", "slug", "pattern"),
        ({"planId": "no-such-plan"}, "unknown_plan", "planId", "there is no plan"),
        ({"planId": None}, "invalid_request", "planId", "valid string"),
        ({"planId": "a\x00"}, "invalid_request", "planId", ""),
        ({"ownerUserId": "nobody"}, "unknown_user", "ownerUserId", "there is no user"),
        ({"ownerUserId": 7}, "invalid_request", "ownerUserId", "valid string"),
        ({"region": "a b"}, "invalid_request", "region", "1 to 64"),
        ({"createdAt": "2020-01-01"}, "invalid_request", "createdAt", "unknown field"),
        ({"deletedAt": None}, "invalid_request", "deletedAt", "unknown field"),
    ],
)
def test_a_bad_tenant_is_refused_and_nothing_is_written(api, make, sql, assert_problem, change, code, field, rule):
    before = sql("SELECT * FROM tenants ORDER BY id"), sql("SELECT * FROM tenant_quotas ORDER BY id")
    assert_problem(make(**change), 422, code, field=field, rule=rule)
    assert_problem(api.send("PUT", "/tenants/TENANT-456", change), 422, code, field=field, rule=rule)
    assert (sql("SELECT * FROM tenants ORDER BY id"), sql("SELECT * FROM tenant_quotas ORDER BY id")) == before
    assert actions(sql, "TENANT-456") == []


@pytest.mark.parametrize("field", ["name", "planId", "ownerUserId"])
def test_what_a_tenant_must_have_is_asked_for(api, owner, assert_problem, field):
    body = {**GOOD, "ownerUserId": owner}
    del body[field]
    assert_problem(api.send("POST", "/tenants", body), 422, "invalid_request", field=field, rule="required")


@pytest.mark.parametrize(("change", "code"), [({"id": "TENANT-456"}, "id_taken"), ({"slug": "tenant-456"}, "slug_taken")])
def test_what_another_tenant_has_cannot_be_taken(api, make, sql, assert_problem, change, code):
    (field,) = change
    assert_problem(make(**change), 409, code, field=field)
    if field == "slug":
        assert_problem(api.send("PUT", "/tenants/TENANT-123", change), 409, code, field=field)
    assert sql.value("SELECT count(*) FROM tenants") == 2


def test_a_change_names_what_it_changes_and_leaves_the_rest_and_the_others(api, sql, owner):
    before = {id: api.send("GET", f"/tenants/{id}") for id in ("TENANT-123", "TENANT-456")}
    answer = api.send("PUT", "/tenants/TENANT-123", {"name": "Renamed", "ownerUserId": owner})
    assert answer.status_code == 200, answer.text
    changed = {"name": "Renamed", "ownerUserId": owner, "updatedAt": answer.json["updatedAt"]}
    assert answer.json == {**before["TENANT-123"].json, **changed}
    assert answer.headers["etag"] != before["TENANT-123"].headers["etag"]
    assert api.send("GET", "/tenants/TENANT-456").json == before["TENANT-456"].json
    ((told,),) = sql("SELECT data FROM cloud_pod_events WHERE tenant_id = 'TENANT-123'")
    assert (told["action"], told["before"]["name"], told["after"]["name"]) == ("TENANT_CHANGED", "TENANT-123", "Renamed")


@pytest.mark.parametrize("body", [{}, {"name": "TENANT-123"}, {"planId": "cloud-basic", "region": "migra-us-east-1"}])
def test_a_change_that_changes_nothing_writes_nothing(api, sql, body):
    before = api.send("GET", "/tenants/TENANT-123")
    answer = api.send("PUT", "/tenants/TENANT-123", body)
    assert (answer.status_code, answer.json, answer.headers["etag"]) == (200, before.json, before.headers["etag"])
    assert actions(sql, "TENANT-123") == []


def test_of_two_who_change_what_they_read_the_second_is_told(api, assert_problem):
    read = api.send("GET", "/tenants/TENANT-123").headers["etag"]
    assert api.send("PUT", "/tenants/TENANT-123", {"name": "A"}, **{"If-Match": read}).status_code == 200
    for method, body in (("PUT", {"name": "B"}), ("DELETE", None)):
        answer = api.send(method, "/tenants/TENANT-123", body, **{"If-Match": read})
        assert_problem(answer, 412, "precondition_failed")
    assert_problem(api.send("PUT", "/tenants/TENANT-123", {}, **{"If-Match": "x"}), 422, field="If-Match")
    assert api.send("PUT", "/tenants/TENANT-123", {"name": "B"}, **{"If-Match": "*"}).json["name"] == "B"


@pytest.mark.parametrize("path", ["", "/quota", "/usage"])
@pytest.mark.parametrize("tenant", ["TENANT-999", "%00", "a%00b", "tenant-123", "9" * 300])
def test_no_such_tenant_is_not_found(api, assert_problem, tenant, path):
    assert_problem(api.send("GET", f"/tenants/{tenant}{path}"), 404, "tenant_not_found")
    if path != "/usage":
        assert_problem(api.send("PUT", f"/tenants/{tenant}{path}", {}), 404, "tenant_not_found")


def test_tenants_are_listed_newest_first_and_found_by_their_columns(api, make, owner):
    api.send("POST", "/plans", {"id": "tiny", "name": "Tiny", **LIMITS})
    make(id="eu-1", region="eu", planId="tiny")
    make(id="eu-2", region="eu")

    def ids(query):
        answer = api.simulate_get("/internal/tenants", query_string=query)
        assert answer.status_code == 200, answer.text
        return [tenant["id"] for tenant in answer.json["items"]], answer.json["next"]

    assert ids("") == (["eu-2", "eu-1", "TENANT-456", "TENANT-123"], None)
    assert ids("slug=tenant-456")[0] == ["TENANT-456"]
    assert ids("planId=tiny")[0] == ["eu-1"]
    assert ids("region=eu")[0] == ["eu-2", "eu-1"]
    assert ids("region=eu&planId=cloud-basic")[0] == ["eu-2"]
    assert ids(f"ownerUserId={owner}")[0] == ["eu-2", "eu-1"]
    assert ids("slug=nobody")[0] == []
    first, cursor = ids("limit=3")
    second, end = ids(f"limit=3&cursor={cursor}")
    assert (first + second, end) == (["eu-2", "eu-1", "TENANT-456", "TENANT-123"], None)


@pytest.mark.parametrize("query", ["plan=x", "limit=0", "limit=1e3", "cursor=x", "slug=a&slug=b", "slug=%00", "deleted=maybe"])
def test_a_bad_query_is_refused(api, assert_problem, query):
    assert_problem(api.simulate_get("/internal/tenants", query_string=query), 422, "invalid_request")
