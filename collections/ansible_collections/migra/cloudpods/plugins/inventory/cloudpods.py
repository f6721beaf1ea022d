# Copyright: (c) 2026, MigraTeck
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: cloudpods
short_description: CloudPods as hosts
version_added: 0.1.0
description:
  - Takes pods from the CloudPods API, or from the nodes themselves, and makes each a host.
  - Its file's name ends with C(cloudpods.yml) or C(cloudpods.yaml).
  - A host is called as the pod is, or C(<hostname>-<vmid>) where two pods, or a host of another source and a pod, have one name.
    A tenant chooses hostnames; aim plays at groups, or compare RV(ignore:cloudpod_id), where it matters whose pod is hit.
    List this source after those of other hosts.
  - Pods are in the groups C(cloudpods), C(tenant_<id>), C(status_<status>), C(region_<region>), C(node_<node>), C(blueprint_<slug>),
    C(role_<role>) and C(power_<running|stopped>), of which each name is made valid.
  - Every fact of a pod is a variable C(cloudpod_<fact>), never a template. C(ansible_host) is the address; a pod without one leads nowhere.
  - SSH verifies each pod's own host key, which the node read, and which is handed to OpenSSH 8.5 or later as C(KnownHostsCommand).
extends_documentation_fragment:
  - constructed
  - inventory_cache
options:
  plugin:
    description: The name of this plugin.
    type: str
    required: true
    choices: [migra.cloudpods.cloudpods]
  api:
    description:
      - The API to ask. Exactly one of O(api) and O(nodes) is needed.
      - V(url) is its address, HTTPS but for this machine itself, without C(/internal).
      - V(token_file) is a file with a token; without it E(CLOUDPODS_TOKEN_FILE) names it.
      - V(ca_path) is a certificate to trust; V(timeout_s) how long each page may take, V(30) by default.
    type: dict
  nodes:
    description:
      - The nodes to ask, each a dictionary.
      - V(name) is the node's own name; V(connection) is V(ssh) or V(local); V(host), V(port), V(user), V(private_key_file) and
        V(known_hosts) lead to it by SSH, its host key is verified.
      - V(script_dir) and V(sudo) are where its scripts are and whether they need C(sudo).
    type: list
    elements: dict
  node_timeout_s:
    description: How long a node may take to answer.
    type: int
    default: 60
  filters:
    description:
      - Which pods. Lists or single values of V(status), V(tenant), V(region) and V(node).
      - Without V(status) the active ones.
    type: dict
    default: {}
  jump:
    description:
      - The way to pods through their nodes. V(host) is the jump host, C({node}) in it is the node's name; V(hosts) is a dictionary of
        node and jump host.
      - V(user) is V(cloudpods-jump) by default. V(port), V(private_key_file) and V(known_hosts) as for a node.
    type: dict
  host_key_checking:
    description:
      - V(strict) reaches a pod whose host key is not known only if C(known_hosts) has it.
      - V(accept-new) takes the first key such a pod shows, and no other from then on.
    type: str
    choices: [strict, accept-new]
    default: strict
author:
  - MigraTeck (@migrateck)
"""

EXAMPLES = r"""
# mysite.cloudpods.yml: the pods that the API knows, reached through their nodes
plugin: migra.cloudpods.cloudpods
api:
  url: https://cloudpods.example.com
  token_file: /etc/migra/inventory.token
jump:
  host: "{node}.example.com"
  private_key_file: /home/ops/.ssh/cloudpods-jump
  known_hosts: /etc/ssh/ssh_known_hosts
filters:
  tenant: [TENANT-123]
keyed_groups:
  - key: cloudpod_storage
    prefix: storage

---
# without the API: what the nodes themselves show
plugin: migra.cloudpods.cloudpods
nodes:
  - name: pve1
    host: pve1.example.com
    private_key_file: /home/ops/.ssh/mpanel-automation
groups:
  large: cloudpod_memory_mb >= 8192
compose:
  cloudpod_label: cloudpod_tenant_id ~ '/' ~ cloudpod_hostname
