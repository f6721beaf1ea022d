"""schemathesis, with all its checks and a fixed seed, over every route of the OpenAPI document, on a real database.

The document's free texts that name things are narrowed to things that are there, and some that are not: else every
request would end at the first look-up.
"""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, settings
from schemathesis.config import SchemathesisConfig

from shim import app
from shim.config import DRILL_VMIDS, Settings

TENANT, OTHER_TENANT = "TENANT-123", "TENANT-456"
POD, JOB, BACKUP, USER, PLAN = "pod-of-ours", "job-of-ours", "backup-of-ours", "user-of-ours", "plan-of-ours"
BLUEPRINT, DEPLOYMENT = "blueprint-of-ours", "deployment-of-ours"
NOBODY = "nobody"
SPEC = {
    "version": 1,
    "resources": [{"kind": "CloudPod", "role": "app", "hostnamePattern": "app-{tenantSlug}", "cores": 1, "memoryMb": 256}],
}

# What is there, by the names of path parameters and of requests' fields.
THERE = {
    "reference": ["9101", "9201", POD],
    "node": ["lab1", "lab2"],
    "tenantId": [TENANT, OTHER_TENANT],
    "jobId": [JOB],
    "userId": [USER],
    "planId": [PLAN],
    "backupId": [BACKUP],
    "region": ["migra-us-east-1"],
    "addressPool": ["lab1-pool", "lab2-pool"],
}
OF_PATHS = {
    **THERE,
    "name": ["before"],
    "pool": ["lab1-pool", "lab2-pool"],
    "slug": [BLUEPRINT],
    "deploymentId": [DEPLOYMENT],
}
# These have to be there, or of the node's pool, and are refused by 422 otherwise, which no document can say.
OF_BODIES = {
    **THERE,
    "ownerUserId": [USER],
    "ip": ["10.1.10.60", "10.1.10.61"],
    # The first must not be above the last.
    "firstIp": ["10.1.10.50", "10.1.30.50"],
    "lastIp": ["10.1.30.60"],
    "vmidFirst": [200, 300],
    "vmidAutoFirst": [20000, 30000],
    "vmidLast": [899_999_999],
    # What a document may say is not OpenAPI's to tell, nor which parameters it has.
    "spec": [SPEC],
    "parameters": [{}],
}
# Stories of several requests: test_idempotency.py, test_etag.py, test_listing.py.
LEFT_OUT = ("IdempotencyKey", "IfMatch", "cursor")
EXAMPLES = 12


def _camel(name: str) -> str:
    head, *tail = name.split("_")
    return head + "".join(word.capitalize() for word in tail)


def _narrowed(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document in which what names things names those of the fixture, in paths also nobody."""
    made = copy.deepcopy(document)
    for path, entry in ((path, entry) for path, methods in made["paths"].items() for entry in methods.values()):
        kept = [p for p in entry["parameters"] if p.get("name", p.get("$ref", "").rpartition("/")[2]) not in LEFT_OUT]
        # Which of the actions can be rehearsed, the document does not say.
        kept = [p for p in kept if not (path.endswith("/actions") and p.get("name") == "dryRun")]
        entry["parameters"] = kept
        for parameter in kept:
            if parameter.get("in") == "path" and _camel(parameter["name"]) in OF_PATHS:
                parameter["schema"] = {"type": "string", "enum": [*OF_PATHS[_camel(parameter["name"])], NOBODY]}
    for name, schema in made["components"]["schemas"].items():
        if not name.endswith(("Answer", "Page")):
            _narrow_fields(schema.get("properties", {}), free=("region",) if "Tenant" in name else ())
    _narrow_items(made["components"]["schemas"])
    return made


def _narrow_items(schemas: dict[str, Any]) -> None:
    """Have bulk orders create pods: the document leaves open what an item is, since that depends on its action."""
    pod = schemas["CreatePod"]["properties"]
    fields = {name: pod[name] for name in ("hostname", "cores", "memoryMb")}
    item = {"type": "object", "required": list(fields), "properties": fields, "additionalProperties": False}
    schemas["BulkOrder"]["properties"]["items"].update(items=item)


def _narrow_fields(properties: dict[str, Any], free: tuple[str, ...]) -> None:
    for name in sorted((OF_BODIES.keys() & properties.keys()) - set(free)):
        may_be_null = {"type": "null"} in properties[name].get("anyOf", [])
        properties[name] = {"enum": [*OF_BODIES[name], *([None] if may_be_null else [])]}
    if "vmid" in properties:
        # The settings' range, less the restore drills'.
        numbers = [properties["vmid"], *properties["vmid"].get("anyOf", [])]
        for schema in numbers:
            if schema.get("type") == "integer":
                schema.update(minimum=Settings.model_fields["vmid_first"].default, maximum=DRILL_VMIDS - 1)


CONFIG = SchemathesisConfig.from_dict(
    {
        "seed": 4,
        "generation": {"max-examples": EXAMPLES, "no-shrink": True, "deterministic": True},
    }
)
SCHEMA = schemathesis.openapi.from_dict(_narrowed(app.document()), config=CONFIG)


class _Served:
    """The API of the test that runs, as the schema's WSGI application."""

    now: Any = None

    def __call__(self, environ: Any, start_response: Any) -> Any:
        return self.now(environ, start_response)


SERVED = SCHEMA.app = _Served()


@pytest.fixture
def token(tenants, api_on, rows, sql):
    """Serve the API over things of two tenants; return a token that may do everything."""
    for tenant, vmid in ((TENANT, 9101), (OTHER_TENANT, 9201)):
        pod = rows.pod(**({"id": POD} if tenant == TENANT else {}), vmid=vmid, tenant_id=tenant)
        sql("INSERT INTO cloud_pod_snapshots (cloud_pod_id, name, status) VALUES (%s, 'before', 'ready')", pod)
    rows.backup(POD, id=BACKUP)
    job = rows.job(pod=POD, id=JOB)
    told = "INSERT INTO cloud_pod_events (cloud_pod_id, tenant_id, job_id, type, message) VALUES (%s, %s, %s, 'INFO', 'x')"
    sql(told, POD, TENANT, job)
    sql("INSERT INTO users (id, email) VALUES (%s, 'c@example.com')", USER)
    limits = "max_cloud_pods, max_cpu_cores, max_ram_mb, max_disk_gb"
    sql(f"INSERT INTO plans (id, name, slug, {limits}) VALUES (%s, 'P', 'p', 9, 9, 9999, 99)", PLAN)
    sql("INSERT INTO blueprints (id, name, slug, spec) VALUES (%s, 'B', %s, %s)", BLUEPRINT, BLUEPRINT, json.dumps(SPEC))
    made = "INSERT INTO blueprint_deployments (id, blueprint_id, tenant_id, status, spec) VALUES (%s, %s, %s, 'failed', %s)"
    sql(made, DEPLOYMENT, BLUEPRINT, TENANT, json.dumps(SPEC))
    unlimited = {"rate_create": "100000/minute", "rate_destroy": "100000/minute", "rate_orders": "100000/minute"}
    api = api_on(tenants.model_copy(update={**unlimited, "stream_s": 0.05}))
    SERVED.now = api.app
    return api.token


@SCHEMA.parametrize()
@settings(deadline=None, suppress_health_check=list(HealthCheck))
def test_whatever_is_sent_is_answered_as_the_document_says(case, token):
    # Raises for whatever the document does not say.
    answer = case.call_and_validate(headers={"Authorization": f"Bearer {token}"})
    assert answer.status_code < 500
