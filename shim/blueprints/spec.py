"""A blueprint's document (the master spec's section 8.1, version 1, and our additions), checked as a whole.

What is wrong is told with a JSON pointer (RFC 6901) into the document: `/spec/resources/1/count`.
"""

import re
from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, StringConstraints, TypeAdapter, ValidationError, model_validator
from pydantic_core import SchemaError

from shim.blueprints import order
from shim.blueprints.roles import Role, Roles, named
from shim.cloudpods.schemas import Cores, DiskGb, Hostname, MemoryMb, SwapMb
from shim.errors import FieldError, Invalid
from shim.web import body
from shim.web.schema import Request

# So many pods a stack may have; it is one transaction that orders them all.
MOST_PODS = 50

RoleName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]
StepName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(-[a-z0-9]+)*$", max_length=64)]
ParameterName = Annotated[str, Field(pattern=r"^[a-z][A-Za-z0-9_]{0,47}$")]
# What a parameter's value may be long.
LONGEST = 1000
Text = Annotated[str, Field(max_length=LONGEST)]

_HOSTNAME: TypeAdapter[str] = TypeAdapter(Hostname)
_PLACEHOLDER = re.compile(r"\{([^{}]*)\}")
_IN_HOSTNAME = ("tenantSlug", "role", "index")
# Stands for whatever tenant: no pattern has it by itself.
_ANY_SLUG = "x0anytenant0x"
_TYPES: dict[str, type] = {"string": str, "integer": int, "boolean": bool}


class Resource(Request):
    """A pod of the stack, or `count` of them. An optional one is there when the parameter `enabledBy` is true."""

    kind: Literal["CloudPod"]
    role: RoleName
    hostname_pattern: Annotated[str, Field(min_length=1, max_length=253)]
    cores: Cores
    memory_mb: MemoryMb
    swap_mb: SwapMb = 512
    disk_gb: DiskGb = 8
    count: Annotated[int, Field(ge=1, le=10)] = 1
    depends_on: Annotated[list[RoleName], Field(max_length=20, default_factory=list)]
    optional: bool = False
    enabled_by: ParameterName | None = None

    def hostnames(self, tenant_slug: str) -> list[str]:
        """Return the names of its pods."""
        said = {"tenantSlug": tenant_slug, "role": self.role}
        return [fill(self.hostname_pattern, {**said, "index": index}) for index in range(self.count)]


class Step(Request):
    """A role that is played when all pods are there, on the pods of these roles or where it says itself."""

    name: StepName
    targets: Annotated[list[RoleName], Field(min_length=1, max_length=20)] | None = None


def _step(given: object) -> object:
    return {"name": given} if isinstance(given, str) else given


class Parameter(Request):
    """What may be said of a stack when it is deployed. A secret one is generated unless it is given, and never shown."""

    type: Literal["string", "integer", "boolean"] = "string"
    default: Any = None
    required: bool = False
    secret: bool = False
    description: Text | None = None
    # A regular expression that a string must match; without looking around or back, so that no string takes long.
    pattern: Text | None = None
    # What a string must be, unless it is empty.
    format: Literal["hostname"] | None = None

    def broken_by(self, value: object) -> str | None:
        """Return the rule that a value breaks: its type, how long one may be, the pattern, the format."""
        if type(value) is not _TYPES[self.type] or (isinstance(value, str | int) and len(str(value)) > LONGEST):
            return f"must be of the type {self.type}, and short"
        if self.pattern is not None and not _matches(self.pattern, str(value)):
            return f"must match {self.pattern}"
        if self.format == "hostname" and value and not is_hostname(str(value)):
            return "must be the name of a host: letters, digits and inner hyphens, labels joined by dots"
        return None

    @model_validator(mode="after")
    def _consistent(self) -> "Parameter":
        if self.type != "string" and (self.pattern is not None or self.format is not None):
            raise ValueError("pattern and format: only for a string")
        if self.pattern is not None:
            _matches(self.pattern, "")
        rule = self.broken_by(self.default) if self.default is not None else None
        if rule:
            raise ValueError(f"default {rule}")
        if self.secret and (self.type != "string" or self.default is not None):
            raise ValueError("secret: only for a string without a default, which everybody could read")
        return self


