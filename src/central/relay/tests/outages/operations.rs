//! Any list of things that happen to a line and its disk, crashes among them: nothing that was acknowledged is lost.

use proptest::prelude::*;

use super::*;
use crate::central::relay::tests::centre::{Centre, Mood};
use crate::central::relay::up::FRAMES_MAX;

#[derive(Clone, Debug)]
enum Operation {
    Says(u64),
    Enters,
    Closes,
    CentreReads,
    CentreRefusesSome,
    CentreHangsUp,
    CentreComes,
    DiskAnswers,
    DiskFails(bool),
    DiskIsFull(bool),
    /// The daemon dies: what it has asked of the disk may have been done, or not.
    Crash(bool),
    Pass(u64),
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let operation = prop_oneof![
        8 => (1_u64..90).prop_map(Operation::Says),
        3 => Just(Operation::Enters),
        1 => Just(Operation::Closes),
        5 => Just(Operation::CentreReads),
        1 => Just(Operation::CentreRefusesSome),
        2 => Just(Operation::CentreHangsUp),
        4 => Just(Operation::CentreComes),
        8 => Just(Operation::DiskAnswers),
        1 => any::<bool>().prop_map(Operation::DiskFails),
        1 => any::<bool>().prop_map(Operation::DiskIsFull),
        2 => any::<bool>().prop_map(Operation::Crash),
        5 => (0_u64..20_000).prop_map(Operation::Pass),
    ];
    prop::collection::vec(operation, 0..100)
}

/// An agent that says again what was not acknowledged to it, a centre that loses with a connection what it has not read, and a disk.
struct Life {
    stage: Stage,
    disk: Disk,
    ack: Ack,
    centre: Centre,
    connection: u64,
    /// The next number that the agent says for the first time.
    next: u64,
    /// What was not acknowledged to the agent, the oldest first, and from where on it was not said on this connection.
    open: Vec<u64>,
    said: usize,
    /// By Id on this connection.
    ids: BTreeMap<i64, u64>,
    acknowledged: Vec<u64>,
    crashes: usize,
    /// Connections to the centre that ended.
    ends: usize,
}

impl Life {
    fn new(ack: Ack, acknowledges_each: bool, refuses_first: bool) -> Self {
        let mut life = Self {
            stage: Stage::on_disk(ack, FAST),
            disk: Disk::default(),
            ack,
            centre: if refuses_first {
                Centre::refusing_first(acknowledges_each)
            } else {
                Centre::new(acknowledges_each)
            },
            connection: 0,
            next: 0,
            open: Vec::new(),
            said: 0,
            ids: BTreeMap::new(),
            acknowledged: Vec::new(),
            crashes: 0,
            ends: 0,
        };
        life.begin();
        life
    }

    fn begin(&mut self) {
        self.stage.centre_answers_heartbeats = false;
        self.stage.open(IMEI);
    }

    fn is_in(&self) -> bool {
        self.connection > 0 && !self.stage.ended.contains(&self.connection)
    }

    fn says(&mut self, many: u64) {
        for _ in 0..many {
            if !self.is_in() || !self.stage.relay.wants_agent(self.connection) {
                return;
            }
            if self.said == self.open.len() {
                self.open.push(self.next);
                self.next += 1;
            }
            let number = self.open[self.said];
            self.said += 1;
            let id = self.stage.say(self.connection, TALK, &body(number), 0, TOKEN);
            self.ids.insert(id, number);
            self.hear();
        }
    }

    /// The agent takes what is for it.
    fn hear(&mut self) {
        for seen in self.stage.down() {
            if let (1002, Some(number)) = (seen.code, self.ids.get(&seen.reference)) {
                self.acknowledged.push(*number);
                if let Some(at) = self.open.iter().position(|open| open == number) {
                    self.open.remove(at);
                    self.said -= 1;
                }
            }
        }
    }

