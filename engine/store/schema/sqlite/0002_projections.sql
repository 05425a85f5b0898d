-- How far each projection has read, written in the same transaction as its rows.
-- Its rows stand in a table of their own, projection_<name>_v<version> (key, data), so that a
-- changed fold can be built beside the old one.

CREATE TABLE projections (
    name    TEXT    NOT NULL,
    version INTEGER NOT NULL,
    pos     INTEGER NOT NULL,
    hash    BLOB    NOT NULL,
    digest  BLOB    NOT NULL,
    PRIMARY KEY (name, version)
) STRICT, WITHOUT ROWID;
