//! What a phone's actor does over its connection: one function a piece of work, each with its deadlines.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::{ActorContext, Visit};
use crate::adb::driver::{Adb, ConnectOptions, connect};
use crate::adb::services::RebootTarget;
use crate::adb::services::install::{Apk, InstallFlag, InstallOptions, leftovers};
use crate::adb::tcp::TcpTransport;
use crate::adb::transport::Transport;
use crate::checkpoint;
use crate::config::Start;
use crate::phone::upkeep::aim::start_command;
use crate::phone::{Event, InstallFailure, InstallFailureClass, OpenFault, Profile, WantedAgent, profile};
use crate::rack;
use crate::rack::event::InstallOrder;
use crate::rack::gates::Health;
use crate::rack::ids::{Endpoint, PackageName, RolloutId, Serial};
use crate::rack::snapshot::InstalledAgent;
use crate::rack::strategy::Downgrade;

/// A TCP address in the rack's own network answers within milliseconds or not at all.
const TCP_CONNECT_MAX: Duration = Duration::from_secs(2);
/// The protocol's rule: a phone that does not answer a new stream within this is not there.
const PROBE_MAX: Duration = Duration::from_secs(5);
/// As long as a phone acknowledges what is on its way to it, the answer to a new stream comes behind that: 4 MiB at the 300 kB/s that a
/// phone has where many share a slow bus.
const PROBE_BUSY_MAX: Duration = Duration::from_secs(15);
/// A reset re-enumerates the device.
const RESET_MAX: Duration = Duration::from_secs(10);
/// An install that ends because the phone was unplugged may be told before the unplug itself.
const LOST_SOON: Duration = Duration::from_millis(500);

/// Opens the endpoint: transport, CNXN, authentication.
pub(super) async fn open(
    context: &ActorContext,
    endpoint: &Endpoint,
    held: Option<TcpStream>,
) -> Result<Adb, (OpenFault, String)> {
    match endpoint {
        Endpoint::Tcp(address) => {
            let stream = match held {
                Some(stream) => stream,
                None => connect_tcp(*address).await.map_err(|why| (OpenFault::Gone, why))?,
            };
            let transport = TcpTransport::from_socket(stream).map_err(|why| (OpenFault::Gone, why.to_string()))?;
            handshake(context, endpoint, transport).await
        }
        Endpoint::Usb(path) => {
            let Some(bus) = &context.bus else {
                return Err((OpenFault::Gone, "USB is not scanned: [usb] scan is off".to_owned()));
            };
            let transport = bus.open(path).await.map_err(|error| (error.fault, error.to_string()))?;
            let adb = handshake(context, endpoint, transport).await?;
            Ok(context.online.on_its_bus(endpoint, adb))
        }
    }
}

/// CNXN and authentication; the model hears at once when somebody must allow the key on the phone's screen.
async fn handshake(
    context: &ActorContext,
    endpoint: &Endpoint,
    transport: impl Transport,
) -> Result<Adb, (OpenFault, String)> {
    let (wanted, wanted_seen) = oneshot::channel();
    let options = ConnectOptions { authorisation_wanted: Some(wanted), ..ConnectOptions::default() };
    let connected = connect(transport, Arc::clone(&context.keys), options);
    tokio::pin!(connected);
    let result = tokio::select! {
        result = &mut connected => result,
        Ok(()) = wanted_seen => {
            let event = rack::Event::Phone { endpoint: endpoint.clone(), event: Event::AuthorisationWanted };
            // The model ends only with the daemon.
            let _ = context.events.send(event).await;
            connected.await
        }
    };
    result.map_err(|error| (error.kind(), error.to_string()))
}

/// Connects to a TCP address.
///
/// # Errors
/// What the operating system said, as a sentence.
pub(super) async fn connect_tcp(address: SocketAddr) -> Result<TcpStream, String> {
    match timeout(TCP_CONNECT_MAX, TcpStream::connect(address)).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(format!("{address}: {error}")),
        Err(_) => Err(format!("{address}: no answer in {} s", TCP_CONNECT_MAX.as_secs())),
    }
}

