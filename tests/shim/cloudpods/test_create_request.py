"""POST /cloudpods: what is taken, what is refused, and that a refusal leaves nothing behind."""

import json

import pytest

BODY = {"tenantId": "TENANT-123", "hostname": "client-portal", "cores": 2, "memoryMb": 2048}
NOTHING = {"cloud_pods": 0, "cloud_pod_jobs": 0, "cloud_pod_events": 0, "cloud_pod_allocations": 0}

# As the master spec's section 5.1 has it.
SPEC_BODY = {**BODY, "vmid": 9101, "planId": "cloud-basic", "region": "migra-us-east-1", "swapMb": 512, "autoIp": True}


def without(field):
    return {name: value for name, value in BODY.items() if name != field}


def post(api, body, prefix="/internal"):
    # The standard library's json, because it writes what a client may send though it should not: NaN, half a surrogate pair.
    headers = {"Content-Type": "application/json"}
    return api.simulate_post(f"{prefix}/cloudpods", body=json.dumps(body), headers=headers)


@pytest.mark.parametrize("prefix", ["/internal", "/api"])
def test_the_specs_own_request_is_accepted(api, sql, prefix):
    answer = post(api, SPEC_BODY, prefix)
    assert answer.status_code == 202
    job, pod = answer.json["job"], answer.json["cloudPod"]
    assert answer.headers["location"] == f"{prefix}/jobs/{job['id']}"
    assert (job["type"], job["status"], job["cloudPodId"]) == ("CREATE", "queued", pod["id"])
    assert (pod["vmid"], pod["status"], pod["ip"], pod["swapMb"]) == (9101, "provisioning", "", 512)
    assert sql.counts() == dict.fromkeys(NOTHING, 1)


def test_the_jobs_payload_is_the_request_with_its_choices_made(api):
    payload = post(api, {**BODY, "requestedBy": "user-1"}).json["job"]["payload"]
    assert payload == {
        **BODY,
        "vmid": 10000,
        "swapMb": 512,
        "diskGb": 8,
        "region": "migra-us-east-1",
        "autoIp": True,
        "autoVmid": True,
        "requestedBy": "user-1",
    }


def test_the_pod_keeps_what_was_sold_on_that_day(api):
    snapshot = post(api, BODY).json["cloudPod"]["planSnapshot"]
    assert (snapshot["id"], snapshot["backupPolicy"], snapshot["maxCloudPods"]) == ("cloud-basic", "basic", 500)


def test_a_job_of_an_accepted_pod_is_announced_on_the_queue_of_its_type(api, settings):
    import redis

    post(api, BODY)
    assert redis.Redis.from_url(settings.redis_url).llen("rq:queue:cloudpods:create") == 1


def test_vmids_that_nobody_named_count_up_and_are_not_used_again(api, sql):
    assert [post(api, BODY).json["cloudPod"]["vmid"] for _ in range(3)] == [10000, 10001, 10002]
    sql("UPDATE cloud_pods SET status = 'deleted' WHERE vmid = 10002")
    assert post(api, BODY).json["cloudPod"]["vmid"] == 10003


def test_an_ip_of_the_nodes_pool_is_taken_as_given(api):
    answer = post(api, {**BODY, "ip": "10.1.10.91", "node": "lab1"})
    assert answer.json["cloudPod"]["ip"] == "10.1.10.91"
    assert answer.json["job"]["payload"]["autoIp"] is False


def test_the_node_asked_for_is_the_node_taken(api):
    assert [post(api, {**BODY, "node": name}).json["cloudPod"]["node"] for name in ("lab2", "lab1")] == ["lab2", "lab1"]


