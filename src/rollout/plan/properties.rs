//! Random lists of operations against the core: notices, phones coming and going, operators, late commits, and crashes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use proptest::prelude::*;

use super::bench::{EPOCH, Shelf, apk, config, core, failure, fit, id, notice};
use super::*;
use crate::phone::InstallFailureClass;
use crate::rack::candidate::{Choice, Readings};
use crate::rack::request::Request;
use crate::rack::snapshot::RolloutPhoneState;
use crate::rack::strategy::{Approve, Downgrade, StrategyChanges};
use crate::store::promise::Report;

const PHONES: u8 = 5;

#[derive(Clone, Debug)]
enum Op {
    Offer { phone: u8, version: u64 },
    Start { version: u64 },
    Arrive { phone: u8 },
    Leave { phone: u8, install: Ending },
    Reads { phone: u8, battery: u8 },
    Result { phone: u8, install: Ending },
    Fetched { good: bool },
    Approve { rollout: u32 },
    Pause { rollout: u32 },
    Resume { rollout: u32 },
    Skip { rollout: u32, phone: u8 },
    Promote { rollout: u32 },
    Retry { rollout: u32 },
    Rollback { rollout: u32 },
    Abort { rollout: u32 },
    Pass { seconds: u64 },
    Commit,
    Report { arrives: bool },
    Crash { install: Ending },
    SetClock { day_s: u64 },
}

/// What an install does on the phone when something happens to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    TakesEffect,
    ComesToNothing,
}

fn op() -> impl Strategy<Value = Op> {
    let ending = prop_oneof![Just(Ending::TakesEffect), Just(Ending::ComesToNothing)];
    prop_oneof![
        3 => (0..PHONES, 2..4_u64).prop_map(|(phone, version)| Op::Offer { phone, version }),
        1 => (2..4_u64).prop_map(|version| Op::Start { version }),
        4 => (0..PHONES).prop_map(|phone| Op::Arrive { phone }),
        1 => (0..PHONES, ending.clone()).prop_map(|(phone, install)| Op::Leave { phone, install }),
        2 => (0..PHONES, prop_oneof![Just(10), Just(29), Just(30)]).prop_map(|(phone, battery)| Op::Reads { phone, battery }),
        5 => (0..PHONES, ending.clone()).prop_map(|(phone, install)| Op::Result { phone, install }),
        2 => prop::bool::weighted(0.9).prop_map(|good| Op::Fetched { good }),
        3 => (1..4_u32).prop_map(|rollout| Op::Approve { rollout }),
        1 => (1..4_u32).prop_map(|rollout| Op::Pause { rollout }),
        2 => (1..4_u32).prop_map(|rollout| Op::Resume { rollout }),
        1 => (1..4_u32, 0..PHONES).prop_map(|(rollout, phone)| Op::Skip { rollout, phone }),
        1 => (1..4_u32).prop_map(|rollout| Op::Promote { rollout }),
        1 => (1..4_u32).prop_map(|rollout| Op::Retry { rollout }),
        1 => (1..4_u32).prop_map(|rollout| Op::Abort { rollout }),
        1 => (1..4_u32).prop_map(|rollout| Op::Rollback { rollout }),
        2 => prop_oneof![Just(1), Just(5), Just(300), Just(700), Just(700_000)].prop_map(|seconds| Op::Pass { seconds }),
        12 => Just(Op::Commit),
        2 => any::<bool>().prop_map(|arrives| Op::Report { arrives }),
        1 => ending.prop_map(|install| Op::Crash { install }),
        1 => (0..86_400_u64).prop_map(|day_s| Op::SetClock { day_s }),
    ]
}

#[derive(Debug)]
struct Handset {
    here: bool,
    battery: u8,
    version: u64,
    running: Option<(InstallOrder, Moment)>,
}

/// At most two at once, and one of the hub.
fn limited() -> crate::config::Rollout {
    let mut config = config(Approve::First);
    config.windows.each = vec!["00:00-18:00".parse().unwrap()];
    let limits = &mut config.strategy.limits;
    (limits.at_once, limits.at_once_per_hub) = (2, 1);
    config
}

fn hub(phone: &PhoneId) -> Option<String> {
    ["P1", "P3"].contains(&phone.as_str()).then(|| "H1".to_owned())
}