pub(super) async fn reset_usb(context: &ActorContext, endpoint: &Endpoint) -> Result<(), String> {
    let (Some(bus), Endpoint::Usb(path)) = (&context.bus, endpoint) else {
        return Err("it is not on this host's USB, so there is nothing to reset".to_owned());
    };
    match timeout(RESET_MAX, bus.reset(path)).await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err(format!("the reset did not end in {} s", RESET_MAX.as_secs())),
    }
}

/// Restarts Android, over the connection that is there or over one of its own.
pub(super) async fn reboot(context: &ActorContext, endpoint: &Endpoint, adb: Option<Adb>) -> Result<(), String> {
    let adb = match adb {
        Some(adb) => adb,
        None => open(context, endpoint, None).await.map_err(|(_, why)| why)?,
    };
    adb.reboot(RebootTarget::System).await.map_err(|error| error.to_string())
}

/// A new stream that must answer: the end-to-end proof of life. With as few messages as there can be, since each of them wakes this
/// host: no protocol around the shell, and its end is not waited for.
pub(super) async fn probe(adb: Adb) -> Event {
    let nonce = format!("farmhand-{:08x}", rand::random::<u32>());
    let command = format!("echo {nonce}");
    let answer = tokio::select! {
        answer = adb.exec_head(&command, nonce.len(), PROBE_BUSY_MAX) => answer.map_err(|error| error.to_string()),
        after = silence(&adb, PROBE_MAX) => Err(format!("it was silent for {} s", after.as_secs())),
    };
    match answer {
        Ok(head) if head == nonce.as_bytes() => Event::ProbeAnswered,
        Ok(head) => {
            Event::ProbeFailed { why: format!("the probe was answered with `{}`", String::from_utf8_lossy(&head)) }
        }
        Err(why) => Event::ProbeFailed { why: format!("the probe was not answered: {why}") },
    }
}

/// Ends when the handset has said nothing for `most`, counted from now on at the earliest.
async fn silence(adb: &Adb, most: Duration) -> Duration {
    let mut left = most;
    loop {
        tokio::time::sleep(left).await;
        left = most.saturating_sub(adb.silent_for());
        if left.is_zero() {
            return most;
        }
    }
}

/// The battery's current, where the kernel or, since Android 15, the battery service tells it to the shell.
const CURRENT: &str = "cat /sys/class/power_supply/battery/current_now 2>/dev/null || cmd battery get current_now";

/// The room for apps, and whether a verifier looks at what ADB installs: together, for each question wakes this host.
const ROOM_AND_VERIFIER: &str =
    "df /data; settings get global package_verifier_enable; settings get global verifier_verify_adb_installs";

