"""The names of a stack: the role create_dns_records, and the playbook that calls it, told to a name server that may fail."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

import dns.rcode
import pytest

from tests.collection.name_server import NameServer, served

OWNER = "deployment-1"
ZONE = "example.com"
STEP = {"name": "create-dns-records", "role": "create_dns_records", "targets": []}


@pytest.fixture
def server() -> Iterator[NameServer]:
    """Serve a zone and its reverse zone, both empty."""
    with served() as one:
        yield one


@pytest.fixture
def names(playbook: Callable, server: NameServer) -> Callable[..., str]:
    """Return a function that plays the step over a stack, or undoes it, and returns what was printed.

    Its pods are all gone: here the name server is what matters.
    """

    def play(*pods: dict, domain: str = "", undo: bool = False, ok: bool = True, **dns: object) -> str:
        stack = {
            "deployment": OWNER,
            "parameters": {"domain": domain},
            "pods": pods,
            "steps": [STEP],
            "settings": {"dns": {**server.told(), **dns}},
        }
        words = ["-e", json.dumps({"stack": stack, "undo": undo})]
        done = playbook("blueprint_configure.yml", *words, check=False)
        assert (done.returncode == 0) is ok, done.stdout + done.stderr
        return " ".join((done.stdout + done.stderr).split())

    return play


@pytest.fixture
def role(playbook: Callable, server: NameServer, tmp_path) -> Callable[..., str]:
    """Return a function that plays the role for hosts and aliases, without any stack."""

    def play(hosts: dict[str, str], aliases: dict[str, str] | None = None, *, ok: bool = True, **more: object) -> str:
        told = {f"create_dns_records_{name}": value for name, value in {**server.told(), "owner": OWNER, **more}.items()}
        told["create_dns_records_hosts"] = [{"name": name, "addresses": [ip]} for name, ip in hosts.items()]
        told["create_dns_records_aliases"] = [{"name": name, "target": target} for name, target in (aliases or {}).items()]
        task = {"ansible.builtin.include_role": {"name": "migra.cloudpods.create_dns_records"}, "vars": told}
        book = tmp_path / "names.yml"
        book.write_text(json.dumps([{"hosts": "localhost", "connection": "local", "gather_facts": False, "tasks": [task]}]))
        done = playbook(str(book), check=False)
        assert (done.returncode == 0) is ok, done.stdout + done.stderr
        return " ".join((done.stdout + done.stderr).split())

    return play


def gone(hostname: str, ip: str | None = None) -> dict:
    """Return a pod that is not there any more, as the control plane tells of it."""
    return {"hostname": hostname, "ip": ip, "there": False}


def test_names_outlive_no_pod(role, names, server):
    role({"web-acme": "10.1.10.60", "db-acme": "10.1.10.61"}, {"acme.example.com": "web-acme", "acme.example.org": "web-acme"})
    assert server.has["acme.example.com", "CNAME"] == ["web-acme.example.com."]
    assert server.has["60.10.1.10.in-addr.arpa", "PTR"] == ["web-acme.example.com."]
    # Since then: another address of ours with a PTR of its own, an IPv6 one, and the last known one is somebody else's by now.
    server.has |= {
        ("web-acme.example.com", "A"): ["10.1.10.70"],
        ("web-acme.example.com", "AAAA"): ["2001:db8::70"],
        ("70.10.1.10.in-addr.arpa", "PTR"): ["web-acme.example.com."],
        ("61.10.1.10.in-addr.arpa", "PTR"): ["mail.example.com."],
    }
    names(gone("web-acme"), gone("db-acme", "10.1.10.61"), domain="acme.example.com", undo=True)
    assert server.names() == {"60.10.1.10.in-addr.arpa", "61.10.1.10.in-addr.arpa"}


def test_a_name_goes_where_no_pod_is_known(role, names, server):
    role({"web-acme": "10.1.10.60"}, {"acme.example.com": "web-acme"})
    names(domain="acme.example.com", undo=True)
    assert server.names() == {"60.10.1.10.in-addr.arpa", "web-acme.example.com", "_cloudpods.web-acme.example.com"}
    names(gone("web-acme"), domain="no name", undo=True, reverse_zone="")
    assert server.names() == set()


def test_a_pod_that_is_not_there_cannot_be_configured(names, server):
    assert "these pods are not there: web-acme" in names(gone("web-acme"), ok=False)


def test_what_stands_there_already_is_somebody_elses(role, server):
    server.has |= {
        ("dangling.example.com", "CNAME"): ["nowhere.example.com."],
        ("_cloudpods.promised.example.com", "TXT"): ["deployment-2"],
        ("mail.example.com", "MX"): ["10 mx.example.com."],
        # Nothing stands at free itself.
        ("shop.free.example.com", "A"): ["10.1.10.9"],
    }
    before = dict(server.has)
    hosts = dict.fromkeys(("dangling", "promised", "mail", "free"), "10.1.10.60")
    said = role(hosts, ok=False)
    assert "not this stack's: dangling.example.com, promised.example.com, mail.example.com" in said
    assert server.has == before
    role({"free": "10.1.10.60"})
    assert server.has["free.example.com", "A"] == ["10.1.10.60"]


@pytest.mark.parametrize("words", [["deployment-2"], [OWNER, "deployment-2"], []])
def test_two_stacks_that_mark_a_name_at_once_do_not_both_have_it(role, names, server, words):
    mark = ("_cloudpods.web.example.com", "TXT")

    def other() -> None:
        if server.has.pop(mark, None):
            server.has |= {mark: words} if words else {}
            server.after_update = lambda: None

    server.after_update = other
    assert "web.example.com was marked by another stack in the same moment" in role({"web": "10.1.10.60"}, ok=False)
    assert server.names() == ({mark[0]} if words else set())
    if words:
        names(gone("web", "10.1.10.60"), undo=True)
        assert server.has[mark] == ["deployment-2"]


def test_a_mark_that_cannot_be_read_is_not_taken_for_none(role, names, server):
    role({"web-acme": "10.1.10.60"})
    before = dict(server.has)
    for fault, why in {dns.rcode.SERVFAIL: "cannot tell TXT of", None: "does not answer for TXT of"}.items():
        server.faults = {"_cloudpods.web-acme.example.com": fault}
        said = names(gone("web-acme", "10.1.10.60"), undo=True, ok=False)
        assert "step create-dns-records on localhost" in said
        assert f"{why} _cloudpods.web-acme.example.com: " in said
        assert server.has == before
    server.faults = {}
    names(gone("web-acme", "10.1.10.60"), undo=True)
    assert server.names() == set()


def test_inside_the_zone_a_tenant_has_its_own_names_only(role, server):
    before = dict(server.has)
    for alias in ("globex.example.com", "notacme.example.com", "acme.shop.example.com", "www", "example.com"):
        said = role({"web-acme": "10.1.10.60"}, {alias: "web-acme"}, only_below="acme", ok=False)
        assert "is not yours to take: inside example.com a stack of acme may be called acme.example.com or something" in said
        assert server.has == before
    aliases = dict.fromkeys(("Acme.example.com", "www.acme.example.com", "a.org"), "web-acme")
    role({"web-acme": "10.1.10.60"}, aliases, only_below="acme")
    assert ("acme.example.com", "CNAME") in server.has
    assert ("www.acme.example.com", "CNAME") in server.has


def test_a_word_that_no_mark_can_hold_is_refused(role, server):
    assert "without quotes and backslashes" in role({"web": "10.1.10.60"}, owner='a"b', ok=False)
    assert server.names() == set()


def test_addresses_have_the_zones_of_their_networks(role, server):
    role({"web": "10.1.10.60", "far": "192.0.2.1"}, reverse_zone="auto")
    assert server.has["60.10.1.10.in-addr.arpa", "PTR"] == ["web.example.com."]
    assert server.has["far.example.com", "A"] == ["192.0.2.1"]
