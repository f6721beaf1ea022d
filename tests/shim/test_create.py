"""POST /internal/cloudpods: what is taken and what is refused."""

import pytest

BODY = {"tenantId": "TENANT-123", "hostname": "client-portal", "cores": 2, "memoryMb": 2048}


@pytest.mark.parametrize("prefix", ["/internal", "/api"])
def test_create_is_accepted(api, prefix):
    answer = api.simulate_post(f"{prefix}/cloudpods", json={**BODY, "vmid": 9101})
    assert answer.status_code == 202
    assert answer.headers["location"] == f"{prefix}/jobs/{answer.json['job']['id']}"
    assert answer.json["job"]["type"] == "CREATE"
    assert answer.json["job"]["status"] == "queued"
    assert answer.json["cloudPod"]["vmid"] == 9101
    assert answer.json["cloudPod"]["status"] == "provisioning"
