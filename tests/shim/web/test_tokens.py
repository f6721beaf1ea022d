"""API tokens: made, shown once, listed, revoked; and when they were last used."""

import threading

import pytest

from shim import db
from shim.tenants.tokens import ApiToken

USER = {"name": "anna", "tenantId": "TENANT-123", "role": "admin", "userId": "anna@example.com"}


def make(api, body=USER, **kwargs):
    return api.simulate_post("/internal/tokens", json=body, **kwargs)


def bearer(made):
    return {"Authorization": f"Bearer {made.json['secret']}"}


def test_a_users_token_is_bound_to_its_tenant(api, rows, assert_problem, sql):
    rows.pod(vmid=9101), rows.pod("lab2", vmid=9102, tenant_id="TENANT-456")
    made = make(api)
    assert made.status_code == 201
    assert (made.json["kind"], made.json["tenantId"], made.json["role"]) == ("user", "TENANT-123", "admin")
    assert api.simulate_get("/internal/cloudpods/9101", headers=bearer(made)).status_code == 200
    assert_problem(api.simulate_get("/internal/cloudpods/9102", headers=bearer(made)), 404, "cloudpod_not_found")
    assert_problem(make(api, {"name": "more"}, headers=bearer(made)), 403, "forbidden")
    told = sql("SELECT tenant_id, data ->> 'tokenId', actor FROM cloud_pod_events WHERE data ->> 'action' = 'TOKEN_CREATED'")
    assert told == [("TENANT-123", made.json["id"], "service:test")]


def test_a_secret_stands_in_one_answer_and_nowhere_else(api, sql):
    made = make(api, headers={"Idempotency-Key": "k1"})
    secret = made.json["secret"]
    assert made.headers["cache-control"] == "no-store"
    assert api.simulate_get(made.headers["location"]).json == {k: v for k, v in made.json.items() if k != "secret"}
    assert secret not in api.simulate_get("/internal/tokens").text
    for (table,) in sql("SELECT tablename FROM pg_tables WHERE schemaname IN ('public', 'cloudpods')"):
        assert sql.value(f"SELECT count(*) FROM {table} t WHERE t::text LIKE %s", f"%{secret}%") == 0, table


def test_a_lost_answer_is_not_shown_again(api, sql, assert_problem):
    make(api, headers={"Idempotency-Key": "k1"})
    assert_problem(make(api, headers={"Idempotency-Key": "k1"}), 409, "idempotency_answer_not_kept")
    assert sql.value("SELECT count(*) FROM api_tokens WHERE name = 'anna'") == 1


BAD = [
    ({}, "name"),
    ({"name": ""}, "name"),
    ({"name": "a\nb"}, "name"),
    ({"name": "a" * 101}, "name"),
    ({"name": "x", "role": "owner"}, "tenantId, role and userId"),
    ({"name": "x", "tenantId": "TENANT-123", "userId": "anna"}, "tenantId, role and userId"),
    ({**USER, "role": "service"}, "role"),
    ({**USER, "role": "root"}, "role"),
    ({**USER, "userId": "anna\x00"}, "userId"),
    ({**USER, "userId": "anna\n"}, "userId"),
    ({**USER, "expiresInDays": 0}, "expiresInDays"),
    ({**USER, "expiresInDays": 10**30}, "expiresInDays"),
    ({**USER, "expiresInDays": "1"}, "expiresInDays"),
    ({**USER, "secret": "cpods_mine"}, "secret"),
    ({**USER, "kind": "service"}, "kind"),
]


@pytest.mark.parametrize(("body", "named"), BAD)
def test_a_body_that_breaks_a_rule_makes_no_token(api, sql, assert_problem, body, named):
    answer = make(api, body)
    assert_problem(answer, 422, "invalid_request")
    assert named in answer.json["detail"]
    assert sql.value("SELECT count(*) FROM api_tokens") == 1


@pytest.mark.parametrize("deleted", [False, True])
def test_a_tenant_that_is_not_there_gets_no_token(api, sql, assert_problem, deleted):
    if deleted:
        sql("UPDATE tenants SET deleted_at = now() WHERE id = 'TENANT-456'")
    tenant = "TENANT-456" if deleted else "TENANT-789"
    assert_problem(make(api, {**USER, "tenantId": tenant}), 404, "tenant_not_found", field="tenantId")
    assert sql.value("SELECT count(*) FROM api_tokens") == 1


