"""Documents: the master spec's is good as it stands, and each fault is told with the place that it stands at."""

import json
from pathlib import Path

import pytest

from shim.blueprints import plan, spec
from shim.config import CHECKOUT
from shim.errors import Invalid


def refused(document, roles):
    with pytest.raises(Invalid) as raised:
        spec.read(document, roles)
    return {each["field"]: each["rule"] for each in raised.value.fields}


def changed(seed, path, value):
    *way, last = path
    at = seed
    for part in way:
        at = at[part]
    at[last] = value
    return seed


def test_the_master_specs_document_is_good(seed, roles):
    read = spec.read(seed, roles)
    assert [step.name for step in read.post_create] == seed["postCreate"]
    assert [resource.count for resource in read.resources] == [1, 1]


BAD = {
    "no count": (("resources", 1, "count"), 0, "/spec/resources/1/count", "greater than or equal to 1"),
    "too many": (("resources", 1, "count"), 11, "/spec/resources/1/count", "less than or equal to 10"),
    "text for a number": (("resources", 0, "cores"), "2", "/spec/resources/0/cores", "integer"),
    "unknown field": (("resources", 0, "color"), "red", "/spec/resources/0/color", "unknown field"),
    "a name with a slash": (("a/b~c",), 1, "/spec/a~1b~0c", "unknown field"),
    "version": (("version",), 2, "/spec/version", "must be one of: 1"),
    "kind": (("resources", 0, "kind"), "Vm", "/spec/resources/0/kind", "must be one of: 'CloudPod'"),
    "nothing": (("resources",), [], "/spec/resources", "at least 1"),
    "unknown role": (
        ("resources", 0, "dependsOn"),
        ["cache"],
        "/spec/resources/0/dependsOn/0",
        "no resource of the role cache",
    ),
    "itself": (("resources", 0, "dependsOn"), ["app"], "/spec/resources/0/dependsOn", "wait for each other: app → app"),
    "the same role": (("resources", 1, "role"), "app", "/spec/resources/1/role", "another resource has this role"),
    "placeholder": (
        ("resources", 0, "hostnamePattern"),
        "wp-{tenant}",
        "/spec/resources/0/hostnamePattern",
        "unknown placeholder {tenant}; known are {tenantSlug}, {role}, {index}",
    ),
    "half a placeholder": (("resources", 0, "hostnamePattern"), "wp-{role", "/spec/resources/0/hostnamePattern", "a brace"),
    "no name": (("resources", 0, "hostnamePattern"), "wp_{role}", "/spec/resources/0/hostnamePattern", "no DNS name"),
    "one name for two": (
        ("resources", 1, "hostnamePattern"),
        "WP-app-{tenantSlug}",
        "/spec/resources/1/hostnamePattern",
        "the same name as another",
    ),
    "one name for all": (("resources", 1, "count"), 2, "/spec/resources/1/hostnamePattern", "say {index}"),
    "unknown step": (("postCreate", 1), "configure-mail", "/spec/postCreate/1", "no role configure_mail"),
    "a path for a step": (("postCreate", 1), "../../etc", "/spec/postCreate/1", "match pattern"),
    "a step twice": (("postCreate", 1), "configure-wordpress", "/spec/postCreate/1", "listed already"),
    "steps in a circle": (("postCreate",), ["one", "other"], "/spec/postCreate", "come after each other"),
    "a step without its pods": (("postCreate",), ["on-the-moon"], "/spec/postCreate/0", "name its `targets`"),
    "an unknown target": (
        ("postCreate", 1),
        {"name": "configure-database", "targets": ["db", "moon"]},
        "/spec/postCreate/1/targets/1",
        "no resource of the role moon",
    ),
    "optional by nothing": (("resources", 1, "optional"), True, "/spec/resources/1", "belong together"),
    "a parameter's default": (
        ("parameters",),
        {"title": {"type": "string", "default": 1}},
        "/spec/parameters/title",
        "default must be of the type string",
    ),
    "a secret that all can read": (
        ("parameters",),
        {"password": {"secret": True, "default": "x"}},
        "/spec/parameters/password",
        "secret",
    ),
    "a parameter's name": (("parameters",), {"a-b": {}}, "/spec/parameters/a-b", "match pattern"),
    "an output": (("outputs",), {"url": "https://{domain}"}, "/spec/outputs/url", "unknown placeholder {domain}"),
    "the health of nobody": (("healthCheck",), {"role": "moon"}, "/spec/healthCheck/role", "no resource of the role moon"),
}


