"""The value formats of Proxmox's schema: each check returns why a value is wrong, or an empty string."""

from __future__ import annotations

import re
from collections.abc import Callable

Check = Callable[[str], str]
INVALID = "invalid format - "
_OCTET = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
IPV4 = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}\Z")
IPV6 = re.compile(r"(?=.*:)[0-9A-Fa-f:.]{2,45}\Z")
MAC = re.compile(r"(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}\Z")
LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
DNS_NAME = re.compile(rf"{LABEL}(?:\.{LABEL})*\Z")
VMID = re.compile(r"[1-9][0-9]{2,8}\Z")
TAG = re.compile(r"[a-z0-9_][a-z0-9_\-+.]*\Z", re.I)
NEW_VOLUME = re.compile(r"([A-Za-z][A-Za-z0-9_.-]*):(\d+(?:\.\d+)?)\Z")
VOLUME = re.compile(r"([A-Za-z][A-Za-z0-9_.-]*):(\S+)\Z")
SIZE = re.compile(r"\+?\d+(?:\.\d+)?[KMGT]?\Z")
TRUE, FALSE = ("1", "on", "yes", "true"), ("0", "off", "no", "false")
UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


def matches(pattern: re.Pattern[str], words: str) -> Check:
    """Return a check that a value matches a pattern, and otherwise does not look like what `words` say."""
    return lambda value: "" if pattern.match(value) else f"{INVALID}value does not look like a valid {words}\n"


check_dns_name = matches(DNS_NAME, "DNS name")
check_vmid = matches(VMID, "VM ID")
check_configid = matches(re.compile(r"[a-z][a-z0-9_-]+\Z", re.I), "configuration ID")
check_storage_id = matches(re.compile(r"[a-z][a-z0-9\-_.]*[a-z0-9]\Z", re.I), "storage ID")
_ipv4 = matches(IPV4, "ipv4 address")
_ipv6 = matches(IPV6, "ipv6 address")
_mac = matches(MAC, "unicast MAC address")


def check_ip(value: str) -> str:
    """Check an address of either family."""
    return "" if IPV4.match(value) or IPV6.match(value) else f"{INVALID}value does not look like a valid IP address\n"


def check_tag(value: str) -> str:
    """Check one tag."""
    return "" if TAG.match(value) else f"{INVALID}invalid characters in tag\n"


def check_resize(value: str) -> str:
    """Check the size argument of pct resize."""
    return "" if SIZE.match(value) else "value does not match the regex pattern"


def _ipv4_config(value: str) -> str:
    """Check an `ip=` of an interface."""
    address, slash, bits = value.partition("/")
    valid = slash and IPV4.match(address) and bits.isdigit() and 8 <= int(bits) <= 32
    if valid or value in ("dhcp", "manual"):
        return ""
    return f"{INVALID}value does not look like a valid ipv4 network configuration\n"


def _ipv6_config(value: str) -> str:
    """Check an `ip6=` of an interface."""
    address, slash, bits = value.partition("/")
    valid = slash and IPV6.match(address) and bits.isdigit() and int(bits) <= 128
    if valid or value in ("auto", "dhcp", "manual"):
        return ""
    return f"{INVALID}value does not look like a valid ipv6 network configuration\n"


def whole(low: int, high: int) -> Check:
    """Return a check that a value is a whole number within bounds."""
    return lambda value: check_number(value, "integer", low, high)


def check_number(value: str, kind: str, low: float | None, high: float | None) -> str:
    """Check an `integer` or a `number`, and its bounds."""
    pattern = r"[+-]?\d+\Z" if kind == "integer" else r"[+-]?(\d+\.?\d*|\.\d+)\Z"
    if not re.match(pattern, value):
        return f"type check ('{kind}') failed - got '{value}'"
    if low is not None and float(value) < low:
        return f"value must have a minimum value of {low}"
    if high is not None and float(value) > high:
        return f"value must have a maximum value of {high}"
    return ""


def boolean(value: str) -> str | None:
    """Return `1` or `0` for whatever Proxmox takes as a boolean, or None."""
    return "1" if value.lower() in TRUE else "0" if value.lower() in FALSE else None


