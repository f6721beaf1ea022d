SET LOCAL search_path = cloudpods, public;

-- The kinds of findings that are still to be mended by orders; empty once that was done.
ALTER TABLE drift_reports ADD COLUMN mends jsonb NOT NULL DEFAULT '[]'::jsonb CHECK (jsonb_typeof(mends) = 'array');
CREATE INDEX ON drift_reports (created_at) WHERE mends <> '[]'::jsonb;
