# Copyright: (c) 2026, MigraTeck
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A restore drill: restore a pod's archive beside it, isolated, see its guest come up, and remove the copy whatever happened.

| step | by |
|---|---|
| remove what an earlier drill left, which its owner marker tells | cloudpod-destroy.sh |
| restore as a new pod without a link | cloudpod-restore.sh |
| start it, unless it runs | cloudpod-power.sh |
| ask until the guest is up | cloudpod-health.sh --in-guest |
| remove it | cloudpod-destroy.sh |
"""

from __future__ import annotations

import time
import typing as t

from ansible_collections.migra.cloudpods.plugins.module_utils import _archive as archive
from ansible_collections.migra.cloudpods.plugins.module_utils import _parameters, _script
from ansible_collections.migra.cloudpods.plugins.module_utils._actions import DESTROY, HEALTH, POWER, Action
from ansible_collections.migra.cloudpods.plugins.module_utils._errors import NOTHING, CloudPodError, Refused, ScriptFailed
from ansible_collections.migra.cloudpods.plugins.module_utils._restore import RESTORE, Restore

# What systemctl is-system-running says of a guest that is up. Without a link some unit always fails (degraded), which says nothing
# of the archive; a guest without systemd runs, and more it cannot tell.
UP = ('running', 'degraded', 'no systemd')
# It has come as far as it will.
HOPELESS = ('maintenance',)
POLL_S = 2
OWNER_CHARS = 64
# The scripts' exit code for a failed command of Proxmox's.
NODE_FAILED = 1


class NotUp(CloudPodError):
    """The copy stands, and its guest does not come up."""


class Drill(Action):
    """One call of cloudpod_restore_drill."""

    def __init__(self, params: dict, run_command: t.Callable, check_mode: bool, warn: t.Callable[[str], None]) -> None:
        super().__init__(params, run_command, check_mode, warn)
        self._run_command = run_command

    def drill(self) -> dict:
        """Try whether the archive restores. Raises when it does not, or when its copy could not be removed."""
        began = time.monotonic()
        _parameters.check(self._params)
        # A site's own script could not be told whose container it may remove.
        for script in (RESTORE, POWER, HEALTH, DESTROY):
            self._require_ours(script)
        pod_id, chosen = self._choose()
        copy = copy_params(self._params, pod_id, chosen['volid'])
        left_before = self._on(copy).destroy()['changed']
        result = {'changed': left_before, 'drill_vmid': copy['vmid'], 'archive': chosen, 'passed': None, 'verdict': None, 'reasons': []}
        if not self._check_mode:
            health = self._try_out(copy)
            result.update(passed=True, verdict=health['verdict'], reasons=health['reasons'])
        return dict(result, duration_s=round(time.monotonic() - began, 1))

    def _choose(self) -> tuple[str, dict]:
        """Return the pod's id and the archive to try. The pod itself is only read: it may be busy, stopped or gone."""
        (row,) = self._rows([self._params['vmid']], '--backups')
        pod_id = self._params['pod_id'] or (row.get('owner') or {}).get('pod')
        if pod_id is None:
            raise Refused('vmid {} does not tell which pod it is: give pod_id'.format(self._params['vmid']))
        owner = {'tenant': self._params['tenant_id'], 'pod': pod_id}
        return pod_id, archive.choose(row.get('backups') or [], self._params['archive'], owner)

    def _try_out(self, copy: dict) -> dict:
        """Restore and watch the copy, remove it, and return its row of health; raise one error for whatever went wrong."""
        failure = removal = None
        try:
            health = self._restored_and_up(copy)
        except CloudPodError as exc:
            failure = exc
        finally:
            removal = self._remove(copy)
        if removal:
            raise not_removed(copy, failure, removal)
        if failure:
            raise not_passed(copy, failure, NOTHING)
        return health

    def _remove(self, copy: dict) -> CloudPodError | None:
        """Remove the copy; return what hindered it, so that this does not hide why the drill failed."""
        try:
            self._on(copy).destroy()
        except CloudPodError as exc:
            return exc
        return None

    def _restored_and_up(self, copy: dict) -> dict:
        Restore(copy, self._run_command, self._check_mode, self._warn).restore()
        self._on(copy).power()
        return self._when_up(copy['vmid'])

    def _when_up(self, vmid: int) -> dict:
        """Return the copy's row of health as soon as its guest is up; raise NotUp when it is not in time."""
        deadline = time.monotonic() + self._params['boot_timeout_s']
        while True:
            row = self._health(vmid)
            if row.get('guest') in UP:
                return row
            if row.get('guest') in HOPELESS or time.monotonic() > deadline:
                raise NotUp(not_up(row, self._params['boot_timeout_s']), reasons=row['reasons'])
            time.sleep(POLL_S)

    def _health(self, vmid: int) -> dict:
        reply = self._scripts.run(HEALTH, [str(vmid), '--in-guest'])
        row = next((row for row in _script.parse_json(reply)['pods'] if row.get('vmid') == vmid), None)
        if row is None:
            raise ScriptFailed(f'{HEALTH} did not answer for vmid {vmid}', stdout=_script.tail(reply.stdout))
        return row

    def _on(self, copy: dict) -> Action:
        return Action(copy, self._run_command, self._check_mode, self._warn)


