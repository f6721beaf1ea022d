#!/usr/bin/python
# Copyright: (c) 2026, MigraTeck
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cloudpod_restore_drill
short_description: Try whether an archive of a CloudPod restores
version_added: 0.1.0
description:
  - Restores the newest archive of a pod beside it, as a pod without a link that is not started with the node, starts it, waits until
    its guest is up, and removes it again, whatever happened.
  - The drill passes when C(systemctl is-system-running) says V(running) or V(degraded) in the copy. Without a link some unit always
    fails, which says nothing of the archive. A guest without systemd passes when it runs.
  - The verdict of the copy's health is handed over, but does not decide. A disk that is nearly full is not the archive's fault.
  - The copy belongs to the pod C(drill.<pod_id>). What an earlier drill could not remove at O(drill_vmid) is removed first if it
    belongs to that one, and refused if not.
  - A drill that does not pass fails, saying which archive did not restore and why.
  - It needs our own scripts on the node, since a site's own ones have none for this.
options:
  vmid:
    description:
      - Number of the container whose archive is tried, from 100 to 999999999. It is only read, and may be gone.
    type: int
    required: true
  tenant_id:
    description:
      - Tenant that owns the pod, and the archive.
    type: str
    required: true
  pod_id:
    description:
      - Id of the pod in the control plane. Without it the pod that O(vmid) is now.
    type: str
  archive:
    description:
      - Volume id of the archive. Without it the newest archive of the pod is tried.
    type: str
  drill_vmid:
    description:
      - Number of the copy. Without it 900000000 more than O(vmid); it must be given for a vmid above 99999999.
    type: int
  storage:
    description:
      - Storage for the disk of the copy. Without it the node's default is used.
    type: str
  boot_timeout_s:
    description:
      - How many seconds the guest of the copy has to come up, from 1 to 3600.
    type: int
    default: 120
  timeout_s:
    description:
      - How many seconds each script may take, the restore above all.
      - Behind sudo a script cannot be ended from outside. The module then fails, and the lock on the node shows when the script is over.
    type: int
    default: 14400
attributes:
  idempotent:
    description: When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
    support: full
    details:
      - Each call is a drill. It leaves nothing, so that it reports a change only if it removed what an earlier one had left.
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check_mode), when in diff mode.
    support: none
    details:
      - A drill leaves nothing that could be shown.
seealso:
  - module: migra.cloudpods.cloudpod_restore
  - module: migra.cloudpods.cloudpod_health
extends_documentation_fragment:
  - migra.cloudpods.cloudpods
  - migra.cloudpods.cloudpods.one_pod
  - migra.cloudpods.cloudpods.changes
author:
  - MigraTeck (@migrateck)
"""

EXAMPLES = r"""
- name: Try whether the newest archive of a pod restores
  migra.cloudpods.cloudpod_restore_drill:
    vmid: 9101
    tenant_id: TENANT-123
    pod_id: cm3x1
  register: drill

- name: Show what the copy's health was
  ansible.builtin.debug:
    var: drill.verdict
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
drill_vmid:
  description: Number that the copy had.
  returned: success
  type: int
  sample: 900009101
passed:
  description:
    - Whether the archive restores; V(null) in check mode.
    - After a failure V(true) means that only the copy could not be removed. It is missing when the drill could not be held, so that nothing
      is known of the archive.
  returned: success, or when an archive was judged
  type: bool
  sample: true
verdict:
  description: The health of the copy, V(ok), V(warning) or V(critical); V(null) in check mode.
  returned: success
  type: str
  sample: ok
reasons:
  description: Why, in words.
  returned: success, or when the guest did not come up
  type: list
  elements: str
  sample: []
duration_s:
  description: How long the drill took.
  returned: success
  type: float
  sample: 41.5
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
  sample: sudo -n /usr/local/sbin/cloudpod-restore.sh 900009101 --archive vzdump-backups:backup/vzdump-lxc-9101-2026_11_21-00_05_47.tar.zst
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
from ansible_collections.migra.cloudpods.plugins.module_utils._drill import Drill
from ansible_collections.migra.cloudpods.plugins.module_utils._errors import CloudPodError
from ansible_collections.migra.cloudpods.plugins.module_utils._parameters import drill_spec


def main() -> None:
    """Wire the parameters to the action and its result to Ansible."""
    module = AnsibleModule(argument_spec=drill_spec(), supports_check_mode=True)
    action = Drill(module.params, module.run_command, module.check_mode, module.warn)
    try:
        result = action.drill()
    except CloudPodError as exc:
        module.fail_json(**exc.result())
    module.exit_json(**result)


if __name__ == '__main__':
    main()
