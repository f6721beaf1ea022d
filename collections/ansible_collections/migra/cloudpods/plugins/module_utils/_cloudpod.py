# Copyright: (c) 2026, MigraTeck
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decisions about one pod, as pure functions: argument vectors, what differs from what is asked, what a diff shows.

A *row* is a pod as cloudpod-info.sh shows it, *params* are a module's parameters.
"""

from __future__ import annotations

import typing as t

from ansible_collections.migra.cloudpods.plugins.module_utils._errors import Busy, Foreign, Refused
from ansible_collections.migra.cloudpods.plugins.module_utils._script import parse_ip

CHOSEN_BY_NODE = 'chosen by the node'

# option of the script → parameter. The first ones are the master spec's, the others only our own scripts know.
CREATE_OPTIONS = {
    '--vmid': 'vmid',
    '--host': 'hostname',
    '--tenant': 'tenant_id',
    '--bridge': 'bridge',
    '--storage': 'storage',
    '--cores': 'cores',
    '--mem': 'memory_mb',
    '--swap': 'swap_mb',
    '--ip': 'ip',
}
CREATE_EXTRAS = {'--disk': 'disk_gb', '--ssh-keys': 'ssh_keys', '--template': 'template', '--gw': 'gateway', '--pod': 'pod_id', '--run': 'run_id'}
GUARDS = {'--tenant': 'tenant_id', '--pod': 'pod_id', '--run': 'run_id'}
SCALE_OPTIONS = {'--cores': 'cores', '--mem': 'memory_mb'}
SCALE_EXTRAS = dict({'--swap': 'swap_mb'}, **GUARDS)

POWER_OPTIONS = {'--state': 'state', '--shutdown-timeout': 'shutdown_timeout_s'}
HEALTH_FLAGS = {'--reach': 'reach', '--in-guest': 'in_guest'}
HEALTH_OPTIONS = {
    '--guest-timeout': 'guest_timeout_s',
    '--memory-warning': 'memory_warning_percent',
    '--memory-critical': 'memory_critical_percent',
    '--swap-warning': 'swap_warning_percent',
    '--disk-warning': 'disk_warning_percent',
    '--disk-critical': 'disk_critical_percent',
}
SNAPSHOT_ACTIONS = {'present': 'create', 'absent': 'delete', 'rolled_back': 'rollback'}

# Facts that a create compares with what is asked. What is not asked (None) is not compared.
CREATE_COMPARED = ('hostname', 'ip', 'gateway', 'bridge', 'storage', 'disk_gb', 'cores', 'memory_mb', 'swap_mb')
SCALE_COMPARED = ('cores', 'memory_mb', 'swap_mb')
GUARD_COMPARED = ('tenant_id', 'pod_id')
SIZE_KEYS = frozenset(('cores', 'memory', 'swap'))
SHOWN = GUARD_COMPARED + CREATE_COMPARED + ('status',)


def create_arguments(params: dict, ours: bool) -> list[str]:
    """Return the arguments of cloudpod-create.sh. Neither ip nor auto_ip means auto_ip."""
    arguments = options(CREATE_OPTIONS, params)
    if not params['ip']:
        arguments.append('--auto-ip')
    return arguments + (options(CREATE_EXTRAS, params) if ours else [])


def destroy_arguments(params: dict, ours: bool) -> list[str]:
    """Return the arguments of cloudpod-destroy.sh."""
    return [str(params['vmid'])] + (options(GUARDS, params) if ours else [])


def scale_arguments(params: dict, ours: bool) -> list[str]:
    """Return the arguments of cloudpod-scale.sh."""
    force = ['--force'] if params.get('force') else []
    return [str(params['vmid'])] + options(SCALE_OPTIONS, params) + ([*options(SCALE_EXTRAS, params), *force] if ours else [])


def power_arguments(params: dict) -> list[str]:
    """Return the arguments of cloudpod-power.sh."""
    force = ['--force'] if params['force'] else []
    return [str(params['vmid']), *options(POWER_OPTIONS, params), *force, *options(GUARDS, params)]


def snapshot_arguments(params: dict) -> list[str]:
    """Return the arguments of cloudpod-snapshot.sh."""
    return [str(params['vmid']), '--action', SNAPSHOT_ACTIONS[params['state']], '--name', params['name'], *options(GUARDS, params)]


def adopt_arguments(params: dict) -> list[str]:
    """Return the arguments of cloudpod-adopt.sh."""
    return [str(params['vmid']), *options(GUARDS, params)]


def info_arguments(params: dict) -> list[str]:
    """Return the arguments of cloudpod-info.sh."""
    return read_arguments(params) + (['--backups'] if params['backups'] else [])


def read_arguments(params: dict) -> list[str]:
    """Return which pods to read: every vmid once, or --all."""
    return ['--all'] if params['all'] else [str(vmid) for vmid in dict.fromkeys(params['vmids'])]


def health_arguments(params: dict) -> list[str]:
    """Return the arguments of cloudpod-health.sh."""
    flags = [option for option, name in HEALTH_FLAGS.items() if params[name]]
    return [*read_arguments(params), *flags, *options(HEALTH_OPTIONS, params)]


def health_extras(params: dict) -> dict[str, str]:
    """Return the options of health that a site's own script does not know; a flag that is not set says nothing."""
    return dict(HEALTH_OPTIONS, **{option: name for option, name in HEALTH_FLAGS.items() if params[name]})


