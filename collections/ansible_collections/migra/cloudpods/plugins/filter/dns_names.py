# Copyright: (c) 2026, MigraTeck
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: dns_names
short_description: The names that hosts and aliases have in a zone
version_added: 0.1.0
description:
  - Given hosts, returns their names and those of the aliases as far as they are in the zone, each once.
  - What is no name is left out, since no server has it. So a stack's names can be looked for whatever was said of it.
positional: _input, aliases, zone
options:
  _input:
    description: The hosts, each with C(name). A name without the zone is in it.
    type: list
    elements: dict
    required: true
  aliases:
    description: More names, each with C(name). One with a dot says itself where it is.
    type: list
    elements: dict
    default: []
  zone:
    description: The zone of the names.
    type: str
    required: true
seealso:
  - plugin: migra.cloudpods.dns_records
    plugin_type: filter
author:
  - MigraTeck (@migrateck)
"""

EXAMPLES = r"""
- name: Show the names
  ansible.builtin.debug:
    msg: "{{ [{'name': 'web'}] | migra.cloudpods.dns_names([{'name': 'www.example.com'}], zone='example.com') }}"
"""

RETURN = r"""
_value:
  description: The names, whole and without the last dot.
  type: list
  elements: str
"""

import typing as t

from ansible.errors import AnsibleFilterError
from ansible_collections.migra.cloudpods.plugins.module_utils import _names


def dns_names(hosts: list[dict], aliases: list[dict] | None = None, zone: str = '') -> list[str]:
    """Return the names of the hosts and their aliases."""
    try:
        return _names.names(list(hosts), list(aliases or []), zone)
    except (_names.BadName, KeyError, TypeError) as error:
        raise AnsibleFilterError(f'no names can be told: {error}') from error


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, t.Callable]:
        """Return the filters by name."""
        return {'dns_names': dns_names}
