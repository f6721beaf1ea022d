-- Everything is made in the schema "cloudpods"; the last statement moves each table whose name is free there to "public".
-- A panel that already has a table called "users" keeps it untouched and ours stays in "cloudpods", which comes first on
-- our own search_path. Column names are the seeds'; ids and timestamps have defaults, so that the seeds' INSERTs run as written.

SET LOCAL search_path = cloudpods;

CREATE TABLE users (
    id          text PRIMARY KEY DEFAULT gen_random_uuid()::text,
    email       text NOT NULL UNIQUE,
    name        text,
    role        text NOT NULL DEFAULT 'owner' CHECK (role IN ('owner', 'admin', 'dev', 'billing')),
    created_at  timestamptz NOT NULL DEFAULT now(),
    updated_at  timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE plans (
    id              text PRIMARY KEY DEFAULT gen_random_uuid()::text,
    name            text NOT NULL,
    slug            text NOT NULL UNIQUE,
    description     text,
    max_cloud_pods  integer NOT NULL CHECK (max_cloud_pods >= 0),
    max_cpu_cores   integer NOT NULL CHECK (max_cpu_cores >= 0),
    max_ram_mb      integer NOT NULL CHECK (max_ram_mb >= 0),
    max_disk_gb     integer NOT NULL CHECK (max_disk_gb >= 0),
    backup_policy   text NOT NULL DEFAULT 'basic' CHECK (backup_policy IN ('basic', 'standard', 'enterprise')),
    created_at      timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE tenants (
    id             text PRIMARY KEY DEFAULT gen_random_uuid()::text,
    name           text NOT NULL,
    slug           text NOT NULL UNIQUE,
    owner_user_id  text NOT NULL REFERENCES users (id),
    plan_id        text NOT NULL REFERENCES plans (id),
    region         text NOT NULL DEFAULT 'migra-us-east-1',
    created_at     timestamptz NOT NULL DEFAULT now(),
    updated_at     timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE tenant_quotas (
    id               text PRIMARY KEY DEFAULT gen_random_uuid()::text,
    tenant_id        text NOT NULL UNIQUE REFERENCES tenants (id),
    max_cloud_pods   integer NOT NULL,
    max_cpu_cores    integer NOT NULL,
    max_ram_mb       integer NOT NULL,
    max_disk_gb      integer NOT NULL,
    used_cloud_pods  integer NOT NULL DEFAULT 0 CHECK (used_cloud_pods >= 0),
    used_cpu_cores   integer NOT NULL DEFAULT 0 CHECK (used_cpu_cores >= 0),
    used_ram_mb      integer NOT NULL DEFAULT 0 CHECK (used_ram_mb >= 0),
    used_disk_gb     integer NOT NULL DEFAULT 0 CHECK (used_disk_gb >= 0),
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE blueprints (
    id           text PRIMARY KEY DEFAULT gen_random_uuid()::text,
    name         text NOT NULL,
    slug         text NOT NULL UNIQUE,
    description  text,
    spec         jsonb NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT now(),
    updated_at   timestamptz NOT NULL DEFAULT now()
);

-- One pool per L2 segment: nodes that share a bridge share a pool.
CREATE TABLE address_pools (
    id          text PRIMARY KEY DEFAULT gen_random_uuid()::text,
    name        text NOT NULL UNIQUE,
    first_ip    inet NOT NULL,
    last_ip     inet NOT NULL,
    gateway     inet NOT NULL,
    created_at  timestamptz NOT NULL DEFAULT now(),
    CHECK (first_ip <= last_ip)
);

CREATE TABLE cloud_pod_nodes (
    id               text PRIMARY KEY DEFAULT gen_random_uuid()::text,
    name             text NOT NULL UNIQUE,
    provider         text NOT NULL DEFAULT 'proxmox',
    api_url          text,
    node_name        text,
    region           text NOT NULL DEFAULT 'migra-us-east-1',
    status           text NOT NULL DEFAULT 'active',
    total_cpu_cores  integer NOT NULL DEFAULT 0 CHECK (total_cpu_cores >= 0),
    total_memory_mb  integer NOT NULL DEFAULT 0 CHECK (total_memory_mb >= 0),
    total_disk_gb    integer NOT NULL DEFAULT 0 CHECK (total_disk_gb >= 0),
    max_running_jobs integer NOT NULL DEFAULT 4 CHECK (max_running_jobs > 0),
    address_pool_id  text REFERENCES address_pools (id),
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now()
);

CREATE TABLE cloud_pods (
    id                   text PRIMARY KEY DEFAULT gen_random_uuid()::text,
    tenant_id            text NOT NULL REFERENCES tenants (id),
    node_id              text NOT NULL REFERENCES cloud_pod_nodes (id),
    vmid                 integer NOT NULL CHECK (vmid BETWEEN 100 AND 999999999),
    hostname             text NOT NULL,
    ip                   text NOT NULL DEFAULT '',
    region               text NOT NULL DEFAULT 'migra-us-east-1',
    status               text NOT NULL DEFAULT 'provisioning'
                         CHECK (status IN ('provisioning', 'active', 'failed', 'deleting', 'deleted')),
    power_state          text NOT NULL DEFAULT 'unknown' CHECK (power_state IN ('running', 'stopped', 'unknown')),
    error                text,
    plan_snapshot        jsonb,
    cores                integer NOT NULL CHECK (cores > 0),
    memory_mb            integer NOT NULL CHECK (memory_mb > 0),
    swap_mb              integer NOT NULL DEFAULT 0 CHECK (swap_mb >= 0),
    disk_gb              integer NOT NULL DEFAULT 8 CHECK (disk_gb > 0),
    storage              text NOT NULL DEFAULT 'clients-main',
    bridge               text NOT NULL DEFAULT 'vmbr0',
    created_at           timestamptz NOT NULL DEFAULT now(),
    updated_at           timestamptz NOT NULL DEFAULT now(),
    deleted_at           timestamptz,
    last_backup_at       timestamptz,
    last_health_status   text CHECK (last_health_status IN ('ok', 'warning', 'critical')),
    last_health_checked  timestamptz,
    last_health          jsonb,
    blueprint_id         text REFERENCES blueprints (id)
);
-- A vmid and an address can be used again once nothing of the old pod is left.
CREATE UNIQUE INDEX cloud_pods_live_vmid ON cloud_pods (vmid) WHERE status NOT IN ('deleted', 'failed');
CREATE UNIQUE INDEX cloud_pods_live_ip ON cloud_pods (ip) WHERE ip <> '' AND status NOT IN ('deleted', 'failed');
CREATE INDEX cloud_pods_tenant ON cloud_pods (tenant_id, created_at DESC, id DESC);
CREATE INDEX cloud_pods_vmid ON cloud_pods (vmid, created_at DESC);
CREATE INDEX cloud_pods_node ON cloud_pods (node_id);

-- A row per pod; the seed's own INSERT writes one per node without a pod, which counts as zero.
CREATE TABLE cloud_pod_allocations (
    id              text PRIMARY KEY DEFAULT gen_random_uuid()::text,
    node_id         text NOT NULL REFERENCES cloud_pod_nodes (id),
    cloud_pod_id    text UNIQUE REFERENCES cloud_pods (id),
    tenant_id       text REFERENCES tenants (id),
    role            text,
    used_cpu_cores  integer NOT NULL DEFAULT 0 CHECK (used_cpu_cores >= 0),
    used_memory_mb  integer NOT NULL DEFAULT 0 CHECK (used_memory_mb >= 0),
    used_disk_gb    integer NOT NULL DEFAULT 0 CHECK (used_disk_gb >= 0),
    created_at      timestamptz NOT NULL DEFAULT now(),
    updated_at      timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX cloud_pod_allocations_node ON cloud_pod_allocations (node_id);

CREATE TABLE api_tokens (
    id            text PRIMARY KEY DEFAULT gen_random_uuid()::text,
    name          text NOT NULL,
    kind          text NOT NULL DEFAULT 'service' CHECK (kind IN ('service')),
    token_hash    text NOT NULL UNIQUE,
    created_at    timestamptz NOT NULL DEFAULT now(),
    expires_at    timestamptz,
    revoked_at    timestamptz
);

CREATE TABLE cloud_pod_jobs (
    id            text PRIMARY KEY DEFAULT gen_random_uuid()::text,
    cloud_pod_id  text REFERENCES cloud_pods (id),
    tenant_id     text REFERENCES tenants (id),
    node_id       text REFERENCES cloud_pod_nodes (id),
    type          text NOT NULL,
    status        text NOT NULL DEFAULT 'queued' CHECK (status IN ('queued', 'running', 'success', 'failed', 'cancelled')),
    payload       jsonb NOT NULL DEFAULT '{}'::jsonb,
    result        jsonb,
    error         text,
    failure       jsonb,
    requested_by  text,
    priority      integer NOT NULL DEFAULT 100,
    changes_pod   boolean NOT NULL DEFAULT true,
    attempt       integer NOT NULL DEFAULT 0,  -- counts claims; fences every write of a run
    tries         integer NOT NULL DEFAULT 0,  -- counts runs of the action's playbook; bounded by max_tries
    max_tries     integer NOT NULL DEFAULT 3,
    lost          boolean NOT NULL DEFAULT false,
    worker        text,
    run_after     timestamptz NOT NULL DEFAULT now(),
    woken_at      timestamptz,
    lease_until   timestamptz,
    created_at    timestamptz NOT NULL DEFAULT now(),
    started_at    timestamptz,
    finished_at   timestamptz,
    CHECK ((status = 'running') = (lease_until IS NOT NULL))
);
CREATE INDEX cloud_pod_jobs_queued ON cloud_pod_jobs (priority, created_at, id) WHERE status = 'queued';
CREATE INDEX cloud_pod_jobs_leases ON cloud_pod_jobs (lease_until) WHERE status = 'running';
CREATE INDEX cloud_pod_jobs_pod ON cloud_pod_jobs (cloud_pod_id, created_at DESC);
CREATE INDEX cloud_pod_jobs_tenant ON cloud_pod_jobs (tenant_id, created_at DESC);
-- The claim looks for it too; the index makes a second changing run of one pod impossible whatever the claim does.
CREATE UNIQUE INDEX cloud_pod_jobs_one_change ON cloud_pod_jobs (cloud_pod_id) WHERE status = 'running' AND changes_pod;

CREATE TABLE cloud_pod_events (
    id            text PRIMARY KEY DEFAULT gen_random_uuid()::text,
    seq           bigint GENERATED BY DEFAULT AS IDENTITY UNIQUE,
    cloud_pod_id  text REFERENCES cloud_pods (id),
    tenant_id     text REFERENCES tenants (id),
    job_id        text REFERENCES cloud_pod_jobs (id),
    type          text NOT NULL CHECK (type IN ('INFO', 'WARN', 'ERROR', 'STATE_CHANGE', 'BACKUP', 'HEALTH')),
    message       text NOT NULL,
    data          jsonb,
    created_at    timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX cloud_pod_events_job ON cloud_pod_events (job_id, seq);
CREATE INDEX cloud_pod_events_pod ON cloud_pod_events (cloud_pod_id, seq);

DO $$
DECLARE
    ours record;
BEGIN
    FOR ours IN SELECT c.relname FROM pg_class c WHERE c.relnamespace = 'cloudpods'::regnamespace AND c.relkind = 'r'
                AND c.relname <> 'cloudpods_migrations'
    LOOP
        PERFORM cloudpods.to_public(ours.relname);
    END LOOP;
END
$$;

SET LOCAL search_path = cloudpods, public;
