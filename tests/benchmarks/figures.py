"""A measured figure and its limit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Figure:
    """`value` in `unit`; at most (or `at_least`) `limit` is good, None says it is shown for comparison only."""

    name: str
    value: float
    unit: str
    limit: float | None = None
    at_least: bool = False

    @property
    def met(self) -> bool:
        """Return whether the limit is kept."""
        if self.limit is None:
            return True
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    def __str__(self) -> str:
        word = "at least" if self.at_least else "limit"
        against = "" if self.limit is None else f"  ({word} {self.limit:g} {self.unit}: {'ok' if self.met else 'OVER'})"
        return f"  {self.name:<70} {self.value:10.3f} {self.unit}{against}"

    def as_json(self) -> dict[str, Any]:
        """Return the figure for bench.json."""
        return {"name": self.name, "value": self.value, "unit": self.unit, "limit": self.limit, "met": self.met}


def percentile(values: list[float], share: float) -> float:
    """Return the value that this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
