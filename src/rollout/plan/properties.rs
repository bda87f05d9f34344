//! Random lists of operations against the core: notices, phones coming and going, operators, late commits, and crashes.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use proptest::prelude::*;

use super::bench::{Shelf, apk, config, core, failure, id, notice};
use super::*;
use crate::phone::InstallFailureClass;
use crate::rack::candidate::Choice;
use crate::rack::ids::RolloutId;
use crate::rack::request::Request;
use crate::rack::strategy::{Approve, StrategyChanges};
use crate::store::promise::Report;

const PHONES: u8 = 5;

#[derive(Clone, Debug)]
enum Op {
    Offer { phone: u8, version: u64 },
    Start { version: u64 },
    Arrive { phone: u8 },
    Leave { phone: u8, install: Ending },
    Result { phone: u8, install: Ending },
    Fetched { good: bool },
    Approve { rollout: u32 },
    Pause { rollout: u32 },
    Resume { rollout: u32 },
    Skip { rollout: u32, phone: u8 },
    Promote { rollout: u32 },
    Abort { rollout: u32 },
    Pass { seconds: u64 },
    Commit,
    Report { arrives: bool },
    Crash { install: Ending },
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
        5 => (0..PHONES, ending.clone()).prop_map(|(phone, install)| Op::Result { phone, install }),
        2 => prop::bool::weighted(0.9).prop_map(|good| Op::Fetched { good }),
        3 => (1..4_u32).prop_map(|rollout| Op::Approve { rollout }),
        1 => (1..4_u32).prop_map(|rollout| Op::Pause { rollout }),
        2 => (1..4_u32).prop_map(|rollout| Op::Resume { rollout }),
        1 => (1..4_u32, 0..PHONES).prop_map(|(rollout, phone)| Op::Skip { rollout, phone }),
        1 => (1..4_u32).prop_map(|rollout| Op::Promote { rollout }),
        1 => (1..4_u32).prop_map(|rollout| Op::Abort { rollout }),
        2 => prop_oneof![Just(1), Just(5), Just(300), Just(700), Just(700_000)].prop_map(|seconds| Op::Pass { seconds }),
        12 => Just(Op::Commit),
        2 => any::<bool>().prop_map(|arrives| Op::Report { arrives }),
        1 => ending.prop_map(|install| Op::Crash { install }),
    ]
}

#[derive(Debug)]
struct Handset {
    here: bool,
    version: u64,
    running: Option<(RolloutId, u64, Moment)>,
}

struct World {
    core: Rollouts,
    now: Moment,
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
        let handset = |n| (id(&format!("P{n}")), Handset { here: false, version: 1, running: None });
        let mut world = Self {
            core: core(config(Approve::First), Moment::START, &shelf),
            now: Moment::START,
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
            Op::Result { phone, install } => self.result(&name(phone), *install),
            Op::Fetched { good } => {
                if let Some(fetch) = self.fetches.pop_front() {
                    let result = if *good { Ok(apk(fetch.version_code.0)) } else { Err("404 Not Found".into()) };
                    self.core.fetched(self.now, fetch.rollout, result);
                }
            }
            Op::Approve { rollout } => self.ask(Request::RolloutApprove { rollout: RolloutNumber(*rollout).id() }),
            Op::Pause { rollout } => self.ask(Request::RolloutPause { rollout: RolloutNumber(*rollout).id() }),
            Op::Resume { rollout } => self.ask(Request::RolloutResume { rollout: RolloutNumber(*rollout).id() }),
            Op::Skip { rollout, phone } => {
                self.ask(Request::RolloutSkip { rollout: RolloutNumber(*rollout).id(), phone: name(phone) });
            }
            Op::Promote { rollout } => {
                let rollout = RolloutNumber(*rollout).id();
                self.ask(Request::RolloutPromote { rollout, reason: "seen".into() });
            }
            Op::Abort { rollout } => {
                let rollout = RolloutNumber(*rollout).id();
                self.ask(Request::RolloutAbort { rollout, reason: "bad build".into() });
            }
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
                self.core = core(config(Approve::First), self.now, &self.shelf);
            }
        }
        self.pull();
    }

    fn ask(&mut self, request: Request) {
        self.core.request(self.now, Ask(0), &request);
    }

    fn arrive(&mut self, phone: &PhoneId) {
        let handset = self.handsets.get_mut(phone).unwrap();
        if handset.running.is_none() {
            handset.here = true;
            let version_code = Some(VersionCode(handset.version));
            self.core.command(self.now, RolloutCommand::Available { phone: phone.clone(), version_code });
        }
    }

    fn result(&mut self, phone: &PhoneId, install: Ending) {
        let handset = self.handsets.get_mut(phone).unwrap();
        let Some((rollout, _, _)) = handset.running.clone() else { return };
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
                Output::Commit { ticket, batch } => self.commits.push_back((ticket, batch)),
                Output::Fetch(fetch) => self.fetches.push_back(fetch),
                Output::Install { phone, order } => self.install(&phone, &order),
                Output::ReportFailure { phone, message_id, .. } => self.reports.push_back((phone, message_id)),
                Output::Answer { .. } | Output::Changed => {}
            }
        }
        if let Some(deadline) = self.core.deadline() {
            assert!(!deadline.why.is_empty());
        }
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
        assert!(handset.version < order.version_code.0, "{phone} has {} already", handset.version);
        if let Some((_, _, since)) = &handset.running {
            let given_up = self.now - *since >= Duration::from_secs(300);
            assert!(given_up, "{phone} is told to install while it installs");
        }
        handset.running = Some((order.rollout.clone(), order.version_code.0, self.now));
    }

    /// Everything goes well from here: every rollout must end, with every phone where it should be.
    fn converge(&mut self) {
        for _ in 0..200 {
            while !self.commits.is_empty() {
                self.apply(&Op::Commit);
            }
            if self.core.views().iter().all(|view| matches!(view.state, RolloutState::Finished | RolloutState::Aborted))
            {
                return;
            }
            self.apply(&Op::Pass { seconds: 5 });
            self.apply(&Op::Report { arrives: true });
            for phone in 0..PHONES {
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
        if let Some((_, version, _)) = self.running.take()
            && install == Ending::TakesEffect
        {
            self.version = self.version.max(version);
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
            if rollout.state == RolloutState::Finished {
                let has_it = record.state == RolloutPhoneState::Done;
                // Skipped and failed are what the operator decided to leave so.
                assert!(record.state.is_final());
                assert!(!has_it || world.handsets[&record.phone].version >= rollout.version_code.0);
            }
        }
        // What the core shows is what a core made from the store shows.
        let restored = core(config(Approve::First), world.now, &world.shelf);
        assert_eq!(world.core.views(), restored.views());
    }
}
