//! The thread that owns `outbox.db`, and the handle by which lines reach it.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;
use tokio::time::{Instant, timeout_at};

use super::accounts::Accounts;
use super::file::{Bounds, File, FileError};
use super::key::Key;
use super::reserve::Reserve;
use super::{Answer, Ask, Reply, Request, Write, Written};
use crate::clock::UnixMillis;
use crate::store::StateDir;

/// The file within the state directory.
const FILE: &str = "outbox.db";
/// Requests that may wait for the thread; with more, lines wait for room.
const QUEUE_MAX: usize = 1024;
/// Writes of one group: a block each.
const GROUP_WRITES_MAX: usize = 64;
/// How long a group stays open for more: one fsync then serves all lines.
const GROUP_OPEN_MAX: Duration = Duration::from_millis(4);
/// Between two looks for what is too old.
const TIDY_EVERY: Duration = Duration::from_secs(600);
/// A file that could not be opened is left alone for so long.
const REOPEN_AFTER: Duration = Duration::from_secs(5);
/// So many files are put aside by one daemon; a disk that damages more is left alone until somebody has looked at it.
const ASIDE_MAX: u32 = 3;

/// A handle to the outbox; clones share one thread, which ends with the last of them.
#[derive(Clone, Debug)]
pub struct Outbox {
    jobs: mpsc::Sender<Job>,
}

/// How much is kept, and for how long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Of all phones together, in bytes; one phone may have a quarter of it.
    pub bytes: u64,
    /// Of daemons that run: time in which none does is not counted, nor is a clock that is set.
    pub age: Duration,
}

#[derive(Debug)]
struct Job {
    request: Request,
    to: mpsc::Sender<Reply>,
}

impl Outbox {
    /// Starts the thread on the state directory that this process holds. The key is that of `credentials` (systemd's), if there is one.
    ///
    /// The file is opened by the thread: one that cannot be used is no reason not to start, and is tried again.
    ///
    /// # Errors
    /// The thread could not be started.
    pub fn start(state: &StateDir, credentials: Option<PathBuf>, limits: Limits) -> std::io::Result<Self> {
        let (jobs, inbox) = mpsc::channel(QUEUE_MAX);
        let bounds = Bounds { bytes: limits.bytes, age_s: limits.age.as_secs() };
        let keeper = Keeper {
            dir: state.path().to_owned(),
            reserve: Reserve::new(state.path()),
            credentials,
            bounds,
            open: None,
            accounts: Accounts::default(),
            why: String::new(),
            reopen_at: None,
            put_aside: 0,
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
        std::thread::Builder::new().name("outbox".into()).spawn(move || runtime.block_on(keeper.serve(inbox)))?;
        Ok(Self { jobs })
    }

    /// Asks for something; the answer comes by `to`, which must have room for it, with the owner's name. Waits for room while the queue
    /// is full. There is no answer once the thread has ended.
    pub async fn ask(&self, request: Request, to: mpsc::Sender<Reply>) {
        let _ = self.jobs.send(Job { request, to }).await;
    }
}

/// What the thread holds.
struct Keeper {
    dir: PathBuf,
    reserve: Reserve,
    credentials: Option<PathBuf>,
    bounds: Bounds,
    open: Option<(File, Key)>,
    accounts: Accounts,
    /// Why it is not open.
    why: String,
    /// Not before this.
    reopen_at: Option<Instant>,
    put_aside: u32,
}

impl Keeper {
    /// Takes jobs until every handle is gone.
    async fn serve(mut self, mut inbox: mpsc::Receiver<Job>) {
        self.ensure_open();
        let (mut tidy_at, mut held) = (Instant::now(), None);
        loop {
            if tidy_at <= Instant::now() {
                self.tidy();
                tidy_at = Instant::now() + TIDY_EVERY;
            }
            let next = match held.take() {
                Some(job) => Ok(Some(job)),
                None => timeout_at(tidy_at, inbox.recv()).await,
            };
            match next {
                Ok(Some(job)) => {
                    let group = gather(job, &mut inbox).await;
                    self.write(group.writes);
                    group.reads.into_iter().for_each(|job| self.read(job));
                    held = group.held;
                }
                Ok(None) => return,
                Err(_) => {}
            }
        }
    }

