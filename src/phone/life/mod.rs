//! The life of the handset at one endpoint, from the first sight to the unplug.
//!
//! ```text
//!     Detected → Claiming → Authorising → Online → Provisioning → Ready
//!                   │            │           │          │           │
//!                   └────────────┴───────────┴──────────┴───────────┴──▶ Recovering → Quarantined
//! ```
//!
//! `Absent` is entered from every state by an unplug, `Detached` by a person. The core says what the actor must do and waits for its
//! report; every wait has a deadline, and a report that does not belong to what is awaited changes nothing.
//!
//! Invariant: a state that waits has a deadline with a reason (`tests/sim` asserts it after every step).
//! Invariant: at most one command of a kind is on its way (`tests/sim`).

mod deadlines;
mod detached;
mod recovery;
mod reports;
mod upkeep;

use std::time::Duration;

use self::detached::There;
use self::upkeep::Upkeep;
use super::ladder::{Ladder, Step};
use super::{Command, Event, InstallFailure, InstallFailureClass, Profile};
use crate::clock::Moment;
use crate::config::Rung;
use crate::rack::event::InstallOrder;
use crate::rack::snapshot::{InstalledAgent, PhoneState};

pub use detached::Arrivals;
pub use recovery::Restraint;

/// The longest that claiming the interface and CNXN may take; the actor gives up earlier by itself.
const CLAIM_MAX: Duration = Duration::from_secs(15);
/// How long somebody has for the tap on the phone's screen: the dialog is dead once the connection is gone, and a new one makes a
/// new dialog.
const AUTHORISE_MAX: Duration = Duration::from_secs(20 * 60);
/// The longest that reading a profile may take.
const PROFILE_MAX: Duration = Duration::from_secs(30);
/// Between two looks at a phone whose Android is still starting.
const BOOT_POLL: Duration = Duration::from_secs(2);
/// The longest that Android may take to start.
const BOOT_MAX: Duration = Duration::from_secs(5 * 60);
/// An install ends by its own limit ([`LifePolicy::install_timeout`]) and is read back after it; past this much more the actor itself is
/// stuck.
const INSTALL_SLACK: Duration = Duration::from_secs(60);
/// How long a phone that an operator restarts may be away before anything counts as trouble.
const RESTART_MAX: Duration = Duration::from_secs(180);
/// Between two tries at installing the agent after a failure that may pass by itself.
const PROVISION_RETRY: Duration = Duration::from_secs(60);
/// How often the agent's install is tried for a failure that may pass by itself.
const PROVISION_TRIES_MAX: u32 = 3;
/// Between two probes of a phone that is ready, before jitter.
const PROBE_EVERY: Duration = Duration::from_secs(30);
/// The actor's own deadline for a probe is 5 s, and 15 s while the phone is busy; past this the actor itself is stuck.
const PROBE_MAX: Duration = Duration::from_secs(18);
/// Between two readings of battery and versions of a phone that is ready.
const REFRESH_EVERY: Duration = Duration::from_secs(60);
/// Between two tries at a phone that the ladder gave up.
const QUARANTINE_RETRY: Duration = Duration::from_secs(10 * 60);

/// What the owner allows and wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LifePolicy {
    /// Whether the agent is installed where it is missing.
    pub agent: AgentPolicy,
    /// How far recovery may go.
    pub max_rung: Rung,
    /// The longest that one install may take (`[rollout] install_timeout_s`).
    pub install_timeout: Duration,
    /// Between two looks at what the owner wants to be so on it (`[agent] check_s`), before jitter; `None` if nothing is.
    pub upkeep: Option<Duration>,
    /// Spreads the probes of a rack; any number, different for each phone.
    pub jitter_seed: u64,
}

/// Whether the agent is installed where it is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AgentPolicy {
    /// The owner has configured an APK.
    InstallWhereMissing,
    /// Only looked at.
    Observe,
}

/// What a life wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// By the phone's actor.
    Actor(Command),
    /// By the phone's actor: install the agent that phones without it get now, which the model knows.
    Provision,
    /// By the hub that feeds it: power off and on again. The model answers with [`Life::power_cycled`].
    CyclePower,
}

