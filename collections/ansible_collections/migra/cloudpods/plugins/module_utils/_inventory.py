# Copyright: (c) 2026, MigraTeck
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the inventory plugin decides, without Ansible: a pod's variables, name, groups and way in.

Hostnames, host keys and addresses come from inside tenants' pods. Whatever gets near an argument is checked here, by a pattern
that matches the whole of it, and is left out when it does not fit.
"""

from __future__ import annotations

import collections
import ipaddress
import re
import shlex
import typing as t

LABEL = r'[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?'
HOSTNAME = re.compile(rf'(?=.{{1,253}}\Z){LABEL}(\.{LABEL})*')
HOST_KEY = re.compile(r'(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)) [A-Za-z0-9+/]{20,2000}={0,2}')
POD_ID = re.compile(r'[A-Za-z0-9][A-Za-z0-9._:-]{0,63}')
# They stand in a command line that a shell reads: no blank, quote, or anything else it would take for its own.
USER = re.compile(r'[A-Za-z_][A-Za-z0-9_-]{0,31}')
PATH = re.compile(r'/[A-Za-z0-9_./@+-]{1,1000}')

# Names that Ansible takes for something else than a pod.
RESERVED = ('localhost', 'localhost.localdomain', 'all', 'ungrouped')
# Reserved for names that lead nowhere (RFC 2606): without an address a pod's own hostname would be looked up and connected to.
NOWHERE = 'no-address.invalid'

JUMP = {'user': 'cloudpods-jump', 'host': None, 'hosts': None, 'port': 22, 'private_key_file': None, 'known_hosts': None}
NODE = {
    'name': None,
    'connection': 'ssh',
    'host': None,
    'port': 22,
    'user': 'mpanel-automation',
    'private_key_file': None,
    'known_hosts': None,
    'script_dir': '/usr/local/sbin',
    'sudo': True,
}
API = {'url': None, 'token_file': None, 'ca_path': None, 'timeout_s': 30}
FILTERS = {'status': ['active'], 'tenant': None, 'region': None, 'node': None}

# Group prefix → the variable whose value follows it.
GROUPED_BY = {
    'tenant': 'tenant_id',
    'status': 'status',
    'region': 'region',
    'node': 'node',
    'blueprint': 'blueprint',
    'role': 'role',
    'power': 'power_state',
}


class BadSetting(Exception):
    """A value of the inventory file that cannot be used, or an answer that cannot."""


class Named(t.NamedTuple):
    """A pod under the name it has in the inventory."""

    name: str
    pod: dict


def settings(option: str, given: object, defaults: dict) -> dict:
    """Given a dictionary of the inventory file, return it with the defaults filled in. Raises BadSetting for an unknown key."""
    if not isinstance(given, dict):
        raise BadSetting(f'{option}: must be a dictionary')
    unknown = sorted(set(map(str, given)) - set(defaults))
    if unknown:
        raise BadSetting(f'{option}: unknown key {unknown[0]}; known are {", ".join(defaults)}')
    return {**defaults, **{key: value for key, value in given.items() if value is not None}}


def filters(given: dict | None) -> dict:
    """Return the filters as lists of texts, None where anything passes."""
    read = settings('filters', given or {}, FILTERS)
    return {key: value if value is None else [str(each) for each in (value if isinstance(value, list) else [value])] for key, value in read.items()}


def passes(pod: dict, wanted: dict) -> bool:
    """Return whether a pod is one of those asked for."""
    names = {'status': 'status', 'tenant': 'tenant_id', 'region': 'region', 'node': 'node'}
    return all(wanted[key] is None or pod.get(name) in wanted[key] for key, name in names.items())


def from_api(item: dict) -> dict:
    """Given a pod as the API tells it, return its facts in snake case."""
    try:
        facts = {re.sub(r'(?<=[a-z0-9])(?=[A-Z])', '_', str(key)).lower(): value for key, value in item.items()}
        return {**facts, 'vmid': int(facts['vmid'])}
    except (AttributeError, KeyError, TypeError, ValueError):
        raise BadSetting(f'the API answered with something that is no pod: {item!r:.200}') from None


def from_node(row: dict, node: str) -> dict:
    """Given a row of cloudpod-info.sh, return the pod's facts under the names that the API's have."""
    try:
        owner = row.get('owner') or {}
        told = {key: value for key, value in row.items() if key not in ('owner', 'status', 'config', 'exists', 'in_pool', 'busy')}
        power = row.get('status') if row.get('status') in ('running', 'stopped') else 'unknown'
        status = 'provisioning' if row.get('unfinished') else 'active'
        who = {'id': owner.get('pod'), 'tenant_id': owner.get('tenant'), 'node': node, 'region': None, 'blueprint': None, 'role': None}
        return {**told, **who, 'vmid': int(row['vmid']), 'status': status, 'power_state': power}
    except (AttributeError, KeyError, TypeError, ValueError):
        raise BadSetting(f'node {node} answered with something that is no pod: {row!r:.200}') from None


def named(pods: list[dict], taken: t.Container[str]) -> list[Named]:
    """Return the pods, by vmid, each with its name: the hostname, or more where another one has that.

    ``taken`` are the names that the inventory has already: a pod must not pass itself off as somebody else's host.
    """
    often = collections.Counter(_text(pod, 'hostname') for pod in pods)
    used: set[str] = set()
    result = []
    for pod in sorted(pods, key=lambda each: (each['vmid'], _text(each, 'node'), _text(each, 'id'))):
        hostname = _text(pod, 'hostname')
        name = next(each for each in _candidates(pod, often[hostname]) if each not in used and each not in taken)
        used.add(name)
        result.append(Named(name, pod))
    return result


def _candidates(pod: dict, often: int) -> t.Iterator[str]:
    hostname = _text(pod, 'hostname')
    fits = bool(HOSTNAME.fullmatch(hostname)) and hostname.lower() not in RESERVED and not _is_address(hostname)
    if fits and often == 1:
        yield hostname
    unique = '{}-{}'.format(hostname if fits else 'cloudpod', pod['vmid'])
    yield unique
    number = 1
    while True:
        number += 1
        yield f'{unique}-{number}'


def groups(pod: dict) -> list[tuple[str, str]]:
    """Return (group as it would be called, value) of a pod; names are made valid by whoever adds them."""
    return [(f'{prefix}_{pod[key]}', str(pod[key])) for prefix, key in GROUPED_BY.items() if pod.get(key) not in (None, '')]


def address(pod: dict, often: collections.Counter) -> str:
    """Return the pod's address, or a name that leads nowhere: also for one that two pods claim."""
    ip = _text(pod, 'ip')
    return ip if _is_address(ip) and often[ip] == 1 else NOWHERE


