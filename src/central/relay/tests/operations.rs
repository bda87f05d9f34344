//! Any list of things that happen to a relay: nothing that was acknowledged is lost, nothing overtakes, no queue grows.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::centre::{Centre, Mood, TALK, body};
use super::*;
use crate::central::relay::peer::WAITING_MAX;
use crate::central::relay::up::FRAMES_MAX;

#[derive(Clone, Debug)]
enum Operation {
    Says,
    Heartbeat,
    Floods,
    Closes,
    Enters,
    StopsReading,
    CentreReads,
    CentreHangsUp,
    CentreComes,
    Task,
    Answers,
    Pass(u64),
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let operation = prop_oneof![
        8 => Just(Operation::Says),
        2 => Just(Operation::Heartbeat),
        1 => Just(Operation::Floods),
        1 => Just(Operation::Closes),
        3 => Just(Operation::Enters),
        1 => Just(Operation::StopsReading),
        4 => Just(Operation::CentreReads),
        1 => Just(Operation::CentreHangsUp),
        4 => Just(Operation::CentreComes),
        2 => Just(Operation::Task),
        2 => Just(Operation::Answers),
        6 => (0_u64..30_000).prop_map(Operation::Pass),
    ];
    prop::collection::vec(operation, 0..120)
}

/// A centre that loses with a connection what it has not read, and an agent that counts what it says.
struct Life {
    stage: Stage,
    centre: Centre,
    said: u64,
    /// By the Id of the message on its connection.
    sent: BTreeMap<i64, u64>,
    connection: u64,
    tasks: BTreeMap<i64, i64>,
}

impl Life {
    fn new(acknowledges_each: bool) -> Self {
        let mut stage = Stage::new(Ack::Auto);
        let mut policy = Policy::default();
        policy.allowed.extend(PolicyGroup::ALL.map(|group| (group, Allowance::default())));
        stage.relay.change_policy(policy);
        stage.centre_answers_heartbeats = false;
        stage.open(IMEI);
        let centre = Centre::new(acknowledges_each);
        Self { stage, centre, said: 0, sent: BTreeMap::new(), connection: 0, tasks: BTreeMap::new() }
    }

    fn is_in(&self) -> bool {
        self.connection > 0 && !self.stage.ended.contains(&self.connection)
    }

    fn says(&mut self) {
        if self.is_in() && self.stage.relay.wants_agent(self.connection) {
            self.said += 1;
            let id = self.stage.say(self.connection, TALK, &body(self.said), 0, TOKEN);
            self.sent.insert(id, self.said);
        }
    }

    fn operate(&mut self, operation: &Operation) {
        let now = self.stage.now;
        match operation {
            Operation::Says => self.says(),
            Operation::Heartbeat if self.is_in() && self.stage.relay.wants_agent(self.connection) => {
                self.stage.say(self.connection, 1001, &[], 0, TOKEN);
            }
            Operation::Floods => (0..FRAMES_MAX).for_each(|_| self.says()),
            Operation::Closes if self.is_in() => {
                self.stage.relay.agent_closed(self.connection, "it closed its connection", now);
                self.stage.ended.push(self.connection);
            }
            Operation::Enters => {
                self.connection += 1;
                self.sent.clear();
                self.stage.agent_enters(self.connection);
            }
            Operation::StopsReading => self.stage.agent_reads = None,
            Operation::CentreReads => self.centre.reads(&mut self.stage, Mood::Takes),
            Operation::CentreHangsUp => self.centre.hangs_up(&mut self.stage),
            Operation::CentreComes => self.centre.comes(&mut self.stage),
            Operation::Task if self.stage.relay.session().registration().is_some() => {
                self.stage.centre_says(1096, b"\x0a\x01x", 0);
            }
            Operation::Answers if self.is_in() => {
                for id in self.tasks.keys().copied().collect::<Vec<_>>() {
                    self.stage.say(self.connection, 1002, &[], id, TOKEN);
                }
            }
            Operation::Pass(ms) => self.stage.pass(Duration::from_millis(*ms)),
            _ => {}
        }
        self.stage.drain();
    }

    fn check(&mut self) -> Result<(), TestCaseError> {
        for seen in self.centre.gather(&mut self.stage) {
            prop_assert!(!seen.token.is_empty() || matches!(seen.code, 1010 | 1003), "{} without a token", seen.code);
        }
        if self.stage.relay.session().registration().is_none() {
            // What the connection before has brought is lost with it.
            self.centre.forgets();
        }
        for seen in self.stage.down() {
            if seen.code == 1096 {
                let twice = self.tasks.insert(seen.id, seen.id);
                prop_assert!(twice.is_none(), "no Id is used twice");
            }
            if let (1002, Some(number)) = (seen.code, self.sent.get(&seen.reference)) {
                prop_assert!(
                    self.centre.taken.contains(number),
                    "{number} is acknowledged and the centre has not read it"
                );
            }
        }
        prop_assert!(self.centre.taken.is_sorted(), "none overtakes: {:?}", self.centre.taken);
        prop_assert!(self.stage.relay.waiting() <= FRAMES_MAX + 1);
        let agent = self.stage.relay.agent.as_ref();
        let held = agent.map_or(0, |agent| agent.len());
        prop_assert!(held <= WAITING_MAX + FRAMES_MAX + 2, "{held} wait for the agent");
        let is_open = self.stage.relay.session().credential().is_some();
        prop_assert!(self.stage.relay.deadline().is_some() || !is_open, "every wait has a deadline");
        Ok(())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 200, ..ProptestConfig::default() })]

    #[test]
    fn no_list_of_operations_loses_or_turns_what_an_agent_has_said(operations in operations(), each in any::<bool>()) {
        let mut life = Life::new(each);
        for operation in &operations {
            life.operate(operation);
            life.check()?;
        }
        // All is well again.
        life.operate(&Operation::Enters);
        for _ in 0..400 {
            for operation in [Operation::CentreComes, Operation::CentreReads, Operation::Heartbeat, Operation::Pass(1000)] {
                life.operate(&operation);
                life.check()?;
            }
        }
        prop_assert_eq!(life.centre.taken.len() as u64, life.said, "the centre has all of it, {}", life.stage.relay.waiting());
        prop_assert_eq!(life.stage.relay.waiting(), 0);
    }
}