/// The life of the handset at one endpoint.
#[derive(Clone, Debug)]
pub struct Life {
    policy: LifePolicy,
    state: State,
    since: Moment,
    why: String,
    /// What failed last.
    fault: String,
    profile: Option<Profile>,
    /// When the profile was read.
    read_at: Moment,
    ladder: Ladder,
    last_alive: Option<Moment>,
    probe: Probe,
    refresh: Refresh,
    upkeep: Upkeep,
    jitter: u64,
    bus: Bus,
    restraint: Restraint,
    /// The rack's budget for its next rung is spent, and it waits for its turn: that was expected then.
    turn: Option<Moment>,
    restart: Restart,
    /// Until then it may be away without a rung of recovery: somebody has it end its connections.
    spared: Option<Moment>,
}

/// What has become of a restart that somebody asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
enum Restart {
    #[default]
    NotAskedFor,
    UnderWay,
    Ended(Result<(), String>),
}

/// Whether the handset can be reached at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Bus {
    There,
    /// It left after a rung of ours, and is to come back.
    Away,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    Absent,
    NotEnumerated,
    OtherMode,
    Detected,
    /// `after` a rung that may have made it leave: then it is not gone, but has not come back.
    Claiming {
        until: Moment,
        after: Option<Rung>,
    },
    Authorising {
        until: Moment,
    },
    Online {
        boot_until: Moment,
    },
    Provisioning {
        until: Moment,
        work: Work,
    },
    Ready,
    /// An operator's order.
    Restarting {
        until: Moment,
    },
    Recovering {
        next: Step,
        at: Moment,
    },
    Quarantined {
        retry_at: Moment,
    },
    /// Its interface is another program's.
    Detached(There),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Work {
    Agent { tries: u32 },
    AgentLater { tries: u32, at: Moment },
    Rollout(InstallOrder),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probe {
    Off,
    At(Moment),
    Asked { until: Moment },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refresh {
    Off,
    At(Moment),
    Asked { until: Moment },
}

impl Life {
    /// The life of an endpoint where nothing is yet.
    #[must_use]
    pub fn new(policy: LifePolicy, now: Moment) -> Self {
        Self {
            policy,
            state: State::Absent,
            since: now,
            why: "not seen since farmhand started".to_owned(),
            fault: String::new(),
            profile: None,
            read_at: now,
            ladder: Ladder::new(policy.max_rung),
            last_alive: None,
            probe: Probe::Off,
            refresh: Refresh::Off,
            upkeep: Upkeep::Off,
            jitter: policy.jitter_seed,
            bus: Bus::There,
            restraint: Restraint::default(),
            turn: None,
            restart: Restart::NotAskedFor,
            spared: None,
        }
    }

    /// Where in its life the handset is.
    #[must_use]
    pub fn state(&self) -> PhoneState {
        match self.state {
            State::Absent | State::Restarting { .. } => PhoneState::Absent,
            State::NotEnumerated => PhoneState::NotEnumerated,
            State::OtherMode => PhoneState::OtherMode,
            State::Detected => PhoneState::Detected,
            State::Claiming { .. } => PhoneState::Claiming,
            State::Authorising { .. } => PhoneState::Authorising,
            State::Online { .. } => PhoneState::Online,
            State::Provisioning { .. } => PhoneState::Provisioning,
            State::Ready => PhoneState::Ready,
            State::Recovering { .. } => PhoneState::Recovering,
            State::Quarantined { .. } => PhoneState::Quarantined,
            State::Detached(_) => PhoneState::Detached,
        }
    }

    /// Why it is there, as a sentence.
    #[must_use]
    pub fn why(&self) -> &str {
        &self.why
    }

    /// Since when it is there.
    #[must_use]
    pub fn since(&self) -> Moment {
        self.since
    }

    /// What was read of the handset since it was last opened.
    #[must_use]
    pub fn profile(&self) -> Option<&Profile> {
        self.profile.as_ref()
    }

    /// When [`Life::profile`] was read.
    #[must_use]
    pub fn read_at(&self) -> Moment {
        self.read_at
    }

    /// When the handset last answered end to end.
    #[must_use]
    pub fn last_alive(&self) -> Option<Moment> {
        self.last_alive
    }

    /// Whether it left the bus over a rung of ours or a restart, and is to come back.
    #[must_use]
    pub fn is_to_return(&self) -> bool {
        self.bus == Bus::Away
    }

    /// Whether it has failed by itself: the operator's restart, and what its own mode says, is no failure.
    #[must_use]
    pub fn has_failed(&self) -> bool {
        let failed = matches!(self.state, State::Claiming { .. } | State::Recovering { .. });
        failed || matches!(self.state, State::Absent | State::NotEnumerated)
    }

    /// Whether commands can be sent over an ADB connection.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        matches!(self.state, State::Online { .. } | State::Provisioning { .. } | State::Ready)
    }

    /// Whether a probe was asked for and not answered.
    #[must_use]
    pub fn is_being_probed(&self) -> bool {
        matches!(self.probe, Probe::Asked { .. })
    }

    /// The rollout whose install is under way.
    #[must_use]
    pub fn installing(&self) -> Option<&InstallOrder> {
        match &self.state {
            State::Provisioning { work: Work::Rollout(order), .. } => Some(order),
            _ => None,
        }
    }

    /// The actor's report.
    pub fn report(&mut self, now: Moment, event: Event) -> Vec<Wish> {
        match event {
            Event::AuthorisationWanted => self.authorisation_wanted(now),
            Event::Opened { .. } => self.opened(now),
            Event::OtherMode { why } => self.other_mode(now, &why),
            Event::OpenFailed { fault, why } => self.open_failed(now, fault, &why),
            Event::Lost { why } => self.lost(now, &why),
            Event::Profile(profile) => self.profiled(now, *profile),
            Event::ProfileFailed { why } => self.profile_failed(now, &why),
            Event::ProbeAnswered => self.probe_answered(now),
            Event::ProbeFailed { why } => self.probe_failed(now, &why),
            Event::Provisioned(agent) => self.provisioned(now, agent),
            Event::ProvisionFailed(failure) => self.provision_failed(now, &failure),
            Event::Installed { rollout, result } => {
                if self.installing().is_some_and(|order| order.rollout == rollout) {
                    return self.installed(now, result);
                }
                Vec::new()
            }
            // What the model asked for past the life changes nothing in it.
            Event::AgentRestarted { .. } | Event::Inspected { .. } => Vec::new(),
            Event::Upkept(_) => self.upkept(now),
            Event::Acted { result } => self.acted(now, result),
        }
    }

    /// A rollout's install, if the phone can take it now. Whether somebody holds it is the caller's to know.
    ///
    /// # Errors
    /// Why it cannot, as a failure that may pass by itself.
    pub fn install(&mut self, now: Moment, order: InstallOrder) -> Result<Vec<Wish>, InstallFailure> {
        if !matches!(self.state, State::Ready) {
            let why = format!("the phone is {}: {}", self.state().as_str(), self.why);
            return Err(InstallFailure { class: InstallFailureClass::Transient, reason: None, why });
        }
        let why = format!("rollout {} installs version {}", order.rollout, order.version_code);
        let work = Work::Rollout(order.clone());
        self.enter(now, State::Provisioning { until: now + self.install_limit(), work }, &why);
        Ok(vec![Wish::Actor(Command::Install { order })])
    }

    fn install_limit(&self) -> Duration {
        self.policy.install_timeout + INSTALL_SLACK
    }

    /// Probe now, unless a probe is under way; nothing if there is no connection.
    pub fn probe_now(&mut self, now: Moment) -> Vec<Wish> {
        if !self.is_connected() || self.is_being_probed() {
            return Vec::new();
        }
        self.probe = Probe::Asked { until: now + PROBE_MAX };
        vec![Wish::Actor(Command::Probe)]
    }

    /// The hub has switched the port's power off and on, or could not.
    pub fn power_cycled(&mut self, now: Moment, result: Result<(), String>) -> Vec<Wish> {
        self.acted(now, result)
    }

    /// What is due at `now`.
    pub fn advance(&mut self, now: Moment) -> Vec<Wish> {
        if self.deadline().is_none_or(|deadline| deadline.at > now) {
            return Vec::new();
        }
        match self.probe {
            Probe::At(at) if at <= now => return self.probe_now(now),
            Probe::Asked { until } if until <= now => return self.probe_failed(now, "the probe got no answer"),
            _ => {}
        }
        match self.refresh {
            Refresh::At(at) if at <= now => return self.read_profile(now),
            Refresh::Asked { until } if until <= now => {
                return self.profile_failed(now, "its profile could not be read in 30 s");
            }
            _ => {}
        }
        if let Some(wishes) = self.advance_upkeep(now) {
            return wishes;
        }
        self.advance_state(now)
    }

    fn advance_state(&mut self, now: Moment) -> Vec<Wish> {
        match &self.state {
            State::Absent | State::NotEnumerated | State::OtherMode | State::Ready | State::Detached(_) => Vec::new(),
            State::Detected => self.claim(now, None),
            State::Claiming { .. } => self.fail(now, "no answer to CNXN"),
            State::Authorising { .. } => {
                self.ask_again(now, "nobody allowed this host on the phone's screen in 20 min")
            }
            State::Online { .. } => self.fail(now, "Android did not finish starting in 5 min"),
            State::Provisioning { work: Work::AgentLater { tries, .. }, .. } => {
                let tries = *tries;
                match self.restraint.held {
                    Some(at) if at > now => {
                        self.state = State::Provisioning { until: at, work: Work::AgentLater { tries, at } };
                        Vec::new()
                    }
                    _ => self.provision(now, tries),
                }
            }
            State::Provisioning { work: Work::Rollout(_), .. } => {
                let why = format!("an install did not end in {} s", self.install_limit().as_secs());
                let mut wishes = self.installed(now, Err(reports::stuck_install(&why)));
                wishes.extend(self.fail(now, &why));
                wishes
            }
            State::Provisioning { .. } => {
                self.fail(now, &format!("the agent's install did not end in {} s", self.install_limit().as_secs()))
            }
            State::Restarting { .. } if self.bus == Bus::Away => {
                let waited = RESTART_MAX.as_secs();
                self.fail(now, &format!("it did not come back within {waited} s after the restart that was asked for"))
            }
            State::Restarting { .. } => self.claim(now, Some(Rung::Reboot)),
            State::Recovering { next, .. } => {
                let next = *next;
                self.climb(now, next)
            }
            State::Quarantined { .. } if self.bus == Bus::Away => {
                self.bus = Bus::There;
                let why = self.fault.clone();
                self.enter(now, State::Absent, &why);
                Vec::new()
            }
            State::Quarantined { .. } => {
                self.ladder = Ladder::new(self.policy.max_rung);
                self.claim(now, None)
            }
        }
    }

    fn remember_agent(&mut self, agent: InstalledAgent) {
        if let Some(profile) = &mut self.profile {
            profile.agent = Some(agent);
        }
    }

    fn alive(&mut self, now: Moment) {
        self.last_alive = Some(now);
    }

    fn disconnect(&mut self) {
        self.probe = Probe::Off;
        self.refresh = Refresh::Off;
        self.upkeep = Upkeep::Off;
    }

    fn enter(&mut self, now: Moment, state: State, why: &str) {
        self.note_restart(&state, why);
        self.turn = self.turn.filter(|_| matches!(state, State::Recovering { .. } | State::Claiming { .. }));
        self.state = state;
        self.since = now;
        why.clone_into(&mut self.why);
    }

    /// `base` ± 20 % from `now`, by a counter that only spreads: nothing secret, the same in every run with the same seed. On the next
    /// whole second: the phones of a rack that are asked in the same one wake the host once.
    fn some_time_after(&mut self, now: Moment, base: Duration) -> Moment {
        self.jitter = self.jitter.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let permille = 800 + u32::try_from((self.jitter >> 33) % 401).unwrap_or(0);
        let at = (now + base * permille / 1000).since_start();
        Moment::from_start(Duration::from_secs(at.as_secs() + u64::from(at.subsec_nanos() > 0)))
    }
}
