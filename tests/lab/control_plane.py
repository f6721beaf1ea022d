"""The control plane over the node with real containers."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.lab.real_node import INVENTORY, NODE, REPOSITORY, RealNode
from tests.stack import Stack


@contextmanager
def control_plane(lab: RealNode, **settings: str) -> Iterator[Stack]:
    """Run a stack, with these settings in its environment; whatever it started must end with it."""
    home = Path(tempfile.mkdtemp(prefix="cloudpods-stack-"))
    home.chmod(0o711)
    network = str(lab.host()["gateway"]).rpartition(".")[0]
    running = Stack(home, inventory=str(INVENTORY.relative_to(REPOSITORY)), node=NODE, lab=lab.dir)
    running.environment |= settings
    try:
        running.start(workers=4)
        running.seed("--pool", f"{network}.50-{network}.249", "--gateway", f"{network}.1", "--max-jobs", "8")
        yield running
        assert running.stop() == []
    finally:
        running.stop()
        shutil.rmtree(home, ignore_errors=True)
