"""Pods as hosts: from recorded answers of the API over real HTTP, from a lab node's own script, and over a real SSH."""

from __future__ import annotations

import collections
import json
import os
import shlex
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from ansible_collections.migra.cloudpods.plugins.module_utils import _inventory as inv

from tests.sshd import Sshd, make_key, skip_without_sshd

REPOSITORY = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ7p0q0Yk3oXv0m2bq1WkYw0Q5y5l6f7h8j9k0l1m2n3"
TOKEN = "cpods_secret"


def item(vmid, **other):
    """Return a pod as the API tells it."""
    facts = {
        "id": f"pod-{vmid}",
        "tenantId": "TENANT-123",
        "vmid": vmid,
        "hostname": f"web{vmid}",
        "ip": f"10.1.10.{vmid % 200}",
    }
    where = {"region": "migra-us-east-1", "node": "lab1", "status": "active", "powerState": "running", "memoryMb": 2048}
    return {**facts, **where, "hostKey": KEY, "role": None, "blueprint": None, **other}


class Recorded:
    """An API on loopback that answers with these pods, two a page, and keeps what it was asked."""

    def __init__(self) -> None:
        self.items: list[dict] = []
        self.asked: list[tuple[str, dict]] = []
        self.status = 200
        self.body: bytes | None = None
        recorded = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                recorded.answer(self)

            def log_message(self, *words: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        query = {key: value[0] for key, value in parse_qs(urlsplit(request.path).query).items()}
        self.asked.append((urlsplit(request.path).path, query))
        trusted = request.headers["Authorization"] == f"Bearer {TOKEN}"
        request.send_response(self.status if trusted else 401)
        request.send_header("Location", "/elsewhere")
        request.end_headers()
        at = int(query.get("cursor", 0))
        mine = [each for each in self.items if each["status"] == query.get("status")]
        page = {"items": mine[at : at + 2], "next": str(at + 2) if len(mine) > at + 2 else None}
        request.wfile.write(self.body if self.body is not None else json.dumps(page).encode())


@pytest.fixture
def api() -> Iterator[Recorded]:
    """Return a recorded API."""
    recorded = Recorded()
    yield recorded
    recorded.server.shutdown()
    recorded.server.server_close()


class Run:
    """What ansible-inventory said."""

    def __init__(self, ended: subprocess.CompletedProcess[str]) -> None:
        self.rc, self.out, self.err = ended.returncode, ended.stdout, ended.stderr

    @property
    def document(self) -> dict:
        assert self.rc == 0, self.err
        # ansible-core shows by this what it will never take for a template.
        return json.loads(self.out, object_hook=lambda found: found.get("__ansible_unsafe", found))

    @property
    def hosts(self) -> dict:
        return self.document["_meta"]["hostvars"]

    def group(self, name: str) -> list[str]:
        return sorted(self.document.get(name, {}).get("hosts", []))


@pytest.fixture
def ansible(tmp_path):
    """Return a way to run Ansible's commands on an inventory file of this plugin."""
    (tmp_path / "token").write_text(TOKEN + "\n")

    def run(
        settings: dict, *words: str, command: str = "ansible-inventory", before: tuple[str, ...] = (), **environ: str
    ) -> Run:
        file = tmp_path / "test.cloudpods.yml"
        file.write_text(json.dumps({"plugin": "migra.cloudpods.cloudpods", **settings}))
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "CLOUDPODS_"))}
        env = {
            **clean,
            "ANSIBLE_CONFIG": str(REPOSITORY / "ansible.cfg"),
            "ANSIBLE_LOCAL_TEMP": str(tmp_path / "tmp"),
            **environ,
        }
        # Otherwise a file that cannot be read is no more than a warning.
        env["ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED"] = "true"
        argv = [BIN / command, *before, "-i", file, *(words or ("--list",))]
        return Run(subprocess.run(argv, cwd=REPOSITORY, env=env, capture_output=True, text=True, check=False, timeout=120))

    return run


@pytest.fixture
def listed(ansible, api, tmp_path):
    """Return a way to list the recorded API's pods."""

    def run(*words: str, **settings: object) -> Run:
        given = {"api": {"url": api.url, "token_file": str(tmp_path / "token")}, **settings}
        return ansible({key: value for key, value in given.items() if value is not None}, *words)

    return run


# From the API


