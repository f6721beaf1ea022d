"""A name's short form, as it stands in host names and addresses."""

import hashlib
import re

LONGEST = 63


def of(name: str) -> str:
    """Return the name's letters and digits, in lower case, joined by hyphens; empty when it has none of ours."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:LONGEST].rstrip("-")


def told_apart(slug: str, id: str) -> str:
    """Return a slug that is like this one, which is somebody else's, or is empty, and yet of this id alone."""
    mark = hashlib.sha256(id.encode()).hexdigest()[:8]
    return f"{slug[: LONGEST - 9].rstrip('-') or 'tenant'}-{mark}"