def options(table: dict[str, str], params: dict) -> list[str]:
    """Given a table of options, return those whose parameter is given, each followed by its value."""
    return [word for option, name in table.items() if params.get(name) is not None for word in (option, str(params[name]))]


def unsent(table: dict[str, str], params: dict) -> list[str]:
    """Return the parameters that are given but that a site's own script does not know."""
    return [name for name in table.values() if params.get(name) is not None]


def values(row: dict) -> dict:
    """Given a row, return its values under the names of the parameters, the absent ones left out."""
    owner = row.get('owner') or {}
    named = dict(row, tenant_id=owner.get('tenant'), pod_id=owner.get('pod'))
    return {name: named[name] for name in SHOWN if named.get(name) is not None}


def differences(row: dict, params: dict, compared: tuple[str, ...]) -> dict[str, dict]:
    """Return ``{parameter: {'is': …, 'asked': …}}`` for each of ``compared`` that is asked and is not so."""
    have = values(row)
    return {name: {'is': have.get(name), 'asked': params[name]} for name in compared if params.get(name) is not None and have.get(name) != params[name]}


def described(different: dict[str, dict]) -> str:
    """Return differences in words: ``cores is 2, asked 4``."""
    return ', '.join('{} is {}, asked {}'.format(name, _word(two['is']), _word(two['asked'])) for name, two in different.items())


def refuse_busy(row: dict) -> None:
    """Raise Busy when another run holds the pod's lock."""
    busy = row.get('busy')
    if busy:
        raise Busy(
            'vmid {} is busy: {} (run {}, pid {}) has held its lock since {}'.format(
                row['vmid'], busy.get('script'), busy.get('run'), busy.get('pid'), busy.get('since')
            ),
            busy=busy,
        )


def refuse_foreign(row: dict, params: dict, node: str | None, pool: str | None) -> None:
    """Raise Refused when the container is on another node or outside the pool, Foreign unless it is the owner's that is asked. An absent one passes."""
    if not row['exists']:
        return
    if node and row.get('node') not in (None, node):
        error = Foreign if differences(row, params, GUARD_COMPARED) else Refused
        raise error('vmid {} is on node {}, not on {}'.format(row['vmid'], row['node'], node))
    # A create that was killed may not have reached the pool yet.
    if not row.get('in_pool') and not row.get('unfinished'):
        raise Foreign('vmid {} is a container outside the pool {} and is not touched'.format(row['vmid'], pool or 'ClientPods'))


def refuse_other_owner(row: dict, params: dict, older: bool) -> None:
    """Raise Foreign when the pod's owner is not the one that is asked.

    Who the owner is stays untold: who asks with the wrong tenant need not learn the right one.
    ``older``: the pod may come from a site's own script, which writes no owner; then there is nothing to compare with.
    """
    if 'owner' not in row:
        return
    # Of a create that was killed early, or a destroy half-way, only the address file knows the owner, and our script compares with that.
    if row['owner'] is None and (older or row.get('unfinished') or row.get('lock') == 'destroyed'):
        return
    wrong = list(differences(row, params, GUARD_COMPARED))
    if wrong:
        named = ' and '.join(f'{name} is not {params[name]}' for name in wrong)
        raise Foreign('vmid {} belongs to another owner: {}'.format(row['vmid'], named), parameters=wrong)


def refuse_adopted(row: dict, params: dict) -> None:
    """Raise Refused when the container has an owner other than the one that is asked. The same tenant without a pod is none."""
    owner = row.get('owner')
    if owner:
        refuse_other_owner(row, params if owner['pod'] else dict(params, pod_id=None), older=False)


def refuse_locked(row: dict) -> None:
    """Raise Busy when Proxmox itself has locked the container, for a backup or a migration."""
    # "mounted" hinders nothing; what a create, destroy or backup left that was cut off, the scripts clean up.
    cut_off = row.get('unfinished') or row.get('lock_stale')
    if row.get('lock') not in (None, 'mounted', 'destroyed') and not cut_off:
        raise Busy('CT {} is locked ({})'.format(row['vmid'], row['lock']))


def refuse_protected(row: dict) -> None:
    """Raise Refused when Proxmox's protection mode forbids to destroy the container."""
    if row.get('protection'):
        raise Refused("can't remove CT {} - protection mode enabled".format(row['vmid']))


