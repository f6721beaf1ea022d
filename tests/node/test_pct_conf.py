"""Container files: what is written is read again as it was, whatever a tenant typed."""

from __future__ import annotations

import sys
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "roles/lab_node/files"))
from pve_lab.conf import Conf, Section, decode_text, encode_text

KEYS = st.sampled_from(["arch", "cores", "hostname", "memory", "net0", "net11", "mp3", "rootfs", "tags", "features"])
VALUES = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=30)
# Proxmox drops empty lines at the end of a description and ends it with a newline.
DESCRIPTIONS = st.text(max_size=60).map(lambda text: text.rstrip("\n")).filter(bool).map(lambda text: f"{text}\n")
RAW = st.lists(st.tuples(st.sampled_from(["lxc.apparmor.profile", "lxc.cgroup2.cpu.max"]), VALUES), max_size=2)
NAMES = st.from_regex(r"[a-z][a-z0-9_-]{1,20}", fullmatch=True)


@st.composite
def sections(draw: st.DrawFn) -> Section:
    """Return any section Proxmox could have written."""
    section = Section(draw(st.dictionaries(KEYS, VALUES)))
    if draw(st.booleans()):
        section["description"] = draw(DESCRIPTIONS)
    section.raw = draw(RAW)
    return section


@st.composite
def confs(draw: st.DrawFn) -> Conf:
    """Return any container file, with pending values and snapshots."""
    conf = Conf(draw(sections()))
    conf.pending = Section(draw(st.dictionaries(KEYS, VALUES)))
    conf.snapshots = draw(st.dictionaries(NAMES, sections(), max_size=3))
    return conf


@settings(max_examples=150, deadline=None)
@given(confs())
def test_a_file_is_read_as_it_was_written(conf: Conf) -> None:
    again = Conf.parse(conf.text())
    assert again.main == conf.main
    assert again.pending == conf.pending
    assert again.snapshots == conf.snapshots
    assert again.text() == conf.text()


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_encoded_text_is_one_plain_line(text: str) -> None:
    encoded = encode_text(text)
    assert encoded.isascii()
    assert encoded.isprintable()
    assert ":" not in encoded
    assert decode_text(encoded) == text
