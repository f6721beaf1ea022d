"""Whether addresses answer: ICMP echoes to all of them at once from one socket, and the ARP table for those that do not."""

from __future__ import annotations

import os
import select
import socket
import struct
import time
from collections.abc import Iterable

DEADLINE_S = 1.0
# When those without an answer are asked again: the first packet to a neighbour may wait for ARP and be dropped.
ROUNDS_S = (0.0, 0.3, 0.6)
ECHO, ECHO_REPLY = 8, 0
# Linux: which ICMP types a raw socket does not want (a bit each), so that nobody else's traffic fills its buffer.
SOL_RAW, ICMP_FILTER = 255, 1
BUFFER_BYTES = 1 << 20
ARP_COMPLETE = 0x2
HEADER = struct.Struct("!BBHHH")


def reachable(addresses: Iterable[str], arp_file: str = "/proc/net/arp") -> dict[str, bool | None]:
    """Return whether each address answers or is known by ARP; None for all where nobody may ask."""
    wanted = sorted(set(addresses))
    try:
        echoes = Echoes(wanted)
    except PermissionError:
        return dict.fromkeys(wanted)
    with echoes:
        answered = echoes.answered()
    with open(arp_file, encoding="ascii", errors="replace") as file:
        known = complete(file.read())
    # What may not be sent (a firewall of the node's) proves nothing.
    return {each: None if each in echoes.forbidden else each in answered or each in known for each in wanted}


def complete(arp: str) -> set[str]:
    """Given /proc/net/arp, return the addresses that have been resolved."""
    rows = (line.split() for line in arp.splitlines()[1:])
    return {row[0] for row in rows if len(row) >= 4 and _flags(row[2]) & ARP_COMPLETE}


def _flags(word: str) -> int:
    try:
        return int(word, 16)
    except ValueError:
        return 0


class Echoes:
    """One batch of echo requests. An answer counts when address, number and token are those of its request."""

    def __init__(self, addresses: list[str]) -> None:
        self._addresses = addresses
        self._identifier = os.getpid() & 0xFFFF
        self._token = os.urandom(8)
        self.forbidden: set[str] = set()
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_ICMP)
        self._socket.setsockopt(SOL_RAW, ICMP_FILTER, struct.pack("I", ~(1 << ECHO_REPLY) & 0xFFFFFFFF))
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)

    def __enter__(self) -> Echoes:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._socket.close()

    def answered(self) -> set[str]:
        """Return the addresses that answered before the deadline; at once when all have."""
        began = time.monotonic()
        answered: set[str] = set()
        for start_s, end_s in zip(ROUNDS_S, (*ROUNDS_S[1:], DEADLINE_S)):
            for sequence, address in enumerate(self._addresses):
                if address not in answered and time.monotonic() < began + end_s:
                    self._send(sequence, address)
                    self._receive(answered, 0)
            while len(answered) < len(self._addresses) and (left_s := began + end_s - time.monotonic()) > 0:
                self._receive(answered, left_s)
            if len(answered) == len(self._addresses) or start_s == ROUNDS_S[-1]:
                break
        return answered

    def _send(self, sequence: int, address: str) -> None:
        try:
            self._socket.sendto(echo_request(self._identifier, sequence & 0xFFFF, self._token), (address, 0))
        except PermissionError:
            self.forbidden.add(address)
        except OSError:
            pass  # no route, no room for one more neighbour: asked again, and else not reached

    def _receive(self, answered: set[str], wait_s: float) -> None:
        """Take every answer that is there, the first of them waited for."""
        if not select.select([self._socket], [], [], wait_s)[0]:
            return
        while True:
            try:
                packet, (address, _port) = self._socket.recvfrom(2048)
            except BlockingIOError:
                return
            if self._is_ours(packet, address):
                answered.add(address)

    def _is_ours(self, packet: bytes, address: str) -> bool:
        reply = echo_reply(packet)
        if reply is None or reply[0] != self._identifier or reply[2] != self._token:
            return False
        # Numbers beyond 16 bits have begun again.
        return any(each == address for each in self._addresses[reply[1] :: 0x10000])


def echo_request(identifier: int, sequence: int, token: bytes) -> bytes:
    """Return an ICMP echo request."""
    bare = HEADER.pack(ECHO, 0, 0, identifier, sequence) + token
    return HEADER.pack(ECHO, 0, checksum(bare), identifier, sequence) + token


def echo_reply(packet: bytes) -> tuple[int, int, bytes] | None:
    """Given an IPv4 packet, return identifier, number and payload of the echo reply in it; None when it is none."""
    start = (packet[0] & 0xF) * 4 if packet else 0
    if len(packet) < start + HEADER.size:
        return None
    kind, code, _sum, identifier, sequence = HEADER.unpack_from(packet, start)
    return (identifier, sequence, packet[start + HEADER.size :]) if (kind, code) == (ECHO_REPLY, 0) else None


def checksum(data: bytes) -> int:
    """Return the Internet checksum (RFC 1071)."""
    total = sum(struct.unpack(f"!{len(data) // 2}H", data[: len(data) // 2 * 2]))
    total += data[-1] << 8 if len(data) % 2 else 0
    total = (total >> 16) + (total & 0xFFFF)
    return ~(total + (total >> 16)) & 0xFFFF