    fn ensure_open(&mut self) {
        let rests = self.reopen_at.is_some_and(|at| Instant::now() < at);
        if self.open.is_some() || rests || self.put_aside > ASIDE_MAX {
            return;
        }
        self.reopen_at = Some(Instant::now() + REOPEN_AFTER);
        match self.try_open() {
            Ok(()) => {}
            Err(FileError::Damaged { what, .. }) => self.renew(&what),
            Err(why) => self.closed(&why.to_string()),
        }
    }

    fn try_open(&mut self) -> Result<(), FileError> {
        let key = match Key::of_host(&self.dir, self.credentials.as_deref()) {
            Ok(key) => key,
            Err(why) => {
                self.closed(&why.to_string());
                return Ok(());
            }
        };
        let (file, accounts) = File::open(&self.dir.join(FILE), &key)?;
        self.accounts = accounts;
        self.open = Some((file, key));
        Ok(())
    }

    fn closed(&mut self, why: &str) {
        self.open = None;
        if self.why != why {
            tracing::error!(
                "the outbox is not open, and nothing is acknowledged while the central server is away: {why}"
            );
            why.clone_into(&mut self.why);
        }
    }

    /// Puts a file that cannot be trusted aside, and begins a new one.
    fn renew(&mut self, what: &str) {
        self.open = None;
        self.put_aside += 1;
        if self.put_aside > ASIDE_MAX {
            return self.closed(&format!(
                "{ASIDE_MAX} files were damaged one after the other: look at the disk, then restart farmhand"
            ));
        }
        match put_aside(&self.dir) {
            Ok(aside) => {
                let known = self.accounts.begin_anew();
                tracing::error!(
                    "{} is damaged ({what}): it is kept as {}, and a new one is begun. Notices in it that the central server did not \
                     have ({known} known of) are not sent",
                    self.dir.join(FILE).display(),
                    aside.display()
                );
                let kept = std::mem::take(&mut self.accounts);
                match self.try_open() {
                    Ok(()) => self.accounts = kept,
                    Err(why) => {
                        self.accounts = kept;
                        self.closed(&why.to_string());
                    }
                }
            }
            Err(why) => self.closed(&format!("it is damaged ({what}) and can't be put aside: {why}")),
        }
    }

    /// What a failure leads to; as a sentence.
    fn failed(&mut self, why: &FileError) -> String {
        if let FileError::Damaged { what, .. } = why {
            self.renew(what);
        }
        why.to_string()
    }

    fn write(&mut self, jobs: Vec<Wanted>) {
        if jobs.is_empty() {
            return;
        }
        self.ensure_open();
        let writes: Vec<_> = jobs.iter().map(|(owner, write, _)| (owner.as_str(), write)).collect();
        if self.open.is_some() && self.reserve.is_wanted() {
            self.take_reserve();
        }
        // Nothing new is put where room for what must be removed is all that there is.
        let emptying = Bounds { bytes: 0, ..self.bounds };
        let bounds = if self.reserve.lets_store() { self.bounds } else { emptying };
        let wrote = match &mut self.open {
            Some((file, key)) => match file.write(&mut self.accounts, key, bounds, &writes) {
                Err(why) if why.is_full() => {
                    self.reserve.give_up();
                    file.fold();
                    file.write(&mut self.accounts, key, emptying, &writes)
                }
                wrote => wrote,
            },
            None => {
                let why = self.why.clone();
                return jobs.into_iter().for_each(|(owner, _, to)| answer(&to, owner, nothing(&why)));
            }
        };
        match wrote {
            Ok(written) => {
                for ((owner, _, to), written) in jobs.into_iter().zip(written) {
                    answer(&to, owner, Answer::Written(written));
                }
            }
            Err(why) => {
                let why = self.failed(&why);
                jobs.into_iter().for_each(|(owner, _, to)| answer(&to, owner, nothing(&why)));
            }
        }
    }

