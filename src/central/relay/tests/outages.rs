//! The centre is away, and the disk takes what the agent says: or does not.

use std::collections::BTreeMap;

use super::centre::{TALK, body, number_of};
use super::*;
use crate::store::outbox::{Answer, Ask, BLOCK_NOTICES_MAX, Loaded, Standing, Written};

mod operations;

/// Beyond all that a test sends.
const FAST: u32 = 100_000;

/// A disk that keeps what was written, and answers when it is told to.
#[derive(Clone, Debug, Default)]
pub(super) struct Disk {
    owners: BTreeMap<String, Shelf>,
    pub(super) fails: bool,
    /// So many notices fit on it.
    pub(super) room: Option<usize>,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Shelf {
    taken: u64,
    next: u64,
    pub(super) notices: BTreeMap<u64, Notice>,
    pub(super) refused: Vec<Notice>,
}

impl Disk {
    pub(super) fn shelf(&mut self, owner: &str) -> &mut Shelf {
        self.owners.entry(owner.to_owned()).or_default()
    }

    fn standing(&mut self, owner: &str) -> Standing {
        let shelf = self.shelf(owner);
        let refused = shelf.refused.len() as u64;
        Standing { taken: shelf.taken, next: shelf.next, refused, ..Standing::default() }
    }

    pub(super) fn answer(&mut self, request: &Request) -> Answer {
        let why = || "the disk is full".to_owned();
        let owner = request.owner.as_str();
        match &request.ask {
            Ask::Restore if self.fails => Answer::Restored(Err(why())),
            Ask::Load { .. } if self.fails => Answer::Loaded(Err(why())),
            Ask::Write(_) if self.fails => Answer::Written(Written::Nothing { why: why() }),
            Ask::Restore => Answer::Restored(Ok(self.standing(owner))),
            Ask::Write(write) => {
                assert!(write.store.len() <= BLOCK_NOTICES_MAX);
                let room = self.room;
                let shelf = self.shelf(owner);
                assert!(write.taken >= shelf.taken && write.first == shelf.next, "{write:?} on {shelf:?}");
                shelf.taken = write.taken;
                shelf.notices = shelf.notices.split_off(&write.taken);
                shelf.refused.extend(write.refused.iter().cloned());
                if room.is_some_and(|room| shelf.notices.len() + write.store.len() > room) {
                    return Answer::Written(Written::ButNoRoom(self.standing(owner)));
                }
                shelf.notices.extend((write.first..).zip(write.store.iter().cloned()));
                shelf.next += write.store.len() as u64;
                Answer::Written(Written::All(self.standing(owner)))
            }
            Ask::Load { from } => {
                let shelf = self.shelf(owner);
                let notices: Vec<_> = shelf
                    .notices
                    .range(from..)
                    .take(BLOCK_NOTICES_MAX)
                    .map(|(n, notice)| (*n, notice.clone()))
                    .collect();
                let end = notices.last().map_or(shelf.next, |(last, _)| last + 1);
                Answer::Loaded(Ok(Loaded { from: *from, end, notices }))
            }
        }
    }
}

impl Stage {
    /// As [`Stage::with_agent`], on a disk that is restored.
    fn with_disk(ack: Ack, disk: &mut Disk) -> Self {
        let mut stage = Self::on_disk(ack, FAST);
        stage.open(IMEI);
        stage.disk_answers(disk);
        stage.register();
        stage.agent_enters(1);
        stage.forget();
        stage
    }

    fn on_disk(ack: Ack, per_second: u32) -> Self {
        let mut stage = Self::new(ack);
        let session = Session::new(Settings::new(Duration::from_secs(60)), 42);
        stage.relay = Relay::new(session, ack, FIRST_ID).with_disk(per_second);
        stage
    }

    /// The disk answers all that it was asked, and what that leads to.
    pub(super) fn disk_answers(&mut self, disk: &mut Disk) {
        while let Some(request) = self.asked.pop_front() {
            let answer = disk.answer(&request);
            self.relay.disk_says(&request.owner, answer, self.now);
            self.drain();
        }
    }

