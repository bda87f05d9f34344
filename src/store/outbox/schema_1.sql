CREATE TABLE meta (
    elapsed_s INTEGER NOT NULL,      -- how long daemons have run on this file: ages do not depend on a clock that is set
    key_check BLOB NOT NULL
);
CREATE TABLE owner (
    number INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    taken INTEGER NOT NULL           -- all notices below this number
);
CREATE TABLE block (
    id INTEGER PRIMARY KEY,
    owner INTEGER NOT NULL,
    first INTEGER NOT NULL,
    count INTEGER NOT NULL,
    stored_s INTEGER NOT NULL,
    sealed BLOB NOT NULL
);
CREATE TABLE refused (
    id INTEGER PRIMARY KEY,
    owner INTEGER NOT NULL,
    stored_s INTEGER NOT NULL,
    sealed BLOB NOT NULL
);
CREATE TABLE unreadable (
    id INTEGER PRIMARY KEY,
    owner INTEGER NOT NULL,
    first INTEGER NOT NULL,
    count INTEGER NOT NULL,
    stored_s INTEGER NOT NULL,
    sealed BLOB NOT NULL
);
