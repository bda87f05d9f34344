CREATE TABLE lease (
    phone TEXT PRIMARY KEY,
    who TEXT NOT NULL,
    reason TEXT NOT NULL,
    since_unix_ms INTEGER NOT NULL,
    until_unix_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
