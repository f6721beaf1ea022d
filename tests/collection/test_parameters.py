"""The rules for parameters, each with values that keep it and values that break it."""

from __future__ import annotations

import re

import pytest
from ansible_collections.migra.cloudpods.plugins.module_utils import _errors as errors
from ansible_collections.migra.cloudpods.plugins.module_utils import _parameters as parameters
from hypothesis import given
from hypothesis import strategies as st

KEPT = {
    "vmid": [100, 9101, 999999999],
    "cores": [1, 128],
    "memory_mb": [16, 1048576],
    "swap_mb": [0, 1048576],
    "disk_gb": [1, 16384],
    "shutdown_timeout_s": [1, 3600],
    "wait_s": [1, 600],
    "boot_timeout_s": [1, 3600],
    "guest_timeout_s": [1, 60],
    "memory_warning_percent": [1, 100],
    "memory_critical_percent": [1, 100],
    "swap_warning_percent": [1, 100],
    "disk_warning_percent": [1, 100],
    "disk_critical_percent": [1, 100],
    "timeout_s": [1, 86400],
    "from_vmid": [100, 999999999],
    "drill_vmid": [100, 999999999],
    "vmids": [[100], [100, 999999999]],
    "hostname": ["a", "client-portal", "a.b-c.example", "0", "x" * 63, ".".join(["x" * 63] * 3 + ["y" * 61])],
    "tenant_id": ["TENANT-123", "a", "a:b_c.d-e", "x" * 64],
    "pod_id": ["cm3x1", "0"],
    "from_pod_id": ["cm3x1", "0"],
    "archive": [
        "vzdump-backups:backup/vzdump-lxc-9101-2026_11_21-00_05_47.tar.zst",
        "t7:backup/vzdump-lxc-100-2026_11_21-00_05_47.tar",
    ],
    "retention": [{"keep_last": 1}, {"keep_last": 0, "keep_yearly": 999}, {"keep_last": None, "keep_daily": 7}],
    "run_id": ["job1", "job1.1", "a_b-c.9999"],
    "name": ["ab", "before-upgrade", "A_1", "x" * 40, "Current", "vzdump2"],
    "bridge": ["vmbr0", "v", "vmbr0.100"],
    "storage": ["clients-main", "ab"],
    "ip": ["10.1.10.91", "0.0.0.0", "255.255.255.255"],
    "gateway": ["10.1.10.1"],
    "template": ["local:vztmpl/debian-12-standard_12.7-1_amd64.tar.zst"],
    "ssh_keys": ["/etc/migra/cloudpods-keys/platform.pub"],
    "script_dir": ["/usr/local/sbin", "/"],
    "mode": ["snapshot"],
}
TEMPLATED = "{{ lookup('pipe', 'id') }}"
BROKEN = {
    "vmid": [99, 0, -1, 1000000000, True],
    "cores": [0, 129, -2, True],
    "memory_mb": [8, 15, 1048577],
    "swap_mb": [-1, 1048577],
    "disk_gb": [0, 16385],
    "shutdown_timeout_s": [0, 3601],
    "wait_s": [0, 601],
    "boot_timeout_s": [0, 3601],
    "guest_timeout_s": [0, 61, True],
    "memory_warning_percent": [0, 101],
    "memory_critical_percent": [0, 101],
    "swap_warning_percent": [0, 101],
    "disk_warning_percent": [0, 101],
    "disk_critical_percent": [0, 101],
    "timeout_s": [0, 86401],
    "from_vmid": [99, 1000000000],
    "drill_vmid": [99, 1000000000],
    "vmids": [[99], [9101, 0]],
    "hostname": [
        "",
        "-a",
        "a-",
        "a b",
        "a;b",
        "a_b",
        "a..b",
        ".a",
        "a.",
        "x" * 64,
        "a." * 150 + "a",
        "a\n",
        "ä",
        "a$(id)",
        TEMPLATED,
    ],
    "tenant_id": ["", "-a", ".a", "a b", "a/b", "x" * 65, "a\n", TEMPLATED],
    "pod_id": ["", "a'b", TEMPLATED],
    "from_pod_id": ["", "a'b", TEMPLATED],
    "archive": [
        "",
        "/var/lib/vz/dump/vzdump-lxc-9101-2026_11_21-00_05_47.tar.zst",
        "s:backup/vzdump-qemu-9101-2026_11_21-00_05_47.vma.zst",
        "s:backup/../vzdump-lxc-9101-2026_11_21-00_05_47.tar.zst",
        "s:backup/vzdump-lxc-99-2026_11_21-00_05_47.tar.zst",
        "s:backup/vzdump-lxc-9101-2026_11_21-00_05_47.tar.xz",
        "s:backup/vzdump-lxc-9101-2026_11_21-00_05_47.tar.zst\n",
        TEMPLATED,
    ],
    "retention": [
        {},
        {"keep_last": None},
        {"keep_last": 0, "keep_daily": 0},
        {"keep_last": -1},
        {"keep_last": 1000},
        {"keep_last": True},
    ],
    "run_id": ["", "a.b", "a.12345", "a.", "a.1.1", TEMPLATED],
    "name": ["", "a", "1a", "-a", "a b", "a.b", "a\n", "ab\n", "x" * 41, "current", "pending", "vzdump", "ü" * 3, TEMPLATED],
    "bridge": ["", "0vmbr", "a" * 16, "vmbr0,tag=1", "vm br", TEMPLATED],
    "storage": ["", "a", "clients-", "a:b", "a/b", TEMPLATED],
    "ip": [
        "",
        "10.1.10",
        "10.1.10.256",
        "10.1.10.01",
        "10.1.10.91/24",
        " 10.1.10.91",
        "10.1.10.91\n",
        "::1",
        TEMPLATED,
    ],
    "gateway": ["router", "010.1.10.1"],
    "template": ["", "debian", "local:iso/x.iso", "local:vztmpl/../x", "local:vztmpl/a/b", TEMPLATED],
    "ssh_keys": ["", "platform.pub", "/etc/shadow", "/keys/../x.pub", "/keys/a b.pub", TEMPLATED],
    "script_dir": ["", "sbin", "/usr/../tmp", "/tmp/$(id)", TEMPLATED],
}


