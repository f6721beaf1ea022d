#!/usr/bin/python
# Copyright: (c) 2026, MigraTeck
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cloudpod_snapshot
short_description: Make, delete or go back to a snapshot of a CloudPod
version_added: 0.1.0
description:
  - Manages one snapshot of a pod by its name, and returns all that the pod has.
  - It needs our own scripts on the node, since a site's own ones have none for this.
options:
  tenant_id:
    description:
      - Tenant that owns the pod. If given, a pod of another owner is refused.
    type: str
  name:
    description:
      - Name of the snapshot, 2 to 40 letters, digits, underscores or hyphens, the first a letter.
      - V(current), V(pending) and V(vzdump) are words of Proxmox's own.
    type: str
    required: true
  state:
    description:
      - V(present) makes the snapshot. If O(run_id) is given, one of the same name that another job made is an error.
      - V(absent) deletes it.
      - V(rolled_back) goes back to it. What was written since is lost, and cores, memory and the rest of the configuration become what
        they were too. A running pod is stopped for it and started again.
      - On ZFS only the newest snapshot can be gone back to.
    type: str
    choices: [present, absent, rolled_back]
    default: present
  timeout_s:
    description:
      - How many seconds the change may take.
      - Behind sudo a script cannot be ended from outside. The module then fails, and the lock on the node shows when the script is over.
    type: int
    default: 900
attributes:
  idempotent:
    description: When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
    support: partial
    details:
      - With O(state=rolled_back) every call goes back, but a job goes back once. The job is the part of O(run_id) before the dot.
seealso:
  - module: migra.cloudpods.cloudpod_backup
  - module: migra.cloudpods.cloudpod_info
extends_documentation_fragment:
  - migra.cloudpods.cloudpods
  - migra.cloudpods.cloudpods.one_pod
  - migra.cloudpods.cloudpods.changes
author:
  - MigraTeck (@migrateck)
"""

EXAMPLES = r"""
- name: Keep a pod's state
  migra.cloudpods.cloudpod_snapshot:
    vmid: 9101
    tenant_id: TENANT-123
    name: before-upgrade

- name: Go back to it
  migra.cloudpods.cloudpod_snapshot:
    vmid: 9101
    name: before-upgrade
    state: rolled_back

- name: Drop it
  migra.cloudpods.cloudpod_snapshot:
    vmid: 9101
    name: before-upgrade
    state: absent
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
snapshots:
  description: The snapshots of the pod after the change, the oldest first. In check mode what they would be.
  returned: success
  type: list
  elements: dict
  contains:
    name:
      description: Name of the snapshot.
      type: str
      returned: success
      sample: before-upgrade
    created:
      description: When it was made, in UTC; V(null) if that is not known.
      type: str
      returned: success
      sample: "2026-11-21T00:05:47Z"
    parent:
      description: The snapshot it follows; V(null) for the first one.
      type: str
      returned: success
      sample: null
    job:
      description: The part of O(run_id) before the dot when it was made; V(null) if there was none or it was made by hand.
      type: str
      returned: success
      sample: job1
    complete:
      description: Whether it is whole. V(false) while it is made or deleted, or when that was ended half-way.
      type: bool
      returned: success
      sample: true
diff:
  description: The pod before and after.
  returned: success
  type: dict
  sample:
    before: {status: running, snapshots: []}
    after: {status: running, snapshots: [before-upgrade]}
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
  sample: [tenant_id]
busy:
  description: Who holds the lock of the pod, if that is why the module failed.
  returned: when another run holds the lock
  type: dict
  sample: {pid: 4711, run: job1.1, script: cloudpod-backup, since: "2026-11-21T00:00:00Z"}
rc:
  description: The exit code of the script, if a script ended badly.
  returned: when a script failed
  type: int
  sample: 1
cmd:
  description: The command that failed.
  returned: when a script failed
  type: str
  sample: sudo -n /usr/local/sbin/cloudpod-snapshot.sh 9101 --action create --name before-upgrade
stdout:
  description: The end of what the script printed.
  returned: when a script failed
  type: str
  sample: ""
stderr:
  description: The end of what the script printed on stderr.
  returned: when a script failed
  type: str
  sample: "Error    : snapshot feature is not available"
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.migra.cloudpods.plugins.module_utils._actions import Action
from ansible_collections.migra.cloudpods.plugins.module_utils._errors import CloudPodError
from ansible_collections.migra.cloudpods.plugins.module_utils._parameters import snapshot_spec


def main() -> None:
    """Wire the parameters to the action and its result to Ansible."""
    module = AnsibleModule(argument_spec=snapshot_spec(), supports_check_mode=True)
    action = Action(module.params, module.run_command, module.check_mode, module.warn)
    try:
        result = action.snapshot()
    except CloudPodError as exc:
        module.fail_json(**exc.result())
    module.exit_json(**result)


if __name__ == '__main__':
    main()
