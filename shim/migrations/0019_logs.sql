SET LOCAL search_path = cloudpods, public;

-- What a job's runs and looks at its node printed, in pieces; read together in the order of `seq` they are the whole of it.
-- The next number is asked for by the INSERT itself: of two writers the second waits for the first one's row and is refused
-- then, so whoever has seen number 7 is never shown number 6 later.
CREATE TABLE cloudpods.cloud_pod_job_logs (
    job_id      text NOT NULL REFERENCES cloud_pod_jobs (id) ON DELETE CASCADE,
    seq         bigint NOT NULL CHECK (seq > 0),
    attempt     integer NOT NULL,
    text        text NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (job_id, seq)
);
-- The oldest are removed by the clock.
CREATE INDEX ON cloudpods.cloud_pod_job_logs (created_at);

SELECT cloudpods.to_public('cloud_pod_job_logs');