IN_PLACE = {
    "vmid": 9101,
    "force": False,
    "archive": None,
    "from_pod_id": None,
    "isolated": False,
    **dict.fromkeys(name for name in parameters.NEW_ALONE if name != "isolated"),
}
AS_NEW = {**IN_PLACE, "from_pod_id": "p1", "from_vmid": 9102, "hostname": "copy"}
# What a rule of its own looks at besides the parameter.
BESIDE = {"from_pod_id": AS_NEW, "drill_vmid": {"vmid": 9101}}


def cases(table: dict[str, list]) -> list:
    return [pytest.param(name, value, id=f"{name}={value!r}"[:60]) for name, values in table.items() for value in values]


@pytest.mark.parametrize(("name", "value"), cases(KEPT))
def test_a_good_value_passes(name: str, value: object) -> None:
    assert parameters.broken_rule(name, value) is None


@pytest.mark.parametrize(("name", "value"), cases(BROKEN))
def test_a_bad_value_is_refused_with_its_name_and_rule(name: str, value: object) -> None:
    with pytest.raises(errors.BadParameter) as refused:
        parameters.check({"all": False, "vmids": [9101], "timeout_s": 3900, **BESIDE.get(name, {}), name: value})
    assert re.match(rf"{name}: must (be|keep) ", refused.value.msg)
    assert refused.value.result()["parameters"] == [name]
    assert refused.value.result()["retryable"] is False
    assert refused.value.result()["left_behind"] == "nothing"


def test_every_rule_is_tried() -> None:
    assert set(BROKEN) == {*parameters.PATTERNS, *parameters.RANGES, *parameters.ADDRESSES, "retention"}


