CREATE SCHEMA IF NOT EXISTS cloudpods;

-- Moves a table of the schema "cloudpods" to "public", where its name is free there, and the names of the indexes and sequences
-- that move with it: a panel's own table may have been renamed and kept its index's name.
CREATE OR REPLACE FUNCTION cloudpods.to_public(table_name text) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    ours oid := format('cloudpods.%I', table_name)::regclass;
BEGIN
    IF to_regtype(format('public.%I', table_name)) IS NULL AND NOT EXISTS (
        SELECT 1 FROM pg_class theirs WHERE theirs.relnamespace = 'public'::regnamespace AND theirs.relname IN (
            SELECT table_name
            UNION ALL SELECT i.relname FROM pg_class i JOIN pg_index x ON x.indexrelid = i.oid WHERE x.indrelid = ours
            UNION ALL SELECT s.relname FROM pg_class s JOIN pg_depend d ON d.objid = s.oid
                      WHERE d.refobjid = ours AND s.relkind = 'S')
    ) THEN
        EXECUTE format('ALTER TABLE cloudpods.%I SET SCHEMA public', table_name);
    END IF;
END
$$;
