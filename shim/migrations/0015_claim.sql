SET LOCAL search_path = cloudpods, public;

-- A claim asks of each change whether an earlier one of its pod is unfinished; an order, how many its pod and tenant have.
CREATE INDEX ON cloud_pod_jobs (cloud_pod_id, created_at, id) WHERE changes_pod AND status IN ('queued', 'running');
CREATE INDEX ON cloud_pod_jobs (cloud_pod_id) WHERE status IN ('queued', 'running');
CREATE INDEX ON cloud_pod_jobs (tenant_id) WHERE status IN ('queued', 'running');
