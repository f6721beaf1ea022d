# Copyright: (c) 2026, MigraTeck
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: blueprint
short_description: What a blueprint comes to for one tenant
version_added: 0.1.0
description:
  - Reads a blueprint and what the roles of its steps say of themselves, and returns the stack's pods and steps, each in their order.
options:
  _terms:
    description: The blueprint, one of this collection's by its name, or a file by its path.
    type: list
    elements: str
    required: true
  tenant_slug:
    description: The tenant's short name, which is in the pods' names.
    type: str
    required: true
  parameters:
    description: The blueprint's parameters.
    type: dict
    default: {}
  house:
    description:
      - What the house has set, C(dns) and C(pod_key_file). A step whose role needs what is not in here is left out.
      - Without it no step is.
    type: dict
  roles_dir:
    description: A folder with roles of one's own, which steps may play besides the collection's.
    type: str
author:
  - MigraTeck (@migrateck)
"""

EXAMPLES = r"""
- name: Show the pods of a WordPress stack
  ansible.builtin.debug:
    msg: "{{ lookup('migra.cloudpods.blueprint', 'wordpress', tenant_slug='acme').pods }}"
"""

RETURN = r"""
_raw:
  description: For each blueprint its V(pods), V(steps), V(left_out) with what each such step lacks, V(parameters) and V(health_check).
  type: list
  elements: dict
"""

import json
import pathlib
import re
import typing as t

import yaml
from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase
from ansible_collections.migra.cloudpods.plugins.module_utils import _blueprint

COLLECTION = pathlib.Path(__file__).resolve().parents[2]


class LookupModule(LookupBase):
    """What Ansible loads."""

    def run(self, terms: list[str], variables: dict | None = None, **kwargs: t.Any) -> list[dict]:
        """Return what each blueprint comes to."""
        self.set_options(var_options=variables, direct=kwargs)
        slug, given = self.get_option('tenant_slug'), self.get_option('parameters')
        own = self.get_option('roles_dir')
        folders = [COLLECTION / 'roles', *([pathlib.Path(own)] if own else [])]
        try:
            house = self.get_option('house')
            return [_blueprint.plan(_document(term), lambda role: _meta(folders, role), slug, given, house) for term in terms]
        except (_blueprint.BadBlueprint, OSError, ValueError, KeyError, TypeError, yaml.YAMLError) as error:
            raise AnsibleLookupError(f'the blueprint {", ".join(terms)} is no use: {error}') from error


def _document(name: str) -> dict:
    shipped = COLLECTION / f'blueprints/{name}.json'
    return json.loads((shipped if '/' not in name and shipped.is_file() else pathlib.Path(name)).read_text())


def _meta(folders: list[pathlib.Path], role: str) -> dict | None:
    if not re.fullmatch(r'[a-z][a-z0-9_]*', role):
        return None
    files = [folder / role / 'meta/blueprint.yml' for folder in folders]
    return next((yaml.safe_load(file.read_text()) or {} for file in files if file.is_file()), None)
