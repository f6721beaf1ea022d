SET LOCAL search_path = cloudpods, public;

-- A user's id is the panel's own string, as in a job's `requested_by`; it need not be a row of ours.
ALTER TABLE api_tokens
    ADD COLUMN tenant_id text REFERENCES tenants (id) ON DELETE CASCADE,
    ADD COLUMN role text CHECK (role IN ('owner', 'admin', 'dev', 'billing')),
    ADD COLUMN user_id text,
    ADD COLUMN last_used_at timestamptz;

-- Widens what the first step allowed: nothing that was right becomes wrong.
ALTER TABLE api_tokens
    DROP CONSTRAINT api_tokens_kind_check,
    ADD CONSTRAINT api_tokens_kind_check CHECK (
        kind = 'service' AND num_nonnulls(tenant_id, role, user_id) = 0
        OR kind = 'user' AND num_nonnulls(tenant_id, role, user_id) = 3
    );

CREATE INDEX api_tokens_newest ON api_tokens (created_at DESC, id DESC);
CREATE INDEX api_tokens_user ON api_tokens (user_id) WHERE user_id IS NOT NULL;
CREATE INDEX api_tokens_tenant ON api_tokens (tenant_id, created_at DESC, id DESC);
