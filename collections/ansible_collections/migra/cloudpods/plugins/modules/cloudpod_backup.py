#!/usr/bin/python
# Copyright: (c) 2026, MigraTeck
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cloudpod_backup
short_description: Back up a CloudPod
version_added: 0.1.0
description:
  - Makes an archive of the pod with C(vzdump).
  - Each call makes one, unless the same O(run_id) already did.
options:
  tenant_id:
    description:
      - Tenant that owns the pod. If given, a pod of another owner is refused.
    type: str
  mode:
    description:
      - How the pod is treated meanwhile. A stopped pod is always backed up as with V(stop).
    type: str
    choices: [snapshot, suspend, stop]
    default: snapshot
  storage:
    description:
      - Storage for the archive. Without it the node's default is used.
    type: str
  retention:
    description:
      - How many archives of the pod to keep. When the backup is made, the others are removed by C(vzdump --prune-backups).
      - Each number is from 0 to 999, at least one above 0. Without it none is removed.
      - If the storage holds archives of another owner under the same O(vmid), none is removed, and a warning says so.
    type: dict
    suboptions:
      keep_last:
        description: The newest ones.
        type: int
      keep_hourly:
        description: The newest one of each of so many hours.
        type: int
      keep_daily:
        description: The newest one of each of so many days.
        type: int
      keep_weekly:
        description: The newest one of each of so many weeks.
        type: int
      keep_monthly:
        description: The newest one of each of so many months.
        type: int
      keep_yearly:
        description: The newest one of each of so many years.
        type: int
  timeout_s:
    description:
      - How many seconds the backup may take.
      - Behind sudo a script cannot be ended from outside. The module then fails, and the lock on the node shows when the script is over.
    type: int
    default: 14400
attributes:
  idempotent:
    description: When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
    support: partial
    details:
      - With O(run_id) the second call of the same job finds the archive of the first. Without it every call makes an archive.
      - Check mode cannot know of that archive and always predicts a change.
seealso:
  - module: migra.cloudpods.cloudpod_info
  - module: migra.cloudpods.cloudpod_restore
extends_documentation_fragment:
  - migra.cloudpods.cloudpods
  - migra.cloudpods.cloudpods.one_pod
  - migra.cloudpods.cloudpods.changes
author:
  - MigraTeck (@migrateck)
"""

EXAMPLES = r"""
- name: Back up a pod
  migra.cloudpods.cloudpod_backup:
    vmid: 9101
    tenant_id: TENANT-123
  register: nightly

- name: Show where it is
  ansible.builtin.debug:
    var: nightly.archive.volid

- name: Back it up and keep the newest ones only
  migra.cloudpods.cloudpod_backup:
    vmid: 9101
    tenant_id: TENANT-123
    retention:
      keep_last: 3
      keep_daily: 7
      keep_weekly: 4
"""

RETURN = r"""
archive:
  description: The archive. What is not known, as in check mode, is V(null).
  returned: success
  type: dict
  contains:
    volid:
      description: Volume id of the archive.
      type: str
      returned: success
      sample: vzdump-backups:backup/vzdump-lxc-9101-2026_11_21-00_04_57.tar.zst
    size_bytes:
      description: Its size.
      type: int
      returned: success
      sample: 181403648
    mode:
      description: How it was made.
      type: str
      returned: success
      sample: snapshot
    storage:
      description: Storage that holds it.
      type: str
      returned: success
      sample: vzdump-backups
    duration_s:
      description: How long it took.
      type: float
      returned: success
      sample: 12
removed:
  description: Volume ids of the archives that O(retention) took away.
  returned: success
  type: list
  elements: str
  sample: ["vzdump-backups:backup/vzdump-lxc-9101-2026_11_14-00_04_57.tar.zst"]
cloudpod:
  description: The pod as it was when the backup began.
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
  description: The pod before and after; an absent pod is an empty dict.
  returned: changed
  type: dict
  sample:
    before: {archive: null}
    after: {archive: {storage: vzdump-backups}}
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
  sample: sudo -n /usr/local/sbin/cloudpod-backup.sh 9101 --mode snapshot
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
from ansible_collections.migra.cloudpods.plugins.module_utils._parameters import backup_spec


def main() -> None:
    """Wire the parameters to the action and its result to Ansible."""
    module = AnsibleModule(argument_spec=backup_spec(), supports_check_mode=True)
    action = Action(module.params, module.run_command, module.check_mode, module.warn)
    try:
        result = action.backup()
    except CloudPodError as exc:
        module.fail_json(**exc.result())
    module.exit_json(**result)


if __name__ == '__main__':
    main()
