-- A panel's tables after some years. Identifiers count up, so that a benchmark can name any of them.
-- Triggers rest: a million events at once need no order among readers that are not there.
SET session_replication_role = replica;

INSERT INTO plans (id, name, slug, max_cloud_pods, max_cpu_cores, max_ram_mb, max_disk_gb)
VALUES ('plan', 'plan', 'plan', 1000, 10000, 10000000, 1000000);
INSERT INTO users (id, email) SELECT 'user-' || n, n || '@example.com' FROM generate_series(1, %(tenants)s) n;
INSERT INTO tenants (id, name, slug, owner_user_id, plan_id)
SELECT 'tenant-' || n, 'Tenant ' || n, 'tenant-' || n, 'user-' || n, 'plan' FROM generate_series(1, %(tenants)s) n;
INSERT INTO cloud_pod_nodes (id, name, total_cpu_cores, total_memory_mb, total_disk_gb)
SELECT 'node-' || n, 'node-' || n, 10000, 100000000, 10000000 FROM generate_series(1, %(nodes)s) n;

INSERT INTO cloud_pods (id, tenant_id, node_id, vmid, hostname, ip, status, power_state, cores, memory_mb, disk_gb, created_at)
SELECT 'pod-' || n, 'tenant-' || 1 + n %% %(tenants)s, 'node-' || 1 + n %% %(nodes)s, 100000 + n, 'host-' || n,
       host('10.100.0.0'::inet + n), 'active', 'running', 2, 2048, 8, now() - make_interval(mins => n)
FROM generate_series(1, %(pods)s) n;
INSERT INTO cloud_pod_allocations (node_id, cloud_pod_id, tenant_id, used_cpu_cores, used_memory_mb, used_disk_gb)
SELECT node_id, id, tenant_id, cores, memory_mb, disk_gb FROM cloud_pods;
INSERT INTO tenant_quotas (tenant_id, max_cloud_pods, max_cpu_cores, max_ram_mb, max_disk_gb,
                           used_cloud_pods, used_cpu_cores, used_ram_mb, used_disk_gb)
SELECT tenant_id, 1000, 10000, 10000000, 1000000, count(*), sum(cores), sum(memory_mb), sum(disk_gb)
FROM cloud_pods GROUP BY tenant_id;

INSERT INTO cloud_pod_jobs (id, cloud_pod_id, tenant_id, node_id, type, status, payload, result, created_at, started_at, finished_at)
SELECT 'job-' || n, p.id, p.tenant_id, p.node_id, (ARRAY['CREATE', 'BACKUP', 'SCALE', 'POWER', 'HEALTH_CHECK'])[1 + n %% 5],
       CASE WHEN n %% 50 = 0 THEN 'failed' ELSE 'success' END, jsonb_build_object('vmid', p.vmid), '{"changed": true}',
       at, at + interval '1 s', at + interval '3 s'
FROM generate_series(1, %(jobs)s) n
JOIN cloud_pods p ON p.vmid = 100001 + n %% %(pods)s
CROSS JOIN LATERAL (SELECT now() - make_interval(secs => 30 * n) AS at) t;

INSERT INTO quota_entries (tenant_id, job_id, cloud_pod_id, pods, cpu_cores, ram_mb, disk_gb, state, reason, created_at, settled_at)
SELECT tenant_id, NULL, id, 1, cores, memory_mb, disk_gb, 'committed', 'create', created_at, created_at FROM cloud_pods;

INSERT INTO cloud_pod_events (seq, cloud_pod_id, tenant_id, job_id, type, message, data, created_at)
SELECT n, j.cloud_pod_id, j.tenant_id, j.id, 'INFO', j.type || ' progress', '{"action": "progress", "task": "Look"}',
       now() - make_interval(secs => 3 * (%(events)s - n))
FROM generate_series(1, %(events)s) n
JOIN cloud_pod_jobs j ON j.id = 'job-' || 1 + (%(events)s - n) %% %(jobs)s;
SELECT setval(pg_get_serial_sequence('cloud_pod_events', 'seq'), %(events)s);

SET session_replication_role = DEFAULT;
