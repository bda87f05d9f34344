//! A phone's actor: the task that owns its ADB connection and carries the model's commands out.
//!
//! ```text
//!     model ──Command──▶ mailbox ──▶ actor ──▶ work (open, read, install, probe) over streams of one connection
//!       ▲                               │
//!       └────────── Event ──────────────┘
//! ```
//!
//! An actor decides nothing: [`super::life`] does. Work of different kinds runs side by side on streams of their own, so that a
//! probe is answered in the middle of an install. The actor of a TCP endpoint also looks whether its phone is there, since no
//! bus tells.
//!
//! Invariant: every piece of work ends by its own deadline, and all of it ends with the connection.

pub mod upkeep;
mod work;

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::debug;

use super::{Command, Event, OpenFault};
use crate::adb::auth::KeyRing;
use crate::adb::banner::PeerKind;
use crate::adb::driver::Adb;
use crate::adb::online::{OnlinePhones, Seat};
use crate::adb::services::SharedFiles;
use crate::config::{Sims, Upkeep};
use crate::rack;
use crate::rack::ids::{Endpoint, PackageName};

/// Between two looks at a TCP address where nothing answers: half of it passes on average before a phone that comes is seen, and
/// it shall be of use within half a second. A refused look costs one packet each way; one that nobody answers takes
/// `TCP_CONNECT_MAX`.
const DIAL_EVERY: Duration = Duration::from_millis(250);

/// Between two tries at a TCP address where not Android has answered: it takes minutes to be back.
const OTHER_MODE_DIAL: Duration = Duration::from_secs(10);

/// What the actors of all phones share.
pub struct ActorContext {
    /// This host's ADB keys.
    pub keys: Arc<KeyRing>,
    /// The package whose version is read, and which rollouts install.
    pub package: Option<PackageName>,
    /// What the owner wants to be so on each phone, beside the agent's version.
    pub upkeep: Upkeep,
    /// Whether SIM cards are read.
    pub sims: Sims,
    /// The longest that one install may take.
    pub install_timeout: Duration,
    /// The APKs that phones are sent now.
    pub apks: SharedFiles,
    /// The host's USB, where it is scanned.
    pub bus: Option<crate::usb::Bus>,
    /// The model's queue. Life-cycle events wait for room in it.
    pub events: mpsc::Sender<rack::Event>,
    /// Where phones that are online are found by who has something to do on them.
    pub online: OnlinePhones,
}

/// Starts the actor of the phone at `endpoint`.
pub fn spawn(
    context: Arc<ActorContext>,
    endpoint: Endpoint,
    commands: mpsc::Receiver<Command>,
    cancel: CancellationToken,
) {
    let look = if matches!(endpoint, Endpoint::Tcp(_)) { Look::Dial { from: Instant::now() } } else { Look::ToldByBus };
    let actor = Actor { context, endpoint, adb: None, seat: None, look, visit: Visit::First, work: JoinSet::new() };
    tokio::spawn(async move {
        tokio::select! {
            () = cancel.cancelled() => {}
            () = actor.run(commands) => {}
        }
    });
}

struct Actor {
    context: Arc<ActorContext>,
    endpoint: Endpoint,
    adb: Option<Adb>,
    /// As long as there is a connection.
    seat: Option<Seat>,
    look: Look,
    visit: Visit,
    work: JoinSet<Outcome>,
}

/// Whether the profile of a phone that has started was read over this connection before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Visit {
    /// Nothing of ours is under way on the phone: what an install of ours has left there can go.
    First,
    Again,
}

/// How the actor learns that its phone is there.
enum Look {
    /// Hotplug tells.
    ToldByBus,
    /// Nothing answers at the address; it is tried again and again, from then on.
    Dial { from: Instant },
    /// It answered just now, and waits for the order to open.
    Answered(TcpStream),
    /// It was opened, will be, or is left to others.
    Opened,
}

/// What a piece of work came to.
enum Outcome {
    Opened(Result<Adb, (OpenFault, String)>),
    Restarted(Result<(), String>),
    Report(Event),
}

