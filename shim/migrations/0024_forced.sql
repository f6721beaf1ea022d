SET LOCAL search_path = cloudpods, public;

-- Somebody wants the stack's pods destroyed although what its steps did elsewhere cannot be undone.
ALTER TABLE blueprint_deployments ADD COLUMN forced boolean NOT NULL DEFAULT false;
