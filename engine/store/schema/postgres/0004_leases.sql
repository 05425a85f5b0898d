-- Which engines live: renewed by heartbeats, which are no events.  Times are the server's, so that
-- the clocks of hosts do not matter.  Whose lease lapsed is an event; this table only hints at it.

CREATE TABLE leases (
    session     text COLLATE "C" PRIMARY KEY,
    epoch       bigint NOT NULL,
    place       text COLLATE "C" NOT NULL,
    pid         bigint NOT NULL,
    start_ticks bigint,
    expires     timestamptz NOT NULL,
    renewals    bigint NOT NULL
);
