"""Snapshots of pods, each a row keyed by its pod."""

from pathlib import Path
from typing import Any


def up(migrator: Any, db: Any) -> None:
    """Run the SQL file of the same name, which `cloudpods migrate --sql` prints as it is."""
    # The driver reads a percent sign as a placeholder; psql does not.
    db.execute_sql(Path(__file__).with_suffix(".sql").read_text().replace("%", "%%"))
