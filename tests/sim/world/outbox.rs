//! The outbox as lines find it: one thread that does in turn what they ask, on a disk that outlives the daemon, may fail and may be full.
//!
//! A daemon that dies leaves the first of what was asked done and the rest not, as a journal does.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use farmhand::central::catalogue::{self, Kind};
use farmhand::central::envelope::View;
use farmhand::clock::Moment;
use farmhand::config::Ack;
use farmhand::rack::ids::PhoneId;
use farmhand::store::outbox::{Answer, Ask, BLOCK_NOTICES_MAX, Loaded, Notice, Request, Standing, Write, Written};

use super::World;
use super::agents::number_of;
use super::chance::Chance;
use super::input::Input;

/// No seed stores more than these let it, of one owner.
const ROOM: [usize; 3] = [4 << 10, 40 << 10, 4 << 20];
/// Two of three keep for longer than a life lasts.
const AGES: [Duration; 3] = [Duration::from_secs(240), Duration::from_secs(72 * 3600), Duration::from_secs(72 * 3600)];

/// What is kept while the central server is away.
#[derive(Debug)]
pub(super) struct Outbox {
    chance: Chance,
    per_second: Option<u32>,
    room: usize,
    age: Duration,
    shelves: BTreeMap<String, Shelf>,
    /// Not done yet, the oldest first, each with the line that waits for it.
    asked: VecDeque<(PhoneId, u32, Request)>,
    /// When the last of them will be done.
    busy_until: Moment,
    fails_until: Moment,
    /// For how long earlier daemons ran, and since when this one does: ages count nothing else.
    ran: Duration,
    since: Moment,
    /// The numbers of what is in the blocks, what was kept aside, and what grew too old.
    held: BTreeSet<u64>,
    refused: BTreeSet<u64>,
    expired: BTreeSet<u64>,
}

/// What is kept of one owner.
#[derive(Debug, Default)]
struct Shelf {
    taken: u64,
    next: u64,
    blocks: VecDeque<Block>,
    refused: u64,
    expired: u64,
}

#[derive(Debug)]
struct Block {
    first: u64,
    stored: Duration,
    notices: Vec<Notice>,
}

/// What became of the oldest that was asked for.
pub(super) struct Done {
    phone: PhoneId,
    line: u32,
    owner: String,
    answer: Answer,
    /// The numbers that are no longer kept since the centre has taken them.
    taken: Vec<u64>,
    broken: Option<String>,
}

impl Outbox {
    pub(super) fn new(seed: u64) -> Self {
        let mut chance = Chance::new(seed ^ 0x00b0);
        // Some racks have no outbox: their agents are held back.
        let per_second = (!chance.one_in(7)).then(|| *chance.pick(&[20, 200, 1000]));
        Self {
            per_second,
            room: *chance.pick(&ROOM),
            age: *chance.pick(&AGES),
            chance,
            shelves: BTreeMap::new(),
            asked: VecDeque::new(),
            busy_until: Moment::START,
            fails_until: Moment::START,
            ran: Duration::ZERO,
            since: Moment::START,
            held: BTreeSet::new(),
            refused: BTreeSet::new(),
            expired: BTreeSet::new(),
        }
    }

    /// How many stored notices a line sends in a second, where it has a disk.
    pub(super) fn per_second(&self) -> Option<u32> {
        self.per_second
    }

    /// Whether the notice of this number is kept, or is no longer by a rule that the owner has set.
    pub(super) fn answers_for(&self, number: u64) -> bool {
        [&self.held, &self.refused, &self.expired].into_iter().any(|numbers| numbers.contains(&number))
    }

    pub(super) fn daemon_started(&mut self, now: Moment) {
        self.since = now;
    }

    /// Of what was asked for, the first so many are done; nobody hears of it.
    pub(super) fn daemon_died(&mut self, now: Moment) -> Vec<Done> {
        let done = self.chance.below(self.asked.len() + 1);
        let done = (0..done).filter_map(|_| self.next(now)).collect();
        self.asked.clear();
        self.busy_until = now;
        self.ran += now.since(self.since);
        done
    }

    fn age_of_all(&self, now: Moment) -> Duration {
        self.ran + now.since(self.since)
    }

