SET LOCAL search_path = cloudpods, public;

-- A reader that saw number 7 must never be shown number 6 later. A number taken at the INSERT would do just that when its
-- transaction commits last. Hence an event is written with a negative number, which only its own transaction can see, and gets
-- its real one as the transaction commits: under the stream's lock, which is held until others can see the event. It is the last
-- lock that a transaction takes, so nobody who holds it waits for anybody.

CREATE FUNCTION cloudpods.events_unnumbered() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- Whatever the INSERT said: nobody chooses a number.
    NEW.seq := -greatest(abs(NEW.seq), 1);
    RETURN NEW;
END
$$;

-- With its owner's rights: who may insert events needs no right to update them.
CREATE FUNCTION cloudpods.events_number() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = cloudpods, public, pg_temp AS $$
BEGIN
    UPDATE cloud_pod_events SET seq = 0 WHERE id = NEW.id AND seq < 0;
    RETURN NULL;
END
$$;

-- The number is given here, not where it is asked for: then there is no UPDATE, whoever sends it, that could do anything else.
CREATE FUNCTION cloudpods.events_keep() RETURNS trigger LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = cloudpods, public, pg_temp AS $$
BEGIN
    NEW.seq := OLD.seq;
    IF OLD.seq > 0 OR NEW IS DISTINCT FROM OLD THEN
        RAISE EXCEPTION 'events are only appended: event % cannot be changed', OLD.id
            USING ERRCODE = 'restrict_violation', HINT = 'Append an event that says what is different.';
    END IF;
    PERFORM pg_advisory_xact_lock(hashtextextended('cloudpods:events', 0));
    NEW.seq := nextval('cloud_pod_events_seq_seq');
    RETURN NEW;
END
$$;

CREATE FUNCTION cloudpods.events_refuse() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'events are only appended: % is refused', TG_OP
        USING ERRCODE = 'restrict_violation', HINT = 'What happened stays known.';
END
$$;

CREATE TRIGGER unnumbered BEFORE INSERT ON cloud_pod_events
    FOR EACH ROW EXECUTE FUNCTION cloudpods.events_unnumbered();
CREATE CONSTRAINT TRIGGER number AFTER INSERT ON cloud_pod_events DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION cloudpods.events_number();
CREATE TRIGGER keep BEFORE UPDATE ON cloud_pod_events
    FOR EACH ROW EXECUTE FUNCTION cloudpods.events_keep();
CREATE TRIGGER refuse BEFORE DELETE OR TRUNCATE ON cloud_pod_events
    FOR EACH STATEMENT EXECUTE FUNCTION cloudpods.events_refuse();

-- What is listed, each in the order of the numbers. Events that have none yet are nobody's to read.
CREATE INDEX ON cloud_pod_events (tenant_id, seq) WHERE seq > 0;
CREATE INDEX ON cloud_pod_events (type, seq) WHERE seq > 0;
CREATE INDEX ON cloud_pod_events ((data ->> 'action'), seq) WHERE seq > 0;
