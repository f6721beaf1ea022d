SET LOCAL search_path = cloudpods, public;

-- A blueprint that was ever deployed is referred to for good; one that is deleted gives its slug free.
ALTER TABLE blueprints ADD COLUMN deleted_at timestamptz;
CREATE INDEX ON blueprints (created_at DESC, id DESC);

-- A stack made after a blueprint: the document as it was then, what was said of it, and how far it is.
CREATE TABLE cloudpods.blueprint_deployments (
    id            text PRIMARY KEY DEFAULT gen_random_uuid()::text,
    blueprint_id  text NOT NULL REFERENCES blueprints (id),
    tenant_id     text NOT NULL REFERENCES tenants (id),
    -- Which of the tenant's stacks of the blueprint it is.
    name          text,
    status        text NOT NULL DEFAULT 'creating' CHECK (status IN (
        'creating', 'configuring', 'active', 'failed', 'rolling_back', 'rolled_back', 'destroying', 'destroyed')),
    policy        text NOT NULL DEFAULT 'rollback' CHECK (policy IN ('rollback', 'keep')),
    spec          jsonb NOT NULL,
    parameters    jsonb NOT NULL DEFAULT '{}'::jsonb,
    -- Read by the runs that configure the stack and by nobody else; emptied when the stack is gone.
    secrets       jsonb NOT NULL DEFAULT '{}'::jsonb,
    steps         jsonb NOT NULL DEFAULT '[]'::jsonb,
    outputs       jsonb NOT NULL DEFAULT '{}'::jsonb,
    error         text,
    failed_step   text,
    -- What it was told to become last, when that was to be gone: a retry goes on with it.
    undoing       text CHECK (undoing IN ('rolling_back', 'destroying')),
    region        text,
    node          text,
    requested_by  text,
    request_id    text,
    -- The job that configures the stack, or undoes that, last ordered in this phase.
    job_id        text REFERENCES cloud_pod_jobs (id),
    -- When what it does now began: jobs that ended before say nothing of it.
    phase_since   timestamptz NOT NULL DEFAULT clock_timestamp(),
    -- Somebody asked for another course: to be looked at whatever its jobs do.
    due           boolean NOT NULL DEFAULT false,
    created_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    finished_at   timestamptz
);
CREATE INDEX ON cloudpods.blueprint_deployments (created_at DESC, id DESC);
CREATE INDEX ON cloudpods.blueprint_deployments (tenant_id, created_at DESC, id DESC);
CREATE INDEX ON cloudpods.blueprint_deployments (blueprint_id, created_at DESC, id DESC);
CREATE INDEX blueprint_deployments_under_way ON cloudpods.blueprint_deployments (created_at)
    WHERE status IN ('creating', 'configuring', 'rolling_back', 'destroying');
SELECT cloudpods.to_public('blueprint_deployments');

-- A stack's pods; one that came to nothing gives its place to the pod that a retry makes.
CREATE TABLE cloudpods.blueprint_deployment_pods (
    deployment_id  text NOT NULL REFERENCES blueprint_deployments (id),
    position       integer NOT NULL,
    role           text NOT NULL,
    number         integer NOT NULL,
    cloud_pod_id   text NOT NULL REFERENCES cloud_pods (id),
    job_id         text NOT NULL REFERENCES cloud_pod_jobs (id),
    PRIMARY KEY (deployment_id, position)
);
CREATE INDEX ON cloudpods.blueprint_deployment_pods (cloud_pod_id);
SELECT cloudpods.to_public('blueprint_deployment_pods');

-- The deployment that a job is part of, and further jobs whose success it waits for, one after the other.
ALTER TABLE cloud_pod_jobs
    ADD COLUMN deployment_id text REFERENCES blueprint_deployments (id),
    ADD COLUMN after_too text[] NOT NULL DEFAULT '{}';
CREATE INDEX ON cloud_pod_jobs (deployment_id, created_at) WHERE deployment_id IS NOT NULL;
CREATE INDEX ON cloud_pod_jobs USING gin (after_too) WHERE after_too <> '{}';
