//! A phone's actor: the same mapping of commands to streams as the daemon's, over the same connection core, without its tasks.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use farmhand::adb::connection::{AuthAnswer, Connection, EndReason, Event, Fault, Output, StreamId, Waits};
use farmhand::adb::message::{FrameError, Message};
use farmhand::clock::{Deadline, Moment};
use farmhand::phone::upkeep::{AimResult, Report};
use farmhand::phone::{self, InstallFailure, InstallFailureClass, OpenFault, Profile};
use farmhand::rack::event::InstallOrder;
use farmhand::rack::gates::Health;
use farmhand::rack::ids::{PackageName, RolloutId, Serial, VersionCode};
use farmhand::rack::snapshot::{Battery, InstalledAgent, Storage};
use farmhand::rack::strategy::Downgrade;

use super::handset::APK_BYTES;
use super::input::Said;

/// As the daemon's actor has them.
const PROBE_MAX: Duration = Duration::from_secs(5);
const QUESTION_MAX: Duration = Duration::from_secs(15);
const UPKEEP_MAX: Duration = Duration::from_secs(2 * 60);
const INSTALL_MAX: Duration = Duration::from_secs(5 * 60);
/// The version of the configured agent.
pub(super) const PACKAGE: &str = "org.example.agent";

/// The actor of one place.
#[derive(Debug, Default)]
pub(super) struct Actor {
    link: Option<Link>,
    nonce: u32,
    /// To the model.
    pub(super) reports: Vec<phone::Event>,
    /// To the handset.
    pub(super) sent: Vec<Message>,
    /// A rule that was broken.
    pub(super) broken: Option<String>,
}

/// One connection to a handset.
#[derive(Debug)]
struct Link {
    number: u32,
    core: Connection,
    purpose: Purpose,
    stage: Opening,
    work: BTreeMap<StreamId, Work>,
    deadline: Option<Deadline>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Serve,
    /// Opened for nothing but the handset's restart.
    Reboot,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Opening {
    Greeting,
    Online,
}

#[derive(Debug)]
struct Work {
    what: What,
    until: Deadline,
    said: Vec<u8>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    Probe { nonce: String },
    Profile,
    Provision(VersionCode),
    Install(InstallOrder),
    Inspect(RolloutId, Duration),
    Upkeep,
    RestartAgent,
    Reboot,
}

impl What {
    /// Whether both at once are one too many. Each rollout asks by itself how a phone fares.
    fn is_the_same_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Inspect(one, _), Self::Inspect(other, _)) => one == other,
            _ => std::mem::discriminant(self) == std::mem::discriminant(other),
        }
    }
}

impl Actor {
    /// The number of the connection that stands or is made.
    pub(super) fn link(&self) -> Option<u32> {
        self.link.as_ref().map(|link| link.number)
    }

    pub(super) fn deadline(&self) -> Option<Deadline> {
        let link = self.link.as_ref()?;
        let work = link.work.values().map(|work| Some(work.until));
        work.fold(link.deadline, Deadline::earlier)
    }

    /// Whether it waits for its handset.
    pub(super) fn waits(&self) -> bool {
        self.link.as_ref().is_some_and(|link| link.stage == Opening::Greeting || !link.work.is_empty())
    }

    /// Opens connection `number`.
    pub(super) fn open(&mut self, now: Moment, number: u32) {
        self.begin(now, number, Purpose::Serve);
    }

    /// Restarts the handset, over connection `number` if there is none.
    pub(super) fn reboot(&mut self, now: Moment, number: u32) {
        match &self.link {
            Some(link) if link.stage == Opening::Online => self.work(now, What::Reboot),
            _ => self.begin(now, number, Purpose::Reboot),
        }
    }

    fn begin(&mut self, now: Moment, number: u32, purpose: Purpose) {
        let core = Connection::new(Waits::default(), now);
        self.link =
            Some(Link { number, core, purpose, stage: Opening::Greeting, work: BTreeMap::new(), deadline: None });
        self.drive(now);
    }

