CREATE TABLE port_off (
    hub TEXT NOT NULL,
    port INTEGER NOT NULL,
    since_unix_ms INTEGER NOT NULL,
    PRIMARY KEY (hub, port)
) STRICT, WITHOUT ROWID;

CREATE TABLE power_cycle (
    began_unix_ms INTEGER NOT NULL
) STRICT;
