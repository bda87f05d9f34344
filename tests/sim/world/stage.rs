//! Time and what is going to happen: the queue of (moment, input), the generator and the trace.

use std::collections::BTreeMap;
use std::time::Duration;

use farmhand::clock::Moment;

use super::chance::Chance;
use super::input::Input;
use super::trace::Trace;

#[derive(Debug)]
pub(super) struct Stage {
    pub(super) now: Moment,
    pub(super) chance: Chance,
    pub(super) trace: Trace,
    queue: BTreeMap<(Moment, u64), Input>,
    queued: u64,
    broken: Option<String>,
}

impl Stage {
    pub(super) fn new(chance: Chance, trace: Trace) -> Self {
        Self { now: Moment::START, chance, trace, queue: BTreeMap::new(), queued: 0, broken: None }
    }

    /// Something will happen after `pause`; what is queued for one moment happens in the order of the calls.
    pub(super) fn after(&mut self, pause: Duration, input: Input) {
        self.at(self.now + pause, input);
    }

    pub(super) fn at(&mut self, at: Moment, input: Input) {
        self.queued += 1;
        self.queue.insert((at, self.queued), input);
    }

    pub(super) fn due(&self) -> Option<Moment> {
        self.queue.first_key_value().map(|((at, _), _)| *at)
    }

    pub(super) fn take(&mut self) -> Option<Input> {
        let ((at, _), input) = self.queue.pop_first()?;
        self.now = at;
        Some(input)
    }

    pub(super) fn tell(&mut self, what: std::fmt::Arguments<'_>) {
        self.trace.line(self.now, what);
    }

    /// A rule was broken; the first one counts.
    pub(super) fn broke(&mut self, rule: String) {
        self.broken.get_or_insert(rule);
    }

    pub(super) fn broken_yet(&self) -> Option<&String> {
        self.broken.as_ref()
    }

    pub(super) fn broken(&mut self) -> Option<String> {
        self.broken.take()
    }
}
