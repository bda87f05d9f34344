//! Forwards: connections to an address on this host go to one of a phone. A forward ends with the phone's connection.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::keeper::Keeper;
use super::request::Rebind;
use super::socket::{HostAddress, HostListener, ReadHalf, WriteHalf};
use super::splice::splice;
use super::uses::Family;
use crate::adb::driver::Adb;
use crate::rack::ids::PhoneId;

/// The most forwards at once.
const FORWARDS_MAX: usize = 256;
/// The most connections over all forwards at once; the next one waits in the kernel's queue.
const CONNECTIONS_MAX: usize = 256;
/// Between two tries when the system gives no more connections.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// Where a forward leads.
#[derive(Clone, Debug)]
pub(super) struct Route {
    pub(super) phone: PhoneId,
    pub(super) adb: Adb,
    /// The service to open there: `tcp:7100`.
    pub(super) remote: String,
    /// Who asked for it: its connections are his.
    pub(super) who: String,
}

/// All forwards. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Forwards {
    standing: Arc<Mutex<Vec<Forward>>>,
    permits: Arc<Semaphore>,
    tasks: TaskTracker,
    keeper: Keeper,
}

#[derive(Debug)]
struct Forward {
    local: String,
    /// Its listener ends when this is dropped.
    route: watch::Sender<Route>,
    /// Tells it from an earlier one of the same address.
    mark: Arc<()>,
}

impl Forwards {
    pub(super) fn new(tasks: TaskTracker, keeper: Keeper) -> Self {
        Self { standing: Arc::default(), permits: Arc::new(Semaphore::new(CONNECTIONS_MAX)), tasks, keeper }
    }

    /// Begins a forward, and gives the port where it listens on one that was not there before.
    pub(super) async fn begin(&self, local: &str, rebind: Rebind, route: Route) -> Result<Option<u16>, String> {
        {
            let standing = self.standing();
            if let Some(known) = standing.iter().find(|known| known.local == local) {
                if rebind == Rebind::Refused {
                    return Err("cannot rebind existing socket".to_owned());
                }
                known.route.send_replace(route);
                return Ok(None);
            }
            if standing.len() >= FORWARDS_MAX {
                return Err(format!("cannot bind listener: {FORWARDS_MAX} forwards stand already"));
            }
        }
        let unbound = |why: String| format!("cannot bind listener: {why}");
        let address = HostAddress::parse(local).map_err(unbound)?;
        let listener = address.listen().await.map_err(|error| unbound(words(&error)))?;
        let port = listener.port();
        let local = port.map_or_else(|| local.to_owned(), |port| format!("tcp:{port}"));
        let (sender, receiver) = watch::channel(route);
        let mark = Arc::new(());
        self.standing().push(Forward { local, route: sender, mark: Arc::clone(&mark) });
        let forwards = self.clone();
        self.tasks.spawn(async move {
            let mut connections = JoinSet::new();
            forwards.serve(&listener, receiver, &mut connections).await;
            drop(listener);
            forwards.standing().retain(|known| !Arc::ptr_eq(&known.mark, &mark));
            // What is under way goes on without its forward.
            while connections.join_next().await.is_some() {}
        });
        Ok(port)
    }

    /// Ends the forward of `local`; whether there was one.
    pub(super) fn end(&self, local: &str) -> Result<(), String> {
        let mut standing = self.standing();
        let before = standing.len();
        standing.retain(|known| known.local != local);
        if standing.len() < before { Ok(()) } else { Err(format!("listener '{local}' not found")) }
    }

    /// Ends all of them.
    pub(super) fn end_all(&self) {
        self.standing().clear();
    }

    /// Each one as `adb forward --list` shows it.
    pub(super) fn text(&self) -> String {
        let line = |forward: &Forward| {
            let route = forward.route.borrow();
            format!("{} {} {}\n", route.phone, forward.local, route.remote)
        };
        self.standing().iter().map(line).collect()
    }

    fn standing(&self) -> MutexGuard<'_, Vec<Forward>> {
        // Nothing in here panics half-way through a change.
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes connections until the forward, or its phone's connection, has ended.
    async fn serve(&self, listener: &HostListener, mut routes: watch::Receiver<Route>, connections: &mut JoinSet<()>) {
        loop {
            let route = routes.borrow_and_update().clone();
            let accept = async {
                let permit = self.permits.clone().acquire_owned().await;
                (permit, listener.accept().await)
            };
            tokio::select! {
                changed = routes.changed() => if changed.is_err() { return },
                _ = route.adb.closed() => return,
                (permit, accepted) = accept => match accepted {
                    Ok((reader, writer)) => {
                        let keeper = self.keeper.clone();
                        connections.spawn(async move {
                            let _permit = permit;
                            carry(&route, reader, writer, &keeper).await;
                        });
                    }
                    Err(error) => {
                        debug!("a connection to a forward could not be let in: {error}");
                        tokio::time::sleep(ACCEPT_RETRY).await;
                    }
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }
}

/// The system's words as Google's server has them, without their number.
fn words(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error ").next().unwrap_or(&text).to_owned()
}

async fn carry(route: &Route, reader: ReadHalf, writer: WriteHalf, keeper: &Keeper) {
    let tally = match keeper.begin(&route.phone, &route.who, Family::of(&route.remote)).await {
        Ok(tally) => tally,
        // A forward has no words for it.
        Err(why) => return warn!("a connection to {} is not let in: {why}", route.phone),
    };
    match route.adb.open(route.remote.clone()).await {
        Ok(stream) => splice(reader, writer, stream, route.adb.payload_max(), &tally).await,
        // As from Google's server, the connection just ends.
        Err(error) => debug!("a forward to {} leads nowhere: {error}", route.phone),
    }
}
