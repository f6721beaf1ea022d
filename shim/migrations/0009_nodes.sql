SET LOCAL search_path = cloudpods, public;

-- Whatever else was written there kept new pods away and let jobs run, as `cordoned` does.
UPDATE cloud_pod_nodes SET status = 'cordoned' WHERE status NOT IN ('active', 'cordoned', 'draining', 'offline');

-- A total times its over-commit is what pods may take. `storages` NULL: not known, anything may be there.
-- A removed node keeps its row: its pods, jobs and archives stay known.
ALTER TABLE cloud_pod_nodes
    ADD CHECK (status IN ('active', 'cordoned', 'draining', 'offline')),
    ADD COLUMN cpu_overcommit numeric(6, 3) NOT NULL DEFAULT 4 CHECK (cpu_overcommit > 0),
    ADD COLUMN memory_overcommit numeric(6, 3) NOT NULL DEFAULT 1 CHECK (memory_overcommit > 0),
    ADD COLUMN disk_overcommit numeric(6, 3) NOT NULL DEFAULT 1 CHECK (disk_overcommit > 0),
    ADD COLUMN storages jsonb CHECK (jsonb_typeof(storages) = 'array'),
    ADD COLUMN synced_at timestamptz,
    ADD COLUMN deleted_at timestamptz,
    ADD CHECK (deleted_at IS NULL OR status = 'offline');
CREATE INDEX ON cloud_pod_nodes (created_at DESC, id DESC);

-- Placement sums what is taken of every node each time; these columns beside the key spare it the table.
CREATE INDEX ON cloud_pod_allocations (node_id) INCLUDE (used_cpu_cores, used_memory_mb, used_disk_gb, tenant_id, role);

-- Why each node was taken or refused, as it was when the job was ordered.
ALTER TABLE cloud_pod_jobs ADD COLUMN placement jsonb;

-- Made when a region is first used. No range of its own: the settings'. `next_vmid` only grows: a vmid is never given twice.
CREATE TABLE cloudpods.regions (
    name             text PRIMARY KEY,
    vmid_first       integer,
    vmid_auto_first  integer,
    vmid_last        integer,
    next_vmid        integer NOT NULL DEFAULT 0,
    created_at       timestamptz NOT NULL DEFAULT now(),
    updated_at       timestamptz NOT NULL DEFAULT now(),
    CHECK (num_nulls(vmid_first, vmid_auto_first, vmid_last) IN (0, 3)),
    CHECK (vmid_first BETWEEN 100 AND vmid_auto_first AND vmid_auto_first <= vmid_last AND vmid_last < 900000000)
);
SELECT cloudpods.to_public('regions');

-- `last_given` is the address that was given last of a pool that several nodes share: the search for the next goes on from there.
ALTER TABLE address_pools
    ADD COLUMN last_given inet,
    ADD COLUMN updated_at timestamptz NOT NULL DEFAULT now();
CREATE INDEX ON address_pools (created_at DESC, id DESC);

-- Two pools with one address would hand it out twice. Of one length, since PostgreSQL compares networks before addresses.
CREATE TYPE cloudpods.addresses AS RANGE (subtype = inet);
ALTER TABLE address_pools ADD EXCLUDE
    USING gist (cloudpods.addresses(set_masklen(first_ip, 32), set_masklen(last_ip, 32), '[]') WITH &&);

-- The addresses of pods that failed and left something on their node.
CREATE INDEX ON cloud_pods (ip) WHERE ip <> '' AND status = 'failed';