    /// Does the oldest that was asked for.
    fn next(&mut self, now: Moment) -> Option<Done> {
        let (phone, line, Request { owner, ask }) = self.asked.pop_front()?;
        let fails = now < self.fails_until;
        let age = self.age_of_all(now);
        self.tidy(age);
        let why = || "the disk does not answer".to_owned();
        let (mut taken, mut broken) = (Vec::new(), None);
        let answer = match ask {
            Ask::Restore if fails => Answer::Restored(Err(why())),
            Ask::Write(_) if fails => Answer::Written(Written::Nothing { why: why() }),
            Ask::Load { .. } if fails => Answer::Loaded(Err(why())),
            Ask::Restore => Answer::Restored(Ok(self.standing(&owner))),
            Ask::Load { from } => Answer::Loaded(Ok(self.load(&owner, from))),
            Ask::Write(write) => {
                broken = self.judge(&owner, &write).err();
                Answer::Written(self.write(&owner, write, age, &mut taken))
            }
        };
        Some(Done { phone, line, owner, answer, taken, broken })
    }

    fn standing(&self, owner: &str) -> Standing {
        let Some(shelf) = self.shelves.get(owner) else { return Standing::default() };
        let Shelf { taken, next, refused, expired, .. } = *shelf;
        Standing { taken, next, bytes: shelf.bytes() as u64, refused, expired, unreadable: 0 }
    }

    /// Whether a line may want this.
    fn judge(&self, owner: &str, write: &Write) -> Result<(), String> {
        let (taken, next) = self.shelves.get(owner).map_or((0, 0), |shelf| (shelf.taken, shelf.next));
        if write.taken < taken || write.taken > next || write.first != next {
            let (told, first) = (write.taken, write.first);
            return Err(format!(
                "{owner} has taken {told} and stores from {first} on, with {taken} taken and {next} next"
            ));
        }
        if write.store.len() > BLOCK_NOTICES_MAX {
            return Err(format!("{owner} stores {} notices at once", write.store.len()));
        }
        let is_notice = |notice: &&Notice| {
            catalogue::lookup(notice.msg_type).is_none_or(|entry| matches!(entry.kind, Kind::Notice | Kind::Result))
        };
        match write.store.iter().find(|notice| !is_notice(notice)) {
            Some(task) => Err(format!("{} is stored, which is no notice", catalogue::describe(task.msg_type))),
            None => Ok(()),
        }
    }

    fn write(&mut self, owner: &str, write: Write, age: Duration, gone: &mut Vec<u64>) -> Written {
        let shelf = self.shelves.entry(owner.to_owned()).or_default();
        for notice in &write.refused {
            shelf.refused += 1;
            self.refused.extend(number_in(notice));
        }
        for block in &shelf.blocks {
            let numbered = (block.first..).zip(&block.notices);
            let newly = numbered.filter(|(number, _)| (shelf.taken..write.taken).contains(number));
            gone.extend(newly.filter_map(|(_, notice)| number_in(notice)));
        }
        shelf.taken = shelf.taken.max(write.taken);
        shelf.next = shelf.next.max(shelf.taken);
        while let Some(block) = shelf.blocks.pop_front_if(|block| block.end() <= shelf.taken) {
            for number in block.notices.iter().filter_map(number_in) {
                self.held.remove(&number);
            }
        }
        if write.store.is_empty() {
            return Written::All(self.standing(owner));
        }
        if shelf.bytes() + bytes_of(&write.store) > self.room {
            return Written::ButNoRoom(self.standing(owner));
        }
        self.held.extend(write.store.iter().filter_map(number_in));
        shelf.next = write.first + write.store.len() as u64;
        shelf.blocks.push_back(Block { first: write.first, stored: age, notices: write.store });
        Written::All(self.standing(owner))
    }

    fn load(&self, owner: &str, from: u64) -> Loaded {
        let shelf = self.shelves.get(owner);
        match shelf.and_then(|shelf| shelf.blocks.iter().find(|block| block.end() > from)) {
            Some(block) => {
                let numbered = (block.first..).zip(block.notices.iter().cloned());
                Loaded { from, end: block.end(), notices: numbered.filter(|(number, _)| *number >= from).collect() }
            }
            None => Loaded { from, end: shelf.map_or(0, |shelf| shelf.next), notices: Vec::new() },
        }
    }

