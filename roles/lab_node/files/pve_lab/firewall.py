"""The firewall of real containers: what Proxmox's ipfilter and macfilter mean, in a table of nftables for each container.

A container whose interface has `firewall=1` and whose file says `enable: 1` may send only frames with its own MAC address
and, with `ipfilter: 1`, its own IP address. Rules and policies of the file are kept, not applied.
"""

from __future__ import annotations

import re
import subprocess

from .conf import Section
from .errors import PveError
from .files import read_text
from .lxc_config import interfaces

TYPE_CHECKING = False  # what type checkers know as typing.TYPE_CHECKING
if TYPE_CHECKING:
    from .lab import Lab

# Before the bridge looks at a frame. A table begun and deleted first, in one transaction: it need not exist.
TABLE = """table bridge {table}
delete table bridge {table}
table bridge {table} {{
  chain prerouting {{
    type filter hook prerouting priority -250; policy accept;
{rules}  }}
}}
"""


def prefix(lab: Lab) -> str:
    """Return what the names of the tables of a lab's containers begin with."""
    return re.sub(r"\W", "_", f"cloudpods_lab_{lab.node}_")


def apply(lab: Lab, vmid: int, section: Section) -> None:
    """Give a container the rules that its configuration and its firewall file ask for."""
    found = rules(vmid, section, read_text(lab.firewall_path(vmid)))
    if not found:
        remove(lab, vmid)
        return
    _nft(TABLE.format(table=f"{prefix(lab)}{vmid}", rules="".join(f"    {rule}\n" for rule in found)))


def remove(lab: Lab, vmid: int) -> None:
    """Take a container's rules away; none is fine."""
    table = f"{prefix(lab)}{vmid}"
    _nft(f"table bridge {table}\ndelete table bridge {table}\n")


def rules(vmid: int, section: Section, text: str) -> list[str]:
    """Return the rules that follow from a container's configuration and the text of its firewall file."""
    options = _options(text)
    if options.get("enable") != "1":
        return []
    found: list[str] = []
    for name, pairs in interfaces(section):
        if pairs.get("firewall") == "1":
            found += _of_interface(f"veth{vmid}i{name[3:]}", pairs, options)
    return found


def _options(text: str) -> dict[str, str]:
    """Return the options of a firewall file; macfilter is on unless it says otherwise."""
    options, within = {"macfilter": "1"}, False
    for line in text.splitlines():
        if line.startswith("["):
            within = line.strip().upper() == "[OPTIONS]"
        elif within and ":" in line:
            key, _, value = line.partition(":")
            options[key.strip()] = value.strip()
    return options


def _of_interface(veth: str, pairs: dict[str, str], options: dict[str, str]) -> list[str]:
    """Return the rules of one interface. Without an address of its own there is nothing to hold it to."""
    found, address = [], pairs.get("ip", "").partition("/")[0]
    if options["macfilter"] == "1":
        found += [f'iifname "{veth}" ether saddr != {pairs["hwaddr"].lower()} drop']
    if options.get("ipfilter") == "1" and address not in ("", "dhcp", "manual"):
        found += [
            f'iifname "{veth}" ip saddr != {address} drop',
            f'iifname "{veth}" arp saddr ip != {address} drop',
            f'iifname "{veth}" ip6 saddr != {{ ::, fe80::/10 }} drop',
        ]
    return found


def _nft(text: str) -> None:
    """Hand a whole transaction to nft."""
    done = subprocess.run(["nft", "-f", "-"], input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        raise PveError(f"command 'nft' failed: {done.stderr.strip() or done.returncode}")
