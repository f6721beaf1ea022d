"""Where a request comes from, when proxies stand before us: only those that a setting names are believed."""

from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address

import falcon

Network = IPv4Network | IPv6Network


def address(request: falcon.Request, trusted: Sequence[Network]) -> str:
    """Return the nearest address that is no proxy of ours.

    Each proxy appends whom it was asked by to `X-Forwarded-For`; what stands left of that, anybody may have written.
    """
    nearest: str = request.remote_addr
    hops = (request.get_header("X-Forwarded-For") or "").split(",") if trusted else []
    for hop in reversed(hops):
        if not _is_among(nearest, trusted):
            break
        if not _is_address(hop.strip()):
            break
        nearest = hop.strip()
    return nearest


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def _is_among(text: str, networks: Sequence[Network]) -> bool:
    # A proxy on the same host may come by a socket, which has no address.
    return _is_address(text) and any(ip_address(text) in network for network in networks)
