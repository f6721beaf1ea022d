SET LOCAL search_path = cloudpods, public;

-- The token is named, not referred to: what happened stays known when the token is gone.
ALTER TABLE cloud_pod_events
    ADD COLUMN actor text,
    ADD COLUMN token_id text,
    ADD COLUMN remote_addr text,
    ADD COLUMN request_id text;

ALTER TABLE cloud_pod_jobs ADD COLUMN request_id text;
