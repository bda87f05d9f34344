//! Keeps the uses: tells the model of leases, and the daemon of uses that begin and that are over.
//!
//! Invariant: no stream is opened before the beginning of its use is in the audit ([`Keeper::begin`]).

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use super::uses::{Family, Moved, Now, Told, UseRecord, Uses};
use crate::adb::online::OnlinePhones;
use crate::clock::{Moment, UnixMillis};
use crate::rack::Event;
use crate::rack::ids::PhoneId;
use crate::rack::lease::LeaseEvent;

/// The longest that the audit may take to be on the disk: an SD card that is busy needs seconds.
const AUDIT_MAX: Duration = Duration::from_secs(10);

/// Whether a line of audit is on the disk, once that is known; otherwise why it is not.
pub type Kept = Option<Result<(), String>>;

/// A line on its way to the audit.
#[derive(Debug)]
pub struct AuditEntry {
    /// What is written.
    pub record: UseRecord,
    /// Who waits until it is written.
    pub kept: Option<watch::Sender<Kept>>,
}

/// Where streams say that they begin and end. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Keeper {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    online: OnlinePhones,
    state: Mutex<State>,
    changed: Notify,
    started: Instant,
}

#[derive(Debug, Default)]
struct State {
    uses: Uses,
    /// One entry a use at most: what is told at once and was not yet taken along.
    told: Vec<Told>,
    /// Beginnings that were not yet taken along, one a use at most.
    beginnings: Vec<AuditEntry>,
    /// Of each use, what became of its beginning.
    kept: BTreeMap<(PhoneId, String), watch::Receiver<Kept>>,
}

impl State {
    /// What becomes of the beginning of a use: that which is under way, or a new one where there is none or it failed.
    fn beginning(&mut self, now: Now, phone: &PhoneId, who: &str, family: Family) -> watch::Receiver<Kept> {
        let key = (phone.clone(), who.to_owned());
        if let Some(known) = self.kept.get(&key).filter(|known| !matches!(&*known.borrow(), Some(Err(_)))) {
            return known.clone();
        }
        let (kept, receiver) = watch::channel(None);
        self.kept.insert(key, receiver.clone());
        let record = UseRecord::beginning(now, phone, who, family);
        self.beginnings.push(AuditEntry { record, kept: Some(kept) });
        receiver
    }

    /// What is to be told of all that has changed.
    fn take(&mut self, mut told: Vec<Told>) -> (Vec<AuditEntry>, Vec<LeaseEvent>) {
        told.splice(0..0, std::mem::take(&mut self.told));
        let (mut entries, mut leases) = (std::mem::take(&mut self.beginnings), Vec::new());
        for told in told {
            match told {
                Told::Lease(event) => leases.push(event),
                Told::Use(record) => {
                    self.kept.remove(&(record.phone.clone(), record.who.clone()));
                    entries.push(AuditEntry { record, kept: None });
                }
            }
        }
        (entries, leases)
    }
}

impl Keeper {
    pub(super) fn new(online: OnlinePhones) -> Self {
        let shared = Shared { online, state: Mutex::default(), changed: Notify::new(), started: Instant::now() };
        Self { shared: Arc::new(shared) }
    }

    /// A stream begins; it ends when what is given back is dropped. Comes back once the beginning of its use is in the audit.
    ///
    /// # Errors
    /// Why it is not: then nothing may be opened.
    pub(super) async fn begin(&self, phone: &PhoneId, who: &str, family: Family) -> Result<StreamUse, String> {
        let (begun, mut kept) = {
            let (mut state, now) = (self.shared.state(), self.shared.now());
            let told = state.uses.begin(now, phone, who, self.shared.online.number_work());
            state.told.extend(told);
            let kept = state.beginning(now, phone, who, family);
            (StreamUse::new(Arc::clone(&self.shared), phone, who, family), kept)
        };
        self.shared.changed.notify_one();
        let written = timeout(AUDIT_MAX, kept.wait_for(Option::is_some)).await;
        match written.map(|kept| kept.map(|kept| kept.clone())) {
            Ok(Ok(Some(Ok(())))) => Ok(begun),
            Ok(Ok(Some(Err(why)))) => Err(format!("farmhand can't write its audit: {why}")),
            Ok(Ok(None) | Err(_)) => Err("farmhand is stopping".to_owned()),
            Err(_) => Err(format!("farmhand's audit was not on the disk within {} s", AUDIT_MAX.as_secs())),
        }
    }

    /// Tells `events` and `records` what is to be told, until `cancel`; then all uses end.
    pub(super) async fn run(
        self,
        events: mpsc::Sender<Event>,
        records: mpsc::Sender<AuditEntry>,
        cancel: CancellationToken,
    ) {
        loop {
            let (told, deadline) = {
                let mut state = self.shared.state();
                let due = state.uses.advance(self.shared.now());
                (state.take(due), state.uses.deadline())
            };
            tell(told, &events, &records).await;
            tokio::select! {
                () = cancel.cancelled() => break,
                () = self.shared.changed.notified() => {}
                () = sleep_until(deadline.map(|at| self.shared.started + at.since_start())) => {}
            }
        }
        let told = {
            let mut state = self.shared.state();
            let ended = state.uses.end_all(self.shared.now());
            state.take(ended)
        };
        tell(told, &events, &records).await;
    }
}

async fn tell(
    (entries, leases): (Vec<AuditEntry>, Vec<LeaseEvent>),
    events: &mpsc::Sender<Event>,
    records: &mpsc::Sender<AuditEntry>,
) {
    // Whoever has ended needs to know nothing any more. The audit first: somebody waits for it.
    for entry in entries {
        let _ = records.send(entry).await;
    }
    for event in leases {
        let _ = events.send(Event::Lease { event, ask: None }).await;
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half-way through a change.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Now {
        Now { at: Moment::from_start(self.started.elapsed()), wall: UnixMillis::from(SystemTime::now()) }
    }
}

/// A stream that is under way, and what it has moved.
#[derive(Debug)]
pub(super) struct StreamUse {
    shared: Arc<Shared>,
    phone: PhoneId,
    who: String,
    family: Family,
    to_phone: AtomicU64,
    from_phone: AtomicU64,
}

impl StreamUse {
    fn new(shared: Arc<Shared>, phone: &PhoneId, who: &str, family: Family) -> Self {
        let (to_phone, from_phone) = (AtomicU64::new(0), AtomicU64::new(0));
        Self { shared, phone: phone.clone(), who: who.to_owned(), family, to_phone, from_phone }
    }

    pub(super) fn add_to_phone(&self, bytes: usize) {
        self.to_phone.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(super) fn add_from_phone(&self, bytes: usize) {
        self.from_phone.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

impl Drop for StreamUse {
    fn drop(&mut self) {
        let moved = Moved {
            to_phone: self.to_phone.load(Ordering::Relaxed),
            from_phone: self.from_phone.load(Ordering::Relaxed),
        };
        self.shared.state().uses.end(self.shared.now(), &self.phone, &self.who, self.family, moved);
        self.shared.changed.notify_one();
    }
}
