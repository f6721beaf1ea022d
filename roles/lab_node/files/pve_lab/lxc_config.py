"""What `lxc-start` reads of a container: a pure function of the container's file."""

from __future__ import annotations

import re

from .cgroups import Limit
from .conf import Section
from .formats import split_properties

COMMON = "/usr/share/lxc/config/common.conf"


def text(vmid: int, section: Section, rootfs: str, limits: list[Limit], unified: bool) -> str:
    """Return the text of /var/lib/lxc/<vmid>/config. The cgroups are where a Proxmox node has them."""
    pairs = [
        ("lxc.include", COMMON),
        ("lxc.arch", section.get("arch", "amd64")),
        ("lxc.uts.name", section.get("hostname", f"CT{vmid}")),
        ("lxc.rootfs.path", rootfs),
        ("lxc.apparmor.profile", "unconfined"),
        ("lxc.cgroup.dir.monitor", f"lxc.monitor/{vmid}"),
        ("lxc.cgroup.dir.container", f"lxc/{vmid}"),
        ("lxc.cgroup.dir.container.inner", "ns"),
        ("lxc.environment", "TERM=linux"),
    ]
    for name, properties in interfaces(section):
        pairs += _network(vmid, int(name[3:]), properties)
    prefix = "lxc.cgroup2" if unified else "lxc.cgroup"
    pairs += [(f"{prefix}.{name}", value) for _, name, value in limits]
    return "".join(f"{key} = {value}\n" for key, value in [*pairs, *section.raw])


def interfaces(section: Section) -> list[tuple[str, dict[str, str]]]:
    """Return key and properties of each of a container's interfaces."""
    return [(key, split_properties(section[key])) for key in sorted(section) if re.match(r"net\d+\Z", key)]


def _network(vmid: int, number: int, pairs: dict[str, str]) -> list[tuple[str, str]]:
    """Return the lines of one interface; its addresses are set from outside, before the guest's first process runs."""
    prefix = f"lxc.net.{number}"
    lines = [
        (f"{prefix}.type", "veth"),
        (f"{prefix}.link", pairs.get("bridge", "")),
        (f"{prefix}.veth.pair", f"veth{vmid}i{number}"),
        (f"{prefix}.name", pairs["name"]),
        (f"{prefix}.flags", "up"),
        (f"{prefix}.hwaddr", pairs["hwaddr"]),
        (f"{prefix}.mtu", pairs.get("mtu", "")),
        (f"{prefix}.ipv4.address", pairs.get("ip", "") if "/" in pairs.get("ip", "") else ""),
        (f"{prefix}.ipv4.gateway", pairs.get("gw", "")),
        # Once the host's end is up, before the guest's first process: as if the cable were pulled. lxc adds words to this
        # line, which sh takes for parameters.
        (f"{prefix}.script.up", f'/bin/sh -c "ip link set veth{vmid}i{number} down"' if pairs.get("link_down") == "1" else ""),
    ]
    return [(key, value) for key, value in lines if value]
