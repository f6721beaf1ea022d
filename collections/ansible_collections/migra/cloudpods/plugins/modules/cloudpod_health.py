#!/usr/bin/python
# Copyright: (c) 2026, MigraTeck
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cloudpod_health
short_description: Return the health of many CloudPods of a node
version_added: 0.1.0
description:
  - Reads use and limits of all or some pods of a node in one call, with a verdict for each.
  - With a site's own C(cloudpod-health.sh) it is called once for each pod, and what it prints is returned as it is.
seealso:
  - module: migra.cloudpods.cloudpod_info
extends_documentation_fragment:
  - migra.cloudpods.cloudpods
  - migra.cloudpods.cloudpods.read
  - migra.cloudpods.cloudpods.reads
author:
  - MigraTeck (@migrateck)
"""

EXAMPLES = r"""
- name: Check all pods of a node
  migra.cloudpods.cloudpod_health:
    all: true
  register: checked

- name: Show those that need somebody
  ansible.builtin.debug:
    msg: "{{ checked.health | rejectattr('verdict', 'equalto', 'ok') | list }}"
"""

RETURN = r"""
health:
  description: A row for each pod, in the order of their numbers.
  returned: success
  type: list
  elements: dict
  contains:
    vmid:
      description: Number of the container.
      type: int
      returned: always
      sample: 9101
    verdict:
      description: V(ok), V(warning) or V(critical); V(unknown) when a site's own script gave none.
      type: str
      returned: always
      sample: warning
    reasons:
      description: Why, in words.
      type: list
      elements: str
      returned: always
      sample: ["memory 88 % of 2048 MB, warning from 85 %"]
  sample:
    - vmid: 9101
      exists: true
      status: running
      uptime_s: 12
      cpu_usage_s: 0.4
      cores: 2
      memory: {used_mb: 25, limit_mb: 2048, oom_kills: 0}
      pids: 3
      verdict: ok
      reasons: []
node:
  description: Name of the node; V(null) with a site's own script.
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
  sample: sudo -n /usr/local/sbin/cloudpod-health.sh --all
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
from ansible_collections.migra.cloudpods.plugins.module_utils._parameters import read_spec


def main() -> None:
    """Wire the parameters to the action and its result to Ansible."""
    module = AnsibleModule(argument_spec=read_spec(), supports_check_mode=True)
    action = Action(module.params, module.run_command, module.check_mode, module.warn)
    try:
        result = action.health()
    except CloudPodError as exc:
        module.fail_json(**exc.result())
    module.exit_json(**result)


if __name__ == '__main__':
    main()
