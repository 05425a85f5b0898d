-- Which types and versions of events the log holds, and where the first of each stands: a program
-- that does not know one of them must neither read past it nor append, and must see that at once.

CREATE TABLE event_shapes (
    type      TEXT    NOT NULL,
    schema    INTEGER NOT NULL,
    first_pos INTEGER NOT NULL,
    PRIMARY KEY (type, schema)
) STRICT, WITHOUT ROWID;

INSERT INTO event_shapes SELECT type, schema, min(pos) FROM events GROUP BY type, schema;

CREATE TRIGGER events_new_shape AFTER INSERT ON events
WHEN NOT EXISTS (SELECT 1 FROM event_shapes WHERE type = NEW.type AND schema = NEW.schema)
BEGIN
    INSERT INTO event_shapes VALUES (NEW.type, NEW.schema, NEW.pos);
END;
