//! The daemon: sources, the model, actors and sinks, wired together and taken down again.
//!
//! ```text
//!     run ──▶ Parts::start: lock the state, open the store, read the keys, check the agent
//!         ──▶ sources and actors, each with its end of a bounded queue
//!         ──▶ model::Model, the one owner of the rack
//!         ──▶ sinks on a watch of its snapshots
//! ```
//!
//! Nothing here decides anything: this is the wiring. What is not configured is not started.

mod backlog;
mod clock;
mod detach;
mod dispatch;
mod doors;
mod identities;
mod keeper;
mod leases;
mod model;
mod reload;
mod requests;
mod sources;
mod tokens;
mod twins;
mod uses;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use self::backlog::Backlog;
use self::clock::Clock;
use self::dispatch::{Dispatch, Lines, Phones};
use self::doors::Doors;
use self::model::Model;
use self::requests::Asked;
use self::sources::Sources;
use crate::adb::auth::{KeyError, KeyRing};
use crate::adb::online::OnlinePhones;
use crate::adb::server::{AdbServer, CertificateError, TokenDoor};
use crate::adb::services::SharedFiles;
use crate::agent::CheckedApk;
use crate::agent::apk::{self, Expectation};
use crate::agent::fetch::{FetchError, Fetcher};
use crate::central::line::{LineSettings, Storage, TlsError};
use crate::config::{Announce, Config, Policy, Sims, Usb};
use crate::phone::WantedAgent;
use crate::phone::actor::ActorContext;
use crate::phone::tools::ToolServer;
use crate::rack::detach::DetachEvent;
use crate::rack::identities::IdentityEvent;
use crate::rack::ids::HubName;
use crate::rack::lease::LeaseEvent;
use crate::rack::snapshot::SwitchedOff;
use crate::rack::{Event, PowerLedger, Rack, Settings, Snapshot};
use crate::rollout::artefact::RackAgent;
use crate::store::outbox::{Limits, Outbox};
use crate::store::promise::Promise;
use crate::store::{StateDir, StateDirError, Store, StoreError};
use crate::usb::{Bus, BusError};
use crate::web::{Access, BindError, Desk};
use crate::{announce, host, mqtt, power, rollout};

/// Events that wait for the model. It never waits itself, so the queue is short; when it is full, actors wait.
const EVENTS_MAX: usize = 1024;
/// Operators' requests that wait for the model; one more is refused.
const REQUESTS_MAX: usize = 64;
/// Words for the rollouts that wait while a step is being committed: a few a phone.
const ROLLOUT_MAX: usize = 4096;
/// The longest that everything may take to end: what has not ended by then has nothing to lose.
const SHUTDOWN_MAX: Duration = Duration::from_secs(3);

