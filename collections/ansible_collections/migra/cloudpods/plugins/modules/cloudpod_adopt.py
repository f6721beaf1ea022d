#!/usr/bin/python
# Copyright: (c) 2026, MigraTeck
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cloudpod_adopt
short_description: Make a container of the pool a CloudPod
version_added: 0.1.0
description:
  - Gives a container of the pool, which somebody made by hand or with other scripts, its owner marker and its line in the address file.
  - A container of another owner is refused, and one whose address something else has.
  - It needs our own scripts on the node, since a site's own ones have none for this.
options:
  tenant_id:
    description:
      - Tenant that is to own the pod.
    type: str
    required: true
  pod_id:
    description:
      - Id that the pod has in the control plane.
    type: str
    required: true
  timeout_s:
    description:
      - How many seconds the script may take.
    type: int
    default: 300
attributes:
  idempotent:
    description: When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
    support: full
seealso:
  - module: migra.cloudpods.cloudpod_info
extends_documentation_fragment:
  - migra.cloudpods.cloudpods
  - migra.cloudpods.cloudpods.one_pod
  - migra.cloudpods.cloudpods.changes
author:
  - MigraTeck (@migrateck)
"""

EXAMPLES = r"""
- name: Make a container that was made by hand a pod
  migra.cloudpods.cloudpod_adopt:
    vmid: 9101
    tenant_id: TENANT-123
    pod_id: cm3x1
"""

RETURN = r"""
cloudpod:
  description: The pod afterwards. In check mode what it would be.
  returned: success
  type: dict
  sample:
    vmid: 9101
    exists: true
    in_pool: true
    node: pve
    status: running
    lock:
    lock_stale: false
    unfinished: false
    busy:
    owner: {tenant: TENANT-123, pod: cm3x1}
    hostname: client-portal
    ip: 10.1.10.91
    prefix: 24
    gateway: 10.1.10.1
    mac: "BC:24:11:00:00:01"
    bridge: vmbr0
    storage: clients-main
    disk_gb: 8
    cores: 2
    memory_mb: 2048
    swap_mb: 512
    onboot: true
    protection: false
    unprivileged: true
    pending: {}
    snapshots: []
    config: {arch: amd64, ostype: debian}
diff:
  description: The pod before and after.
  returned: success
  type: dict
  sample:
    before: {hostname: client-portal}
    after: {hostname: client-portal, tenant_id: TENANT-123, pod_id: cm3x1}
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
busy:
  description: Who holds the lock of the pod, if that is why the module failed.
  returned: when another run holds the lock
  type: dict
  sample: {pid: 4711, run: job1.1, script: cloudpod-backup, since: "2026-11-21T00:00:00Z"}
rc:
  description: The exit code of the script, if a script ended badly.
  returned: when a script failed
  type: int
  sample: 73
cmd:
  description: The command that failed.
  returned: when a script failed
  type: str
  sample: sudo -n /usr/local/sbin/cloudpod-adopt.sh 9101 --tenant TENANT-123 --pod cm3x1
stdout:
  description: The end of what the script printed.
  returned: when a script failed
  type: str
  sample: ""
stderr:
  description: The end of what the script printed on stderr.
  returned: when a script failed
  type: str
  sample: "Error    : address 10.1.10.91 is taken"
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.migra.cloudpods.plugins.module_utils._actions import Action
from ansible_collections.migra.cloudpods.plugins.module_utils._errors import CloudPodError
from ansible_collections.migra.cloudpods.plugins.module_utils._parameters import adopt_spec


def main() -> None:
    """Wire the parameters to the action and its result to Ansible."""
    module = AnsibleModule(argument_spec=adopt_spec(), supports_check_mode=True)
    action = Action(module.params, module.run_command, module.check_mode, module.warn)
    try:
        result = action.adopt()
    except CloudPodError as exc:
        module.fail_json(**exc.result())
    module.exit_json(**result)


if __name__ == '__main__':
    main()
