# Copyright: (c) 2026, MigraTeck
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the modules accept: argument specs, and the rules each value must keep. The rules are those of the scripts."""

from __future__ import annotations

import ipaddress
import re
import typing as t

from ansible_collections.migra.cloudpods.plugins.module_utils._errors import BadParameter

_LABEL = r'[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?'
_OWNER_RULE = 'must be 1 to 64 letters, digits, dots, underscores, colons or hyphens, the first a letter or a digit'
_PATH_RULE = 'must be an absolute path of letters, digits and the characters _.,@%+=:/-, without ".."'

# name → (pattern for the whole value, the rule in words)
PATTERNS: dict[str, tuple[str, str]] = {
    'hostname': (
        r'(?=.{1,253}\Z)' + _LABEL + r'(\.' + _LABEL + r')*',
        'must be a DNS name: labels of 1 to 63 letters, digits and inner hyphens, joined by dots, at most 253 characters',
    ),
    'tenant_id': (r'[A-Za-z0-9][A-Za-z0-9._:-]{0,63}', _OWNER_RULE),
    'pod_id': (r'[A-Za-z0-9][A-Za-z0-9._:-]{0,63}', _OWNER_RULE),
    'from_pod_id': (r'[A-Za-z0-9][A-Za-z0-9._:-]{0,63}', _OWNER_RULE),
    'run_id': (
        r'[A-Za-z0-9][A-Za-z0-9_-]{0,63}(\.[0-9]{1,4})?',
        'must be <job> or <job>.<attempt>: 1 to 64 letters, digits, underscores or hyphens, then a dot and at most 4 digits',
    ),
    'name': (
        r'(?!(current|pending|vzdump)\Z)[A-Za-z][A-Za-z0-9_-]{1,39}',
        'must be 2 to 40 letters, digits, underscores or hyphens, the first a letter, and not current, pending or vzdump',
    ),
    'bridge': (r'[A-Za-z][A-Za-z0-9_.-]{0,14}', 'must be 1 to 15 letters, digits, dots, underscores or hyphens, the first a letter'),
    'storage': (
        r'[A-Za-z][A-Za-z0-9_.-]{0,62}[A-Za-z0-9]',
        'must be 2 to 64 letters, digits, dots, underscores or hyphens, from a letter to a letter or digit',
    ),
    'archive': (
        r'[A-Za-z][A-Za-z0-9_.-]*:backup/vzdump-lxc-[1-9][0-9]{2,8}-[0-9_]{10}-[0-9_]{8}\.tar(\.(zst|gz|lzo))?',
        'must be a volume such as vzdump-backups:backup/vzdump-lxc-9101-2026_11_21-00_05_47.tar.zst',
    ),
    'template': (r'[A-Za-z][A-Za-z0-9_.-]*:vztmpl/[A-Za-z0-9][A-Za-z0-9_.+-]*', 'must be a volume such as local:vztmpl/<file name>'),
    'ssh_keys': (r'/(?!.*\.\.)[A-Za-z0-9_.,@%+=:/-]+\.pub', _PATH_RULE + ', and end in .pub'),
    'script_dir': (r'/(?!.*\.\.)[A-Za-z0-9_.,@%+=:/-]*', _PATH_RULE),
}
RANGES: dict[str, tuple[int, int]] = {
    'vmid': (100, 999999999),
    'vmids': (100, 999999999),
    'from_vmid': (100, 999999999),
    'drill_vmid': (100, 999999999),
    'cores': (1, 128),
    'memory_mb': (16, 1048576),
    'swap_mb': (0, 1048576),
    'disk_gb': (1, 16384),
    'shutdown_timeout_s': (1, 3600),
    'wait_s': (1, 600),
    'boot_timeout_s': (1, 3600),
    'guest_timeout_s': (1, 60),
    'memory_warning_percent': (1, 100),
    'memory_critical_percent': (1, 100),
    'swap_warning_percent': (1, 100),
    'disk_warning_percent': (1, 100),
    'disk_critical_percent': (1, 100),
    'timeout_s': (1, 86400),
}
KEEP = ('keep_last', 'keep_hourly', 'keep_daily', 'keep_weekly', 'keep_monthly', 'keep_yearly')
KEEP_AT_MOST = 999
# The copy of a restore drill is this much above its pod, unless a vmid is given.
DRILL_OFFSET = 900000000
ADDRESSES = ('ip', 'gateway')
# What is of a new pod alone: one that is restored in place keeps its own.
NEW_ALONE = ('from_vmid', 'hostname', 'ip', 'auto_ip', 'gateway', 'bridge', 'storage', 'cores', 'memory_mb', 'swap_mb', 'isolated')


def _shared(timeout_s: int) -> dict:
    return {
        'script_dir': {'type': 'str', 'default': '/usr/local/sbin'},
        'sudo': {'type': 'bool', 'default': True},
        'timeout_s': {'type': 'int', 'default': timeout_s},
    }


def _one_pod(timeout_s: int, owner_required: bool = False) -> dict:
    return dict(
        _shared(timeout_s),
        vmid={'type': 'int', 'required': True},
        tenant_id={'type': 'str', 'required': True} if owner_required else {'type': 'str'},
        pod_id={'type': 'str'},
        run_id={'type': 'str'},
    )


def create_spec() -> dict:
    """Return the argument spec of cloudpod_create."""
    return dict(
        _one_pod(900, owner_required=True),
        hostname={'type': 'str', 'required': True},
        cores={'type': 'int', 'required': True},
        memory_mb={'type': 'int', 'required': True},
        swap_mb={'type': 'int', 'default': 512},
        disk_gb={'type': 'int'},
        storage={'type': 'str', 'default': 'clients-main'},
        bridge={'type': 'str', 'default': 'vmbr0'},
        ip={'type': 'str'},
        auto_ip={'type': 'bool'},
        gateway={'type': 'str'},
        template={'type': 'str'},
        ssh_keys={'type': 'str', 'no_log': False},
    )


def destroy_spec() -> dict:
    """Return the argument spec of cloudpod_destroy."""
    return _one_pod(900)


def scale_spec() -> dict:
    """Return the argument spec of cloudpod_scale."""
    return dict(
        _one_pod(300),
        cores={'type': 'int', 'required': True},
        memory_mb={'type': 'int', 'required': True},
        swap_mb={'type': 'int'},
        force={'type': 'bool', 'default': False},
    )


def backup_spec() -> dict:
    """Return the argument spec of cloudpod_backup."""
    return dict(
        _one_pod(14400),
        mode={'type': 'str', 'choices': ['snapshot', 'suspend', 'stop'], 'default': 'snapshot'},
        storage={'type': 'str'},
        retention={'type': 'dict', 'options': {name: {'type': 'int'} for name in KEEP}},
    )


def restore_spec() -> dict:
    """Return the argument spec of cloudpod_restore."""
    return dict(
        _one_pod(14400, owner_required=True),
        pod_id={'type': 'str', 'required': True},
        archive={'type': 'str'},
        from_vmid={'type': 'int'},
        from_pod_id={'type': 'str'},
        hostname={'type': 'str'},
        ip={'type': 'str'},
        auto_ip={'type': 'bool'},
        gateway={'type': 'str'},
        bridge={'type': 'str'},
        storage={'type': 'str'},
        cores={'type': 'int'},
        memory_mb={'type': 'int'},
        swap_mb={'type': 'int'},
        isolated={'type': 'bool', 'default': False},
        force={'type': 'bool', 'default': False},
    )


def drill_spec() -> dict:
    """Return the argument spec of cloudpod_restore_drill."""
    return dict(
        _one_pod(14400, owner_required=True),
        archive={'type': 'str'},
        drill_vmid={'type': 'int'},
        storage={'type': 'str'},
        boot_timeout_s={'type': 'int', 'default': 120},
    )


def adopt_spec() -> dict:
    """Return the argument spec of cloudpod_adopt."""
    return dict(_one_pod(300, owner_required=True), pod_id={'type': 'str', 'required': True})


def power_spec() -> dict:
    """Return the argument spec of cloudpod_power."""
    return dict(
        _one_pod(3900),
        state={'type': 'str', 'choices': ['running', 'stopped', 'restarted'], 'required': True},
        shutdown_timeout_s={'type': 'int', 'default': 60},
        force={'type': 'bool', 'default': False},
    )


def snapshot_spec() -> dict:
    """Return the argument spec of cloudpod_snapshot."""
    return dict(
        _one_pod(900),
        name={'type': 'str', 'required': True},
        state={'type': 'str', 'choices': ['present', 'absent', 'rolled_back'], 'default': 'present'},
    )


def cancel_spec() -> dict:
    """Return the argument spec of cloudpod_cancel."""
    return dict(
        _one_pod(900),
        run_id={'type': 'str', 'required': True},
        for_good={'type': 'bool', 'default': False},
        wait_s={'type': 'int', 'default': 30},
    )


def read_spec() -> dict:
    """Return what the argument specs of cloudpod_info and cloudpod_health have in common."""
    return dict(
        _shared(300),
        vmids={'type': 'list', 'elements': 'int'},
        all={'type': 'bool', 'default': False},
    )


def info_spec() -> dict:
    """Return the argument spec of cloudpod_info."""
    return dict(read_spec(), backups={'type': 'bool', 'default': False})


def node_spec() -> dict:
    """Return the argument spec of node_info."""
    return _shared(60)


def health_spec() -> dict:
    """Return the argument spec of cloudpod_health."""
    return dict(
        read_spec(),
        reach={'type': 'bool', 'default': False},
        in_guest={'type': 'bool', 'default': False},
        guest_timeout_s={'type': 'int'},
        memory_warning_percent={'type': 'int'},
        memory_critical_percent={'type': 'int'},
        swap_warning_percent={'type': 'int'},
        disk_warning_percent={'type': 'int'},
        disk_critical_percent={'type': 'int'},
    )


def check(params: dict) -> None:
    """Given the parameters of any of the modules, raise BadParameter naming each that breaks its rule."""
    problems = {name: rule for name, rule in ((name, broken_rule(name, value)) for name, value in params.items()) if rule}
    problems = dict(problems, **{name: rule for name, rule in _broken_together(params) if name not in problems})
    if problems:
        raise BadParameter(problems)


def broken_rule(name: str, value: t.Any) -> str | None:
    """Return the rule, in words, that ``value`` breaks as parameter ``name``, or None."""
    if value is None:
        return None
    if name == 'retention':
        return _broken_retention(value)
    if name in RANGES:
        return next((rule for rule in (_out_of_range(name, one) for one in (value if isinstance(value, list) else [value])) if rule), None)
    if name in PATTERNS and not re.fullmatch(PATTERNS[name][0], value):
        return f'{PATTERNS[name][1]}, not {_shown(value)}'
    if name in ADDRESSES and not is_ipv4(value):
        return f'must be an IPv4 address such as 10.1.10.91, without leading zeros, not {_shown(value)}'
    return None


def is_ipv4(value: str) -> bool:
    """Return whether ``value`` is a dotted quad. Leading zeros are refused: some programs read them as octal."""
    try:
        return str(ipaddress.IPv4Address(value)) == value
    except ValueError:
        return False


def _out_of_range(name: str, value: t.Any) -> str | None:
    low, high = RANGES[name]
    # Ansible lets a bool pass as an int.
    if isinstance(value, bool) or not low <= value <= high:
        return f'must be a whole number from {low} to {high}, not {_shown(value)}'
    return None


def _broken_retention(retention: dict) -> str | None:
    counts = [count for count in retention.values() if count is not None]
    if any(isinstance(count, bool) or not 0 <= count <= KEEP_AT_MOST for count in counts):
        return f'must be whole numbers from 0 to {KEEP_AT_MOST}, not {_shown(retention)}'
    return None if any(counts) else 'must keep something: at least one number above 0'


def _broken_together(params: dict) -> t.Iterator[tuple[str, str]]:
    if params.get('ip') and params.get('auto_ip'):
        yield 'ip', 'cannot be combined with auto_ip: give one of the two'
    if params.get('ip') and params.get('ip') == params.get('gateway'):
        yield 'ip', 'must not be the address of the gateway'
    if 'shutdown_timeout_s' in params and params['shutdown_timeout_s'] >= params['timeout_s']:
        yield 'shutdown_timeout_s', 'must be less than timeout_s, so that the script can say how the shutdown went'
    if 'wait_s' in params and params['wait_s'] >= params['timeout_s']:
        yield 'wait_s', 'must be less than timeout_s, so that the script can say how the run ended'
    if 'vmids' in params and bool(params['vmids']) == bool(params['all']):
        yield 'vmids', 'give either at least one vmid or all: true'
    if 'from_pod_id' in params:
        yield from _broken_restore(params)
    if 'drill_vmid' in params:
        yield from _broken_drill(params)


def _broken_restore(params: dict) -> t.Iterator[tuple[str, str]]:
    if params['from_pod_id'] is None:
        for name in NEW_ALONE:
            if params[name] is not None and params[name] is not False:
                yield name, 'is for a restore as a new pod: give from_pod_id too'
        return
    if params['hostname'] is None:
        yield 'hostname', 'must be given for a restore as a new pod'
    if params['force']:
        yield 'force', 'is for a restore in place: give no from_pod_id'
    if params['from_vmid'] is None and params['archive'] is None:
        yield 'from_vmid', 'must be given for a restore as a new pod, or the archive'


def _broken_drill(params: dict) -> t.Iterator[tuple[str, str]]:
    if params['drill_vmid'] is None and params['vmid'] + DRILL_OFFSET > RANGES['vmid'][1]:
        yield 'drill_vmid', f'must be given for a vmid above {RANGES["vmid"][1] - DRILL_OFFSET}'
    if params['drill_vmid'] == params['vmid']:
        yield 'drill_vmid', 'must not be the vmid of the pod'


def _shown(value: t.Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + '...'
