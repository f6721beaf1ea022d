#!/usr/bin/python
# Copyright: (c) 2026, MigraTeck
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cloudpod_cancel
short_description: End a run that is at work on a CloudPod
version_added: 0.1.0
description:
  - A changing script holds the lock of its pod until it is over, also when whoever called it is gone. This ends it, if it is the run that is named.
  - The script is asked to end, so that it cleans up as after any failure. What it then left is seen with M(migra.cloudpods.cloudpod_info).
  - If only commands are left of it, since the script itself was killed, these are asked to end. Nothing is ever killed.
  - It needs our own scripts on the node, since a site's own ones have none for this.
options:
  run_id:
    description:
      - The run that is to be ended, as it was named when the script was called.
      - V(<job>.<attempt>) is that attempt alone, V(<job>) any attempt of the job.
    required: true
  tenant_id:
    description:
      - Tenant that owns the pod. If given, a pod that is known to be another owner's is refused.
    type: str
  for_good:
    description:
      - Whether the run, or every attempt of the job, may not begin any more on this node.
      - A call of a script may be on its way when the run is ended, since whoever was to make it goes on for a moment. With this such a late one is refused.
      - The node remembers it for a day.
    type: bool
    default: false
  wait_s:
    description:
      - How many seconds to wait for the run's end, from 1 to 600. It must be less than O(timeout_s).
    type: int
    default: 30
  timeout_s:
    description:
      - How many seconds the script may take.
    type: int
    default: 900
attributes:
  check_mode:
    details:
      - A run that would be asked to end is shown as ended.
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check_mode), when in diff mode.
    support: none
    details: []
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
- name: End the job that is at work on a pod, whichever attempt it is at
  migra.cloudpods.cloudpod_cancel:
    vmid: 9101
    run_id: job7
    for_good: true
  register: cancelled

- name: See what it left
  migra.cloudpods.cloudpod_info:
    vmids: [9101]
  when: cancelled.outcome == 'ended'
"""

RETURN = r"""
vmid:
  description: Number of the container.
  returned: success
  type: int
  sample: 9101
outcome:
  description:
    - V(ended) if the run was asked to end and is over.
    - V(stuck) if it holds the lock still; a warning names the processes.
    - V(other) if another run holds the lock, or one that has not said which it is. Nothing was done.
    - V(idle) if nobody holds the lock. Nothing was done.
  returned: success
  type: str
  sample: ended
holder:
  description: The run that the outcome is about; V(null) if there is none, or if it has not said which it is.
  returned: success
  type: dict
  sample: {pid: 4711, run: job7.1, script: cloudpod-backup}
retryable:
  description: Whether the same call may succeed later.
  returned: failure
  type: bool
  sample: false
left_behind:
  description: What a failed call left on the node; V(nothing) if nothing.
  returned: failure
  type: str
  sample: nothing
parameters:
  description: The parameters that break a rule, or that name another owner than the pod has, if that is why the module failed.
  returned: when a parameter is refused
  type: list
  elements: str
  sample: [run_id]
rc:
  description: The exit code of the script, if a script ended badly.
  returned: when a script failed
  type: int
  sample: 77
cmd:
  description: The command that failed.
  returned: when a script failed
  type: str
  sample: sudo -n /usr/local/sbin/cloudpod-cancel.sh 9101 --run job7 --wait 30 --tenant TENANT-9
stdout:
  description: The end of what the script printed.
  returned: when a script failed
  type: str
  sample: ""
stderr:
  description: The end of what the script printed on stderr.
  returned: when a script failed
  type: str
  sample: "Error    : container 9101 does not belong to tenant TENANT-9"
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.migra.cloudpods.plugins.module_utils._cancel import Cancel
from ansible_collections.migra.cloudpods.plugins.module_utils._errors import CloudPodError
from ansible_collections.migra.cloudpods.plugins.module_utils._parameters import cancel_spec


def main() -> None:
    """Wire the parameters to the action and its result to Ansible."""
    module = AnsibleModule(argument_spec=cancel_spec(), supports_check_mode=True)
    action = Cancel(module.params, module.run_command, module.check_mode, module.warn)
    try:
        result = action.cancel()
    except CloudPodError as exc:
        module.fail_json(**exc.result())
    module.exit_json(**result)


if __name__ == '__main__':
    main()
