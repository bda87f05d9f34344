//! Forwards: connections to an address on this host go to one of a phone. A forward ends with the way to its phone.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_util::task::TaskTracker;
use tracing::{debug, warn};

use super::answer::{self, OKAY};
use super::keeper::Keeper;
use super::request::Rebind;
use super::socket::{HostAddress, HostListener, ReadHalf, WriteHalf};
use super::splice::splice;
use super::uses::Family;
use crate::accept::accept_all;
use crate::adb::driver::Adb;
use crate::rack::ids::PhoneId;

/// The most forwards at once.
const FORWARDS_MAX: usize = 256;
/// The most connections over all forwards at once; the next one waits in the kernel's queue.
const CONNECTIONS_MAX: usize = 256;

/// Where a forward leads.
pub(super) trait Route: Clone + Send + Sync + 'static {
    /// The phone, as `adb forward --list` names it.
    fn serial(&self) -> &str;

    /// The service to open there: `tcp:7100`.
    fn remote(&self) -> &str;

    /// Ends when the way there has.
    fn closed(&self) -> impl Future<Output = ()> + Send;

    /// Carries a connection there, until either end has had enough. Where it leads nowhere it just ends, as from Google's server.
    fn carry(self, connection: (ReadHalf, WriteHalf)) -> impl Future<Output = ()> + Send;
}

/// All forwards. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Forwards<R> {
    standing: Arc<Mutex<Vec<Forward<R>>>>,
    permits: Arc<Semaphore>,
    tasks: TaskTracker,
}

#[derive(Debug)]
struct Forward<R> {
    local: String,
    /// Its listener ends when this is dropped.
    route: watch::Sender<R>,
    /// Tells it from an earlier one of the same address.
    mark: Arc<()>,
}

impl<R: Route> Forwards<R> {
    pub(super) fn new(tasks: TaskTracker) -> Self {
        Self { standing: Arc::default(), permits: Arc::new(Semaphore::new(CONNECTIONS_MAX)), tasks }
    }

    /// Begins a forward; the answer to whoever asked, with the port where it listens on one that was not there before.
    pub(super) async fn begin(&self, local: &str, rebind: Rebind, route: R) -> Result<Vec<u8>, String> {
        let port = self.stand(local, rebind, route).await?;
        let port = port.map(|port| answer::text(&port.to_string())).unwrap_or_default();
        Ok([OKAY, OKAY, &port].concat())
    }

    async fn stand(&self, local: &str, rebind: Rebind, route: R) -> Result<Option<u16>, String> {
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
            forwards.serve(&listener, &receiver, &mut connections).await;
            drop(listener);
            forwards.standing().retain(|known| !Arc::ptr_eq(&known.mark, &mark));
            // What is under way goes on without its forward.
            while connections.join_next().await.is_some() {}
        });
        Ok(port)
    }

    /// Ends the forward of `local`; the answer to whoever asked.
    pub(super) fn end(&self, local: &str) -> Result<Vec<u8>, String> {
        let mut standing = self.standing();
        let before = standing.len();
        standing.retain(|known| known.local != local);
        if standing.len() < before { Ok(OKAY.repeat(2)) } else { Err(format!("listener '{local}' not found")) }
    }

    /// Ends all of them; the answer to whoever asked.
    pub(super) fn end_all(&self) -> Vec<u8> {
        self.standing().clear();
        OKAY.repeat(2)
    }

    /// Each one as `adb forward --list` shows it.
    pub(super) fn listed(&self) -> Vec<u8> {
        let line = |forward: &Forward<R>| {
            let route = forward.route.borrow();
            format!("{} {} {}\n", route.serial(), forward.local, route.remote())
        };
        answer::okay(&self.standing().iter().map(line).collect::<String>())
    }

    fn standing(&self) -> MutexGuard<'_, Vec<Forward<R>>> {
        // Nothing in here panics half-way through a change.
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes connections until the forward, or the way to its phone, has ended.
    async fn serve(&self, listener: &HostListener, routes: &watch::Receiver<R>, connections: &mut JoinSet<()>) {
        let carry = |connection| {
            let route = routes.borrow().clone();
            route.carry(connection)
        };
        let accept = || listener.accept();
        tokio::select! {
            () = ended(routes.clone()) => {}
            never = accept_all("program at a forward", &self.permits, connections, accept, carry) => match never {},
        }
    }
}

/// Ends when nobody changes the route any more, or the way by the last one has ended.
async fn ended<R: Route>(mut routes: watch::Receiver<R>) {
    loop {
        let route = routes.borrow_and_update().clone();
        tokio::select! {
            changed = routes.changed() => if changed.is_err() { return },
            () = route.closed() => return,
        }
    }
}

/// The system's words as Google's server has them, without their number.
fn words(error: &std::io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error ").next().unwrap_or(&text).to_owned()
}

/// To a phone of this host.
#[derive(Clone, Debug)]
pub(super) struct PhoneRoute {
    pub(super) phone: PhoneId,
    pub(super) adb: Adb,
    pub(super) remote: String,
    /// Who asked for it: its connections are his.
    pub(super) who: String,
    pub(super) keeper: Keeper,
}

impl Route for PhoneRoute {
    fn serial(&self) -> &str {
        self.phone.as_str()
    }

    fn remote(&self) -> &str {
        &self.remote
    }

    async fn closed(&self) {
        self.adb.closed().await;
    }

    async fn carry(self, (reader, writer): (ReadHalf, WriteHalf)) {
        let tally = match self.keeper.begin(&self.phone, &self.who, Family::of(&self.remote)).await {
            Ok(tally) => tally,
            // A forward has no words for it.
            Err(why) => return warn!("a connection to {} is not let in: {why}", self.phone),
        };
        match self.adb.open(self.remote).await {
            Ok(stream) => splice(reader, writer, stream, self.adb.piece_max(), &tally).await,
            Err(error) => debug!("a forward to {} leads nowhere: {error}", self.phone),
        }
    }
}
