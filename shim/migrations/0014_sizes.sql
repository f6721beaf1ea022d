SET LOCAL search_path = cloudpods, public;

-- It comes back with them. Of those that are there already it is not known.
ALTER TABLE cloud_pod_snapshots ADD COLUMN cores integer, ADD COLUMN memory_mb integer;
ALTER TABLE cloud_pod_backups ADD COLUMN cores integer, ADD COLUMN memory_mb integer;

-- Orders that were under way when shares were not yet booked with the order: what a pod may grow to is booked on its node.
UPDATE cloud_pod_allocations a
SET used_cpu_cores = greatest(a.used_cpu_cores, p.cores + e.cpu_cores),
    used_memory_mb = greatest(a.used_memory_mb, p.memory_mb + e.ram_mb)
FROM cloud_pods p, (
    SELECT cloud_pod_id, max(cpu_cores) AS cpu_cores, max(ram_mb) AS ram_mb
    FROM quota_entries WHERE state = 'reserved' AND pods = 0 GROUP BY cloud_pod_id
) e
WHERE p.id = a.cloud_pod_id AND e.cloud_pod_id = p.id AND p.status = 'active';