def _matches(pattern: str, value: str) -> bool:
    """Return whether a value matches, by an engine that takes linear time. Raises ValueError for a pattern that is none."""
    try:
        checked: TypeAdapter[str] = TypeAdapter(Annotated[str, StringConstraints(pattern=pattern)])
    except SchemaError as error:
        raise ValueError(f"pattern: {str(error).splitlines()[-1].strip()}") from None
    try:
        checked.validate_python(value)
    except ValidationError:
        return False
    return True


class HealthCheck(Request):
    """Where the stack answers when it is well."""

    path: Annotated[str, Field(pattern=r"^/[\x21-\x7e]*$", max_length=500)] = "/"
    role: RoleName
    port: Annotated[int, Field(ge=1, le=65535)] = 443


class Spec(Request):
    """The document."""

    version: Literal[1]
    description: Text | None = None
    resources: Annotated[list[Resource], Field(min_length=1, max_length=20)]
    post_create: Annotated[list[Annotated[Step, BeforeValidator(_step)]], Field(max_length=20, default_factory=list)]
    parameters: Annotated[dict[ParameterName, Parameter], Field(max_length=50, default_factory=dict)]
    health_check: HealthCheck | None = None
    outputs: Annotated[dict[ParameterName, Text], Field(max_length=50, default_factory=dict)]


def fill(pattern: str, values: dict[str, Any]) -> str:
    """Return a pattern with its placeholders replaced."""
    return _PLACEHOLDER.sub(lambda found: str(values[found[1]]), pattern)


def read(document: dict[str, Any], roles: Roles) -> Spec:
    """Return the document, checked. Raises Invalid naming every place that breaks a rule."""
    try:
        spec = Spec.model_validate(document)
    except ValidationError as error:
        raise _invalid([_place(dict(each), document) for each in error.errors(include_url=False)]) from None
    wrong = [*_of_resources(spec), *_of_parameters(spec), *_of_steps(spec, roles)]
    if wrong:
        raise _invalid(wrong)
    return spec


