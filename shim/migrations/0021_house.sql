SET LOCAL search_path = cloudpods, public;

-- What no request ordered; a tenant's users may not end it.
ALTER TABLE cloud_pod_jobs ADD COLUMN by_house boolean NOT NULL DEFAULT false;
