"""The OpenAPI 3.1 document: the route table, what each responder declares, and the models that check requests.

Every path is listed once, under `/internal`; `/api` leads to the same resources.
"""

import re
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from typing import Any

from falcon import MEDIA_JSON
from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from shim.web import operation
from shim.web.operation import Operation
from shim.web.problem_schema import PROBLEM_TYPE, ProblemAnswer, statuses

METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE")
LISTED, ALIAS = "/internal/", "/api/"

_REF = "#/components/schemas/{model}"
_PARAMETER = re.compile(r"{(\w+)}")
_IDS = r"^[A-Za-z0-9][A-Za-z0-9._:-]{0,127}$"
# What a path's parts are, where the name does not say it.
_PATHS = {"reference": "A vmid (digits) or the id of a pod.", "node": "The node's name in the inventory."}
_DESCRIPTION = """Proxmox nodes as a small cloud. Orders are answered at once with a job, which is followed by its id or events.

Every path that begins with `/internal/` is there under `/api/` too. Every error is `application/problem+json` (RFC 9457) with a
`code` that never changes. Lists are paged by `limit` and `cursor`, whose value is the `next` of the page before."""
_HEADERS: dict[str, dict[str, Any]] = {
    "ActingUser": {
        "name": "X-Acting-User",
        "description": "The panel's user in whose name a service asks; recorded with what it orders.",
        "schema": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._:@+-]{0,127}$"},
    },
    "IdempotencyKey": {
        "name": "Idempotency-Key",
        "description": "The same request sent again with the same key is done once, and gets the same answer for 24 hours.",
        "schema": {"type": "string", "pattern": "^[!-~]{1,255}$"},
    },
    "IfMatch": {
        "name": "If-Match",
        "description": "The ETag of what was read: refused with 412 when it was changed since.",
        "schema": {"type": "string", "pattern": r'^(\*|"[!#-~]*")$'},
    },
}


class _Names(GenerateJsonSchema):
    """Pydantic's schemas, in which a page of backups is called `BackupPage`."""

    def normalize_name(self, name: str) -> str:
        """Return a component's name."""
        return super().normalize_name(re.sub(r"^PageAnswer\[(\w+?)(Answer)?\]$", r"\1Page", name))


def build(routes: Mapping[str, object]) -> dict[str, Any]:
    """Given the route table, return the document. Raises KeyError for a route that declares nothing."""
    listed = list(_operations(routes))
    types = {id(kind): kind for _, _, declared in listed for kind in (declared.body, declared.answer) if kind is not None}
    schemas, components = _schemas({**types, id(ProblemAnswer): ProblemAnswer}, listed)
    paths: dict[str, dict[str, Any]] = {}
    for path, method, declared in listed:
        paths.setdefault(path, {})[method.lower()] = _entry(path, method, declared, schemas)
    return {
        "openapi": "3.1.0",
        "info": {"title": "CloudPods", "version": version("migra-cloudpods"), "description": _DESCRIPTION},
        "servers": [{"url": "/"}],
        "security": [{"token": []}],
        "paths": paths,
        "components": {
            "schemas": components,
            "parameters": {name: {**header, "in": "header", "required": False} for name, header in _HEADERS.items()},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operations(routes: Mapping[str, object]) -> Iterator[tuple[str, str, Operation]]:
    for path, resource in routes.items():
        for method in METHODS:
            if path.startswith(ALIAS) or not hasattr(resource, f"on_{method.lower()}"):
                continue
            declared = operation.of(resource, method)
            if declared is None:
                raise KeyError(f"{method} {path} declares nothing")
            yield path, method, declared


def _schemas(types: dict[int, Any], listed: list[tuple[str, str, Operation]]) -> tuple[dict[int, Any], dict[str, Any]]:
    """Return the schema of each type, by the type's identity, and the components that they refer to."""
    bodies = {id(declared.body) for _, _, declared in listed}
    inputs: Any = [(key, "validation" if key in bodies else "serialization", TypeAdapter(kind)) for key, kind in types.items()]
    made, definitions = TypeAdapter.json_schemas(inputs, ref_template=_REF, schema_generator=_Names)
    return {key: schema for (key, _), schema in made.items()}, definitions.get("$defs", {})


def _entry(path: str, method: str, declared: Operation, schemas: dict[int, Any]) -> dict[str, Any]:
    words = [word for word in re.split(r"[^A-Za-z0-9]+", path.removeprefix(LISTED)) if word]
    entry: dict[str, Any] = {
        "operationId": method.lower() + "".join(word[0].upper() + word[1:] for word in words),
        "summary": declared.summary,
        "tags": [words[0] if words and path.startswith(LISTED) else "service"],
        "parameters": _parameters(path, method, declared),
        "responses": _responses(method, declared, schemas),
    }
    if declared.body is not None:
        fields = getattr(declared.body, "model_fields", None)
        needed = fields is None or any(field.is_required() for field in fields.values())
        entry["requestBody"] = {"required": needed, "content": {MEDIA_JSON: {"schema": schemas[id(declared.body)]}}}
    if declared.public:
        entry["security"] = []
    return entry


def _parameters(path: str, method: str, declared: Operation) -> list[dict[str, Any]]:
    named = [{"name": name, "in": "path", "required": True, **_part(name)} for name in _PARAMETER.findall(path)]
    return [*named, *_query(declared), *({"$ref": f"#/components/parameters/{name}"} for name in _headers(method, declared))]


def _part(name: str) -> dict[str, Any]:
    return {"description": _PATHS.get(name, "An id or name."), "schema": {"type": "string", "pattern": _IDS}}


def _headers(method: str, declared: Operation) -> Iterator[str]:
    if declared.public:
        return
    yield "ActingUser"
    if method == "POST":
        yield "IdempotencyKey"
    elif declared.etag and method != "GET":
        yield "IfMatch"


def _query(declared: Operation) -> Iterator[dict[str, Any]]:
    schema = TypeAdapter(declared.query).json_schema() if declared.query else {}
    for name, given in schema.get("properties", {}).items():
        kind = {key: value for key, value in given.items() if key not in ("title", "description") and value is not None}
        # A parameter that is left out is not null.
        kinds = [one for one in kind.pop("anyOf", []) if one != {"type": "null"}]
        if kind.get("default") not in kind.get("enum", [kind.get("default")]):
            # What a flag is when it is left out is no text.
            del kind["default"]
        yield {
            "name": name,
            "in": "query",
            "required": name in schema.get("required", ()),
            "description": given.get("description", ""),
            "schema": {**kind, **(kinds[0] if kinds else {})},
        }


def _responses(method: str, declared: Operation, schemas: dict[int, Any]) -> dict[str, Any]:
    good: dict[str, Any] = {"description": declared.summary}
    if declared.answer is not None:
        good["content"] = {declared.media_type: {"schema": schemas[id(declared.answer)]}}
    for kind, given in (("text/event-stream", declared.streams), ("text/plain", declared.text)):
        if given:
            good.setdefault("content", {})[kind] = {"schema": {"type": "string"}}
    if declared.etag and declared.status != 204:
        good["headers"] = {"ETag": {"schema": {"type": "string"}}}
    problem = {"content": {PROBLEM_TYPE: {"schema": schemas[id(ProblemAnswer)]}}}
    refused = {str(status): {"description": title, **problem} for status, title in statuses(method, declared).items()}
    return {**refused, **{str(status): good for status in (declared.status, *declared.statuses)}}
