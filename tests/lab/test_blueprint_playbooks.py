"""A blueprint on real pods, by ansible-playbook alone: a site that comes up under its name, and nothing left afterwards."""

from __future__ import annotations

import json
import re
import socket
from collections.abc import Iterator

import dns.reversename
import pytest

from tests.lab.real_node import RealNode, run
from tests.lab.site import ZONE, NameServer
from tests.stack import REPOSITORY

BLUEPRINTS = REPOSITORY / "collections/ansible_collections/migra/cloudpods/blueprints"
FIRST = 99700
DOMAIN = f"acme.{ZONE}"
TITLE = "Acme & Sons"
STACK = {"blueprint": "wordpress", "tenant_slug": "acme", "tenant_id": "TENANT-ACME", "first_vmid": FIRST}


@pytest.fixture(autouse=True)
def leave_no_pods(lab: RealNode) -> Iterator[None]:
    """Destroy what a test that failed has left."""
    yield
    for vmid in range(FIRST, FIRST + 4):
        if (lab.dir / f"etc/pve/lxc/{vmid}.conf").exists():
            run(lab.dir / "sbin/cloudpod-destroy.sh", vmid)


def test_wordpress_comes_up_under_its_name_and_goes_without_a_trace(lab: RealNode, names: NameServer) -> None:
    more = {**STACK, "cloudpod_dns": names.told(), "parameters": {"site_title": TITLE, "domain": DOMAIN, "cache": True}}
    made = lab.playbook("blueprint_deploy", **more)
    result = made["result"]
    assert result["outputs"] == {"url": f"https://{DOMAIN}/"}
    pods = {pod["role"]: pod for pod in result["pods"]}
    assert set(pods) == {"app", "db", "cache"}

    (address,) = names.ask(DOMAIN)
    assert address == pods["app"]["ip"]
    assert names.ask(dns.reversename.from_address(address), "PTR") == [f"wp-app-acme.{ZONE}."]
    status, page = names.visit(DOMAIN)
    assert " 200 " in status
    assert re.search(r"<title>Acme &#038; Sons|<title>Acme &amp; Sons", page), page[:2000]

    # The database lets nobody in but the site: this machine gets no further than its address.
    with socket.create_connection((pods["db"]["ip"], 3306), timeout=10) as line:
        assert b"is not allowed to connect" in line.recv(200)
    # What the site has read is in the Redis.
    kept = "REDISCLI_AUTH=$(cat /etc/cloudpods/cache-password) redis-cli dbsize"
    assert int(lab.ok("pct", "exec", pods["cache"]["vmid"], "--", "sh", "-c", kept)) > 0

    for check in (False, True):
        again = lab.playbook("blueprint_deploy", check=check, **more)["output"]
        assert not re.search(r"changed=[1-9]", again), again

    lab.playbook("blueprint_destroy", **more)
    assert [lab.traces(pod["vmid"]) for pod in pods.values()] == [[], [], []]
    assert names.ask(DOMAIN) == names.ask(f"wp-db-acme.{ZONE}") == []
    assert names.ask(f"_cloudpods.{DOMAIN}", "TXT") == []
    assert names.ask(dns.reversename.from_address(address), "PTR") == []


def test_the_smaller_blueprints_come_up(lab: RealNode, names: NameServer) -> None:
    more = {**STACK, "cloudpod_dns": names.told()}
    site = lab.playbook("blueprint_deploy", **{**more, "blueprint": "static-site"})["result"]
    assert site["outputs"] == {"url": f"https://web-acme.{ZONE}/"}
    assert "<h1>acme</h1>" in names.visit(f"web-acme.{ZONE}")[1]
    parameters = {"client_addresses": site["pods"][0]["ip"]}
    database = lab.playbook("blueprint_deploy", **{**more, "blueprint": "postgres-db", "parameters": parameters})["result"]
    again = lab.playbook("blueprint_deploy", **{**more, "blueprint": "postgres-db", "parameters": parameters})["output"]
    assert not re.search(r"changed=[1-9]", again), again
    assert names.ask(f"pg-acme.{ZONE}") == [database["pods"][0]["ip"]]
    # A pod that went another way leaves its names to the stack's undoing.
    lab.playbook("cloudpod_destroy", vmid=site["pods"][0]["vmid"], tenant_id=STACK["tenant_id"])
    lab.playbook("blueprint_destroy", **{**more, "blueprint": "static-site"})
    assert names.ask(dns.reversename.from_address(site["pods"][0]["ip"]), "PTR") == []
    lab.playbook("blueprint_destroy", **{**more, "blueprint": "postgres-db", "parameters": parameters})
    assert names.ask(f"web-acme.{ZONE}") == names.ask(f"pg-acme.{ZONE}") == []
    assert names.ask(f"_cloudpods.web-acme.{ZONE}", "TXT") == []


@pytest.mark.parametrize(
    ("blueprint", "parameters"),
    [("static-site", {}), ("postgres-db", {}), ("wordpress", {"cache": True})],
    ids=str,
)
def test_a_check_of_bare_pods_changes_nothing(lab: RealNode, names: NameServer, blueprint: str, parameters: dict) -> None:
    more = {**STACK, "blueprint": blueprint, "cloudpod_dns": names.told(), "parameters": parameters}
    lab.playbook("blueprint_deploy", check=True, **more)
    resources = json.loads((BLUEPRINTS / f"{blueprint}.json").read_text())["resources"]
    keys = {"cores": "cores", "memoryMb": "memory_mb", "swapMb": "swap_mb", "diskGb": "disk_gb"}
    for vmid, resource in enumerate(resources, FIRST):
        assert lab.traces(vmid) == []
        size = {keys[name]: value for name, value in resource.items() if name in keys} | {"auto_ip": True}
        hostname = resource["hostnamePattern"].format(tenantSlug="acme")
        lab.playbook("cloudpod_create", vmid=vmid, hostname=hostname, tenant_id=STACK["tenant_id"], **size)
    lab.playbook("blueprint_deploy", check=True, **more)
    for vmid, resource in enumerate(resources, FIRST):
        assert names.ask(f"{resource['hostnamePattern'].format(tenantSlug='acme')}.{ZONE}") == []
        brought = ("/etc/nginx", "/etc/postgresql", "/etc/mysql/mariadb.conf.d", "/etc/redis", "/etc/cloudpods")
        assert lab.pct("exec", vmid, "--", "ls", "-d", *brought).stdout == ""


def test_a_name_that_is_somebody_elses_is_refused(lab: RealNode, names: NameServer) -> None:
    more = {**STACK, "blueprint": "static-site", "cloudpod_dns": names.told(), "parameters": {"domain": f"ns.{ZONE}"}}
    refused = lab.playbook("blueprint_deploy", ok=False, **more)["output"]
    assert f"not this stack's: ns.{ZONE}" in refused
    assert "step create-dns-records on localhost" in refused
    lab.playbook("blueprint_destroy", **more)
    assert names.ask(f"ns.{ZONE}") == [names.address]
