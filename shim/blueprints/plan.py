"""What a deployment of a blueprint comes to: its pods in the order in which they are made, its steps, secrets and outputs.

Pure functions of the document, the tenant's slug and what was said with the order.
"""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from shim.blueprints import order
from shim.blueprints.roles import House, Role, Roles, named
from shim.blueprints.spec import Parameter, Resource, Spec, Step, fill, is_hostname, waits
from shim.errors import FieldError, Invalid

# Letters and digits only: a password must pass through SQL, configuration files and shells of others unharmed.
_LETTERS = "abcdefghijkmnopqrstuvwxyzABCDEFGHJKLMNPQRSTUVWXYZ23456789"
_SECRET_LENGTH = 32
# A shorter one would make holes in every word of a log.
SHORTEST_SECRET = 8


@dataclass(frozen=True)
class PlannedPod:
    """A pod that is to be made: the `number`th of its role, when all pods of the roles `after` are there."""

    resource: Resource
    number: int
    hostname: str
    after: tuple[str, ...]

    @property
    def role(self) -> str:
        """Return its role in the stack."""
        return self.resource.role


@dataclass(frozen=True)
class Plan:
    """A deployment that nobody ordered yet. `parameters` holds no secret ones: they are in `secrets`, which nobody is shown."""

    pods: list[PlannedPod]
    steps: list[dict[str, Any]]
    parameters: dict[str, Any]
    secrets: dict[str, str]
    outputs: dict[str, str]


def stack_slug(tenant_slug: str, name: str | None) -> str:
    """Return what stands for `{tenantSlug}` in the names of a tenant's stack, which may have a name of its own.

    Joined by what a slug that is made of a tenant's name never has: `acme-blog` may be another tenant.
    """
    return f"{tenant_slug}--{name}" if name else tenant_slug


def make(spec: Spec, roles: Roles, tenant_slug: str, given: dict[str, Any], house: House) -> Plan:
    """Return what a deployment comes to with these parameters in this house, which tells what it lacks.

    Raises Invalid naming every parameter that breaks a rule.
    """
    said = _parameters(spec, given)
    secret = {name for name, parameter in spec.parameters.items() if parameter.secret}
    shown = {name: value for name, value in said.items() if name not in secret}
    resources = [each for each in spec.resources if each.enabled_by is None or said.get(each.enabled_by) is True]
    pods = _pods(resources, tenant_slug)
    found = _known(spec, roles)
    steps = [_in(house, step, found[step["name"]]) for step in _steps(spec, found, [each.role for each in resources])]
    played = [found[step["name"]] for step in steps if not step.get("left_out")]
    names = {*secret, *(name for role in played for name in role.secrets())}
    kept = {name: str(said.get(name) or _new_secret()) for name in sorted(names)}
    # One that was not said and has no default is nothing.
    values = {**dict.fromkeys(spec.parameters, ""), **shown, "tenantSlug": tenant_slug}
    outputs = {name: fill(template, values) for name, template in spec.outputs.items()}
    return Plan(pods, steps, shown, kept, outputs)


def require_own_names(spec: Spec, parameters: dict[str, Any], zone: str, tenant_slug: str) -> None:
    """Raise Invalid for a parameter that is a host's name in the house's zone and not the tenant's.

    In the zone everything may be called as the tenant is, or something below that; the rest is the house's, and others'.
    """
    own = f"{tenant_slug}.{zone}".lower().rstrip(".")
    wrong: list[FieldError] = [
        {"field": f"/parameters/{name}", "rule": f"in {zone} only {own} and names below it are the tenant's"}
        for name, parameter in spec.parameters.items()
        if parameter.format == "hostname" and _is_anothers(str(parameters.get(name) or ""), zone.lower().rstrip("."), own)
    ]
    if wrong:
        raise Invalid("; ".join(f"{each['field']}: {each['rule']}" for each in wrong), fields=wrong, code="name_not_yours")


def _is_anothers(name: str, zone: str, own: str) -> bool:
    name = name.lower().rstrip(".")
    if not name:
        return False
    # One without a dot is in the zone, as the role takes it.
    whole = name if "." in name else f"{name}.{zone}"
    in_zone = whole == zone or whole.endswith(f".{zone}")
    return in_zone and whole != own and not whole.endswith(f".{own}")


