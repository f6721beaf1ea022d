"""What `cloudpods check` tries."""

import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from shim import db, migrations
from shim.config import Settings
from shim.errors import Unavailable
from shim.jobs.queue import Wakeups


def run(settings: Settings) -> Iterator[tuple[bool, str, str]]:
    """Yield (fine, what, what to do if not) for each thing the settings name."""
    try:
        db.connect(settings.database_url, pool_size=1)
        with db.session():
            missing = migrations.pending()
        yield True, "database answers", ""
        yield not missing, "schema is up to date", "run `cloudpods migrate`"
    except Unavailable as error:
        yield False, "database answers", f"{db.first_line(error.__cause__ or error)}; see CLOUDPODS_DATABASE_URL"
    yield Wakeups(settings.redis_url).answers(), "Redis answers", "start it, or correct CLOUDPODS_REDIS_URL"
    yield settings.inventory.exists(), f"inventory {settings.inventory}", "correct CLOUDPODS_INVENTORY"
    playbook = settings.project_dir / "playbooks/cloudpod_create.yml"
    yield (
        playbook.exists(),
        f"playbooks in {settings.project_dir}",
        "set CLOUDPODS_PROJECT_DIR to a checkout of CloudPods",
    )
    beside = Path(sys.executable).with_name("ansible-playbook").exists()
    yield beside or shutil.which("ansible-playbook") is not None, "ansible-playbook", "pip install ansible-core"