impl Actor {
    async fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        loop {
            let event = tokio::select! {
                command = commands.recv() => match command {
                    Some(command) => self.begin(command),
                    None => return,
                },
                Some(done) = self.work.join_next() => {
                    if let (Ok(Outcome::Restarted(Ok(()))), Endpoint::Tcp(_)) = (&done, &self.endpoint) {
                        // No bus tells when it goes and when it is back.
                        self.look = Look::Dial { from: Instant::now() + DIAL_EVERY };
                        let (endpoint, why) = (self.endpoint.clone(), "it restarts".to_owned());
                        if self.context.events.send(rack::Event::Gone { endpoint, why }).await.is_err() {
                            return;
                        }
                    }
                    done.ok().and_then(|outcome| self.finish(outcome))
                }
                why = lost(self.adb.as_ref()) => {
                    self.disconnect();
                    Some(Event::Lost { why })
                }
                stream = dial(&self.look, &self.endpoint) => {
                    self.look = Look::Answered(stream);
                    let appeared = rack::Event::Appeared { endpoint: self.endpoint.clone(), serial: None };
                    if self.context.events.send(appeared).await.is_err() {
                        return;
                    }
                    None
                }
            };
            if let Some(event) = event {
                let event = rack::Event::Phone { endpoint: self.endpoint.clone(), event };
                if self.context.events.send(event).await.is_err() {
                    return;
                }
            }
        }
    }

    fn begin(&mut self, command: Command) -> Option<Event> {
        debug!(endpoint = %self.endpoint, ?command, "ordered");
        match command {
            Command::Open => {
                self.disconnect();
                let held = match std::mem::replace(&mut self.look, Look::Opened) {
                    Look::Answered(stream) => Some(stream),
                    Look::ToldByBus | Look::Dial { .. } | Look::Opened => None,
                };
                let (context, endpoint) = (Arc::clone(&self.context), self.endpoint.clone());
                self.work.spawn(async move { Outcome::Opened(work::open(&context, &endpoint, held).await) });
                None
            }
            Command::Close => {
                self.disconnect();
                None
            }
            Command::Leave => {
                self.disconnect();
                if matches!(self.endpoint, Endpoint::Tcp(_)) {
                    self.look = Look::Opened;
                }
                None
            }
            Command::ResetUsb => {
                self.disconnect();
                let (context, endpoint) = (Arc::clone(&self.context), self.endpoint.clone());
                self.work.spawn(async move {
                    Outcome::Report(Event::Acted { result: work::reset_usb(&context, &endpoint).await })
                });
                None
            }
            Command::Reboot => {
                let (context, endpoint, adb) = (Arc::clone(&self.context), self.endpoint.clone(), self.adb.take());
                self.work.spawn(async move { Outcome::Restarted(work::reboot(&context, &endpoint, adb).await) });
                None
            }
            Command::ReadProfile => {
                let visit = self.visit;
                let read = |adb, context| work::read_profile(adb, context, visit);
                self.over_adb(|why| Event::ProfileFailed { why }, read)
            }
            Command::Probe => self.over_adb(|why| Event::ProbeFailed { why }, |adb, _| work::probe(adb)),
            Command::Upkeep => self.over_adb(|_| Event::Upkept(Box::default()), upkeep::look_after),
            Command::RestartAgent => {
                self.over_adb(|why| Event::AgentRestarted { result: Err(why) }, work::restart_agent)
            }
            Command::Inspect { rollout, within } => {
                let (asked, nothing) = (rollout.clone(), Box::default());
                self.over_adb(
                    |_| Event::Inspected { rollout: asked, health: nothing, within },
                    |adb, context| work::inspect(adb, context, rollout, within),
                )
            }
            Command::Provision { agent } => {
                self.over_adb(|why| Event::Lost { why }, |adb, context| work::provision(adb, context, agent))
            }
            Command::Install { order } => {
                let refused = order.rollout.clone();
                self.over_adb(
                    |why| Event::Installed { rollout: refused, result: Err(super::InstallFailure::interrupted(&why)) },
                    |adb, context| work::install(adb, context, order),
                )
            }
        }
    }

    /// Starts work that needs the connection; `without` is the report if there is none.
    fn over_adb<F>(
        &mut self,
        without: impl FnOnce(String) -> Event,
        work: impl FnOnce(Adb, Arc<ActorContext>) -> F,
    ) -> Option<Event>
    where
        F: Future<Output = Event> + Send + 'static,
    {
        let Some(adb) = self.adb.clone() else { return Some(without("there is no connection to it".to_owned())) };
        let work = work(adb, Arc::clone(&self.context));
        self.work.spawn(async move { Outcome::Report(work.await) });
        None
    }

    fn finish(&mut self, outcome: Outcome) -> Option<Event> {
        match outcome {
            Outcome::Report(event) => {
                if matches!(&event, Event::Profile(profile) if profile.booted) {
                    self.visit = Visit::Again;
                }
                Some(event)
            }
            Outcome::Restarted(result) => {
                // Nobody is to begin anything over the connection that ends by it.
                self.seat = None;
                Some(Event::Acted { result })
            }
            Outcome::Opened(Ok(adb)) => {
                let banner = adb.banner();
                if let Some(why) = other_mode(&banner.kind) {
                    adb.close();
                    if matches!(self.endpoint, Endpoint::Tcp(_)) {
                        // No bus tells when Android is back.
                        self.look = Look::Dial { from: Instant::now() + OTHER_MODE_DIAL };
                    }
                    return Some(Event::OtherMode { why });
                }
                let event = Event::Opened { model: banner.model.clone(), features: banner.features.clone() };
                self.visit = Visit::First;
                self.seat = Some(self.context.online.sit(self.endpoint.clone(), adb.clone()));
                self.adb = Some(adb);
                Some(event)
            }
            Outcome::Opened(Err((fault, why))) => {
                let tcp = matches!(self.endpoint, Endpoint::Tcp(_));
                if tcp && fault == OpenFault::Gone {
                    // What accepts and hangs up at once is not dialled in a hot loop.
                    self.look = Look::Dial { from: Instant::now() + DIAL_EVERY };
                }
                Some(Event::OpenFailed { fault, why })
            }
        }
    }

    /// Ends the connection and all work over it.
    fn disconnect(&mut self) {
        self.work = JoinSet::new();
        self.seat = None;
        if let Some(adb) = self.adb.take() {
            adb.close();
        }
    }
}

