"""Blueprints by playbook: what a document comes to, and its steps over pods of the simulated node, with a site's own roles."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ansible_collections.migra.cloudpods.plugins.module_utils import _blueprint, _names

from tests.collection.conftest import COLLECTIONS

SHIPPED = COLLECTIONS / "ansible_collections/migra/cloudpods/blueprints"
POD = {"kind": "CloudPod", "cores": 1, "memoryMb": 256}
ROLES = {
    "last": {"runs_on": ["app"], "after": ["first"], "requires": ["db"]},
    "first": {"runs_on": ["db"]},
    "here": {"runs_on": [], "undo": True},
    "round": {"runs_on": ["app"], "after": ["about"]},
    "about": {"runs_on": ["app"], "after": ["round"]},
}
SECRET = "hunter2-hunter2"


def document(*steps: object, **more: object) -> dict:
    """Return a blueprint with an app and a db pod."""
    resources = [{**POD, "role": role, "hostnamePattern": f"{role}-{{tenantSlug}}"} for role in ("app", "db")]
    return {"version": 1, "resources": resources, "postCreate": list(steps), **more}


def plan(blueprint: dict, **given: object) -> dict:
    """Return what a blueprint comes to for the tenant acme."""
    return _blueprint.plan(blueprint, ROLES.get, "acme", given)


def test_steps_stand_in_the_order_that_their_roles_ask_for():
    found = plan(document("last", "here", "first"))
    assert [step["name"] for step in found["steps"]] == ["here", "first", "last"]
    assert [step["targets"] for step in found["steps"]] == [[], ["db"], ["app"]]


def test_a_step_is_left_out_for_what_the_house_has_not_set():
    blueprint, roles = document("named", "first"), {**ROLES, "named": {"settings": ["dns.zone", "dns.server", "pod_key_file"]}}
    for house, lacks in [
        ({}, ["dns.zone", "dns.server", "pod_key_file"]),
        ({"dns": {"zone": "example.com", "server": ""}, "pod_key_file": "/key"}, ["dns.server"]),
    ]:
        found = _blueprint.plan(blueprint, roles.get, "acme", {}, house)
        assert found["left_out"] == {"named": lacks}
        assert [step["name"] for step in found["steps"]] == ["first"]
    whole = {"dns": {"zone": "example.com", "server": "10.1.10.3"}, "pod_key_file": "/key"}
    assert [step["name"] for step in _blueprint.plan(blueprint, roles.get, "acme", {}, whole)["steps"]] == ["named", "first"]


def test_pods_come_after_what_they_depend_on_and_an_optional_one_only_if_asked_for():
    blueprint = document(parameters={"cache": {"type": "boolean", "default": False}})
    blueprint["resources"][0].update(dependsOn=["db", "cache"], count=2, hostnamePattern="app{index}-{tenantSlug}")
    blueprint["resources"].append({**POD, "role": "cache", "hostnamePattern": "cache", "optional": True, "enabledBy": "cache"})
    assert [pod["hostname"] for pod in plan(blueprint)["pods"]] == ["db-acme", "app0-acme", "app1-acme"]
    assert [pod["hostname"] for pod in plan(blueprint, cache=True)["pods"]] == ["db-acme", "cache", "app0-acme", "app1-acme"]


@pytest.mark.parametrize(
    ("blueprint", "given", "said"),
    [
        (document("nope"), {}, "step nope has no role nope"),
        (document("round", "about"), {}, "come after each other"),
        (
            document({"name": "last", "targets": ["app"]}, resources=document()["resources"][:1]),
            {},
            "needs pods of the role db",
        ),
        (document(), {"colour": "red"}, "no parameter colour"),
        (document(parameters={"domain": {"required": True}}), {}, "missing parameter: domain"),
        (document(parameters={"word": {"secret": True}}), {"word": "x"}, "word is a secret: give it as secrets: {word: …}"),
        (document(parameters={"user": {"pattern": "^[a-z]+$"}}), {"user": "Root"}, "user must match ^[a-z]+$"),
        (document(parameters={"user": {"pattern": "^[a-z]+$"}}), {"user": 7}, "user must match ^[a-z]+$"),
        (document(parameters={"to": {"format": "hostname"}}), {"to": "a b"}, "to must be the name of a host"),
        (document(parameters={"to": {"format": "hostname"}}), {"to": "a.example.com\n"}, "to must be the name of a host"),
        (document(resources=[{**POD, "role": "a", "hostnamePattern": "x", "count": 2}]), {}, "two pods would have one name"),
        (document(resources=[{**POD, "role": "a", "hostnamePattern": "{colour}"}]), {}, "unknown placeholder {colour}"),
    ],
)
def test_what_no_stack_can_be_made_of_is_refused(blueprint, given, said):
    with pytest.raises(_blueprint.BadBlueprint, match=re.escape(said)):
        plan(blueprint, **given)


def test_what_fits_its_pattern_and_format_is_taken():
    declared = {"user": {"pattern": "[a-z]+"}, "domain": {"format": "hostname", "default": ""}}
    assert plan(document(parameters=declared), user="Root1")["parameters"] == {"user": "Root1", "domain": ""}
    assert plan(document(parameters=declared), domain="Shop.example.com")["parameters"] == {"domain": "Shop.example.com"}


def test_a_pod_of_that_name_is_the_stacks_only_if_it_is_the_tenants():
    rows = [
        {"vmid": 9200, "hostname": "db-acme", "owner": {"tenant": "B", "pod": None}, "ip": "10.1.10.50"},
        {"vmid": 9202, "hostname": "app-acme", "owner": {"tenant": "A", "pod": None}, "ip": "10.1.10.51"},
    ]
    found = _blueprint.numbered(plan(document())["pods"], rows, [{"vmid": 9201}], "A", 9200)
    assert [(pod["hostname"], pod["vmid"], pod["there"], pod["ip"]) for pod in found] == [
        ("app-acme", 9202, True, "10.1.10.51"),
        ("db-acme", 9203, False, ""),
    ]


def test_hosts_and_aliases_become_records():
    hosts = [{"name": "Web", "addresses": ["10.1.10.50", "2001:db8::1"]}]
    aliases = [{"name": "www.example.com", "target": "web"}, {"name": "www.example.org", "target": "web"}]
    assert _names.records(hosts, aliases, "example.com", "10.1.10.in-addr.arpa") == [
        {"name": "web.example.com", "type": "A", "values": ["10.1.10.50"]},
        {"name": "web.example.com", "type": "AAAA", "values": ["2001:db8::1"]},
        {
            "name": "50.10.1.10.in-addr.arpa",
            "type": "PTR",
            "values": ["web.example.com."],
            "address": "10.1.10.50",
            "zone": "10.1.10.in-addr.arpa",
        },
        {"name": "www.example.com", "type": "CNAME", "values": ["web.example.com."]},
    ]
    apex = _names.records(hosts[:1], [{"name": "example.com", "target": "web"}], "example.com", "")
    assert [(each["name"], each["type"]) for each in apex[2:]] == [("example.com", "A"), ("example.com", "AAAA")]
    for name in ("a b", "-a", "a..b", 'a"', "ä", ""):
        with pytest.raises(_names.BadName):
            _names.records([{"name": name, "addresses": []}], [], "example.com", "")


def test_the_zone_of_an_address_can_be_that_of_its_network():
    hosts = [{"name": "web", "addresses": ["10.1.10.50", "192.0.2.7", "2001:db8::1"]}]
    found = [each for each in _names.records(hosts, [], "example.com", "auto") if each["type"] == "PTR"]
    assert [(each["name"], each["zone"]) for each in found] == [
        ("50.10.1.10.in-addr.arpa", "10.1.10.in-addr.arpa"),
        ("7.2.0.192.in-addr.arpa", "2.0.192.in-addr.arpa"),
    ]


def test_an_alias_that_is_a_host_leads_nowhere_else():
    hosts = [{"name": "web", "addresses": ["10.1.10.50"]}, {"name": "db", "addresses": ["10.1.10.51"]}]
    own = _names.records(hosts, [{"name": "web.example.com", "target": "web"}], "example.com", "")
    assert [(each["name"], each["type"]) for each in own] == [("web.example.com", "A"), ("db.example.com", "A")]
    with pytest.raises(_names.BadName, match=re.escape("db.example.com is the name of a host of this stack")):
        _names.records(hosts, [{"name": "DB.example.com", "target": "web"}], "example.com", "")


def test_names_are_told_whatever_is_known_of_the_hosts():
    hosts = [{"name": "web", "addresses": []}, {"name": "a b"}, {"name": "db.example.com"}]
    aliases = [{"name": name} for name in ("Shop.example.com", "a.org", "shop", "x\n", "example.com")]
    told = _names.names(hosts, aliases, "example.com")
    assert told == ["web.example.com", "db.example.com", "shop.example.com", "example.com"]


@pytest.mark.parametrize("file", sorted(SHIPPED.glob("*.json")), ids=lambda file: file.stem)
def test_every_shipped_blueprint_plays_roles_that_there_are(playbook, file):
    done = playbook("blueprint_deploy.yml", "--check", *_words(file.stem, node="lab1", tenant="TENANT-SHIPPED"))
    assert "failed=0" in done.stdout
    assert json.loads(file.read_text())["resources"][0]["hostnamePattern"].endswith("{tenantSlug}")


def _words(blueprint: str | Path, *, node: str, tenant: str) -> list[str]:
    said = {"blueprint": str(blueprint), "tenant_slug": "acme", "tenant_id": tenant, "node": node}
    return ["-e", json.dumps(said)]


@pytest.fixture
def stack(tmp_path: Path, fresh_lab: Path, fresh_playbook: Callable) -> Callable:
    """Return a function that plays a playbook of blueprints over pods of a fresh node, whose roles write down what they do."""
    log = tmp_path / "log"
    for role, meta in {
        "mark_db": {"runs_on": ["db"], "undo": True, "variables": {"mark_db_word": "{{ stack.secrets.word }}"}},
        "mark_app": {"runs_on": ["app"], "after": ["mark_db"], "requires": ["db"], "undo": True,
                     "variables": {"mark_app_db": "{{ (stack.pods | selectattr('role', 'eq', 'db') | first).ip }}"},
                     "outputs": {"database": "{{ mark_app_db }}"}},
    }.items():  # fmt: skip
        folder = tmp_path / "roles" / role
        for name in ("main", "undo"):
            line = {
                "ansible.builtin.shell": {"cmd": f"echo {name} {role} {{{{ inventory_hostname }}}} >>{log}"},
                "changed_when": name == "undo",
            }
            fails = {
                "ansible.builtin.command": {"argv": ["false", "{{ stack.secrets.word }}"]},
                "when": f"'{role}' == fail_in | default('')",
            }
            told = {
                "ansible.builtin.fail": {"msg": "it is {{ stack.secrets.word }}"},
                "when": f"'{role}' == tell_in | default('')",
            }
            (folder / "tasks").mkdir(parents=True, exist_ok=True)
            (folder / f"tasks/{name}.yml").write_text(json.dumps([fails, told, line]))
        (folder / "meta").mkdir()
        (folder / "meta/blueprint.yml").write_text(json.dumps(meta))
    (tmp_path / "two.json").write_text(json.dumps(document("mark-app", "mark-db", parameters={"word": {"secret": True}})))

    def play(verb: str, *words: str, ok: bool = True, **more: object) -> str:
        said = {"cloudpod_roles_dir": str(tmp_path / "roles"), "secrets": {"word": SECRET}, **more}
        options = [*_words(tmp_path / "two.json", node="lab1", tenant="TENANT-A"), "-e", json.dumps(said), *words]
        done = fresh_playbook(f"blueprint_{verb}.yml", *options, check=False, ANSIBLE_SHOW_CUSTOM_STATS="1")
        assert (done.returncode == 0) is ok, done.stdout + done.stderr
        return done.stdout + done.stderr

    play.log = lambda: log.read_text().splitlines() if log.exists() else []
    return play


def test_a_stack_is_made_found_again_and_destroyed(stack, fresh_lab):
    first = stack("deploy")
    assert stack.log() == ["main mark_db db-acme", "main mark_app app-acme"]
    assert re.search(r"database: 10\.1\.10\.\d+", first)
    # Whose its names are: two tenants may have one slug.
    assert "deployment: two-acme-TENANT-A" in first
    again = stack("deploy")
    assert "changed=0" in again
    assert not re.search(r"changed=[1-9]", again)
    stack("destroy")
    assert stack.log()[4:] == ["undo mark_app app-acme", "undo mark_db db-acme"]
    assert not list((fresh_lab / "lab1/etc/pve/nodes/lab1/lxc").glob("92*.conf"))
    assert not re.search(r"changed=[1-9]", stack("destroy"))


@pytest.mark.parametrize("how", ["fail_in", "tell_in"])
def test_a_step_that_fails_is_named_ends_the_run_and_tells_no_secret(stack, how):
    failed = stack("deploy", ok=False, **{how: "mark_db"})
    # What a role's own tasks show is the role's to hide.
    told = re.findall(r'msg.*?"?step mark-db on db-acme: .*?"(?=,|\n|$)|msg: .*step mark-db on db-acme: .*', failed)
    assert told
    assert SECRET not in " ".join(told)
    assert stack.log() == []
    stack("deploy", "-e", "from_step=mark-app")
    assert stack.log() == ["main mark_app app-acme"]


def test_a_secret_that_nobody_gave_is_named(stack):
    said = stack("deploy", ok=False, secrets={})
    assert "step mark-db on db-acme" in said
    assert "it needs secrets.word, which nobody gave" in said, said
    assert stack.log() == []


@pytest.fixture
def closed_port() -> Iterator[int]:
    """Lend a port of this machine on which nobody listens."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


