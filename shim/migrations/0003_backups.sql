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

DO $$
BEGIN
    IF to_regclass('public.cloud_pod_backups') IS NULL THEN
        ALTER TABLE cloudpods.cloud_pod_backups SET SCHEMA public;
    END IF;
END
$$;

-- What the schedule asks of a pod and of a node: is one under way, did one fail lately.
CREATE INDEX cloud_pod_jobs_backups ON cloud_pod_jobs (cloud_pod_id, type, status) WHERE type IN ('BACKUP', 'RESTORE_DRILL');
CREATE INDEX cloud_pod_jobs_scheduled ON cloud_pod_jobs (node_id, type, status)
    WHERE type IN ('BACKUP', 'RESTORE_DRILL') AND payload ->> 'reason' = 'schedule';
