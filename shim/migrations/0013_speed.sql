SET LOCAL search_path = cloudpods, public;

-- Placement asks on which nodes the tenant is.
CREATE INDEX ON cloud_pod_allocations (tenant_id);

-- Whether the job that it comes after has not succeeded yet: such jobs are not in the claim's way, however many wait.
ALTER TABLE cloud_pod_jobs ADD COLUMN waits boolean NOT NULL DEFAULT false;
UPDATE cloud_pod_jobs j SET waits = true WHERE after_job_id IS NOT NULL
AND NOT EXISTS (SELECT 1 FROM cloud_pod_jobs a WHERE a.id = j.after_job_id AND a.status = 'success');

CREATE FUNCTION cloudpods.jobs_wait() RETURNS trigger LANGUAGE plpgsql SET search_path = cloudpods, public, pg_temp AS $$
BEGIN
    -- Locked, so that a success that is being written is seen here, or else sees this job.
    NEW.waits := (SELECT status FROM cloud_pod_jobs WHERE id = NEW.after_job_id FOR SHARE) IS DISTINCT FROM 'success';
    RETURN NEW;
END
$$;
CREATE TRIGGER wait_insert BEFORE INSERT ON cloud_pod_jobs
    FOR EACH ROW WHEN (NEW.after_job_id IS NOT NULL) EXECUTE FUNCTION cloudpods.jobs_wait();
CREATE TRIGGER wait_update BEFORE UPDATE OF after_job_id ON cloud_pod_jobs
    FOR EACH ROW WHEN (NEW.after_job_id IS NOT NULL) EXECUTE FUNCTION cloudpods.jobs_wait();

CREATE FUNCTION cloudpods.jobs_go_on() RETURNS trigger LANGUAGE plpgsql SET search_path = cloudpods, public, pg_temp AS $$
BEGIN
    UPDATE cloud_pod_jobs SET waits = false WHERE after_job_id = NEW.id AND waits;
    RETURN NULL;
END
$$;
CREATE TRIGGER go_on AFTER UPDATE OF status ON cloud_pod_jobs
    FOR EACH ROW WHEN (NEW.status = 'success' AND OLD.status <> 'success') EXECUTE FUNCTION cloudpods.jobs_go_on();

-- The claim takes the best of each node that has room, unless an earlier change of its pod is unfinished. `NULLS FIRST`, though none is, tells it from
-- the index of all queued jobs, which a planner would take for as good.
CREATE INDEX ON cloud_pod_jobs (node_id, priority, created_at, id NULLS FIRST) WHERE status = 'queued' AND NOT waits;
CREATE INDEX ON cloud_pod_jobs (cloud_pod_id) WHERE changes_pod AND status IN ('queued', 'running');

