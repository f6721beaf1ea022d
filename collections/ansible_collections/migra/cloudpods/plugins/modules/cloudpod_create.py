#!/usr/bin/python
# Copyright: (c) 2026, MigraTeck
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cloudpod_create
short_description: Create a CloudPod, a tenant's LXC container, on a Proxmox node
version_added: 0.1.0
description:
  - Creates the container in the pool for clients, gives it an address, starts it, and returns what it is.
  - A pod that is already there as asked is left alone. One that has other values or another owner is left alone too, and the module fails
    and says which values differ.
  - A creation that was killed half-way is cleaned up and done again.
options:
  hostname:
    description:
      - Name of the container, a DNS name.
    type: str
    required: true
  tenant_id:
    description:
      - Tenant that owns the pod.
    type: str
    required: true
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
      - Swap in MiB, from 0 to 1048576.
    type: int
    default: 512
  disk_gb:
    description:
      - Size of the root disk in GB, from 1 to 16384. Without it the node's default is used, and an existing disk is not compared.
    type: int
  storage:
    description:
      - Storage for the root disk.
    type: str
    default: clients-main
  bridge:
    description:
      - Bridge of the network interface.
    type: str
    default: vmbr0
  ip:
    description:
      - IPv4 address of the pod, from the node's range. Without it, an existing pod's address is not compared.
      - Mutually exclusive with O(auto_ip=true).
    type: str
  auto_ip:
    description:
      - Whether the node chooses a free address. This is also what happens when neither O(ip) nor O(auto_ip) is given.
    type: bool
  gateway:
    description:
      - Gateway of the pod. Without it the node's default is used.
    type: str
  template:
    description:
      - Volume of the template to create from. Without it the node's default is used. The template of an existing pod is not known and not compared.
    type: str
  ssh_keys:
    description:
      - File on the node with the public keys for root, one of those in C(/etc/migra/cloudpods-keys). Without it the platform's key is used.
        The keys in an existing pod are not compared.
    type: str
  timeout_s:
    description:
      - How many seconds the creation may take.
      - Behind sudo a script cannot be ended from outside. The module then fails, and the lock on the node shows when the script is over.
    type: int
    default: 900
attributes:
  idempotent:
    description: When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
    support: full
seealso:
  - module: migra.cloudpods.cloudpod_scale
  - module: migra.cloudpods.cloudpod_destroy
extends_documentation_fragment:
  - migra.cloudpods.cloudpods
  - migra.cloudpods.cloudpods.one_pod
  - migra.cloudpods.cloudpods.changes
author:
  - MigraTeck (@migrateck)
"""

EXAMPLES = r"""
- name: Create a pod with an address that the node chooses
  migra.cloudpods.cloudpod_create:
    vmid: 9101
    hostname: client-portal
    tenant_id: TENANT-123
    cores: 2
    memory_mb: 2048

- name: Create a pod with an address and a disk size, waiting while another run holds it
  migra.cloudpods.cloudpod_create:
    vmid: 9102
    hostname: client-portal-db
    tenant_id: TENANT-123
    cores: 2
    memory_mb: 4096
    disk_gb: 20
    ip: 10.1.10.92
  register: database
  until: database is success or not (database.retryable | default(false))
  retries: 5
  delay: 10
"""

RETURN = r"""
cloudpod:
  description: The pod. In check mode what it would be; with a site's own scripts what was asked and what the summary says.
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
  description: The address of the pod; V(null) in check mode when the node chooses it.
  returned: success
  type: str
  sample: 10.1.10.91
diff:
  description: The pod before and after; an absent pod is an empty dict.
  returned: success
  type: dict
  sample:
    before: {}
    after: {hostname: client-portal, cores: 2, memory_mb: 2048}
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
  sample: sudo -n /usr/local/sbin/cloudpod-create.sh --vmid 9101
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
from ansible_collections.migra.cloudpods.plugins.module_utils._parameters import create_spec


def main() -> None:
    """Wire the parameters to the action and its result to Ansible."""
    module = AnsibleModule(argument_spec=create_spec(), supports_check_mode=True)
    action = Action(module.params, module.run_command, module.check_mode, module.warn)
    try:
        result = action.create()
    except CloudPodError as exc:
        module.fail_json(**exc.result())
    module.exit_json(**result)


if __name__ == '__main__':
    main()
