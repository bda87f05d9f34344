//! Places and phones: which identity sits where, and what follows from it for lines and rollouts.

use std::sync::Arc;

use super::acts::PendingActs;
use super::candidate::{Candidate, Readings};
use super::event::{Command, RolloutCommand, UpgradeByAgent};
use super::ids::{Endpoint, PhoneId, Serial, SlotName, VersionCode};
use super::line::{self, Line, NEW_ACTOR};
use super::snapshot::{Answers, LineState, PhoneState, UsbView};
use super::upkeep::Upkept;
use super::{Change, Outcome, Rack, Settings, identities};
use crate::clock::{Deadline, Moment, UnixMillis};
use crate::config::LineMode;
use crate::phone::Profile;
use crate::phone::life::Life;
use crate::phone::trace::Trace;

/// An endpoint, with the life of whatever handset is there.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) endpoint: Endpoint,
    pub(super) slot: Option<SlotName>,
    pub(super) life: Life,
    /// The serial of its USB descriptor.
    pub(super) serial: Option<Serial>,
    /// What the bus shows of it, while it is on USB.
    pub(super) usb: Option<UsbView>,
    /// The phone that is here, or was here last.
    pub(super) phone: Option<PhoneId>,
    /// What happened here and belongs to a phone that nobody knows yet.
    pub(super) trace: Arc<Trace>,
}

impl Place {
    pub(super) fn new(endpoint: Endpoint, slot: Option<SlotName>, life: Life) -> Self {
        Self { endpoint, slot, life, serial: None, usb: None, phone: None, trace: Arc::default() }
    }

    /// What a person calls the place, whoever is there.
    pub(super) fn name_of_place(&self) -> String {
        self.slot.as_ref().map_or_else(|| self.endpoint.to_string(), ToString::to_string)
    }

    /// What a person calls the place and who is there.
    pub(super) fn name(&self) -> String {
        let place = self.name_of_place();
        match &self.phone {
            Some(phone) => format!("{place} ({phone})"),
            None => place,
        }
    }

    /// The id under which a snapshot shows whoever is here.
    pub(super) fn shown_as(&self) -> PhoneId {
        match (&self.phone, &self.slot) {
            (Some(id), _) => id.clone(),
            (None, Some(slot)) => PhoneId::new(slot.as_str()),
            (None, None) => PhoneId::new(self.endpoint.to_string()),
        }
    }

    pub(super) fn deadline(&self) -> Option<Deadline> {
        self.life.deadline()
    }
}

/// An identity that stays when its handset moves or leaves.
#[derive(Debug)]
pub(super) struct Phone {
    pub(super) id: PhoneId,
    /// The serial that Android gave, or that of its USB descriptor until that is known.
    pub(super) serial: Serial,
    /// The serial of its USB descriptor when it was last seen: some makers put another one there.
    pub(super) descriptor: Option<Serial>,
    /// Where it is, or was last.
    pub(super) place: Option<Endpoint>,
    /// As last read, kept while the phone is away.
    pub(super) profile: Option<Profile>,
    /// When the profile was read, and when its kernel had started by that.
    pub(super) read: Option<Reading>,
    pub(super) last_alive: Option<Moment>,
    pub(super) answers: Answers,
    pub(super) upkept: Upkept,
    pub(super) line: Line,
    pub(super) trace: Arc<Trace>,
    pub(super) told: Told,
    /// What rollouts were told of it last.
    pub(super) candidate: Option<Candidate>,
    pub(super) asked: PendingActs,
    /// What its agent was told to do with itself, and the phone does not report yet.
    pub(super) awaits: Option<UpgradeByAgent>,
}

/// A reading of a phone's profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) at: Moment,
    /// By the host's clock, as it was set when this was read.
    pub(super) started: Option<UnixMillis>,
}

/// Two readings of a phone's uptime that are so near by each other are of one start: an answer takes its time.
const SAME_START_MS: u64 = 10_000;

/// What rollouts were told last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Told {
    Nothing,
    Available(Option<VersionCode>),
    Unavailable,
}

impl Told {
    fn command(self, phone: PhoneId, why: String) -> Option<RolloutCommand> {
        match self {
            Self::Nothing => None,
            Self::Available(version_code) => Some(RolloutCommand::Available { phone, version_code }),
            Self::Unavailable => Some(RolloutCommand::Unavailable { phone, why }),
        }
    }
}

impl Phone {
    pub(super) fn new(now: Moment, id: PhoneId, serial: Serial) -> Self {
        Self {
            id,
            serial,
            descriptor: None,
            place: None,
            profile: None,
            read: None,
            last_alive: None,
            answers: Answers::default(),
            upkept: Upkept::default(),
            line: Line::new(now),
            trace: Arc::default(),
            told: Told::Nothing,
            candidate: None,
            asked: PendingActs::default(),
            awaits: None,
        }
    }

