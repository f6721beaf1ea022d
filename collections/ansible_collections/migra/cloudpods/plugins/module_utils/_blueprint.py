# Copyright: (c) 2026, MigraTeck
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a blueprint comes to for one tenant: its pods and its steps, each in their order, and the vmids. Without Ansible."""

from __future__ import annotations

import graphlib
import re
import typing as t

from ansible_collections.migra.cloudpods.plugins.module_utils import _names

PLACEHOLDER = re.compile(r'\{([^{}]*)\}')


class BadBlueprint(Exception):
    """A document, a parameter or a role that no stack can be made of."""


def plan(document: dict, roles: t.Callable[[str], dict | None], tenant_slug: str, given: dict, house: dict | None = None) -> dict:
    """Return pods, steps, the steps that are left out, parameters and healthCheck.

    ``roles`` gives what a role says of itself by its name, None where there is none. A step whose role needs settings that the
    ``house`` has not is left out; without a house none is.
    """
    parameters = _parameters(document.get('parameters') or {}, given)
    resources = [each for each in document['resources'] if not each.get('optional') or parameters.get(each.get('enabledBy')) is True]
    by_role = {each['role']: each for each in resources}
    waits = {role: [other for other in each.get('dependsOn', []) if other in by_role] for role, each in by_role.items()}
    pods = [pod for role in _order(waits) for pod in _pods(by_role[role], tenant_slug)]
    names = [pod['hostname'] for pod in pods]
    if len(set(names)) < len(names):
        raise BadBlueprint(f'two pods would have one name; the names are {", ".join(names)}')
    steps = list(_steps(document.get('postCreate') or [], roles, list(by_role)))
    lacks = {step['name']: _lacks(step, house) for step in steps}
    return {
        'pods': pods,
        'steps': [{key: step[key] for key in ('name', 'role', 'targets')} for step in steps if not lacks[step['name']]],
        'left_out': {name: lacking for name, lacking in lacks.items() if lacking},
        'parameters': parameters,
        'health_check': document.get('healthCheck'),
    }


def _lacks(step: dict, house: dict | None) -> list[str]:
    """Return which of the settings that the step's role needs, ``dns.zone`` for one, the house has not."""
    return [] if house is None else [name for name in step['settings'] if not _setting(house, name)]


def _setting(house: dict, name: str) -> object:
    value: object = house
    for word in name.split('.'):
        value = value.get(word) if isinstance(value, dict) else None
    return value


def _parameters(declared: dict, given: dict) -> dict:
    unknown = sorted(set(given) - set(declared))
    if unknown:
        raise BadBlueprint(f'there is no parameter {unknown[0]}; there are {", ".join(declared) or "none"}')
    secret = [name for name in given if declared[name].get('secret')]
    if secret:
        raise BadBlueprint(f'the parameter {secret[0]} is a secret: give it as secrets: {{{secret[0]}: …}}')
    said = {name: each['default'] for name, each in declared.items() if each.get('default') is not None}
    said.update({name: value for name, value in given.items() if value is not None})
    lacking = [name for name, each in declared.items() if each.get('required') and name not in said and not each.get('secret')]
    if lacking:
        raise BadBlueprint(f'missing parameter: {", ".join(lacking)}')
    for name, value in said.items():
        _check(name, value, declared[name])
    return said


def _check(name: str, value: object, declared: dict) -> None:
    """Raise BadBlueprint for a value that does not match the parameter's pattern or is not of its format."""
    pattern, kind = declared.get('pattern'), declared.get('format')
    if pattern is not None and not (isinstance(value, str) and re.search(pattern, value)):
        raise BadBlueprint(f'the parameter {name} must match {pattern}')
    if kind == 'hostname' and value != '' and not (isinstance(value, str) and _names.NAME.fullmatch(value.lower())):
        raise BadBlueprint(f'the parameter {name} must be the name of a host, or empty')


def _pods(resource: dict, tenant_slug: str) -> t.Iterator[dict]:
    for index in range(resource.get('count', 1)):
        values = {'tenantSlug': tenant_slug, 'role': resource['role'], 'index': index}
        yield {
            'role': resource['role'],
            'index': index,
            'hostname': _fill(resource['hostnamePattern'], values),
            'cores': resource['cores'],
            'memory_mb': resource['memoryMb'],
            'swap_mb': resource.get('swapMb', 512),
            'disk_gb': resource.get('diskGb', 8),
        }


def _fill(pattern: str, values: dict) -> str:
    unknown = [name for name in PLACEHOLDER.findall(pattern) if name not in values]
    if unknown:
        raise BadBlueprint(f'unknown placeholder {{{unknown[0]}}} in {pattern!r}')
    return PLACEHOLDER.sub(lambda found: str(values[found[1]]), pattern)


def _steps(listed: list, roles: t.Callable[[str], dict | None], there: list[str]) -> t.Iterator[dict]:
    named = {(each if isinstance(each, str) else each['name']): each for each in listed}
    found = {name: roles(name.replace('-', '_')) for name in named}
    gone = [name for name, meta in found.items() if meta is None]
    if gone:
        raise BadBlueprint(f'step {gone[0]} has no role {gone[0].replace("-", "_")} that says in meta/blueprint.yml how it is used')
    steps = {name.replace('-', '_'): name for name in named}
    waits = {name: [steps[other] for other in meta.get('after', []) if other in steps] for name, meta in found.items()}
    for name in _order(waits):
        lacking = [role for role in found[name].get('requires', []) if role not in there]
        if lacking:
            raise BadBlueprint(f'{name} needs pods of the role {", ".join(lacking)}')
        said = named[name].get('targets') if isinstance(named[name], dict) else None
        wanted = found[name].get('runs_on', []) if said is None else said
        targets = [role for role in wanted if role in there]
        if targets or not wanted:
            yield {'name': name, 'role': name.replace('-', '_'), 'targets': targets, 'settings': found[name].get('settings') or []}


def _order(after: dict[str, list[str]]) -> list[str]:
    """Return the names, each behind all that it comes after; those that are free stand as they were given."""
    try:
        graphlib.TopologicalSorter(after).prepare()
    except graphlib.CycleError as error:
        raise BadBlueprint('they come after each other: ' + ', '.join(map(str, error.args[1]))) from None
    left, ordered = dict(after), []
    while left:
        name = next(name for name, before in left.items() if not set(before) & left.keys())
        ordered.append(name)
        del left[name]
    return ordered


def numbered(pods: list[dict], rows: list[dict], elsewhere: list[dict], tenant_id: str, first_vmid: int) -> list[dict]:
    """Return the pods with the vmids they have on the node, or free ones from ``first_vmid`` on.

    ``rows`` and ``elsewhere`` are what cloudpod_info returned of all pods. A pod is the stack's by its name and its tenant.
    """
    ours = {row.get('hostname'): row for row in rows if (row.get('owner') or {}).get('tenant') == tenant_id}
    taken = {row['vmid'] for row in [*rows, *elsewhere]}
    free = (number for number in range(first_vmid, 1_000_000_000) if number not in taken)
    return [{**pod, 'there': pod['hostname'] in ours, **_facts(ours.get(pod['hostname']) or {'vmid': next(free)})} for pod in pods]


def _facts(row: dict) -> dict:
    pod_id = (row.get('owner') or {}).get('pod') or ''
    return {'vmid': row['vmid'], 'ip': row.get('ip') or '', 'host_key': row.get('host_key') or '', 'pod_id': pod_id}
