# Copyright: (c) 2026, MigraTeck
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Laying many small files in one module call."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

TYPE_CHECKING = False  # what type checkers know as typing.TYPE_CHECKING
if TYPE_CHECKING:
    from ansible.module_utils.basic import AnsibleModule

DIRECTORY_MODE = '0755'


class NodeFiles:
    """Lays directories and files. ``changed`` has the paths that were changed, ``diffs`` how each file's text was."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.changed: list[str] = []
        self.diffs: list[dict] = []

    def lay(self, directories: list[str], files: list[dict]) -> None:
        """Make the directories, then lay the files in their order."""
        for path in directories:
            self._lay_directory(path)
        for wanted in files:
            if not wanted['force'] and os.path.lexists(wanted['path']):
                continue
            self._lay_file(wanted['path'], wanted['content'].encode(), wanted['mode'])

    def _lay_directory(self, path: str) -> None:
        missing = not Path(path).is_dir()
        if missing and not self.module.check_mode:
            # Not under the caller's umask: those above it too are for everybody to pass through.
            before = os.umask(0o022)
            try:
                Path(path).mkdir(parents=True, exist_ok=True)
            finally:
                os.umask(before)
        if self._set_attributes(path, DIRECTORY_MODE, missing):
            self.changed.append(path)

    def _lay_file(self, path: str, content: bytes, mode: str) -> None:
        before = read(path)
        different = before != content
        if different:
            self.diffs.append({'before_header': path, 'after_header': path, 'before': text(before), 'after': text(content)})
        if different and not self.module.check_mode:
            self._replace(path, content)
        if self._set_attributes(path, mode, different):
            self.changed.append(path)

    def _replace(self, path: str, content: bytes) -> None:
        """Give a file another text in one step; one that is new is nobody else's to read until it has its mode."""
        handle, temporary = tempfile.mkstemp(prefix='.ansible_tmp', dir=Path(path).parent)
        try:
            with os.fdopen(handle, 'wb') as stream:
                stream.write(content)
            self.module.atomic_move(temporary, path)
        finally:
            Path(temporary).unlink(missing_ok=True)

    def _set_attributes(self, path: str, mode: str, changed: bool) -> bool:
        """Return whether anything of the path was, or in check mode would be, changed."""
        if not os.path.lexists(path):
            return changed
        wanted = dict(self.module.params, path=path, mode=mode, attributes=None, seuser=None, serole=None, setype=None, selevel=None)
        return self.module.set_fs_attributes_if_different(self.module.load_file_common_arguments(wanted), changed)


def read(path: str) -> bytes | None:
    """Return the bytes of a file, None when there is none."""
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        return None


def text(content: bytes | None) -> str:
    """Return bytes as a diff shows them."""
    return (content or b'').decode(errors='replace')
