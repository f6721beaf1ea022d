"""The ledger's migration on a database where pods stand and jobs are under way."""

from shim import migrations

POD = "INSERT INTO cloud_pods (id, tenant_id, node_id, vmid, hostname, status, cores, memory_mb, disk_gb)"
JOB = (
    "INSERT INTO cloud_pod_jobs (id, tenant_id, cloud_pod_id, node_id, type, status, payload)"
    " VALUES (%s, 't', %s, 'n', %s, %s, %s)"
)


def apply(sql, names):
    for name in names:
        sql(f"BEGIN; {(migrations.DIRECTORY / name).read_text()}; COMMIT")


def test_pods_are_opened_with_and_unfinished_jobs_reserve(sql_of_empty):
    sql = sql_of_empty
    steps = sorted(path.name for path in migrations.DIRECTORY.glob("[0-9]*.sql"))
    earlier = [name for name in steps if name < "0008"]
    apply(sql, ["to_public.sql", *earlier])
    sql("INSERT INTO users (id, email) VALUES ('u', 'a@example.com')")
    sql(
        "INSERT INTO plans (id, name, slug, max_cloud_pods, max_cpu_cores, max_ram_mb, max_disk_gb)"
        " VALUES ('p', 'p', 'p', 1, 2, 3, 4)"
    )
    for tenant in ("t", "other"):
        sql("INSERT INTO tenants (id, name, slug, owner_user_id, plan_id) VALUES (%s, %s, %s, 'u', 'p')", *[tenant] * 3)
    sql("INSERT INTO cloud_pod_nodes (id, name) VALUES ('n', 'n')")
    states = ["active", "deleting", "provisioning", "failed", "failed", "deleted", "active"]
    for vmid, status in enumerate(states, 101):
        sql(f"{POD} VALUES (%s, 't', 'n', %s, 'a', %s, 2, 512, 8)", f"pod-{vmid}", vmid, status)
    sql("INSERT INTO cloud_pod_allocations (node_id, cloud_pod_id) VALUES ('n', 'pod-104')")
    for job in (
        ("make", "pod-103", "CREATE", "queued", "{}"),
        ("made", "pod-101", "CREATE", "success", "{}"),
        ("grow", "pod-107", "SCALE", "queued", '{"newCores": 3, "newMemoryMb": 256}'),
        ("back", "pod-101", "RESTORE", "queued", '{"asNew": false}'),
    ):
        sql(JOB, *job)
    apply(sql, ["0008_ledger.sql"])
    found = sql("SELECT cloud_pod_id, job_id, state, pods, cpu_cores, ram_mb, disk_gb FROM quota_entries ORDER BY 1, 2")
    whole = (1, 2, 512, 8)
    assert found == [
        ("pod-101", None, "committed", *whole),
        ("pod-102", None, "committed", *whole),
        ("pod-103", "make", "reserved", *whole),
        ("pod-104", None, "committed", *whole),
        ("pod-107", "grow", "reserved", 0, 1, -256, 0),
        ("pod-107", None, "committed", *whole),
    ]
    columns = "tenant_id, max_cloud_pods, max_disk_gb, used_cloud_pods, used_cpu_cores, used_ram_mb, used_disk_gb"
    assert sql(f"SELECT {columns} FROM tenant_quotas ORDER BY 1") == [("other", 1, 4, 0, 0, 0, 0), ("t", 1, 4, 4, 8, 2048, 32)]
