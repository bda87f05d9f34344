//! `outbox.db`: its tables, and what is read from and written to them.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior, params};

use super::accounts::{Accounts, BlockEntry, Gone, RefusedEntry};
use super::key::Key;
use super::{Loaded, Notice, Write, Written, block};

/// The version of the schema that this farmhand writes.
const VERSION: i64 = 1;
/// What is sealed to know the key by.
const KEY_CHECK: &[u8] = b"farmhand outbox";
/// How far the time that is in the file may be behind.
const TIME_EVERY_S: u64 = 60;
/// A journal that has grown longer is cut.
const JOURNAL_MAX: u64 = 16 << 20;
/// Nobody else writes to the file; whoever looks into it with a tool is waited for no longer.
const BUSY_MAX: Duration = Duration::from_millis(100);
/// An empty file that is longer gives its room back.
const EMPTY_PAGES_MAX: i64 = 1024;

/// What can be wrong with the file.
#[derive(Debug, thiserror::Error)]
pub(super) enum FileError {
    /// What is in it cannot be trusted.
    #[error("{} is damaged: {what}", file.display())]
    Damaged { file: PathBuf, what: String },
    /// A newer farmhand wrote it.
    #[error("{} has schema {found}, and this farmhand knows schemas up to {VERSION}", file.display())]
    Newer { file: PathBuf, found: i64 },
    /// The disk, or whoever else has the file.
    #[error("{} can't be used: {reason}", file.display())]
    Failing { file: PathBuf, reason: rusqlite::Error },
}

impl FileError {
    /// Whether the disk has no room.
    pub(super) fn is_full(&self) -> bool {
        matches!(self, Self::Failing { reason, .. } if reason.sqlite_error_code() == Some(ErrorCode::DiskFull))
    }
}

/// The open file.
pub(super) struct File {
    db: Connection,
    path: PathBuf,
    /// What the file said when it was opened of the time that daemons have run on it, and when that was.
    elapsed: (u64, Instant),
    /// What it says now.
    written_s: u64,
}

/// How old what is kept may be, and how much it may be.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) bytes: u64,
    pub(super) age_s: u64,
}

impl File {
    /// Opens the file, making it if there is none, and says what is in it.
    pub(super) fn open(path: &Path, key: &Key) -> Result<(Self, Accounts), FileError> {
        let failed = |error| classify(path, error);
        let mut db = Connection::open(path).map_err(failed)?;
        db.busy_timeout(BUSY_MAX).map_err(failed)?;
        db.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
        db.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
        db.pragma_update(None, "secure_delete", true).map_err(failed)?;
        db.pragma_update(None, "journal_size_limit", JOURNAL_MAX).map_err(failed)?;
        let health: String = db.pragma_query_value(None, "quick_check", |row| row.get(0)).map_err(failed)?;
        if health != "ok" {
            return Err(FileError::Damaged { file: path.to_owned(), what: health });
        }
        let found: i64 = db.pragma_query_value(None, "user_version", |row| row.get(0)).map_err(failed)?;
        match found {
            0 => make(&mut db, key).map_err(failed)?,
            VERSION => {}
            newer => return Err(FileError::Newer { file: path.to_owned(), found: newer }),
        }
        let read = |row: &rusqlite::Row<'_>| Ok((row.get::<_, u64>(0)?, row.get::<_, Vec<u8>>(1)?));
        let (elapsed_s, check) = db.query_row("SELECT elapsed_s, key_check FROM meta", [], read).map_err(failed)?;
        if key.open(&check, KEY_CHECK).as_deref() != Some(KEY_CHECK) {
            let what = "it was sealed with another key".to_owned();
            return Err(FileError::Damaged { file: path.to_owned(), what });
        }
        let accounts = accounts(&db).map_err(failed)?;
        let file = Self { db, path: path.to_owned(), elapsed: (elapsed_s, Instant::now()), written_s: elapsed_s };
        Ok((file, accounts))
    }

    /// How long daemons have run on this file, in seconds.
    fn now_s(&self) -> u64 {
        self.elapsed.0 + self.elapsed.1.elapsed().as_secs()
    }