def at(*parts: object) -> str:
    """Return the JSON pointer of a place in the request."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in ("spec", *parts))


def _invalid(wrong: list[FieldError]) -> Invalid:
    return Invalid("; ".join(f"{each['field']}: {each['rule']}" for each in wrong[:5]), fields=wrong, code="invalid_blueprint")


def _place(error: dict[str, Any], document: Any) -> FieldError:
    """Return an error of pydantic's with the place in the document, which a step's short form, for one, is not as deep as."""
    path: list[object] = []
    for part in error["loc"]:
        if part == "[key]" or not isinstance(document, dict | list):
            break
        path.append(part)
        document = document[part] if not isinstance(document, dict) or part in document else None
    return {"field": at(*path), "rule": body.rule(error)}


def _of_resources(spec: Spec) -> Iterator[FieldError]:
    known = [resource.role for resource in spec.resources]
    for index, resource in enumerate(spec.resources):
        if known.index(resource.role) < index:
            yield _wrong("another resource has this role; say `count` for several pods of one", "resources", index, "role")
        for place, role in enumerate(resource.depends_on):
            if role not in known:
                yield _unknown_role(role, known, "resources", index, "dependsOn", place)
        yield from _of_option(spec, resource, index)
    circle = order.circle({resource.role: resource.depends_on for resource in spec.resources})
    if circle:
        yield _wrong(f"they wait for each other: {' → '.join(circle)}", "resources", known.index(circle[0]), "dependsOn")
    if sum(resource.count for resource in spec.resources) > MOST_PODS:
        yield _wrong(f"may be {MOST_PODS} pods at most", "resources")
    yield from _of_hostnames(spec)


def _of_option(spec: Spec, resource: Resource, index: int) -> Iterator[FieldError]:
    if resource.optional != (resource.enabled_by is not None):
        yield _wrong("optional and enabledBy belong together: a pod is optional by a parameter", "resources", index)
    elif resource.enabled_by is not None:
        parameter = spec.parameters.get(resource.enabled_by)
        if parameter is None or parameter.type != "boolean":
            yield _wrong("must name a parameter of the type boolean", "resources", index, "enabledBy")


def _of_hostnames(spec: Spec) -> Iterator[FieldError]:
    taken: Counter[str] = Counter()
    for index, resource in enumerate(spec.resources):
        place = ("resources", index, "hostnamePattern")
        wrong = _wrong_placeholder(resource.hostname_pattern, _IN_HOSTNAME)
        if wrong:
            yield _wrong(wrong, *place)
            continue
        names = resource.hostnames(_ANY_SLUG)
        if not is_hostname(names[0]):
            yield _wrong("gives no DNS name: letters, digits and inner hyphens, labels joined by dots", *place)
        for name in names:
            taken[name.lower()] += 1
        if len(set(names)) < len(names):
            yield _wrong("gives several pods the same name: say {index} in it", *place)
        elif any(taken[name.lower()] > 1 for name in names):
            yield _wrong("gives a pod the same name as another resource does", *place)


def is_hostname(name: str) -> bool:
    """Return whether a container may have this name."""
    try:
        return bool(_HOSTNAME.validate_python(name))
    except ValidationError:
        return False


def _of_parameters(spec: Spec) -> Iterator[FieldError]:
    secret = {name for name, parameter in spec.parameters.items() if parameter.secret}
    may = ("tenantSlug", *(name for name in spec.parameters if name not in secret))
    for name, template in spec.outputs.items():
        wrong = _wrong_placeholder(template, may)
        if wrong:
            yield _wrong(wrong, "outputs", name)
    roles = [resource.role for resource in spec.resources]
    if spec.health_check is not None and spec.health_check.role not in roles:
        yield _unknown_role(spec.health_check.role, roles, "healthCheck", "role")


def _of_steps(spec: Spec, roles: Roles) -> Iterator[FieldError]:
    found: dict[str, Role] = {}
    for index, step in enumerate(spec.post_create):
        place: tuple[object, ...] = ("postCreate", index)
        role = roles(step.name)
        if step.name in found:
            yield _wrong("is listed already", *place)
        elif role is None:
            yield _wrong(f"there is no role {named(step.name)} that says in meta/blueprint.yml how it is used", *place)
        else:
            found[step.name] = role
            yield from _of_step(step, role, spec, index)
    circle = order.circle(waits(found))
    if circle:
        # By the roles' own word; who wrote the document cannot mend it but by leaving one out.
        yield _wrong(f"their roles come after each other: {' → '.join(circle)}", "postCreate")


def _of_step(step: Step, role: Role, spec: Spec, index: int) -> Iterator[FieldError]:
    known = [resource.role for resource in spec.resources]
    for place, target in enumerate(step.targets or ()):
        if target not in known:
            yield _unknown_role(target, known, "postCreate", index, "targets", place)
    lacking = [needed for needed in role.requires if needed not in known]
    if lacking:
        yield _wrong(f"{step.name} needs pods of the role {', '.join(lacking)}", "postCreate", index)
    elif step.targets is None and role.runs_on and not set(role.runs_on) & set(known):
        yield _wrong(f"{step.name} runs on {', '.join(role.runs_on)}: name its `targets`", "postCreate", index)


def waits(roles: dict[str, Role]) -> dict[str, list[str]]:
    """Given the roles of steps by name, return after which of the steps each comes."""
    by_role = {named(step): step for step in roles}
    return {step: [by_role[other] for other in role.after if other in by_role] for step, role in roles.items()}


def _wrong_placeholder(pattern: str, known: tuple[str, ...]) -> str | None:
    unknown = [name for name in _PLACEHOLDER.findall(pattern) if name not in known]
    if unknown:
        return f"unknown placeholder {{{unknown[0]}}}; known are {', '.join(f'{{{name}}}' for name in known)}"
    if "{" in _PLACEHOLDER.sub("", pattern) or "}" in _PLACEHOLDER.sub("", pattern):
        return "has a brace that belongs to no placeholder"
    return None


def _unknown_role(role: str, known: list[str], *place: object) -> FieldError:
    return _wrong(f"there is no resource of the role {role}; there are {', '.join(known)}", *place)


def _wrong(rule: str, *place: object) -> FieldError:
    return {"field": at(*place), "rule": rule}