def test_every_page_is_read_and_every_pod_is_a_host_in_its_groups(api, listed):
    api.items = [
        item(9101, role="db", blueprint="word-press"),
        item(9102, tenantId="TENANT-456", node="lab2", powerState="stopped"),
        item(9103),
    ]
    run = listed()
    assert sorted(run.hosts) == ["web9101", "web9102", "web9103"]
    assert [query.get("cursor") for _, query in api.asked] == [None, "2"]
    expected = {
        "cloudpods": ["web9101", "web9102", "web9103"],
        "tenant_TENANT_123": ["web9101", "web9103"],
        "tenant_TENANT_456": ["web9102"],
        "status_active": ["web9101", "web9102", "web9103"],
        "region_migra_us_east_1": ["web9101", "web9102", "web9103"],
        "node_lab1": ["web9101", "web9103"],
        "node_lab2": ["web9102"],
        "blueprint_word_press": ["web9101"],
        "role_db": ["web9101"],
        "power_running": ["web9101", "web9103"],
        "power_stopped": ["web9102"],
    }
    assert {name: run.group(name) for name in expected} == expected
    facts = {"cloudpod_vmid": 9101, "cloudpod_id": "pod-9101", "cloudpod_tenant_id": "TENANT-123", "cloudpod_memory_mb": 2048}
    assert run.hosts["web9101"].items() >= {**facts, "ansible_host": "10.1.10.101", "ansible_user": "root"}.items()


def test_the_graph_is_drawn(api, listed):
    api.items = [item(9101)]
    drawn = listed("--graph").out
    assert "@cloudpods:" in drawn
    assert "@tenant_TENANT_123:" in drawn


def test_filters_ask_for_their_statuses_and_take_what_passes(api, listed):
    api.items = [
        item(9101),
        item(9102, status="failed"),
        item(9103, tenantId="other"),
        item(9104, node="lab2"),
        item(9105, region="eu"),
    ]
    assert sorted(listed(filters={"status": ["active", "failed"], "tenant": "TENANT-123", "node": ["lab1"]}).hosts) == [
        "web9101",
        "web9102",
        "web9105",
    ]
    assert {query["status"] for _, query in api.asked} == {"active", "failed"}
    assert sorted(listed(filters={"region": "eu"}).hosts) == ["web9105"]


def test_a_hostname_that_is_twice_gets_its_vmid(api, listed):
    api.items = [item(9101, hostname="shop"), item(9102, hostname="shop"), item(9103, hostname="blog")]
    assert sorted(listed().hosts) == ["blog", "shop-9101", "shop-9102"]


def test_a_pod_does_not_pass_itself_off_as_another_host(api, ansible, tmp_path):
    (tmp_path / "nodes.yml").write_text("cloudpod_nodes: {hosts: {pve1: {ansible_host: 10.0.0.1}}}")
    api.items = [
        item(9101, hostname="pve1"),
        item(9102, hostname="localhost"),
        item(9103, hostname="cloudpod_nodes"),
        item(9104, hostname="10.0.0.1"),
    ]
    given = {"api": {"url": api.url, "token_file": str(tmp_path / "token")}}
    hosts = ansible(given, before=("-i", str(tmp_path / "nodes.yml"))).hosts
    assert sorted(hosts) == ["cloudpod-9102", "cloudpod-9103", "cloudpod-9104", "pve1", "pve1-9101"]
    assert hosts["pve1"]["ansible_host"] == "10.0.0.1"


def test_a_pod_without_an_address_of_its_own_leads_nowhere(api, listed):
    api.items = [
        item(9101, ip=""),
        item(9102, ip="10.1.10.9 -oProxyCommand=id"),
        item(9103, ip="10.1.10.8"),
        item(9104, ip="10.1.10.8"),
    ]
    assert {host["ansible_host"] for host in listed().hosts.values()} == {inv.NOWHERE}


def test_what_tenants_wrote_is_never_a_template(api, ansible, tmp_path):
    evil = "{{ lookup('ansible.builtin.pipe', 'touch " + str(tmp_path / "evil") + "') }}"
    api.items = [item(9101, hostname=evil, error=evil, hostKey=evil, role=evil, ip=evil)]
    given = {"api": {"url": api.url, "token_file": str(tmp_path / "token")}, "compose": {"copied": "cloudpod_error"}}
    words = (
        "cloudpods",
        "-c",
        "local",
        "-m",
        "ansible.builtin.debug",
        "-a",
        "msg={{ cloudpod_error }}{{ copied }}{{ cloudpod_hostname }}",
    )
    run = ansible(given, *words, command="ansible")
    assert run.rc == 0, run.err + run.out
    assert run.out.count("touch") == 3
    assert '"cloudpod_error": {\n' in ansible(given).out, "not marked as plain text"
    assert not (tmp_path / "evil").exists()