@pytest.mark.parametrize(
    "hostname",
    ["a", "9", "a-b", "www.example.com", "A" * 63, ".".join(["a" * 63] * 3) + "." + "b" * 61, "xn--bcher-kva.example"],
)
def test_every_dns_name_is_a_hostname(api, hostname):
    assert post(api, {**BODY, "hostname": hostname}).status_code == 202


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("cores", 1),
        ("cores", 128),
        ("memoryMb", 16),
        ("memoryMb", 1048576),
        ("swapMb", 0),
        ("diskGb", 1),
        ("vmid", 1000),
        ("vmid", 899999999),
        ("autoIp", True),
        ("autoIp", None),
        ("ip", None),
        ("vmid", None),
    ],
)
def test_the_edges_of_each_range_are_inside(api, field, value):
    assert post(api, {**BODY, field: value}).status_code == 202


NAME_RULE = "1 to 64 letters"
DNS_RULE = "must be a DNS name"
REFUSED = [
    # missing
    (without("tenantId"), 422, "invalid_request", "tenantId", "required"),
    (without("hostname"), 422, "invalid_request", "hostname", "required"),
    (without("cores"), 422, "invalid_request", "cores", "required"),
    (without("memoryMb"), 422, "invalid_request", "memoryMb", "required"),
    ({}, 422, "invalid_request", "tenantId", "required"),
    # unknown: misspelt, inside names, and what looks like a way round the rules
    ({**BODY, "memory": 1}, 422, "invalid_request", "memory", "unknown field"),
    ({**BODY, "memory_mb": 2048}, 422, "invalid_request", "memory_mb", "unknown field"),
    ({**BODY, "status": "active"}, 422, "invalid_request", "status", "unknown field"),
    ({**BODY, "": 1}, 422, "invalid_request", "", "unknown field"),
    ({**BODY, "\ud800": 1}, 422, "invalid_request", None, ""),
    # wrong types: nothing is converted
    ({**BODY, "cores": "2"}, 422, "invalid_request", "cores", "integer"),
    ({**BODY, "cores": 2.5}, 422, "invalid_request", "cores", "integer"),
    ({**BODY, "cores": True}, 422, "invalid_request", "cores", "integer"),
    ({**BODY, "cores": None}, 422, "invalid_request", "cores", "integer"),
    ({**BODY, "cores": [2]}, 422, "invalid_request", "cores", "integer"),
    ({**BODY, "cores": float("nan")}, 422, "invalid_request", "cores", "integer"),
    ({**BODY, "memoryMb": float("inf")}, 422, "invalid_request", "memoryMb", "integer"),
    ({**BODY, "vmid": "9101"}, 422, "invalid_request", "vmid", "integer"),
    ({**BODY, "hostname": 5}, 422, "invalid_request", "hostname", "string"),
    ({**BODY, "hostname": None}, 422, "invalid_request", "hostname", "string"),
    ({**BODY, "hostname": {"a": 1}}, 422, "invalid_request", "hostname", "string"),
    ({**BODY, "autoIp": "yes"}, 422, "invalid_request", "autoIp", "boolean"),
    ({**BODY, "autoIp": 1}, 422, "invalid_request", "autoIp", "boolean"),
    ({**BODY, "ip": 168430090}, 422, "invalid_request", "ip", "string"),
    # out of range
    ({**BODY, "vmid": 99}, 422, "invalid_request", "vmid", "greater than or equal to 100"),
    ({**BODY, "vmid": 0}, 422, "invalid_request", "vmid", "greater than or equal to 100"),
    ({**BODY, "vmid": -9101}, 422, "invalid_request", "vmid", "greater than or equal to 100"),
    ({**BODY, "vmid": 1234567890}, 422, "invalid_request", "vmid", "less than or equal to 999999999"),
    ({**BODY, "vmid": 10**30}, 422, "invalid_request", "vmid", "less than or equal to 999999999"),
    ({**BODY, "vmid": 900000000}, 422, "invalid_request", "vmid", "below 900000000"),
    ({**BODY, "vmid": 999999999}, 422, "invalid_request", "vmid", "restore drills"),
    ({**BODY, "vmid": 999}, 422, "invalid_request", "vmid", "from 1000"),
    ({**BODY, "vmid": 100}, 422, "invalid_request", "vmid", "from 1000"),
    ({**BODY, "memoryMb": 8}, 422, "invalid_request", "memoryMb", "greater than or equal to 16"),
    ({**BODY, "memoryMb": 1048577}, 422, "invalid_request", "memoryMb", "less than or equal to 1048576"),
    ({**BODY, "cores": 0}, 422, "invalid_request", "cores", "greater than or equal to 1"),
    ({**BODY, "cores": -1}, 422, "invalid_request", "cores", "greater than or equal to 1"),
    ({**BODY, "cores": 129}, 422, "invalid_request", "cores", "less than or equal to 128"),
    ({**BODY, "swapMb": -1}, 422, "invalid_request", "swapMb", "greater than or equal to 0"),
    ({**BODY, "diskGb": 0}, 422, "invalid_request", "diskGb", "greater than or equal to 1"),
    ({**BODY, "diskGb": 16385}, 422, "invalid_request", "diskGb", "less than or equal to 16384"),
    # hostnames
    ({**BODY, "hostname": ""}, 422, "invalid_request", "hostname", DNS_RULE),
    ({**BODY, "hostname": " "}, 422, "invalid_request", "hostname", DNS_RULE),
    ({**BODY, "hostname": "a;reboot"}, 422, "invalid_request", "hostname", DNS_RULE),
    ({**BODY, "hostname": "two words"}, 422, "invalid_request", "hostname", DNS_RULE),
    ({**BODY, "hostname": "under_score"}, 422, "invalid_request", "hostname", DNS_RULE),
    ({**BODY, "hostname": "a" * 300}, 422, "invalid_request", "hostname", DNS_RULE),
    ({**BODY, "hostname": "a" * 64}, 422, "invalid_request", "hostname", DNS_RULE),
    ({**BODY, "hostname": ".".join(["a" * 63] * 4)}, 422, "invalid_request", "hostname", DNS_RULE),
    ({**BODY, "hostname": "-lead"}, 422, "invalid_request", "hostname", DNS_RULE),
    ({**BODY, "hostname": "trail-"}, 422, "invalid_request", "hostname", DNS_RULE),
    ({**BODY, "hostname": "a..b"}, 422, "invalid_request", "hostname", DNS_RULE),
    ({**BODY, "hostname": "a."}, 422, "invalid_request", "hostname", DNS_RULE),
    ({**BODY, "hostname": "a\n"}, 422, "invalid_request", "hostname", DNS_RULE),
    ({**BODY, "hostname": "a\x00b"}, 422, "invalid_request", "hostname", DNS_RULE),
    ({**BODY, "hostname": "$(id)"}, 422, "invalid_request", "hostname", DNS_RULE),
    ({**BODY, "hostname": "{{ lookup }}"}, 422, "invalid_request", "hostname", DNS_RULE),
    ({**BODY, "hostname": "bücher"}, 422, "invalid_request", "hostname", DNS_RULE),
    ({**BODY, "hostname": "\u0661"}, 422, "invalid_request", "hostname", DNS_RULE),
    ({**BODY, "hostname": "\ud800"}, 422, "invalid_request", "hostname", ""),
    # addresses
    ({**BODY, "ip": "10.1.10.91", "autoIp": True}, 422, "invalid_request", "ip", "exclude each other"),
    ({**BODY, "autoIp": False}, 422, "invalid_request", "ip", "needed when autoIp is false"),
    ({**BODY, "ip": "10.1.10.300"}, 422, "invalid_request", "ip", "IPv4"),
    ({**BODY, "ip": "10.1.10"}, 422, "invalid_request", "ip", "IPv4"),
    ({**BODY, "ip": "010.1.10.91"}, 422, "invalid_request", "ip", "IPv4"),
    ({**BODY, "ip": "10.1.10.91/24"}, 422, "invalid_request", "ip", "IPv4"),
    ({**BODY, "ip": "10.1.10.91 --mp0 /"}, 422, "invalid_request", "ip", "IPv4"),
    ({**BODY, "ip": "fe80::1"}, 422, "invalid_request", "ip", "IPv4"),
    ({**BODY, "ip": ""}, 422, "invalid_request", "ip", "IPv4"),
    ({**BODY, "ip": "10.1.10.49", "node": "lab1"}, 422, "ip_not_allowed", "ip", "outside the node's address pool 10.1.10.50"),
    ({**BODY, "ip": "10.1.10.250", "node": "lab1"}, 422, "ip_not_allowed", "ip", "to 10.1.10.249"),
    ({**BODY, "ip": "10.1.20.91", "node": "lab1"}, 422, "ip_not_allowed", "ip", "outside"),
    ({**BODY, "ip": "10.1.30.91"}, 422, "ip_not_allowed", "ip", "any active node"),
    ({**BODY, "ip": "8.8.8.8"}, 422, "ip_not_allowed", "ip", "outside"),
    # names
    ({**BODY, "tenantId": ""}, 422, "invalid_request", "tenantId", NAME_RULE),
    ({**BODY, "tenantId": "a b"}, 422, "invalid_request", "tenantId", NAME_RULE),
    ({**BODY, "tenantId": "-a"}, 422, "invalid_request", "tenantId", NAME_RULE),
    ({**BODY, "tenantId": "a" * 65}, 422, "invalid_request", "tenantId", NAME_RULE),
    ({**BODY, "tenantId": "TENANT-123\x00"}, 422, "invalid_request", "tenantId", NAME_RULE),
    ({**BODY, "tenantId": "TENANT-123\n"}, 422, "invalid_request", "tenantId", NAME_RULE),
    ({**BODY, "node": "lab1;id"}, 422, "invalid_request", "node", NAME_RULE),
    ({**BODY, "node": "lab1,lab2"}, 422, "invalid_request", "node", NAME_RULE),
    ({**BODY, "region": "a/b"}, 422, "invalid_request", "region", NAME_RULE),
    ({**BODY, "requestedBy": "a\x00"}, 422, "invalid_request", "requestedBy", NAME_RULE),
    ({**BODY, "planId": " "}, 422, "invalid_request", "planId", NAME_RULE),
    # unknown things
    ({**BODY, "region": "mars"}, 422, "unknown_region", "region", "no node in region"),
    ({**BODY, "tenantId": "TENANT-999"}, 404, "tenant_not_found", "tenantId", "TENANT-999"),
    ({**BODY, "tenantId": "tenant-123"}, 404, "tenant_not_found", "tenantId", "tenant-123"),
    ({**BODY, "node": "lab9"}, 422, "unknown_node", "node", "lab9"),
    ({**BODY, "planId": "cloud-huge"}, 422, "unknown_plan", "planId", "cloud-huge"),
]