struct World {
    core: Rollouts,
    now: Moment,
    /// The wall time of the start.
    epoch: UnixMillis,
    shelf: Shelf,
    commits: VecDeque<(Ticket, Vec<Promise>)>,
    fetches: VecDeque<Fetch>,
    handsets: BTreeMap<PhoneId, Handset>,
    done: BTreeSet<(RolloutNumber, PhoneId)>,
    /// Reports that are on their way to the server.
    reports: VecDeque<(PhoneId, i64)>,
    taken: BTreeSet<(PhoneId, i64)>,
}

impl World {
    fn new() -> Self {
        let shelf = Shelf::default();
        let handset = |n| (id(&format!("P{n}")), Handset { here: false, battery: 80, version: 1, running: None });
        let mut world = Self {
            core: core(limited(), Moment::START, &shelf),
            now: Moment::START,
            epoch: EPOCH,
            shelf,
            commits: VecDeque::new(),
            fetches: VecDeque::new(),
            handsets: (0..PHONES).map(handset).collect(),
            done: BTreeSet::new(),
            reports: VecDeque::new(),
            taken: BTreeSet::new(),
        };
        world.pull();
        world
    }

    fn apply(&mut self, op: &Op) {
        let name = |phone: &u8| id(&format!("P{phone}"));
        match op {
            Op::Offer { phone, version } => {
                let (phone, notice) = (name(phone), notice(i64::from(*phone), *version));
                self.core.command(self.now, RolloutCommand::Offered { phone, notice });
            }
            Op::Start { version } => {
                let wanted = Wanted {
                    file: "/agent.apk".into(),
                    choice: Choice::default(),
                    strategy: StrategyChanges::default(),
                };
                self.core.start(self.now, Ask(0), apk(*version), wanted);
            }
            Op::Arrive { phone } => self.arrive(&name(phone)),
            Op::Leave { phone, install } => {
                let phone = name(phone);
                let handset = self.handsets.get_mut(&phone).unwrap();
                handset.here = false;
                handset.end(*install);
                self.core.command(self.now, RolloutCommand::Unavailable { phone, why: "unplugged".into() });
            }
            Op::SetClock { day_s } => {
                self.epoch = UnixMillis::default().plus(Duration::from_secs(*day_s));
                self.core.command(self.now, RolloutCommand::ClockSet(self.epoch));
            }
            Op::Reads { phone, battery } => {
                let phone = name(phone);
                self.handsets.get_mut(&phone).unwrap().battery = *battery;
                self.tell_readings(&phone);
            }
            Op::Result { phone, install } => self.result(&name(phone), *install),
            Op::Fetched { good } => {
                if let Some(fetch) = self.fetches.pop_front() {
                    let result = if *good { Ok(apk(fetch.version_code.0)) } else { Err("404 Not Found".into()) };
                    self.core.fetched(self.now, fetch.rollout, result);
                }
            }
            Op::Approve { .. }
            | Op::Pause { .. }
            | Op::Resume { .. }
            | Op::Skip { .. }
            | Op::Promote { .. }
            | Op::Retry { .. }
            | Op::Abort { .. }
            | Op::Rollback { .. } => self.decide(op),
            Op::Pass { seconds } => {
                self.now = self.now + Duration::from_secs(*seconds);
                self.core.advance(self.now);
            }
            Op::Commit => self.commit(),
            Op::Report { arrives } => {
                if let Some((phone, message_id)) = self.reports.pop_front().filter(|_| *arrives) {
                    self.taken.insert((phone.clone(), message_id));
                    self.core.command(self.now, RolloutCommand::FailureTold { phone, message_id });
                }
            }
            Op::Crash { install } => {
                for handset in self.handsets.values_mut() {
                    handset.here = false;
                    handset.end(*install);
                }
                self.commits.clear();
                self.fetches.clear();
                self.core = core(limited(), self.now, &self.shelf);
                self.epoch = EPOCH;
            }
        }
        self.pull();
    }

    /// What an operator does.
    fn decide(&mut self, op: &Op) {
        let id = |rollout: &u32| RolloutNumber(*rollout).id();
        let request = match op {
            Op::Approve { rollout } => Request::RolloutApprove { rollout: id(rollout) },
            Op::Pause { rollout } => Request::RolloutPause { rollout: id(rollout) },
            Op::Resume { rollout } => Request::RolloutResume { rollout: id(rollout) },
            Op::Skip { rollout, phone } => {
                let phone = super::bench::id(&format!("P{phone}"));
                Request::RolloutSkip { rollout: id(rollout), phone }
            }
            Op::Promote { rollout } => Request::RolloutPromote { rollout: id(rollout), reason: "seen".into() },
            Op::Retry { rollout } => Request::RolloutRetry { rollout: id(rollout), phone: None },
            Op::Abort { rollout } => Request::RolloutAbort { rollout: id(rollout), reason: "bad build".into() },
            Op::Rollback { rollout } => Request::RolloutRollback { rollout: id(rollout), reason: "bad build".into() },
            _ => return,
        };
        self.ask(request);
    }

