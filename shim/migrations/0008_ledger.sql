SET LOCAL search_path = cloudpods, public;

-- What a job takes of its tenant's quota, or gives back: the difference to what its pod had before. `used_*` of the quota is
-- always the sum of the committed ones.
CREATE TABLE cloudpods.quota_entries (
    id            bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    tenant_id     text NOT NULL REFERENCES tenants (id),
    job_id        text UNIQUE REFERENCES cloud_pod_jobs (id),
    cloud_pod_id  text NOT NULL REFERENCES cloud_pods (id),
    pods          integer NOT NULL,
    cpu_cores     integer NOT NULL,
    ram_mb        integer NOT NULL,
    disk_gb       integer NOT NULL,
    state         text NOT NULL CHECK (state IN ('reserved', 'committed', 'released')),
    reason        text NOT NULL,
    created_at    timestamptz NOT NULL DEFAULT now(),
    settled_at    timestamptz,
    CHECK ((state = 'reserved') = (settled_at IS NULL)),
    -- A reservation that no job will end would stay for ever.
    CHECK (state <> 'reserved' OR job_id IS NOT NULL)
);
CREATE INDEX quota_entries_tenant ON cloudpods.quota_entries (tenant_id);
CREATE INDEX quota_entries_open ON cloudpods.quota_entries (tenant_id) WHERE state = 'reserved';
CREATE INDEX quota_entries_pod ON cloudpods.quota_entries (cloud_pod_id);

SELECT cloudpods.to_public('quota_entries');

INSERT INTO tenant_quotas (tenant_id, max_cloud_pods, max_cpu_cores, max_ram_mb, max_disk_gb)
SELECT t.id, p.max_cloud_pods, p.max_cpu_cores, p.max_ram_mb, p.max_disk_gb FROM tenants t JOIN plans p ON p.id = t.plan_id
ON CONFLICT (tenant_id) DO NOTHING;

-- Pods that are there, or of which something may be; those that a job is about to make are reserved by it.
INSERT INTO quota_entries (tenant_id, job_id, cloud_pod_id, pods, cpu_cores, ram_mb, disk_gb, state, reason, settled_at)
SELECT p.tenant_id, j.id, p.id, 1, p.cores, p.memory_mb, p.disk_gb, CASE WHEN j.id IS NULL THEN 'committed' ELSE 'reserved' END,
       'opening', CASE WHEN j.id IS NULL THEN now() END
FROM cloud_pods p
LEFT JOIN LATERAL (
    SELECT id FROM cloud_pod_jobs WHERE cloud_pod_id = p.id AND status IN ('queued', 'running')
    AND (type IN ('CREATE', 'ADOPT') OR (type = 'RESTORE' AND payload @> '{"asNew": true}'))
    ORDER BY created_at LIMIT 1
) j ON true
WHERE p.status NOT IN ('deleted', 'failed')
   OR (p.status = 'failed' AND EXISTS (SELECT 1 FROM cloud_pod_allocations a WHERE a.cloud_pod_id = p.id));

-- What pods will grow or shrink by.
INSERT INTO quota_entries (tenant_id, job_id, cloud_pod_id, pods, cpu_cores, ram_mb, disk_gb, state, reason)
SELECT p.tenant_id, j.id, p.id, 0, (j.payload ->> 'newCores')::integer - p.cores, (j.payload ->> 'newMemoryMb')::integer - p.memory_mb,
       0, 'reserved', 'opening'
FROM cloud_pod_jobs j JOIN cloud_pods p ON p.id = j.cloud_pod_id
WHERE j.type = 'SCALE' AND j.status IN ('queued', 'running') AND p.status = 'active';

UPDATE tenant_quotas q SET used_cloud_pods = u.pods, used_cpu_cores = u.cpu_cores, used_ram_mb = u.ram_mb, used_disk_gb = u.disk_gb
FROM (
    SELECT t.id, coalesce(sum(e.pods), 0) AS pods, coalesce(sum(e.cpu_cores), 0) AS cpu_cores,
           coalesce(sum(e.ram_mb), 0) AS ram_mb, coalesce(sum(e.disk_gb), 0) AS disk_gb
    FROM tenants t LEFT JOIN quota_entries e ON e.tenant_id = t.id AND e.state = 'committed' GROUP BY t.id
) u WHERE u.id = q.tenant_id;