@pytest.mark.parametrize(
    ("body", "status", "code", "field", "rule"), REFUSED, ids=[f"{n}-{case[3]}" for n, case in enumerate(REFUSED)]
)
def test_a_bad_request_is_refused_by_field_and_rule_and_writes_nothing(
    api, sql, assert_problem, body, status, code, field, rule
):
    answer = post(api, body)
    assert_problem(answer, status, code, field=field, rule=rule)
    assert sql.counts() == NOTHING


def test_every_fault_of_a_request_is_named_at_once(api):
    faults = post(api, {"tenantId": "TENANT-123", "cores": 0, "memoryMb": 8, "colour": "red"}).json["errors"]
    assert {fault["field"] for fault in faults} == {"hostname", "cores", "memoryMb", "colour"}


def test_the_gateways_address_is_refused_even_inside_the_pool(api, sql, assert_problem):
    sql("UPDATE address_pools SET gateway = '10.1.10.60' WHERE name = 'lab1-pool'")
    answer = post(api, {**BODY, "ip": "10.1.10.60", "node": "lab1"})
    assert_problem(answer, 422, "ip_not_allowed", field="ip", rule="gateway")


def test_the_same_vmid_again_is_a_conflict_and_writes_nothing(api, sql, assert_problem):
    post(api, {**BODY, "vmid": 9101})
    before = sql.counts()
    assert_problem(post(api, {**BODY, "vmid": 9101}), 409, "vmid_taken", field="vmid", rule="9101 belongs to a live pod")
    assert sql.counts() == before


