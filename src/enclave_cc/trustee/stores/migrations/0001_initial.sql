CREATE TABLE item (
    namespace TEXT NOT NULL,
    key       TEXT NOT NULL,
    value     BLOB NOT NULL,
    PRIMARY KEY (namespace, key)
) WITHOUT ROWID, STRICT;

CREATE TABLE chain (
    sequence   INTEGER PRIMARY KEY,
    request_id TEXT NOT NULL,
    record     BLOB NOT NULL,
    digest     BLOB NOT NULL
) STRICT;

CREATE INDEX chain_by_request ON chain (request_id, sequence);

-- The log is append-only for every user of the database file, not only for this program.
CREATE TRIGGER chain_is_not_rewritten BEFORE UPDATE ON chain
BEGIN SELECT RAISE(ABORT, 'the audit chain is append-only'); END;

CREATE TRIGGER chain_is_not_shortened BEFORE DELETE ON chain
BEGIN SELECT RAISE(ABORT, 'the audit chain is append-only'); END;
