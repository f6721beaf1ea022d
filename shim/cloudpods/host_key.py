"""The guest's own SSH host key, as a node tells it. It comes from inside a tenant's pod, so it is kept only if it is one."""

import re
from typing import Any

_KEY = re.compile(r"(ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(256|384|521)) [A-Za-z0-9+/]{20,2000}={0,2}")


def of(row: dict[str, Any]) -> str | None:
    """Return the `host_key` of what a node says of a pod, or None when there is none or it is no key."""
    found = row.get("host_key")
    return found if isinstance(found, str) and _KEY.fullmatch(found) else None