def _flag(value: str) -> str:
    """Check a boolean inside a property string."""
    return "" if boolean(value) else f"type check ('boolean') failed - got '{value}'"


def _any(_value: str) -> str:
    return ""


def one_of(*choices: str) -> Check:
    """Return a check that a value is one of those."""
    listed = ", ".join(choices)
    return lambda value: "" if value in choices else f"value '{value}' does not have a value in the enumeration '{listed}'"


def _word(value: str) -> str:
    """Check an interface's name."""
    return "" if re.match(r"[-_.\w]+\Z", value) else "value does not match the regex pattern"


NET = {
    "name": _word,
    "bridge": _word,
    "hwaddr": _mac,
    "ip": _ipv4_config,
    "gw": _ipv4,
    "ip6": _ipv6_config,
    "gw6": _ipv6,
    "mtu": whole(64, 65535),
    "firewall": _flag,
    "tag": whole(1, 4094),
    "trunks": _any,
    "rate": lambda value: check_number(value, "number", 0, None),
    "link_down": _flag,
    "type": one_of("veth"),
    "host-managed": _flag,
}
FEATURES = {"nesting": _flag, "keyctl": _flag, "fuse": _flag, "mknod": _flag, "force_rw_sys": _flag, "mount": _any}
MOUNT_POINT = {
    "volume": _any,
    "size": _any,
    "acl": _flag,
    "mountoptions": _any,
    "ro": _flag,
    "quota": _flag,
    "replicate": _flag,
    "shared": _flag,
    "mp": _any,
    "backup": _flag,
}
_REQUIRED = {"net": ("name",), "rootfs": ("volume",), "mp": ("volume", "mp"), "features": ()}
_SCHEMAS = {"net": NET, "rootfs": MOUNT_POINT, "mp": MOUNT_POINT, "features": FEATURES}


def split_properties(value: str, default_key: str = "") -> dict[str, str]:
    """Return the pairs of a property string; a first part without `=` belongs to the default key."""
    pairs: dict[str, str] = {}
    for part in value.split(","):
        key, equals, text = part.partition("=")
        if equals:
            pairs[key] = text
        elif default_key and default_key not in pairs:
            pairs[default_key] = part
        else:
            pairs[part] = ""
    return pairs


def join_properties(pairs: dict[str, str], default_key: str = "") -> str:
    """Return the property string of some pairs in their order, the default key's value bare."""
    return ",".join(value if key == default_key else f"{key}={value}" for key, value in pairs.items())


def default_key(name: str) -> str:
    """Return the key that may be left out in an option's property string."""
    return "volume" if name == "rootfs" or re.match(r"(mp|unused)\d+\Z", name) else ""


def check_properties(name: str, value: str) -> str:
    """Check the property string of an option such as net0, mp0, rootfs or features."""
    kind = re.sub(r"\d+\Z", "", name)
    pairs, schema = split_properties(value, default_key(name)), _SCHEMAS[kind]
    reasons = [f"{name}.{key}: property is missing and it is not optional" for key in _REQUIRED[kind] if not pairs.get(key)]
    for key, text in pairs.items():
        check = schema.get(key)
        reason = (
            check(text) if check else ("property is not defined in schema and the schema does not allow additional properties")
        )
        if reason:
            reasons.append(f"{name}.{key}: " + reason.rstrip("\n"))
    return f"{INVALID}format error\n" + "\n".join(sorted(reasons)) + "\n" if reasons else ""


def parse_size(text: str) -> int:
    """Return the bytes that a size such as 8G, 1536M or 4096 means."""
    text = text.lstrip("+")
    unit = text[-1] if text and text[-1] in "KMGT" else ""
    return int(float(text[: len(text) - len(unit)] or 0) * UNITS[unit])


def format_size(size: int) -> str:
    """Return a number of bytes in the largest unit that is exact; nothing at all is 0T."""
    for unit in "TGMK":
        if size % UNITS[unit] == 0:
            return f"{size // UNITS[unit]}{unit}"
    return str(size)