@pytest.mark.parametrize(("path", "value", "field", "rule"), BAD.values(), ids=BAD)
def test_a_fault_is_told_with_its_place(seed, roles, path, value, field, rule):
    wrong = refused(changed(seed, path, value), roles)
    assert rule in wrong[field], wrong


def test_a_circle_of_pods_names_them(seed, roles):
    seed["resources"][0]["dependsOn"], seed["resources"][1]["dependsOn"] = ["db"], ["app"]
    (rule,) = refused(seed, roles).values()
    assert "app" in rule
    assert "db" in rule


def test_a_step_whose_stack_lacks_a_pod_is_refused(seed, roles):
    del seed["resources"][1]
    wrong = refused(seed, roles)
    assert "needs pods of the role db" in wrong["/spec/postCreate/0"]
    assert "needs pods of the role db" in wrong["/spec/postCreate/1"]


def test_an_output_never_shows_a_secret(seed, roles):
    seed |= {"parameters": {"password": {"secret": True}}, "outputs": {"login": "{password}"}}
    assert list(refused(seed, roles)) == ["/spec/outputs/login"]


def test_every_fault_is_told_at_once(seed, roles):
    seed["resources"][0]["hostnamePattern"], seed["postCreate"][0] = "{x}", "nobody"
    assert set(refused(seed, roles)) == {"/spec/resources/0/hostnamePattern", "/spec/postCreate/0"}


def made(seed, roles, slug="acme", lacks=(), **given):
    return plan.make(spec.read(seed, roles), roles, slug, given, lambda needed: [name for name in needed if name in lacks])


def test_a_step_that_the_house_is_not_set_up_for_is_left_out(seed, roles):
    seed["postCreate"].append("name-it")
    whole = made(seed, roles)
    assert ("left_out" in whole.steps[-1], "name_key" in whole.secrets) == (False, True)
    lacking = made(seed, roles, lacks=("dns.server",))
    assert lacking.steps[:-1] == whole.steps[:-1]
    assert lacking.steps[-1]["left_out"] == "this house has not set dns.server"
    # Nobody would use it.
    assert "name_key" not in lacking.secrets


def test_the_steps_come_as_their_roles_need_them(seed, roles):
    steps = made(seed, roles).steps
    assert [(step["name"], step["role"], step["targets"]) for step in steps] == [
        ("configure-database", "configure_database", ["db"]),
        ("configure-wordpress", "configure_wordpress", ["app"]),
        ("create-dns-records", "create_dns_records", []),
    ]


def test_a_step_goes_where_it_is_told(seed, roles):
    seed["postCreate"][1] = {"name": "configure-database", "targets": ["app", "db"]}
    assert made(seed, roles).steps[0]["targets"] == ["app", "db"]


def test_the_pods_come_as_they_depend_on_each_other(seed, roles):
    seed["resources"][0] |= {"dependsOn": ["db"], "count": 2, "hostnamePattern": "{role}{index}-{tenantSlug}"}
    pods = made(seed, roles).pods
    assert [(pod.hostname, pod.number, pod.after) for pod in pods] == [
        ("wp-db-acme", 0, ()),
        ("app0-acme", 0, ("db",)),
        ("app1-acme", 1, ("db",)),
    ]


