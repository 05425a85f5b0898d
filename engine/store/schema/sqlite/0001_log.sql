-- The log: the only truth.  Every other table in this file can be deleted and rebuilt from it.

CREATE TABLE events (
    pos         INTEGER PRIMARY KEY,
    stream      TEXT    NOT NULL,
    version     INTEGER NOT NULL,
    command_id  TEXT    NOT NULL,
    idx         INTEGER NOT NULL,
    request     BLOB    NOT NULL,
    type        TEXT    NOT NULL,
    schema      INTEGER NOT NULL,
    occurred_us INTEGER NOT NULL,
    recorded_us INTEGER NOT NULL,
    cause       INTEGER,
    epoch       INTEGER NOT NULL,
    session     TEXT,
    run         TEXT,
    phase       TEXT,
    attempt     TEXT,
    actor       TEXT    NOT NULL,
    code        TEXT    NOT NULL,
    data        TEXT    NOT NULL,
    hash        BLOB    NOT NULL,
    CHECK (cause IS NULL OR cause < pos)
) STRICT;

CREATE UNIQUE INDEX events_by_stream  ON events (stream, version);
CREATE UNIQUE INDEX events_by_command ON events (command_id, idx);
CREATE INDEX events_by_run     ON events (run, phase) WHERE run IS NOT NULL;
CREATE INDEX events_by_attempt ON events (attempt)    WHERE attempt IS NOT NULL;

-- A row must continue the log: right behind its predecessor, of no older epoch, no earlier time.
CREATE TRIGGER events_append_only BEFORE INSERT ON events
WHEN EXISTS (SELECT 1 FROM events WHERE pos >= NEW.pos)
  OR NEW.pos IS NOT 1 AND NOT EXISTS (
        SELECT 1 FROM events WHERE pos = NEW.pos - 1
           AND epoch <= NEW.epoch AND recorded_us <= NEW.recorded_us)
BEGIN
    SELECT raise(ABORT, 'runoff: the log only grows at its end');
END;

-- INSERT OR REPLACE deletes the rows it collides with and fires no delete trigger, so a collision
-- is refused before it happens.
CREATE TRIGGER events_replace_nothing BEFORE INSERT ON events
WHEN EXISTS (SELECT 1 FROM events WHERE stream = NEW.stream AND version = NEW.version)
  OR EXISTS (SELECT 1 FROM events WHERE command_id = NEW.command_id AND idx = NEW.idx)
BEGIN
    SELECT raise(ABORT, 'runoff: the key of an event is taken');
END;

CREATE TRIGGER events_never_change BEFORE UPDATE ON events
BEGIN
    SELECT raise(ABORT, 'runoff: events are never changed');
END;

CREATE TRIGGER events_never_go BEFORE DELETE ON events
BEGIN
    SELECT raise(ABORT, 'runoff: events are never deleted');
END;

-- Nothing runs twice at once, whoever writes: the database itself keeps one open attempt a phase.
CREATE TABLE open_attempts (
    attempt     TEXT    PRIMARY KEY,
    run         TEXT    NOT NULL,
    phase       TEXT    NOT NULL,
    started_pos INTEGER NOT NULL,
    closed_pos  INTEGER
) STRICT, WITHOUT ROWID;

CREATE UNIQUE INDEX one_open_attempt_per_phase ON open_attempts (run, phase)
WHERE closed_pos IS NULL;

CREATE TRIGGER attempts_open AFTER INSERT ON events WHEN NEW.type = 'attempt.started'
BEGIN
    INSERT INTO open_attempts VALUES (NEW.attempt, NEW.run, NEW.phase, NEW.pos, NULL);
END;

CREATE TRIGGER attempts_close_once BEFORE INSERT ON events WHEN NEW.type = 'attempt.finished'
  AND NOT EXISTS (SELECT 1 FROM open_attempts
                  WHERE attempt = NEW.attempt AND run = NEW.run AND phase = NEW.phase
                    AND closed_pos IS NULL)
BEGIN
    SELECT raise(ABORT, 'runoff: the attempt is not open');
END;

CREATE TRIGGER attempts_close AFTER INSERT ON events WHEN NEW.type = 'attempt.finished'
BEGIN
    UPDATE open_attempts SET closed_pos = NEW.pos WHERE attempt = NEW.attempt;
END;
