"""Bytecode beside the sources that are sent to a node: half of what a module costs there is compiling Ansible's part of it."""

import io
import py_compile
import zipfile
from pathlib import Path


def beside_sources(packed: bytes, shown_as: str, folder: Path) -> bytes:
    """Return a zip of Python files with each one's bytecode beside it. What is made on the way is put into `folder`.

    A node whose Python has the same minor version loads that; any other compiles the sources, as ever. Tracebacks show the
    file as if the zip were at the path `shown_as`.
    """
    source, compiled = folder / "source.py", folder / "source.pyc"
    made = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(packed)) as sources, zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as both:
        for entry in sources.infolist():
            text = sources.read(entry)
            both.writestr(entry, text)
            if not entry.filename.endswith(".py"):
                continue
            source.write_bytes(text)
            py_compile.compile(
                str(source),
                str(compiled),
                dfile=f"{shown_as}/{entry.filename}",
                doraise=True,
                # As a node's Python makes it, whatever the worker was started with.
                optimize=0,
                # It comes in one file with its source: there is nothing to check it by.
                invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
            )
            beside = zipfile.ZipInfo(f"{entry.filename}c", entry.date_time)
            both.writestr(beside, compiled.read_bytes(), zipfile.ZIP_DEFLATED)
    return made.getvalue()
