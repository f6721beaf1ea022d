"""A measured figure and its limit."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Figure:
    """`value` in `unit`; at most `limit` is good, None says it is shown for comparison only."""

    name: str
    value: float
    unit: str
    limit: float | None = None

    @property
    def met(self) -> bool:
        """Return whether the limit is kept."""
        return self.limit is None or self.value <= self.limit

    def __str__(self) -> str:
        against = "" if self.limit is None else f"  (limit {self.limit:g} {self.unit}: {'ok' if self.met else 'OVER'})"
        return f"  {self.name:<70} {self.value:10.3f} {self.unit}{against}"

    def as_json(self) -> dict[str, Any]:
        """Return the figure for bench.json."""
        return {"name": self.name, "value": self.value, "unit": self.unit, "limit": self.limit, "met": self.met}


def percentile(values: list[float], share: float) -> float:
    """Return the value that this share of the values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]