/// Asks all questions at once, each on a stream of its own, so that a service that hangs keeps no other from its answer.
pub(super) async fn read_profile(adb: Adb, context: Arc<ActorContext>, visit: Visit) -> Event {
    let package = context.package.clone();
    let room = match (visit, &package) {
        // What is left of an install takes the room that the next one wants.
        (Visit::First, Some(_)) => format!("rm -f {}; {ROOM_AND_VERIFIER}", leftovers()),
        _ => ROOM_AND_VERIFIER.to_owned(),
    };
    let (properties, battery, current, uptime, storage, screen, power, network, imei, agent, ()) = tokio::join!(
        ask(&adb, "getprop"),
        ask(&adb, "dumpsys battery"),
        ask(&adb, CURRENT),
        ask(&adb, "cat /proc/uptime"),
        ask(&adb, &room),
        ask(&adb, "wm size; wm density"),
        ask(&adb, "dumpsys power"),
        ask(&adb, "dumpsys connectivity"),
        ask(&adb, "service call iphonesubinfo 1 s16 com.android.shell"),
        ask_package(&adb, package.as_ref()),
        abandon_sessions(&adb, visit, package.as_ref()),
    );
    let properties = match properties {
        Ok(text) => text,
        Err(why) => return Event::ProfileFailed { why: format!("its properties could not be read: {why}") },
    };
    let property = |key| profile::property(&properties, key).map(str::to_owned);
    let brand = property("ro.product.brand").unwrap_or_default();
    let mut battery = battery.ok().as_deref().and_then(profile::battery);
    if let (Some(battery), Ok(current)) = (&mut battery, current) {
        battery.current_milliamps = battery.current_milliamps.or_else(|| profile::current_milliamps(&current, &brand));
    }
    let imei = imei.ok().as_deref().and_then(profile::imei);
    let android_id = match imei {
        Some(_) => None,
        None => ask(&adb, "settings get secure android_id").await.ok().as_deref().and_then(profile::android_id),
    };
    let sims = match context.sims {
        crate::config::Sims::Kept => Vec::new(),
        crate::config::Sims::Told => ask(&adb, "content query --uri content://telephony/siminfo")
            .await
            .map_or_else(|_| Vec::new(), |rows| profile::sims(&rows)),
    };
    // The package service is up when it answers the question for a package, installed or not.
    let package_service = agent.is_ok();
    Event::profile(Profile {
        serial: property("ro.serialno").or_else(|| property("ro.boot.serialno")).map(Serial::new),
        brand,
        model: property("ro.product.model").unwrap_or_default(),
        sdk: property("ro.build.version.sdk").and_then(|sdk| sdk.parse().ok()).unwrap_or_default(),
        android: property("ro.build.version.release"),
        build: property("ro.build.display.id"),
        abi: property("ro.product.cpu.abi"),
        abis: profile::abis(&properties),
        asks_its_user: profile::asks_its_user(&properties)
            .or_else(|| storage.as_deref().ok().and_then(profile::verifier_asks)),
        imei,
        android_id,
        booted: package_service && property("sys.boot_completed").as_deref() == Some("1"),
        battery,
        uptime: uptime.ok().as_deref().and_then(profile::uptime),
        storage: storage.ok().as_deref().and_then(profile::storage),
        screen_size: screen.as_deref().ok().and_then(profile::screen_size),
        screen_density_dpi: screen.as_deref().ok().and_then(profile::screen_density),
        screen: power.ok().as_deref().and_then(profile::screen_state),
        agent: agent.ok().flatten(),
        sims,
        network: network.as_deref().map_or("none", profile::network).to_owned(),
    })
}

/// Ends the install sessions of farmhand's that an earlier connection has left open: what they hold takes room, and nobody commits them any
/// more.
async fn abandon_sessions(adb: &Adb, visit: Visit, package: Option<&PackageName>) {
    if visit == Visit::Again || package.is_none() {
        return;
    }
    let Ok(told) = ask(adb, "dumpsys package installs").await else { return };
    for session in profile::sessions::open(&told) {
        tracing::info!(session, "an install session that was left open is abandoned");
        // Android drops one that stays some day.
        let _ = ask(adb, &format!("pm install-abandon {session}")).await;
    }
}

/// Looks how the agent fares: whether it runs, its version, and its faults within a time.
pub(super) async fn inspect(adb: Adb, context: Arc<ActorContext>, rollout: RolloutId, within: Duration) -> Event {
    let mut health = Health::default();
    if let Some(package) = &context.package {
        let sign = &context.upkeep.health;
        let (question, dropbox) =
            (profile::health::question(sign, package), "date '+%Y-%m-%d %H:%M:%S'; dumpsys dropbox");
        let (told, dropbox, agent) =
            tokio::join!(ask(&adb, &question), ask(&adb, dropbox), ask_package(&adb, Some(package)));
        health.version = agent.ok().flatten().map(|agent| agent.version_code);
        health.running = told.ok().and_then(|told| profile::health::works(sign, &told, package));
        health.faults = dropbox.ok().and_then(|told| profile::health::faults(&told, package, within));
    }
    Event::Inspected { rollout, health: Box::new(health), within }
}

/// Ends the agent and starts it in its owner's way, else as a tap on its icon would.
pub(super) async fn restart_agent(adb: Adb, context: Arc<ActorContext>) -> Event {
    let Some(package) = &context.package else {
        return Event::AgentRestarted { result: Err("no agent is configured".to_owned()) };
    };
    let start = context.upkeep.start.as_ref().unwrap_or(&Start::Launcher);
    Event::AgentRestarted { result: start_again(&adb, package, start).await }
}

