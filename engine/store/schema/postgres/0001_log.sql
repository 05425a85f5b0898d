-- The log: the only truth.  Every other table in this schema can be deleted and rebuilt from it.
-- Texts compare by their bytes, as everywhere else in Runoff, whatever the database's language is.

CREATE TABLE events (
    pos         bigint PRIMARY KEY,
    stream      text COLLATE "C" NOT NULL,
    version     bigint NOT NULL,
    command_id  text COLLATE "C" NOT NULL,
    idx         bigint NOT NULL,
    request     bytea  NOT NULL,
    type        text COLLATE "C" NOT NULL,
    schema      bigint NOT NULL,
    occurred_us bigint NOT NULL,
    recorded_us bigint NOT NULL,
    cause       bigint,
    epoch       bigint NOT NULL,
    session     text COLLATE "C",
    run         text COLLATE "C",
    phase       text COLLATE "C",
    attempt     text COLLATE "C",
    actor       text COLLATE "C" NOT NULL,
    code        text COLLATE "C" NOT NULL,
    data        text COLLATE "C" NOT NULL,
    hash        bytea  NOT NULL,
    CHECK (cause IS NULL OR cause < pos)
);

CREATE UNIQUE INDEX events_by_stream  ON events (stream, version);
CREATE UNIQUE INDEX events_by_command ON events (command_id, idx);
CREATE INDEX events_by_run     ON events (run, phase) WHERE run IS NOT NULL;
CREATE INDEX events_by_attempt ON events (attempt)    WHERE attempt IS NOT NULL;

-- The last row again.  Whoever appends locks it first, so positions are given out in the order of
-- commits and no reader can see a row whose predecessor is still on its way.
CREATE TABLE head (
    sole        boolean PRIMARY KEY DEFAULT true CHECK (sole),
    pos         bigint NOT NULL,
    hash        bytea  NOT NULL,
    epoch       bigint NOT NULL,
    recorded_us bigint NOT NULL
) WITH (fillfactor = 10);

INSERT INTO head VALUES (true, 0, decode(repeat('00', 32), 'hex'), 0, 0);

-- Nothing runs twice at once, whoever writes: the database itself keeps one open attempt a phase.
CREATE TABLE open_attempts (
    attempt     text COLLATE "C" PRIMARY KEY,
    run         text COLLATE "C" NOT NULL,
    phase       text COLLATE "C" NOT NULL,
    started_pos bigint NOT NULL,
    closed_pos  bigint
);

CREATE UNIQUE INDEX one_open_attempt_per_phase ON open_attempts (run, phase)
WHERE closed_pos IS NULL;

-- Rows must continue the log: right behind their predecessors, of no older epoch, no earlier time.
-- Once per statement, because a batch is one statement.
CREATE FUNCTION events_continue() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    last runoff.head%ROWTYPE;
    step record;
BEGIN
    SELECT * INTO STRICT last FROM runoff.head FOR UPDATE;
    IF EXISTS (
        SELECT 1 FROM (
            SELECT pos, epoch, recorded_us,
                   lag(pos, 1, last.pos) OVER steps AS pos_before,
                   lag(epoch, 1, last.epoch) OVER steps AS epoch_before,
                   lag(recorded_us, 1, last.recorded_us) OVER steps AS recorded_us_before
              FROM added WINDOW steps AS (ORDER BY pos)
        ) AS each_step
        WHERE pos <> pos_before + 1 OR epoch < epoch_before OR recorded_us < recorded_us_before
    ) THEN
        RAISE EXCEPTION 'runoff: the log only grows at its end' USING ERRCODE = 'RO001';
    END IF;
    FOR step IN
        SELECT pos, type, run, phase, attempt FROM added
         WHERE type IN ('attempt.started', 'attempt.finished') ORDER BY pos
    LOOP
        IF step.type = 'attempt.started' THEN
            INSERT INTO runoff.open_attempts
            VALUES (step.attempt, step.run, step.phase, step.pos, NULL);
        ELSE
            UPDATE runoff.open_attempts SET closed_pos = step.pos
             WHERE attempt = step.attempt AND run = step.run AND phase = step.phase
               AND closed_pos IS NULL;
            IF NOT FOUND THEN
                RAISE EXCEPTION 'runoff: the attempt is not open' USING ERRCODE = 'RO002';
            END IF;
        END IF;
    END LOOP;
    UPDATE runoff.head SET pos = newest.pos, hash = newest.hash, epoch = newest.epoch,
                           recorded_us = newest.recorded_us
      FROM (SELECT * FROM added ORDER BY pos DESC LIMIT 1) AS newest;
    -- A hint for those who wait; whoever misses it looks again by himself.
    PERFORM pg_notify('runoff', '') WHERE EXISTS (SELECT 1 FROM added);
    RETURN NULL;
END
$$;

CREATE TRIGGER events_append_only AFTER INSERT ON events
REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION events_continue();

CREATE FUNCTION events_stay() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'runoff: events are never changed or deleted' USING ERRCODE = 'RO002';
END
$$;

CREATE TRIGGER events_never_change BEFORE UPDATE ON events
FOR EACH ROW EXECUTE FUNCTION events_stay();

CREATE TRIGGER events_never_go BEFORE DELETE ON events
FOR EACH ROW EXECUTE FUNCTION events_stay();

CREATE TRIGGER events_never_vanish BEFORE TRUNCATE ON events
FOR EACH STATEMENT EXECUTE FUNCTION events_stay();