    /// An outbox that was emptied gives its own room back first.
    fn take_reserve(&mut self) {
        if !self.reserve.lets_store() && self.accounts.are_empty() {
            self.tidy();
        }
        self.reserve.take();
    }

    fn read(&mut self, job: Job) {
        self.ensure_open();
        let Job { request: Request { owner, ask }, to } = job;
        let answered = match (&ask, &mut self.open) {
            (Ask::Restore, Some(_)) => Answer::Restored(Ok(self.accounts.standing(&owner))),
            (Ask::Restore, None) => Answer::Restored(Err(self.why.clone())),
            (Ask::Load { .. }, None) => Answer::Loaded(Err(self.why.clone())),
            (Ask::Load { from }, Some((file, key))) => {
                let loaded = file.load(&mut self.accounts, key, &owner, *from);
                Answer::Loaded(loaded.map_err(|why| self.failed(&why)))
            }
            (Ask::Write(_), _) => return,
        };
        answer(&to, owner, answered);
    }

    fn tidy(&mut self) {
        let Some((file, _)) = &mut self.open else { return };
        match file.tidy(&mut self.accounts, self.bounds) {
            Ok(0) => {}
            Ok(old) => {
                let hours = self.bounds.age_s / 3600;
                tracing::warn!(
                    "{old} stored notices were older than {hours} h and are removed: the central server was away for too long"
                );
            }
            Err(why) => {
                let why = self.failed(&why);
                tracing::error!("what is too old cannot be removed from the outbox: {why}");
            }
        }
    }
}

/// A write, who wants it, and where the answer goes.
type Wanted = (String, Write, mpsc::Sender<Reply>);

/// What is done together: all writes first, so that whoever reads sees what was written before.
struct Group {
    writes: Vec<Wanted>,
    reads: Vec<Job>,
    /// What begins the next group.
    held: Option<Job>,
}

/// Gathers until the group is full, its time is over, or an owner wants a second write. A read alone waits for nobody.
async fn gather(first: Job, inbox: &mut mpsc::Receiver<Job>) -> Group {
    let closes = Instant::now() + GROUP_OPEN_MAX;
    let mut group = Group { writes: Vec::new(), reads: Vec::new(), held: None };
    let mut next = Some(first);
    while let Some(job) = next {
        if matches!(job.request.ask, Ask::Write(_))
            && group.writes.iter().any(|(owner, ..)| *owner == job.request.owner)
        {
            group.held = Some(job);
            break;
        }
        match job.request {
            Request { owner, ask: Ask::Write(write) } => group.writes.push((owner, write, job.to)),
            request => group.reads.push(Job { request, to: job.to }),
        }
        if group.writes.is_empty() || group.writes.len() >= GROUP_WRITES_MAX || group.reads.len() >= GROUP_WRITES_MAX {
            break;
        }
        next = timeout_at(closes, inbox.recv()).await.ok().flatten();
    }
    group
}

fn nothing(why: &str) -> Answer {
    Answer::Written(Written::Nothing { why: why.to_owned() })
}

/// The line may have ended; what it asked for was done all the same.
fn answer(to: &mpsc::Sender<Reply>, owner: String, answer: Answer) {
    if to.try_send(Box::new((owner, answer))).is_err() {
        tracing::debug!("nobody waits for an answer of the outbox");
    }
}

/// Renames the file and what belongs to it; its new name.
fn put_aside(dir: &Path) -> std::io::Result<PathBuf> {
    let now = UnixMillis::from(SystemTime::now()).0;
    let free = (now..now + 1000).map(|at| format!("outbox-damaged-{at}.db")).find(|name| !dir.join(name).exists());
    let name = free.ok_or(std::io::ErrorKind::AlreadyExists)?;
    std::fs::rename(dir.join(FILE), dir.join(&name))?;
    for end in ["-wal", "-shm"] {
        match std::fs::rename(dir.join(format!("{FILE}{end}")), dir.join(format!("{name}{end}"))) {
            Err(why) if why.kind() != std::io::ErrorKind::NotFound => return Err(why),
            _ => {}
        }
    }
    Ok(dir.join(name))
}
