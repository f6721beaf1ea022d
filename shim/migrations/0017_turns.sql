SET LOCAL search_path = cloudpods, public;

-- Start-time fair queuing: how far each node's queue of each priority has come, and when a job was last claimed from it.
-- Neither table has a foreign key: a claim, for which all others wait, must not wait for who holds the node's or tenant's row.
CREATE TABLE cloudpods.cloud_pod_turns (
    node_id       text NOT NULL,
    priority      integer NOT NULL,
    turn          bigint NOT NULL,
    claimed_at    timestamptz NOT NULL,
    PRIMARY KEY (node_id, priority)
);
SELECT cloudpods.to_public('cloud_pod_turns');

-- When a job of each tenant was last claimed; the clock's own looks at nodes are those of ''.
CREATE TABLE cloudpods.cloud_pod_claims (
    tenant_id     text PRIMARY KEY,
    claimed_at    timestamptz NOT NULL
);
SELECT cloudpods.to_public('cloud_pod_claims');

-- A tenant's second job of a node and priority has its turn after the first ones of all other tenants.
ALTER TABLE cloud_pod_jobs ADD COLUMN turn bigint NOT NULL DEFAULT 0;
UPDATE cloud_pod_jobs j SET turn = t.turn FROM (
    SELECT id, row_number() OVER (PARTITION BY node_id, priority, tenant_id ORDER BY created_at, id) AS turn
    FROM cloud_pod_jobs WHERE status = 'queued'
) t WHERE t.id = j.id;

-- A tenant's last turn in a queue; for the claim, the best of each node and type (but for rehearsals), the unfinished changes of a
-- pod, and what runs on a node. `lower`, though all are so, names these indexes to the planner: its statistics of what is queued or running are always old, and of indexes that it believes empty it takes any.
CREATE INDEX ON cloud_pod_jobs (node_id, priority, coalesce(tenant_id, ''), turn) WHERE lower(status) = 'queued';
CREATE INDEX ON cloud_pod_jobs (node_id, type, priority, turn, created_at, id)
    WHERE lower(status) = 'queued' AND NOT waits AND NOT dry_run;
CREATE INDEX ON cloud_pod_jobs (cloud_pod_id) WHERE changes_pod AND lower(status) IN ('queued', 'running');
CREATE INDEX ON cloud_pod_jobs (node_id) WHERE lease_until IS NOT NULL;
DO $$
DECLARE
    replaced record;
BEGIN
    FOR replaced IN SELECT indexrelid::regclass AS name FROM pg_index
                    WHERE indrelid = 'cloud_pod_jobs'::regclass AND NOT indisunique AND indpred IS NOT NULL
                    AND (pg_get_indexdef(indexrelid) LIKE '%(node_id, priority, created_at, id NULLS FIRST)%'
                         OR pg_get_expr(indpred, indrelid) LIKE '(changes_pod AND (status = ANY%')
    LOOP
        EXECUTE format('DROP INDEX %s', replaced.name);
    END LOOP;
END
$$;

-- How far a node's queue has come, or the tenant's own in it: its next job there has its turn after that. As it was when the
-- statement that asks began, however many rows that has written.
CREATE FUNCTION cloudpods.last_turn(of_node text, of_priority integer, of_tenant text) RETURNS bigint LANGUAGE plpgsql STABLE
SET search_path = cloudpods, public, pg_temp SET enable_sort = off SET enable_seqscan = off AS $$
BEGIN
    RETURN greatest(
        (SELECT turn FROM cloud_pod_turns WHERE node_id = of_node AND priority = of_priority),
        (SELECT turn FROM cloud_pod_jobs WHERE node_id = of_node AND priority = of_priority
         AND coalesce(tenant_id, '') = coalesce(of_tenant, '') AND lower(status) = 'queued' ORDER BY turn DESC LIMIT 1),
        0);
END
$$;
CREATE FUNCTION cloudpods.jobs_turn() RETURNS trigger LANGUAGE plpgsql
SET search_path = cloudpods, public, pg_temp AS $$
BEGIN
    -- Row by row, so that each of the many that one statement writes comes after the one before it.
    NEW.turn := 1 + cloudpods.last_turn(NEW.node_id, NEW.priority, NEW.tenant_id);
    RETURN NEW;
END
$$;
CREATE TRIGGER turn_insert BEFORE INSERT ON cloud_pod_jobs
    FOR EACH ROW WHEN (NEW.status = 'queued') EXECUTE FUNCTION cloudpods.jobs_turn();

-- A queue is what it was not minutes ago: the planner is told of it soon, and the claims' way is cleared of what was claimed.
ALTER TABLE cloud_pod_jobs SET (autovacuum_vacuum_scale_factor = 0.02, autovacuum_analyze_scale_factor = 0.02);
