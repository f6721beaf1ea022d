"""Bad arguments: exit 64 with usage and the field, before anything is done."""

from __future__ import annotations

import pytest

from tests.node_scripts import Scripts, create_arguments, failure, node

__all__ = ["node"]

LONG_LABEL = "a" * 64
BAD_VMIDS = ["99", "0123", "1234567890", "9101x", "-9101", "", "9101 9102", "9101\n", "\u0661\u0660\u0661", "$(id)", "../9101"]
BAD_OWNERS = ["", " ", "-x", ".x", "a b", "a;b", "a" * 65, "a\nb", "ü", "a/b", 'a"b']
BAD_RUNS = ["", "-x", "job.1.2", "job.12345", "job.x", "a b", "a" * 65, "job/1"]
BAD_MEM = ["8", "15", "1048577", "0", "-16", "1e3", "2048M", "02048", "99999999999999999999", " 2048", ""]

BAD_CREATE = {
    "vmid": BAD_VMIDS,
    "host": ["a;b", "a b", "a_b", "a" * 300, "-a", "a-", ".a", "a.", "a..b", "", LONG_LABEL, "a\n", "$HOME", "a/b",
             ".".join(["a" * 62] * 5)],
    "tenant": BAD_OWNERS,
    "pod": BAD_OWNERS,
    "run": BAD_RUNS,
    "bridge": ["", "1br", "vmbr0;id", "a" * 16, "vm br", "vmbr0,tag=1", "../x"],
    "storage": ["", "x", "1x", "a:b", "x/", "clients-main-", "a b", "a" * 65, "clients-main,mp=/x"],
    "cores": ["0", "129", "-1", "2.0", "two", "", "02", "99999999999999999999"],
    "mem": BAD_MEM,
    "swap": ["-1", "1048577", "x", "", "00", "0512"],
    "disk": ["0", "16385", "8G", "-8", "", "08"],
    "ip": ["10.1.10.256", "10.1.10", "10.1.10.091", "10.1.10.91/24", "10.1.10.91,gw=1", "::1", "", "a.b.c.d",
           "10.1.10.91\n", "10.1.11.91", "10.1.10.49", "10.1.10.250", "10.1.10.1"],
    "gw": ["10.1.10.1/24", "10.1.10.01", "gateway", "", "10.1.10.300"],
    "template": ["", "debian", "local:iso/x.iso", "local:vztmpl/../x", "local:vztmpl/-x", "/etc/passwd",
                 "local:vztmpl/a b"],
    "ssh-keys": ["", "/etc/passwd", "../x.pub", "none.pub", "link.pub", "folder.pub", "platform.txt", ".pub", "-x.pub"],
}  # fmt: skip
CREATE_ROWS = [(field, value) for field, values in BAD_CREATE.items() for value in values]

BAD_GUARDS = [("tenant", value) for value in BAD_OWNERS] + [("pod", value) for value in BAD_OWNERS]
BAD_GUARDS += [("run", value) for value in BAD_RUNS]
VMID_ROWS = [("vmid", [value]) for value in BAD_VMIDS] + [("vmid", []), ("vmid", ["9101", "9102"])]
GUARD_ROWS = [(field, ["9101", f"--{field}", value]) for field, value in BAD_GUARDS]
SCALE = ["--cores", "2", "--mem", "512"]
BACKUP = ["--mode", "snapshot"]
POWER = ["--state", "stopped"]
SNAPSHOT = ["--action", "create", "--name", "before"]
CANCEL = ["--run", "job1"]
BAD_NAMES = ["", "a", "1ab", "-ab", "_ab", "a b", "a.b", "a/b", "a;b", "ab\n", "é" * 3, "a" * 41, "$(id)"]
RESERVED_NAMES = ["current", "pending", "vzdump"]
BAD_TIMEOUTS = ["", "0", "3601", "1.5", "060", "60s", "99999"]

PERCENTAGES = ["memory-warning", "memory-critical", "swap-warning", "disk-warning", "disk-critical"]

OTHER_ROWS = {
    "destroy": [*VMID_ROWS, *GUARD_ROWS],
    "scale": [
        *[(field, [*words, *SCALE]) for field, words in [*VMID_ROWS, *GUARD_ROWS]],
        ("cores", ["9101", "--mem", "512"]), ("mem", ["9101", "--cores", "2"]),
        *[("mem", ["9101", "--cores", "2", "--mem", value]) for value in BAD_MEM],
        *[("cores", ["9101", "--mem", "512", "--cores", value]) for value in BAD_CREATE["cores"]],
        *[("swap", ["9101", *SCALE, "--swap", value]) for value in BAD_CREATE["swap"]],
    ],
    "backup": [
        *[(field, [*words, *BACKUP]) for field, words in [*VMID_ROWS, *GUARD_ROWS]],
        ("mode", ["9101"]),
        *[("mode", ["9101", "--mode", value]) for value in ("", "live", "Snapshot", "stop ", "snapshot --all")],
        *[("storage", ["9101", *BACKUP, "--storage", value]) for value in BAD_CREATE["storage"]],
    ],
    "power": [
        *[(field, [*words, *POWER]) for field, words in [*VMID_ROWS, *GUARD_ROWS]],
        ("state", ["9101"]), ("force", ["9101", *POWER, "--force=1"]), ("force", ["9101", *POWER, "--force", "--force"]),
        *[("state", ["9101", "--state", value]) for value in ("", "off", "Running", "stopped ", "stopped --force")],
        *[("shutdown-timeout", ["9101", *POWER, "--shutdown-timeout", value]) for value in BAD_TIMEOUTS],
    ],
    "snapshot": [
        *[(field, [*words, *SNAPSHOT]) for field, words in [*VMID_ROWS, *GUARD_ROWS]],
        ("action", ["9101", "--name", "before"]), ("name", ["9101", "--action", "create"]),
        *[("action", ["9101", "--name", "before", "--action", value]) for value in ("", "make", "Create", "delete --all")],
        *[("name", ["9101", "--action", "create", "--name", value]) for value in BAD_NAMES + RESERVED_NAMES],
    ],
    "cancel": [
        *[(field, [*words, *CANCEL]) for field, words in [*VMID_ROWS, *GUARD_ROWS] if field != "run"],
        ("run", ["9101"]), *[("run", ["9101", "--run", value]) for value in BAD_RUNS],
        *[("wait", ["9101", *CANCEL, "--wait", value]) for value in ("", "0", "601", "05", "5s", "1.5", "99999")],
    ],
    "info": [*VMID_ROWS[:-1], ("all", ["--all", "9101"]), ("all", ["--all=yes"])],
    "health": [
        *VMID_ROWS[:-1], ("all", ["--all", "9101"]), ("reach", ["9101", "--reach=1"]),
        ("in-guest", ["9101", "--in-guest", "--in-guest"]),
        *[("guest-timeout", ["9101", "--guest-timeout", value]) for value in ("", "0", "61", "05", "5s", "1.5")],
        *[(name, ["9101", f"--{name}", value]) for name in PERCENTAGES for value in ("", "0", "101", "085", "85%", "8.5")],
    ],
}  # fmt: skip

