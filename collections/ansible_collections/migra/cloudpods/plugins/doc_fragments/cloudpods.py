# Copyright: (c) 2026, MigraTeck
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations


class ModuleDocFragment:
    """What the modules of this collection have in common."""

    # How the scripts of a node are reached, and what every module supports.
    DOCUMENTATION = r"""
options:
  script_dir:
    description:
      - Directory of the node scripts C(cloudpod-*.sh).
      - The role P(migra.cloudpods.cloudpod_node#role) installs them.
    type: str
    default: /usr/local/sbin
  sudo:
    description:
      - Whether to call the scripts through C(sudo -n).
      - The scripts need root. A user who is allowed to run nothing else as root is enough, so C(become) is not used.
    type: bool
    default: true
requirements:
  - The scripts of the role P(migra.cloudpods.cloudpod_node#role) on the node, or a site's own of the same names.
attributes:
  platform:
    description: Target OS/families that can be operated against.
    platforms: posix
    support: full
notes:
  - A site's own scripts, those without the line C(# migra.cloudpods:) at their top, get only the options they are known to understand.
    What could not be sent or compared is said in a warning.
  - The module fails with RV(ignore:retryable) set to V(true) while another run holds the lock of the pod, so that C(until) can wait for it.
  - Run it as the user that may call the scripts, not with C(become).
"""

    # One pod that a module changes.
    ONE_POD = r"""
options:
  vmid:
    description:
      - Number of the container, from 100 to 999999999.
    type: int
    required: true
  pod_id:
    description:
      - Id of the pod in the control plane.
    type: str
  run_id:
    description:
      - Who does this, for the node's log and lock; C(<job>) or C(<job>.<attempt>).
      - The part before the dot is the job. It keys what must not happen twice.
    type: str
"""

    # What is the same for the modules that read.
    READ = r"""
options:
  vmids:
    description:
      - Numbers of the containers, from 100 to 999999999.
      - Exactly one of O(vmids) and O(all) is needed.
    type: list
    elements: int
  all:
    description:
      - Every container of the pool on this node, and those whose creation was not finished.
    type: bool
    default: false
  timeout_s:
    description:
      - How many seconds the script may take.
    type: int
    default: 300
"""

    # Attributes of the modules that change.
    CHANGES = r"""
attributes:
  check_mode:
    description: Can run in check_mode and return changed status prediction without modifying target.
    support: full
    details:
      - Only C(cloudpod-info.sh) is run. Without it a change is assumed, and a warning says so.
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check_mode), when in diff mode.
    support: full
  action_group:
    description: Use C(group/migra.cloudpods.cloudpods) in C(module_defaults) to set defaults for this module.
    support: full
    membership:
      - migra.cloudpods.cloudpods
"""

    # Attributes of the modules that only read.
    READS = r"""
attributes:
  check_mode:
    description: Can run in check_mode and return changed status prediction without modifying target.
    support: full
    details:
      - This module does not change anything.
  diff_mode:
    description: Will return details on what has changed (or possibly needs changing in check_mode), when in diff mode.
    support: none
    details:
      - This module does not change anything.
  idempotent:
    description: When run twice in a row outside check mode, with the same arguments, the second invocation indicates no change.
    support: full
    details:
      - This module does not change anything.
  action_group:
    description: Use C(group/migra.cloudpods.cloudpods) in C(module_defaults) to set defaults for this module.
    support: full
    membership:
      - migra.cloudpods.cloudpods
"""