    fn pass_with(&mut self, seconds: u64, disk: &mut Disk) {
        for _ in 0..seconds * 10 {
            self.pass(Duration::from_millis(100));
            self.disk_answers(disk);
        }
    }

    fn says_numbers(&mut self, numbers: std::ops::Range<u64>) -> Vec<i64> {
        numbers.map(|number| self.agent_says(TALK, &body(number), 0)).collect()
    }

    fn numbers_up(&mut self) -> Vec<u64> {
        self.up().iter().filter(|seen| seen.code == TALK).map(|seen| number_of(&seen.body)).collect()
    }
}

#[test]
fn while_the_centre_is_away_a_notice_is_acknowledged_once_the_disk_has_it() {
    let mut disk = Disk::default();
    let mut stage = Stage::with_disk(Ack::Auto, &mut disk);
    stage.centre_hangs_up();
    let said = stage.says_numbers(0..3);
    assert_eq!(stage.down_codes(), [], "it is not on the disk yet");
    stage.disk_answers(&mut disk);
    assert_eq!(stage.down_codes(), said.iter().map(|id| (1002, *id)).collect::<Vec<_>>());
    assert_eq!((disk.shelf(IMEI).notices.len(), stage.relay.waiting(), stage.relay.outbox().waiting), (3, 0, 3));
    stage.register();
    stage.pass_with(4, &mut disk);
    assert_eq!(stage.numbers_up(), [0, 1, 2]);
    assert_eq!((disk.shelf(IMEI).notices.len(), stage.relay.outbox().waiting), (0, 0), "and taken by a heartbeat");
}

#[test]
fn while_the_centre_is_there_nothing_is_stored() {
    let mut disk = Disk::default();
    let mut stage = Stage::with_disk(Ack::Auto, &mut disk);
    let said = stage.says_numbers(0..2);
    assert_eq!(stage.numbers_up(), [0, 1]);
    assert!(stage.asked.is_empty());
    stage.pass_with(3, &mut disk);
    assert_eq!(stage.down_codes(), said.iter().map(|id| (1002, *id)).collect::<Vec<_>>());
    assert_eq!(disk.shelf(IMEI).next, 0);
}

#[test]
fn what_was_on_its_way_when_the_connection_ended_is_stored_then_acknowledged_and_goes_again() {
    let mut disk = Disk::default();
    let mut stage = Stage::with_disk(Ack::Barrier, &mut disk);
    stage.centre_answers_heartbeats = false;
    let said = stage.says_numbers(0..2);
    stage.up();
    stage.centre_hangs_up();
    assert_eq!(stage.down_codes(), []);
    stage.disk_answers(&mut disk);
    assert_eq!(stage.down_codes(), said.iter().map(|id| (1002, *id)).collect::<Vec<_>>());
    stage.centre_answers_heartbeats = true;
    stage.register();
    stage.pass_with(2, &mut disk);
    assert_eq!(stage.numbers_up(), [0, 1]);
    assert_eq!(stage.relay.carried().maybe_twice, 2, "and that is counted");
}

#[test]
fn what_comes_while_stored_ones_wait_goes_behind_them() {
    let mut disk = Disk::default();
    let mut stage = Stage::with_disk(Ack::Each, &mut disk);
    stage.centre_hangs_up();
    for start in [0, 100] {
        stage.says_numbers(start..start + 100);
        stage.disk_answers(&mut disk);
    }
    stage.register();
    stage.says_numbers(200..210);
    stage.disk_answers(&mut disk);
    let mut seen = Vec::new();
    for _ in 0..50 {
        for sent in stage.up().into_iter().filter(|sent| sent.code == TALK) {
            seen.push(number_of(&sent.body));
            stage.centre_says(1002, &[], sent.id);
        }
        stage.disk_answers(&mut disk);
        stage.pass(Duration::from_millis(10));
    }
    assert_eq!(seen, (0..210).collect::<Vec<_>>());
    assert!(stage.relay.outbox().waiting == 0 && disk.shelf(IMEI).notices.is_empty());
    stage.says_numbers(210..211);
    assert_eq!(stage.numbers_up(), [210], "and now straight on");
}

#[test]
fn what_is_no_notice_is_not_stored_and_does_not_wait_for_what_is() {
    let mut disk = Disk::default();
    let mut stage = Stage::with_disk(Ack::Barrier, &mut disk);
    stage.centre_answers_heartbeats = false;
    stage.centre_hangs_up();
    stage.says_numbers(0..200);
    stage.disk_answers(&mut disk);
    // Neither a notice nor a result.
    let question = 1070;
    stage.agent_says(question, &[], 0);
    stage.disk_answers(&mut disk);
    assert_eq!(disk.shelf(IMEI).next, 200, "none is stored");
    stage.register();
    stage.disk_answers(&mut disk);
    let codes = stage.up_codes();
    let place = |code| codes.iter().position(|seen| *seen == code);
    assert!(place(question).is_some() && place(question) < place(TALK), "{codes:?}");
}

#[test]
fn a_crash_makes_at_most_a_window_of_doubles() {
    for ack in [Ack::Each, Ack::Barrier] {
        let mut disk = Disk::default();
        let mut stage = Stage::with_disk(ack, &mut disk);
        stage.centre_hangs_up();
        stage.says_numbers(0..250);
        stage.disk_answers(&mut disk);
        stage.register();
        let (mut seen, mut at_crash) = (Vec::new(), disk.clone());
        for round in 0..20 {
            for sent in stage.up().into_iter().filter(|sent| sent.code == TALK) {
                seen.push(number_of(&sent.body));
                if ack == Ack::Each {
                    stage.centre_says(1002, &[], sent.id);
                }
            }
            let held = at_crash.shelf(IMEI).notices.keys().filter(|number| seen.contains(number)).count();
            assert!(held <= 64, "{held} would go again under {ack:?} in round {round}");
            stage.pass(Duration::from_millis(300));
            stage.disk_answers(&mut disk);
            at_crash = disk.clone();
        }
        assert!(seen.is_sorted() && seen.len() >= 128, "{ack:?}: {seen:?}");
    }
}

#[test]
fn stored_notices_go_at_their_pace() {
    let mut disk = Disk::default();
    let mut stage = Stage::on_disk(Ack::Each, 10);
    stage.open(IMEI);
    stage.disk_answers(&mut disk);
    stage.agent_enters(1);
    stage.says_numbers(0..60);
    stage.disk_answers(&mut disk);
    stage.register();
    stage.disk_answers(&mut disk);
    let first: Vec<_> = stage.up().into_iter().filter(|sent| sent.code == TALK).collect();
    assert_eq!(first.len(), 1, "how does the centre take it?");
    stage.centre_says(1002, &[], first[0].id);
    assert_eq!(stage.numbers_up(), (1..16).collect::<Vec<_>>(), "a burst");
    stage.pass_with(2, &mut disk);
    assert_eq!(stage.numbers_up(), (16..36).collect::<Vec<_>>());
}

#[test]
fn a_disk_that_fails_or_is_full_stops_the_acknowledgements_and_then_the_agent() {
    for full in [true, false] {
        let mut disk = Disk::default();
        let mut stage = Stage::with_disk(Ack::Auto, &mut disk);
        stage.centre_hangs_up();
        (disk.fails, disk.room) = (!full, full.then_some(0));
        let mut said = 0;
        while stage.relay.wants_agent(1) {
            stage.says_numbers(said..said + 1);
            stage.disk_answers(&mut disk);
            said += 1;
            assert!(said < 1000);
        }
        stage.pass_with(20, &mut disk);
        assert_eq!(stage.down_codes(), [], "nothing is acknowledged");
        assert!(stage.relay.outbox().trouble.is_some() && stage.ended.is_empty());
        (disk.fails, disk.room) = (false, None);
        stage.pass_with(20, &mut disk);
        assert_eq!(stage.down().len() as u64, said, "and now all is");
        assert_eq!((stage.relay.outbox().trouble, stage.relay.outbox().waiting), (None, said));
    }
}

#[test]
fn a_notice_that_the_centre_refuses_for_good_is_kept_aside() {
    let mut disk = Disk::default();
    let mut stage = Stage::with_disk(Ack::Auto, &mut disk);
    stage.centre_hangs_up();
    stage.says_numbers(0..2);
    stage.disk_answers(&mut disk);
    stage.register();
    stage.disk_answers(&mut disk);
    let mut tries = 0;
    while let Some(sent) = stage.up().into_iter().find(|sent| sent.code == TALK && number_of(&sent.body) == 0) {
        tries += 1;
        stage.centre_refuses(sent.id, EnumErrorCode::InternalError);
        stage.disk_answers(&mut disk);
    }
    stage.pass_with(3, &mut disk);
    assert_eq!(tries, 4);
    let shelf = disk.shelf(IMEI);
    assert_eq!((shelf.refused.len(), shelf.notices.len()), (1, 0), "and the other is taken");
    assert_eq!((stage.relay.outbox().refused, stage.relay.outbox().waiting), (1, 0));
}

#[test]
fn what_is_stored_of_another_identity_waits_for_it() {
    let mut disk = Disk::default();
    let mut stage = Stage::with_disk(Ack::Auto, &mut disk);
    stage.centre_hangs_up();
    stage.says_numbers(0..3);
    stage.disk_answers(&mut disk);
    stage.open("another");
    stage.disk_answers(&mut disk);
    stage.register();
    stage.pass_with(3, &mut disk);
    assert_eq!(stage.numbers_up(), [0; 0]);
    stage.open(IMEI);
    stage.disk_answers(&mut disk);
    stage.register();
    stage.pass_with(3, &mut disk);
    assert_eq!(stage.numbers_up(), [0, 1, 2]);
}

#[test]
fn what_the_disk_no_longer_has_is_passed_over() {
    let mut disk = Disk::default();
    let mut stage = Stage::with_disk(Ack::Each, &mut disk);
    stage.centre_hangs_up();
    stage.says_numbers(0..6);
    stage.disk_answers(&mut disk);
    disk.shelf(IMEI).notices.retain(|number, _| matches!(number, 2 | 4));
    stage.register();
    stage.disk_answers(&mut disk);
    while let Some(sent) = stage.up().into_iter().find(|sent| sent.code == TALK) {
        stage.centre_says(1002, &[], sent.id);
    }
    stage.disk_answers(&mut disk);
    assert_eq!((stage.relay.outbox().waiting, disk.shelf(IMEI).taken), (0, 6));
}

#[test]
fn what_the_centre_refuses_is_not_overtaken() {
    let mut disk = Disk::default();
    let mut stage = Stage::with_disk(Ack::Auto, &mut disk);
    stage.centre_hangs_up();
    // The agent has not heard of all acknowledgements, and says those notices again.
    for numbers in [0..20, 15..20, 20..30] {
        stage.says_numbers(numbers);
        stage.disk_answers(&mut disk);
    }
    // What comes later is not answered earlier.
    stage.centre_answers_heartbeats = false;
    stage.register();
    stage.disk_answers(&mut disk);
    // It refuses whatever it sees for the first time.
    let (mut seen, mut taken) = (Vec::new(), Vec::new());
    for _ in 0..100 {
        for sent in stage.up().into_iter().filter(|sent| sent.code == TALK) {
            let number = number_of(&sent.body);
            if !seen.contains(&number) {
                seen.push(number);
                stage.centre_refuses(sent.id, EnumErrorCode::InternalError);
                continue;
            }
            if !taken.contains(&number) {
                taken.push(number);
            }
            stage.centre_says(1002, &[], sent.id);
        }
        stage.disk_answers(&mut disk);
        stage.pass(Duration::from_millis(1));
    }
    assert_eq!(taken, (0..30).collect::<Vec<_>>());
    assert_eq!((stage.relay.outbox().waiting, disk.shelf(IMEI).notices.len()), (0, 0));
}
