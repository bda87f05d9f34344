CREATE TABLE detached (
    endpoint TEXT PRIMARY KEY,
    who TEXT NOT NULL,
    since_unix_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