    /// Takes in what was read at `at`, which is `wall` by the host's clock.
    fn remember(&mut self, profile: &Profile, at: Moment, wall: UnixMillis) {
        let mut known = profile.clone();
        if !known.booted
            && let Some(before) = self.profile.take()
        {
            // The services that know them do not answer while Android starts.
            known.imei = known.imei.or(before.imei);
            known.android_id = known.android_id.or(before.android_id);
        }
        self.profile = Some(known);
        if self.read.is_some_and(|read| read.at == at) {
            return;
        }
        let before = self.read.and_then(|read| read.started);
        let now = profile.uptime.map(|up| wall.minus(up));
        let started = match (before, now) {
            (Some(before), Some(now)) if before.0.abs_diff(now.0) < SAME_START_MS => Some(before),
            (_, now) => now,
        };
        self.read = Some(Reading { at, started });
    }

    /// Whether nothing but a USB descriptor was ever seen of it.
    pub(super) fn is_provisional(&self) -> bool {
        self.profile.is_none() && self.last_alive.is_none()
    }

    pub(super) fn line_change(&self) -> Change {
        Change::Line { phone: self.id.clone(), state: self.line.state, why: self.line.why.clone() }
    }
}

/// What rollouts know of a phone with this profile in this slot.
fn candidate(profile: &Profile, endpoint: &Endpoint, slot: Option<&SlotName>, settings: &Settings) -> Candidate {
    Candidate {
        slot: slot.cloned(),
        labels: slot.and_then(|slot| settings.labels.get(slot)).cloned().unwrap_or_default(),
        model: profile.model.clone(),
        sdk: Some(profile.sdk).filter(|sdk| *sdk > 0),
        abis: profile.abis.clone(),
        asks_its_user: profile.asks_its_user,
        hub: hub(endpoint, slot, settings),
        readings: readings(profile),
    }
}

/// The hub that a phone shares with others, as people call it.
fn hub(endpoint: &Endpoint, slot: Option<&SlotName>, settings: &Settings) -> Option<String> {
    let power = slot.and_then(|slot| settings.power.get(slot)).map(|power| power.hub.to_string());
    power.or_else(|| match endpoint {
        Endpoint::Usb(path) => Some(path.hub_name()),
        Endpoint::Tcp(_) => None,
    })
}

fn readings(profile: &Profile) -> Readings {
    let battery = profile.battery.as_ref();
    let celsius = battery.and_then(|battery| battery.temperature_celsius).map(f32::ceil);
    Readings {
        battery_percent: battery.map(|battery| battery.level_percent),
        // Any reading of a battery's temperature fits, and what does not is as hot as can be.
        temperature_celsius: celsius.map(|celsius| celsius.clamp(-1000.0, 1000.0) as i16),
        free_mib: profile.storage.map(|storage| storage.free_bytes >> 20),
    }
}

impl Rack {
    /// Draws the consequences of a place's state for its phone: profile, line, rollouts.
    pub(super) fn settle(&mut self, now: Moment, endpoint: &Endpoint, out: &mut Outcome) {
        let Some(place) = self.places.get(endpoint) else { return };
        let Some(id) = place.phone.clone() else { return };
        let state = place.life.state();
        let why = place.life.why().to_owned();
        let Some(phone) = self.phones.get_mut(&id) else { return };
        if place.life.is_connected()
            && let Some(profile) = place.life.profile()
        {
            let read_at = place.life.read_at();
            phone.remember(profile, read_at, self.epoch.plus(read_at.since_start()));
        }
        phone.last_alive = phone.last_alive.max(place.life.last_alive());
        if let Some(profile) = &phone.profile {
            let candidate = candidate(profile, endpoint, place.slot.as_ref(), &self.settings);
            if phone.candidate.as_ref() != Some(&candidate) {
                phone.candidate = Some(candidate.clone());
                let known = RolloutCommand::Known { phone: id.clone(), candidate: Box::new(candidate) };
                out.commands.push(Command::Rollout(known));
            }
        }
        let installing = place.life.installing().is_some();
        let version = phone.profile.as_ref().and_then(|profile| profile.agent.as_ref()).map(|agent| agent.version_code);
        out.commands.extend(phone.upgrade_seen(version));
        let holder = self.leases.of(&id).next().map(super::lease::Lease::sentence);
        let told =
            if state == PhoneState::Ready && holder.is_none() { Told::Available(version) } else { Told::Unavailable };
        if !installing && phone.told != told {
            phone.told = told;
            let why = holder.unwrap_or_else(|| format!("the phone is {}: {why}", state.as_str()));
            out.commands.extend(told.command(id.clone(), why).map(Command::Rollout));
        }
        match state {
            PhoneState::Absent => self.close_line(now, &id, &format!("the phone is not here: {why}"), out),
            PhoneState::Quarantined => self.close_line(now, &id, &format!("the phone is quarantined: {why}"), out),
            PhoneState::Detached => self.close_line(now, &id, &format!("the phone is detached: {why}"), out),
            _ if place.life.is_to_return() => {
                self.close_line(now, &id, "the phone has left and is to come back", out);
            }
            _ if phone.line.heartbeat_waits() && !place.life.is_being_probed() => {
                self.close_line(now, &id, "the phone did not answer the probe before its heartbeat", out);
            }
            _ => self.open_line(now, endpoint, &id, out),
        }
        self.answer_acts(endpoint, &id, out);
    }