    /// Ends the connection and all work over it.
    pub(super) fn disconnect(&mut self) {
        self.link = None;
    }

    pub(super) fn probe(&mut self, now: Moment) {
        self.nonce += 1;
        self.work(now, What::Probe { nonce: self.nonce.to_string() });
    }

    pub(super) fn read_profile(&mut self, now: Moment) {
        self.work(now, What::Profile);
    }

    pub(super) fn provision(&mut self, now: Moment, version: VersionCode) {
        self.work(now, What::Provision(version));
    }

    pub(super) fn inspect(&mut self, now: Moment, rollout: RolloutId, within: Duration) {
        self.work(now, What::Inspect(rollout, within));
    }

    pub(super) fn look_after(&mut self, now: Moment) {
        self.work(now, What::Upkeep);
    }

    pub(super) fn restart_agent(&mut self, now: Moment) {
        self.work(now, What::RestartAgent);
    }

    pub(super) fn install(&mut self, now: Moment, order: InstallOrder) {
        self.work(now, What::Install(order));
    }

    fn work(&mut self, now: Moment, what: What) {
        let online = self.link.as_mut().filter(|link| link.stage == Opening::Online);
        let Some(link) = online else {
            self.reports.push(without_connection(what));
            return;
        };
        if link.work.values().any(|other| other.what.is_the_same_as(&what)) {
            self.broken = Some(format!("a second command of a kind is on its way: {what:?}"));
        }
        let (service, time, why) = match &what {
            What::Probe { nonce } => (format!("shell:echo {nonce}"), PROBE_MAX, "the answer to a probe"),
            What::Profile => ("shell:getprop".to_owned(), QUESTION_MAX, "the profile"),
            What::Provision(version) => (format!("exec:install {version}"), INSTALL_MAX, "the agent's install"),
            What::Install(order) => {
                let flag = if order.downgrade == Downgrade::Allowed { "-d " } else { "" };
                (format!("exec:install {flag}{}", order.version_code), INSTALL_MAX, "an install")
            }
            What::Inspect(..) => ("shell:inspect".to_owned(), QUESTION_MAX, "how the agent fares"),
            What::Upkeep => ("shell:upkeep".to_owned(), UPKEEP_MAX, "what is wanted to be so"),
            What::RestartAgent => ("shell:monkey".to_owned(), QUESTION_MAX, "the agent's start"),
            What::Reboot => ("reboot:".to_owned(), QUESTION_MAX, "the restart to begin"),
        };
        match link.core.open(&service, now) {
            Ok(id) => {
                if matches!(what, What::Provision(_) | What::Install(_)) {
                    let taken = link.core.send(id, Bytes::from_static(&[b'z'; APK_BYTES]));
                    if taken.is_err() {
                        self.broken = Some("a fresh stream is full".to_owned());
                    }
                }
                link.work.insert(id, Work { what, until: Deadline { at: now + time, why }, said: Vec::new() });
            }
            Err(why) => self.reports.push(failed(what, &why.to_string())),
        }
        self.drive(now);
    }

    pub(super) fn receive(&mut self, now: Moment, said: Said) {
        let Some(link) = &mut self.link else { return };
        match said {
            Said::Messages(messages) => messages.into_iter().for_each(|message| link.core.receive(message, now)),
            Said::Nonsense => link.core.fail(Fault::Frame(FrameError::Command { seen: 0x1234_5678 })),
        }
        self.drive(now);
    }

    /// The way to the handset ended.
    pub(super) fn cut(&mut self, now: Moment) {
        let Some(link) = &mut self.link else { return };
        link.core.fail(Fault::Ended);
        self.drive(now);
    }