def ssh_arguments(pod: dict, jump: dict | None, accept_new: bool) -> list[str]:
    """Return OpenSSH's options that lead to a pod and make sure that it is this one."""
    return _identity(pod, accept_new) + (['-o', f'ProxyCommand={" ".join(jump_command(jump, pod))}'] if jump else [])


def _identity(pod: dict, accept_new: bool) -> list[str]:
    key = _text(pod, 'host_key')
    if HOST_KEY.fullmatch(key):
        # The key is an argument, not a file: nothing to keep, to lock or to clear up. %H is the name that ssh looks for.
        nobody_else = ['UserKnownHostsFile=/dev/null', 'GlobalKnownHostsFile=/dev/null', 'StrictHostKeyChecking=yes', 'UpdateHostKeys=no']
        return _options([f'KnownHostsCommand=/bin/echo %H {key}', *nobody_else])
    pod_id = _text(pod, 'id')
    # Addresses are used again: a key that was accepted is the pod's, not its address's.
    alias = [f'HostKeyAlias=cloudpod-{pod_id}'] if POD_ID.fullmatch(pod_id) else []
    return _options([*alias, 'StrictHostKeyChecking={}'.format('accept-new' if accept_new else 'yes')])


def _options(values: list[str]) -> list[str]:
    return [word for value in values for word in ('-o', value)]


