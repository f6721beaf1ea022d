SET LOCAL search_path = cloudpods, public;

-- Placement asks on which nodes the tenant is.
CREATE INDEX ON cloud_pod_allocations (tenant_id);
