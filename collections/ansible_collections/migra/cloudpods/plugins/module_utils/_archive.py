# Copyright: (c) 2026, MigraTeck
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decisions about archives, as pure functions: argument vectors, which archive it is to be, whether it is restored already.

A *row* is a pod as cloudpod-info.sh shows it, with its archives in ``backups``; *params* are a module's parameters.
"""

from __future__ import annotations

import re

from ansible_collections.migra.cloudpods.plugins.module_utils import _cloudpod as pod
from ansible_collections.migra.cloudpods.plugins.module_utils._errors import Refused

BACKUP_EXTRAS = dict({'--storage': 'storage', '--retention': 'retention'}, **pod.GUARDS)
# What a restore as a new pod takes beyond --archive and whose it is to be.
NEW_OPTIONS = {
    '--from-pod': 'from_pod_id',
    '--host': 'hostname',
    '--bridge': 'bridge',
    '--storage': 'storage',
    '--cores': 'cores',
    '--mem': 'memory_mb',
    '--swap': 'swap_mb',
    '--gw': 'gateway',
    '--ip': 'ip',
}

_VMID = re.compile(r':backup/vzdump-lxc-([0-9]+)-')


def backup_arguments(params: dict, ours: bool) -> list[str]:
    """Return the arguments of cloudpod-backup.sh."""
    words = dict(params, retention=retention_words(params['retention']))
    return [str(params['vmid']), '--mode', params['mode']] + (pod.options(BACKUP_EXTRAS, words) if ours else [])


def retention_words(retention: dict | None) -> str | None:
    """Given ``{'keep_last': 7, …}``, return it as vzdump wants it: ``keep-last=7,…``."""
    if retention is None:
        return None
    return ','.join(f'{name.replace("_", "-")}={count}' for name, count in retention.items() if count is not None)


def restore_arguments(params: dict, volid: str) -> list[str]:
    """Return the arguments of cloudpod-restore.sh. As a new pod neither ip nor auto_ip means auto_ip."""
    arguments = [str(params['vmid']), '--archive', volid, *pod.options(pod.GUARDS, params)]
    if params['from_pod_id'] is None:
        return arguments + (['--force'] if params['force'] else [])
    chosen_by_node = [] if params['ip'] else ['--auto-ip']
    return arguments + pod.options(NEW_OPTIONS, params) + chosen_by_node + (['--isolated'] if params['isolated'] else [])


def source_vmid(params: dict) -> int:
    """Return the vmid that the archive is of: the one that is given, the one in the archive's name, or the pod's own."""
    if params['from_pod_id'] is None:
        return params['vmid']
    return params['from_vmid'] or vmid_of(params['archive'])


def vmid_of(volid: str) -> int:
    """Return the vmid in an archive's name."""
    return int(_VMID.search(volid)[1])


def choose(backups: list[dict], volid: str | None, owner: dict) -> dict:
    """Return the archive that is asked, or without one the owner's newest.

    One that is not listed may be on another storage than the node's own for backups: whose it is, the script finds out.
    Raises Refused for another owner's, which Proxmox names by a vmid that may have been used before.
    """
    if volid is None:
        return _newest(backups, owner)
    found = next((each for each in backups if each['volid'] == volid), None)
    if found is None:
        return shown({'volid': volid})
    if not _is_of(found, owner):
        raise Refused(f'archive {volid} is not one of pod {owner["pod"]} of tenant {owner["tenant"]}')
    return shown(found)


def _newest(backups: list[dict], owner: dict) -> dict:
    """Return the newest archive of the owner; the list has the newest first."""
    found = next((each for each in backups if _is_of(each, owner)), None)
    if found is None:
        raise Refused(f'there is no archive of pod {owner["pod"]} of tenant {owner["tenant"]} on the backup storage of this node')
    return shown(found)


def _is_of(backup: dict, owner: dict) -> bool:
    return (backup.get('tenant'), backup.get('pod')) == (owner['tenant'], owner['pod'])


def shown(backup: dict) -> dict:
    """Return an archive as a restore hands it over; what is not known is None."""
    return {name: backup.get(name) for name in ('volid', 'created', 'size_bytes', 'job')}


def restored_by(row: dict, params: dict) -> str | None:
    """Return the archive that the same job restored here already, or None; raise Refused when it was another one than is asked now."""
    restored = row.get('restored') or {}
    if not pod.job_of(params) or restored.get('job') != pod.job_of(params):
        return None
    if params['archive'] not in (None, restored['archive']):
        raise Refused(
            'job {} has restored {} to vmid {}, not {}'.format(pod.job_of(params), restored['archive'], row['vmid'], params['archive']),
        )
    return restored['archive']


def is_restored(row: dict, volid: str, params: dict) -> bool:
    """Return whether the pod stands as asked already, or raise Refused when it is in the way.

    In place only the same job's restore counts, since afterwards the pod goes on living. As a new pod, and without a job, it is
    enough that it was made of this archive.
    """
    if not row['exists'] or row.get('unfinished'):
        return False
    if restored_by(row, params):
        return True
    if params['from_pod_id'] is None:
        return False
    if pod.job_of(params) is None and (row.get('restored') or {}).get('archive') == volid:
        return True
    raise Refused('vmid {} exists already and was not restored from {} by this job'.format(row['vmid'], volid))


def refuse_unforced(row: dict, params: dict) -> None:
    """Raise Refused when a restore in place would replace a pod without leave."""
    if params['from_pod_id'] is None and not params['force'] and row['exists'] and not row.get('unfinished'):
        raise Refused('vmid {} exists, and what was written since the archive would be lost: give force to restore it in place'.format(row['vmid']))


def restored(row: dict, volid: str, params: dict) -> dict:
    """Return the row as it is expected to be after the restore."""
    made = {'restored': {'job': pod.job_of(params), 'archive': volid}}
    if params['from_pod_id'] is not None:
        return dict(pod.planned(params), **made)
    if row['exists'] and not row.get('unfinished'):
        return dict(row, **made)
    return dict(made, vmid=params['vmid'], exists=True, in_pool=True, unfinished=False, owner=pod.owner_asked(params), status='running')


def restore_diff(before: dict, after: dict) -> dict:
    """Given two rows, return what ``--diff`` shows: values, and the archive that the pod is from."""
    both = pod.diff(before if before['exists'] else None, after)
    for when, row in (('before', before), ('after', after)):
        archive = (row.get('restored') or {}).get('archive')
        both[when].update({'restored_from': archive} if archive else {})
    return both


def made(summary: dict[str, str], params: dict) -> dict:
    """Given a backup's summary, return its archive. A site's own script may leave any of it out: then it is None."""
    return {
        'volid': summary.get('Archive') or None,
        'size_bytes': _whole(summary.get('Size')),
        'mode': summary.get('Mode') or params['mode'],
        'storage': summary.get('Storage') or params['storage'],
        'duration_s': _number(summary.get('Duration')),
    }


def listed(text: str | None) -> list[str]:
    """Given a comma list of a summary, return its words."""
    return [word.strip() for word in (text or '').split(',') if word.strip() not in ('', '-')]


def _whole(text: str | None) -> int | None:
    return int(text) if text and text.isascii() and text.isdigit() else None


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text else None
    except ValueError:
        return None
