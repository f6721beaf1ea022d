# Copyright: (c) 2026, MigraTeck
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: dns_records
short_description: The DNS records that hosts and aliases make
version_added: 0.1.0
description:
  - Given hosts with their addresses, returns the A, AAAA and PTR records, and the CNAME records of the aliases.
positional: _input, aliases, zone, reverse_zone
options:
  _input:
    description: The hosts, each with C(name) and C(addresses). A name without the zone is in it.
    type: list
    elements: dict
    required: true
  aliases:
    description:
      - More names, each with C(name) and C(target). One outside the zone is left out.
      - One that is a host's name is refused, unless that host is its target.
    type: list
    elements: dict
    default: []
  zone:
    description: The zone of the names.
    type: str
    required: true
  reverse_zone:
    description:
      - The zone of the addresses. Without it there are no PTR records.
      - V(auto) is for the zone of each IPv4 address's network of 256, as V(10.1.10.in-addr.arpa).
    type: str
    default: ''
author:
  - MigraTeck (@migrateck)
"""

EXAMPLES = r"""
- name: Show the records
  ansible.builtin.debug:
    msg: "{{ [{'name': 'web', 'addresses': ['10.1.10.50']}] | migra.cloudpods.dns_records(zone='example.com') }}"
"""

RETURN = r"""
_value:
  description:
    - The records, each with C(name), whole and without the last dot, C(type) and C(values).
    - A PTR also has its C(address) and its C(zone).
  type: list
  elements: dict
"""

import typing as t

from ansible.errors import AnsibleFilterError
from ansible_collections.migra.cloudpods.plugins.module_utils import _names


def dns_records(hosts: list[dict], aliases: list[dict] | None = None, zone: str = '', reverse_zone: str = '') -> list[dict]:
    """Return the records of the hosts and their aliases."""
    try:
        return _names.records(list(hosts), list(aliases or []), zone, reverse_zone)
    except (_names.BadName, KeyError, TypeError) as error:
        raise AnsibleFilterError(f'no DNS records can be made: {error}') from error


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, t.Callable]:
        """Return the filters by name."""
        return {'dns_records': dns_records}
