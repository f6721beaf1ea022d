# Copyright: (c) 2026, MigraTeck
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: pod_ssh_arguments
short_description: OpenSSH's options that lead to a CloudPod and make sure that it is this one
version_added: 0.1.0
description:
  - Given a pod with its host key, returns the options as one text, for C(ansible_ssh_common_args).
  - The pod must show this very key. There is no file of known hosts to keep, and none that is asked.
positional: _input, jump
options:
  _input:
    description: The pod. C(host_key) must be its SSH host key, C(node) is needed with O(jump).
    type: dict
    required: true
  jump:
    description: The way through the pod's node, as the option C(jump) of the inventory plugin M(migra.cloudpods.cloudpods#inventory).
    type: dict
seealso:
  - plugin: migra.cloudpods.cloudpods
    plugin_type: inventory
author:
  - MigraTeck (@migrateck)
"""

EXAMPLES = r"""
- name: Make a pod a host of this run
  ansible.builtin.add_host:
    name: client-portal
    ansible_host: "{{ portal.ip }}"
    ansible_user: root
    ansible_ssh_common_args: "{{ portal.cloudpod | migra.cloudpods.pod_ssh_arguments }}"
"""

RETURN = r"""
_value:
  description: The options, each word quoted where a shell needs it.
  type: str
"""

import shlex
import typing as t

from ansible.errors import AnsibleFilterError
from ansible_collections.migra.cloudpods.plugins.module_utils import _inventory as pods_of


def pod_ssh_arguments(pod: t.Any, jump: dict | None = None) -> str:
    """Given a pod, return the options. A pod whose key is not known is refused: nothing would tell it from another one."""
    if not isinstance(pod, dict) or not pods_of.HOST_KEY.fullmatch(str(pod.get('host_key') or '')):
        name = pod.get('hostname') if isinstance(pod, dict) else pod
        raise AnsibleFilterError(f'the host key of pod {name} is not known: its node has not read it, or it is none')
    try:
        return shlex.join(pods_of.ssh_arguments(pod, pods_of.jump_settings(jump) if jump else None, accept_new=False))
    except pods_of.BadSetting as error:
        raise AnsibleFilterError(str(error)) from error


class FilterModule:
    """What Ansible loads."""

    def filters(self) -> dict[str, t.Callable]:
        """Return the filters by name."""
        return {'pod_ssh_arguments': pod_ssh_arguments}
