#!/usr/bin/python
# Copyright: (c) 2026, MigraTeck
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cloudpod_power
short_description: Start, stop or restart a CloudPod
version_added: 0.1.0
description:
  - Brings a pod into a state. A pod that is in it already is left alone.
  - It needs our own scripts on the node, since a site's own ones have none for this.
options:
  tenant_id:
    description:
      - Tenant that owns the pod. If given, a pod of another owner is refused.
    type: str
  state:
    description:
      - V(running) starts the pod, V(stopped) shuts it down.
      - V(restarted) shuts it down and starts it, which also applies what waits for the next start. A stopped pod is started.
    type: str
    choices: [running, stopped, restarted]
    required: true
  shutdown_timeout_s:
    description:
      - How many seconds the guest has to shut down, from 1 to 3600. It must be less than O(timeout_s).
    type: int
    default: 60
  force:
    description:
      - Whether a guest that has not shut down by then is stopped hard. Without it the module fails.
    type: bool
    default: false
  timeout_s:
    description:
      - How many seconds the change may take.
      - Behind sudo a script cannot be ended from outside. The module then fails, and the lock on the node shows when the script is over.
    type: int
    default: 3900
attributes:
  idempotent:
    description: When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
    support: partial
    details:
      - With O(state=restarted) every call restarts the pod, but a job restarts it once. The job is the part of O(run_id) before the dot.
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
- name: Shut a pod down, and stop it hard if it has not obeyed after two minutes
  migra.cloudpods.cloudpod_power:
    vmid: 9101
    tenant_id: TENANT-123
    state: stopped
    shutdown_timeout_s: 120
    force: true

- name: Start it
  migra.cloudpods.cloudpod_power:
    vmid: 9101
    state: running

- name: Restart it
  migra.cloudpods.cloudpod_power:
    vmid: 9101
    state: restarted
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
diff:
  description: The pod before and after.
  returned: success
  type: dict
  sample:
    before: {status: running}
    after: {status: stopped}
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
  sample: sudo -n /usr/local/sbin/cloudpod-power.sh 9101 --state stopped --shutdown-timeout 60
stdout:
  description: The end of what the script printed.
  returned: when a script failed
  type: str
  sample: ""
stderr:
  description: The end of what the script printed on stderr.
  returned: when a script failed
  type: str
  sample: "Error    : container did not stop"
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.migra.cloudpods.plugins.module_utils._actions import Action
from ansible_collections.migra.cloudpods.plugins.module_utils._errors import CloudPodError
from ansible_collections.migra.cloudpods.plugins.module_utils._parameters import power_spec


def main() -> None:
    """Wire the parameters to the action and its result to Ansible."""
    module = AnsibleModule(argument_spec=power_spec(), supports_check_mode=True)
    action = Action(module.params, module.run_command, module.check_mode, module.warn)
    try:
        result = action.power()
    except CloudPodError as exc:
        module.fail_json(**exc.result())
    module.exit_json(**result)


if __name__ == '__main__':
    main()
