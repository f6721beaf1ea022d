SET LOCAL search_path = cloudpods, public;

-- A row per snapshot that a pod has or is getting; it goes when the snapshot does.
CREATE TABLE cloudpods.cloud_pod_snapshots (
    id            text PRIMARY KEY DEFAULT gen_random_uuid()::text,
    cloud_pod_id  text NOT NULL REFERENCES cloud_pods (id),
    name          text NOT NULL,
    status        text NOT NULL DEFAULT 'creating' CHECK (status IN ('creating', 'ready', 'deleting')),
    reason        text,
    created_at    timestamptz NOT NULL DEFAULT now(),
    UNIQUE (cloud_pod_id, name)
);

SELECT cloudpods.to_public('cloud_pod_snapshots');
