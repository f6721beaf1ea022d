"""A lab node of its own for every test."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.lab_node import LabNode


@pytest.fixture
def lab(tmp_path: Path) -> LabNode:
    """Return a fresh lab node with Proxmox's commands and core containers, and no pods."""
    node = LabNode(tmp_path / "lab")
    node.init()
    return node