def test_all_bad_parameters_are_named_at_once() -> None:
    with pytest.raises(errors.BadParameter) as refused:
        parameters.check({"vmid": 9101, "hostname": "a;b", "cores": 0})
    assert refused.value.result()["parameters"] == ["hostname", "cores"]
    assert "hostname: " in refused.value.msg
    assert "cores: " in refused.value.msg


@pytest.mark.parametrize(
    ("given_", "named"),
    [
        ({"ip": "10.1.10.91", "auto_ip": True}, "auto_ip"),
        ({"ip": "10.1.10.1", "gateway": "10.1.10.1"}, "gateway"),
        ({"shutdown_timeout_s": 60, "timeout_s": 60}, "shutdown_timeout_s: must be less than timeout_s"),
        ({"vmids": None, "all": False}, "all: true"),
        ({"vmids": [], "all": False}, "at least one"),
        ({"vmids": [9101], "all": True}, "either"),
    ],
)
def test_parameters_that_do_not_go_together_are_refused(given_: dict, named: str) -> None:
    with pytest.raises(errors.BadParameter, match=named):
        parameters.check(given_)


VOLID = "s:backup/vzdump-lxc-9102-2026_11_21-00_05_47.tar.zst"


@pytest.mark.parametrize(
    "given_",
    [
        IN_PLACE,
        {**IN_PLACE, "force": True, "archive": VOLID, "auto_ip": False},
        AS_NEW,
        {**AS_NEW, "from_vmid": None, "archive": VOLID},
        # Its vmid may be free again.
        {**AS_NEW, "from_vmid": 9101},
        {"drill_vmid": None, "vmid": 99999999},
        {"drill_vmid": 9102, "vmid": 100000000},
    ],
)
def test_parameters_of_a_restore_that_go_together(given_: dict) -> None:
    assert parameters.check(given_) is None


@pytest.mark.parametrize(
    ("given_", "named"),
    [
        ({**IN_PLACE, "hostname": "copy"}, "hostname: is for a restore as a new pod"),
        ({**IN_PLACE, "swap_mb": 0}, "swap_mb: is for a restore as a new pod"),
        ({**IN_PLACE, "isolated": True}, "isolated: is for"),
        ({**IN_PLACE, "from_vmid": 9102}, "give from_pod_id too"),
        ({**AS_NEW, "hostname": None}, "hostname: must be given"),
        ({**AS_NEW, "force": True}, "force: is for a restore in place"),
        ({**AS_NEW, "from_vmid": None}, "from_vmid: must be given"),
        ({"drill_vmid": None, "vmid": 100000000}, "drill_vmid: must be given for a vmid above 99999999"),
        ({"drill_vmid": 9101, "vmid": 9101}, "drill_vmid: must not be"),
    ],
)
def test_parameters_of_a_restore_that_do_not_go_together(given_: dict, named: str) -> None:
    with pytest.raises(errors.BadParameter, match=named):
        parameters.check(given_)


def test_an_address_without_auto_ip_passes() -> None:
    assert parameters.check({"ip": "10.1.10.91", "auto_ip": False}) is None
    assert parameters.check({"ip": None, "auto_ip": None}) is None


def test_a_long_value_is_shown_shortened() -> None:
    assert len(parameters.broken_rule("hostname", "x" * 5000)) < 250


SHELL_CHARACTERS = re.compile(r"[\s;&|`$<>(){}'\"\\*?~#!]")


@given(name=st.sampled_from(sorted(parameters.PATTERNS)), value=st.text())
def test_what_passes_has_no_character_that_means_something_to_a_shell_or_a_template(name: str, value: str) -> None:
    if parameters.broken_rule(name, value) is None:
        assert not SHELL_CHARACTERS.search(value)
        assert not value.startswith("-")


@given(value=st.text())
def test_what_passes_as_an_address_is_one(value: str) -> None:
    if parameters.is_ipv4(value):
        assert re.fullmatch(r"(0|[1-9][0-9]{0,2})(\.(0|[1-9][0-9]{0,2})){3}", value)