def test_constructed_variables_and_groups(api, listed):
    api.items = [item(9101, memoryMb=16384), item(9102)]
    run = listed(
        compose={"label": "cloudpod_tenant_id ~ '/' ~ cloudpod_hostname"},
        groups={"large": "cloudpod_memory_mb >= 8192"},
        keyed_groups=[{"key": "cloudpod_power_state", "prefix": "is"}],
    )
    assert run.hosts["web9101"]["label"] == "TENANT-123/web9101"
    assert (run.group("large"), run.group("is_running")) == (["web9101"], ["web9101", "web9102"])


def test_strict_tells_of_a_bad_expression(api, listed):
    api.items = [item(9101)]
    assert listed(compose={"a": "nothing.there"}).rc == 0
    assert listed(compose={"a": "nothing.there"}, strict=True).rc != 0


def test_the_cache_answers_instead_of_the_api(api, listed, tmp_path):
    api.items = [item(9101)]
    cache = {"cache": True, "cache_plugin": "ansible.builtin.jsonfile", "cache_connection": str(tmp_path / "cache")}
    assert list(listed(**cache).hosts) == ["web9101"]
    api.items = [item(9102)]
    assert list(listed(**cache).hosts) == ["web9101"]
    assert len(api.asked) == 1
    assert list(listed("--list", "--flush-cache", **cache).hosts) == ["web9102"]


def test_two_tenants_that_no_valid_group_name_tells_apart_are_warned_of(api, listed):
    api.items = [item(9101, tenantId="a-b"), item(9102, tenantId="a.b")]
    assert "together in group tenant_a_b" in listed().err.replace("\n", " ")


FAULTS = {
    "neither source": ({"api": None}, "either api or nodes"),
    "both sources": ({"nodes": [{"name": "lab1"}]}, "either api or nodes"),
    "no HTTPS": ({"api": {"url": "http://cloudpods.example.com", "token_file": "x"}}, "must be https://"),
    "no url": ({"api": {"token_file": "x"}}, "must be https://"),
    "an unknown key": ({"api": {"uri": "x"}}, "unknown key uri"),
    "no token": ({"api": {"url": "https://127.0.0.1:9"}}, "CLOUDPODS_TOKEN_FILE"),
    "a token that is not there": ({"api": {"url": "https://127.0.0.1:9", "token_file": "/no/token"}}, "cannot read the token"),
    "an unknown filter": ({"filters": {"state": "active"}}, "unknown key state"),
    "a jump without host": ({"jump": {"port": 22}}, "say host"),
    "a jump by shell": ({"jump": {"host": "x", "user": "root;id"}}, "user must be a login name"),
    "a path by shell": ({"jump": {"host": "x", "known_hosts": "/tmp/$(id)"}}, "known_hosts must be an absolute path"),
    "a node of no name": ({"api": None, "nodes": [{"host": "x"}]}, "each needs a name"),
    "a script by shell": (
        {"api": None, "nodes": [{"name": "x", "script_dir": "/x; id"}]},
        "script_dir must be an absolute path",
    ),
    "a node by option": ({"api": None, "nodes": [{"name": "x", "host": "-oProxyCommand=id"}]}, "must be a name or an IPv4"),
    "a node without scripts": (
        {"api": None, "nodes": [{"name": "x", "connection": "local", "sudo": False, "script_dir": "/no"}]},
        "cannot be started",
    ),
}


@pytest.mark.parametrize(("settings", "said"), FAULTS.values(), ids=FAULTS)
def test_a_bad_setting_is_named(listed, settings, said):
    run = listed(**settings)
    assert run.rc != 0
    assert said in " ".join(run.err.split())
    assert TOKEN not in run.err


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (500, None, "answered 500"),
        (302, None, "answered 302"),
        (200, b"<html>", "cannot be read"),
        (200, b"[]", "no list of pods"),
        (200, b'{"items": [5], "next": null}', "no pod"),
        (200, b'{"items": [{"vmid": "x"}]}', "no pod"),
    ],
)
def test_a_bad_answer_is_told(api, listed, status, body, said):
    api.status, api.body = status, body
    run = listed()
    assert run.rc != 0
    assert said in " ".join(run.err.split())


