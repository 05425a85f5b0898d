-- How far each projection has read, written in the same transaction as its rows.
-- Its rows stand in a table of their own, projection_<name>_v<version> (key, data), so that a
-- changed fold can be built beside the old one.

CREATE TABLE projections (
    name    text COLLATE "C" NOT NULL,
    version bigint NOT NULL,
    pos     bigint NOT NULL,
    hash    bytea  NOT NULL,
    digest  bytea  NOT NULL,
    PRIMARY KEY (name, version)
);
