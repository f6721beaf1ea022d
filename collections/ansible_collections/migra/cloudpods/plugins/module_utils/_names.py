# Copyright: (c) 2026, MigraTeck
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Which DNS records a stack's hosts and aliases make, without Ansible."""

from __future__ import annotations

import ipaddress
import re

NAME = re.compile(r'(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*')


# Said for a reverse zone: that of each address's own network.
AUTO = 'auto'


class BadName(Exception):
    """A name or address that no record can be made of."""


def records(hosts: list[dict], aliases: list[dict], zone: str, reverse_zone: str) -> list[dict]:
    """Return the records as {name, type, values}, names whole and without the last dot; a PTR also has its address and zone.

    An alias outside the zone is left out: another server has it. So is a PTR outside the reverse zone.
    One that is a host's name is refused, unless it leads there anyway: no record can stand beside a CNAME.
    """
    zone, reverse_zone = _name(zone), _name(reverse_zone) if reverse_zone else ''
    own = {whole(host['name'], zone) for host in hosts}
    found: list[dict] = []
    for host in hosts:
        name = whole(host['name'], zone)
        found += _addresses(name, [_address(each) for each in host['addresses']])
        found += _pointers(name, [_address(each) for each in host['addresses']], reverse_zone)
    for alias in aliases:
        name, target = outside_or_whole(alias['name'], zone), whole(alias['target'], zone)
        if name in own and name != target:
            raise BadName(f'{name} is the name of a host of this stack, and cannot lead to {target}')
        if name == zone:
            # The zone's own name has records that no alias can stand beside.
            found += [{**record, 'name': name} for record in found if record['name'] == target and record['type'] in ('A', 'AAAA')]
        elif name.endswith('.' + zone) and name != target:
            found.append({'name': name, 'type': 'CNAME', 'values': [target + '.']})
    return found


def names(hosts: list[dict], aliases: list[dict], zone: str) -> list[str]:
    """Return each name of theirs that is in the zone, whole, once. What is no name at all no server has, and is left out."""
    zone = _name(zone)
    asked = [(whole, host['name']) for host in hosts] + [(outside_or_whole, alias['name']) for alias in aliases]
    found: dict[str, None] = {}
    for say, name in asked:
        try:
            found[say(name, zone)] = None
        except BadName:
            continue
    return [name for name in found if name == zone or name.endswith('.' + zone)]


def whole(name: str, zone: str) -> str:
    """Given a name in the zone, with or without it, return it whole."""
    checked = _name(name)
    return checked if checked == zone or checked.endswith('.' + zone) else _name(f'{checked}.{zone}')


def outside_or_whole(name: str, zone: str) -> str:
    """Given a name, return it whole: one without a dot is in the zone, one with a dot says itself where it is."""
    checked = _name(name)
    return checked if '.' in checked else whole(checked, zone)


def _addresses(name: str, addresses: list) -> list[dict]:
    kinds = {'A': [str(each) for each in addresses if each.version == 4], 'AAAA': [str(each) for each in addresses if each.version == 6]}
    return [{'name': name, 'type': kind, 'values': values} for kind, values in kinds.items() if values]


def _pointers(name: str, addresses: list, reverse_zone: str) -> list[dict]:
    placed = [(each, _reverse_zone(each, reverse_zone)) for each in addresses]
    return [{'name': each.reverse_pointer, 'type': 'PTR', 'values': [name + '.'], 'address': str(each), 'zone': zone} for each, zone in placed if zone]


def _reverse_zone(address: ipaddress.IPv4Address | ipaddress.IPv6Address, said: str) -> str:
    """Return the zone that an address's PTR is in, empty for none of ours. A network of IPv6 cannot be told by an address."""
    if said == AUTO:
        return address.reverse_pointer.split('.', 1)[1] if address.version == 4 else ''
    return said if said and address.reverse_pointer.endswith('.' + said) else ''


def _name(text: object) -> str:
    name = str(text).lower().rstrip('.')
    if not NAME.fullmatch(name):
        raise BadName(f'{text!r} is no name of a host')
    return name


def _address(text: object) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    try:
        return ipaddress.ip_address(str(text))
    except ValueError:
        raise BadName(f'{text!r} is no address') from None