    fn ask(&mut self, request: Request) {
        self.core.request(self.now, Ask(0), &request);
    }

    fn arrive(&mut self, phone: &PhoneId) {
        let handset = self.handsets.get_mut(phone).unwrap();
        if handset.running.is_none() {
            handset.here = true;
            let version_code = Some(VersionCode(handset.version));
            self.tell_readings(phone);
            self.core.command(self.now, RolloutCommand::Available { phone: phone.clone(), version_code });
        }
    }

    /// Phones of odd names share a hub.
    fn tell_readings(&mut self, phone: &PhoneId) {
        let readings = Readings { battery_percent: Some(self.handsets[phone].battery), ..fit().readings };
        let candidate = Box::new(Candidate { readings, hub: hub(phone), ..fit() });
        self.core.command(self.now, RolloutCommand::Known { phone: phone.clone(), candidate });
    }

    fn result(&mut self, phone: &PhoneId, install: Ending) {
        let handset = self.handsets.get_mut(phone).unwrap();
        let Some(rollout) = handset.running.as_ref().map(|(order, _)| order.rollout.clone()) else { return };
        handset.end(install);
        let result = match install {
            Ending::TakesEffect => Ok(VersionCode(handset.version)),
            Ending::ComesToNothing => Err(failure(InstallFailureClass::Transient)),
        };
        self.core.command(self.now, RolloutCommand::Installed { phone: phone.clone(), rollout, result });
    }

    fn commit(&mut self) {
        let Some((ticket, batch)) = self.commits.pop_front() else { return };
        self.shelf.apply(batch);
        let mut installing = BTreeSet::new();
        for record in self.shelf.phones.values() {
            let key = (record.rollout, record.phone.clone());
            match record.state {
                RolloutPhoneState::Done => drop(self.done.insert(key)),
                // Only a rollback takes from a phone what it has got.
                _ if self.shelf.rollouts[&record.rollout].state.is_rolled_back() => {}
                _ => assert!(!self.done.contains(&key), "{key:?} was done and is {:?}", record.state),
            }
            if let (Report::Sent, Some(notice)) = (record.report, record.notice) {
                assert!(self.taken.contains(&(record.phone.clone(), notice)), "told, says {record:?}");
            }
            if record.state == RolloutPhoneState::Installing {
                assert!(installing.insert(record.phone.clone()), "{} is promised two installs", record.phone);
            }
        }
        self.core.committed(self.now, ticket);
    }

    fn pull(&mut self) {
        while let Some(output) = self.core.poll() {
            match output {
                Output::Commit { ticket, batch } => {
                    self.decided(&batch);
                    self.commits.push_back((ticket, batch));
                }
                Output::Fetch(fetch) => self.fetches.push_back(fetch),
                Output::Install { phone, order } => self.install(&phone, &order),
                Output::ReportFailure { phone, message_id, .. } => self.reports.push_back((phone, message_id)),
                Output::Look { .. } | Output::Standing(_) | Output::Answer { .. } | Output::Changed => {}
            }
        }
        if let Some(deadline) = self.core.deadline() {
            assert!(!deadline.why.is_empty());
        }
    }

    /// No install is promised to a phone that is known to be unfit, nor beyond what may be under way at once.
    fn decided(&self, batch: &[Promise]) {
        let mut records = self.shelf.phones.clone();
        let earlier = self.commits.iter().flat_map(|(_, batch)| batch);
        for (promise, is_new) in earlier.map(|old| (old, false)).chain(batch.iter().map(|new| (new, true))) {
            let Promise::RolloutPhone(record) = promise else { continue };
            let before = records.insert((record.rollout, record.phone.clone()), record.clone());
            let begins = is_new && before.map_or(0, |before| before.attempts) < record.attempts;
            if begins {
                let battery = self.handsets[&record.phone].battery;
                assert!(limited().windows.are_open(self.epoch.plus(self.now.since_start())), "the windows are shut");
                assert!(battery >= 30, "{} is to be installed on with {battery} %", record.phone);
            }
        }
        let installing = |record: &&RolloutPhoneRecord| record.state == RolloutPhoneState::Installing;
        let installing: Vec<_> = records.values().filter(installing).map(|record| &record.phone).collect();
        assert!(installing.len() <= 2, "too many at once: {installing:?}");
        assert!(installing.iter().filter(|phone| hub(phone).is_some()).count() <= 1, "of one hub: {installing:?}");
    }

