#!/usr/bin/python
# Copyright: (c) 2026, MigraTeck
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: node_files
short_description: Lay many small files on a node in one call
version_added: 0.1.0
description:
  - Gives files the text, owner and mode asked for, in the order they are listed, and makes the directories they lie in.
  - The role P(migra.cloudpods.cloudpod_node#role) lays the scripts and their library with it.
    M(ansible.builtin.copy) takes several round trips for each file.
  - Each file is replaced in one step, so a script that starts meanwhile finds the old text or the new.
options:
  directories:
    description: Directories to make, with those above them. Their mode becomes C(0755).
    type: list
    elements: path
    default: []
  files:
    description: Files to lay.
    type: list
    elements: dict
    required: true
    suboptions:
      path:
        description: Where the file is to lie.
        type: path
        required: true
      content:
        description: The whole text of the file.
        type: str
        required: true
      mode:
        description: The file's mode.
        type: str
        default: "0644"
      force:
        description: Whether a file that is there already is changed; V(false) leaves it as it is.
        type: bool
        default: true
  owner:
    description: Owner of the directories and files.
    type: str
    required: true
  group:
    description: Group of the directories and files.
    type: str
    required: true
attributes:
  check_mode:
    description: Can run in check mode and say what it would change.
    support: full
  diff_mode:
    description: Says in diff mode what it changed.
    support: full
seealso:
  - module: ansible.builtin.copy
author:
  - MigraTeck (@migrateck)
"""

EXAMPLES = r"""
- name: Lay two files
  migra.cloudpods.node_files:
    owner: root
    group: root
    directories: [/usr/local/lib/cloudpods]
    files:
      - path: /usr/local/lib/cloudpods/library.bash
        content: "{{ lookup('ansible.builtin.file', 'lib/library.bash', rstrip=false) }}"
      - path: /usr/local/sbin/cloudpod-info.sh
        content: "{{ lookup('ansible.builtin.file', 'sbin/cloudpod-info.sh', rstrip=false) }}"
        mode: "0755"
"""

RETURN = r"""
changed_paths:
  description: The files and directories that were changed, in order.
  returned: success
  type: list
  elements: str
  sample: [/usr/local/sbin/cloudpod-info.sh]
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.migra.cloudpods.plugins.module_utils._node_files import NodeFiles


def main() -> None:
    """Wire the parameters to what lays the files."""
    one = {
        'path': {'type': 'path', 'required': True},
        'content': {'type': 'str', 'required': True},
        'mode': {'type': 'str', 'default': '0644'},
        'force': {'type': 'bool', 'default': True},
    }
    spec = {
        'directories': {'type': 'list', 'elements': 'path', 'default': []},
        'files': {'type': 'list', 'elements': 'dict', 'required': True, 'options': one},
        'owner': {'type': 'str', 'required': True},
        'group': {'type': 'str', 'required': True},
    }
    module = AnsibleModule(argument_spec=spec, supports_check_mode=True)
    laid = NodeFiles(module)
    try:
        laid.lay(module.params['directories'], module.params['files'])
    except OSError as exc:
        module.fail_json(msg=f'{exc.filename or "a file"} could not be laid: {exc.strerror}', changed_paths=laid.changed)
    module.exit_json(changed=bool(laid.changed), changed_paths=laid.changed, diff=laid.diffs)


if __name__ == '__main__':
    main()
