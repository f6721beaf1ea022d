"""What happens to a deployment, told in events of its tenant."""

from typing import Any

from shim.blueprints.models import Deployment
from shim.events.models import CloudPodEvent


def record(deployment: Deployment, type: str, message: str, *, action: str, **data: Any) -> None:
    """Append an event about the deployment inside the transaction that is open."""
    about = {"deploymentId": deployment.id, "status": deployment.status}
    CloudPodEvent.record(type, message, tenant_id=deployment.tenant_id, action=action, **about, **data)
