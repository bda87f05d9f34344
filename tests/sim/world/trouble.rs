//! Trouble, drawn by the seed, and the calm after it.

use std::time::Duration;

use farmhand::central::proto::EnumPhoneAction;
use farmhand::clock::UnixMillis;
use farmhand::rack::Event;
use farmhand::rack::candidate::Choice;
use farmhand::rack::detach::{DetachEvent, Detachment};
use farmhand::rack::ids::{Endpoint, Label, PhoneId};
use farmhand::rack::lease::{HOLD, Lease, LeaseEvent, Tool};
use farmhand::rack::request::Request;
use farmhand::rack::snapshot::{PhoneState, PortMode, RolloutState};
use farmhand::rack::strategy::Downgrade;

use super::actor::PACKAGE;
use super::handset::{Mood, Trust};
use super::input::Input;
use super::rollouts::Word;
use super::{PHONES, PLACES, World, centre, endpoint, hub};

/// How often the operator looks after the rack once it is calm.
const OPERATOR_EVERY: Duration = Duration::from_secs(20);
/// Codes that the centre sends: unknown ones, a task on people, a redirect, TriggerDeviceInfo, a stop, a device's own.
const CODES: [i32; 10] = [0, 7, 99_999, -1, 1070, 1015, 1016, 1096, 1010, 1256];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trouble {
    Unplug,
    Stall,
    /// All at once, for minutes, and no reset cures it: recovery goes up to its budget for power.
    Epidemic,
    Garbage,
    InstallMood,
    Reboot,
    Distrust,
    /// Its battery is low or hot, or its storage full, or all is well with it again.
    Condition,
    CentreAway,
    CentreRefuses,
    CentreTalks,
    ForcedOffline,
    LineStuck,
    Upgrade,
    HubMood,
    OperatorDecides,
    OperatorSwitches,
    OperatorStarts,
    SlowStore,
    Crash,
    ClockSet,
    /// A person takes a phone, for a while.
    Hold,
    /// A person gives the interface of a place to another program, or takes it back.
    Detach,
}

impl Trouble {
    pub(super) const ALL: [Self; 23] = [
        Self::Unplug,
        Self::Stall,
        Self::Epidemic,
        Self::Garbage,
        Self::InstallMood,
        Self::Reboot,
        Self::Distrust,
        Self::Condition,
        Self::CentreAway,
        Self::CentreRefuses,
        Self::CentreTalks,
        Self::ForcedOffline,
        Self::LineStuck,
        Self::Upgrade,
        Self::HubMood,
        Self::OperatorDecides,
        Self::OperatorSwitches,
        Self::OperatorStarts,
        Self::SlowStore,
        Self::Crash,
        Self::ClockSet,
        Self::Hold,
        Self::Detach,
    ];
}

/// What the model hears of a place that was given away.
pub(super) fn detached(endpoint: Endpoint) -> Event {
    let detachment = Detachment { endpoint, who: "mara".to_owned(), since: UnixMillis(0) };
    Event::Detach { event: DetachEvent::Detached(detachment), ask: None }
}

impl World {
    /// One trouble, and the time of the next.
    pub(super) fn make_trouble(&mut self) {
        if self.is_calm() || self.temper.kinds.is_empty() {
            return;
        }
        let pace = u64::try_from(self.temper.pace.as_millis()).unwrap_or(u64::MAX);
        let next = self.stage.chance.millis(50, 2 * pace);
        self.stage.after(next, Input::Trouble);
        self.an_agent_acts();
        let kind = *self.stage.chance.pick(&self.temper.kinds);
        self.stage.tell(format_args!("trouble: {kind:?}"));
        let phone = self.stage.chance.below(PHONES);
        match kind {
            Trouble::Unplug
            | Trouble::Stall
            | Trouble::Garbage
            | Trouble::InstallMood
            | Trouble::Reboot
            | Trouble::Distrust
            | Trouble::Condition => self.trouble_a_phone(kind, phone),
            Trouble::CentreAway | Trouble::CentreRefuses | Trouble::CentreTalks | Trouble::ForcedOffline => {
                self.trouble_at_the_centre(kind);
            }
            Trouble::Epidemic if self.stage.now < self.temper.incurable_until + Duration::from_secs(600) => {}
            Trouble::Epidemic => {
                let until = self.stage.now + self.stage.chance.seconds(120, 600);
                self.temper.incurable_until = until;
                self.handsets.iter_mut().for_each(|handset| handset.stalled_until = until);
            }
            Trouble::LineStuck => self.line_is_stuck(phone),
            Trouble::Upgrade => self.plan_upgrade(),
            Trouble::HubMood => {
                self.hub.mood = *self.stage.chance.pick(&[hub::Mood::Silent, hub::Mood::Garbage]);
                let back = self.stage.chance.seconds(5, 200);
                self.stage.after(back, Input::HubBack);
            }
            Trouble::OperatorDecides => self.operator_decides(),
            Trouble::OperatorSwitches => self.operator_switches(phone),
            Trouble::OperatorStarts if self.temper.upgrades == 0 => {}
            Trouble::OperatorStarts => {
                self.temper.upgrades -= 1;
                self.operator_starts();
            }
            Trouble::SlowStore => self.temper.slow_store_until = self.stage.now + self.stage.chance.seconds(5, 120),
            Trouble::Crash => self.crash_for_a_while(),
            Trouble::Hold => self.hold(phone),
            Trouble::Detach => self.detach_or_attach(phone),
            Trouble::ClockSet => {
                let epoch = UnixMillis(i64::try_from(self.stage.chance.draw() >> 22).unwrap_or_default());
                self.tell_model(Event::ClockSet(epoch));
            }
        }
    }