    /// Brings the journal into the file, as far as there is room, so that it begins anew.
    pub(super) fn fold(&self) {
        if let Err(why) = self.db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(())) {
            tracing::debug!("the journal of {} stays as it is: {why}", self.path.display());
        }
    }

    /// Writes these, of as many owners, in one transaction.
    pub(super) fn write(
        &mut self,
        accounts: &mut Accounts,
        key: &Key,
        bounds: Bounds,
        writes: &[(&str, &Write)],
    ) -> Result<Vec<Written>, FileError> {
        let now_s = self.now_s();
        let (mut changes, mut full, mut coming) = (Vec::new(), Vec::new(), 0);
        let mut wrote = || {
            let transaction = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for (owner, write) in writes {
                let sealed = seal(key, owner, write);
                let bytes = sealed.len() as u64;
                let fits = bytes == 0 || accounts.have_room(owner, write.taken, bytes, coming, bounds.bytes);
                full.push(!fits);
                let sealed = if fits { sealed } else { Vec::new() };
                coming += sealed.len() as u64;
                changes.extend(put(&transaction, accounts, key, (owner, write), &sealed, now_s)?);
            }
            if now_s >= self.written_s + TIME_EVERY_S {
                transaction.execute("UPDATE meta SET elapsed_s = ?1", [now_s])?;
            }
            transaction.commit()
        };
        wrote().map_err(|error| classify(&self.path, error))?;
        if now_s >= self.written_s + TIME_EVERY_S {
            self.written_s = now_s;
        }
        for change in changes {
            change.apply(accounts);
        }
        let told = writes.iter().zip(full).map(|((owner, _), full)| {
            let standing = accounts.standing(owner);
            if full { Written::ButNoRoom(standing) } else { Written::All(standing) }
        });
        Ok(told.collect())
    }

    /// The next notices of an owner, from this number on. A block that cannot be read is put aside, within the file.
    pub(super) fn load(
        &mut self,
        accounts: &mut Accounts,
        key: &Key,
        owner: &str,
        from: u64,
    ) -> Result<Loaded, FileError> {
        while let Some(entry) = accounts.of(owner).and_then(|account| account.block_at(from)).copied() {
            match self.read(key, owner, &entry)? {
                Some(notices) => {
                    let numbered = (entry.first..).zip(notices).filter(|(number, _)| *number >= from);
                    return Ok(Loaded { from, end: entry.end(), notices: numbered.collect() });
                }
                None => {
                    tracing::error!(
                        "{}: {} notices of {owner} can't be read and are put aside (table unreadable)",
                        self.path.display(),
                        entry.count
                    );
                    self.put_aside(&entry)?;
                    accounts.remove_block(owner, entry.id, Gone::Unreadable);
                }
            }
        }
        Ok(Loaded { from, end: accounts.of(owner).map_or(0, |account| account.next), notices: Vec::new() })
    }

    fn read(&self, key: &Key, owner: &str, entry: &BlockEntry) -> Result<Option<Vec<Notice>>, FileError> {
        let sealed: Vec<u8> = self
            .db
            .query_row("SELECT sealed FROM block WHERE id = ?1", [entry.id], |row| row.get(0))
            .map_err(|error| classify(&self.path, error))?;
        let plain = key.open(&sealed, &about(owner, entry.first, entry.count));
        let notices = plain.and_then(|plain| block::decode(Bytes::from(plain)));
        Ok(notices.filter(|notices| notices.len() as u64 == entry.count))
    }

    fn put_aside(&mut self, entry: &BlockEntry) -> Result<(), FileError> {
        let mut aside = || {
            let transaction = self.db.transaction()?;
            transaction.execute(
                "INSERT INTO unreadable (owner, first, count, stored_s, sealed) \
                 SELECT owner, first, count, stored_s, sealed FROM block WHERE id = ?1",
                [entry.id],
            )?;
            transaction.execute("DELETE FROM block WHERE id = ?1", [entry.id])?;
            transaction.commit()
        };
        aside().map_err(|error| classify(&self.path, error))
    }

    /// Removes what is too old, and gives room back if nothing is left; how many notices were not taken.
    pub(super) fn tidy(&mut self, accounts: &mut Accounts, bounds: Bounds) -> Result<u64, FileError> {
        let now_s = self.now_s();
        let too_old = |stored_s: u64| stored_s + bounds.age_s < now_s;
        let (mut blocks, mut refused) = (Vec::new(), Vec::new());
        for (owner, account) in accounts.iter() {
            let old = account.blocks.iter().filter(|block| too_old(block.stored_s));
            blocks.extend(old.map(|block| (owner.clone(), block.id, block.count)));
            let old = account.refused.iter().take_while(|refused| too_old(refused.stored_s));
            refused.extend(old.map(|refused| (owner.clone(), refused.id)));
        }
        let mut removed = || {
            let transaction = self.db.transaction()?;
            transaction.execute("UPDATE meta SET elapsed_s = ?1", [now_s])?;
            for (_, id, _) in &blocks {
                transaction.execute("DELETE FROM block WHERE id = ?1", [id])?;
            }
            for (_, id) in &refused {
                transaction.execute("DELETE FROM refused WHERE id = ?1", [id])?;
            }
            transaction.execute("DELETE FROM unreadable WHERE stored_s + ?1 < ?2", params![bounds.age_s, now_s])?;
            transaction.commit()?;
            let pages: i64 = self.db.pragma_query_value(None, "page_count", |row| row.get(0))?;
            if accounts.are_empty() && pages > EMPTY_PAGES_MAX { self.db.execute_batch("VACUUM") } else { Ok(()) }
        };
        removed().map_err(|error| classify(&self.path, error))?;
        self.written_s = now_s;
        for (owner, id, _) in &blocks {
            accounts.remove_block(owner, *id, Gone::Expired);
        }
        for (owner, _) in &refused {
            accounts.remove_oldest_refused(owner);
        }
        Ok(blocks.iter().map(|(_, _, count)| count).sum())
    }
}

