"""Blueprints written, changed and deleted."""

from shim import db
from shim.blueprints import spec
from shim.blueprints.models import Blueprint, Deployment
from shim.blueprints.roles import Roles
from shim.blueprints.schemas import ChangeBlueprint, CreateBlueprint
from shim.db import database, new_id
from shim.errors import Conflict
from shim.tenants.models import DELETED
from shim.tenants.refusals import taken
from shim.tenants.users import Check


def create(request: CreateBlueprint, roles: Roles) -> Blueprint:
    """Write the blueprint. Raises Invalid for a document that breaks a rule, Conflict for a slug that another has."""
    spec.read(request.spec, roles)
    with database.atomic():
        with taken("blueprint"):
            Blueprint.insert(id=new_id(), **request.model_dump()).execute()
        return Blueprint.find(request.slug)


def change(slug: str, request: ChangeBlueprint, roles: Roles, check: Check) -> Blueprint:
    """Write the blueprint anew; what was deployed stays as it is. `check` raises when it is not as the client knows it."""
    spec.read(request.spec, roles)
    with database.atomic():
        blueprint = Blueprint.find(slug, held="FOR UPDATE")
        check(blueprint.updated_at)
        Blueprint.update(updated_at=db.now(), **request.model_dump()).where(Blueprint.id == blueprint.id).execute()
        return Blueprint.find(slug)


def delete(slug: str, check: Check) -> None:
    """Mark the blueprint as deleted and free its slug. Raises Conflict while a deployment of it is there."""
    with database.atomic():
        blueprint = Blueprint.find(slug, held="FOR UPDATE")
        check(blueprint.updated_at)
        alive = Deployment.alive_of(blueprint)
        if alive is not None:
            raise Conflict(f"deployment {alive} of blueprint {slug} is there", code="blueprint_in_use", deploymentId=alive)
        gone = {"slug": f"{slug}{DELETED}{blueprint.id}", "deleted_at": db.now(), "updated_at": db.now()}
        Blueprint.update(gone).where(Blueprint.id == blueprint.id).execute()