    fn operate(&mut self, operation: &Operation) {
        match operation {
            Operation::Says(many) => self.says(*many),
            Operation::Enters => {
                self.connection += 1;
                (self.ids, self.said) = (BTreeMap::new(), 0);
                self.stage.agent_enters(self.connection);
            }
            Operation::Closes if self.is_in() => {
                self.stage.relay.agent_closed(self.connection, "it closed its connection", self.stage.now);
                self.stage.ended.push(self.connection);
            }
            Operation::CentreReads => self.centre.reads(&mut self.stage, Mood::Takes),
            Operation::CentreRefusesSome => self.centre.reads(&mut self.stage, Mood::RefusesSome),
            Operation::CentreHangsUp => {
                self.ends += 1;
                self.centre.hangs_up(&mut self.stage);
            }
            Operation::CentreComes => self.centre.comes(&mut self.stage),
            Operation::DiskAnswers => self.stage.disk_answers(&mut self.disk),
            Operation::DiskFails(fails) => self.disk.fails = *fails,
            Operation::DiskIsFull(full) => self.disk.room = full.then_some(40),
            Operation::Crash(done) => self.crash(*done),
            Operation::Pass(ms) => self.stage.pass(Duration::from_millis(*ms)),
            _ => {}
        }
        self.stage.drain();
        self.hear();
    }

    fn crash(&mut self, done: bool) {
        if done {
            for request in std::mem::take(&mut self.stage.asked) {
                self.disk.answer(&request);
            }
        }
        let (now, centre_id, agent_id) = (self.stage.now, self.stage.centre_id, self.stage.agent_id);
        self.stage = Stage { now, centre_id, agent_id, ..Stage::on_disk(self.ack, FAST) };
        self.centre.forgets();
        (self.connection, self.said, self.ids) = (0, 0, BTreeMap::new());
        self.crashes += 1;
        self.begin();
    }

    fn check(&mut self) -> Result<(), TestCaseError> {
        self.centre.gather(&mut self.stage);
        let shelf = self.disk.shelf(IMEI);
        for number in &self.acknowledged {
            let is_stored = || shelf.notices.values().any(|notice| notice.envelope.ends_with(&body(*number)));
            prop_assert!(self.centre.taken.contains(number) || is_stored(), "{number} was acknowledged and is lost");
        }
        // Where heartbeats alone show what was taken, several go at once again soon after an Error.
        let shows_soon = !self.centre.refuses_first() || self.ack != Ack::Barrier;
        if shows_soon && self.centre.refused.is_empty() {
            prop_assert!(self.centre.taken.is_sorted(), "none overtakes: {:?}", self.centre.taken);
        }
        prop_assert!(self.stage.relay.waiting() <= FRAMES_MAX + 2 * BLOCK_NOTICES_MAX);
        let is_open = self.stage.relay.session().credential().is_some();
        prop_assert!(self.stage.relay.deadline().is_some() || !is_open, "every wait has a deadline");
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 150, ..ProptestConfig::default() })]

    #[test]
    fn nothing_that_was_acknowledged_is_lost(operations in operations(), ack in prop::sample::select(&Ack::ALL[..]), each in any::<bool>(), refuses_first in prop::bool::weighted(0.3)) {
        // Whoever says that it acknowledges each does.
        let mut life = Life::new(ack, each || ack == Ack::Each, refuses_first && each);
        for operation in &operations {
            life.operate(operation);
            life.check()?;
        }
        // All is well again.
        (life.disk.fails, life.disk.room) = (false, None);
        life.operate(&Operation::Enters);
        let mut rounds = 0;
        // After an Error one goes at a time.
        while rounds < 200 || life.stage.relay.waiting() > 0 && rounds < 1000 {
            rounds += 1;
            let settles = [Operation::DiskAnswers, Operation::CentreComes, Operation::Says(90), Operation::CentreReads, Operation::Pass(1000)];
            for operation in &settles[..if life.open.len() == life.said { 5 } else { 3 }] {
                if !(matches!(operation, Operation::Says(_)) && life.open.len() == life.said) {
                    life.operate(operation);
                }
            }
            life.operate(&Operation::CentreReads);
            while life.centre.refuses_first() && !life.stage.up.is_empty() {
                life.operate(&Operation::CentreReads);
            }
            life.operate(&Operation::Pass(1000));
            life.check()?;
        }
        prop_assert_eq!(life.centre.taken.len() as u64, life.next, "the centre has all of it, {:?}", life.stage.relay.outbox());
        prop_assert_eq!((life.stage.relay.waiting(), life.stage.relay.outbox().waiting), (0, 0));
        // The agent says again what a crash has kept from it, so each crash makes at most what was open and what was on its way.
        let most = life.crashes * (FRAMES_MAX + 64) + (life.ends + rounds) * 64;
        prop_assert!(life.centre.doubles <= most, "{} doubles", life.centre.doubles);
    }
}
