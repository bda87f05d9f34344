//! All rollouts as one core: inputs and the time in, promises and orders out.
//!
//! Methods are of four kinds. *Inputs* ([`Rollouts::command`], [`Rollouts::request`], [`Rollouts::start`],
//! [`Rollouts::fetched`]) change the state and may draft a batch of promises. [`Rollouts::poll`] pulls what must be done;
//! the answer to [`Output::Commit`] is [`Rollouts::committed`]. [`Rollouts::deadline`] says when [`Rollouts::advance`] is due.
//! [`Rollouts::views`] shows the whole.
//!
//! ```text
//!     Gathering ──▶ Fetching ──▶ WaitingApproval ◀─▶ Running ──▶ Finished       a phone:
//!                      │                              │   ▲                    Waiting ─▶ Installing ─▶ Done
//!                      ▼                              ▼   │ resume, promote       ▲           │
//!                   Aborted                           Paused                      └─ resume ─ Failed, NeedsHand
//!                                                        │                     Waiting ◀─▶ Parked (away)
//!                                 RolledBack ◀── RollingBack                   Done ─▶ RollingBack ─▶ RolledBack
//! ```
//!
//! Before each wave stands a gate ([`gate`]), and before each install stand its limits ([`limits`]).
//!
//! Each input drafts at most one batch. What follows from it (an install, an answer, a report) is held until that batch is
//! committed. One rollout installs at a time: the oldest that is running; the others wait for it to finish or to be paused.
//!
//! Invariant: no [`Output::Install`] without its committed promise, no phone in two installs, no install in a wave before the
//! waves below it are settled; a core that is restored from the committed promises neither loses nor repeats a phone that was
//! done (`properties`).

#[cfg(test)]
mod bench;
mod delivery;
mod forecast;
mod gate;
mod limits;
mod looks;
mod offers;
mod parking;
#[cfg(test)]
mod properties;
mod records;
mod requests;
mod rollback;
mod standing;
mod start;
#[cfg(test)]
mod stories;
#[cfg(test)]
mod stories_of_choice;
#[cfg(test)]
mod stories_of_delivery;
#[cfg(test)]
mod stories_of_gates;
#[cfg(test)]
mod stories_of_limits;
#[cfg(test)]
mod stories_of_looks;
#[cfg(test)]
mod stories_of_parking;
#[cfg(test)]
mod stories_of_rollback;
#[cfg(test)]
mod stories_of_standing;
#[cfg(test)]
mod stories_of_times;
mod times;
mod views;
mod waves;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use crate::agent::{ApkSource, CheckedApk};
use crate::clock::{Deadline, Moment, UnixMillis};
use crate::config;
use crate::rack::candidate::Candidate;
use crate::rack::event::{InstallOrder, RolloutCommand};
use crate::rack::ids::{PackageName, PhoneId, RolloutId, VersionCode};
pub use crate::rack::request::Ask;
use crate::rack::request::{Done, Refusal};
use crate::rack::snapshot::RolloutState;
use crate::store::RolloutNumber;
use crate::store::promise::{AuditRecord, Promise, RolloutPhoneRecord, RolloutRecord};
pub use looks::LOOK_MAX;
pub use parking::PARK_AFTER;
pub use rollback::KeptAgent;
pub use standing::Standing;
pub use start::Wanted;

/// Rollouts that are over and still shown; older ones are forgotten.
pub const KEPT_MAX: usize = 50;
/// Rollouts that may be under way or waiting; a notice beyond is refused.
pub const UNFINISHED_MAX: usize = 32;
/// After so many installs of one phone that ended without a result the phone has failed.
pub const INTERRUPTED_MAX: u32 = 3;
/// After so long without word that the server has taken the report of a failure, the report is asked for again: whatever it was
/// lost with, no failure stays untold. What waits at its line is not doubled by it.
pub const REPORT_AGAIN: Duration = Duration::from_secs(600);

/// Whom the audit names for what a person at this rack decides.
const OPERATOR: &str = "operator";

/// Names one batch of promises, so that [`Rollouts::committed`] releases what hangs on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(u64);