    /// Says everything anew to rollouts that have forgotten it: who is here, and with which version.
    pub(super) fn tell_rollouts_again(&self, out: &mut Outcome) {
        out.commands.push(Command::Rollout(RolloutCommand::ClockSet(self.epoch)));
        for phone in self.phones.values() {
            let life = phone.place.as_ref().and_then(|endpoint| self.places.get(endpoint)).map(|place| &place.life);
            let installs = life.is_some_and(|life| life.installing().is_some());
            // What an install comes to is told before the phone is available again.
            let told = if installs { Told::Unavailable } else { phone.told };
            if let Some(candidate) = phone.candidate.clone() {
                let known = RolloutCommand::Known { phone: phone.id.clone(), candidate: Box::new(candidate) };
                out.commands.push(Command::Rollout(known));
            }
            let why = life.map_or("it is not here", |life| life.why()).to_owned();
            out.commands.extend(told.command(phone.id.clone(), why).map(Command::Rollout));
        }
    }

    /// Opens the line of a phone that answers, or tells it what changed.
    fn open_line(&mut self, now: Moment, endpoint: &Endpoint, id: &PhoneId, out: &mut Outcome) {
        let Some(kind) = &self.settings.credential else { return };
        let Some(place) = self.places.get(endpoint) else { return };
        let (true, Some(profile)) = (place.life.is_connected(), place.life.profile()) else { return };
        let Some(phone) = self.phones.get(id) else { return };
        let credential = self.credential_of(kind, phone, profile, place.slot.as_ref());
        let tunnel = self.tunnel_for(phone, profile, place, endpoint);
        let Some(phone) = self.phones.get_mut(id) else { return };
        // A line that was closed over silence opens again by a new answer, not by the one from before.
        let closed_since = if phone.line.state == LineState::Closed { phone.line.since } else { Moment::START };
        let fresh = |at: Moment| now.since(at) < self.settings.grace && at >= closed_since;
        let fresh = place.life.last_alive().is_some_and(fresh);
        match credential {
            Ok(credential) if fresh && profile.booted => {
                let wanted = line::Wanted { credential, tunnel };
                phone.line.keep_open(now, id, wanted, profile, &mut self.turns, &mut out.commands);
            }
            Ok(_) => {}
            // While Android starts, the service that knows the IMEI does not answer yet.
            Err(_) if !profile.booted => {}
            Err(why) => {
                if phone.line.close(now, id, LineState::NeedsIdentity, &why, &mut out.commands) {
                    out.changes.push(phone.line_change());
                }
            }
        }
    }

    /// Whether the agent on the phone shall find its line there: in relay, and once the phone is ready.
    fn tunnel_for(&self, phone: &Phone, profile: &Profile, place: &Place, endpoint: &Endpoint) -> line::Tunnel {
        let names = identities::names(&phone.id, profile, place.slot.as_ref());
        match self.settings.relay.mode_of(names.into_iter()) {
            LineMode::Hold => line::Tunnel::None,
            LineMode::Relay if place.life.state() == PhoneState::Ready => line::Tunnel::At(endpoint.clone()),
            LineMode::Relay => line::Tunnel::OnceReady(endpoint.clone()),
        }
    }

    pub(super) fn close_line(&mut self, now: Moment, id: &PhoneId, why: &str, out: &mut Outcome) {
        let Some(phone) = self.phones.get_mut(id) else { return };
        if phone.line.close(now, id, LineState::Closed, why, &mut out.commands) {
            out.changes.push(phone.line_change());
        }
    }

    /// What the line of a phone waits for.
    pub(super) fn line_deadline(&self, phone: &Phone) -> Option<Deadline> {
        let reopen = phone.line.reopen_at().map(|at| Deadline { at, why: NEW_ACTOR });
        Deadline::earlier(self.grace_deadline(phone), reopen)
    }

    /// Until when an open line may stay open without an answered probe.
    fn grace_deadline(&self, phone: &Phone) -> Option<Deadline> {
        let alive = phone.last_alive.filter(|_| phone.line.is_open())?;
        Some(Deadline { at: alive + self.settings.grace, why: "an answered probe, or the line is closed" })
    }

    pub(super) fn close_stale_lines(&mut self, now: Moment, out: &mut Outcome) {
        let stale: Vec<PhoneId> = self
            .phones
            .values()
            .filter(|phone| self.grace_deadline(phone).is_some_and(|deadline| deadline.at <= now))
            .map(|phone| phone.id.clone())
            .collect();
        for id in stale {
            let why = format!("the phone has not answered for {} s", self.settings.grace.as_secs());
            self.close_line(now, &id, &why, out);
        }
    }

    /// Lines whose actor was stuck get a new one once their pause is over; that of a phone that is away waits for the phone.
    pub(super) fn reopen_lines(&mut self, now: Moment, out: &mut Outcome) {
        let mut places = Vec::new();
        for phone in self.phones.values_mut().filter(|phone| phone.line.reopen_at().is_some_and(|at| at <= now)) {
            phone.line.may_reopen();
            places.extend(phone.place.clone());
        }
        for endpoint in places {
            self.settle(now, &endpoint, out);
        }
    }
}