def _parameters(spec: Spec, given: dict[str, Any]) -> dict[str, Any]:
    wrong: list[FieldError] = [
        {"field": f"/parameters/{name}", "rule": f"the blueprint has no such parameter; it has {_listed(spec)}"}
        for name in given
        if name not in spec.parameters
    ]
    for name, parameter in spec.parameters.items():
        rule = _broken(parameter, given.get(name))
        if rule:
            wrong.append({"field": f"/parameters/{name}", "rule": rule})
    if wrong:
        raise Invalid("; ".join(f"{each['field']}: {each['rule']}" for each in wrong[:5]), fields=wrong)
    defaults = {name: each.default for name, each in spec.parameters.items() if each.default is not None}
    return {**defaults, **{name: value for name, value in given.items() if value is not None}}


def _listed(spec: Spec) -> str:
    return ", ".join(spec.parameters) or "none"


def _broken(parameter: Parameter, value: object) -> str | None:
    if value is None:
        lacking = parameter.required and parameter.default is None and not parameter.secret
        return "is required" if lacking else None
    if parameter.secret and isinstance(value, str) and 0 < len(value) < SHORTEST_SECRET:
        return f"must have {SHORTEST_SECRET} characters at least: it is blotted out of whatever a run says"
    return parameter.broken_by(value)


def _pods(resources: list[Resource], tenant_slug: str) -> list[PlannedPod]:
    by_role = {resource.role: resource for resource in resources}
    waiting = {role: [other for other in each.depends_on if other in by_role] for role, each in by_role.items()}
    pods = [
        PlannedPod(by_role[role], number, hostname, tuple(waiting[role]))
        for role in order.in_order(waiting)
        for number, hostname in enumerate(by_role[role].hostnames(tenant_slug))
    ]
    names = [pod.hostname.lower() for pod in pods]
    for pod in pods:
        if not is_hostname(pod.hostname):
            raise Invalid(f"the tenant's slug is too long: {pod.hostname!r} is no DNS name", code="bad_hostname")
        if names.count(pod.hostname.lower()) > 1:
            raise Invalid(f"two pods would both be called {pod.hostname!r}", code="bad_hostname")
    return pods


def _known(spec: Spec, roles: Roles) -> dict[str, Role]:
    """Return the steps' roles. Raises Invalid for one that went since the blueprint was written."""
    found = {step.name: roles(step.name) for step in spec.post_create}
    gone = [name for name, role in found.items() if role is None]
    if gone:
        raise Invalid(f"the blueprint's step {gone[0]} has no role {named(gone[0])} any more", code="unknown_step")
    return {name: role for name, role in found.items() if role is not None}


def _steps(spec: Spec, roles: dict[str, Role], there: list[str]) -> Iterator[dict[str, Any]]:
    """Give the steps in their order, with the pods' roles that each runs on; none of whose pods is there is left out."""
    listed = {step.name: step for step in spec.post_create}
    for name in order.in_order(waits(roles)):
        role, wanted = roles[name], _targets(listed[name], roles[name])
        targets = [target for target in wanted if target in there]
        if wanted and not targets:
            continue
        lacking = [needed for needed in role.requires if needed not in there]
        if lacking:
            raise Invalid(f"{name} needs pods of the role {', '.join(lacking)}, which is not enabled", code="role_not_enabled")
        yield {"name": name, "role": named(name), "targets": targets, "undo": role.undo}


def _in(house: House, step: dict[str, Any], role: Role) -> dict[str, Any]:
    """Return the step with why it is left out, if the house has not what its role needs."""
    lacking = house(role.settings)
    return {**step, "left_out": f"this house has not set {', '.join(lacking)}"} if lacking else step


def _targets(step: Step, role: Role) -> list[str]:
    return list(role.runs_on) if step.targets is None else step.targets


def _new_secret() -> str:
    return "".join(secrets.choice(_LETTERS) for _ in range(_SECRET_LENGTH))
