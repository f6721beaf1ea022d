# Copyright: (c) 2026, MigraTeck
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: dns_answers
short_description: What a name server has of names, or that it cannot be told
version_added: 0.1.0
description:
  - Asks one name server for the records of names, and returns what stands at these very names, not where a CNAME leads to.
  - A server that does not answer, or that answers with a fault (C(SERVFAIL) for one), is a failure, never a name that there is not.
options:
  _terms:
    description: The names, whole, with or without the last dot.
    type: list
    elements: str
    required: true
  server:
    description: Address or name of the name server.
    type: str
    required: true
  port:
    description: Port of the name server, TCP.
    type: int
    default: 53
  types:
    description: The types of the records. C(ANY) is for all that there are.
    type: list
    elements: str
    default: [A]
  may_refuse:
    description: Whether the server may say that it has nothing to do with a name (C(REFUSED), C(NOTAUTH)). It has none then.
    type: bool
    default: false
  timeout_s:
    description: How long, in seconds, each answer may take.
    type: int
    default: 10
requirements:
  - dnspython
author:
  - MigraTeck (@migrateck)
"""

EXAMPLES = r"""
- name: Show the addresses of a host
  ansible.builtin.debug:
    msg: "{{ query('migra.cloudpods.dns_answers', 'web.example.com', server='10.1.10.3', types=['A', 'AAAA']) }}"
"""

RETURN = r"""
_raw:
  description: The records, each once, with C(name) as it was asked for, C(type) and C(value). The words of a TXT record stand without quotes.
  type: list
  elements: dict
"""

import socket
import typing as t

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

try:
    import dns.exception
    import dns.flags
    import dns.message
    import dns.name
    import dns.query
    import dns.rcode
    import dns.rdatatype

    HAS_DNSPYTHON = True
except ImportError:
    HAS_DNSPYTHON = False


class LookupModule(LookupBase):
    """What Ansible loads."""

    def run(self, terms: list[str], variables: dict | None = None, **kwargs: t.Any) -> list[dict]:
        """Return what the server has of the names."""
        self.set_options(var_options=variables, direct=kwargs)
        if not HAS_DNSPYTHON:
            raise AnsibleLookupError('dnspython is needed to ask a name server: pip install dnspython')
        found = [record for name in terms for kind in self.get_option('types') for record in self._ask(str(name), kind)]
        return [record for place, record in enumerate(found) if record not in found[:place]]

    def _ask(self, name: str, kind: str) -> list[dict]:
        server = self.get_option('server')
        try:
            owner = dns.name.from_text(name)
            query = dns.message.make_query(owner, kind)
            # What it has itself: it is not to go on to another server for us.
            query.flags &= ~dns.flags.RD
            address = socket.getaddrinfo(server, None, type=socket.SOCK_STREAM)[0][4][0]
            answer = dns.query.tcp(query, address, timeout=self.get_option('timeout_s'), port=self.get_option('port'))
        except (dns.exception.DNSException, OSError, EOFError) as error:
            raise AnsibleLookupError(f'the name server {server} does not answer for {kind} of {name}: {error}') from error
        # NXDOMAIN is also said of a CNAME's target; the CNAME stands in that answer all the same.
        told = (dns.rcode.NOERROR, dns.rcode.NXDOMAIN)
        none = (dns.rcode.REFUSED, dns.rcode.NOTAUTH) if self.get_option('may_refuse') else ()
        if answer.rcode() not in told + none:
            said = dns.rcode.to_text(answer.rcode())
            raise AnsibleLookupError(f'the name server {server} cannot tell {kind} of {name}: {said}')
        here = [rrset for rrset in answer.answer if rrset.name == owner and kind in ('ANY', dns.rdatatype.to_text(rrset.rdtype))]
        return [{'name': name, 'type': dns.rdatatype.to_text(rrset.rdtype), 'value': _value(data)} for rrset in here for data in rrset]


def _value(data: t.Any) -> str:
    words = getattr(data, 'strings', None)
    return data.to_text() if words is None else b''.join(words).decode(errors='replace')
