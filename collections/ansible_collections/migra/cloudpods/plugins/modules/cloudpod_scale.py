#!/usr/bin/python
# Copyright: (c) 2026, MigraTeck
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cloudpod_scale
short_description: Give a CloudPod more or fewer cores and memory
version_added: 0.1.0
description:
  - Changes cores, memory and swap of a running or stopped pod. A pod that has the size already is left alone.
options:
  tenant_id:
    description:
      - Tenant that owns the pod. If given, a pod of another owner is refused.
    type: str
  cores:
    description:
      - CPU cores, from 1 to 128.
    type: int
    required: true
  memory_mb:
    description:
      - Memory in MiB, from 16 to 1048576.
    type: int
    required: true
  swap_mb:
    description:
      - Swap in MiB, from 0 to 1048576. Without it the swap stays as it is.
    type: int
  force:
    description:
      - Take memory away also when the processes of the pod hold more than is left. The kernel then kills some of them.
      - Without it such a change is refused. A site's own script does not know it.
    type: bool
    default: false
  timeout_s:
    description:
      - How many seconds the change may take.
      - Behind sudo a script cannot be ended from outside. The module then fails, and the lock on the node shows when the script is over.
    type: int
    default: 300
attributes:
  idempotent:
    description: When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
    support: full
seealso:
  - module: migra.cloudpods.cloudpod_create
extends_documentation_fragment:
  - migra.cloudpods.cloudpods
  - migra.cloudpods.cloudpods.one_pod
  - migra.cloudpods.cloudpods.changes
author:
  - MigraTeck (@migrateck)
"""

EXAMPLES = r"""
- name: Scale a pod up
  migra.cloudpods.cloudpod_scale:
    vmid: 9101
    tenant_id: TENANT-123
    cores: 4
    memory_mb: 4096
"""

RETURN = r"""
cloudpod:
  description: The pod after the change. In check mode what it would be.
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
pending:
  description: What takes effect only at the next start.
  returned: success
  type: list
  elements: str
  sample: []
diff:
  description: The pod before and after; an absent pod is an empty dict.
  returned: success
  type: dict
  sample:
    before: {cores: 2, memory_mb: 2048}
    after: {cores: 4, memory_mb: 4096}
differences:
  description: What differs, if that is why the module failed.
  returned: when the pod is not as asked
  type: dict
  sample: {cores: {is: 2, asked: 4}}
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
  sample: 69
cmd:
  description: The command that failed.
  returned: when a script failed
  type: str
  sample: sudo -n /usr/local/sbin/cloudpod-scale.sh 9101 --cores 4 --mem 4096
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
from ansible_collections.migra.cloudpods.plugins.module_utils._parameters import scale_spec


def main() -> None:
    """Wire the parameters to the action and its result to Ansible."""
    module = AnsibleModule(argument_spec=scale_spec(), supports_check_mode=True)
    action = Action(module.params, module.run_command, module.check_mode, module.warn)
    try:
        result = action.scale()
    except CloudPodError as exc:
        module.fail_json(**exc.result())
    module.exit_json(**result)


if __name__ == '__main__':
    main()