    /// A rollout of a new version, of the last one, or of an older one.
    fn operator_starts(&mut self) {
        let choice = self.choice();
        let (version, downgrade) = if self.temper.version > 1 && self.stage.chance.one_in(5) {
            let older = self.stage.chance.below(usize::try_from(self.temper.version - 1).unwrap_or(usize::MAX));
            (1 + older as u64, Downgrade::Allowed)
        } else {
            self.temper.version += u64::from(self.stage.chance.one_in(2));
            (self.temper.version, Downgrade::Refused)
        };
        self.rollout_word(Word::Start { version, choice, downgrade });
    }

    /// Whom an operator means this time.
    fn choice(&mut self) -> Choice {
        let some = |text: &str| vec![text.to_owned()];
        match self.stage.chance.below(5) {
            0 => Choice { percent: Some(40), ..Choice::default() },
            1 => Choice { labels: vec![Label::new("third")], ..Choice::default() },
            2 => Choice { slots: some("a1*"), models: some("sim"), ..Choice::default() },
            _ => Choice::default(),
        }
    }

    pub(super) fn crash_for_a_while(&mut self) {
        self.crash_daemon();
        let back = self.stage.chance.millis(200, 20_000);
        self.stage.after(back, Input::Start);
    }

    /// Somebody holds the phone in this place, from now on, for up to ten minutes.
    fn hold(&mut self, place: usize) {
        let Some(daemon) = &self.daemon else { return };
        let Ok(phone) = daemon.rack.check_hold(&format!("A{}", place + 1), "mara") else { return };
        let since = daemon.rack.snapshot(self.stage.now).at;
        let until = since.plus(self.stage.chance.seconds(10, 600));
        let (who, reason) = ("mara".to_owned(), "sim".to_owned());
        let lease = Lease { phone, id: HOLD, tool: Tool::Hold, who, reason, since, until };
        self.tell_model(Event::Lease { event: LeaseEvent::Taken(lease), ask: None });
    }

    /// The order is in the store before the model hears of it.
    fn detach_or_attach(&mut self, place: usize) {
        let Some(daemon) = &self.daemon else { return };
        let (endpoint, name) = (endpoint(place), format!("A{}", place + 1));
        if self.disk.detached.contains(&endpoint) {
            self.attach(endpoint);
        } else if daemon.rack.check_detach(&name, "mara").is_ok() {
            self.disk.detached.insert(endpoint.clone());
            self.tell_model(detached(endpoint));
        }
    }

    fn attach(&mut self, endpoint: Endpoint) {
        self.disk.detached.remove(&endpoint);
        let event = DetachEvent::Attached { endpoint, who: "mara".to_owned() };
        self.tell_model(Event::Detach { event, ask: None });
    }