    /// Removes what is too old.
    fn tidy(&mut self, age: Duration) {
        for shelf in self.shelves.values_mut() {
            while let Some(block) = shelf.blocks.pop_front_if(|block| block.stored + self.age < age) {
                shelf.expired += block.end() - block.first.max(shelf.taken).min(block.end());
                for number in block.notices.iter().filter_map(number_in) {
                    self.held.remove(&number);
                    self.expired.insert(number);
                }
            }
        }
    }
}

impl Shelf {
    fn bytes(&self) -> usize {
        self.blocks.iter().map(|block| bytes_of(&block.notices)).sum()
    }
}

impl Block {
    fn end(&self) -> u64 {
        self.first + self.notices.len() as u64
    }
}

fn bytes_of(notices: &[Notice]) -> usize {
    notices.iter().map(|notice| notice.envelope.len()).sum()
}

/// The number that an agent of this world has given a notice; what the rack says by itself has none.
fn number_in(notice: &Notice) -> Option<u64> {
    number_of(View::parse(&notice.envelope).ok()?.body())
}

/// How the central server shows what it has taken, as its lines know it; every third seed each.
pub(super) fn ack_of(seed: u64) -> Ack {
    let [first, second, third] = Ack::ALL;
    match seed % 3 {
        0 => first,
        1 => second,
        _ => third,
    }
}

impl World {
    /// A line wants something of the disk.
    pub(super) fn line_asks_disk(&mut self, phone: &PhoneId, line: u32, request: Request) {
        let (run, now, calm) = (self.run(), self.stage.now, self.is_calm());
        let outbox = &mut self.outbox;
        if !calm && outbox.chance.one_in(60) {
            outbox.fails_until = now + outbox.chance.seconds(1, 120);
        }
        let slow = now < self.temper.slow_store_until;
        let takes = if slow { outbox.chance.millis(100, 5000) } else { outbox.chance.millis(1, 15) };
        outbox.busy_until = outbox.busy_until.max(now) + takes;
        outbox.asked.push_back((phone.clone(), line, request));
        self.stage.at(outbox.busy_until, Input::DiskDone { run });
        // The daemon may die at any step: before what was asked is done, or before anybody hears of it.
        if !calm && self.temper.kinds.contains(&super::trouble::Trouble::Crash) && outbox.chance.one_in(400) {
            self.stage.at(outbox.busy_until, Input::Crash);
        }
    }

    /// The disk has done the next thing, and the line that asked for it hears of that, if it still lives.
    pub(super) fn disk_done(&mut self) {
        let now = self.stage.now;
        let Some(done) = self.outbox.next(now) else { return };
        self.look_at_disk(&done);
        let Done { phone, line: number, owner, answer, .. } = done;
        if let Some(line) = self.line(&phone).filter(|line| line.number == number) {
            line.relay.disk_says(&owner, answer, now);
        }
        self.drain_line(&phone);
    }

    /// What is no longer kept is the centre's, or was refused by it.
    pub(super) fn look_at_disk(&mut self, done: &Done) {
        if let Some(rule) = &done.broken {
            self.stage.broke(format!("the line of {}: {rule}", done.phone));
        }
        let is_lost = |number: &&u64| !self.centre.has_notice(**number) && !self.outbox.refused.contains(*number);
        if let Some(number) = done.taken.iter().find(is_lost) {
            let owner = &done.owner;
            self.stage.broke(format!("notice {number} of {owner} is no longer kept, and the centre does not have it"));
        }
    }

    /// Nothing waits on the disk, and the centre has what was acknowledged.
    ///
    /// # Errors
    /// What is not so yet.
    pub(super) fn nothing_waits_on_disk(&self) -> Result<(), String> {
        if let Some((owner, shelf)) = self.outbox.shelves.iter().find(|(_, shelf)| shelf.taken < shelf.next) {
            return Err(format!("of {owner}, {} notices wait on the disk in calm", shelf.next - shelf.taken));
        }
        let has = |number: u64| {
            let kept = &self.outbox;
            self.centre.has_notice(number) || kept.refused.contains(&number) || kept.expired.contains(&number)
        };
        match self.agents.acknowledged().find(|number| !has(*number)) {
            Some(number) => Err(format!("notice {number} was acknowledged to its agent and is lost")),
            None => Ok(()),
        }
    }
}