async fn start_again(adb: &Adb, package: &PackageName, start: &Start) -> Result<(), String> {
    let sdk = ask(adb, "getprop ro.build.version.sdk").await?.trim().parse().unwrap_or_default();
    ask(adb, &format!("am force-stop {package}")).await?;
    let said = super::upkeep::ask(adb, &start_command(start, package, sdk)).await?;
    let is_started = match start {
        Start::Launcher => said.contains("Events injected: 1"),
        // What `am` can't start it says.
        Start::Activity(_) | Start::Service(_) | Start::Broadcast(_) => {
            !["Error", "Exception"].iter().any(|mark| said.contains(mark))
        }
    };
    if is_started {
        return Ok(());
    }
    let last = said.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("nothing");
    Err(format!("the agent was ended and could not be started again; the phone said: {}", last.trim()))
}

/// Installs the agent and reads its version back.
pub(super) async fn provision(adb: Adb, context: Arc<ActorContext>, agent: Box<WantedAgent>) -> Event {
    let usual = BTreeSet::new();
    match install_and_verify(&adb, &context, &agent.apk, &agent.package, usual).await {
        Ok(agent) => Event::Provisioned(agent),
        Err(failure) => Event::ProvisionFailed(failure),
    }
}

/// Installs what a rollout orders and reads the version back.
pub(super) async fn install(adb: Adb, context: Arc<ActorContext>, order: InstallOrder) -> Event {
    let flags = match order.downgrade {
        Downgrade::Refused => BTreeSet::new(),
        Downgrade::Allowed => BTreeSet::from([InstallFlag::Downgrade]),
    };
    let installed = install_and_verify(&adb, &context, &order.apk, &order.package, flags).await;
    let result = installed.and_then(|agent| {
        if agent.version_code == order.version_code {
            return Ok(agent);
        }
        let why =
            format!("the phone reports version {} after an install of {}", agent.version_code, order.version_code);
        Err(InstallFailure { class: InstallFailureClass::Permanent, reason: None, why })
    });
    let silent = result.as_ref().is_err_and(|failure| failure.reason.is_none());
    if silent && timeout(LOST_SOON, adb.closed()).await.is_ok() {
        // It ended with the connection and has no result: the loss is what is reported, and it ends this work.
        return std::future::pending().await;
    }
    Event::Installed { rollout: order.rollout, result }
}

async fn install_and_verify(
    adb: &Adb,
    context: &ActorContext,
    apk: &std::path::Path,
    package: &PackageName,
    flags: BTreeSet<InstallFlag>,
) -> Result<InstalledAgent, InstallFailure> {
    let transient = |why: String| InstallFailure { class: InstallFailureClass::Transient, reason: None, why };
    let apk = Apk::shared(&context.apks, apk)?;
    checkpoint::at(checkpoint::INSTALL_BEGUN);
    let options = InstallOptions { flags, wait: context.install_timeout, ..InstallOptions::default() };
    adb.install_apks(&[apk], &options).await?;
    checkpoint::at(checkpoint::INSTALL_ENDED);
    let installed = ask_package(adb, Some(package)).await;
    checkpoint::at(checkpoint::INSTALL_READ_BACK);
    match installed {
        Ok(Some(agent)) => Ok(agent),
        Ok(None) => Err(transient(format!("the phone said Success, but {package} is not installed"))),
        Err(why) => Err(transient(format!("the version of {package} could not be read back: {why}"))),
    }
}

async fn ask_package(adb: &Adb, package: Option<&PackageName>) -> Result<Option<InstalledAgent>, String> {
    // Any package serves to see whether the package service answers; `android` is on every phone.
    let name = package.map_or("android", PackageName::as_str);
    let text = ask(adb, &format!("dumpsys package {name}")).await?;
    if text.contains("Can't find service") {
        return Err("the package service is not up yet".to_owned());
    }
    Ok(package.and_then(|package| profile::package(&text, package)))
}

async fn ask(adb: &Adb, question: &str) -> Result<String, String> {
    adb.shell(question).await.map(|output| output.text()).map_err(|error| error.to_string())
}

#[cfg(test)]
#[path = "work_tests.rs"]
mod tests;
