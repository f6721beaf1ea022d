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
  - On request it also asks the pods' addresses whether they answer, and the guests how they are.
  - With a site's own C(cloudpod-health.sh) it is called once for each pod, and what it prints is returned as it is.
options:
  reach:
    description:
      - Whether to ask the address of each running pod by ICMP whether it answers, all at once, for a second at most.
      - One that the node knows by ARP counts as reachable, whatever its firewall does with ICMP.
    type: bool
    default: false
  in_guest:
    description:
      - Whether to ask systemd inside each running pod how it is (C(systemctl is-system-running)).
    type: bool
    default: false
  guest_timeout_s:
    description:
      - How many seconds each guest has to answer, from 1 to 60; one that takes longer is called V(hung).
      - The node's default is 5.
    type: int
  memory_warning_percent:
    description:
      - Use of memory, without file cache, from which the verdict is V(warning). The node's default is 85.
    type: int
  memory_critical_percent:
    description:
      - Use of memory, without file cache, from which the verdict is V(critical). The node's default is 95.
    type: int
  swap_warning_percent:
    description:
      - Use of swap from which the verdict is V(warning). The node's default is 80.
    type: int
  disk_warning_percent:
    description:
      - Use of the root disk from which the verdict is V(warning). The node's default is 85.
    type: int
  disk_critical_percent:
    description:
      - Use of the root disk from which the verdict is V(critical). The node's default is 95.
    type: int
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

- name: Check two pods thoroughly, with an early word on full disks
  migra.cloudpods.cloudpod_health:
    vmids: [9101, 9102]
    reach: true
    in_guest: true
    guest_timeout_s: 3
    disk_warning_percent: 70

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
      sample: ["memory 88 % of 2048 MB is at or above 85 %"]
    memory:
      description: Memory in MB without file cache, its limit, and how many processes were killed for want of it.
      type: dict
      returned: when the pod exists
      sample: {used_mb: 25, limit_mb: 2048, oom_kills: 0}
    swap:
      description: Swap in MB and its limit; RV(ignore:used_mb) is V(null) where the kernel does not count it.
      type: dict
      returned: when the pod exists
      sample: {used_mb: 0, limit_mb: 512}
    disk:
      description: Use and size of the root disk in MB; V(null) for what nobody can tell without reading all of it.
      type: dict
      returned: when the pod exists
      sample: {used_mb: 812, size_mb: 8192}
    ip:
      description: Address of the pod; V(null) where it has none of its own choosing.
      type: str
      returned: when the pod exists
      sample: 10.1.10.91
    reachable:
      description: Whether the address answers; V(null) without O(reach), and where nobody can tell.
      type: bool
      returned: when the pod exists
      sample: true
    guest:
      description: What systemd inside says, V(hung), or V(no systemd); V(null) without O(in_guest), and for pods that cannot be asked.
      type: str
      returned: when the pod exists
      sample: running
  sample:
    - vmid: 9101
      exists: true
      status: running
      uptime_s: 12
      cpu_usage_s: 0.4
      cores: 2
      memory: {used_mb: 25, limit_mb: 2048, oom_kills: 0}
      swap: {used_mb: 0, limit_mb: 512}
      pids: 3
      disk: {used_mb: 812, size_mb: 8192}
      ip: 10.1.10.91
      reachable: true
      guest: running
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
from ansible_collections.migra.cloudpods.plugins.module_utils._parameters import health_spec


def main() -> None:
    """Wire the parameters to the action and its result to Ansible."""
    module = AnsibleModule(argument_spec=health_spec(), supports_check_mode=True)
    action = Action(module.params, module.run_command, module.check_mode, module.warn)
    try:
        result = action.health()
    except CloudPodError as exc:
        module.fail_json(**exc.result())
    module.exit_json(**result)


if __name__ == '__main__':
    main()
