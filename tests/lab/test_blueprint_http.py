"""Stacks by HTTP on real pods: from one order to a site that visitors find by its name, and away again."""

from __future__ import annotations

import re
from collections.abc import Iterator

import dns.reversename
import pytest

from tests.lab.control_plane import control_plane
from tests.lab.real_node import RealNode
from tests.lab.site import ZONE, NameServer
from tests.stack import OTHER_TENANT, TENANT, Database, Stack, wait_until
from tests.stacks import SEED

# Two sites are made of packages, on a machine that may have more to do.
pytestmark = pytest.mark.timeout(1800)
OVER = ("active", "failed", "rolled_back", "destroyed")
DEADLINE_S = 1500


@pytest.fixture(scope="module")
def stack(lab: RealNode, names: NameServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """Return a running stack whose house has a name server, its key in a file."""
    key = tmp_path_factory.mktemp("house") / "dns-key"
    key.touch(0o600)
    key.write_text(names.key)
    told = {f"CLOUDPODS_DNS_{name.upper()}": value for name, value in names.told().items() if name != "key_secret"}
    house = {**told, "CLOUDPODS_DNS_KEY_SECRET_FILE": str(key), "CLOUDPODS_POD_KEY_FILE": str(lab.dir / "ssh/id_ed25519")}
    with control_plane(lab, **house) as running:
        yield running


def over(stack: Stack, deployment: dict) -> dict:
    """Wait until a deployment is over with what it does; return it."""
    path = f"/internal/deployments/{deployment['id']}"
    wait_until(lambda: stack.get(path)["status"] in OVER, f"deployment {deployment['id']} is over", DEADLINE_S)
    return stack.get(path)


def deployed(stack: Stack, slug: str, **order: object) -> dict:
    """Deploy a blueprint, which must stand; return the deployment."""
    answer = stack.post(f"/internal/blueprints/{slug}/deploy", **order)
    assert answer.status_code == 202, answer.text
    made = over(stack, answer.json()["deployment"])
    assert made["status"] == "active", made["error"]
    return made


def destroyed(lab: RealNode, stack: Stack, names: NameServer, made: dict) -> None:
    """Destroy a deployment, of which nothing may be left: container, name, quota, share of the node."""
    stack.delete(f"/internal/deployments/{made['id']}")
    assert over(stack, made)["status"] == "destroyed"
    for pod in made["pods"]:
        assert lab.traces(pod["vmid"]) == []
        assert names.ask(f"{pod['hostname']}.{ZONE}") == []
        assert names.ask(f"_cloudpods.{pod['hostname']}.{ZONE}", "TXT") == []
        assert names.ask(dns.reversename.from_address(pod["ip"]), "PTR") == []
    used = Database(stack)(
        "SELECT used_cloud_pods, used_cpu_cores, used_ram_mb, used_disk_gb FROM tenant_quotas WHERE tenant_id = %s",
        made["tenantId"],
    )
    assert used == [(0, 0, 0, 0)]
    assert Database(stack)("SELECT count(*) FROM cloud_pod_allocations WHERE tenant_id = %s", made["tenantId"]) == [(0,)]


def played_again(lab: RealNode, stack: Stack, names: NameServer, made: dict) -> str:
    """Play the deployment's steps once more by hand, with the secrets that it has; return what was printed."""
    ask = Database(stack)
    ((secrets, slug),) = ask(
        "SELECT d.secrets, t.slug FROM blueprint_deployments d JOIN tenants t ON t.id = d.tenant_id WHERE d.id = %s", made["id"]
    )
    columns = ("vmid", "host_key", "cores", "memory_mb")
    found = [dict(zip(columns, row, strict=True)) for row in ask(f"SELECT {', '.join(columns)} FROM cloud_pods")]
    more = {row["vmid"]: row for row in found}
    again = lab.playbook(
        "blueprint_configure",
        stack={
            "deployment": made["id"],
            "blueprint": made["blueprint"],
            "tenant_id": made["tenantId"],
            "tenant_slug": slug,
            "parameters": made["parameters"],
            "secrets": secrets,
            "settings": {"dns": names.told(), "pod_key_file": str(lab.dir / "ssh/id_ed25519")},
            "pods": [{**pod, **more[pod["vmid"]]} for pod in made["pods"]],
            "steps": [{name: step[name] for name in ("name", "role", "targets")} for step in made["steps"]],
        },
    )
    return str(again["output"])


def test_wordpress_from_one_order(lab: RealNode, stack: Stack, names: NameServer) -> None:
    domain, title = f"shop.{TENANT.lower()}.{ZONE}", "Anna's shop"
    made = deployed(stack, "wordpress", tenantId=TENANT, parameters={"domain": domain, "site_title": title})
    assert made["outputs"]["url"] == f"https://{domain}/"
    assert [(step["name"], step["status"]) for step in made["steps"]] == [
        ("configure-database", "done"),
        ("configure-wordpress", "done"),
        ("create-dns-records", "done"),
    ]
    status, page = names.visit(domain)
    assert " 200 " in status
    assert re.search(r"<title>Anna(&#8217;|&#039;)s shop", page), page[:2000]

    again = played_again(lab, stack, names, made)
    assert not re.search(r"changed=[1-9]", again), again
    destroyed(lab, stack, names, made)
    assert names.ask(domain) == []


def test_the_master_specs_document_as_it_stands(lab: RealNode, stack: Stack, names: NameServer) -> None:
    written = stack.post("/internal/blueprints", name="Theirs", slug="theirs", spec=SEED)
    assert written.status_code == 201, written.text
    made = deployed(stack, "theirs", tenantId=OTHER_TENANT)
    slug = OTHER_TENANT.lower()
    status, page = names.visit(f"wp-app-{slug}.{ZONE}")
    assert " 200 " in status
    assert f"<title>{slug}" in page, page[:2000]
    destroyed(lab, stack, names, made)