def test_a_pod_that_never_lets_in_is_named_and_no_step_is_begun(playbook, tmp_path, closed_port):
    mark = tmp_path / "roles/mark"
    for part, text in {"meta/blueprint.yml": {}, "tasks/main.yml": [{"ansible.builtin.file": {"path": str(tmp_path / "begun"),
                       "state": "touch", "mode": "0600"}}]}.items():  # fmt: skip
        (mark / part).parent.mkdir(parents=True)
        (mark / part).write_text(json.dumps(text))
    pod = {"index": 0, "host_key": "ssh-ed25519 " + "A" * 64}
    said = {
        "deployment": "d",
        "pods": [
            {**pod, "role": "app", "hostname": "app-acme", "node": "elsewhere", "ip": "192.0.2.1"},
            # In a simulated pod of the lab's node there is nobody to wait for.
            {**pod, "role": "db", "hostname": "db-acme", "node": "lab1", "ip": "192.0.2.2"},
        ],
        "steps": [{"name": "mark", "role": "mark", "targets": ["db"]}],
        # All that is reached is this machine.
        "settings": {
            "roles_dir": str(tmp_path / "roles"),
            "wait_s": 3,
            "jump": {"host": "127.0.0.1", "port": closed_port, "known_hosts": "/dev/null"},
        },
    }
    done = playbook("blueprint_configure.yml", "-e", json.dumps({"stack": said}), check=False)
    assert done.returncode != 0
    assert "app-acme (192.0.2.1) did not let us in by SSH within 3 s: " in done.stdout, done.stdout + done.stderr
    assert not (tmp_path / "begun").exists()