    fn trouble_a_phone(&mut self, kind: Trouble, phone: usize) {
        let now = self.stage.now;
        let until = now + self.stage.chance.seconds(1, 200);
        let handset = &mut self.handsets[phone];
        match kind {
            Trouble::Stall => handset.stalled_until = until,
            Trouble::Garbage => handset.garbage_until = until,
            Trouble::Reboot if handset.on_bus.is_some() => handset.reboot(&mut self.stage, now),
            Trouble::Distrust => {
                let tap = self.stage.chance.seconds(2, 400);
                handset.trust = *self.stage.chance.pick(&[Trust::Open, Trust::Known, Trust::Taps(tap)]);
            }
            Trouble::Condition => {
                handset.battery_percent = *self.stage.chance.pick(&[12, 29, 30, 80]);
                handset.celsius = *self.stage.chance.pick(&[25, 25, 42, 43]);
                handset.free_mib = *self.stage.chance.pick(&[9000, 9000, 1, 0]);
            }
            Trouble::InstallMood => {
                let moods = [
                    Mood::Fine,
                    Mood::Slow,
                    Mood::Hangs,
                    Mood::Transient,
                    Mood::Permanent,
                    Mood::NeedsHand,
                    Mood::Lies,
                ];
                handset.mood = *self.stage.chance.pick(&moods);
                if self.stage.chance.one_in(4) {
                    handset.version = None;
                }
            }
            _ => {
                self.unplug(phone);
                let place = if self.stage.chance.one_in(3) { self.stage.chance.below(PLACES) } else { phone };
                let back = if self.stage.chance.one_in(2) {
                    self.stage.chance.millis(1, 900)
                } else {
                    self.stage.chance.seconds(1, 240)
                };
                self.stage.after(back, Input::Plug { phone, place });
            }
        }
    }

    fn trouble_at_the_centre(&mut self, kind: Trouble) {
        let lines = self.centre.registered();
        match kind {
            Trouble::CentreAway | Trouble::CentreRefuses => {
                let mood = match kind {
                    Trouble::CentreRefuses => centre::Mood::Refusing,
                    _ => *self.stage.chance.pick(&[centre::Mood::Down, centre::Mood::Silent, centre::Mood::Black]),
                };
                self.centre.becomes(&mut self.stage, mood);
                let back = self.stage.chance.seconds(1, 240);
                self.stage.after(back, Input::CentreBack);
            }
            _ if lines.is_empty() => {}
            Trouble::ForcedOffline => {
                let (phone, link, _) = self.stage.chance.pick(&lines).clone();
                let mut reason = *self.stage.chance.pick(&[0, 1, 2, 3, 4]);
                if matches!(reason, 1 | 2) {
                    match self.temper.replacements.checked_sub(1) {
                        Some(left) => self.temper.replacements = left,
                        None => reason = 3,
                    }
                }
                self.centre.force_offline(&mut self.stage, &phone, link, reason);
            }
            _ => {
                let (phone, link, _) = self.stage.chance.pick(&lines).clone();
                if self.stage.chance.one_in(3) {
                    self.centre.talk_nonsense(&mut self.stage, &phone, link);
                } else if self.stage.chance.one_in(3) {
                    let action = *self.stage.chance.pick(&[EnumPhoneAction::Reboot, EnumPhoneAction::RestartSelf]);
                    self.centre.ask_for_act(&mut self.stage, &phone, link, action);
                } else {
                    let code = *self.stage.chance.pick(&CODES);
                    self.centre.say_code(&mut self.stage, &phone, link, code);
                }
            }
        }
    }

    /// Notices for several phones within seconds: mostly of a new version, now and then an old one or another package.
    fn plan_upgrade(&mut self) {
        let Some(left) = self.temper.upgrades.checked_sub(1) else { return };
        self.temper.upgrades = left;
        self.temper.version += u64::from(!self.stage.chance.one_in(4));
        let version = if self.stage.chance.one_in(8) { 1 } else { self.temper.version };
        let package = if self.stage.chance.one_in(12) { "org.example.other" } else { PACKAGE };
        for phone in 0..PHONES {
            if self.stage.chance.one_in(2) {
                let after = self.stage.chance.millis(0, 6000);
                self.stage.after(after, Input::Notices { version, phones: vec![phone], package });
            }
        }
    }

    pub(super) fn send_notices(&mut self, version: u64, phones: &[usize], package: &str) {
        for (phone, link, credential) in self.centre.registered() {
            if phones.iter().any(|wanted| self.handsets[*wanted].imei == credential) {
                self.centre.ask_for_upgrade(&mut self.stage, &phone, link, package, version);
            }
        }
    }