def test_a_token_is_good_for_so_many_days(api, sql):
    made = make(api, {**USER, "expiresInDays": 7})
    left = "SELECT extract(epoch FROM expires_at - now()) / 86400 FROM api_tokens WHERE id = %s"
    assert 6.99 < sql.value(left, made.json["id"]) <= 7
    sql("UPDATE api_tokens SET expires_at = now() WHERE id = %s", made.json["id"])
    answer = api.simulate_get("/internal/cloudpods", headers=bearer(made))
    assert (answer.status_code, answer.json["detail"]) == (401, "the token has expired")


def test_a_revoked_token_is_unknown_from_then_on_and_its_row_stays(api, sql, assert_problem):
    made = make(api)
    path = f"/internal/tokens/{made.json['id']}"
    assert [api.simulate_delete(path).status_code for _ in range(2)] == [204, 204]
    assert_problem(api.simulate_get("/internal/cloudpods", headers=bearer(made)), 401, "unauthenticated")
    assert api.simulate_get(path).json["revokedAt"]
    assert sql.value("SELECT count(*) FROM cloud_pod_events WHERE data ->> 'action' = 'TOKEN_REVOKED'") == 1


def test_a_deleted_users_tokens_are_revoked(api, assert_problem):
    assert api.simulate_post("/internal/users", json={"id": "anna", "email": "anna@example.com"}).status_code == 201
    made = make(api, {**USER, "userId": "anna"})
    assert api.simulate_delete("/internal/users/anna").status_code == 204
    assert_problem(api.simulate_get("/internal/cloudpods", headers=bearer(made)), 401, "unauthenticated")


@pytest.mark.parametrize("id", ["no-such-token", "%00", "9" * 300])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
def test_a_token_that_is_not_there_is_not_found(api, assert_problem, method, id):
    assert_problem(api.simulate_request(method, f"/internal/tokens/{id}"), 404, "token_not_found")


def test_tokens_are_listed_newest_first_by_pages_and_by_tenant(api):
    names = [f"t{number}" for number in range(5)]
    for name in names:
        make(api, {**USER, "name": name})
    make(api, {**USER, "name": "theirs", "tenantId": "TENANT-456"})
    seen, cursor = [], None
    while True:
        query = {"tenantId": "TENANT-123", "limit": 2, **({"cursor": cursor} if cursor else {})}
        page = api.simulate_get("/internal/tokens", params=query).json
        seen += [item["name"] for item in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert seen == names[::-1]
    assert [item["name"] for item in api.simulate_get("/internal/tokens").json["items"]] == ["theirs", *seen, "test"]


def last_used(sql):
    return sql.value("SELECT last_used_at FROM api_tokens WHERE name = 'test'")


def test_the_last_use_is_noted_at_most_once_a_minute(api, sql):
    assert last_used(sql) is None
    api.simulate_get("/internal/cloudpods")
    first = last_used(sql)
    api.simulate_get("/internal/cloudpods")
    assert last_used(sql) == first
    sql("UPDATE api_tokens SET last_used_at = now() - interval '61 s'")
    api.simulate_get("/internal/cloudpods")
    assert last_used(sql) > first


def test_a_request_does_not_wait_for_whoever_notes_the_use(api, sql, servers):
    """While another transaction has the row, the request goes on, and the use is noted by a later one."""
    import psycopg2

    other = psycopg2.connect(servers.database_url, options="-c search_path=cloudpods,public")
    with other, other.cursor() as cursor:
        cursor.execute("UPDATE api_tokens SET name = name")
        asked = threading.Thread(target=api.simulate_get, args=("/internal/cloudpods",), daemon=True)
        asked.start()
        asked.join(20)
        assert not asked.is_alive()
        assert last_used(sql) is None
    other.close()
    api.simulate_get("/internal/cloudpods")
    assert last_used(sql) is not None


def test_an_unknown_token_and_one_whose_hash_differs_are_told_apart_by_nothing(session, monkeypatch):
    secret = ApiToken.issue("panel").secret
    assert ApiToken.holder(secret)
    monkeypatch.setattr("hmac.compare_digest", lambda *_: False)
    assert ApiToken.holder(secret) is None
    assert db.rows("SELECT last_used_at IS NULL FROM api_tokens WHERE name = 'panel'") == [(False,)]