def jump_settings(given: dict) -> dict:
    """Return the jump option checked. Raises BadSetting for what must not stand in a command line."""
    jump = settings('jump', given, JUMP)
    if not jump['host'] and not jump['hosts']:
        raise BadSetting('jump: say host (it may contain {node}), or hosts: a dictionary of node and jump host')
    _check_login('jump', jump)
    return jump


def jump_command(jump: dict, pod: dict) -> list[str]:
    """Return the words of the command through which a pod is reached. Raises BadSetting when its node has no jump host."""
    node = _text(pod, 'node')
    host = (jump['hosts'] or {}).get(node) or (jump['host'] or '').replace('{node}', node)
    if not HOSTNAME.fullmatch(str(host)):
        raise BadSetting(f'jump: no usable host for node {node}: {host!r}; add it to jump.hosts')
    # An IPv4 address needs no brackets, which a shell would take for a pattern.
    return ['ssh', '-a', '-x', '-W', '%h:%p', *_login(jump), str(host)]


def node_settings(given: object) -> dict:
    """Return an entry of the nodes option checked. Raises BadSetting."""
    node = settings('nodes', given, NODE)
    if not isinstance(node['name'], str) or not HOSTNAME.fullmatch(node['name']):
        raise BadSetting(f'nodes: each needs a name, its own in the cluster, not {node["name"]!r}')
    if node['connection'] not in ('ssh', 'local'):
        raise BadSetting(f'nodes: connection of {node["name"]} must be ssh or local')
    node['host'] = node['host'] or node['name']
    if not HOSTNAME.fullmatch(str(node['host'])):
        raise BadSetting(f'nodes: host of {node["name"]} must be a name or an IPv4 address, not {node["host"]!r}')
    _check_login(f'nodes: {node["name"]}', node)
    _check_path(f'nodes: {node["name"]}', 'script_dir', node['script_dir'])
    return node


def node_command(node: dict, timeout_s: int) -> list[str]:
    """Return the argument vector that asks a node for its pods."""
    script = [*(['sudo', '-n'] if node['sudo'] else []), node['script_dir'].rstrip('/') + '/cloudpod-info.sh', '--all']
    if node['connection'] == 'local':
        return script
    # The far end's shell reads one line; every word of it is checked to be plain.
    return ['ssh', '-a', '-x', '-T', '-o', f'ConnectTimeout={timeout_s}', *_login(node), '--', str(node['host']), shlex.join(script)]


def _login(to: dict) -> list[str]:
    options = ['BatchMode=yes', 'StrictHostKeyChecking=yes']
    options += ['UserKnownHostsFile={}'.format(to['known_hosts'])] if to['known_hosts'] else []
    key = ['-i', to['private_key_file'], '-o', 'IdentitiesOnly=yes'] if to['private_key_file'] else []
    return [*_options(options), *key, '-p', str(to['port']), '-l', to['user']]


def _check_login(option: str, to: dict) -> None:
    if not USER.fullmatch(str(to['user'])):
        raise BadSetting(f'{option}: user must be a login name, not {to["user"]!r}')
    if not (isinstance(to['port'], int) and 0 < to['port'] < 65536):
        raise BadSetting(f'{option}: port must be a number from 1 to 65535, not {to["port"]!r}')
    for name in ('private_key_file', 'known_hosts'):
        if to[name] is not None:
            _check_path(option, name, to[name])


def _check_path(option: str, name: str, path: object) -> None:
    if not PATH.fullmatch(str(path)):
        raise BadSetting(f'{option}: {name} must be an absolute path of letters, digits and / _ . - + @, not {path!r}')


def _text(pod: dict, fact: str) -> str:
    return '' if pod.get(fact) is None else str(pod[fact])


def _is_address(text: str) -> bool:
    try:
        return bool(ipaddress.IPv4Address(text))
    except ValueError:
        return False