/// What answers where it is not Android, and what to do about it.
fn other_mode(kind: &PeerKind) -> Option<String> {
    let what = match kind {
        PeerKind::Device => return None,
        PeerKind::Recovery => "is in recovery: choose \"reboot system now\" on it, or `adb reboot`",
        PeerKind::Sideload => "waits for `adb sideload`: give it its update, or restart it",
        PeerKind::Rescue => "is in rescue mode after Android failed to start several times: it needs a hand",
        PeerKind::Bootloader => "is in its bootloader: restart it",
        PeerKind::Other(word) => {
            return Some(format!("it answers as `{word}`, which is no Android that runs: restart it"));
        }
    };
    Some(format!("it {what}"))
}

/// Ends when the connection has ended by itself.
async fn lost(adb: Option<&Adb>) -> String {
    match adb {
        Some(adb) => adb.closed().await.to_string(),
        None => std::future::pending().await,
    }
}

/// Ends when the TCP address answers, if it is to be looked at.
async fn dial(look: &Look, endpoint: &Endpoint) -> TcpStream {
    let (Look::Dial { from }, Endpoint::Tcp(address)) = (look, endpoint) else { return std::future::pending().await };
    tokio::time::sleep_until(*from).await;
    loop {
        if let Ok(stream) = work::connect_tcp(*address).await {
            return stream;
        }
        tokio::time::sleep(DIAL_EVERY).await;
    }
}