/// What a transaction has changed, once it is committed.
enum Change {
    Opened { owner: String, number: i64 },
    Taken { owner: String, taken: u64 },
    Emptied { owner: String, id: i64 },
    Stored { owner: String, block: BlockEntry },
    Refused { owner: String, refused: RefusedEntry },
}

impl Change {
    fn apply(self, accounts: &mut Accounts) {
        match self {
            Self::Opened { owner, number } => accounts.open(&owner, number),
            Self::Taken { owner, taken } => accounts.take(&owner, taken),
            Self::Emptied { owner, id } => accounts.remove_block(&owner, id, Gone::Taken),
            Self::Stored { owner, block } => accounts.add_block(&owner, block),
            Self::Refused { owner, refused } => accounts.add_refused(&owner, refused),
        }
    }
}

/// Writes what one owner wants written; `sealed` is the block to be stored, or empty.
fn put(
    transaction: &Transaction<'_>,
    accounts: &Accounts,
    key: &Key,
    (owner, write): (&str, &Write),
    sealed: &[u8],
    now_s: u64,
) -> rusqlite::Result<Vec<Change>> {
    let name = owner.to_owned();
    let account = accounts.of(owner);
    let mut changes = Vec::new();
    let number = match account.and_then(|account| account.number) {
        Some(number) => number,
        None => {
            let sql = "INSERT INTO owner (name, taken) VALUES (?1, ?2) RETURNING number";
            let number = transaction.query_row(sql, params![owner, write.taken], |row| row.get(0))?;
            changes.push(Change::Opened { owner: name.clone(), number });
            number
        }
    };
    if account.is_none_or(|account| account.taken != write.taken) {
        let mut update = transaction.prepare_cached("UPDATE owner SET taken = ?2 WHERE number = ?1")?;
        update.execute(params![number, write.taken])?;
        changes.push(Change::Taken { owner: name.clone(), taken: write.taken });
    }
    for block in account.into_iter().flat_map(|account| account.emptied_by(write.taken)) {
        transaction.prepare_cached("DELETE FROM block WHERE id = ?1")?.execute([block.id])?;
        changes.push(Change::Emptied { owner: name.clone(), id: block.id });
    }
    for notice in &write.refused {
        let sealed = key.seal(&block::encode(std::slice::from_ref(notice)), owner.as_bytes());
        let sql = "INSERT INTO refused (owner, stored_s, sealed) VALUES (?1, ?2, ?3)";
        transaction.prepare_cached(sql)?.execute(params![number, now_s, sealed])?;
        let id = transaction.last_insert_rowid();
        let refused = RefusedEntry { id, stored_s: now_s, bytes: sealed.len() as u64 };
        changes.push(Change::Refused { owner: name.clone(), refused });
    }
    if !sealed.is_empty() {
        let (first, count) = (write.first, write.store.len() as u64);
        let sql = "INSERT INTO block (owner, first, count, stored_s, sealed) VALUES (?1, ?2, ?3, ?4, ?5)";
        transaction.prepare_cached(sql)?.execute(params![number, first, count, now_s, sealed])?;
        let id = transaction.last_insert_rowid();
        let block = BlockEntry { id, first, count, stored_s: now_s, bytes: sealed.len() as u64 };
        changes.push(Change::Stored { owner: name, block });
    }
    Ok(changes)
}

