"""Values as Proxmox stores them, which is not always as they were given."""

from __future__ import annotations

import os

from .conf import Section
from .formats import join_properties, split_properties
from .options import config_option, split_list


def normalised(name: str, value: str) -> str:
    """Return an option's value in the form the container's file holds."""
    if name.startswith("net"):
        return _network(value)
    if name == "tags":
        return ";".join(sorted({tag.lower() for tag in split_list(value)}))
    if name in ("nameserver", "searchdomain"):
        return " ".join(split_list(value))
    option = config_option(name)
    if option is not None and option.kind == "integer":
        return str(int(value))
    return value


def random_mac() -> str:
    """Return a hardware address in Proxmox's own range."""
    return "BC:24:11:" + ":".join(f"{byte:02X}" for byte in os.urandom(3))


def _network(value: str) -> str:
    """Return an interface with name first, the rest by alphabet, a hardware address and a type."""
    pairs = split_properties(value)
    pairs["hwaddr"] = pairs.get("hwaddr", "").upper() or random_mac()
    pairs.setdefault("type", "veth")
    ordered = {"name": pairs.pop("name"), **dict(sorted(pairs.items()))}
    return join_properties(ordered)


def with_new_addresses(section: Section) -> Section:
    """Return a container's section with fresh hardware addresses (clone, restore --unique)."""
    fresh = section.copy()
    for name, value in section.items():
        if name.startswith("net"):
            fresh[name] = _network(join_properties({**split_properties(value), "hwaddr": ""}))
    return fresh
