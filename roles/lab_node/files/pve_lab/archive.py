"""Archives as vzdump writes them: small, but real tar files, plain, gzip or zstd."""

from __future__ import annotations

import io
import os

from .errors import PveError

TYPE_CHECKING = False  # what type checkers know as typing.TYPE_CHECKING
if TYPE_CHECKING:
    import tarfile

# What an archive has of Proxmox's own, before the root tree.
CONF_MEMBER = "./etc/vzdump/pct.conf"
FIREWALL_MEMBER = "./etc/vzdump/pct.fw"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_ZSTD_BLOCK = 128 * 1024
SUFFIX = {"0": ".tar", "gzip": ".tar.gz", "zstd": ".tar.zst"}


def human(size: int) -> str:
    """Return a number of bytes as tar and vzdump print it (20KiB, 8MiB)."""
    for unit, factor in (("GiB", 1 << 30), ("MiB", 1 << 20)):
        if size >= factor:
            return f"{size // factor}{unit}"
    return f"{size // 1024}KiB"


def write(path: str, settings: dict[str, str], root: str, compress: str) -> int:
    """Write an archive of a container's settings and root tree; return the size before compression."""
    import tarfile

    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, text in settings.items():
            member = tarfile.TarInfo(name)
            member.size = len(text.encode())
            tar.addfile(member, io.BytesIO(text.encode()))
        tar.add(root, arcname=".", filter=lambda entry: None if entry.name.split("/")[1:2] == [".zfs"] else entry)
    raw = buffer.getvalue()
    with open(path, "wb") as handle:
        handle.write(_compressed(raw, compress))
    return len(raw)


def read_member(path: str, name: str) -> str:
    """Return the text of one of an archive's settings."""
    with _opened(path) as tar:
        try:
            member = tar.extractfile(name)
        except KeyError:
            member = None
        if member is None:
            raise PveError(f"unable to find container configuration in archive '{path}'")
        return member.read().decode()


def extract(path: str, root: str) -> int:
    """Unpack an archive's root tree into a directory; return the size of the tar."""
    import tarfile

    with _opened(path) as tar:
        entries = [entry for entry in tar.getmembers() if not entry.name.startswith("./etc/vzdump")]
        tar.extractall(root, members=entries, filter="tar")  # the filter keeps members below root
        return -(-tar.offset // tarfile.RECORDSIZE) * tarfile.RECORDSIZE


def _opened(path: str) -> tarfile.TarFile:
    """Return the opened tar of an archive."""
    import tarfile

    with open(path, "rb") as handle:
        data = handle.read()
    try:
        return tarfile.open(fileobj=io.BytesIO(_plain(data)))
    except (tarfile.TarError, OSError, EOFError, IndexError) as error:
        raise PveError(f"archive '{path}' cannot be read: {error}") from None


def _compressed(raw: bytes, compress: str) -> bytes:
    """Return the bytes of the archive file."""
    if compress == "gzip":
        import gzip

        return gzip.compress(raw, 1)
    return _zstd_frame(raw) if compress == "zstd" else raw


def _plain(data: bytes) -> bytes:
    """Return the tar in an archive file's bytes, told by how they begin."""
    if data[:2] == b"\x1f\x8b":
        import gzip

        return gzip.decompress(data)
    return _zstd_content(data) if data[:4] == _ZSTD_MAGIC else data


def _zstd_frame(raw: bytes) -> bytes:
    """Return a valid zstd frame of stored blocks: Python 3.11 has no zstd, and `tar --zstd` reads this as any other."""
    blocks = [raw[start : start + _ZSTD_BLOCK] for start in range(0, len(raw), _ZSTD_BLOCK)] or [b""]
    # 0xA0: a single segment, its size in four bytes, no checksum. A block's header: size, type 0 (stored), last.
    parts = [_ZSTD_MAGIC, b"\xa0", len(raw).to_bytes(4, "little")]
    for number, block in enumerate(blocks):
        last = number == len(blocks) - 1
        parts += [(len(block) << 3 | last).to_bytes(3, "little"), block]
    return b"".join(parts)


def _zstd_content(data: bytes) -> bytes:
    """Return the content of a frame that `_zstd_frame` wrote; the lab cannot read others."""
    parts, position, last = [], 9, False
    while not last:
        header = int.from_bytes(data[position : position + 3], "little")
        last, kind, size = bool(header & 1), header >> 1 & 3, header >> 3
        if data[4] != 0xA0 or kind != 0 or position + 3 + size > len(data):
            raise PveError("the lab node reads only the zstd archives that it has written itself")
        parts.append(data[position + 3 : position + 3 + size])
        position += 3 + size
    return b"".join(parts)


def companions(path: str) -> list[str]:
    """Return the files that belong to an archive: itself, log, notes, protection mark."""
    base = path[: path.index(".tar")] if ".tar" in os.path.basename(path) else path
    return [path, f"{base}.log", f"{path}.notes", f"{path}.protected"]
