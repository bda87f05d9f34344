//! What flows into the model and out of it: events from sources and actors, commands to actors.

use std::collections::BTreeSet;
use std::time::Duration;

use super::candidate::Candidate;
pub use super::delivery::{UpgradeByAgent, UpgradeFailed, UpgradeNotice};
use super::detach::DetachEvent;
use super::gates::Health;
use super::identities::IdentityEvent;
use super::ids::{Endpoint, HubName, HubPort, PackageName, PhoneId, RolloutId, Serial, VersionCode};
use super::lease::{Lease, LeaseEvent};
use super::power::PowerLedger;
use super::request::{Ask, Done, Refusal};
use super::snapshot::{ControllerView, HostHealth, LineState, MqttView, OutboxView, PortMode, RolloutView, UsbView};
pub use super::task::{Act, Asked, BatteryCondition, Condition, TaskName};
use crate::clock::UnixMillis;
use crate::phone;
pub use crate::phone::{InstallOrder, Sim};

/// Something that happened outside the model.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// A handset can be reached at `endpoint`: it enumerated on USB, or its TCP address answers.
    Appeared {
        /// Where.
        endpoint: Endpoint,
        /// The serial of its USB descriptor, where there is one.
        serial: Option<Serial>,
    },
    /// What the bus shows of the handset at `endpoint`, told before it appears and when it changes.
    Usb {
        /// Where.
        endpoint: Endpoint,
        /// What.
        usb: UsbView,
    },
    /// A handset is on USB in a mode in which nobody can speak ADB with it.
    OtherMode {
        /// Where.
        endpoint: Endpoint,
        /// The serial of its USB descriptor, where there is one.
        serial: Option<Serial>,
        /// What it is and what to do, as a sentence.
        why: String,
    },
    /// A port's hub says that something is plugged in, and the kernel has no device there.
    NotEnumerated {
        /// Where.
        endpoint: Endpoint,
        /// The hub, and what the kernel said, as a sentence.
        why: String,
    },
    /// The host's controllers, or the room on them, changed.
    Controllers(Vec<ControllerView>),
    /// Nothing can be reached at `endpoint` any more.
    Gone {
        /// Where.
        endpoint: Endpoint,
        /// What was seen, as a sentence.
        why: String,
    },
    /// The actor of the phone at `endpoint` reports.
    Phone {
        /// Where.
        endpoint: Endpoint,
        /// What.
        event: phone::Event,
    },
    /// The central line of `phone` reports.
    Line {
        /// Whose line.
        phone: PhoneId,
        /// What.
        event: LineEvent,
    },
    /// The driver of a power hub reports.
    Hub {
        /// Which hub.
        hub: HubName,
        /// What.
        event: HubEvent,
    },
    /// The keeper of the power cycles reports.
    Power(PowerPromise),
    /// The host was measured.
    Host(HostHealth),
    /// The connection to the MQTT broker changed.
    Mqtt(MqttView),
    /// The rollout actor wants something, or shows a new state.
    Rollout(RolloutEvent),
    /// The operator asks for a port's mode.
    SetPort {
        /// The hub.
        hub: HubName,
        /// Its port.
        port: HubPort,
        /// The mode.
        mode: PortMode,
    },
    /// The operator wants a phone restarted; one without a connection is left alone.
    Restart {
        /// Which.
        phone: PhoneId,
    },
    /// Somebody who works with a phone has it end its connections, for at most so long.
    Leaves {
        /// Which.
        phone: PhoneId,
        /// How long it may be away.
        time: Duration,
    },
    /// Something was changed on a phone past the model: what is known of it is read again.
    Changed {
        /// Which.
        phone: PhoneId,
    },
    /// An earlier daemon has seen two phones with each of these serials.
    Twins(BTreeSet<Serial>),
    /// Somebody has set what phones register as.
    Identity {
        /// What.
        event: IdentityEvent,
        /// Whose answer it is, if somebody waits for it.
        ask: Option<Ask>,
    },
    /// A lease was taken, renewed or ended.
    Lease {
        /// What.
        event: LeaseEvent,
        /// Whose answer it is, if somebody waits for it.
        ask: Option<Ask>,
    },
    /// The interface of a place was given to another program, or taken back.
    Detach {
        /// What.
        event: DetachEvent,
        /// Whose answer it is, if somebody waits for it.
        ask: Option<Ask>,
    },
    /// The wall clock was set: moments are counted from this wall time on.
    ClockSet(UnixMillis),
}