GOOD = {
    "create": create_arguments(9101),
    "destroy": ["9101"],
    "scale": ["9101", *SCALE],
    "backup": ["9101", *BACKUP],
    "power": ["9101", *POWER],
    "snapshot": ["9101", *SNAPSHOT],
    "cancel": ["9101", *CANCEL],
    "info": ["9101"],
    "health": ["9101"],
}


def assert_refused(node: Scripts, name: str, arguments: list[str], field: str) -> None:
    """Run a script; fail unless it refused the field and left nothing, not even a log line or a lock file."""
    done = node.run(name, *arguments)
    assert done.returncode == 64, (name, arguments, done)
    said = failure(done)
    assert field in said["Error"], (name, arguments, said)
    assert said | {"Error": ""} == {"Error": "", "Retryable": "no", "Left": "nothing"}
    assert done.stderr.startswith(f"Usage: cloudpod-{name}.sh ")


def assert_untouched(node: Scripts) -> None:
    """Fail unless the node is as it was."""
    node.assert_no_trace(9101)
    assert node.ipam() == [] and node.log() == [] and not node.lock_dir.exists()


def test_create_refuses_each_bad_value(node: Scripts) -> None:
    (node.keys_dir / "link.pub").symlink_to("platform.pub")
    (node.keys_dir / "folder.pub").mkdir()
    (node.keys_dir / "platform.txt").write_text("x")
    for field, value in CREATE_ROWS:
        changes = {field.replace("-", "_"): value}
        vmid = changes.pop("vmid", 9101)
        # An empty --ssh-keys falls under the same rule as any other bad one.
        assert_refused(node, "create", create_arguments(vmid, **changes), "value" if value[:1] == "-" else field)
    assert_untouched(node)


@pytest.mark.parametrize("name", OTHER_ROWS)
def test_other_scripts_refuse_each_bad_value(node: Scripts, name: str) -> None:
    for field, arguments in OTHER_ROWS[name]:
        dashed = any(word[:1] == "-" and word[:2] != "--" for word in arguments)
        assert_refused(node, name, arguments, "" if dashed else field)
    assert_untouched(node)


@pytest.mark.parametrize("name", GOOD)
def test_every_script_refuses_what_it_does_not_know(node: Scripts, name: str) -> None:
    unknown = ["--bogus 1", "--bogus=1", "-x", "--", "-", "--Tenant x", "--mp0 /:/", "--help"]
    for words in map(str.split, unknown):
        assert_refused(node, name, [*GOOD[name], *words], "")
    assert_untouched(node)


@pytest.mark.parametrize("option", ["vmid", "host", "tenant", "cores", "mem", "swap"])
def test_create_refuses_a_missing_option(node: Scripts, option: str) -> None:
    arguments = create_arguments(9101)
    at = arguments.index(f"--{option}")
    assert_refused(node, "create", arguments[:at] + arguments[at + 2 :], option)
    assert_untouched(node)


def test_create_refuses_contradictions(node: Scripts) -> None:
    both = [*create_arguments(9101), "--ip", "10.1.10.91"]
    rows = [
        (both, "ip"),
        (create_arguments(9101, ip=None), "ip"),
        ([*create_arguments(9101), "--cores", "2"], "cores: given twice"),
        ([*create_arguments(9101), "--auto-ip"], "auto-ip: given twice"),
        ([*create_arguments(9101)[:-1], "--auto-ip=yes"], "auto-ip"),
        ([*create_arguments(9101), "--disk"], "disk: a value is missing"),
        ([*create_arguments(9101), "stray"], "unexpected"),
        (create_arguments(9101, ip="10.1.10.91", gw="10.1.10.91"), "gateway"),
    ]
    for arguments, field in rows:
        assert_refused(node, "create", arguments, field)
    assert_untouched(node)


def test_an_option_may_be_joined_to_its_value(node: Scripts) -> None:
    done = node.run("destroy", 9101, "--tenant=TENANT-123")
    assert done.returncode == 0
    assert_refused(node, "destroy", ["9101", "--tenant="], "tenant")
    assert_refused(node, "destroy", ["9101", "--tenant=-x"], "tenant")
