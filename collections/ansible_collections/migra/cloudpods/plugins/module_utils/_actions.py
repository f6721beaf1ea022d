# Copyright: (c) 2026, MigraTeck
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What each module does, in order: check the parameters, look, decide, change, look again.

| action | nothing to do when | changes by |
|---|---|---|
| create | the pod is as asked | cloudpod-create.sh |
| destroy | the pod is absent | cloudpod-destroy.sh |
| scale | the pod has the size | cloudpod-scale.sh |
| power | the pod is in the state | cloudpod-power.sh |
| snapshot | the snapshot is there, or not, as asked | cloudpod-snapshot.sh |
| backup | the same run made one | cloudpod-backup.sh |
| adopt | the pod has the owner | cloudpod-adopt.sh |
| info, health, node | always | |

A restore is in ``_restore.py``, a restore drill in ``_drill.py``, the ending of a run in ``_cancel.py``.
"""

from __future__ import annotations

import typing as t

from ansible_collections.migra.cloudpods.plugins.module_utils import _archive as archive
from ansible_collections.migra.cloudpods.plugins.module_utils import _cloudpod as pod
from ansible_collections.migra.cloudpods.plugins.module_utils import _parameters, _script
from ansible_collections.migra.cloudpods.plugins.module_utils._errors import CloudPodError, Foreign, Refused, ScriptFailed

CREATE = 'cloudpod-create.sh'
DESTROY = 'cloudpod-destroy.sh'
BACKUP = 'cloudpod-backup.sh'
SCALE = 'cloudpod-scale.sh'
POWER = 'cloudpod-power.sh'
SNAPSHOT = 'cloudpod-snapshot.sh'
CANCEL = 'cloudpod-cancel.sh'
ADOPT = 'cloudpod-adopt.sh'
HEALTH = 'cloudpod-health.sh'
# Arguments that sudo's rule for each script lets through. They are shown to sudo only; nothing is run with them.
PROBES: dict[str, list[str]] = {
    CREATE: ['--auto-ip'],
    DESTROY: ['100'],
    BACKUP: ['100', '--mode', 'snapshot'],
    'cloudpod-restore.sh': ['100', '--force'],
    ADOPT: ['100', '--tenant', 'x'],
    SCALE: ['100', '--cores', '1'],
    POWER: ['100', '--state', 'running'],
    SNAPSHOT: ['100', '--action', 'create', '--name', 'x1'],
    CANCEL: ['100', '--run', 'x'],
    HEALTH: ['--all'],
    _script.INFO: ['--node'],
}
REFUSED_ARGUMENTS = 64
VERDICTS = ('ok', 'warning', 'critical')


class Action:
    """One call of a module. ``warn`` takes a sentence for the user. Every public method returns exit_json's arguments."""

    def __init__(self, params: dict, run_command: t.Callable, check_mode: bool, warn: t.Callable[[str], None]) -> None:
        self._params = params
        self._check_mode = check_mode
        self._warn = warn
        self._scripts = _script.Scripts(run_command, params['script_dir'], params['sudo'], params['timeout_s'])
        self._node: str | None = None
        self._pool: str | None = None

    def create(self) -> dict:
        """Create the pod, unless it is there as asked."""
        _parameters.check(self._params)
        try:
            return self._create()
        except Foreign as exc:
            raise exc.for_a_new_pod() from None

    def _create(self) -> dict:
        ours, row = self._look(CREATE, pod.CREATE_EXTRAS)
        if row and row['exists'] and not row.get('unfinished'):
            return self._created(False, self._as_asked(row, ours), row)
        if row and row['exists']:
            pod.refuse_other_owner(row, self._params, older=not ours)
        if self._check_mode:
            after = pod.planned(self._params, self._node)
            result = self._created(True, after, None)
            result['diff']['after'].setdefault('ip', pod.CHOSEN_BY_NODE)
            return result
        reply = self._scripts.run(CREATE, pod.create_arguments(self._params, ours))
        summary = _script.parse_summary(reply.stdout)
        made = self._look_again() if row else None
        return self._created(True, made or pod.made_by_older_script(self._params, summary, reply.stdout), None)

    def destroy(self) -> dict:
        """Destroy the pod, unless it is absent."""
        _parameters.check(self._params)
        ours, row = self._look(DESTROY, pod.GUARDS)
        there = row is None or row['exists']
        if row and there:
            pod.refuse_other_owner(row, self._params, older=not ours)
            pod.refuse_protected(row)
            pod.refuse_locked(row)
        changed, freed = there, (row or {}).get('ip')
        if not self._check_mode:
            # Also for an absent pod: a destroy that was killed after the container was gone still holds its address.
            reply = self._scripts.run(DESTROY, pod.destroy_arguments(self._params, ours))
            freed = _script.parse_ip(reply.stdout)
            changed = _destroyed(_script.parse_summary(reply.stdout), freed, there)
        gone = {'vmid': self._params['vmid'], 'exists': False}
        return {'changed': changed, 'cloudpod': gone, 'ip': freed, 'diff': pod.diff(row if there else None, None)}

    def scale(self) -> dict:
        """Give the pod another size, unless it has it."""
        _parameters.check(self._params)
        ours, row = self._look(SCALE, pod.SCALE_EXTRAS, must_exist=True)
        before = row or {'vmid': self._params['vmid'], 'exists': True}
        after = pod.scaled(before, self._params)
        result = {
            'changed': row is None or not pod.has_size(row, self._params),
            'cloudpod': after,
            'diff': pod.diff(before, after),
            'pending': [],
        }
        if result['changed'] and not self._check_mode:
            summary = self._change(SCALE, pod.scale_arguments(self._params, ours))
            result['changed'] = summary.get('Result') != 'unchanged'
            result['pending'] = archive.listed(summary.get('Pending'))
            result['cloudpod'] = (self._look_again() if row else None) or after
            result['diff'] = pod.diff(before, result['cloudpod'])
        return result

    def power(self) -> dict:
        """Start, stop or restart the pod, unless it is in that state."""
        _parameters.check(self._params)
        before = self._look_ours(POWER)
        after, changed = pod.powered(before, self._params), not pod.has_power(before, self._params)
        if changed and not self._check_mode:
            changed = self._change(POWER, pod.power_arguments(self._params)).get('Result') != 'unchanged'
            after = self._look_again() or after
        return {'changed': changed, 'cloudpod': after, 'diff': pod.diff(before, after)}

    def snapshot(self) -> dict:
        """Make, delete or go back to a snapshot, unless it is as asked."""
        _parameters.check(self._params)
        before = self._look_ours(SNAPSHOT)
        changed = not pod.has_snapshot_state(before, self._params)
        after = dict(before, snapshots=pod.snapshots_after(before, self._params))
        if changed and not self._check_mode:
            changed = self._change(SNAPSHOT, pod.snapshot_arguments(self._params)).get('Result') not in ('exists', 'absent', 'unchanged')
            after = self._look_again() or after
        return {'changed': changed, 'cloudpod': after, 'snapshots': after['snapshots'], 'diff': pod.snapshot_diff(before, after, self._params)}

    def backup(self) -> dict:
        """Make an archive of the pod, unless the same job already made it."""
        _parameters.check(self._params)
        ours, row = self._look(BACKUP, archive.BACKUP_EXTRAS, must_exist=True)
        cloudpod = row or {'vmid': self._params['vmid'], 'exists': True}
        result = {'changed': True, 'cloudpod': cloudpod, 'archive': archive.made({}, self._params), 'removed': []}
        if not self._check_mode:
            summary = self._change(BACKUP, archive.backup_arguments(self._params, ours))
            result['changed'] = summary.get('Result') != 'exists'
            result['archive'] = archive.made(summary, self._params)
            result['removed'] = archive.listed(summary.get('Removed'))
        if result['changed']:
            result['diff'] = {'before': {'archive': None}, 'after': {'archive': result['archive']}}
            if result['removed']:
                result['diff']['before']['removed'] = result['removed']
        return result

    def adopt(self) -> dict:
        """Make a container of the pool a pod of the owner that is asked, unless it is one."""
        _parameters.check(self._params)
        self._require_ours(ADOPT)
        before = self._row()
        pod.refuse_missing(before)
        pod.refuse_adopted(before, self._params)
        pod.refuse_locked(before)
        after = dict(before, owner=pod.owner_asked(self._params))
        changed = before.get('owner') != after['owner']
        if not self._check_mode:
            # Also for a pod that has the owner: its line in the address file, which a look does not show, may be missing.
            changed = self._change(ADOPT, pod.adopt_arguments(self._params)).get('Result') != 'unchanged'
            after = self._look_again() or after
        return {'changed': changed, 'cloudpod': after, 'diff': pod.diff(before, after)}

    def info(self) -> dict:
        """Return the facts of many pods."""
        _parameters.check(self._params)
        self._require_info()
        document = _script.parse_json(self._scripts.run(_script.INFO, pod.info_arguments(self._params)))
        # Scripts of before this knew nothing of clusters.
        around = {'cluster': document.get('cluster'), 'elsewhere': document.get('elsewhere')}
        return {'changed': False, 'node': document.get('node'), 'pool': document.get('pool'), **around, 'pods': document['pods']}

    def node(self) -> dict:
        """Return what the node itself has, and how each of its scripts can be called."""
        _parameters.check(self._params)
        self._require_info()
        scripts = [self._scripts.state(name, arguments) for name, arguments in PROBES.items()]
        reply = self._scripts.run(_script.INFO, ['--node'], may_fail=True)
        if reply.rc == REFUSED_ARGUMENTS:
            # Scripts of before this do not know the option; that they are older is what there is to say.
            return {'changed': False, 'node': None, 'version': None, 'facts': None, 'scripts': scripts}
        if reply.rc != 0:
            raise _script.failure_of(reply, ours=True)
        document = _script.parse_json(reply)
        said = {name: document.get(name) for name in ('node', 'version', 'cluster', 'facts')}
        return {'changed': False, **said, 'scripts': scripts}

    def health(self) -> dict:
        """Return the health of many pods: one call, or one for each with a site's own script."""
        _parameters.check(self._params)
        if self._scripts.is_ours(HEALTH):
            document = _script.parse_json(self._scripts.run(HEALTH, pod.health_arguments(self._params)))
            return {'changed': False, 'node': document.get('node'), 'health': document['pods']}
        if self._params['all']:
            raise ScriptFailed(f"the site's own {HEALTH} cannot list pods: give vmids instead of all")
        self._warn(f"{HEALTH} is the site's own: figures it does not print are not in the result")
        self._warn_unsent(HEALTH, pod.health_extras(self._params))
        replies = ((vmid, self._scripts.run(HEALTH, [vmid], may_fail=True)) for vmid in pod.read_arguments(self._params))
        return {'changed': False, 'node': None, 'health': [older_health(int(vmid), reply) for vmid, reply in replies]}

    def _look(self, script: str, extras: dict[str, str], must_exist: bool = False) -> tuple[bool, dict | None]:
        """Return whether the script that changes is ours, and the pod's row (None when the node cannot tell).

        Raises what forbids any change: busy, on another node, outside the pool; with ``must_exist`` also absent or another owner's.
        """
        ours = self._scripts.is_ours(script)
        if not ours:
            self._warn_unsent(script, extras)
        if not self._scripts.can_look():
            self._warn(
                'there is no cloudpod-info.sh beside {}: {}'.format(
                    script,
                    'check mode cannot look and assumes a change'
                    if self._check_mode
                    else 'the present state, the owner and the pool could not be compared with what is asked',
                )
            )
            return ours, None
        row = self._row()
        if must_exist:
            pod.refuse_missing(row)
            pod.refuse_other_owner(row, self._params, older=not ours)
            pod.refuse_locked(row)
        return ours, row

    def _look_ours(self, script: str) -> dict:
        """Return the pod's row, as ``_look`` does, for a script that the master spec does not know, so that a site's own means nothing."""
        self._require_ours(script)
        row = self._row()
        pod.refuse_missing(row)
        pod.refuse_other_owner(row, self._params, older=False)
        pod.refuse_locked(row)
        return row

    def _change(self, script: str, arguments: list[str]) -> dict[str, str]:
        """Run a script that changes and return its summary; what it warns of is passed on."""
        reply = self._scripts.run(script, arguments)
        for warning in _script.parse_warnings(reply.stderr):
            self._warn(f'{script}: {warning}')
        return _script.parse_summary(reply.stdout)

    def _require_ours(self, script: str) -> None:
        if not self._scripts.is_ours(script):
            raise ScriptFailed(f"{script} is the site's own, and what it takes is not known: install ours with the role migra.cloudpods.cloudpod_node")
        self._require_info()

    def _require_info(self) -> None:
        if not self._scripts.can_look():
            raise ScriptFailed(
                'cloudpod-info.sh is not beside the scripts in {}: install it with the role migra.cloudpods.cloudpod_node'.format(self._params['script_dir'])
            )

    def _row(self) -> dict:
        """Return the pod's row, or raise what forbids any change of it."""
        row = self._rows([self._params['vmid']])[0]
        self._refuse(row)
        return row

    def _rows(self, vmids: list[int], *options: str) -> list[dict]:
        """Return the rows of these vmids, in this order."""
        words = [str(vmid) for vmid in dict.fromkeys(vmids)]
        reply = self._scripts.run(_script.INFO, words + list(options))
        document = _script.parse_json(reply)
        self._node, self._pool = document.get('node'), document.get('pool')
        found = {row['vmid']: row for row in document['pods'] if 'vmid' in row and 'exists' in row}
        for vmid in vmids:
            if vmid not in found:
                raise ScriptFailed(f'cloudpod-info.sh did not answer for vmid {vmid}', stdout=_script.tail(reply.stdout))
        return [found[vmid] for vmid in vmids]

    def _refuse(self, row: dict) -> None:
        pod.refuse_busy(row)
        pod.refuse_foreign(row, self._params, self._node, self._pool)

    def _look_again(self) -> dict | None:
        """Return the pod's row after a change. The change is done, so that a failure here is only a warning."""
        try:
            row = self._row()
            pod.refuse_missing(row)
            return row
        except CloudPodError as exc:
            self._warn(f'done, but the pod could not be looked at afterwards: {exc.msg}')
            return None

    def _as_asked(self, row: dict, ours: bool) -> dict:
        """Return the row if it is what is asked, raise Refused naming what differs if not."""
        pod.refuse_other_owner(row, self._params, older=not ours)
        if row.get('owner') is None:
            self._warn('vmid {} bears no owner marker: tenant_id could not be compared'.format(row['vmid']))
        different = pod.differences(row, self._params, pod.CREATE_COMPARED)
        if different:
            raise Refused('vmid {} exists with other values: {}; nothing was changed'.format(row['vmid'], pod.described(different)), differences=different)
        return row

    def _created(self, changed: bool, row: dict, before: dict | None) -> dict:
        return {'changed': changed, 'cloudpod': row, 'ip': row.get('ip'), 'diff': pod.diff(before, row)}

    def _warn_unsent(self, script: str, extras: dict[str, str]) -> None:
        names = pod.unsent(extras, self._params)
        if names:
            self._warn("{} is the site's own and knows only the master spec's options: {} was not sent".format(script, ', '.join(names)))


def older_health(vmid: int, reply: _script.Reply) -> dict:
    """Given the reply of a site's own health script, return a row: what it printed, and a verdict if it gave one."""
    said = {key.lower().replace(' ', '_'): value for key, value in _script.parse_summary(reply.stdout).items()}
    given = next((said[key].lower() for key in ('verdict', 'health', 'status') if said.get(key, '').lower() in VERDICTS), None)
    reasons = []
    if reply.rc != 0:
        reasons.append(_script.failure_of(reply, ours=False).msg)
    elif given is None:
        reasons.append("the site's own script gave no verdict of ok, warning or critical")
    verdict = given if given and (reply.rc == 0 or given != 'ok') else 'unknown'
    return dict(said, vmid=vmid, verdict=verdict, reasons=reasons)


def _destroyed(summary: dict[str, str], freed: str | None, was_there: bool) -> bool:
    """Return whether the destroy changed anything. A site's own script prints no Result; then it did what was to do."""
    if summary.get('Result') == 'absent':
        return freed is not None
    return was_there or summary.get('Result') == 'destroyed'
