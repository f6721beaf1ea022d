"""How much: the four things that a quota counts."""

from collections.abc import Callable
from dataclasses import asdict, dataclass

# As clients read them.
NAMES = {"pods": "pods", "cores": "cores", "ram_mb": "ramMb", "disk_gb": "diskGb"}


@dataclass(frozen=True)
class Amount:
    """Pods, cores, memory and disk: a size, or the difference of two."""

    pods: int = 0
    cores: int = 0
    ram_mb: int = 0
    disk_gb: int = 0

    @classmethod
    def of_pod(cls, cores: int, memory_mb: int, disk_gb: int) -> "Amount":
        """Return what one pod of this size takes."""
        return cls(1, cores, memory_mb, disk_gb)

    def __add__(self, other: "Amount") -> "Amount":
        """Return the sum, thing by thing."""
        return self._with(other, int.__add__)

    def __sub__(self, other: "Amount") -> "Amount":
        """Return the difference, thing by thing."""
        return self._with(other, int.__sub__)

    def or_more(self, other: "Amount") -> "Amount":
        """Return the larger of both, thing by thing."""
        return self._with(other, max)

    def __bool__(self) -> bool:
        """Return whether it is anything at all."""
        return any(self.values())

    def values(self) -> tuple[int, int, int, int]:
        """Return the four, in the order of the tables' columns."""
        return self.pods, self.cores, self.ram_mb, self.disk_gb

    def as_json(self) -> dict[str, int]:
        """Return it as clients see it."""
        return {NAMES[name]: value for name, value in asdict(self).items()}

    def __str__(self) -> str:
        """Return it as a person reads it."""
        return f"{self.pods} pods, {self.cores} cores, {self.ram_mb} MB of memory, {self.disk_gb} GB of disk"

    def _with(self, other: "Amount", combine: Callable[[int, int], int]) -> "Amount":
        return Amount(*(combine(mine, theirs) for mine, theirs in zip(self.values(), other.values(), strict=True)))


NONE = Amount()