"""

import collections
import json
import os
import pathlib
import shlex
import subprocess
import typing as t
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode, urlsplit

from ansible.errors import AnsibleParserError
from ansible.inventory.group import to_safe_group_name
from ansible.module_utils.urls import ConnectionError as UrlError
from ansible.module_utils.urls import open_url
from ansible.plugins.inventory import BaseInventoryPlugin, Cacheable, Constructable
from ansible_collections.migra.cloudpods.plugins.module_utils import _inventory as pods_of

ALL = 'cloudpods'


class InventoryModule(BaseInventoryPlugin, Constructable, Cacheable):
    """Pods as hosts."""

    NAME = 'migra.cloudpods.cloudpods'

    def verify_file(self, path: str) -> bool:
        """Return whether the file is one of ours by its name."""
        return super().verify_file(path) and path.endswith(('cloudpods.yml', 'cloudpods.yaml'))

    def parse(self, inventory: t.Any, loader: t.Any, path: str, cache: bool = True) -> None:
        """Fill the inventory."""
        super().parse(inventory, loader, path, cache)
        self._read_config_data(path)
        try:
            wanted = pods_of.filters(self.get_option('filters'))
            jump = self._jump()
            found = [pod for pod in self._cached(path, cache, wanted) if pods_of.passes(pod, wanted)]
            self._add(found, jump)
        except pods_of.BadSetting as error:
            raise AnsibleParserError(f'{path}: {error}') from error

    def _jump(self) -> dict | None:
        given = self.get_option('jump')
        return pods_of.jump_settings(given) if given is not None else None

    def _cached(self, path: str, cache: bool, wanted: dict) -> list[dict]:
        self.load_cache_plugin()
        key = self.get_cache_key(path)
        if cache and self.get_option('cache') and key in self._cache:
            return self._cache[key]
        found = self._read(wanted)
        if self.get_option('cache'):
            self._cache[key] = found
        return found

    def _read(self, wanted: dict) -> list[dict]:
        api, nodes = self.get_option('api'), self.get_option('nodes')
        if bool(api) == bool(nodes):
            raise pods_of.BadSetting('say where the pods are: either api or nodes')
        if api:
            return list(Api(pods_of.settings('api', api, pods_of.API)).pods(wanted))
        checked = [pods_of.node_settings(each) for each in nodes]
        return [pod for each in checked for pod in ask_node(each, self.get_option('node_timeout_s'))]

    def _add(self, found: list[dict], jump: dict | None) -> None:
        self.inventory.add_group(ALL)
        addresses = collections.Counter(str(pod.get('ip')) for pod in found)
        values: dict[str, str] = {}
        for name, pod in pods_of.named(found, {**self.inventory.hosts, **self.inventory.groups}):
            self.inventory.add_host(name, group=ALL)
            self._set_variables(name, pod, addresses, jump)
            for group, value in pods_of.groups(pod):
                safe = to_safe_group_name(group, force=True, silent=True)
                if values.setdefault(safe, value) != value:
                    self.display.warning(f'the pods of {values[safe]!r} and {value!r} are together in group {safe}: no valid name tells them apart')
                self.inventory.add_child(self.inventory.add_group(safe), name)
            self._construct(name)

    def _set_variables(self, name: str, pod: dict, addresses: collections.Counter, jump: dict | None) -> None:
        accept_new = self.get_option('host_key_checking') == 'accept-new'
        reached = {
            'ansible_host': pods_of.address(pod, addresses),
            'ansible_user': 'root',
            # Ansible's own setting, where it is off, would come before these arguments and switch the check off.
            'ansible_host_key_checking': True,
            'ansible_ssh_common_args': shlex.join(pods_of.ssh_arguments(pod, jump, accept_new)),
        }
        # ansible-core takes what an inventory plugin sets as plain text unless it is marked as a template; nothing here is.
        for key, value in {**{f'cloudpod_{fact}': told for fact, told in pod.items()}, **reached}.items():
            self.inventory.set_variable(name, key, value)

    def _construct(self, name: str) -> None:
        strict = self.get_option('strict')
        known = self.inventory.get_host(name).get_vars()
        self._set_composite_vars(self.get_option('compose'), known, name, strict=strict)
        known = self.inventory.get_host(name).get_vars()
        self._add_host_to_composed_groups(self.get_option('groups'), known, name, strict=strict)
        self._add_host_to_keyed_groups(self.get_option('keyed_groups'), known, name, strict=strict)


class Api:
    """The CloudPods API, asked for all pods."""

    def __init__(self, settings: dict) -> None:
        self._url = str(settings['url'] or '').rstrip('/')
        parts = urlsplit(self._url)
        if parts.scheme != 'https' and not (parts.scheme == 'http' and parts.hostname in ('127.0.0.1', '::1', 'localhost')):
            raise pods_of.BadSetting(f'api: url must be https://…, or http:// of this machine itself, since it carries a token; not {self._url!r}')
        self._settings = settings
        self._token = _token(settings['token_file'] or os.environ.get('CLOUDPODS_TOKEN_FILE'))

    def pods(self, wanted: dict) -> t.Iterator[dict]:
        """Return the facts of the pods in all pages, newest first."""
        for status in wanted['status']:
            cursor: str | None = None
            seen: set = set()
            while cursor not in seen:
                seen.add(cursor)
                page = self._page({'status': status, 'limit': 200, **({'cursor': cursor} if cursor else {})})
                yield from [pods_of.from_api(item) for item in page['items']]
                cursor = page.get('next')
                if cursor is None:
                    break

    def _page(self, query: dict) -> dict:
        url = f'{self._url}/internal/cloudpods?{urlencode(query)}'
        try:
            answer = open_url(
                url,
                headers={'Authorization': f'Bearer {self._token}', 'Accept': 'application/json'},
                timeout=self._settings['timeout_s'],
                ca_path=self._settings['ca_path'],
                # A token goes where it was sent and nowhere else.
                follow_redirects='none',
                # What a .netrc says of the host would take the token's place.
                use_netrc=False,
                http_agent='migra.cloudpods inventory',
            )
            page = json.loads(answer.read())
        except HTTPError as error:
            hint = '; is the token still valid?' if error.code in (401, 403) else ''
            raise pods_of.BadSetting(f'api: {url} answered {error.code} {error.reason}{hint}') from error
        except (URLError, UrlError, OSError, ValueError) as error:
            raise pods_of.BadSetting(f'api: {url} cannot be read: {error}') from error
        if not isinstance(page, dict) or not isinstance(page.get('items'), list):
            raise pods_of.BadSetting(f'api: {url} answered with no list of pods')
        return page


def ask_node(node: dict, timeout_s: int) -> list[dict]:
    """Return the facts of the pods that a node shows."""
    command = pods_of.node_command(node, timeout_s)
    try:
        reply = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s, check=False)
    except subprocess.TimeoutExpired as error:
        raise pods_of.BadSetting(f'node {node["name"]} did not answer within {timeout_s} s') from error
    except OSError as error:
        raise pods_of.BadSetting(f'node {node["name"]}: {command[0]} cannot be started: {error.strerror}') from error
    said = reply.stderr.decode(errors='replace').strip()
    if reply.returncode != 0:
        raise pods_of.BadSetting(f'node {node["name"]}: {shlex.join(command)} ended with {reply.returncode}: {said[-500:]}')
    try:
        return [pods_of.from_node(row, node['name']) for row in json.loads(reply.stdout)['pods']]
    except (ValueError, KeyError, TypeError) as error:
        raise pods_of.BadSetting(f'node {node["name"]} did not answer with the JSON object of the contract') from error


def _token(path: str | None) -> str:
    if not path:
        raise pods_of.BadSetting('api: say token_file, or set CLOUDPODS_TOKEN_FILE')
    try:
        token = pathlib.Path(path).expanduser().read_text().strip()
    except (OSError, ValueError) as error:
        raise pods_of.BadSetting(f'api: cannot read the token in {path}: {error}') from error
    if not token.isascii() or not token.isprintable() or not token or ' ' in token:
        raise pods_of.BadSetting(f'api: {path} holds no token')
    return token