/// What must be done.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Commit the batch, then call [`Rollouts::committed`]. Batches are committed in the order in which they come.
    Commit {
        /// Its name.
        ticket: Ticket,
        /// What to promise.
        batch: Vec<Promise>,
    },
    /// Fetch the APK, check it, and call [`Rollouts::fetched`].
    Fetch(Fetch),
    /// Install on a phone; the promise is in the store.
    Install {
        /// The phone.
        phone: PhoneId,
        /// What.
        order: InstallOrder,
    },
    /// Ask a phone how it fares since its install; answered with [`RolloutCommand::Looked`].
    Look {
        /// The phone.
        phone: PhoneId,
        /// For which rollout.
        rollout: RolloutId,
        /// So long ago the install ended.
        within: Duration,
    },
    /// Tell the server that its notice failed for this phone; answered with [`RolloutCommand::FailureTold`].
    ReportFailure {
        /// The phone.
        phone: PhoneId,
        /// The `Id` of the notice.
        message_id: i64,
        /// What happened, as a sentence.
        why: String,
    },
    /// Answer a request of the operator.
    Answer {
        /// Which.
        ask: Ask,
        /// With what.
        result: Result<Done, Refusal>,
    },
    /// Phones without the agent get this from now on; without it `[agent] apk`.
    Standing(Option<Standing>),
    /// [`Rollouts::views`] are new.
    Changed,
}

/// An APK that is wanted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fetch {
    /// For which rollout.
    pub rollout: RolloutNumber,
    /// From where.
    pub source: ApkSource,
    /// The package that it must be.
    pub package: PackageName,
    /// The version that it must be.
    pub version_code: VersionCode,
    /// The name that it must give to its version; empty where none was announced.
    pub version_name: String,
    /// SHA-256 of the file that was checked before, in lower-case hex: it may still be here.
    pub sha256: Option<String>,
}

/// All rollouts.
#[derive(Debug)]
pub struct Rollouts {
    config: config::Rollout,
    /// `[agent]`; without it nothing is installed.
    agent: Option<KeptAgent>,
    wall_at_start: UnixMillis,
    /// When this core began to hear of phones.
    began: Moment,
    /// When it heard of anything last.
    now: Moment,
    /// Whether the windows were shut then.
    was_shut: bool,
    rollouts: BTreeMap<RolloutNumber, Rollout>,
    phones: BTreeMap<PhoneId, Presence>,
    /// Those that could be installed on at some time since the start.
    seen: BTreeSet<PhoneId>,
    candidates: BTreeMap<PhoneId, Candidate>,
    /// What the last installs that worked took.
    install_times: VecDeque<Duration>,
    draft: Draft,
    held: BTreeMap<Ticket, Vec<Output>>,
    /// What was said of [`Output::Standing`] last.
    said_standing: Option<Standing>,
    last_number: u32,
    last_ticket: u64,
    outputs: VecDeque<Output>,
}

#[derive(Debug)]
struct Rollout {
    record: RolloutRecord,
    dirty: bool,
    phones: Vec<Phone>,
    apk: Apk,
    /// When no further notice joins; only while gathering.
    gathered_by: Moment,
    /// The time for which the last wave is watched has passed, whether or not it is this rollout's turn.
    soak_is_over: bool,
    reckoned: times::Reckoned,
    /// The look at its last wave that is under way.
    look: Option<looks::Look>,
}

#[derive(Debug)]
struct Phone {
    record: RolloutPhoneRecord,
    dirty: bool,
    /// The install that may be under way; only in the state Installing.
    flight: Option<Flight>,
    /// When the report of its failure is asked for again, unless the server has taken it by then.
    report_again: Option<Moment>,
    /// When it is tried again after a failure that may pass; at once after a restart.
    retry_at: Option<Moment>,
    /// This core has reckoned since when it is unfit.
    unfitness_is_reckoned: bool,
    /// Its install has worked, and no look at it was passed since.
    is_unseen: bool,
    /// When this core heard that its install worked.
    done_at: Option<Moment>,
    /// How long that install took: the agent begins anew, and may crash, before this host hears that it worked.
    install_took: Duration,
}

#[derive(Clone, Copy, Debug)]
struct Flight {
    /// When it counts as failed; `None` until the promise is committed.
    deadline: Option<Moment>,
    /// The phone left (or the daemon was started) since the order went out: there may be no result.
    gone: bool,
}

