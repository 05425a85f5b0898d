-- Which types and versions of events the log holds, and where the first of each stands: a program
-- that does not know one of them must neither read past it nor append, and must see that at once.

CREATE TABLE event_shapes (
    type      text COLLATE "C" NOT NULL,
    schema    bigint NOT NULL,
    first_pos bigint NOT NULL,
    PRIMARY KEY (type, schema)
);

INSERT INTO event_shapes SELECT type, schema, min(pos) FROM events GROUP BY type, schema;

CREATE FUNCTION events_shape() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO runoff.event_shapes SELECT type, schema, min(pos) FROM added GROUP BY type, schema
    ON CONFLICT DO NOTHING;
    RETURN NULL;
END
$$;

CREATE TRIGGER events_new_shape AFTER INSERT ON events
REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION events_shape();
