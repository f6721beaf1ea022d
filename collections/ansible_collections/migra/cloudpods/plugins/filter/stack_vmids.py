# Copyright: (c) 2026, MigraTeck
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: stack_vmids
short_description: The pods of a stack with the vmids they have, or are to have
version_added: 0.1.0
description:
  - Given the pods of a blueprint and what a node has, returns them with V(vmid), V(ip), V(host_key), V(pod_id) and whether they are V(there).
  - A pod on the node is the stack's if it has that name and that tenant.
positional: _input, found
options:
  _input:
    description: The pods, as the lookup P(migra.cloudpods.blueprint#lookup) returns them.
    type: list
    elements: dict
    required: true
  found:
    description: What M(migra.cloudpods.cloudpod_info) returned of all pods.
    type: dict
    required: true
  tenant_id:
    description: The tenant.
    type: str
    required: true
  first_vmid:
    description: Where free vmids are looked for.
    type: int
    default: 9200
author:
  - MigraTeck (@migrateck)
"""

EXAMPLES = r"""
- name: Choose the vmids
  ansible.builtin.set_fact:
    pods: "{{ plan.pods | migra.cloudpods.stack_vmids(found, tenant_id='TENANT-123') }}"
"""

RETURN = r"""
_value:
  description: The pods.
  type: list
  elements: dict
"""

import typing as t

from ansible_collections.migra.cloudpods.plugins.module_utils import _blueprint


def stack_vmids(pods: list[dict], found: dict, tenant_id: str = '', first_vmid: int = 9200) -> list[dict]:
    """Return the pods with their vmids."""
    return _blueprint.numbered(list(pods), list(found['pods']), list(found.get('elsewhere') or []), tenant_id, int(first_vmid))


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, t.Callable]:
        """Return the filters by name."""
        return {'stack_vmids': stack_vmids}
