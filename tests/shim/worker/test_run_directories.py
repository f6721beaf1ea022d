"""What runs leave on their host when they are killed."""

import os
import time

from shim.worker.run import KEEP_S, remove_old


def test_old_run_directories_are_removed_and_young_ones_kept(settings):
    runs = settings.state_dir / "runs"
    for name, age_s in (("old", KEEP_S + 60), ("young", 60)):
        (runs / name / "env").mkdir(parents=True)
        os.utime(runs / name, (time.time() - age_s,) * 2)
    remove_old(settings.state_dir)
    assert [path.name for path in runs.iterdir()] == ["young"]


def test_no_run_directories_yet_is_no_fault(settings):
    remove_old(settings.state_dir)
    assert not (settings.state_dir / "runs").exists()
