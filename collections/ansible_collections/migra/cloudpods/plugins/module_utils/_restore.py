# Copyright: (c) 2026, MigraTeck
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A restore: look at the pod and at the archives of the one it comes from, decide, restore, look again."""

from __future__ import annotations

from ansible_collections.migra.cloudpods.plugins.module_utils import _archive as archive
from ansible_collections.migra.cloudpods.plugins.module_utils import _cloudpod as pod
from ansible_collections.migra.cloudpods.plugins.module_utils import _parameters
from ansible_collections.migra.cloudpods.plugins.module_utils._actions import Action
from ansible_collections.migra.cloudpods.plugins.module_utils._errors import Foreign

RESTORE = 'cloudpod-restore.sh'


class Restore(Action):
    """One call of cloudpod_restore."""

    def restore(self) -> dict:
        """Restore an archive, in place or as a new pod, unless that is done already."""
        _parameters.check(self._params)
        self._require_ours(RESTORE)
        row, backups = self._look_at_place()
        chosen = self._choose(row, backups)
        done = archive.is_restored(row, chosen['volid'], self._params)
        if self._check_mode and not done:
            # Otherwise the script says so, which knows more: what is left of this job's own restore needs no leave.
            archive.refuse_unforced(row, self._params)
        after = self._as_asked(row, ours=True) if done else dict(archive.restored(row, chosen['volid'], self._params), node=self._node)
        changed = not done
        # Also when the job did it already, for it may have been killed between that and the start of the pod.
        if not self._check_mode and (not done or pod.job_of(self._params)):
            summary = self._change(RESTORE, archive.restore_arguments(self._params, chosen['volid']))
            changed = summary.get('Result') != 'exists'
            after = self._look_again() or dict(after, ip=summary.get('IP') or after.get('ip'))
        diff = archive.restore_diff(row, after)
        if self._check_mode and self._params['from_pod_id'] is not None:
            diff['after'].setdefault('ip', pod.CHOSEN_BY_NODE)
        return {'changed': changed, 'cloudpod': after, 'archive': chosen, 'ip': after.get('ip'), 'diff': diff}

    def _look_at_place(self) -> tuple[dict, list[dict]]:
        """As ``_look_at_both``, which raises Foreign: of a new pod that says that its vmid is taken."""
        try:
            return self._look_at_both()
        except Foreign as exc:
            if self._params['from_pod_id'] is None:
                raise
            raise exc.for_a_new_pod() from None

    def _look_at_both(self) -> tuple[dict, list[dict]]:
        """Return the pod's row and the archives of the vmid it comes from. Whoever that belongs to now, only the archive is read."""
        vmid, source = self._params['vmid'], archive.source_vmid(self._params)
        row, other = self._rows([vmid, source], '--backups')
        self._refuse(row)
        if row['exists']:
            pod.refuse_other_owner(row, self._params, older=False)
        # A restore that was ended half-way leaves this lock, and the script takes it away.
        if row.get('lock') != 'create':
            pod.refuse_locked(row)
        return row, other.get('backups') or []

    def _choose(self, row: dict, backups: list[dict]) -> dict:
        """Return the archive: the one this job already took, so that a second run does not take a newer one."""
        owner = {'tenant': self._params['tenant_id'], 'pod': self._params['from_pod_id'] or self._params['pod_id']}
        return archive.choose(backups, archive.restored_by(row, self._params) or self._params['archive'], owner)