def test_another_tenants_live_vmid_is_a_conflict_which_does_not_say_whose(api, sql, assert_problem):
    post(api, {**BODY, "vmid": 9101, "tenantId": "TENANT-456"})
    answer = post(api, {**BODY, "vmid": 9101})
    assert_problem(answer, 409, "vmid_taken", field="vmid", rule="live pod")
    assert "TENANT-456" not in answer.text


@pytest.mark.parametrize("status", ["provisioning", "active", "deleting"])
def test_the_vmid_of_a_living_pod_is_taken(api, rows, assert_problem, status):
    rows.pod(vmid=9101, status=status)
    assert_problem(post(api, {**BODY, "vmid": 9101}), 409, "vmid_taken", field="vmid")


@pytest.mark.parametrize("status", ["failed", "deleted"])
def test_the_vmid_and_address_of_a_pod_that_is_gone_can_be_used_again(api, rows, status):
    rows.pod(vmid=9101, status=status, ip="10.1.10.91", allocation=False)
    assert post(api, {**BODY, "vmid": 9101, "ip": "10.1.10.91", "node": "lab1"}).status_code == 202


def test_a_taken_address_is_a_conflict_and_writes_nothing(api, sql, assert_problem):
    post(api, {**BODY, "ip": "10.1.10.91", "node": "lab1"})
    before = sql.counts()
    answer = post(api, {**BODY, "ip": "10.1.10.91", "node": "lab1"})
    assert_problem(answer, 409, "ip_taken", field="ip", rule="10.1.10.91 belongs to another pod")
    assert sql.counts() == before


