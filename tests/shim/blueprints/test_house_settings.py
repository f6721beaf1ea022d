"""The master spec's document, unchanged, with the product's own roles: in a house with a name server, and in one without."""

import pytest

from shim.blueprints import configure
from shim.config import Settings

NAME_SERVER = {"dns_zone": "example.com", "dns_server": "192.0.2.53", "dns_key_name": "cloudpods", "dns_key_secret": "c2VjcmV0"}
STEPS = ["configure-database", "configure-wordpress", "create-dns-records"]


@pytest.mark.parametrize("house", [NAME_SERVER, {}], ids=["with a name server", "without"])
def test_the_master_specs_stack_stands_in_any_house(in_house, seed, house):
    stacks = in_house(**house)
    assert stacks.write(seed).status_code == 201
    made = stacks.deploy()
    for job_id in stacks.jobs(made).values():
        stacks.end(job_id)
    given = stacks.end(stacks.jobs(made)["BLUEPRINT"])
    played = STEPS if house else STEPS[:2]
    assert [step["name"] for step in given["stack"]["steps"]] == played
    after = stacks.get(made)
    assert after["status"] == "active"
    assert [step["name"] for step in after["steps"]] == STEPS
    assert [step["status"] for step in after["steps"]] == ["done"] * len(played) + ["left_out"] * (3 - len(played))
    assert (after["steps"][-1]["reason"] is None) is bool(house)
    # Names are taken away again only where they were given.
    stacks.api.simulate_delete(f"/internal/deployments/{made['id']}")
    assert ("BLUEPRINT" in stacks.jobs(made)) is bool(house)
    stacks.end_all(made)
    assert stacks.get(made)["status"] == "destroyed"


def test_what_is_not_set_is_named(in_house, seed):
    stacks = in_house()
    stacks.write(seed)
    needed = [f"CLOUDPODS_{name.upper()}" for name in NAME_SERVER]
    assert stacks.deploy()["steps"][-1]["reason"] == f"this house has not set {', '.join(needed)}"


def site(seed):
    """Return the document with a name and a user to choose."""
    named = {"domain": {"format": "hostname", "default": ""}, "user": {"pattern": "^[a-z]{3,8}$", "default": "admin"}}
    return {**seed, "parameters": {**named, "password": {"secret": True}}}


@pytest.mark.parametrize(
    ("domain", "whose"),
    [
        ("", "nobody's"),
        ("tenant-123.example.com", "own"),
        ("shop.Tenant-123.Example.com", "own"),
        ("shop.example.org", "another zone's"),
        ("notexample.com", "another zone's"),
        ("login.example.com", "the house's"),
        ("login", "the house's"),
        ("example.com", "the house's"),
        ("xtenant-123.example.com", "the house's"),
        ("tenant-123-shop.example.com", "the house's"),
        ("tenant-456.example.com", "the house's"),
        ("tenant-123.example.com.example.com", "the house's"),
    ],
)
@pytest.mark.parametrize("anything_goes", [False, True])
def test_in_the_zone_a_tenant_has_its_own_names_only(in_house, seed, assert_problem, domain, whose, anything_goes):
    stacks = in_house(**NAME_SERVER, dns_any_name=anything_goes)
    assert stacks.write(site(seed)).status_code == 201
    for where in ("?dryRun=1", ""):
        asked = {"tenantId": "TENANT-123", "parameters": {"domain": domain}}
        answer = stacks.api.send("POST", f"/blueprints/wordpress/deploy{where}", asked)
        if whose == "the house's" and not anything_goes:
            assert_problem(answer, 422, "name_not_yours", field="/parameters/domain")
        else:
            assert answer.status_code in (200, 202), answer.text


@pytest.mark.parametrize(("anything_goes", "below"), [(False, "tenant-123"), (True, "")])
def test_the_role_is_told_of_which_names_it_may_take(in_house, seed, anything_goes, below):
    stacks = in_house(**NAME_SERVER, dns_any_name=anything_goes)
    stacks.write(seed)
    made = stacks.deploy(name="blog")
    for job_id in stacks.jobs(made).values():
        stacks.end(job_id)
    given = stacks.end(stacks.jobs(made)["BLUEPRINT"])
    settings = Settings.model_construct(**{**Settings.model_construct().__dict__, **NAME_SERVER, "dns_any_name": anything_goes})
    assert configure.at_home(given, settings)["stack"]["settings"]["dns"]["only_below"] == below


@pytest.mark.parametrize(
    "parameters",
    [
        {"domain": "-"},
        {"domain": "shop.example.org\n"},
        {"domain": "a b"},
        {"user": "al"},
        {"user": "alice\n"},
        {"user": ""},
        {"user": 'x"; DROP'},
        {"password": "short"},
    ],
    ids=str,
)
def test_a_parameter_is_refused_before_anything_is_made(in_house, seed, sql, assert_problem, parameters):
    stacks = in_house()
    assert stacks.write(site(seed)).status_code == 201
    answer = stacks.api.send("POST", "/blueprints/wordpress/deploy", {"tenantId": "TENANT-123", "parameters": parameters})
    assert_problem(answer, 422, field=f"/parameters/{next(iter(parameters))}")
    assert sql.value("SELECT count(*) FROM cloud_pods") == 0


@pytest.mark.parametrize(
    "parameter",
    [
        {"pattern": "("},
        {"pattern": "(?=a)"},
        {"pattern": "(a{1000}){1000}"},
        {"pattern": "^a$", "default": "b"},
        {"pattern": "1", "type": "integer"},
        {"format": "hostname", "default": "-"},
        {"format": "hostname", "type": "boolean"},
        {"format": "email"},
    ],
    ids=str,
)
def test_a_rule_that_is_none_is_refused_where_it_stands(in_house, seed, assert_problem, parameter):
    answer = in_house().write({**seed, "parameters": {"first": {}, "that": parameter}})
    assert_problem(answer, 422, "invalid_blueprint")
    assert all(each["field"].startswith("/spec/parameters/that") for each in answer.json["errors"])