#[derive(Debug, PartialEq, Eq)]
enum Apk {
    Wanted,
    Asked,
    Ready(Box<CheckedApk>),
    Failed(String),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Presence {
    Available(Option<VersionCode>),
    Unavailable { why: String, since: Moment },
}

/// What one input has changed so far.
#[derive(Debug, Default)]
struct Draft {
    touched: BTreeSet<RolloutNumber>,
    audit: Vec<AuditRecord>,
    forgotten: Vec<RolloutNumber>,
    effects: Vec<Output>,
}

impl Rollouts {
    /// A core as the committed promises say, `now` being the start of the daemon and `wall_at_start` the wall-clock time of
    /// [`Moment::START`]. Promises of other kinds are skipped.
    #[must_use]
    pub fn restore(
        config: config::Rollout,
        agent: Option<impl Into<KeptAgent>>,
        wall_at_start: UnixMillis,
        now: Moment,
        promises: Vec<Promise>,
    ) -> Self {
        let mut core = Self {
            config,
            agent: agent.map(Into::into),
            wall_at_start,
            began: now,
            now,
            was_shut: false,
            rollouts: BTreeMap::new(),
            phones: BTreeMap::new(),
            seen: BTreeSet::new(),
            candidates: BTreeMap::new(),
            install_times: VecDeque::new(),
            draft: Draft::default(),
            held: BTreeMap::new(),
            said_standing: None,
            last_number: 0,
            last_ticket: 0,
            outputs: VecDeque::new(),
        };
        for promise in promises {
            core.restore_one(now, promise);
        }
        for rollout in core.rollouts.values_mut() {
            rollout.phones.sort_by_key(|phone| phone.record.position);
        }
        core.outputs.push_back(Output::Changed);
        // Whoever heard of another one before a crash hears of this one.
        core.said_standing = core.standing();
        if core.agent.as_ref().is_some_and(|agent| agent.sha256.is_some()) {
            core.outputs.push_back(Output::Standing(core.said_standing.clone()));
        }
        core.bound_waits();
        core.close(now);
        core
    }

    /// What the model says of notices, phones and installs.
    pub fn command(&mut self, now: Moment, command: RolloutCommand) {
        match command {
            RolloutCommand::Offered { phone, notice } => self.offered(now, phone, notice),
            RolloutCommand::Known { phone, candidate } => self.known(phone, *candidate),
            RolloutCommand::Available { phone, version_code } => self.available(now, phone, version_code),
            RolloutCommand::Unavailable { phone, why } => self.unavailable(now, phone, why),
            RolloutCommand::Installed { phone, rollout, result } => self.installed(now, &phone, &rollout, result),
            RolloutCommand::FailureTold { phone, message_id } => self.told(&phone, message_id),
            RolloutCommand::Looked { phone, rollout, health } => {
                self.looked(&phone, &rollout, health.map(|health| *health));
            }
            RolloutCommand::ClockSet(epoch) => {
                self.now = now;
                self.clock_set(epoch);
            }
        }
        self.close(now);
    }

    /// What became of an [`Output::Fetch`]: the checked APK, or why there is none, as a sentence.
    pub fn fetched(&mut self, now: Moment, number: RolloutNumber, result: Result<CheckedApk, String>) {
        if let Some(rollout) = self.rollouts.get_mut(&number).filter(|rollout| rollout.apk == Apk::Asked) {
            match result.and_then(|apk| rollout.judge(apk)) {
                Ok(apk) => self.apk_ready(now, number, apk),
                Err(why) => self.apk_failed(now, number, why),
            }
        }
        self.close(now);
    }

    /// The batch of this ticket is on the disk: what hangs on it may go out.
    pub fn committed(&mut self, now: Moment, ticket: Ticket) {
        for output in self.held.remove(&ticket).unwrap_or_default() {
            self.release(now, output);
        }
        self.close(now);
    }

    /// Time has come; see [`Self::deadline`].
    pub fn advance(&mut self, now: Moment) {
        self.end_overdue(now);
        self.end_waits(now);
        self.close(now);
    }

