# Copyright: (c) 2026, MigraTeck
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The ending of a run: the script finds who holds the pod's lock and tells it to end. Check mode only looks who it is."""

from __future__ import annotations

from ansible_collections.migra.cloudpods.plugins.module_utils import _cloudpod as pod
from ansible_collections.migra.cloudpods.plugins.module_utils import _parameters, _script
from ansible_collections.migra.cloudpods.plugins.module_utils._actions import CANCEL, Action
from ansible_collections.migra.cloudpods.plugins.module_utils._errors import ScriptFailed

OUTCOMES = ('idle', 'ended', 'other', 'stuck')
OPTIONS = {'--run': 'run_id', '--wait': 'wait_s', '--tenant': 'tenant_id', '--pod': 'pod_id'}


class Cancel(Action):
    """One call of cloudpod_cancel."""

    def cancel(self) -> dict:
        """End the run, if it is that which holds the pod's lock."""
        _parameters.check(self._params)
        self._require_ours(CANCEL)
        if self._check_mode:
            return self._planned()
        summary = self._change(CANCEL, arguments(self._params))
        if summary.get('Result') not in OUTCOMES:
            raise ScriptFailed(f'{CANCEL} did not say how the run ended', left_behind=_script.UNKNOWN_LEFT)
        return self._result(holder_of(summary), summary['Result'], changed='Signalled' in summary)

    def _planned(self) -> dict:
        """Return what the script would find: a run that it would end counts as ended."""
        row = self._rows([self._params['vmid']])[0]
        if row['exists']:
            pod.refuse_other_owner(dict(row, owner=row.get('owner')), self._params, older=True)
        busy = row.get('busy')
        if not busy:
            return self._result(None, 'idle', changed=False)
        ours = is_attempt(busy['run'], self._params['run_id'])
        holder = {name: busy[name] for name in ('pid', 'run', 'script')} if busy['pid'] else None
        return self._result(holder, 'ended' if ours else 'other', changed=ours)

    def _result(self, holder: dict | None, outcome: str, changed: bool) -> dict:
        return {'vmid': self._params['vmid'], 'holder': holder, 'outcome': outcome, 'changed': changed}


def arguments(params: dict) -> list[str]:
    """Return the arguments of cloudpod-cancel.sh."""
    for_good = ['--for-good'] if params['for_good'] else []
    return [str(params['vmid']), *pod.options(OPTIONS, params), *for_good]


def holder_of(summary: dict[str, str]) -> dict | None:
    """Given the summary, return the run that it is about, or None when it is about none."""
    if 'Pid' not in summary:
        return None
    return {'pid': int(summary['Pid']), 'run': None if summary['Run'] == '-' else summary['Run'], 'script': summary['Script']}


def is_attempt(run: str | None, asked: str) -> bool:
    """Return whether a run is the one that is asked: the very attempt, or any attempt of a job."""
    return run is not None and asked in (run, run.partition('.')[0])