def refuse_missing(row: dict) -> None:
    """Raise Refused when there is no such pod, or only an unfinished one."""
    if not row['exists']:
        raise Refused('vmid {} does not exist on this node'.format(row['vmid']))
    if row.get('unfinished'):
        raise Refused('vmid {} is an unfinished create: create it again or destroy it first'.format(row['vmid']))


def owner_asked(params: dict) -> dict:
    """Return the owner that is asked, as a row has it."""
    return {'tenant': params['tenant_id'], 'pod': params['pod_id']}


def job_of(params: dict) -> str | None:
    """Return the job: the part of run_id before the dot, which keys what must not happen twice."""
    return params['run_id'].partition('.')[0] if params['run_id'] else None


def planned(params: dict, node: str | None = None) -> dict:
    """Return the row that a create is expected to make. The address is None when the node chooses it."""
    asked = {name: params.get(name) for name in CREATE_COMPARED}
    owner = owner_asked(params)
    return dict(asked, vmid=params['vmid'], exists=True, in_pool=True, unfinished=False, node=node, owner=owner, status='running')


def made_by_older_script(params: dict, summary: dict[str, str], stdout: str) -> dict:
    """Return what is known of a pod that a site's own script made: what was asked and what its summary says."""
    status = summary.get('Status')
    # What could not be sent is not known to be so.
    sent = {name: None for name in CREATE_EXTRAS.values() if name in params}
    return dict(planned(dict(params, **sent)), in_pool=None, status=status, ip=parse_ip(stdout) or params['ip'])


def has_size(row: dict, params: dict) -> bool:
    """Return whether the pod has the size that is asked, and no other one waits for its next start."""
    return not differences(row, params, SCALE_COMPARED) and not SIZE_KEYS.intersection(row.get('pending') or {})


def scaled(row: dict, params: dict) -> dict:
    """Return the row as it is after the scale."""
    return dict(row, **{name: params[name] for name in SCALE_COMPARED if params.get(name) is not None})


def powered(row: dict, params: dict) -> dict:
    """Return the row as it is in the state that is asked."""
    return dict(row, status='stopped' if params['state'] == 'stopped' else 'running')


def has_power(row: dict, params: dict) -> bool:
    """Return whether the pod is in the state that is asked. A restart is never done already."""
    return row.get('status') == params['state']


def find_snapshot(row: dict, name: str) -> dict | None:
    """Return the pod's snapshot of this name, or None."""
    return next((each for each in row['snapshots'] if each['name'] == name), None)


def has_snapshot_state(row: dict, params: dict) -> bool:
    """Return whether the snapshot is as asked, or raise Refused when it cannot become so.

    Without a run_id ``present`` means that it is there. With one it means that this job made it: who keeps a state before a
    change must not be content with an older one.
    """
    found = find_snapshot(row, params['name'])
    if params['state'] == 'absent':
        return found is None
    if params['state'] == 'rolled_back' and found is None:
        raise Refused('vmid {} has no snapshot {}'.format(row['vmid'], params['name']))
    if found is None:
        return False
    if not found['complete']:
        raise Refused('snapshot {} of vmid {} is not complete: delete it'.format(params['name'], row['vmid']))
    if params['state'] == 'rolled_back':
        return False
    if params['run_id'] is not None and found['job'] != job_of(params):
        raise Refused('vmid {} already has a snapshot {}, which another job made'.format(row['vmid'], params['name']))
    return True


def snapshots_after(row: dict, params: dict) -> list[dict]:
    """Return the pod's snapshots as they are expected to be after the change."""
    others = [each for each in row['snapshots'] if each['name'] != params['name']]
    if params['state'] == 'absent':
        return others
    if params['state'] == 'rolled_back' or len(others) < len(row['snapshots']):
        return row['snapshots']
    parent = row.get('config', {}).get('parent')
    made = {'name': params['name'], 'created': None, 'parent': parent, 'job': job_of(params), 'complete': True}
    return row['snapshots'] + [made]


def snapshot_diff(before: dict, after: dict, params: dict) -> dict:
    """Given two rows, return what ``--diff`` shows: values, which a rollback may change, and the names of the snapshots."""
    shown = diff(before, after)
    for when, row in (('before', before), ('after', after)):
        shown[when]['snapshots'] = [each['name'] for each in row['snapshots']]
    if params['state'] == 'rolled_back':
        shown['after']['rolled_back_to'] = params['name']
    return shown


def diff(before: dict | None, after: dict | None) -> dict:
    """Given two rows (None: absent), return what ``--diff`` shows."""
    return {'before': values(before) if before else {}, 'after': values(after) if after else {}}


def _word(value: t.Any) -> str:
    return 'unknown' if value is None else str(value)