def test_a_token_that_is_not_accepted_is_told(listed, tmp_path):
    (tmp_path / "token").write_text("another")
    assert "is the token still valid?" in " ".join(listed().err.split())


# From the nodes


def test_a_nodes_own_script_tells_its_pods(ansible, node, run_module, vmid):
    run_module(
        "cloudpod_create",
        **node.access,
        vmid=vmid,
        hostname=f"inv{vmid}",
        tenant_id="TENANT-123",
        pod_id="pod-1",
        auto_ip=True,
        cores=2,
        memory_mb=512,
    )
    nodes = [{"name": "lab1", "connection": "local", "script_dir": str(node.dir / "sbin"), "sudo": False}]
    hosts = ansible({"nodes": nodes}).hosts
    mine = hosts[f"inv{vmid}"]
    expected = {"cloudpod_vmid": vmid, "cloudpod_tenant_id": "TENANT-123", "cloudpod_id": "pod-1", "cloudpod_node": "lab1"}
    assert mine.items() >= {**expected, "cloudpod_power_state": "running", "cloudpod_memory_mb": 512}.items()
    assert mine["ansible_host"] == mine["cloudpod_ip"]
    assert f"inv{vmid}" not in ansible({"nodes": nodes, "filters": {"tenant": "TENANT-456"}}).out


def test_a_node_is_asked_by_an_argument_vector_that_verifies_its_host_key():
    node = inv.node_settings({"name": "pve1", "host": "10.0.0.1", "private_key_file": "/k", "known_hosts": "/kh", "port": 2222})
    command = inv.node_command(node, 60)
    assert command[-3:] == ["--", "10.0.0.1", "sudo -n /usr/local/sbin/cloudpod-info.sh --all"]
    for words in (
        ["-o", "StrictHostKeyChecking=yes"],
        ["-o", "BatchMode=yes"],
        ["-i", "/k"],
        ["-p", "2222"],
        ["-l", "mpanel-automation"],
    ):
        assert " ".join(words) in " ".join(command)


# The way in


def test_a_pod_is_reached_through_its_node_and_its_key_is_verified(api, listed):
    api.items = [item(9101, node="lab2")]
    jump = {"host": "{node}.example.com", "port": 2222, "private_key_file": "/keys/jump", "known_hosts": "/etc/ssh/known"}
    arguments = shlex.split(listed(jump=jump).hosts["web9101"]["ansible_ssh_common_args"])
    assert f"KnownHostsCommand=/bin/echo %H {KEY}" in arguments
    assert "StrictHostKeyChecking=yes" in arguments
    (proxy,) = [word for word in arguments if word.startswith("ProxyCommand=")]
    assert proxy.startswith("ProxyCommand=ssh -a -x -W %h:%p -o BatchMode=yes -o StrictHostKeyChecking=yes ")
    assert proxy.endswith(" -i /keys/jump -o IdentitiesOnly=yes -p 2222 -l cloudpods-jump lab2.example.com")


def test_a_node_without_a_jump_host_is_named(api, listed):
    api.items = [item(9101, node="lab2")]
    assert "no usable host for node lab2" in " ".join(listed(jump={"hosts": {"lab1": "10.0.0.1"}}).err.split())


BAD_KEYS = [
    None,
    "",
    "ssh-ed25519",
    KEY + " x",
    KEY + "\nProxyCommand=id",
    "ssh-ed25519 $(id)AAAAAAAAAAAAAAAAAAAAAAAA",
    KEY + "%h",
    "`id` " + KEY,
]


@pytest.mark.parametrize("key", BAD_KEYS)
@pytest.mark.parametrize(("accept", "checking"), [(False, "yes"), (True, "accept-new")])
def test_without_a_usable_key_nothing_of_it_is_an_argument(key, accept, checking):
    arguments = inv.ssh_arguments({"id": "pod-1", "host_key": key, "node": "lab1"}, None, accept)
    assert arguments == ["-o", "HostKeyAlias=cloudpod-pod-1", "-o", f"StrictHostKeyChecking={checking}"]


