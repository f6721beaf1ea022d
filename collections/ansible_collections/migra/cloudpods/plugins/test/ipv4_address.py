# Copyright: (c) 2026, MigraTeck
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: ipv4_address
short_description: Whether a text is an IPv4 address
version_added: 0.1.0
description:
  - Whether it is one and nothing else, four numbers from 0 to 255 with dots between.
options:
  _input:
    description: The text.
    type: raw
    required: true
author:
  - MigraTeck (@migrateck)
"""

EXAMPLES = r"""
- name: Refuse what is no address
  ansible.builtin.assert:
    that: address is migra.cloudpods.ipv4_address
"""

RETURN = r"""
_value:
  description: Whether it is one.
  type: bool
"""

import ipaddress
import typing as t


def ipv4_address(text: t.Any) -> bool:
    """Return whether this is an address. A number is none: what is written to a file must be what was checked."""
    try:
        ipaddress.IPv4Address(text if isinstance(text, str) else '')
    except ValueError:
        return False
    return True


class TestModule:
    """What Ansible loads."""

    def tests(self) -> dict[str, t.Callable]:
        """Return the tests by name."""
        return {'ipv4_address': ipv4_address}
