//! The thread that owns `promises.db`, and the handle by which everyone else reaches it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, TransactionBehavior};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

use crate::rack::access::TokenRecord;
use crate::rack::detach::Detachment;
use crate::rack::ids::Serial;
use crate::rack::lease::Lease;

use super::promise::{AuditQuery, AuditRecord, Promise};
use super::{StateDir, rows, schema};
use crate::rack::PowerLedger;

/// The file within the state directory.
const FILE: &str = "promises.db";
/// Jobs that may wait for the thread; with more, callers wait for room.
const QUEUE_MAX: usize = 256;
/// Operations after which a group is closed.
const GROUP_OPERATIONS_MAX: usize = 64;
/// How long a group stays open for more: one fsync then serves a burst, and nobody notices the wait.
const GROUP_OPEN_MAX: Duration = Duration::from_millis(5);

/// A handle to the store; clones share one thread, which ends with the last of them.
#[derive(Clone, Debug)]
pub struct Store {
    jobs: mpsc::Sender<Job>,
}

/// Why the store can't promise anything.
#[derive(Clone, Debug, thiserror::Error, miette::Diagnostic)]
pub enum StoreError {
    /// The file is damaged or no SQLite database.
    #[error("{} is damaged: {what}", file.display())]
    #[diagnostic(
        code("store.damaged"),
        help(
            "restore it from a backup, or move it aside (with its -wal and -shm files) and start again: rollouts and audit begin anew"
        )
    )]
    Damaged {
        /// The file.
        file: PathBuf,
        /// What SQLite said.
        what: String,
    },
    /// A newer farmhand wrote it.
    #[error("{} has schema {found}, and this farmhand knows schemas up to {known}", file.display())]
    #[diagnostic(
        code("store.newer"),
        help("a newer farmhand has used this state directory: install that version again")
    )]
    Newer {
        /// The file.
        file: PathBuf,
        /// The version in the file.
        found: i64,
        /// The version that this farmhand writes.
        known: i64,
    },
    /// SQLite refuses: the disk is full, the file is not writable.
    #[error("{} can't be used: {source}", file.display())]
    #[diagnostic(code("store.failing"), help("look for room and permissions in the state directory"))]
    Failing {
        /// The file.
        file: PathBuf,
        /// What SQLite said.
        source: Arc<rusqlite::Error>,
    },
    /// The thread could not be started, or has ended.
    #[error("the thread of the store is not running")]
    #[diagnostic(code("store.stopped"))]
    Stopped,
}

enum Job {
    Commit { batch: Vec<Promise>, done: oneshot::Sender<Result<(), StoreError>> },
    Rollouts { done: oneshot::Sender<Result<Vec<Promise>, StoreError>> },
    Power { done: oneshot::Sender<Result<PowerLedger, StoreError>> },
    Leases { done: oneshot::Sender<Result<Vec<Lease>, StoreError>> },
    Detachments { done: oneshot::Sender<Result<Vec<Detachment>, StoreError>> },
    SharedSerials { done: oneshot::Sender<Result<BTreeSet<Serial>, StoreError>> },
    Identities { done: oneshot::Sender<Result<BTreeMap<String, String>, StoreError>> },
    Tokens { done: oneshot::Sender<Result<Vec<TokenRecord>, StoreError>> },
    Audit { query: AuditQuery, done: oneshot::Sender<Result<Vec<AuditRecord>, StoreError>> },
}

impl Store {
    /// Opens `promises.db` in the state directory that this process holds, making or migrating it, and starts its thread.
    ///
    /// # Errors
    /// [`StoreError`] if the file is damaged, too new or not usable; it is left as it was found.
    pub fn open(state: &StateDir) -> Result<Self, StoreError> {
        let file = state.path().join(FILE);
        let db = open(&file)?;
        let (jobs, inbox) = mpsc::channel(QUEUE_MAX);
        // The runtime only waits for jobs with a time limit; SQLite then blocks this thread and no other.
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_time().build().map_err(|_| StoreError::Stopped)?;
        std::thread::Builder::new()
            .name("promises".into())
            .spawn(move || runtime.block_on(serve(db, file, inbox)))
            .map_err(|_| StoreError::Stopped)?;
        Ok(Self { jobs })
    }

