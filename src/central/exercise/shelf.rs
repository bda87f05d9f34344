//! A disk for one owner's notices that does what it is asked, fails, or is full, as a script says; it judges what it is asked.

use std::collections::{BTreeMap, VecDeque};

use crate::central::catalogue::{self, Kind};
use crate::store::outbox::{Answer, Ask, BLOCK_NOTICES_MAX, Loaded, Notice, Request, Standing, Write, Written};

/// The disk.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    /// Not answered yet, the oldest first.
    asked: VecDeque<Request>,
    taken: u64,
    next: u64,
    notices: BTreeMap<u64, Notice>,
    refused: u64,
}

/// How the disk takes the next thing that it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    Works,
    Fails,
    IsFull,
}

impl Shelf {
    pub(super) fn ask(&mut self, request: Request) {
        self.asked.push_back(request);
        assert!(self.asked.len() <= 3, "one of each kind is under way: {:?}", self.asked);
    }

    /// The daemon died: what it had asked is done or not, and nobody hears of it.
    pub(super) fn forget_asked(&mut self, mood: Mood) {
        while self.answer(mood).is_some() {}
    }

    /// Does the oldest that was asked, and whose notices it was about.
    pub(super) fn answer(&mut self, mood: Mood) -> Option<(String, Answer)> {
        let Request { owner, ask } = self.asked.pop_front()?;
        let why = || "the disk does not answer".to_owned();
        let answer = match ask {
            Ask::Restore if mood == Mood::Fails => Answer::Restored(Err(why())),
            Ask::Load { .. } if mood == Mood::Fails => Answer::Loaded(Err(why())),
            Ask::Write(_) if mood == Mood::Fails => Answer::Written(Written::Nothing { why: why() }),
            Ask::Restore => Answer::Restored(Ok(self.standing())),
            Ask::Load { from } => Answer::Loaded(Ok(self.load(from))),
            Ask::Write(write) => Answer::Written(self.write(write, mood)),
        };
        Some((owner, answer))
    }

    fn standing(&self) -> Standing {
        Standing { taken: self.taken, next: self.next, refused: self.refused, ..Standing::default() }
    }

    fn load(&self, from: u64) -> Loaded {
        let some = self.notices.range(from..).take(BLOCK_NOTICES_MAX);
        let notices: Vec<_> = some.map(|(number, notice)| (*number, notice.clone())).collect();
        let end = notices.last().map_or(self.next, |(last, _)| last + 1);
        Loaded { from, end, notices }
    }

    fn write(&mut self, write: Write, mood: Mood) -> Written {
        let Write { taken, first, store, refused } = write;
        assert!(first == self.next, "numbers go on: {first} follows {}", self.next);
        assert!((self.taken..=self.next).contains(&taken), "{taken} are taken of {} to {}", self.taken, self.next);
        assert!(store.len() <= BLOCK_NOTICES_MAX, "a block is bounded");
        for notice in store.iter().chain(&refused) {
            let kind = catalogue::lookup(notice.msg_type).map(|entry| entry.kind);
            assert!(kind.is_none_or(|kind| matches!(kind, Kind::Notice | Kind::Result)), "only notices are kept");
        }
        self.taken = taken;
        self.notices = self.notices.split_off(&taken);
        self.refused += refused.len() as u64;
        if mood == Mood::IsFull && !store.is_empty() {
            return Written::ButNoRoom(self.standing());
        }
        self.next += store.len() as u64;
        self.notices.extend((first..).zip(store));
        Written::All(self.standing())
    }
}
