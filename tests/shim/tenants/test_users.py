"""Users over HTTP: made, read, changed, deleted, and what is refused."""

import pytest

GOOD = {"email": "Carla@Example.com", "name": "Carla", "role": "admin"}


@pytest.fixture
def carla(api):
    """Make a user; return the answer."""
    return api.send("POST", "/users", {"id": "carla", **GOOD})


def actions(sql):
    return [row[0] for row in sql("SELECT data ->> 'action' FROM cloud_pod_events ORDER BY seq")]


@pytest.mark.parametrize("prefix", ["/internal", "/api"])
def test_a_new_user_is_answered_with_its_place_and_state(api, prefix):
    answer = api.simulate_post(f"{prefix}/users", json=GOOD)
    assert answer.status_code == 201, answer.text
    assert answer.headers["location"] == f"{prefix}/users/{answer.json['id']}"
    read = api.simulate_get(answer.headers["location"])
    assert read.json == answer.json
    assert read.headers["etag"] == answer.headers["etag"]
    assert {name: read.json[name] for name in GOOD} == {**GOOD, "email": "carla@example.com"}


def test_the_panels_own_id_is_kept_and_an_address_alone_is_enough(api):
    answer = api.send("POST", "/users", {"id": "usr_42", "email": "d@example.com"})
    assert (answer.json["id"], answer.json["name"], answer.json["role"]) == ("usr_42", None, "owner")


@pytest.mark.parametrize(
    ("change", "field", "rule"),
    [
        ({"email": None}, "email", "valid string"),
        ({"email": "carla"}, "email", "pattern"),
        ({"email": "a b@example.com"}, "email", "pattern"),
        ({"email": "a@b@c"}, "email", "pattern"),
        ({"email": "a\x00@example.com"}, "email", "pattern"),
        ({"email": "a" * 250 + "@b.cd"}, "email", "254"),
        ({"email": "\ud800@example.com"}, "email", ""),
        ({"name": " "}, "name", "pattern"),
        ({"name": ""}, "name", "pattern"),
        ({"name": "a\x00b"}, "name", "pattern"),
        ({"name": "a\nb"}, "name", "pattern"),
        ({"name": "a" * 201}, "name", "200"),
        ({"name": 5}, "name", "valid string"),
        ({"role": "root"}, "role", "owner"),
        ({"role": None}, "role", "owner"),
        ({"id": "a/b"}, "id", "1 to 64"),
        ({"id": ""}, "id", "1 to 64"),
        ({"passwordHash": "x"}, "passwordHash", "unknown field"),
    ],
)
def test_a_bad_user_is_refused_and_nothing_is_written(api, sql, assert_problem, change, field, rule):
    before = sql("SELECT * FROM users")
    assert_problem(api.send("POST", "/users", {**GOOD, **change}), 422, "invalid_request", field=field, rule=rule)
    user = sql.value("SELECT id FROM users WHERE email = 'a@example.com'")
    # To a change even a good id is an unknown field.
    rule = rule if field != "id" else "unknown field"
    assert_problem(api.send("PUT", f"/users/{user}", change), 422, "invalid_request", field=field, rule=rule)
    assert (sql("SELECT * FROM users"), actions(sql)) == (before, [])


@pytest.mark.parametrize(
    ("other", "code", "field"),
    [({"email": "CARLA@example.com"}, "email_taken", "email"), ({"id": "carla", "email": "x@y.z"}, "id_taken", "id")],
)
def test_a_second_of_the_same_is_refused_by_its_field(api, sql, carla, assert_problem, other, code, field):
    assert_problem(api.send("POST", "/users", other), 409, code, field=field)
    assert actions(sql) == ["USER_CREATED"]


def test_a_change_names_what_it_changes_and_leaves_the_rest(api, sql, carla):
    answer = api.send("PUT", "/users/carla", {"name": None, "role": "admin"})
    assert answer.status_code == 200, answer.text
    assert (answer.json["name"], answer.json["role"], answer.json["email"]) == (None, "admin", "carla@example.com")
    assert answer.headers["etag"] != carla.headers["etag"]
    assert sql(
        "SELECT data ->> 'userId', data -> 'changed' FROM cloud_pod_events WHERE data ->> 'action' = 'USER_CHANGED'"
    ) == [("carla", ["name"])]


def test_a_change_that_changes_nothing_writes_nothing(api, sql, carla):
    answer = api.send("PUT", "/users/carla", GOOD)
    assert (answer.json, answer.headers["etag"], actions(sql)) == (carla.json, carla.headers["etag"], ["USER_CREATED"])


def test_another_users_address_cannot_be_taken_over(api, carla, assert_problem):
    assert_problem(api.send("PUT", "/users/carla", {"email": "a@example.com"}), 409, "email_taken", field="email")


@pytest.mark.parametrize("method", ["PUT", "DELETE"])
def test_of_two_who_change_what_they_read_the_second_is_told(api, carla, assert_problem, method):
    read = carla.headers["etag"]
    assert api.send("PUT", "/users/carla", {"name": "C"}, **{"If-Match": read}).status_code == 200
    answer = api.send(method, "/users/carla", {"name": "D"} if method == "PUT" else None, **{"If-Match": read})
    assert_problem(answer, 412, "precondition_failed")
    assert api.send("GET", "/users/carla").json["name"] == "C"


def test_a_user_of_nothing_is_deleted(api, sql, carla, assert_problem):
    answer = api.send("DELETE", "/users/carla", **{"If-Match": carla.headers["etag"]})
    assert (answer.status_code, answer.text) == (204, "")
    assert_problem(api.send("GET", "/users/carla"), 404, "user_not_found")
    assert actions(sql) == ["USER_CREATED", "USER_DELETED"]


def test_an_owner_cannot_be_deleted(api, sql, assert_problem):
    owner = sql.value("SELECT owner_user_id FROM tenants WHERE id = 'TENANT-456'")
    assert_problem(api.send("DELETE", f"/users/{owner}"), 409, "user_in_use")
    assert (api.send("GET", f"/users/{owner}").status_code, actions(sql)) == (200, [])


@pytest.mark.parametrize("user_id", ["nobody", "%00", "a%00b", "%F0%9F%98%80", "9" * 300])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_nobody_is_not_found(api, assert_problem, method, user_id):
    assert_problem(api.send(method, f"/users/{user_id}", {} if method == "PUT" else None), 404, "user_not_found")


def test_what_an_event_says_of_a_user_is_no_persons_data(api, sql, carla):
    api.send("PUT", "/users/carla", {"email": "c2@example.com"})
    assert "example.com" not in str(sql("SELECT data, message FROM cloud_pod_events"))


def test_users_are_listed_newest_first_and_found_by_address_and_role(api, carla):
    def names(query):
        answer = api.simulate_get("/internal/users", query_string=query)
        assert answer.status_code == 200, answer.text
        return [user["email"].split("@")[0] for user in answer.json["items"]], answer.json["next"]

    assert names("") == (["carla", "b", "a"], None)
    assert names("email=B@example.com") == (["b"], None)
    assert names("role=owner") == (["b", "a"], None)
    first, cursor = names("limit=2")
    second, end = names(f"limit=2&cursor={cursor}")
    assert (first, second, end) == (["carla", "b"], ["a"], None)


@pytest.mark.parametrize("query", ["mail=x", "limit=0", "limit=201", "cursor=x", "email=a&email=b", "role=%00"])
def test_a_bad_query_is_refused(api, assert_problem, query):
    assert_problem(api.simulate_get("/internal/users", query_string=query), 422)