def test_a_step_that_no_pod_is_there_for_is_not_done(stack, playbook, tmp_path):
    key = "ssh-ed25519 " + "A" * 64
    pods = [{"role": "db", "index": 0, "hostname": "db-acme", "node": "lab1", "ip": "192.0.2.2", "host_key": key}]
    settings = {"roles_dir": str(tmp_path / "roles")}
    for step in ({"targets": ["web", "app"]}, {}):
        steps = [{"name": "mark-app", "role": "mark_app", **step}]
        said = {"deployment": "d", "pods": pods, "steps": steps, "settings": settings}
        done = playbook("blueprint_configure.yml", "-e", json.dumps({"stack": said}), check=False)
        assert done.returncode != 0
        printed = " ".join((done.stdout + done.stderr).split())
        assert f"runs on pods of the role {', '.join(step.get('targets', ['app']))}, and the stack has none" in printed
        playbook("blueprint_configure.yml", "-e", json.dumps({"stack": said, "undo": True}))
    assert stack.log() == []


def test_pods_that_are_gone_are_not_in_the_way_of_those_that_are_not(stack, fresh_playbook):
    stack("deploy")
    fresh_playbook("cloudpod_destroy.yml", "-e", json.dumps({"node": "lab1", "vmid": 9200}))
    stack("destroy")
    assert stack.log()[2:] == ["undo mark_db db-acme"]


def test_a_step_that_there_is_not_is_refused(stack):
    assert "there is no step nope; the steps are mark-db, mark-app" in stack("deploy", "-e", "from_step=nope", ok=False)


def test_another_tenants_pod_of_that_name_is_left_alone(stack, fresh_playbook):
    words = {"vmid": 9200, "hostname": "db-acme", "tenant_id": "TENANT-B", "cores": 1, "memory_mb": 256, "node": "lab1"}
    fresh_playbook("cloudpod_create.yml", "-e", json.dumps(words))
    stack("deploy")
    stack("destroy")
    left = fresh_playbook("cloudpod_create.yml", "-e", json.dumps(words), "--check")
    assert "changed=0" in left.stdout
