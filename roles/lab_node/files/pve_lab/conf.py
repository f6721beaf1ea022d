"""Container files as Proxmox writes them: a main section, `[pve:pending]`, and one section per snapshot."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Mapping

_KEY = re.compile(r"([a-z][a-z_]*\d*):\s*(.*?)\s*$")
_RAW = re.compile(r"(lxc\.[a-z0-9_.-]+)\s*[:=]\s*(.*?)\s*$")
_SECTION = re.compile(r"\[(pve:pending|[a-zA-Z][a-zA-Z0-9_-]+)\]\s*$")
_SAFE = frozenset(range(0x20, 0x7F)) - {ord(":"), ord("%")}


def encode_text(text: str) -> str:
    """Return one line of a description with control, high-bit characters, `:` and `%` percent-encoded."""
    return "".join(chr(byte) if byte in _SAFE else f"%{byte:02X}" for byte in text.encode())


def decode_text(text: str) -> str:
    """Return the description line that `encode_text` was given."""
    raw = re.sub(rb"%([0-9A-Fa-f]{2})", lambda match: bytes([int(match[1], 16)]), text.encode())
    return raw.decode(errors="replace")


class Section(dict[str, str]):
    """The `key: value` pairs of one section; `raw` holds its lxc.* lines in the order of the file."""

    def __init__(self, pairs: Mapping[str, str] | Iterable[tuple[str, str]] = (), **more: str) -> None:
        super().__init__(pairs, **more)
        self.raw: list[tuple[str, str]] = []

    def copy(self) -> Section:
        """Return a section of the same content."""
        twin = Section(self)
        twin.raw = list(self.raw)
        return twin

    def __eq__(self, other: object) -> bool:
        return dict.__eq__(self, other) and self.raw == getattr(other, "raw", [])

    __hash__ = None  # type: ignore[assignment]  # it changes

    def lines(self) -> list[str]:
        """Return the section as lines: description, sorted keys, raw lines."""
        described = [f"#{encode_text(line)}" for line in _description_lines(self.get("description", ""))]
        keys = [f"{key}: {self[key]}" for key in sorted(self) if key != "description"]
        return [*described, *keys, *(f"{key}: {value}" for key, value in self.raw)]


def _description_lines(description: str) -> list[str]:
    """Return a description's lines; only a newline divides, and those at the end are dropped, as perl's split does."""
    return description.rstrip("\n").split("\n") if description.rstrip("\n") else []


class Conf:
    """One container's file."""

    def __init__(self, main: Section | None = None) -> None:
        self.main = main if main is not None else Section()
        self.pending = Section()
        self.snapshots: dict[str, Section] = {}

    @classmethod
    def parse(cls, text: str, vmid: int = 0) -> Conf:
        """Return the configuration in a file's text; lines nobody understands are warned of and dropped."""
        conf = cls()
        section = conf.main
        for line in text.split("\n"):
            if header := _SECTION.match(line):
                section = conf._section(header[1])
            elif not _take(section, line):
                sys.stderr.write(f"vm {vmid} - unable to parse config: {line}\n")
        return conf

    def _section(self, name: str) -> Section:
        """Return the section of that name, made where it is new."""
        return self.pending if name == "pve:pending" else self.snapshots.setdefault(name, Section())

    def text(self) -> str:
        """Return the file's text."""
        blocks = [self.main.lines()]
        if self.pending:
            blocks.append(["[pve:pending]", *self.pending.lines()])
        blocks += [[f"[{name}]", *self.snapshots[name].lines()] for name in sorted(self.snapshots)]
        return "\n".join("".join(f"{line}\n" for line in block) for block in blocks)

    def under(self, lock: str) -> Conf:
        """Return the same configuration with a lock of Proxmox's own in it."""
        twin = Conf(self.main.copy())
        twin.main["lock"] = lock
        twin.pending, twin.snapshots = self.pending, self.snapshots
        return twin

    def pending_deletions(self) -> list[str]:
        """Return the keys that vanish at the next start."""
        return [key for key in self.pending.get("delete", "").split(",") if key]

    def with_pending(self) -> Section:
        """Return the main section as it will be after the next start."""
        merged = self.main.copy()
        for key in self.pending_deletions():
            merged.pop(key, None)
        merged.update((key, value) for key, value in self.pending.items() if key != "delete")
        return merged

    def apply_pending(self) -> bool:
        """Make the pending values current; return whether there were any."""
        if not self.pending:
            return False
        self.main = self.with_pending()
        self.pending = Section()
        return True


def _take(section: Section, line: str) -> bool:
    """Put one line's content into a section; return whether the line was understood."""
    if line.startswith("#"):
        section["description"] = section.get("description", "") + decode_text(line[1:]) + "\n"
    elif raw := _RAW.match(line):
        section.raw.append((raw[1], raw[2]))
    elif pair := _KEY.match(line):
        section[pair[1]] = pair[2]
    else:
        return not line.strip()
    return True
