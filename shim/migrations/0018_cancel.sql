SET LOCAL search_path = cloudpods, public;

-- Since when, and by whose word, a job that was begun is to be ended. `retry_of` is the job that it repeats, which may be forgotten.
ALTER TABLE cloud_pod_jobs
    ADD COLUMN cancel_requested_at timestamptz,
    ADD COLUMN cancel_requested_by text,
    ADD COLUMN retry_of text REFERENCES cloud_pod_jobs (id) ON DELETE SET NULL;
-- A job is repeated once, unless that came to nothing either.
CREATE UNIQUE INDEX cloud_pod_jobs_one_retry ON cloud_pod_jobs (retry_of)
    WHERE retry_of IS NOT NULL AND status NOT IN ('failed', 'cancelled');
CREATE INDEX ON cloud_pod_jobs (retry_of) WHERE retry_of IS NOT NULL;
-- For the claim: what is rehearsed, or only looked into, takes no place of its kind.
CREATE INDEX ON cloud_pod_jobs (node_id, priority, turn, created_at, id)
    WHERE lower(status) = 'queued' AND NOT waits AND (dry_run OR cancel_requested_at IS NOT NULL);
