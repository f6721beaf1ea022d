SET LOCAL search_path = cloudpods, public;

-- `host_key` is the guest's own SSH host key, `<type> <base64>`, as the node read it. `wanted_power` is what the last order
-- asked for: a pod that was stopped on purpose is not ill.
ALTER TABLE cloud_pods
    ADD COLUMN host_key text,
    ADD COLUMN wanted_power text NOT NULL DEFAULT 'running' CHECK (wanted_power IN ('running', 'stopped'));

UPDATE cloud_pods p SET wanted_power = 'stopped'
WHERE (SELECT j.payload->>'action' FROM cloud_pod_jobs j
       WHERE j.cloud_pod_id = p.id AND j.type = 'POWER' AND j.status = 'success' ORDER BY j.finished_at DESC LIMIT 1)
      IN ('stop', 'shutdown');

CREATE INDEX ON cloud_pods (created_at DESC, id DESC);

-- Jobs of a node as a whole. One look of a kind at a time: a second one would see the same.
CREATE INDEX ON cloud_pod_jobs (node_id, type, created_at DESC) WHERE cloud_pod_id IS NULL;
CREATE UNIQUE INDEX ON cloud_pod_jobs (node_id, type)
    WHERE cloud_pod_id IS NULL AND status IN ('queued', 'running') AND type IN ('HEALTH_SWEEP', 'POD_SCAN');