/// What a central line reports.
#[derive(Clone, Debug, PartialEq)]
pub enum LineEvent {
    /// The line is in a new state.
    State {
        /// The state.
        state: LineState,
        /// Why, as a sentence.
        why: String,
    },
    /// A heartbeat is due: it is sent once [`LineCommand::Presence`] says that the phone is really there.
    HeartbeatDue,
    /// The server acknowledged a heartbeat.
    HeartbeatAcknowledged,
    /// What the line waits for; `None` while it waits for nothing.
    Waits(Option<LineWait>),
    /// The server took the phone off line (`AccountForceOfflineNotice`): a person should know.
    ForcedOffline {
        /// Who is said to have done it, as a sentence.
        why: String,
    },
    /// The server asks for an upgrade of an app on this phone.
    UpgradeNotice(UpgradeNotice),
    /// What [`LineCommand::Upgrade`] asked for has failed, or could not be asked for.
    UpgradeFailed(UpgradeFailed),
    /// The line's actor took no more orders and was ended; the model opens the line again, with a new one.
    Stuck {
        /// What was seen, as a sentence.
        why: String,
    },
    /// The server asks for something to be done with this phone, and was told that it arrived.
    Asked(Asked),
    /// The agent on the phone speaks by this line.
    AgentThere,
    /// It no longer does.
    AgentLeft {
        /// Why, as a sentence.
        why: String,
    },
    /// What is stored of the agent's notices.
    Outbox(OutboxView),
    /// The server has safely taken the report that was ordered with [`LineCommand::TaskEnded`].
    EndTold {
        /// The `Id` of the server's message.
        message_id: i64,
    },
}

/// A wait of a line. The line and the model count their moments from different starts, so it ends so long from now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LineWait {
    /// The longest that it takes from now on.
    pub within: Duration,
    /// What is waited for.
    pub why: &'static str,
}

/// What a central line is told.
#[derive(Clone, Debug, PartialEq)]
pub enum LineCommand {
    /// Register the phone and keep its heartbeat.
    Open {
        /// What it is registered as (`Credential` of `DeviceAuthReq`, AuthType DeviceCode).
        credential: String,
        /// What `PostDeviceInfoNotice` says of it.
        device: Box<DeviceInfo>,
        /// How long to wait before the first connection, so that not a whole rack connects at once.
        pause: Duration,
    },
    /// End the line.
    Close {
        /// Why, as a sentence.
        why: String,
    },
    /// The phone's versions changed: tell the server.
    Device(Box<DeviceInfo>),
    /// The answer to [`LineEvent::HeartbeatDue`].
    Presence(Presence),
    /// How the phone fares, as last read.
    Condition(Condition),
    /// The agent on the phone at this endpoint shall find its line there, or no longer; it does not where the line is closed.
    Tunnel(Option<Endpoint>),
    /// The agent on the phone shall upgrade itself.
    Upgrade(Box<UpgradeByAgent>),
    /// A task or notice of the server has ended. Answered with [`LineEvent::EndTold`] once the server has taken the report; what is
    /// not answered is lost with the registration, and must be told to the next one.
    TaskEnded {
        /// Which.
        task: TaskName,
        /// `Ok`, or what happened, as a sentence.
        result: Result<(), String>,
    },
}

/// Whether a phone is really there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It answered the end-to-end probe just now.
    Answered,
    /// It did not.
    Silent,
}

/// What the server is told of a phone (`PostDeviceInfoNotice`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceInfo {
    /// `ro.product.brand`.
    pub brand: String,
    /// `ro.product.model`.
    pub model: String,
    /// `ro.build.version.sdk`.
    pub sdk: u32,
    /// The credential that the phone registered with.
    pub imei: String,
    /// The agent, where it is installed.
    pub apps: Vec<AppVersion>,
    /// `wifi`, `mobile` or `none`.
    pub network: String,
    /// Its SIM cards, by slot; none where the owner does not want them told.
    pub sims: Vec<Sim>,
}

/// One installed app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AppVersion {
    /// Its package.
    pub package: PackageName,
    /// `versionCode`.
    pub version_code: VersionCode,
    /// `versionName`.
    pub version_name: String,
}

/// What the driver of a hub reports.
#[derive(Clone, Debug, PartialEq)]
pub enum HubEvent {
    /// The hub answered with a whole set of readings.
    Reading(HubReading),
    /// The hub does not answer, or answers with nonsense.
    Stale {
        /// What was seen, as a sentence.
        why: String,
    },
    /// A mode was set, and the hub confirmed it.
    PortSet {
        /// Its port.
        port: HubPort,
        /// The mode.
        mode: PortMode,
    },
    /// A mode could not be set.
    PortRefused {
        /// Its port.
        port: HubPort,
        /// Why, as a sentence.
        why: String,
    },
}

/// What becomes of [`Command::PromisePower`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PowerPromise {
    /// The ledger with this number is on the disk, or a later one is.
    Kept {
        /// The number.
        number: u64,
    },
    /// The store takes no promise for now; the newest ledger is tried again.
    Failing {
        /// What was seen, as a sentence.
        why: String,
    },
}

