//! Forwards that listen on this desk and lead to phones of the rack. They stand until somebody ends them, or the way to the rack ends.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::debug;

use super::rack::Rack;
use super::{begun, carry};
use crate::adb::server::answer::{self, OKAY};
use crate::adb::server::devices::{Scope, Target};
use crate::adb::server::door::ACCEPT_RETRY;
use crate::adb::server::request::{Host, Rebind};
use crate::adb::server::socket::{HostAddress, HostListener};

/// The most forwards at once.
const FORWARDS_MAX: usize = 256;
/// The most connections over all forwards at once; the next one waits in the kernel's queue.
const CONNECTIONS_MAX: usize = 256;

/// Where a forward leads.
#[derive(Clone, Debug)]
struct Route {
    serial: String,
    remote: String,
}

#[derive(Debug)]
struct Forward {
    local: String,
    /// Its listener ends when this is dropped.
    route: watch::Sender<Route>,
}

/// All forwards of this desk. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Forwards {
    rack: Arc<Rack>,
    standing: Arc<Mutex<Vec<Forward>>>,
    permits: Arc<Semaphore>,
}

impl Forwards {
    pub(super) fn new(rack: Arc<Rack>) -> Self {
        Self { rack, standing: Arc::default(), permits: Arc::new(Semaphore::new(CONNECTIONS_MAX)) }
    }

    /// The answer to what is about forwards, on a connection that is bound to a phone or is not; none to everything else.
    pub(super) async fn answer(&self, host: &Host, bound: Option<&Target>) -> Option<Result<Vec<u8>, String>> {
        match host {
            Host::Forward { target, rebind, local, remote } => {
                let target = bound.filter(|_| *target == Target::Any).unwrap_or(target);
                Some(self.begin(target, *rebind, local, remote).await.map(begun))
            }
            Host::KillForward { local } => Some(self.end(local).map(|()| OKAY.repeat(2))),
            Host::KillForwardAll => {
                self.end_all();
                Some(Ok(OKAY.repeat(2)))
            }
            Host::ListForward => Some(Ok(answer::okay(&self.text()))),
            _ => None,
        }
    }

    pub(super) fn end_all(&self) {
        self.standing().clear();
    }

    async fn begin(&self, target: &Target, rebind: Rebind, local: &str, remote: &str) -> Result<Option<u16>, String> {
        // Which phone it is that was meant is known now, and stays.
        let asked = self.rack.ask(&format!("{}get-serialno", prefix(target))).await;
        let serial = asked.map_err(|error| error.to_string())??;
        let route = Route { serial, remote: remote.to_owned() };
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
        let listener = address.listen().await.map_err(|error| unbound(error.to_string()))?;
        let port = listener.port();
        let local = port.map_or_else(|| local.to_owned(), |port| format!("tcp:{port}"));
        let (sender, receiver) = watch::channel(route);
        self.standing().push(Forward { local, route: sender });
        tokio::spawn(serve(listener, receiver, Arc::clone(&self.rack), Arc::clone(&self.permits)));
        Ok(port)
    }

    fn end(&self, local: &str) -> Result<(), String> {
        let mut standing = self.standing();
        let before = standing.len();
        standing.retain(|known| known.local != local);
        if standing.len() < before { Ok(()) } else { Err(format!("listener '{local}' not found")) }
    }

    fn text(&self) -> String {
        let line = |forward: &Forward| {
            let route = forward.route.borrow();
            format!("{} {} {}\n", route.serial, forward.local, route.remote)
        };
        self.standing().iter().map(line).collect()
    }

    fn standing(&self) -> MutexGuard<'_, Vec<Forward>> {
        // Nothing in here panics half-way through a change.
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How a question to the rack says which phone is meant.
fn prefix(target: &Target) -> String {
    match target {
        Target::Any => "host:".to_owned(),
        Target::Of(Scope::Usb) => "host-usb:".to_owned(),
        Target::Of(Scope::Tcp) => "host-local:".to_owned(),
        Target::Named(name) => format!("host-serial:{name}:"),
        Target::Id(id) => format!("host-transport-id:{id}:"),
    }
}

/// Takes connections until the forward is ended; what is under way then goes on without it.
async fn serve(listener: HostListener, mut routes: watch::Receiver<Route>, rack: Arc<Rack>, permits: Arc<Semaphore>) {
    let mut connections = JoinSet::new();
    loop {
        let accept = async {
            let permit = permits.clone().acquire_owned().await;
            (permit, listener.accept().await)
        };
        tokio::select! {
            changed = routes.changed() => if changed.is_err() { break },
            (permit, accepted) = accept => match accepted {
                Ok(local) => {
                    let (route, rack) = (routes.borrow().clone(), Arc::clone(&rack));
                    connections.spawn(async move {
                        let _permit = permit;
                        match rack.open(&route.serial, &route.remote).await {
                            Ok(remote) => carry(local, remote).await,
                            // As from Google's server, the connection just ends.
                            Err(error) => debug!("a forward to {} leads nowhere: {error}", route.serial),
                        }
                    });
                }
                Err(error) => {
                    debug!("a connection to a forward could not be let in: {error}");
                    sleep(ACCEPT_RETRY).await;
                }
            },
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
}
