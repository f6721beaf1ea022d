SET LOCAL search_path = cloudpods, public;

-- A deleted tenant keeps its row: its pods, jobs and events stay known.
ALTER TABLE tenants ADD COLUMN deleted_at timestamptz;

ALTER TABLE plans ADD COLUMN updated_at timestamptz NOT NULL DEFAULT now();

-- Whether the limits are the plan's and change with it, or were set for this tenant.
ALTER TABLE tenant_quotas ADD COLUMN follows_plan boolean NOT NULL DEFAULT true;
UPDATE tenant_quotas q SET follows_plan = false FROM tenants t JOIN plans p ON p.id = t.plan_id
WHERE t.id = q.tenant_id AND (q.max_cloud_pods, q.max_cpu_cores, q.max_ram_mb, q.max_disk_gb)
      IS DISTINCT FROM (p.max_cloud_pods, p.max_cpu_cores, p.max_ram_mb, p.max_disk_gb);

-- The lists, newest first, whole and by each filter. The name is PostgreSQL's choice, beside a panel's tables it may be any.
CREATE INDEX ON tenants (created_at DESC, id DESC) WHERE deleted_at IS NULL;
CREATE INDEX ON tenants (created_at DESC, id DESC) WHERE deleted_at IS NOT NULL;
CREATE INDEX ON tenants (plan_id, created_at DESC, id DESC);
CREATE INDEX ON tenants (region, created_at DESC, id DESC);
CREATE INDEX ON tenants (owner_user_id, created_at DESC, id DESC);
CREATE INDEX ON users (created_at DESC, id DESC);
CREATE INDEX ON users (role, created_at DESC, id DESC);
CREATE INDEX ON plans (created_at DESC, id DESC);
