//! The core of a connection where all that have to do with it find it: transport, services and tunnels.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;

use crate::connection::{Connection, Wake};

/// Work that goes on beside the others of a connection.
pub(crate) type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// A connection. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Line {
    shared: Arc<Shared>,
    /// Runs what is sent here.
    jobs: mpsc::Sender<Job>,
}

struct Shared {
    state: Mutex<State>,
    /// Something waits to be sent, or nothing comes any more.
    to_send: Notify,
    /// There is room for what a further message may bring.
    room: Notify,
}

struct State {
    core: Connection,
    signals: BTreeMap<u32, Arc<Signals>>,
}

/// By what the service of one stream is woken.
#[derive(Default)]
pub(crate) struct Signals {
    pub(crate) readable: Notify,
    pub(crate) writable: Notify,
    pub(crate) closed: CancellationToken,
}

impl Line {
    pub(crate) fn new(core: Connection, jobs: mpsc::Sender<Job>) -> Self {
        let state = Mutex::new(State { core, signals: BTreeMap::new() });
        Self { shared: Arc::new(Shared { state, to_send: Notify::new(), room: Notify::new() }), jobs }
    }

    /// Does something with the core, and wakes whom it concerns.
    pub(crate) fn with<T>(&self, action: impl FnOnce(&mut Connection) -> T) -> T {
        self.with_state(|state| action(&mut state.core))
    }

    /// A stream of the core, made by `action`, and by what its service is woken.
    pub(crate) fn begin(&self, action: impl FnOnce(&mut Connection) -> Option<u32>) -> Option<(u32, Arc<Signals>)> {
        self.with_state(|state| {
            let local = action(&mut state.core)?;
            let signals = Arc::<Signals>::default();
            state.signals.insert(local, Arc::clone(&signals));
            Some((local, signals))
        })
    }

    /// Nobody reads or writes this stream any more.
    pub(crate) fn abandon(&self, local: u32) {
        self.with_state(|state| {
            state.signals.remove(&local);
            state.core.abandon(local);
        });
    }

    /// Ends when something may wait to be sent.
    pub(crate) async fn has_to_send(&self) {
        self.shared.to_send.notified().await;
    }

    /// Ends when there may be room for what a further message brings.
    pub(crate) async fn has_room(&self) {
        self.shared.room.notified().await;
    }

    /// Runs this beside the others of the connection.
    pub(crate) async fn run(&self, job: Job) {
        // Fails only when the session has ended.
        let _ = self.jobs.send(job).await;
    }

    fn with_state<T>(&self, action: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        let done = action(&mut state);
        while let Some(wake) = state.core.next_wake() {
            self.wake(&state.signals, wake);
        }
        if state.core.has_to_send() {
            self.shared.to_send.notify_one();
        }
        done
    }

    fn wake(&self, signals: &BTreeMap<u32, Arc<Signals>>, wake: Wake) {
        let of = |local: u32| signals.get(&local);
        match wake {
            Wake::Reader(local) => of(local).into_iter().for_each(|signals| signals.readable.notify_one()),
            Wake::Writer(local) => of(local).into_iter().for_each(|signals| signals.writable.notify_one()),
            Wake::Closed(local) => of(local).into_iter().for_each(|signals| signals.closed.cancel()),
            Wake::Transport => self.shared.room.notify_one(),
        }
    }
}
