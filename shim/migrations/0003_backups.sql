SET LOCAL search_path = cloudpods, public;

-- A row per archive of a pod. It outlives the archive and the pod: what was restored, and whether its drill passed, stays known.
CREATE TABLE cloudpods.cloud_pod_backups (
    id            text PRIMARY KEY DEFAULT gen_random_uuid()::text,
    cloud_pod_id  text NOT NULL REFERENCES cloud_pods (id),
    tenant_id     text NOT NULL REFERENCES tenants (id),
    node_id       text NOT NULL REFERENCES cloud_pod_nodes (id),
    vmid          integer NOT NULL,
    job_id        text REFERENCES cloud_pod_jobs (id),
    volid         text NOT NULL,
    storage       text,
    mode          text,
    size_bytes    bigint CHECK (size_bytes >= 0),
    status        text NOT NULL DEFAULT 'ready' CHECK (status IN ('ready', 'removed')),
    created_at    timestamptz NOT NULL DEFAULT now(),
    removed_at    timestamptz,
    drilled_at    timestamptz,
    drill_passed  boolean,
    drill_error   text
);
CREATE UNIQUE INDEX cloud_pod_backups_live_volid ON cloudpods.cloud_pod_backups (node_id, volid) WHERE status = 'ready';
CREATE INDEX cloud_pod_backups_pod ON cloudpods.cloud_pod_backups (cloud_pod_id, created_at DESC, id DESC);
CREATE INDEX cloud_pod_backups_ready ON cloudpods.cloud_pod_backups (cloud_pod_id) WHERE status = 'ready';
CREATE INDEX cloud_pod_backups_drilled ON cloudpods.cloud_pod_backups (cloud_pod_id, drilled_at) WHERE drilled_at IS NOT NULL;
CREATE INDEX cloud_pod_backups_vmid ON cloudpods.cloud_pod_backups (vmid) WHERE status = 'ready';

SELECT cloudpods.to_public('cloud_pod_backups');

-- The archives that backups made before this table was there. Nothing had removed any yet.
INSERT INTO cloud_pod_backups (cloud_pod_id, tenant_id, node_id, vmid, job_id, volid, storage, mode, size_bytes, created_at)
SELECT p.id, p.tenant_id, j.node_id, p.vmid, j.id, a.volid, split_part(a.volid, ':', 1), a.mode,
       CASE WHEN a.size ~ '^[0-9]{1,18}$' THEN a.size::bigint END, coalesce(j.finished_at, j.created_at)
FROM cloud_pod_jobs j
JOIN cloud_pods p ON p.id = j.cloud_pod_id
CROSS JOIN LATERAL (
    SELECT j.result #>> '{archive,volid}' AS volid, j.result #>> '{archive,mode}' AS mode,
           j.result #>> '{archive,size_bytes}' AS size
) a
WHERE j.type = 'BACKUP' AND j.status = 'success' AND j.node_id IS NOT NULL AND length(a.volid) BETWEEN 1 AND 512
ORDER BY j.created_at
ON CONFLICT DO NOTHING;

-- Ordered by the clock, not by anybody: no client can say so.
ALTER TABLE cloud_pod_jobs ADD COLUMN scheduled boolean NOT NULL DEFAULT false;

-- Indexes of tables that may be beside a panel's have no name of ours: PostgreSQL chooses one that is free.
-- What is under way, and what failed lately, by kind: few rows, however many jobs there were.
-- The first is of all jobs on purpose: an index of the unfinished ones looks empty to a planner without statistics, and the claim
-- would read all of it for each job.
CREATE INDEX ON cloud_pod_jobs (type, status, node_id);
CREATE INDEX ON cloud_pod_jobs (type, finished_at) WHERE status = 'failed';
