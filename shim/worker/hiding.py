"""What runs say, without the words that nobody may read."""

from typing import Any


def without(hidden: tuple[str, ...], said: Any) -> Any:
    """Return what was said without these words. Roles are to say `no_log`; one that forgot to must not tell them all."""
    if isinstance(said, dict):
        return {without(hidden, key): without(hidden, inner) for key, inner in said.items()}
    if isinstance(said, list):
        return [without(hidden, inner) for inner in said]
    if isinstance(said, str):
        for word in hidden:
            said = said.replace(word, "********")
    return said


def of_event(hidden: tuple[str, ...], event: dict[str, Any]) -> dict[str, Any]:
    """Return an event of ansible-runner's without these words. What its own parts are called is nobody's secret."""
    data = {key: without(hidden, inner) for key, inner in (event.get("event_data") or {}).items()}
    return {**event, "event_data": data, **({"stdout": without(hidden, event["stdout"])} if "stdout" in event else {})}