    fn operator_decides(&mut self) {
        let known: Vec<_> = self.disk.rollouts.keys().rev().take(4).map(|number| number.id()).collect();
        if known.is_empty() {
            return;
        }
        let rollout = self.stage.chance.pick(&known).clone();
        let request = match self.stage.chance.below(9) {
            8 => Request::RolloutRollback { rollout, reason: "sim".to_owned() },
            7 => Request::RolloutRetry { rollout, phone: None },
            0 | 1 => Request::RolloutApprove { rollout },
            2 => Request::RolloutPause { rollout },
            3 => Request::RolloutPromote { rollout, reason: "it was looked at".to_owned() },
            4 if self.stage.chance.one_in(4) => Request::RolloutRollback { rollout, reason: "a bad build".to_owned() },
            4 if self.stage.chance.one_in(3) => Request::RolloutAbort { rollout, reason: "a bad build".to_owned() },
            4 => {
                let phones = self.ready();
                if phones.is_empty() {
                    return;
                }
                Request::RolloutSkip { rollout, phone: self.stage.chance.pick(&phones).clone() }
            }
            _ => Request::RolloutResume { rollout },
        };
        self.rollout_word(Word::Request(Box::new(request)));
    }

    fn operator_switches(&mut self, place: usize) {
        let mode = *self.stage.chance.pick(&[PortMode::Off, PortMode::Sync, PortMode::Sync, PortMode::Charge]);
        self.switch(place, mode);
    }

    /// An order of the operator, where the model takes it.
    fn switch(&mut self, place: usize, mode: PortMode) {
        let (name, port) = (hub::name(), hub::port(place));
        if self.daemon.as_ref().is_some_and(|daemon| daemon.rack.check_port(&name, port).is_ok()) {
            self.tell_model(Event::SetPort { hub: name, port, mode });
        }
    }

    /// No more trouble: everyone is plugged in and healthy.
    pub(super) fn calm_down(&mut self) {
        let now = self.stage.now;
        self.start_daemon();
        for endpoint in self.disk.detached.clone() {
            self.attach(endpoint);
        }
        self.centre.becomes(&mut self.stage, centre::Mood::Up);
        self.centre.loses_reports = false;
        self.centre.refuses = centre::Refuses::None;
        self.hub.mood = hub::Mood::Live;
        self.temper.slow_store_until = now;
        for phone in 0..PHONES {
            let handset = &mut self.handsets[phone];
            handset.stalled_until = now;
            handset.garbage_until = now;
            handset.trust = Trust::Known;
            handset.mood = Mood::Fine;
            (handset.battery_percent, handset.celsius, handset.free_mib) = (80, 25, 9000);
            if handset.plugged.is_none() {
                self.plug_anywhere(phone);
            }
        }
        self.stage.after(Duration::from_secs(1), Input::Operator);
    }

    fn plug_anywhere(&mut self, phone: usize) {
        for place in std::iter::once(phone).chain(0..PLACES) {
            if self.handsets[phone].plugged.is_none() {
                self.plug(phone, place);
            }
        }
    }

    /// The operator looks after the rack: power for everyone, and every rollout goes on.
    pub(super) fn operator(&mut self) {
        for place in 0..PHONES {
            let has_phone = self.handsets.iter().any(|handset| handset.plugged == Some(place));
            if has_phone && !self.hub.feeds(place) {
                self.switch(place, PortMode::Sync);
            }
        }
        let records = self.disk.rollouts.values();
        let states: Vec<_> = records.map(|record| (record.number.id(), record.state, record.why.clone())).collect();
        for (rollout, state, why) in states {
            match state {
                // Where nobody installs the agent again that a reset took away, no further look passes.
                RolloutState::Paused if why.contains("the agent is not installed") => {
                    let reason = "that phone was reset".to_owned();
                    self.rollout_word(Word::Request(Box::new(Request::RolloutPromote { rollout, reason })));
                }
                RolloutState::WaitingApproval => {
                    self.rollout_word(Word::Request(Box::new(Request::RolloutApprove { rollout })));
                }
                // What a gate or a wave has found it may find again: then the operator lets it pass.
                RolloutState::Paused if self.stage.now.since_start().as_secs() / OPERATOR_EVERY.as_secs() % 3 == 2 => {
                    let reason = "the phones were looked at".to_owned();
                    self.rollout_word(Word::Request(Box::new(Request::RolloutPromote { rollout, reason })));
                }
                RolloutState::Paused => self.rollout_word(Word::Request(Box::new(Request::RolloutResume { rollout }))),
                _ => {}
            }
        }
        self.stage.after(OPERATOR_EVERY, Input::Operator);
    }

    /// The phones that the model shows as ready, by id.
    pub(super) fn ready(&self) -> Vec<PhoneId> {
        let Some(daemon) = &self.daemon else { return Vec::new() };
        let phones = daemon.rack.snapshot(self.stage.now).phones.into_iter();
        phones.filter(|phone| phone.state == PhoneState::Ready).map(|phone| phone.id).collect()
    }
}
