CREATE TABLE token (
    id TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('view', 'use', 'admin')),
    secret_sha256 TEXT NOT NULL,
    created_unix_ms INTEGER NOT NULL,
    expires_unix_ms INTEGER
) STRICT, WITHOUT ROWID;
