"""The blueprints that come with the collection, each the document of a file, written where none has its slug."""

import json
from collections.abc import Iterator
from pathlib import Path

from shim.blueprints import roles, spec
from shim.blueprints.models import Blueprint
from shim.config import Settings
from shim.db import database, new_id
from shim.errors import CloudPodsError

_FOLDER = Path("collections/ansible_collections/migra/cloudpods/blueprints")
_NAMES = {"wordpress": "WordPress", "static-site": "Static site", "postgres-db": "PostgreSQL"}


def seed(settings: Settings) -> Iterator[str]:
    """Write the blueprints that are not there; yield a line about each. One that was changed or deleted comes not again."""
    known = roles.of(settings)
    for file in sorted((settings.project_dir / _FOLDER).glob("*.json")):
        slug = file.stem
        try:
            document = json.loads(file.read_text())
            spec.read(document, known)
            said = "made" if _write(slug, document) else "was there"
        except (OSError, ValueError, CloudPodsError) as error:
            # Of a site that took a role away; the others are as good as ever.
            said = f"not made: {error}"
        yield f"blueprint {slug}: {said}"


def _write(slug: str, document: dict[str, object]) -> bool:
    with database.atomic():
        row = {"id": new_id(), "slug": slug, "name": _NAMES.get(slug, slug), "spec": document}
        written = Blueprint.insert(**row, description=document.get("description")).on_conflict_ignore()
        return Blueprint.select().where(Blueprint.slug == slug).count() == 0 and bool(written.execute())