    /// Commits the batch in one transaction and returns once it is on the disk. Waits for room while the queue is full.
    ///
    /// # Errors
    /// [`StoreError::Failing`] if SQLite refused: then nothing of the batch was written, and it can be tried again.
    pub async fn commit(&self, batch: Vec<Promise>) -> Result<(), StoreError> {
        self.ask(|done| Job::Commit { batch, done }).await
    }

    /// Every rollout and its phones, as the promises that made them: what a rollout core is restored from.
    ///
    /// # Errors
    /// [`StoreError`] if the file can't be read or a row makes no sense.
    pub async fn load_rollouts(&self) -> Result<Vec<Promise>, StoreError> {
        self.ask(|done| Job::Rollouts { done }).await
    }

    /// What was promised last of the power of ports: what a rack is restored from.
    ///
    /// # Errors
    /// [`StoreError`] if the file can't be read or a row makes no sense.
    pub async fn load_power(&self) -> Result<PowerLedger, StoreError> {
        self.ask(|done| Job::Power { done }).await
    }

    /// Every hold that was not ended, whether its time is over or not.
    ///
    /// # Errors
    /// [`StoreError`] if the file can't be read.
    pub async fn load_leases(&self) -> Result<Vec<Lease>, StoreError> {
        self.ask(|done| Job::Leases { done }).await
    }

    /// The places whose interface is another program's.
    ///
    /// # Errors
    /// [`StoreError`] if the file can't be read or a row makes no sense.
    pub async fn load_detachments(&self) -> Result<Vec<Detachment>, StoreError> {
        self.ask(|done| Job::Detachments { done }).await
    }

    /// The serials that two phones were seen with at once.
    ///
    /// # Errors
    /// [`StoreError`] if the file can't be read.
    pub async fn load_shared_serials(&self) -> Result<BTreeSet<Serial>, StoreError> {
        self.ask(|done| Job::SharedSerials { done }).await
    }

    /// What phones register as, where somebody has set it: by id, serial or slot.
    ///
    /// # Errors
    /// [`StoreError`] if the file can't be read.
    pub async fn load_identities(&self) -> Result<BTreeMap<String, String>, StoreError> {
        self.ask(|done| Job::Identities { done }).await
    }

    /// Every token that was not revoked, whether its time is over or not.
    ///
    /// # Errors
    /// [`StoreError`] if the file can't be read or a row makes no sense.
    pub async fn load_tokens(&self) -> Result<Vec<TokenRecord>, StoreError> {
        self.ask(|done| Job::Tokens { done }).await
    }

    /// The last `limit` lines of the audit, the newest first.
    ///
    /// # Errors
    /// [`StoreError`] if the file can't be read.
    pub async fn audit(&self, limit: u32) -> Result<Vec<AuditRecord>, StoreError> {
        self.search_audit(AuditQuery { limit, ..AuditQuery::default() }).await
    }

    /// Those lines of the audit that are wanted, the newest first.
    ///
    /// # Errors
    /// [`StoreError`] if the file can't be read.
    pub async fn search_audit(&self, query: AuditQuery) -> Result<Vec<AuditRecord>, StoreError> {
        self.ask(|done| Job::Audit { query, done }).await
    }

    async fn ask<T>(&self, job: impl FnOnce(oneshot::Sender<Result<T, StoreError>>) -> Job) -> Result<T, StoreError> {
        let (done, answer) = oneshot::channel();
        self.jobs.send(job(done)).await.map_err(|_| StoreError::Stopped)?;
        answer.await.map_err(|_| StoreError::Stopped)?
    }
}

fn open(file: &Path) -> Result<Connection, StoreError> {
    let failed = |error| classify(file, error);
    let mut db = Connection::open(file).map_err(failed)?;
    db.pragma_update(None, "journal_mode", "WAL").map_err(failed)?;
    // FULL: a commit has reached the disk when it returns; NORMAL may lose the last ones at a power cut.
    db.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
    db.pragma_update(None, "foreign_keys", true).map_err(failed)?;
    let health: String = db.pragma_query_value(None, "quick_check", |row| row.get(0)).map_err(failed)?;
    if health != "ok" {
        return Err(StoreError::Damaged { file: file.to_owned(), what: health });
    }
    let found = schema::migrate(&mut db).map_err(failed)?;
    if found > schema::VERSION {
        return Err(StoreError::Newer { file: file.to_owned(), found, known: schema::VERSION });
    }
    Ok(db)
}