    pub(super) fn advance(&mut self, now: Moment) {
        let Some(link) = &mut self.link else { return };
        link.core.advance(now);
        let overdue: Vec<StreamId> =
            link.work.iter().filter(|(_, work)| work.until.at <= now).map(|(id, _)| *id).collect();
        for id in overdue {
            if let Some(work) = link.work.remove(&id) {
                link.core.close(id, now);
                self.reports.push(failed(work.what, "it was not answered in time"));
            }
        }
        self.drive(now);
    }

    /// Takes everything that the core has to say, and everything that it has to send.
    fn drive(&mut self, now: Moment) {
        while let Some(link) = &mut self.link {
            match link.core.poll() {
                Output::Event(event) => self.on_event(now, event),
                Output::Idle(deadline) => {
                    link.deadline = deadline;
                    let before = self.sent.len();
                    self.sent.extend(std::iter::from_fn(|| link.core.next_transmit(now)));
                    if self.sent.len() == before {
                        return;
                    }
                }
            }
        }
    }

    fn on_event(&mut self, now: Moment, event: Event) {
        let Some(link) = &mut self.link else { return };
        match event {
            Event::Sign { attempt: 0, .. } => {
                link.core.answer_auth(AuthAnswer::Signature(Bytes::from_static(&[5; 32])), now);
            }
            Event::Sign { .. } => link.core.answer_auth(AuthAnswer::PublicKey("key of the sim".to_owned()), now),
            Event::AuthorisationWanted => self.reports.push(phone::Event::AuthorisationWanted),
            Event::Online(banner) => {
                link.stage = Opening::Online;
                match link.purpose {
                    Purpose::Serve => {
                        let features = banner.features.clone();
                        self.reports.push(phone::Event::Opened { model: banner.model, features });
                    }
                    Purpose::Reboot => self.work(now, What::Reboot),
                }
            }
            Event::Incoming { id, .. } => link.core.close(id, now),
            Event::Opened { .. } | Event::Writable { .. } => {}
            Event::Data { id, bytes } => {
                link.core.consumed(id, bytes.len());
                if let Some(work) = link.work.get_mut(&id) {
                    work.said.extend_from_slice(&bytes);
                }
            }
            Event::Closed { id, reason } => {
                let Some(work) = link.work.remove(&id) else { return };
                match reason {
                    EndReason::ByPeer => self.reports.push(finished(work)),
                    // The daemon's actor drops work whose connection ended.
                    EndReason::Lost(_) => {}
                    other => self.reports.push(failed(work.what, &other.to_string())),
                }
            }
            Event::Lost(fault) => {
                let why = fault.to_string();
                let report = match (link.stage, link.purpose) {
                    (_, Purpose::Reboot) => phone::Event::Acted { result: Err(why) },
                    (Opening::Online, _) => phone::Event::Lost { why },
                    (Opening::Greeting, _) => {
                        let unauthorised = matches!(fault, Fault::Unauthorised { .. });
                        let gone = fault == Fault::Ended;
                        let fault = match (unauthorised, gone) {
                            (true, _) => OpenFault::Unauthorised,
                            (_, true) => OpenFault::Gone,
                            _ => OpenFault::Protocol,
                        };
                        phone::Event::OpenFailed { fault, why }
                    }
                };
                self.reports.push(report);
                self.link = None;
            }
        }
    }
}

fn without_connection(what: What) -> phone::Event {
    let why = "there is no connection to it".to_owned();
    match what {
        What::Provision(_) => phone::Event::Lost { why },
        other => failed(other, &why),
    }
}

/// The report of work that came to nothing.
fn failed(what: What, why: &str) -> phone::Event {
    let why = why.to_owned();
    let failure = InstallFailure { class: InstallFailureClass::Transient, reason: None, why: why.clone() };
    match what {
        What::Probe { .. } => phone::Event::ProbeFailed { why },
        What::Profile => phone::Event::ProfileFailed { why },
        What::Provision(_) => phone::Event::ProvisionFailed(failure),
        What::Install(order) => phone::Event::Installed { rollout: order.rollout, result: Err(failure) },
        What::Inspect(rollout, within) => phone::Event::Inspected { rollout, health: Box::default(), within },
        What::Upkeep => upkept(AimResult::Unread { why }),
        What::RestartAgent => phone::Event::AgentRestarted { result: Err(why) },
        What::Reboot => phone::Event::Acted { result: Err(why) },
    }
}

