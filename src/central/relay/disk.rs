//! What the line stores while the centre is away: when it is written and read, and what the model is told of it.

use std::time::Duration;

use super::{Relay, ToldBy};
use crate::central::outbox::Outbox;
use crate::central::session::Output;
use crate::clock::{Deadline, Moment};
use crate::rack::event::LineEvent;
use crate::rack::snapshot::OutboxView;
use crate::store::outbox::{Answer, Request};

/// Between two words to the model about numbers that only grow or shrink.
const TOLD_EVERY: Duration = Duration::from_secs(1);

/// What the model was told last.
#[derive(Debug, Default)]
pub(super) struct Told {
    at: Option<Moment>,
    view: OutboxView,
}

impl Relay {
    /// The same line, which stores what the centre cannot take, and sends at most so many stored notices a second.
    #[must_use]
    pub fn with_disk(mut self, per_second: u32) -> Self {
        self.up = super::up::Up::new(self.up.ack(), Outbox::with_disk(per_second));
        self
    }

    /// The disk answers to [`Output::Disk`], about what is `owner`'s.
    pub fn disk_says(&mut self, owner: &str, answer: Answer, now: Moment) {
        let registered = self.session.registration().is_some();
        for stored in self.up.disk_says(owner, answer, registered, now) {
            self.acknowledge(&stored, ToldBy::Disk, now);
        }
        self.settle(now);
    }

    /// What is stored of this phone and how the disk fares.
    #[must_use]
    pub fn outbox(&self) -> OutboxView {
        let outbox = self.up.outbox();
        let standing = outbox.standing();
        OutboxView {
            waiting: outbox.waiting(),
            bytes: standing.bytes,
            refused: standing.refused + outbox.unkept() as u64,
            expired: standing.expired,
            unreadable: standing.unreadable,
            maybe_twice: self.carried.maybe_twice,
            trouble: outbox.trouble().map(str::to_owned),
        }
    }

    pub(super) fn disk_deadlines(&self) -> Option<Deadline> {
        self.session.credential()?;
        let paced = self.session.registration().and_then(|_| self.up.paced());
        let tells = self.tells_at().map(|at| Deadline { at, why: "the next word on what is stored" });
        [self.up.disk_deadline(), paced, tells].into_iter().fold(None, Deadline::earlier)
    }

    /// Asks the disk for what is wanted of it now.
    pub(super) fn tend_disk(&mut self, now: Moment) {
        let registered = self.session.registration().is_some();
        while let Some(ask) = self.up.ask(registered) {
            self.outputs.push_back(Output::Disk(Request { owner: self.up.outbox().owner().to_owned(), ask }));
        }
        if self.tells_at().is_some_and(|at| at <= now) {
            let view = self.outbox();
            self.outputs.push_back(Output::Event(LineEvent::Outbox(view.clone())));
            self.told = Told { at: Some(now), view };
        }
    }

    /// When the model is to be told how much is stored; `None` if it knows.
    fn tells_at(&self) -> Option<Moment> {
        if !self.up.outbox().has_disk() {
            return None;
        }
        let view = self.outbox();
        if view == self.told.view {
            return None;
        }
        let begins_or_ends =
            (view.waiting == 0) != (self.told.view.waiting == 0) || view.trouble != self.told.view.trouble;
        let at = self.told.at.filter(|_| !begins_or_ends);
        Some(at.map_or(Moment::START, |at| at + TOLD_EVERY))
    }
}
