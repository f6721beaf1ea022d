#!/usr/bin/python
# Copyright: (c) 2026, MigraTeck
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cloudpod_info
short_description: Return what many CloudPods of a node are
version_added: 0.1.0
description:
  - Reads configuration, status, owner, address, lock and snapshots of all or some pods of a node in one call.
options:
  backups:
    description:
      - Whether to return the archives of each pod on the node's storage for backups too, also of one that does not exist any more.
    type: bool
    default: false
seealso:
  - module: migra.cloudpods.cloudpod_health
extends_documentation_fragment:
  - migra.cloudpods.cloudpods
  - migra.cloudpods.cloudpods.read
  - migra.cloudpods.cloudpods.reads
author:
  - MigraTeck (@migrateck)
"""

EXAMPLES = r"""
- name: Look at all pods of a node
  migra.cloudpods.cloudpod_info:
    all: true
  register: found

- name: Look at two pods
  migra.cloudpods.cloudpod_info:
    vmids: [9101, 9102]

- name: Look which archives a pod has
  migra.cloudpods.cloudpod_info:
    vmids: [9101]
    backups: true
"""

RETURN = r"""
pods:
  description:
    - A row for each pod, in the order of their numbers. One that does not exist has RV(ignore:exists) set to V(false).
    - With O(backups) each has its archives in RV(ignore:backups), the newest first. Their RV(ignore:tenant), RV(ignore:pod) and
      RV(ignore:job) are V(null) if the archive does not say.
  returned: success
  type: list
  elements: dict
  sample:
    - {vmid: 9101, exists: true, status: running, hostname: client-portal, ip: 10.1.10.91, cores: 2, memory_mb: 2048}
    - vmid: 9102
      exists: false
      unfinished: false
      busy: null
      backups:
        - volid: vzdump-backups:backup/vzdump-lxc-9102-2026_11_21-00_05_47.tar.zst
          created: "2026-11-21T00:05:47Z"
          size_bytes: 123456
          tenant: TENANT-123
          pod: cm3x1
          job: nightly
          protected: false
node:
  description: Name of the node.
  returned: success
  type: str
  sample: pve
pool:
  description: Resource pool of the pods.
  returned: success
  type: str
  sample: ClientPods
cluster:
  description: Name and nodes of the Proxmox cluster that the node is in, V(null) if it is in none or its scripts do not tell.
  returned: success
  type: dict
  sample: {name: prod, nodes: [pve1, pve2]}
elsewhere:
  description: The pool's containers on other nodes of the cluster. V(null) without O(all), or if the scripts do not tell.
  returned: success
  type: list
  elements: dict
  sample: [{vmid: 9103, node: pve2}]
retryable:
  description: Whether the same call may succeed later, for example because the pod is busy.
  returned: failure
  type: bool
  sample: true
left_behind:
  description: What a failed change left on the node; V(nothing) if nothing.
  returned: failure
  type: str
  sample: nothing
parameters:
  description: The parameters that break a rule, or that name another owner than the pod has, if that is why the module failed.
  returned: when a parameter is refused
  type: list
  elements: str
  sample: [hostname]
rc:
  description: The exit code of the script, if a script ended badly.
  returned: when a script failed
  type: int
  sample: 69
cmd:
  description: The command that failed.
  returned: when a script failed
  type: str
  sample: sudo -n /usr/local/sbin/cloudpod-info.sh --all
stdout:
  description: The end of what the script printed.
  returned: when a script failed
  type: str
  sample: ""
stderr:
  description: The end of what the script printed on stderr.
  returned: when a script failed
  type: str
  sample: "Error    : no free address in 10.1.10.50-10.1.10.249"
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.migra.cloudpods.plugins.module_utils._actions import Action
from ansible_collections.migra.cloudpods.plugins.module_utils._errors import CloudPodError
from ansible_collections.migra.cloudpods.plugins.module_utils._parameters import info_spec


def main() -> None:
    """Wire the parameters to the action and its result to Ansible."""
    module = AnsibleModule(argument_spec=info_spec(), supports_check_mode=True)
    action = Action(module.params, module.run_command, module.check_mode, module.warn)
    try:
        result = action.info()
    except CloudPodError as exc:
        module.fail_json(**exc.result())
    module.exit_json(**result)


if __name__ == '__main__':
    main()