/// The report of work whose answer is whole.
fn finished(work: Work) -> phone::Event {
    let text = String::from_utf8_lossy(&work.said).into_owned();
    match work.what {
        What::Probe { nonce } if nonce == text => phone::Event::ProbeAnswered,
        What::Profile => match profile(&text) {
            Some(profile) => phone::Event::profile(profile),
            None => phone::Event::ProfileFailed { why: format!("its properties are `{text}`") },
        },
        What::Provision(_) => match installed(&text) {
            Ok(agent) => phone::Event::Provisioned(agent),
            Err(failure) => phone::Event::ProvisionFailed(failure),
        },
        What::Install(order) => {
            let result = installed(&text).and_then(|agent| {
                if agent.version_code == order.version_code {
                    return Ok(agent);
                }
                let why = format!("the phone reports version {}", agent.version_code);
                Err(InstallFailure { class: InstallFailureClass::Permanent, reason: None, why })
            });
            phone::Event::Installed { rollout: order.rollout, result }
        }
        What::Inspect(rollout, within) => {
            let version = text.parse().ok().map(VersionCode);
            let health = Health { version, running: Some(true), faults: Some(Vec::new()), ..Health::default() };
            phone::Event::Inspected { rollout, health: Box::new(health), within }
        }
        What::Upkeep => upkept(AimResult::Kept),
        What::RestartAgent => phone::Event::AgentRestarted { result: Ok(()) },
        What::Reboot => phone::Event::Acted { result: Ok(()) },
        what @ What::Probe { .. } => failed(what, &format!("it was answered with `{text}`")),
    }
}

fn upkept(result: AimResult) -> phone::Event {
    phone::Event::Upkept(Box::new(Report { recipes: Vec::new(), results: vec![("running".to_owned(), result)] }))
}

fn profile(text: &str) -> Option<Profile> {
    let words: Vec<&str> = text.split(' ').collect();
    let [serial, imei, booted, agent, percent, celsius, free_mib] = words[..] else { return None };
    let booted = booted == "1";
    Some(Profile {
        serial: Some(Serial::new(serial)),
        brand: "Sim".to_owned(),
        model: "Sim".to_owned(),
        sdk: 34,
        imei: booted.then(|| imei.to_owned()),
        booted,
        agent: agent.parse().ok().filter(|_| booted).map(agent_of),
        battery: Some(Battery {
            level_percent: percent.parse().ok()?,
            temperature_celsius: Some(celsius.parse().ok()?),
            voltage_millivolts: None,
            current_milliamps: None,
            health: None,
            charging: true,
        }),
        storage: Some(Storage { free_bytes: free_mib.parse::<u64>().ok()? << 20, total_bytes: 64 << 30 }),
        network: "wifi".to_owned(),
        ..Profile::default()
    })
}

fn installed(text: &str) -> Result<InstalledAgent, InstallFailure> {
    let class = match text.split_once(' ') {
        Some(("Success", version)) => {
            let version = version.parse().unwrap_or_default();
            if version > 0 {
                return Ok(agent_of(version));
            }
            InstallFailureClass::Transient
        }
        Some((_, "permanent")) => InstallFailureClass::Permanent,
        Some((_, "hand")) => InstallFailureClass::NeedsHand,
        _ => InstallFailureClass::Transient,
    };
    Err(InstallFailure { class, reason: Some("INSTALL_FAILED_SIM".to_owned()), why: format!("it said `{text}`") })
}

fn agent_of(version: u64) -> InstalledAgent {
    let version_name = format!("{version}.0");
    InstalledAgent { package: PackageName::new(PACKAGE), version_code: VersionCode(version), version_name }
}
