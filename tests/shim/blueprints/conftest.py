"""Blueprints to test with, and a way to deploy them."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from shim.blueprints.roles import Role
from shim.config import Settings
from tests.stacks import ROLES, SEED, Stacks


@pytest.fixture
def seed() -> dict[str, Any]:
    """Return the master spec's document, which the test may change."""
    return copy.deepcopy(SEED)


@pytest.fixture
def roles() -> Callable[[str], Role | None]:
    """Return a way to find the roles of this folder's tests."""
    return ROLES.get


@pytest.fixture
def with_roles(tenants: Settings, tmp_path: Path) -> Settings:
    """Return settings whose project has no roles, and whose `roles_dir` has these."""
    for step, role in ROLES.items():
        meta = tmp_path / "roles" / step.replace("-", "_") / "meta"
        meta.mkdir(parents=True)
        (meta / "blueprint.yml").write_text(json.dumps(role.model_dump(mode="json")))
    return tenants.model_copy(update={"roles_dir": tmp_path / "roles", "project_dir": tmp_path})


@pytest.fixture
def in_house(tenants: Settings, api_on: Any, sql: Any) -> Callable[..., Stacks]:
    """Return a way to deploy with the product's own roles, in a house with these settings."""
    return lambda **said: Stacks(api_on(tenants.model_copy(update=said)), sql)


@pytest.fixture
def stacks(with_roles: Settings, api_on: Any, sql: Any) -> Stacks:
    """Return a way to deploy."""
    return Stacks(api_on(with_roles), sql)