def test_what_a_role_speaks_of_as_secret_is_generated_each_time(seed, roles):
    first, second = made(seed, roles).secrets, made(seed, roles).secrets
    assert set(first) == set(second) == {"database_password"}
    assert first != second
    assert len(first["database_password"]) == 32
    assert first["database_password"].isalnum()


def test_parameters_have_their_defaults_and_secrets_are_none_of_them(seed, roles):
    seed["parameters"] = {
        "domain": {"required": True},
        "title": {"default": "Mine"},
        "admin_password": {"secret": True, "required": True},
    }
    seed["outputs"] = {"url": "https://{domain}/{title}?{tenantSlug}"}
    plain = made(seed, roles, domain="acme.example.com")
    assert plain.parameters == {"domain": "acme.example.com", "title": "Mine"}
    assert plain.outputs == {"url": "https://acme.example.com/Mine?acme"}
    assert len(plain.secrets["admin_password"]) == 32
    given = made(seed, roles, domain="a", admin_password="my own, good one")
    assert given.secrets["admin_password"] == "my own, good one"
    assert "admin_password" not in given.parameters


@pytest.mark.parametrize(
    ("given", "field"),
    [({}, "/parameters/domain"), ({"domain": 1}, "/parameters/domain"), ({"domain": "a", "x": 1}, "/parameters/x")],
)
def test_parameters_are_checked(seed, roles, given, field):
    seed["parameters"] = {"domain": {"required": True}}
    with pytest.raises(Invalid) as raised:
        made(seed, roles, **given)
    assert [each["field"] for each in raised.value.fields] == [field]


def test_an_optional_pod_is_there_when_its_parameter_says_so(seed, roles):
    cache = {"kind": "CloudPod", "role": "cache", "hostnamePattern": "c-{tenantSlug}", "cores": 1, "memoryMb": 256}
    seed["resources"].append({**cache, "optional": True, "enabledBy": "with_cache"})
    seed["resources"][0]["dependsOn"] = ["cache", "db"]
    seed["parameters"] = {"with_cache": {"type": "boolean", "default": False}}
    assert [pod.role for pod in made(seed, roles).pods] == ["db", "app"]
    assert made(seed, roles).pods[1].after == ("db",)
    assert {pod.role for pod in made(seed, roles, with_cache=True).pods} == {"db", "app", "cache"}


def test_a_step_goes_with_its_pods_and_one_that_needs_them_cannot_do_without(seed, roles):
    seed["resources"][1] |= {"optional": True, "enabledBy": "with_database"}
    seed["parameters"] = {"with_database": {"type": "boolean", "default": False}}
    with pytest.raises(Invalid, match="configure-wordpress needs pods of the role db"):
        made(seed, roles)
    del seed["postCreate"][0]
    assert [step["name"] for step in made(seed, roles).steps] == ["create-dns-records"]
    assert len(made(seed, roles, with_database=True).steps) == 2


def test_a_tenant_whose_slug_makes_a_name_too_long_is_told(seed, roles):
    with pytest.raises(Invalid, match="too long"):
        made(seed, roles, "x" * 60)


def test_a_name_that_one_tenants_slug_makes_another_pods_is_refused(seed, roles):
    seed["resources"][1]["hostnamePattern"] = "wp-app-acme"
    with pytest.raises(Invalid, match="both be called"):
        made(seed, roles)


SHIPPED = sorted((CHECKOUT / "collections/ansible_collections/migra/cloudpods/blueprints").glob("*.json"))


@pytest.mark.parametrize("file", SHIPPED, ids=[file.stem for file in SHIPPED])
def test_what_is_shipped_is_good(file: Path, settings):
    from shim.blueprints import roles

    document = json.loads(file.read_text())
    read = spec.read(document, roles.of(settings))
    assert [each.role for each in read.resources] == [each["role"] for each in document["resources"]]
    assert len(read.post_create) == len(document["postCreate"])