    /// The heart of it: what must hold whenever an install goes out.
    fn install(&mut self, phone: &PhoneId, order: &InstallOrder) {
        let number = RolloutNumber::of(&order.rollout).unwrap();
        let promised = &self.shelf.phones[&(number, phone.clone())];
        assert_eq!(promised.state, RolloutPhoneState::Installing, "no committed promise: {promised:?}");
        assert!(promised.attempts > 0);
        let open = self.shelf.rollouts[&number].open_waves;
        assert!(promised.wave < open, "wave {} is not open, only {open} are", promised.wave);
        for other in self.shelf.phones.values().filter(|other| other.rollout == number && other.wave < promised.wave) {
            assert!(other.state.is_settled(), "wave {} began before {other:?}", promised.wave);
        }
        let handset = self.handsets.get_mut(phone).unwrap();
        assert!(handset.here, "an install for a phone that is away");
        let takes_back = self.shelf.rollouts[&number].takes_back;
        if let Some(origin) = takes_back.filter(|_| handset.version > order.version_code.0) {
            let record = &self.shelf.phones[&(origin, phone.clone())];
            assert_eq!(self.shelf.rollouts[&origin].version_code.0, handset.version, "{phone} has moved on");
            assert_eq!(record.before, Some(order.version_code), "{phone} never had that version");
            assert!(self.shelf.rollouts[&origin].state.is_rolled_back(), "nobody rolls {origin} back");
        } else {
            assert!(handset.version < order.version_code.0, "{phone} has {} already", handset.version);
        }
        if let Some((_, since)) = &handset.running {
            let given_up = self.now - *since >= Duration::from_secs(300);
            assert!(given_up, "{phone} is told to install while it installs");
        }
        handset.running = Some((order.clone(), self.now));
    }

    /// Everything goes well from here: every rollout must end, with every phone where it should be.
    fn converge(&mut self) {
        for round in 0..200 {
            while !self.commits.is_empty() {
                self.apply(&Op::Commit);
            }
            if self.core.views().iter().all(|view| view.state.is_over()) {
                return;
            }
            if round == 0 {
                // A clock at which the windows stay open for long enough.
                let day_s = 2 * 86_400 - self.now.since_start().as_secs() % 86_400;
                self.apply(&Op::SetClock { day_s });
            }
            self.apply(&Op::Pass { seconds: 5 });
            self.apply(&Op::Report { arrives: true });
            for phone in 0..PHONES {
                self.apply(&Op::Reads { phone, battery: 80 });
                self.apply(&Op::Result { phone, install: Ending::TakesEffect });
                self.apply(&Op::Arrive { phone });
            }
            self.apply(&Op::Fetched { good: true });
            for view in self.core.views() {
                let rollout = RolloutNumber::of(&view.id).unwrap().0;
                match view.state {
                    RolloutState::WaitingApproval => self.apply(&Op::Approve { rollout }),
                    RolloutState::Paused => self.apply(&Op::Resume { rollout }),
                    _ => {}
                }
            }
        }
        panic!("it never ends: {:#?}", self.core.views());
    }
}

impl Handset {
    fn end(&mut self, install: Ending) {
        if let Some((order, _)) = self.running.take()
            && install == Ending::TakesEffect
        {
            self.version = match order.downgrade {
                Downgrade::Refused => self.version.max(order.version_code.0),
                Downgrade::Allowed => order.version_code.0,
            };
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn whatever_happens_the_invariants_hold_and_every_rollout_ends(ops in prop::collection::vec(op(), 0..120)) {
        let mut world = World::new();
        for op in &ops {
            world.apply(op);
        }
        world.converge();
        for record in world.shelf.phones.values() {
            let rollout = &world.shelf.rollouts[&record.rollout];
            // What one rollback has brought another one may take.
            if rollout.state == RolloutState::Finished && rollout.takes_back.is_none() {
                let has_it = record.state == RolloutPhoneState::Done;
                // Skipped and failed are what the operator decided to leave so.
                assert!(record.state.is_final());
                assert!(!has_it || world.handsets[&record.phone].version >= rollout.version_code.0);
            }
        }
        // What the core shows is what a core made from the store shows.
        let restored = core(limited(), world.now, &world.shelf);
        assert_eq!(world.core.views(), restored.views());
    }
}