/// One whole set of readings of a hub.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HubReading {
    /// What the hub says of itself.
    pub identity: String,
    /// In degrees Celsius.
    pub temperature_celsius: Option<f32>,
    /// The 5 V rail.
    pub supply_volts: Option<f32>,
    /// Each port, in order.
    pub ports: Vec<PortReading>,
}

/// One port's reading.
#[derive(Clone, Debug, PartialEq)]
pub struct PortReading {
    /// Its number.
    pub port: HubPort,
    /// What it feeds.
    pub current_milliamps: u32,
    /// What it does.
    pub mode: PortMode,
    /// Whether something is plugged in.
    pub attached: bool,
}

/// What the rollout actor reports to the model.
#[derive(Clone, Debug, PartialEq)]
pub enum RolloutEvent {
    /// All rollouts as they stand, the newest first.
    Views(Vec<RolloutView>),
    /// Install this on a phone; the promise is in the store.
    Install {
        /// The phone.
        phone: PhoneId,
        /// What.
        order: InstallOrder,
    },
    /// Ask a phone how it fares; answered with [`RolloutCommand::Looked`].
    Look {
        /// The phone.
        phone: PhoneId,
        /// For which rollout.
        rollout: RolloutId,
        /// So long ago its install ended.
        within: Duration,
    },
    /// Tell the server that its notice failed for this phone. Answered with [`RolloutCommand::FailureTold`]; until then it may be
    /// said again.
    ReportFailure {
        /// The phone.
        phone: PhoneId,
        /// The `Id` of the server's notice.
        message_id: i64,
        /// What happened, as a sentence.
        why: String,
    },
    /// The answer to an operator, after the views that show what it says.
    Answer {
        /// Whose request.
        ask: Ask,
        /// What came of it.
        result: Result<Done, Refusal>,
    },
    /// Phones without the agent get this from now on.
    Agent(phone::WantedAgent),
    /// Rollouts do not get on, and why, as a sentence; `None` once they do.
    Trouble(Option<String>),
    /// The actor broke and began anew from the store: it knows no phone, and nothing of the requests that it was asked before.
    Restarted,
}

/// What the rollout actor is told by the model.
#[derive(Clone, Debug, PartialEq)]
pub enum RolloutCommand {
    /// The server's notice for one phone.
    Offered {
        /// The phone.
        phone: PhoneId,
        /// The notice.
        notice: UpgradeNotice,
    },
    /// What is known of a phone, said before it is available and when it changes.
    Known {
        /// The phone.
        phone: PhoneId,
        /// What.
        candidate: Box<Candidate>,
    },
    /// A phone can be installed on now; its agent has this version (`None`: not installed).
    Available {
        /// The phone.
        phone: PhoneId,
        /// The version of the agent.
        version_code: Option<VersionCode>,
    },
    /// A phone cannot be installed on now.
    Unavailable {
        /// The phone.
        phone: PhoneId,
        /// Why, as a sentence.
        why: String,
    },
    /// What became of an install.
    Installed {
        /// The phone.
        phone: PhoneId,
        /// The rollout.
        rollout: RolloutId,
        /// The version read back from the phone, or what went wrong.
        result: Result<VersionCode, phone::InstallFailure>,
    },
    /// How a phone fares since an install.
    Looked {
        /// The phone.
        phone: PhoneId,
        /// For which rollout.
        rollout: RolloutId,
        /// What was seen, or why nothing was, as a sentence.
        health: Result<Box<Health>, String>,
    },
    /// The wall clock was set: moments are counted from this wall time on.
    ClockSet(UnixMillis),
    /// The server has safely taken the report of [`RolloutEvent::ReportFailure`].
    FailureTold {
        /// The phone.
        phone: PhoneId,
        /// The `Id` of the server's notice.
        message_id: i64,
    },
}

/// What the model wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Command {
    /// To the actor of the phone at `endpoint`.
    Phone {
        /// Where.
        endpoint: Endpoint,
        /// What.
        command: phone::Command,
    },
    /// To the central line of `phone`.
    Line {
        /// Whose line.
        phone: PhoneId,
        /// What.
        command: LineCommand,
    },
    /// To the driver of a hub.
    SetPort {
        /// The hub.
        hub: HubName,
        /// Its port.
        port: HubPort,
        /// The mode.
        mode: PortMode,
    },
    /// To the keeper of the power cycles: this must be on the disk, in place of every earlier ledger. Answered with
    /// [`Event::Power`].
    PromisePower {
        /// Rises by one with each ledger of this daemon.
        number: u64,
        /// The whole truth.
        ledger: PowerLedger,
    },
    /// To the keeper of twins: two phones were seen with this serial, which must be known after a restart too.
    PromiseTwins(Serial),
    /// To the keeper of holds: the time of this one is over, which belongs into the audit.
    HoldIsOver(Lease),
    /// To the rollout actor.
    Rollout(RolloutCommand),
}