/// Why the daemon could not start.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum DaemonError {
    /// The state directory is held by another daemon, or cannot be used.
    #[error(transparent)]
    #[diagnostic(transparent)]
    State(#[from] StateDirError),
    /// The store is damaged, too new or not usable.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Store(#[from] StoreError),
    /// This host's ADB keys cannot be read or made.
    #[error("this host's ADB keys: {0}")]
    #[diagnostic(
        code("daemon.keys"),
        help(
            "handsets let in only a host with its key: restore the file from a backup, or remove it to make a new key that every handset must allow again"
        )
    )]
    Keys(#[from] KeyError),
    /// The keys of those who may use the slots' ports cannot be read.
    #[error("[adb_server] keys: {0}")]
    #[diagnostic(code("daemon.adb_keys"), help("each is a copy of an adbkey.pub, as ~/.android has it"))]
    AdbKeys(KeyError),
    /// The adb server has no certificate.
    #[error("the adb server's certificate: {0}")]
    #[diagnostic(
        code("daemon.adb_certificate"),
        help(
            "`cert` and `key` in [adb_server] are PEM files that go together; without them farmhand makes a certificate"
        )
    )]
    Certificate(CertificateError),
    /// TLS to the central server can't be spoken as configured.
    #[error(transparent)]
    #[diagnostic(transparent)]
    CentralTls(#[from] TlsError),
    /// The maker of the key died.
    #[error("this host's ADB key could not be made: the thread that makes it has panicked")]
    #[diagnostic(code("daemon.keys"))]
    KeysPanicked,
    /// An address or the socket is taken.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Bind(#[from] BindError),
    /// The port of the adb server is taken.
    #[error("adb can't be served at {listen}: {reason}")]
    #[diagnostic(
        code("daemon.adb_server"),
        help(
            "an adb server of Google's may be there: `adb kill-server` ends it; or choose another `listen` or `slot_base` in [adb_server]"
        )
    )]
    AdbServer {
        /// The address.
        listen: std::net::SocketAddr,
        /// What the system said.
        reason: std::io::Error,
    },
    /// The host has USB, and it cannot be used.
    #[error("USB cannot be scanned: {0}")]
    #[diagnostic(code("daemon.usb"), help("`[usb] scan = false` runs without USB"))]
    Usb(#[from] BusError),
    /// The folder for fetched APKs cannot be used.
    #[error("APKs cannot be fetched: {0}")]
    #[diagnostic(code("daemon.fetch"))]
    Fetch(#[from] FetchError),
    /// A hub's driver has no thread.
    #[error("the driver of hub {hub} cannot be started: {reason}")]
    #[diagnostic(code("daemon.hub"))]
    Hub {
        /// Which.
        hub: HubName,
        /// What the system said.
        reason: std::io::Error,
    },
}

/// Runs the daemon on a state directory until `cancel`. Of each further configuration that comes by `reloads` it takes over what can
/// change while it runs: the policy.
///
/// # Errors
/// [`DaemonError`] when it cannot start.
pub async fn run(
    config: Config,
    reloads: mpsc::Receiver<Config>,
    state: &Path,
    cancel: CancellationToken,
) -> Result<(), DaemonError> {
    let state = StateDir::lock(state)?;
    let store = Store::open(&state)?;
    let keys = Arc::new(load_keys(state.path()).await?);
    let doors = Doors::open(&config, state.path()).await?;

    let clock = Clock::start();
    let (agent, refused) = check_agent(&config).await;
    let upgrades = Upgrades::prepare(&config, &state, &store, agent).await?;
    let mut settings = Settings::from(&config);
    settings.agent = upgrades.wanted().await;
    settings.switched_off.extend(refused);
    let rack = restore_rack(settings, &store, &clock).await?;
    let (events, inbox) = mpsc::channel(EVENTS_MAX);
    let (requests, asks) = mpsc::channel(REQUESTS_MAX);
    let (snapshots, snapshot) = watch::channel(Arc::new(rack.snapshot(clock.now())));
    let (owner, policy) = watch::channel(Arc::new(config.policy.clone()));
    let (access, token_door) = let_in_by_tokens(&store, &doors, &cancel).await?;
    let desk = Desk { snapshots: snapshot.clone(), requests, policy: policy.clone(), store: store.clone(), access };
    let tasks = TaskTracker::new();
    let sources = Sources { events: events.clone(), tasks: tasks.clone(), cancel: cancel.clone() };

    let bus = start_usb(&config, &sources)?;
    let context = ActorContext {
        keys,
        package: config.agent.as_ref().map(|agent| agent.package.clone()),
        upkeep: config.agent.as_ref().map(|agent| agent.upkeep.clone()).unwrap_or_default(),
        sims: config.central.as_ref().map_or(Sims::Kept, |central| central.identity.sims),
        install_timeout: config.rollout.install_timeout,
        apks: SharedFiles::default(),
        bus,
        events: events.clone(),
        online: OnlinePhones::default(),
    };
    let tools = ToolServer { snapshots: snapshot.clone(), online: context.online.clone(), events: events.clone() };
    let (online, records) = (context.online.clone(), uses::keep(store.clone(), &tasks));
    let adb_server = AdbServer::start(snapshot.clone(), online, events.clone(), records, &cancel);
    let lines = start_lines(&config, policy, (&state, &store), &context, &sources)?;
    let phones = start_phones(&config, &rack, context, &cancel);
    let (dispatch, asked) = start_actors(&config, upgrades, store, lines, phones, &sources).await?;
    if let Err(why) = host::spawn(state.path().to_owned(), sources.relay(8, crate::rack::Event::Host), cancel.clone()) {
        warn!("the host's health is not read: {why}");
    }
    start_sinks(&config, &snapshot, &sources);
    tasks.spawn(cancel.clone().run_until_cancelled_owned(reload::serve(config.clone(), reloads, owner)));
    let announcement = doors.page.as_ref().and_then(|page| announce_page(&config, page));
    doors.serve(desk, tools, adb_server, token_door, (&tasks, &cancel))?;
    let model = Model { rack, clock, events: inbox, asks, snapshots, dispatch, asked };
    info!(state = %state.path().display(), "farmhand {} is ready", env!("CARGO_PKG_VERSION"));
    tell_service_manager(sd_notify::NotifyState::Ready);
    model.run(cancel.clone()).await;

    tell_service_manager(sd_notify::NotifyState::Stopping);
    cancel.cancel();
    drop(announcement);
    tasks.close();
    if tokio::time::timeout(SHUTDOWN_MAX, tasks.wait()).await.is_err() {
        warn!("some tasks did not end in {} s and are left behind", SHUTDOWN_MAX.as_secs());
    }
    info!("farmhand has stopped");
    Ok(())
}

/// What the rollouts begin with.
struct Upgrades {
    promises: Vec<Promise>,
    fetcher: Fetcher,
    agent: Option<RackAgent>,
}

impl Upgrades {
    async fn prepare(
        config: &Config,
        state: &StateDir,
        store: &Store,
        checked: Option<WantedAgent>,
    ) -> Result<Self, DaemonError> {
        let fetcher = Fetcher::new(state.path().join("apks"), config.rollout.sources.clone())?;
        let agent = config.agent.clone().map(|configured| RackAgent { configured, checked });
        Ok(Self { promises: store.load_rollouts().await?, fetcher, agent })
    }

    /// What phones without the agent get, before the rollouts say another one.
    async fn wanted(&self) -> Option<WantedAgent> {
        self.agent.as_ref()?.wanted(&self.promises, self.fetcher.store()).await
    }
}

/// The model as it was promised.
async fn restore_rack(settings: Settings, store: &Store, clock: &Clock) -> Result<Rack, DaemonError> {
    let mut rack = Rack::restore(settings, store.load_power().await?, clock.epoch(), clock.now());
    for lease in store.load_leases().await? {
        rack.apply(clock.now(), Event::Lease { event: LeaseEvent::Taken(lease), ask: None });
    }
    for detachment in store.load_detachments().await? {
        // What must be left has no actor yet.
        rack.apply(clock.now(), Event::Detach { event: DetachEvent::Detached(detachment), ask: None });
    }
    rack.apply(clock.now(), Event::Twins(store.load_shared_serials().await?));
    let set = IdentityEvent::Set(store.load_identities().await?);
    rack.apply(clock.now(), Event::Identity { event: set, ask: None });
    Ok(rack)
}

/// Who comes to the adb server from other machines.
async fn let_in_by_tokens(
    store: &Store,
    doors: &Doors,
    cancel: &CancellationToken,
) -> Result<(Access, TokenDoor), DaemonError> {
    let known = store.load_tokens().await?;
    let tokens = tokens::spawn(store.clone(), known, doors.certificate(), cancel.clone());
    let access = Access { book: tokens.book.clone(), orders: tokens.orders, doors: Arc::new(doors.shown()) };
    Ok((access, TokenDoor { book: tokens.book, refused: tokens.refused }))
}

/// Making the first key takes seconds on a small host.
async fn load_keys(state: &Path) -> Result<KeyRing, DaemonError> {
    let dir = state.to_owned();
    let loaded = tokio::task::spawn_blocking(move || KeyRing::of_host(&dir)).await;
    loaded.map_err(|_| DaemonError::KeysPanicked)?.map_err(DaemonError::Keys)
}

/// The agent as configured, checked before any phone sees it; or what is off instead, and why.
async fn check_agent(config: &Config) -> (Option<WantedAgent>, Option<SwitchedOff>) {
    let Some((configured, apk)) = config.agent.as_ref().and_then(|agent| Some((agent, agent.apk.clone()?))) else {
        return (None, None);
    };
    if configured.signers.is_empty() {
        warn!("[agent] signers is empty: an APK of {} by any signer is installed", configured.package);
    }
    let expected = Expectation {
        package: configured.package.clone(),
        signers: configured.signers.clone(),
        version_code: None,
        version_name: None,
        installed: None,
    };
    let file = apk.clone();
    let Ok(checked) = tokio::task::spawn_blocking(move || apk::check(&file, &expected)).await else {
        return (None, None);
    };
    match checked {
        Ok(checked) => {
            let CheckedApk { package, version_code, version_name, signer_sha256, sha256, .. } = checked;
            info!("the agent is {package} version {version_name}, signed by {signer_sha256}");
            (Some(WantedAgent { apk, package, version_code, sha256 }), None)
        }
        Err(refusal) => {
            error!("the agent's APK {} is refused, so no agent is installed: {refusal}", apk.display());
            let how = format!("mend [agent] apk = \"{}\": {refusal}", apk.display());
            (None, Some(SwitchedOff { what: "installing the agent".to_owned(), how }))
        }
    }
}

fn start_usb(config: &Config, sources: &Sources) -> Result<Option<Bus>, BusError> {
    if config.usb == Usb::Off {
        return Ok(None);
    }
    let (bus, events) = Bus::start(sources.cancel.clone())?;
    sources.usb(events);
    Ok(Some(bus))
}

/// The actors of the slots, but for those whose interface is another program's.
fn start_phones(config: &Config, rack: &Rack, context: ActorContext, cancel: &CancellationToken) -> Phones {
    let mut phones = Phones::new(Arc::new(context), cancel.clone());
    for slot in config.slots.iter().filter(|slot| !rack.is_detached(&slot.endpoint)) {
        phones.watch(&slot.endpoint);
    }
    phones
}

/// The lines to the central server; none without one.
fn start_lines(
    config: &Config,
    policy: watch::Receiver<Arc<Policy>>,
    (state, store): (&StateDir, &Store),
    context: &ActorContext,
    sources: &Sources,
) -> Result<Option<Lines>, DaemonError> {
    let Some(central) = config.central.as_ref() else { return Ok(None) };
    if central.tls.is_none() {
        warn!("the lines to the central server are not encrypted: [central.tls] is off");
    }
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let limits = Limits { bytes: u64::from(central.outbox.max_mb) * 1_000_000, age: central.outbox.max_age };
    let outbox = Outbox::start(state, credentials, limits).map_err(|_| StoreError::Stopped)?;
    let (upgrades, online) = (config.rollout.from_central, context.online.clone());
    let storage = Storage { outbox, per_second: central.outbox.per_second };
    let settings = LineSettings::new(central, upgrades, policy, store.clone(), online, Some(storage))?;
    Ok(Some(Lines::new(settings, sources.events.clone(), sources.cancel.clone())))
}

/// The actors that take the model's commands.
async fn start_actors(
    config: &Config,
    upgrades: Upgrades,
    store: Store,
    lines: Option<Lines>,
    phones: Phones,
    sources: &Sources,
) -> Result<(Dispatch, Asked), DaemonError> {
    let cancel = &sources.cancel;
    let mut hubs = BTreeMap::new();
    for hub in &config.hubs {
        let (orders, inbox) = mpsc::channel(16);
        power::hub::spawn(hub, inbox, sources.hub(hub.name.clone()), cancel.clone())
            .map_err(|reason| DaemonError::Hub { hub: hub.name.clone(), reason })?;
        hubs.insert(hub.name.clone(), orders);
    }

    let (ledgers, newest) = watch::channel((0, PowerLedger::default()));
    let answers = sources.relay(8, crate::rack::Event::Power);
    sources.tasks.spawn(keeper::keep(store.clone(), newest, answers, cancel.clone()));

    let (shared_serials, twins) = watch::channel(BTreeSet::new());
    sources.tasks.spawn(twins::keep(store.clone(), twins, cancel.clone()));

    let (rollouts, commands) = mpsc::channel(ROLLOUT_MAX);
    let (asks, requests) = mpsc::channel(REQUESTS_MAX);
    let leases = leases::spawn(store.clone(), sources.events.clone(), cancel.clone());
    let identities = identities::spawn(store.clone(), sources.events.clone(), cancel.clone());
    let detachments = detach::spawn(store.clone(), sources.events.clone(), cancel.clone());
    let channels =
        rollout::actor::Channels { commands, requests, events: sources.relay(64, crate::rack::Event::Rollout) };
    let (settings, Upgrades { promises, fetcher, agent }) = (config.rollout.clone(), upgrades);
    rollout::actor::spawn(settings, agent, fetcher, store, promises, channels, cancel.clone());
    let dispatch = Dispatch {
        phones,
        lines,
        hubs,
        power: ledgers,
        twins: shared_serials,
        holds: leases.clone(),
        rollouts: Backlog::new(rollouts),
    };
    Ok((dispatch, Asked::new(asks, leases, identities, detachments)))
}

fn start_sinks(config: &Config, snapshots: &watch::Receiver<Arc<Snapshot>>, sources: &Sources) {
    if let Some(mqtt) = &config.mqtt {
        let states = sources.relay(8, crate::rack::Event::Mqtt);
        let teller =
            mqtt::spawn(mqtt.clone(), config.rack_name.clone(), snapshots.clone(), states, sources.cancel.clone());
        // Its last word, that this rack is off line, is waited for at the end.
        sources.tasks.spawn(teller);
    }
}

fn announce_page(config: &Config, page: &tokio::net::TcpListener) -> Option<announce::Announcement> {
    let address = page.local_addr().ok()?;
    let wanted = config.web.as_ref().is_some_and(|web| web.announce == Announce::Mdns);
    if !wanted || address.ip().is_loopback() {
        return None;
    }
    match announce::start(&config.rack_name, address.port()) {
        Ok(announcement) => Some(announcement),
        Err(error) => {
            warn!("the page is not announced by mDNS: {error}");
            None
        }
    }
}

fn tell_service_manager(state: sd_notify::NotifyState) {
    if let Err(error) = sd_notify::notify(&[state]) {
        warn!("the service manager could not be told: {error}");
    }
}
