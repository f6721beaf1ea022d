"""A site as its visitors find it: by the answer of one name server, then by HTTPS."""

from __future__ import annotations

import socket
import ssl
from dataclasses import dataclass

import dns.query
import dns.rcode
import dns.resolver
import dns.tsigkeyring
import dns.update

ZONE = "example.com"


@dataclass(frozen=True)
class NameServer:
    """A real BIND in a pod, which takes updates of its two zones that its key signs."""

    address: str
    reverse_zone: str
    key: str

    def told(self) -> dict[str, str]:
        """Return what the house is told of it, by the names of the playbooks' `dns`."""
        about = {"zone": ZONE, "reverse_zone": self.reverse_zone, "server": self.address}
        return {**about, "key_name": "cloudpods", "key_secret": self.key}

    def ask(self, name: object, kind: str = "A") -> list[str]:
        """Return what it answers; an empty list for a name that it does not have."""
        resolver = dns.resolver.Resolver(configure=False)
        resolver.nameservers, resolver.cache = [self.address], None
        try:
            return [each.to_text() for each in resolver.resolve(str(name), kind, search=False)]
        except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
            return []

    def write(self, name: str, kind: str, *value: str) -> None:
        """Have it keep this record of its zone, or none of the kind, as somebody else who has the key may."""
        update = dns.update.UpdateMessage(ZONE, keyring=dns.tsigkeyring.from_text({"cloudpods": self.key}))
        update.delete(name + ".", kind)
        if value:
            update.add(name + ".", 60, kind, *value)
        assert dns.query.tcp(update, self.address, timeout=10).rcode() == dns.rcode.NOERROR

    def visit(self, domain: str) -> tuple[str, str]:
        """Visit the front page of a domain where this server says it is; return status line and page."""
        (address,) = self.ask(domain)
        return fetch(address, domain)


def fetch(address: str, domain: str) -> tuple[str, str]:
    """Visit a site at an address by HTTPS; return status line and page. Its certificate must hold its name."""
    trusted = ssl.create_default_context(cadata=ssl.get_server_certificate((address, 443)))
    with (
        socket.create_connection((address, 443), timeout=30) as plain,
        trusted.wrap_socket(plain, server_hostname=domain) as line,
    ):
        line.sendall(f"GET / HTTP/1.0\r\nHost: {domain}\r\n\r\n".encode())
        answer = b"".join(iter(lambda: line.recv(65536), b"")).decode()
    return answer.split("\r\n", 1)[0], answer
