"""What came of a request so far, and whether that is all of it: known before a thread is taken for it.

| what it says of its body | whole when |
|---|---|
| nothing | its head ended |
| `Content-Length` | so many bytes came |
| `Transfer-Encoding: chunked` | the last chunk came |

What is malformed counts as whole: gunicorn's parser, which reads it again, refuses it.
"""

import re

MAX_HEAD = 64 * 1024
# Of bulk orders; the routes' own limits are lower.
MAX_BODY = 1024 * 1024

_END = b"\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*(\d{1,18})[ \t]*\r\n", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding:[^\r\n]*chunked", re.IGNORECASE)
_EXPECTS = re.compile(rb"\r\nexpect:[ \t]*100-continue[ \t]*\r\n", re.IGNORECASE)
_SIZE = re.compile(rb"([0-9A-Fa-f]{1,8})[^\r\n]{0,256}\r\n")
# Of a chunk's first line: its size, and an extension.
_SIZE_MAX = 300


class TooLarge(Exception):
    """More than any route takes. `status` says what of."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class Arriving:
    """The bytes of one request, and of what its client sent behind it."""

    def __init__(self) -> None:
        self.octets = bytearray()
        # Where the body begins, and where the next chunk does.
        self._body: int | None = None
        self._chunk: int | None = None
        self._needed = 0

    def add(self, octets: bytes) -> bool:
        """Take what came; return whether the request is whole. Raises TooLarge."""
        seen = max(0, len(self.octets) - len(_END))
        self.octets += octets
        if self._body is None and not self._head_ended(seen):
            return False
        return self._chunks_ended() if self._chunk is not None else len(self.octets) >= self._needed

    def expects(self) -> bool:
        """Return whether the client waits to be told to send the body."""
        return self._body is not None and bool(_EXPECTS.search(self.octets, 0, self._body))

    def _head_ended(self, seen: int) -> bool:
        at = self.octets.find(_END, seen)
        if (at if at >= 0 else len(self.octets)) > MAX_HEAD:
            raise TooLarge(431)
        if at < 0:
            return False
        self._body = self._needed = at + len(_END)
        if _CHUNKED.search(self.octets, 0, self._body):
            self._chunk = self._body
        elif found := _LENGTH.search(self.octets, 0, self._body):
            self._need(int(found[1]))
        return True

    def _need(self, length: int) -> None:
        if length > MAX_BODY:
            raise TooLarge(413)
        self._needed += length

    def _chunks_ended(self) -> bool:
        """Walk over the chunks that came."""
        assert self._chunk is not None and self._body is not None
        if len(self.octets) - self._body > 2 * MAX_BODY:
            raise TooLarge(413)
        while self._chunk < len(self.octets):
            line = _SIZE.match(self.octets, self._chunk)
            if line is None:
                return self._malformed()
            size = int(line[1], 16)
            if size == 0:
                # Behind the last chunk come trailers, mostly none, and an empty line.
                return self.octets.find(_END, line.end() - 2) >= 0
            self._need(size)
            self._chunk = line.end() + size + 2
        return False

    def _malformed(self) -> bool:
        return len(self.octets) - (self._chunk or 0) > _SIZE_MAX or b"\r\n" in self.octets[self._chunk :]
