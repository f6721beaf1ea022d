"""A name server for tests: keeps records in memory, takes signed updates, and fails, or is written to by others, as told."""

from __future__ import annotations

import socketserver
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import dns.flags
import dns.message
import dns.name
import dns.opcode
import dns.rcode
import dns.rdatatype
import dns.rrset
import dns.tsigkeyring

KEY = "bmFtZS1zZXJ2ZXItbmFtZS1zZXJ2ZXItbmFtZS1zZXI="
ZONES = ("example.com", "10.1.10.in-addr.arpa")


class NameServer:
    """What it has, by name and type; whoever asks over TCP gets it."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.has: dict[tuple[str, str], list[str]] = {
            (zone, "SOA"): ["ns.example.com. root.example.com. 1 60 60 60 60"] for zone in ZONES
        }
        # What it says of a name instead of what it has; None is for no answer at all.
        self.faults: dict[str, int | None] = {}
        self.after_update: Callable[[], None] = lambda: None

    def told(self) -> dict[str, Any]:
        """Return what the house is told of it, by the names of the playbooks' `dns`."""
        about = {"zone": ZONES[0], "reverse_zone": ZONES[1], "server": "127.0.0.1", "port": self.port}
        return {**about, "key_name": "cloudpods", "key_secret": KEY}

    def names(self) -> set[str]:
        """Return the names that it has, but for the zones' own."""
        return {name for name, _ in self.has} - set(ZONES)

    def answer(self, wire: bytes) -> bytes:
        """Return the answer to a message, nothing for none."""
        asked = dns.message.from_wire(wire, keyring=dns.tsigkeyring.from_text({"cloudpods": KEY}))
        answer = dns.message.make_response(asked)
        if asked.opcode() == dns.opcode.UPDATE:
            answer.set_rcode(self._update(asked))
            self.after_update()
            return answer.to_wire()
        rcode = self._find(asked.question[0], answer)
        answer.flags |= dns.flags.AA
        if rcode is not None:
            answer.set_rcode(rcode)
        return b"" if rcode is None else answer.to_wire()

    def _find(self, question: Any, answer: Any) -> int | None:
        name, kind = _text(question.name), dns.rdatatype.to_text(question.rdtype)
        if name in self.faults:
            return self.faults[name]
        if not name.endswith(ZONES):
            return dns.rcode.REFUSED
        for _ in range(5):
            here = [(each, values) for (owner, each), values in self.has.items() if owner == name]
            for each, values in here:
                if kind in (each, "ANY") or each == "CNAME":
                    answer.answer.append(dns.rrset.from_text_list(name + ".", 60, "IN", each, map(_quoted, values)))
            if kind in ("CNAME", "ANY") or "CNAME" not in dict(here):
                break
            name = dict(here)["CNAME"][0].rstrip(".")
        below = any(owner.endswith("." + name) for owner, _ in self.has)
        return dns.rcode.NOERROR if here or below else dns.rcode.NXDOMAIN

    def _update(self, asked: Any) -> int:
        needed: dict[tuple[str, str], list[str]] = {}
        for rrset in asked.prerequisite:
            needed.setdefault(_key(rrset), []).extend(_values(rrset))
        for key, values in needed.items():
            if key not in self.has or (values and sorted(values) != sorted(self.has[key])):
                return dns.rcode.NXRRSET
        for rrset in asked.update:
            if rrset.deleting is not None:
                self.has.pop(_key(rrset), None)
            else:
                held = self.has.setdefault(_key(rrset), [])
                held += [value for value in _values(rrset) if value not in held]
        return dns.rcode.NOERROR


def _text(name: dns.name.Name) -> str:
    return name.to_text(omit_final_dot=True).lower()


def _key(rrset: Any) -> tuple[str, str]:
    return _text(rrset.name), dns.rdatatype.to_text(rrset.rdtype)


def _values(rrset: Any) -> list[str]:
    return [each.to_text().strip('"') for each in rrset]


def _quoted(value: str) -> str:
    return value if " " in value or "." in value or ":" in value else f'"{value}"'


@contextmanager
def served() -> Iterator[NameServer]:
    """Serve on a free port of this machine."""

    class Line(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            while head := self.rfile.read(2):
                wire = server.answer(self.rfile.read(*struct.unpack("!H", head)))
                if not wire:
                    return
                self.wfile.write(struct.pack("!H", len(wire)) + wire)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Line) as listening:
        listening.daemon_threads = True
        server = NameServer(listening.server_address[1])
        threading.Thread(target=listening.serve_forever, daemon=True).start()
        yield server
        listening.shutdown()
