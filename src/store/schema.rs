//! The tables of `promises.db` and how an older file becomes a newer one (`PRAGMA user_version`).
//!
//! Invariant: a migration that was released is never edited; a change is a new one (`the_schema_is_frozen`).

use rusqlite::Connection;

/// Each step from one version of the schema to the next; the version is the number of steps taken.
const MIGRATIONS: [&str; 12] = [
    include_str!("schema_1.sql"),
    include_str!("schema_2.sql"),
    include_str!("schema_3.sql"),
    include_str!("schema_4.sql"),
    include_str!("schema_5.sql"),
    include_str!("schema_6.sql"),
    include_str!("schema_7.sql"),
    include_str!("schema_8.sql"),
    include_str!("schema_9.sql"),
    include_str!("schema_10.sql"),
    include_str!("schema_11.sql"),
    include_str!("schema_12.sql"),
];

/// The version of the schema that this farmhand writes.
pub(super) const VERSION: i64 = MIGRATIONS.len() as i64;

/// Takes the steps that are missing, each in its own transaction; returns the version that was found.
pub(super) fn migrate(db: &mut Connection) -> rusqlite::Result<i64> {
    let found: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
    for (version, step) in (1_i64..).zip(MIGRATIONS).filter(|(version, _)| *version > found) {
        let transaction = db.transaction()?;
        transaction.execute_batch(step)?;
        transaction.pragma_update(None, "user_version", version)?;
        transaction.commit()?;
    }
    Ok(found)
}
