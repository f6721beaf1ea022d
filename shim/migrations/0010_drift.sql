SET LOCAL search_path = cloudpods, public;

-- One row per look at a node. `job_id` names the look's job, whose row is dropped long before: no constraint. `seen_as` and
-- `cluster` are what the node calls itself and the cluster it is in, by which a pod that HA moved is known from a copy.
CREATE TABLE cloudpods.drift_reports (
    id          text PRIMARY KEY DEFAULT gen_random_uuid()::text,
    node_id     text NOT NULL REFERENCES cloud_pod_nodes (id) ON DELETE CASCADE,
    job_id      text NOT NULL,
    seen_as     text,
    cluster     jsonb,
    checked     integer NOT NULL CHECK (checked >= 0),
    counts      jsonb NOT NULL DEFAULT '{}'::jsonb,
    items       jsonb NOT NULL DEFAULT '[]'::jsonb,
    looked_at   timestamptz NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX ON cloudpods.drift_reports (node_id, created_at DESC, id DESC);
CREATE INDEX ON cloudpods.drift_reports (created_at DESC, id DESC);

-- One look of a kind at a time.
CREATE UNIQUE INDEX ON cloud_pod_jobs (node_id, type)
    WHERE cloud_pod_id IS NULL AND status IN ('queued', 'running') AND type IN ('RECONCILE', 'NODE_SYNC');

SELECT cloudpods.to_public('drift_reports');