fn classify(file: &Path, error: rusqlite::Error) -> StoreError {
    match error.sqlite_error_code() {
        Some(ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) => {
            StoreError::Damaged { file: file.to_owned(), what: error.to_string() }
        }
        _ if matches!(error, rusqlite::Error::FromSqlConversionFailure(..)) => {
            StoreError::Damaged { file: file.to_owned(), what: error.to_string() }
        }
        _ => StoreError::Failing { file: file.to_owned(), source: Arc::new(error) },
    }
}

/// Takes jobs until every handle is gone.
async fn serve(mut db: Connection, file: PathBuf, mut inbox: mpsc::Receiver<Job>) {
    while let Some(job) = inbox.recv().await {
        let (group, after) = gather(job, &mut inbox).await;
        commit_group(&mut db, &file, group);
        match after {
            Some(Job::Rollouts { done }) => answer(done, rows::rollouts(&db).map_err(|e| classify(&file, e))),
            Some(Job::Power { done }) => answer(done, rows::power(&db).map_err(|e| classify(&file, e))),
            Some(Job::Detachments { done }) => answer(done, rows::detachments(&db).map_err(|e| classify(&file, e))),
            Some(Job::Leases { done }) => answer(done, rows::leases(&db).map_err(|e| classify(&file, e))),
            Some(Job::SharedSerials { done }) => {
                answer(done, rows::shared_serials(&db).map_err(|e| classify(&file, e)));
            }
            Some(Job::Identities { done }) => answer(done, rows::identities(&db).map_err(|e| classify(&file, e))),
            Some(Job::Tokens { done }) => answer(done, rows::tokens(&db).map_err(|e| classify(&file, e))),
            Some(Job::Audit { query, done }) => answer(done, rows::audit(&db, &query).map_err(|e| classify(&file, e))),
            Some(Job::Commit { .. }) | None => {}
        }
    }
}

type Group = Vec<(Vec<Promise>, oneshot::Sender<Result<(), StoreError>>)>;

/// Gathers commits until the group is full, its time is over or a read comes, which must see what was written before it.
async fn gather(first: Job, inbox: &mut mpsc::Receiver<Job>) -> (Group, Option<Job>) {
    let closes = Instant::now() + GROUP_OPEN_MAX;
    let (mut group, mut operations) = (Group::new(), 0);
    let mut next = Some(first);
    while let Some(job) = next {
        match job {
            Job::Commit { batch, done } => {
                operations += batch.len();
                group.push((batch, done));
            }
            read => return (group, Some(read)),
        }
        if operations >= GROUP_OPERATIONS_MAX {
            break;
        }
        next = timeout_at(closes, inbox.recv()).await.ok().flatten();
    }
    (group, None)
}

/// One transaction for the group; should it fail, one for each batch, so that a bad batch harms no other.
fn commit_group(db: &mut Connection, file: &Path, group: Group) {
    let batches: Vec<&[Promise]> = group.iter().map(|(batch, _)| batch.as_slice()).collect();
    let together = commit(db, &batches);
    for (batch, done) in group {
        let result = match &together {
            Ok(()) => Ok(()),
            Err(_) => commit(db, &[&batch]).map_err(|error| classify(file, error)),
        };
        answer(done, result);
    }
}

fn commit(db: &mut Connection, batches: &[&[Promise]]) -> rusqlite::Result<()> {
    if batches.is_empty() {
        return Ok(());
    }
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for promise in batches.iter().copied().flatten() {
        rows::write(&transaction, promise)?;
    }
    checkpoint("before_commit");
    transaction.commit()?;
    checkpoint("after_commit");
    Ok(())
}

/// The asker may have been cancelled; what it asked for was done all the same.
fn answer<T>(done: oneshot::Sender<T>, result: T) {
    drop(done.send(result));
}

/// A named place at which a test may kill the process, as a power cut would.
#[cfg(not(test))]
const fn checkpoint(_name: &str) {}

/// A named place at which a test may kill the process, as a power cut would: see `tests.rs`.
#[cfg(test)]
fn checkpoint(name: &str) {
    if std::env::var("FARMHAND_KILL_AT").is_ok_and(|wanted| wanted == name) {
        let me = nix::unistd::Pid::this();
        nix::sys::signal::kill(me, nix::sys::signal::Signal::SIGKILL).expect("a process may kill itself");
    }
}