/// The block that a write stores; empty if it stores none.
fn seal(key: &Key, owner: &str, write: &Write) -> Vec<u8> {
    if write.store.is_empty() {
        return Vec::new();
    }
    key.seal(&block::encode(&write.store), &about(owner, write.first, write.store.len() as u64))
}

/// What a sealed block is about: one that was moved to another place cannot be opened there.
fn about(owner: &str, first: u64, count: u64) -> Vec<u8> {
    [owner.as_bytes(), &first.to_le_bytes(), &count.to_le_bytes()].concat()
}

fn make(db: &mut Connection, key: &Key) -> rusqlite::Result<()> {
    let transaction = db.transaction()?;
    transaction.execute_batch(include_str!("schema_1.sql"))?;
    let check = key.seal(KEY_CHECK, KEY_CHECK);
    transaction.execute("INSERT INTO meta (elapsed_s, key_check) VALUES (0, ?1)", [check])?;
    transaction.pragma_update(None, "user_version", VERSION)?;
    transaction.commit()
}

fn accounts(db: &Connection) -> rusqlite::Result<Accounts> {
    let mut accounts = Accounts::default();
    let mut names = std::collections::BTreeMap::new();
    let mut owners = db.prepare("SELECT number, name, taken FROM owner")?;
    let mut rows = owners.query([])?;
    while let Some(row) = rows.next()? {
        let (number, name, taken): (i64, String, u64) = (row.get(0)?, row.get(1)?, row.get(2)?);
        accounts.open(&name, number);
        accounts.take(&name, taken);
        names.insert(number, name);
    }
    let mut blocks =
        db.prepare("SELECT id, owner, first, count, stored_s, length(sealed) FROM block ORDER BY first")?;
    let mut rows = blocks.query([])?;
    while let Some(row) = rows.next()? {
        let (id, first, count) = (row.get(0)?, row.get(2)?, row.get(3)?);
        let block = BlockEntry { id, first, count, stored_s: row.get(4)?, bytes: row.get(5)? };
        names.get(&row.get(1)?).into_iter().for_each(|name| accounts.add_block(name, block));
    }
    let mut refused = db.prepare("SELECT id, owner, stored_s, length(sealed) FROM refused ORDER BY id")?;
    let mut rows = refused.query([])?;
    while let Some(row) = rows.next()? {
        let refused = RefusedEntry { id: row.get(0)?, stored_s: row.get(2)?, bytes: row.get(3)? };
        names.get(&row.get(1)?).into_iter().for_each(|name| accounts.add_refused(name, refused));
    }
    Ok(accounts)
}

fn classify(path: &Path, reason: rusqlite::Error) -> FileError {
    let file = path.to_owned();
    match (reason.sqlite_error_code(), &reason) {
        (Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt), _)
        | (_, rusqlite::Error::FromSqlConversionFailure(..) | rusqlite::Error::InvalidColumnType(..))
        | (_, rusqlite::Error::IntegralValueOutOfRange(..) | rusqlite::Error::QueryReturnedNoRows) => {
            FileError::Damaged { file, what: reason.to_string() }
        }
        _ => FileError::Failing { file, reason },
    }
}
