"""Blueprints over HTTP: written, read, changed, deleted."""

import copy
import json

import pytest

from shim import db
from shim.blueprints import shipped
from tests.stacks import SEED

OTHER = "TENANT-456"


@pytest.fixture
def api(stacks):
    return stacks.api


def put(api, spec, **headers):
    return api.send("PUT", "/blueprints/wordpress", {"name": "Changed", "spec": spec}, **headers)


def test_the_master_specs_document_is_written_and_read_unchanged(stacks, seed):
    made = stacks.write(seed)
    assert made.status_code == 201, made.text
    assert made.headers["location"] == "/internal/blueprints/wordpress"
    read = stacks.api.simulate_get("/internal/blueprints/wordpress")
    assert read.json["spec"] == SEED
    assert read.headers["etag"] == made.headers["etag"]
    assert stacks.api.simulate_get("/api/blueprints/wordpress").json == read.json


def test_a_fault_is_told_by_a_pointer(stacks, seed, sql, assert_problem):
    seed["resources"][0]["count"] = 0
    assert_problem(stacks.write(seed), 422, "invalid_blueprint", field="/spec/resources/0/count", rule="greater")
    assert sql.value("SELECT count(*) FROM blueprints") == 0


def test_a_document_of_a_megabyte_is_too_large(stacks, seed, assert_problem):
    seed["description"] = "x" * 1024 * 1024
    assert_problem(stacks.write(seed), 413)


def test_a_document_that_is_deep_or_none_is_refused(api, assert_problem):
    deep = '{"name": "a", "slug": "a", "spec": ' + '{"a":' * 8_000 + "1" + "}" * 8_001
    json_ = {"Content-Type": "application/json"}
    assert_problem(api.simulate_post("/internal/blueprints", body=deep, headers=json_), 400)
    assert_problem(api.send("POST", "/blueprints", {"name": "a", "slug": "a", "spec": []}), 422, field="spec")
    assert_problem(api.send("POST", "/blueprints", {"name": "a", "slug": "../x", "spec": {}}), 422, field="slug")
    assert_problem(api.send("POST", "/blueprints", {"name": "a\x00", "slug": "a", "spec": SEED}), 422, field="name")


def test_a_slug_is_one_blueprints(stacks, seed, assert_problem):
    stacks.write(seed)
    assert_problem(stacks.write(seed), 409, "slug_taken", field="slug")


def test_all_are_listed_page_by_page(stacks, seed):
    for number in range(3):
        stacks.write(seed, f"stack-{number}")
    first = stacks.api.simulate_get("/internal/blueprints", params={"limit": 2}).json
    second = stacks.api.simulate_get("/internal/blueprints", params={"limit": 2, "cursor": first["next"]}).json
    assert [each["slug"] for each in (*first["items"], *second["items"])] == ["stack-2", "stack-1", "stack-0"]
    assert second["next"] is None


def test_a_change_is_checked_as_the_first_was_and_heeds_if_match(stacks, api, seed, assert_problem):
    tag = stacks.write(seed).headers["etag"]
    bad = copy.deepcopy(seed)
    bad["postCreate"] = ["nobody"]
    assert_problem(put(api, bad), 422, field="/spec/postCreate/0")
    seed["resources"][0]["cores"] = 4
    changed = put(api, seed, **{"If-Match": tag})
    assert changed.status_code == 200, changed.text
    assert (changed.json["name"], changed.json["spec"]) == ("Changed", seed)
    assert_problem(put(api, seed, **{"If-Match": tag}), 412)


def test_a_deleted_one_is_gone_and_its_slug_free(stacks, api, seed, assert_problem):
    stacks.write(seed)
    assert api.simulate_delete("/internal/blueprints/wordpress").status_code == 204
    assert_problem(api.simulate_get("/internal/blueprints/wordpress"), 404, "blueprint_not_found")
    assert_problem(api.simulate_delete("/internal/blueprints/wordpress"), 404)
    assert api.simulate_get("/internal/blueprints").json["items"] == []
    assert stacks.write(seed).status_code == 201


def test_tenants_users_read_them_and_write_none(stacks, api, seed):
    stacks.write(seed)
    for role, tenant in (("owner", "TENANT-123"), ("dev", OTHER)):
        headers = api.as_user(role, tenant)
        assert api.simulate_get("/internal/blueprints/wordpress", headers=headers).status_code == 200
        answer = api.simulate_delete("/internal/blueprints/wordpress", headers=headers)
        assert answer.status_code == 403
        body = {"name": "a", "slug": "mine", "spec": seed}
        assert api.simulate_post("/internal/blueprints", json=body, headers=headers).status_code == 403


def test_the_shipped_ones_are_seeded_once(with_roles, seed, sql, tmp_path):
    folder = tmp_path / "collections/ansible_collections/migra/cloudpods/blueprints"
    folder.mkdir(parents=True)
    (folder / "wordpress.json").write_text(json.dumps(seed))
    (folder / "broken.json").write_text(json.dumps({**seed, "postCreate": ["nobody"]}))
    with db.session():
        first, second = list(shipped.seed(with_roles)), list(shipped.seed(with_roles))
    assert first[1] == "blueprint wordpress: made"
    assert second[1] == "blueprint wordpress: was there"
    assert first[0].startswith("blueprint broken: not made: /spec/postCreate/0")
    assert sql("SELECT slug, name, description FROM blueprints") == [("wordpress", "WordPress", seed["description"])]
