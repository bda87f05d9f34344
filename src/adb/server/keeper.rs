//! Keeps the uses: tells the model of leases, and the daemon of uses that are over.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::uses::{Family, Moved, Now, Told, UseRecord, Uses};
use crate::adb::online::OnlinePhones;
use crate::clock::{Moment, UnixMillis};
use crate::rack::Event;
use crate::rack::ids::PhoneId;

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
}

impl Keeper {
    pub(super) fn new(online: OnlinePhones) -> Self {
        let shared = Shared { online, state: Mutex::default(), changed: Notify::new(), started: Instant::now() };
        Self { shared: Arc::new(shared) }
    }

    /// A stream begins; it ends when what is given back is dropped.
    pub(super) fn begin(&self, phone: &PhoneId, who: &str, family: Family) -> StreamUse {
        let mut state = self.shared.state();
        let told = state.uses.begin(self.shared.now(), phone, who, self.shared.online.number_work());
        state.told.extend(told);
        drop(state);
        self.shared.changed.notify_one();
        StreamUse {
            shared: Arc::clone(&self.shared),
            phone: phone.clone(),
            who: who.to_owned(),
            family,
            to_phone: AtomicU64::new(0),
            from_phone: AtomicU64::new(0),
        }
    }

    /// Tells `events` and `records` what is to be told, until `cancel`; then all uses end.
    pub(super) async fn run(
        self,
        events: mpsc::Sender<Event>,
        records: mpsc::Sender<UseRecord>,
        cancel: CancellationToken,
    ) {
        loop {
            let (told, deadline) = {
                let mut state = self.shared.state();
                let mut told = std::mem::take(&mut state.told);
                told.extend(state.uses.advance(self.shared.now()));
                (told, state.uses.deadline())
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
            state.uses.end_all(self.shared.now())
        };
        tell(told, &events, &records).await;
    }
}

async fn tell(told: Vec<Told>, events: &mpsc::Sender<Event>, records: &mpsc::Sender<UseRecord>) {
    for told in told {
        // Whoever has ended needs to know nothing any more.
        match told {
            Told::Lease(event) => drop(events.send(Event::Lease { event, ask: None }).await),
            Told::Use(record) => drop(records.send(record).await),
        }
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
