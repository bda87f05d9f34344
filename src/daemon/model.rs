//! The one task that owns the model: takes events in, sends commands out, shows snapshots. It never waits for an actor or a sink.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::clock::Clock;
use super::dispatch::Dispatch;
use super::requests::{Asked, Asking};
use crate::rack::snapshot::{HubState, LineState, PhoneState, RolloutState};
use crate::rack::{Change, Event, Outcome, Rack, Snapshot};

/// Events that are taken in before a snapshot is made: a burst of readings makes one snapshot.
const BATCH_MAX: usize = 256;
/// Between two snapshots at least: what changes faster is shown together.
const SNAPSHOT_EVERY: Duration = Duration::from_millis(20);
/// Between two looks at whether the wall clock was set, at least: it is looked at when something else happens, such as a reading of
/// the host's health.
const CLOCK_LOOK: Duration = Duration::from_secs(9);
/// The same, when nothing happens.
const CLOCK_LOOK_MAX: Duration = Duration::from_secs(20);

/// What the model's task owns.
pub(super) struct Model {
    pub(super) rack: Rack,
    pub(super) clock: Clock,
    pub(super) events: mpsc::Receiver<Event>,
    pub(super) asks: mpsc::Receiver<Asking>,
    pub(super) snapshots: watch::Sender<Arc<Snapshot>>,
    pub(super) dispatch: Dispatch,
    pub(super) asked: Asked,
}

impl Model {
    /// Runs until `cancel`, or until nobody can send events any more.
    pub(super) async fn run(mut self, cancel: CancellationToken) {
        let mut clock_looked = Instant::now();
        let mut shown = self.rack.snapshot(self.clock.now()).revision;
        let (mut show_at, mut not_before) = (None, Instant::now());
        loop {
            let now = self.clock.now();
            let outcome = self.rack.advance(now);
            self.carry_out(outcome);
            let deadline = self.rack.deadline().map(|deadline| self.clock.instant(deadline.at).into());
            tokio::select! {
                () = cancel.cancelled() => break,
                event = self.events.recv() => match event {
                    Some(event) => self.take_in(event),
                    None => break,
                },
                Some(ask) = self.asks.recv() => {
                    if let Some(event) = self.asked.take_in(ask, &self.rack) {
                        self.take_in(event);
                    }
                }
                () = sleep_until(deadline) => {}
                () = self.dispatch.rollouts.room() => self.dispatch.rollouts.flush(),
                () = sleep_until(show_at) => {}
                () = tokio::time::sleep_until(clock_looked + CLOCK_LOOK_MAX) => {}
            }
            if clock_looked.elapsed() >= CLOCK_LOOK {
                clock_looked = Instant::now();
                self.look_at_clock();
            }
            self.asked.give_up_on_old();
            if self.rack.revision() != shown {
                show_at = Some(not_before);
            }
            // At once after a pause: a timer for each lone event would wake the host once more.
            if show_at.is_some_and(|at| at <= Instant::now()) {
                show_at = None;
                shown = self.show();
                not_before = Instant::now() + SNAPSHOT_EVERY;
            }
        }
    }

    fn look_at_clock(&mut self) {
        if let Some(epoch) = self.clock.was_set() {
            info!("the wall clock was set");
            self.take_in(Event::ClockSet(epoch));
        }
    }

    /// Shows the rack as it stands, and gives its revision.
    fn show(&self) -> u64 {
        let snapshot = self.rack.snapshot(self.clock.now());
        let revision = snapshot.revision;
        self.snapshots.send_replace(Arc::new(snapshot));
        revision
    }

    /// This event, and all that wait behind it.
    fn take_in(&mut self, first: Event) {
        let mut next = Some(first);
        for _ in 0..BATCH_MAX {
            let Some(event) = next.or_else(|| self.events.try_recv().ok()) else { return };
            let answer = self.asked.answer_to(&event);
            let outcome = self.rack.apply(self.clock.now(), event);
            self.carry_out(outcome);
            if let Some(answer) = answer {
                // Whoever hears the answer and looks at once must see what it says.
                self.show();
                answer.send();
            }
            next = None;
        }
    }

    /// Tells what changed and sends the commands. One that cannot be sent is an event, from which others may follow; a line that is
    /// stuck is given no further command at once, so that this ends.
    fn carry_out(&mut self, outcome: Outcome) {
        let mut outcomes = VecDeque::from([outcome]);
        while let Some(outcome) = outcomes.pop_front() {
            for change in &outcome.changes {
                tell(change);
            }
            for command in outcome.commands {
                if let Some(event) = self.dispatch.send(command) {
                    outcomes.push_back(self.rack.apply(self.clock.now(), event));
                }
            }
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// The story of the rack, for whoever reads the log.
fn tell(change: &Change) {
    match change {
        Change::Phone { name, from, to, why } => match to {
            PhoneState::Recovering | PhoneState::Quarantined | PhoneState::NotEnumerated | PhoneState::OtherMode => {
                warn!("{name}: {} → {}: {why}", from.as_str(), to.as_str());
            }
            _ => info!("{name}: {} → {}: {why}", from.as_str(), to.as_str()),
        },
        Change::Moved { phone, from, to } => info!("{phone} has moved from {from} to {to}"),
        Change::Renamed { from, to, why } => info!("{from} is called {to} from now on: {why}"),
        Change::Line { phone, state, why } => match state {
            LineState::Waiting | LineState::NeedsIdentity => warn!("line of {phone}: {}: {why}", state.as_str()),
            // Each attempt ends in a line of its own; with a server away the attempts of a full rack would drown the rest.
            LineState::Connecting => debug!("line of {phone}: {why}"),
            LineState::Closed | LineState::Registered => info!("line of {phone}: {}: {why}", state.as_str()),
        },
        Change::Alert { phone, what } => warn!("alert: line of {phone}: {what}"),
        Change::Lease { phone, what } => info!("{phone}: {what}"),
        Change::Incident { number, what } => warn!("incident {number} of {what}; they wait for each other"),
        Change::IncidentOver { number, what } => info!("incident {number} is over: {what}"),
        Change::Rollout { rollout, state, why } => match state {
            RolloutState::Paused | RolloutState::Aborted | RolloutState::RollingBack | RolloutState::RolledBack => {
                warn!("rollout {rollout}: {}: {why}", state.as_str());
            }
            _ => info!("rollout {rollout}: {}: {why}", state.as_str()),
        },
        Change::Hub { hub, state: HubState::Stale, why } => warn!("hub {hub}: its readings are old: {why}"),
        Change::Hub { hub, state: HubState::Live, why } => info!("hub {hub}: {why}"),
        Change::PortSwitched { hub, port, mode, why } => {
            info!("hub {hub} port {port}: {} ordered by {why}", mode.as_str());
        }
    }
}