    /// When [`Self::advance`] must be called, and why.
    #[must_use]
    pub fn deadline(&self) -> Option<Deadline> {
        let mut next = None;
        for rollout in self.rollouts.values() {
            if rollout.record.state == RolloutState::Gathering {
                let why = "further notices of the same version";
                next = Deadline::earlier(next, Some(Deadline { at: rollout.gathered_by, why }));
            }
            next = Deadline::earlier(next, self.gate_deadline(rollout));
            next = Deadline::earlier(next, self.parking_deadline(rollout));
            next = Deadline::earlier(next, self.limits_deadline(rollout));
            next = Deadline::earlier(next, self.times_deadline(rollout));
            next = Deadline::earlier(next, self.look_deadline(rollout));
            for at in rollout.phones.iter().filter_map(|phone| phone.flight?.deadline) {
                next = Deadline::earlier(next, Some(Deadline { at, why: "the result of an install" }));
            }
            // What a phone that was not seen since the start has to report waits until it is seen, however long.
            let known = rollout.phones.iter().filter(|phone| self.phones.contains_key(&phone.record.phone));
            for at in known.filter(|phone| phone.has_untold_failure()).filter_map(|phone| phone.report_again) {
                let why = "the central server to take the report of a failure";
                next = Deadline::earlier(next, Some(Deadline { at, why }));
            }
        }
        next
    }

    /// The next thing that must be done; call until `None`.
    pub fn poll(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The wall-clock time at `now`.
    fn wall(&self, now: Moment) -> UnixMillis {
        self.wall_at_start.plus(now.since_start())
    }

    fn audit(&mut self, now: Moment, who: &str, what: String, target: String) {
        let at = self.wall(now);
        self.draft.audit.push(AuditRecord { at, who: who.to_owned(), what, target });
    }

    /// Takes the steps that have become possible, and makes one batch of all that this input has changed.
    fn close(&mut self, now: Moment) {
        self.now = now;
        self.look_at_windows();
        self.close_gatherings(now);
        self.park(now);
        self.run_waves(now);
        self.run_rollbacks(now);
        self.ask_for_apks();
        self.forget_old();
        self.say_standing();
        self.report_failures(now);
        let draft = std::mem::take(&mut self.draft);
        let mut batch = Vec::new();
        for number in draft.touched {
            if let Some(rollout) = self.rollouts.get_mut(&number) {
                rollout.drain_changes(&mut batch);
            }
        }
        batch.extend(draft.forgotten.into_iter().map(Promise::ForgetRollout));
        batch.extend(draft.audit.into_iter().map(Promise::Audit));
        let mut effects = draft.effects;
        if batch.is_empty() {
            self.outputs.extend(effects);
            return;
        }
        effects.push(Output::Changed);
        self.last_ticket += 1;
        let ticket = Ticket(self.last_ticket);
        self.held.insert(ticket, effects);
        self.outputs.push_back(Output::Commit { ticket, batch });
    }

    /// Lets out what was held.
    fn release(&mut self, now: Moment, output: Output) {
        match &output {
            Output::Install { phone, order } => {
                let here = matches!(self.phones.get(phone), Some(Presence::Available(_)));
                let has_it = |version: &VersionCode| order.is_done_by(*version);
                if let Some(version) = self.installed_version(phone).filter(has_it) {
                    // Another rollout's late result has brought it while this one waited for its promise.
                    let (phone, rollout) = (phone.clone(), order.rollout.clone());
                    return self.installed(now, &phone, &rollout, Ok(version));
                }
                let deadline = Some(now + self.config.install_timeout);
                // Without a flight a late result of the attempt before has settled it while this one waited for its promise.
                let Some(flight) = self.flight(phone, order) else { return };
                *flight = Flight { deadline, gone: !here };
                // A phone that has left in the meantime gets its install as a new attempt once it is back.
                if here {
                    self.outputs.push_back(output);
                }
            }
            Output::ReportFailure { phone, message_id, .. } => {
                self.reported(now, phone, *message_id);
                self.outputs.push_back(output);
            }
            _ => self.outputs.push_back(output),
        }
    }

    fn flight(&mut self, phone: &PhoneId, order: &InstallOrder) -> Option<&mut Flight> {
        let rollout = self.rollouts.get_mut(&RolloutNumber::of(&order.rollout)?)?;
        rollout.phone_mut(phone)?.flight.as_mut()
    }
}
