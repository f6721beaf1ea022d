"""Events as whoever asks may see them: no inside of the house, and not from where others did something."""

from typing import Any

from shim import db, faults
from shim.events.models import CloudPodEvent

_OWN = "SELECT id FROM api_tokens WHERE kind = 'user' AND tenant_id = %s AND id = ANY(%s)"


def shown(events: list[CloudPodEvent], by_tenant: str | None) -> list[dict[str, Any]]:
    """Return the events for a user of this tenant, for a service when it is None."""
    documents = [event.as_json() for event in events]
    if by_tenant is None:
        return documents
    named = {each["tokenId"] for each in documents if each["tokenId"]}
    own = {id for (id,) in db.rows(_OWN, (by_tenant, list(named)))} if named else set()
    for each in documents:
        each["message"] = faults.message(each["message"])
        if "leftBehind" in (each["data"] or {}):
            each["data"] = {**each["data"], "leftBehind": faults.left(str(each["data"]["leftBehind"]))}
        # A JWT is always a user's, of the tenant whose event it is.
        if each["tokenId"] not in own and not str(each["tokenId"]).startswith("jwt:"):
            each["tokenId"] = each["remoteAddr"] = None
    return documents
