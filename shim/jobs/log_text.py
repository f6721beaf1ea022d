"""What a run prints, on its way to the table: made fit to be shown, cut into pieces, and never more than fits.

| where | at most |
|---|---|
| a piece (a row, an event of a stream) | 8,000 characters, at the end of a line if there is one |
| a job's log | 1,000,000 characters from its beginning, and the last 32,000 of a run that printed more |

What was left out is said where it would have stood. What waits for a database that is away is bounded by the same.
"""

import re
import threading
from collections import deque

from shim.db import storable

PIECE = 8_000
MOST = 1_000_000
TAIL = 32_000

# Colours, moves of the cursor, titles of windows: what a terminal would take for orders.
_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|[\]PX^_][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])")
_LINE_ENDS = re.compile(r"\r\n?")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def shown(text: str) -> str:
    """Return what a program printed as it may be stored and shown on any terminal: text, tabs and line ends."""
    plain = _LINE_ENDS.sub("\n", _ESCAPES.sub("", text))
    # PostgreSQL takes no half surrogate pair.
    return str(storable(_CONTROL.sub("\ufffd", plain)))


def pieces(text: str) -> list[str]:
    """Return the text cut into pieces."""
    cut = []
    while text:
        end = text.rfind("\n", 0, PIECE) + 1 if len(text) > PIECE else len(text)
        end = end or PIECE
        cut.append(text[:end])
        text = text[end:]
    return cut


class Printed:
    """What one attempt printed and is not written yet. One thread adds to it, another one takes from it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._room = MOST
        self._tail_room = TAIL
        self._waiting: list[str] = []
        self._tail: deque[str] = deque()
        self._tail_size = 0
        self._left_out = 0

    def charge(self, size: int) -> None:
        """Take account of what is in the job's log already, by earlier attempts."""
        with self._lock:
            self._room -= size
            self._tail_room = max(0, min(TAIL, self._room + MOST))

    def add(self, text: str) -> None:
        """Add what was printed. Beyond what fits only the last is kept, until `end`."""
        fit = shown(text)
        with self._lock:
            head, rest = fit[: max(0, self._room)], fit[max(0, self._room) :]
            self._room -= len(head)
            self._waiting += [head] if head else []
            if rest:
                self._keep_last(rest)

    def end(self) -> None:
        """Let the last of a run's output follow what was cut."""
        with self._lock:
            self._waiting += [f"\n[… {self._left_out} characters are left out here …]\n"] if self._left_out else []
            self._waiting += self._tail
            self._tail_room -= self._tail_size
            self._tail.clear()
            self._tail_size = self._left_out = 0

    def take(self) -> list[str]:
        """Return what waits, in pieces; it is the caller's from now on."""
        with self._lock:
            text = "".join(self._waiting)
            self._waiting.clear()
        return pieces(text)

    def waits(self) -> bool:
        """Return whether there is something to take."""
        return bool(self._waiting)

    def _keep_last(self, text: str) -> None:
        if not self._tail_room:
            # It was said before.
            return
        if not self._left_out and not self._tail:
            self._waiting.append("\n[… the log of this job is full; of what is printed from here on the last will follow …]\n")
        self._tail.append(text)
        self._tail_size += len(text)
        while self._tail_size > self._tail_room:
            over = self._tail_size - self._tail_room
            first = self._tail.popleft()
            if len(first) > over:
                self._tail.appendleft(first[over:])
            gone = min(over, len(first))
            self._tail_size -= gone
            self._left_out += gone