def test_a_range_of_vmids_that_is_used_up_is_a_conflict(api_on, tenants, rows, sql, assert_problem):
    api = api_on(tenants.model_copy(update={"vmid_auto_first": 10000, "vmid_last": 10001}))
    rows.pod(vmid=10000)
    rows.pod(vmid=10001, status="deleted")
    before = sql.counts()
    assert_problem(post(api, BODY), 409, "no_vmid_left")
    assert sql.counts() == before


def test_one_order_for_the_highest_vmid_does_not_use_up_the_range(api, rows):
    rows.pod(vmid=899_999_999)
    assert post(api, BODY).status_code == 202


def test_twenty_orders_at_once_get_twenty_vmids(api, sql):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(lambda _: post(api, BODY), range(20)))
    assert {answer.status_code for answer in answers} == {202}
    assert sorted(answer.json["cloudPod"]["vmid"] for answer in answers) == list(range(10000, 10020))


def test_of_ten_orders_at_once_for_one_vmid_one_is_taken(api, sql):
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(10) as pool:
        statuses = sorted(answer.status_code for answer in pool.map(lambda _: post(api, {**BODY, "vmid": 9101}), range(10)))
    assert statuses == [202] + [409] * 9
    assert sql.counts() == dict.fromkeys(NOTHING, 1)


def test_of_ten_orders_at_once_for_one_address_one_is_taken(api, sql):
    from concurrent.futures import ThreadPoolExecutor

    body = {**BODY, "ip": "10.1.10.91", "node": "lab1"}
    with ThreadPoolExecutor(10) as pool:
        statuses = sorted(answer.status_code for answer in pool.map(lambda _: post(api, body), range(10)))
    assert statuses == [202] + [409] * 9
