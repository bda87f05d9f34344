-- user_version 12
CREATE TABLE rollout (
    number INTEGER PRIMARY KEY,
    state TEXT NOT NULL,
    why TEXT NOT NULL,
    source_kind TEXT NOT NULL CHECK (source_kind IN ('url', 'file')),
    source TEXT NOT NULL,
    package TEXT NOT NULL,
    version_code INTEGER NOT NULL,
    version_name TEXT NOT NULL,
    sha256 TEXT,
    created_unix_ms INTEGER NOT NULL,
    ended_unix_ms INTEGER
, strategy TEXT NOT NULL
    DEFAULT '{"waves":["1","10","50"],"approve":"first","soak_s":0,"max_failures":"0","retries":0}', open_waves INTEGER NOT NULL DEFAULT 4294967295, soaks_until_unix_ms INTEGER, accepted_failures INTEGER NOT NULL DEFAULT 0, joins TEXT, closes_unix_ms INTEGER, starts_unix_ms INTEGER, takes_back INTEGER, stands INTEGER, stands_over TEXT) STRICT
CREATE TABLE rollout_phone (
    rollout INTEGER NOT NULL REFERENCES rollout (number) ON DELETE CASCADE,
    phone TEXT NOT NULL,
    position INTEGER NOT NULL,
    wave INTEGER NOT NULL,
    state TEXT NOT NULL,
    attempts INTEGER NOT NULL,
    interrupted INTEGER NOT NULL,
    why TEXT,
    notice INTEGER,
    report TEXT NOT NULL CHECK (report IN ('none', 'due', 'sent')), retried INTEGER NOT NULL DEFAULT 0, unfit_since_unix_ms INTEGER, version_before INTEGER,
    PRIMARY KEY (rollout, phone)
) STRICT, WITHOUT ROWID
CREATE TABLE audit (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    at_unix_ms INTEGER NOT NULL,
    who TEXT NOT NULL,
    what TEXT NOT NULL,
    target TEXT NOT NULL
) STRICT
CREATE TABLE port_off (
    hub TEXT NOT NULL,
    port INTEGER NOT NULL,
    since_unix_ms INTEGER NOT NULL,
    PRIMARY KEY (hub, port)
) STRICT, WITHOUT ROWID
CREATE TABLE power_cycle (
    began_unix_ms INTEGER NOT NULL
) STRICT
CREATE TABLE lease (
    phone TEXT PRIMARY KEY,
    who TEXT NOT NULL,
    reason TEXT NOT NULL,
    since_unix_ms INTEGER NOT NULL,
    until_unix_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID
CREATE TABLE identity (
    name TEXT PRIMARY KEY,
    credential TEXT NOT NULL
) STRICT, WITHOUT ROWID
CREATE TABLE detached (
    endpoint TEXT PRIMARY KEY,
    who TEXT NOT NULL,
    since_unix_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID
CREATE TABLE shared_serial (
    serial TEXT PRIMARY KEY
) STRICT, WITHOUT ROWID
CREATE TABLE token (
    id TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('view', 'use', 'admin')),
    secret_sha256 TEXT NOT NULL,
    created_unix_ms INTEGER NOT NULL,
    expires_unix_ms INTEGER
) STRICT, WITHOUT ROWID
