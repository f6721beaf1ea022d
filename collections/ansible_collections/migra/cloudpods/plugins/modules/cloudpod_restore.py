#!/usr/bin/python
# Copyright: (c) 2026, MigraTeck
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cloudpod_restore
short_description: Restore a CloudPod from an archive
version_added: 0.1.0
description:
  - Restores an archive in place, which takes the pod's data back and keeps its network, hostname and owner, or beside it as a new pod.
  - Without O(archive) the newest one of the pod is taken, on the node's storage for backups.
  - An archive tells whose it is. One of another tenant or pod, or one that does not tell, is refused.
  - It needs our own scripts on the node, since a site's own ones have none for this.
options:
  tenant_id:
    description:
      - Tenant that owns the pod, and the archive.
    type: str
    required: true
  pod_id:
    description:
      - Id of the pod in the control plane. For a restore as a new pod, the id of the new one.
    type: str
    required: true
  archive:
    description:
      - Volume id of the archive, as M(migra.cloudpods.cloudpod_backup) and M(migra.cloudpods.cloudpod_info) show it.
      - Without it the newest archive of the pod is taken.
    type: str
  force:
    description:
      - Whether a pod that exists may be restored in place. What was written since the archive is lost.
    type: bool
    default: false
  from_pod_id:
    description:
      - Restore as a new pod, from an archive of the pod with this id, which belongs to the same tenant.
      - Without it the pod itself is restored in place.
    type: str
  from_vmid:
    description:
      - Number of the container that the archive is of. It may be gone.
      - Needed with O(from_pod_id) unless O(archive) is given.
    type: int
  hostname:
    description:
      - Hostname of the new pod. Needed with O(from_pod_id).
    type: str
  ip:
    description:
      - Address of the new pod. Without it the node chooses one.
      - Mutually exclusive with O(auto_ip).
    type: str
  auto_ip:
    description:
      - Let the node choose an address. This is so too if neither O(ip) nor O(auto_ip) is given.
    type: bool
  gateway:
    description:
      - Gateway of the new pod. Without it the node's default is used.
    type: str
  bridge:
    description:
      - Bridge of the new pod. Without it the node's default is used.
    type: str
  storage:
    description:
      - Storage for the disk of the new pod. Without it the node's default is used.
    type: str
  cores:
    description:
      - Cores of the new pod, from 1 to 128. Without it as in the archive.
    type: int
  memory_mb:
    description:
      - Memory of the new pod in MiB, from 16 to 1048576. Without it as in the archive.
    type: int
  swap_mb:
    description:
      - Swap of the new pod in MiB, from 0 to 1048576. Without it as in the archive.
    type: int
  isolated:
    description:
      - Whether the new pod gets no link and is not started with the node, so that the copy of a live pod cannot act on the world.
    type: bool
    default: false
  timeout_s:
    description:
      - How many seconds the restore may take.
      - Behind sudo a script cannot be ended from outside. The module then fails, and the lock on the node shows when the script is over.
    type: int
    default: 14400
attributes:
  idempotent:
    description: When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
    support: partial
    details:
      - With O(run_id) the second call of the same job finds the restore of the first.
      - Without it every call restores in place again. A new pod is not made twice from one archive.
seealso:
  - module: migra.cloudpods.cloudpod_backup
  - module: migra.cloudpods.cloudpod_restore_drill
extends_documentation_fragment:
  - migra.cloudpods.cloudpods
  - migra.cloudpods.cloudpods.one_pod
  - migra.cloudpods.cloudpods.changes
author:
  - MigraTeck (@migrateck)
"""

EXAMPLES = r"""
- name: Take a pod back to its newest archive
  migra.cloudpods.cloudpod_restore:
    vmid: 9101
    tenant_id: TENANT-123
    pod_id: cm3x1
    force: true

- name: Restore the same archive as another pod
  migra.cloudpods.cloudpod_restore:
    vmid: 9103
    tenant_id: TENANT-123
    pod_id: cm3x2
    from_vmid: 9101
    from_pod_id: cm3x1
    hostname: client-portal-copy
"""

RETURN = r"""
archive:
  description: The archive. What is not known, as of one on another storage, is V(null).
  returned: success
  type: dict
  contains:
    volid:
      description: Volume id of the archive.
      type: str
      returned: success
      sample: vzdump-backups:backup/vzdump-lxc-9101-2026_11_21-00_05_47.tar.zst
    created:
      description: When it was made, in UTC.
      type: str
      returned: success
      sample: "2026-11-21T00:05:47Z"
    size_bytes:
      description: Its size.
      type: int
      returned: success
      sample: 181403648
    job:
      description: The job that made it; V(null) if there was none.
      type: str
      returned: success
      sample: nightly
cloudpod:
  description: The pod after the restore. In check mode what it would be.
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
ip:
  description: Address of the pod; V(null) in check mode if the node chooses it.
  returned: success
  type: str
  sample: 10.1.10.91
diff:
  description: The pod before and after; an absent pod is an empty dict.
  returned: success
  type: dict
  sample:
    before: {status: running}
    after: {status: running, restored_from: "vzdump-backups:backup/vzdump-lxc-9101-2026_11_21-00_05_47.tar.zst"}
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
taken:
  description: What somebody else has of what the new pod was to get, V(vmid) or V(ip), if that is why the module failed. Nothing was done.
  returned: when the vmid or the address is taken
  type: str
  sample: vmid
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
  sample: sudo -n /usr/local/sbin/cloudpod-restore.sh 9101 --archive vzdump-backups:backup/vzdump-lxc-9101-2026_11_21-00_05_47.tar.zst
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
from ansible_collections.migra.cloudpods.plugins.module_utils._errors import CloudPodError
from ansible_collections.migra.cloudpods.plugins.module_utils._parameters import restore_spec
from ansible_collections.migra.cloudpods.plugins.module_utils._restore import Restore


def main() -> None:
    """Wire the parameters to the action and its result to Ansible."""
    module = AnsibleModule(argument_spec=restore_spec(), supports_check_mode=True)
    action = Restore(module.params, module.run_command, module.check_mode, module.warn)
    try:
        result = action.restore()
    except CloudPodError as exc:
        module.fail_json(**exc.result())
    module.exit_json(**result)


if __name__ == '__main__':
    main()
