#!/usr/bin/python
# Copyright: (c) 2026, MigraTeck
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: node_info
short_description: Return what a node has for CloudPods, and whether its scripts can be called
version_added: 0.1.0
description:
  - Reads cores, memory and the storages for containers, and of each node script whether it is there and may be called.
  - Nothing is changed, and no script but C(cloudpod-info.sh) is run.
options:
  timeout_s:
    description:
      - How many seconds the script may take.
    type: int
    default: 60
seealso:
  - module: migra.cloudpods.cloudpod_info
extends_documentation_fragment:
  - migra.cloudpods.cloudpods
  - migra.cloudpods.cloudpods.reads
author:
  - MigraTeck (@migrateck)
"""

EXAMPLES = r"""
- name: Look at the node itself
  migra.cloudpods.node_info:
  register: found
"""

RETURN = r"""
facts:
  description: What the node has. V(null) if its scripts are too old to tell.
  returned: success
  type: dict
  sample:
    cores: 64
    memory_mb: 262144
    storage: clients-main
    storages:
      - {name: clients-main, type: zfspool, active: true, total_gb: 1124, available_gb: 1024}
version:
  description: Version of the node's scripts. V(null) if they are too old to tell.
  returned: success
  type: str
  sample: 0.1.0
cluster:
  description: Name and nodes of the Proxmox cluster that the node is in, V(null) if it is in none.
  returned: success
  type: dict
  sample: {name: prod, nodes: [pve1, pve2]}
scripts:
  description: Of each script whether it is there, whether it is of the role P(migra.cloudpods.cloudpod_node#role), and whether it may be called.
  returned: success
  type: list
  elements: dict
  sample: [{name: cloudpod-create.sh, present: true, ours: true, callable: true}]
node:
  description: Name of the node.
  returned: success
  type: str
  sample: pve
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
  sample: [timeout_s]
rc:
  description: The exit code of the script, if a script ended badly.
  returned: when a script failed
  type: int
  sample: 69
cmd:
  description: The command that failed.
  returned: when a script failed
  type: str
  sample: sudo -n /usr/local/sbin/cloudpod-info.sh --node
stdout:
  description: The end of what the script printed.
  returned: when a script failed
  type: str
  sample: ""
stderr:
  description: The end of what the script printed on stderr.
  returned: when a script failed
  type: str
  sample: "Error    : pvesm status failed and gave no reason"
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.migra.cloudpods.plugins.module_utils._actions import Action
from ansible_collections.migra.cloudpods.plugins.module_utils._errors import CloudPodError
from ansible_collections.migra.cloudpods.plugins.module_utils._parameters import node_spec


def main() -> None:
    """Wire the parameters to the action and its result to Ansible."""
    module = AnsibleModule(argument_spec=node_spec(), supports_check_mode=True)
    action = Action(module.params, module.run_command, module.check_mode, module.warn)
    try:
        result = action.node()
    except CloudPodError as exc:
        module.fail_json(**exc.result())
    module.exit_json(**result)


if __name__ == '__main__':
    main()