@pytest.mark.parametrize("pod_id", ["a b", "-x", "a\nb", "$(id)", "", None, "a" * 65])
def test_an_odd_pod_id_is_no_argument(pod_id):
    assert inv.ssh_arguments({"id": pod_id}, None, False) == ["-o", "StrictHostKeyChecking=yes"]


@pytest.mark.parametrize("node", ["x;id", "x id", "-oProxyCommand=id", "$(id)", "", "x\n"])
def test_an_odd_node_is_no_jump_host(node):
    with pytest.raises(inv.BadSetting, match="no usable host"):
        inv.jump_command(inv.jump_settings({"host": "{node}"}), {"node": node})


def test_names_are_the_same_in_every_order():
    pods = [
        {"vmid": vmid, "hostname": name, "id": str(vmid)}
        for vmid, name in ((1, "a"), (2, "a"), (3, "a-1"), (4, "b"), (5, None))
    ]
    expected = {1: "a-1", 2: "a-2", 3: "a-1-3", 4: "b", 5: "cloudpod-5"}
    for order in (pods, pods[::-1]):
        assert {pod["vmid"]: name for name, pod in inv.named(order, {})} == expected


def test_an_address_that_two_pods_claim_is_nobodys():
    often = collections.Counter(["10.1.10.9", "10.1.10.9", "10.1.10.8"])
    assert [inv.address({"ip": ip}, often) for ip in ("10.1.10.9", "10.1.10.8", "", None)] == [
        inv.NOWHERE,
        "10.1.10.8",
        inv.NOWHERE,
        inv.NOWHERE,
    ]


def log_in(sshd: Sshd, arguments: list[str]) -> subprocess.CompletedProcess[str]:
    """Log in with these arguments, as Ansible would."""
    mine = ["-F", "none", "-o", "BatchMode=yes", "-i", str(sshd.private_key), "-p", str(sshd.port)]
    command = ["ssh", *mine, *arguments, f"{sshd.user}@127.0.0.1", "echo", "in"]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


@pytest.fixture(scope="module")
def sshd(tmp_path_factory) -> Iterator[Sshd]:
    """Return a running sshd: the pod and the jump host in one."""
    skip_without_sshd()
    running = Sshd(tmp_path_factory.mktemp("sshd"))
    make_key(running.home / "other")
    running.start()
    yield running
    running.stop()


@pytest.mark.parametrize(("known", "gets_in"), [("host", True), ("other", False), (None, False)])
@pytest.mark.parametrize("through", [False, True], ids=["direct", "through a jump host"])
def test_openssh_lets_in_by_the_right_host_key_only(sshd, known, gets_in, through):
    jump = None
    if through:
        login = {"port": sshd.port, "private_key_file": str(sshd.private_key), "known_hosts": str(sshd.known_hosts)}
        jump = inv.jump_settings({"host": "127.0.0.1", "user": sshd.user, **login})
    pod = {"id": "pod-1", "node": "lab1", "host_key": sshd.key(known) if known else None}
    ended = log_in(sshd, shlex.split(shlex.join(inv.ssh_arguments(pod, jump, accept_new=False))))
    assert (ended.stdout.strip() == "in") is gets_in, ended.stderr
    assert gets_in or "Host key verification failed" in ended.stderr


@pytest.mark.parametrize(("known", "gets_in"), [("host", True), ("other", False)])
def test_ansible_reaches_a_pod_through_its_node_even_where_host_key_checking_is_off(
    api, ansible, sshd, tmp_path, known, gets_in
):
    login = {"port": sshd.port, "private_key_file": str(sshd.private_key), "known_hosts": str(sshd.known_hosts)}
    api.items = [item(9101, ip="127.0.0.1", hostKey=sshd.key(known))]
    given = {
        "api": {"url": api.url, "token_file": str(tmp_path / "token")},
        "jump": {"host": "127.0.0.1", "user": sshd.user, **login},
        "compose": {
            "ansible_port": str(sshd.port),
            "ansible_user": f"'{sshd.user}'",
            "ansible_ssh_private_key_file": f"'{sshd.private_key}'",
        },
    }
    words = ("cloudpods", "-m", "ansible.builtin.raw", "-a", "echo in")
    off = {"ANSIBLE_HOST_KEY_CHECKING": "False", "ANSIBLE_SSH_ARGS": "-o ControlMaster=no"}
    run = ansible(given, *words, command="ansible", **off)
    assert (run.rc == 0) is gets_in, run.out + run.err
    assert gets_in or "Host key verification failed" in run.out + run.err
