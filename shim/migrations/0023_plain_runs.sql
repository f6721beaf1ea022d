SET LOCAL search_path = cloudpods, public;

-- A row for each reason, for `cloudpods_plain_runs_total`.
CREATE TABLE cloud_pod_plain_runs (
    reason text PRIMARY KEY,
    runs bigint NOT NULL DEFAULT 0
);

SELECT cloudpods.to_public('cloud_pod_plain_runs');