def copy_params(params: dict, pod_id: str, volid: str) -> dict:
    """Return the parameters of every step on the copy. Its owner marker is the drill's own, so that nothing else is ever removed."""
    asked = {name: params[name] for name in ('tenant_id', 'run_id', 'storage', 'script_dir', 'sudo', 'timeout_s')}
    unset = dict.fromkeys(('ip', 'auto_ip', 'gateway', 'bridge', 'cores', 'memory_mb', 'swap_mb'))
    return dict(
        unset,
        **asked,
        vmid=params['drill_vmid'] or params['vmid'] + _parameters.DRILL_OFFSET,
        pod_id=f'drill.{pod_id}'[:OWNER_CHARS],
        archive=volid,
        from_vmid=params['vmid'],
        from_pod_id=pod_id,
        hostname='drill-{}'.format(params['vmid']),
        isolated=True,
        force=False,
        state='running',
        shutdown_timeout_s=1,  # it is only ever started
    )


def not_up(row: dict, boot_timeout_s: int) -> str:
    """Return in words that the guest did not come up."""
    said = 'says {}'.format(row['guest']) if row.get('guest') else 'says nothing'
    return 'its copy is {} and its guest {} after at most {} s'.format(row.get('status') or 'unknown', said, boot_timeout_s)


def not_passed(copy: dict, failure: CloudPodError, left: str) -> CloudPodError:
    """Return the error of a drill that failed: which archive, and why.

    Only a command of the node that failed, or a guest that stays down, says something of the archive. What the node lacks, or who
    was busy, does not: then ``passed`` is missing.
    """
    details = dict(failure.details, drill_vmid=copy['vmid'], archive={'volid': copy['archive']})
    if isinstance(failure, NotUp) or failure.details.get('rc') == NODE_FAILED:
        return CloudPodError('archive {} did not restore: {}'.format(copy['archive'], failure.msg), failure.retryable, left, passed=False, **details)
    return CloudPodError('the drill of archive {} could not be held: {}'.format(copy['archive'], failure.msg), failure.retryable, left, **details)


def not_removed(copy: dict, failure: CloudPodError | None, removal: CloudPodError) -> CloudPodError:
    """Return the error of a drill whose copy is still there, for which somebody must look or the next drill come."""
    left = 'container {}, the copy of {}, which the next drill of this pod removes: {}'.format(copy['vmid'], copy['archive'], removal.msg)
    if failure:
        return not_passed(copy, failure, left)
    msg = 'archive {} did restore, but its copy could not be removed: {}'.format(copy['archive'], removal.msg)
    return CloudPodError(msg, removal.retryable, left, **dict(removal.details, passed=True, drill_vmid=copy['vmid'], archive={'volid': copy['archive']}))
