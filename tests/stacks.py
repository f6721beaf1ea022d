"""Blueprints to deploy without a worker: the master spec's, roles as the product has them, and what a worker would do."""

from __future__ import annotations

import json
from typing import Any

from shim import db
from shim.blueprints import saga
from shim.blueprints.roles import Role
from shim.jobs.catalog import ACTIONS
from shim.jobs.models import CloudPodJob
from shim.worker import outcome
from shim.worker.playbook import Outcome

TENANT = "TENANT-123"

# Section 8.1 of the master spec, unchanged.
SEED: dict[str, Any] = json.loads("""
{
  "version": 1,
  "description": "WordPress + MariaDB + optional Redis",
  "resources": [
    {
      "kind": "CloudPod",
      "role": "app",
      "hostnamePattern": "wp-app-{tenantSlug}",
      "cores": 2,
      "memoryMb": 2048,
      "swapMb": 512
    },
    {
      "kind": "CloudPod",
      "role": "db",
      "hostnamePattern": "wp-db-{tenantSlug}",
      "cores": 1,
      "memoryMb": 1024,
      "swapMb": 512
    }
  ],
  "postCreate": [
    "configure-wordpress",
    "configure-database",
    "create-dns-records"
  ]
}
""")

ROLES = {
    "configure-wordpress": Role(
        runs_on=("app",),
        after=("configure_database",),
        requires=("app", "db"),
        variables={"password": "{{ stack.secrets.database_password }}"},
    ),
    "configure-database": Role(runs_on=("db",), requires=("db",)),
    "create-dns-records": Role(undo=True),
    "name-it": Role(undo=True, settings=("dns.zone", "dns.server"), variables={"key": "{{ stack.secrets.name_key }}"}),
    "one": Role(after=("other",)),
    "other": Role(after=("one",)),
    "on-the-moon": Role(runs_on=("moon",)),
}


class Stacks:
    """Deploys by HTTP, and does to a deployment's jobs what a worker would."""

    def __init__(self, api: Any, sql: Any) -> None:
        self.api, self.sql = api, sql

    def write(self, spec: dict[str, Any], slug: str = "wordpress") -> Any:
        """Write a blueprint."""
        return self.api.send("POST", "/blueprints", {"name": "A stack", "slug": slug, "spec": spec})

    def deploy(self, slug: str = "wordpress", **more: Any) -> dict[str, Any]:
        """Deploy it, which must be taken; return the deployment."""
        answer = self.api.send("POST", f"/blueprints/{slug}/deploy", {"tenantId": TENANT, **more})
        assert answer.status_code == 202, answer.text
        return dict(answer.json["deployment"])

    def get(self, deployment: dict[str, Any]) -> dict[str, Any]:
        """Return the deployment as it is now."""
        answer = self.api.simulate_get(f"/internal/deployments/{deployment['id']}")
        assert answer.status_code == 200, answer.text
        return dict(answer.json)

    def jobs(self, deployment: dict[str, Any], status: str = "queued") -> dict[str, str]:
        """Return its jobs that are queued and wait for nobody, by pod, or by type where there is none."""
        found = self.sql(
            "SELECT coalesce(p.hostname, j.type), j.id FROM cloud_pod_jobs j LEFT JOIN cloud_pods p ON p.id = j.cloud_pod_id"
            " WHERE j.deployment_id = %s AND j.status = %s AND NOT j.waits ORDER BY j.created_at",
            deployment["id"],
            status,
        )
        return dict(found)

    def end(self, job_id: str, ending: Outcome | None = None, *, look: bool = True) -> dict[str, Any]:
        """Run a job to this outcome, a good one of its type without one; then go on as its worker would.

        Returns the playbook's variables.
        """
        held = "status = 'running', attempt = attempt + 1, tries = tries + 1, lease_until = now() + interval '1 hour'"
        ((deployment_id,),) = self.sql(
            f"UPDATE cloud_pod_jobs SET {held} WHERE id = %s AND status = 'queued' AND NOT waits RETURNING deployment_id",
            job_id,
        )
        with db.session():
            job = CloudPodJob.find(job_id)
            given = ACTIONS[job.type].handler.variables(job)
            outcome.write(job, ending or good(job))
            if look and deployment_id is not None:
                saga.advance(deployment_id)
        return given

    def end_all(self, deployment: dict[str, Any], *, rounds: int = 20) -> None:
        """Run all that may run to a good end, until nothing may."""
        for _ in range(rounds):
            jobs = self.jobs(deployment)
            if not jobs:
                return
            for job_id in jobs.values():
                self.end(job_id)
        raise AssertionError("it goes on for ever")

    def look(self) -> None:
        """Do what the scheduler does."""
        with db.session():
            saga.advance_due()


def good(job: CloudPodJob) -> Outcome:
    """Return what a playbook gives when all went well."""
    if job.type == "CREATE":
        ip = f"10.1.10.{50 + job.payload['vmid'] % 190}"
        return Outcome({"ip": ip, "vmid": job.payload["vmid"], "cloudpod": {}, "changed": True}, None)
    if job.type == "BLUEPRINT":
        steps = [{"name": name, "status": "done", "seconds": 1.5} for name in job.payload["steps"]]
        return Outcome({"steps": steps, "outputs": {"url": "https://stack.example.com"}}, None)
    return Outcome({"vmid": job.payload.get("vmid"), "changed": True}, None)


def bad(msg: str = "node lab1: cannot", left: str = "nothing") -> Outcome:
    """Return a failure for good."""
    return Outcome(None, {"msg": msg, "retryable": False, "left_behind": left})
