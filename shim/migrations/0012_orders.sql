SET LOCAL search_path = cloudpods, public;

-- The first request with a key and its answer. A row without an answer is seen by nobody but the transaction that makes it.
CREATE TABLE cloudpods.idempotency_keys (
    scope         text PRIMARY KEY,
    request_hash  text NOT NULL,
    status        integer,
    headers       jsonb,
    text          text,
    created_at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX idempotency_keys_created ON cloudpods.idempotency_keys (created_at);
SELECT cloudpods.to_public('idempotency_keys');

-- Orders that were given together.
CREATE TABLE cloudpods.cloud_pod_batches (
    id            text PRIMARY KEY DEFAULT gen_random_uuid()::text,
    tenant_id     text NOT NULL REFERENCES tenants (id),
    jobs          integer NOT NULL CHECK (jobs > 0),
    requested_by  text,
    request_id    text,
    created_at    timestamptz NOT NULL DEFAULT now()
);
SELECT cloudpods.to_public('cloud_pod_batches');

ALTER TABLE cloud_pods ADD COLUMN protected boolean NOT NULL DEFAULT false;

-- A dry run changes nothing; a job with another one before it waits for that one's success.
ALTER TABLE cloud_pod_jobs
    ADD COLUMN dry_run boolean NOT NULL DEFAULT false,
    ADD COLUMN after_job_id text REFERENCES cloud_pod_jobs (id),
    ADD COLUMN batch_id text REFERENCES cloud_pod_batches (id);
CREATE INDEX ON cloud_pod_jobs (after_job_id) WHERE after_job_id IS NOT NULL;
CREATE INDEX ON cloud_pod_jobs (batch_id, created_at DESC, id DESC) WHERE batch_id IS NOT NULL;

-- Lists of jobs, newest first, by each filter.
CREATE INDEX ON cloud_pod_jobs (created_at DESC, id DESC);
CREATE INDEX ON cloud_pod_jobs (type, created_at DESC, id DESC);
CREATE INDEX ON cloud_pod_jobs (status, created_at DESC, id DESC);
CREATE INDEX ON cloud_pod_jobs (node_id, created_at DESC, id DESC);
