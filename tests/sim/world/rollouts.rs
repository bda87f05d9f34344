//! The rollouts' shell, as the daemon has it: a commit is waited for before anything else is taken.

use std::collections::{BTreeMap, VecDeque};

use farmhand::agent::fit::Requirements;
use farmhand::agent::{Build, CheckedApk};
use farmhand::clock::{Deadline, Moment, UnixMillis};
use farmhand::phone::WantedAgent;
use farmhand::rack::Event;
use farmhand::rack::candidate::{Candidate, Choice};
use farmhand::rack::event::{RolloutCommand, RolloutEvent};
use farmhand::rack::ids::{PackageName, PhoneId};
use farmhand::rack::request::Request;
use farmhand::rack::strategy::{Downgrade, StrategyChanges};
use farmhand::rollout::plan::{Ask, Fetch, Output, Rollouts, Standing, Ticket, Wanted};
use farmhand::store::promise::Promise;

use super::actor::PACKAGE;
use super::input::Input;
use super::{World, checks};

#[derive(Debug)]
pub(super) struct RolloutShell {
    core: Rollouts,
    /// The batch that the store has not committed yet.
    pub(super) committing: Option<(Ticket, Vec<Promise>)>,
    waiting: VecDeque<Word>,
    changed: bool,
    /// What the core was told of each phone last.
    known: BTreeMap<PhoneId, Candidate>,
    /// The wall time of the start, as the core was told last.
    epoch: UnixMillis,
    asks: u64,
    /// Until when the core has done what is due.
    advanced_to: Moment,
    deadline: Option<Deadline>,
}

/// What waits until the store has committed.
#[derive(Debug)]
pub(super) enum Word {
    Command(RolloutCommand),
    Request(Box<Request>),
    Start { version: u64, choice: Choice, downgrade: Downgrade },
    Fetched { fetch: Fetch, result: Box<Result<CheckedApk, String>> },
}

impl RolloutShell {
    pub(super) fn new(core: Rollouts, epoch: UnixMillis) -> Self {
        Self {
            core,
            committing: None,
            waiting: VecDeque::new(),
            changed: false,
            known: BTreeMap::new(),
            epoch,
            asks: 0,
            advanced_to: Moment::START,
            deadline: None,
        }
    }

    /// A shell that waits for the store takes nothing else.
    /// What its clock on the wall shows.
    pub(super) fn wall(&self, now: Moment) -> UnixMillis {
        self.epoch.plus(now.since_start())
    }

    pub(super) fn deadline(&self) -> Option<Deadline> {
        self.deadline.filter(|_| self.committing.is_none())
    }

    /// Takes a word in.
    ///
    /// # Errors
    /// The rule that was broken by that.
    fn take(&mut self, now: Moment, word: Word) -> Result<(), String> {
        self.asks += 1;
        let ask = Ask(self.asks);
        match word {
            Word::Command(command) => {
                if let RolloutCommand::Known { phone, candidate } = &command {
                    self.known.insert(phone.clone(), (**candidate).clone());
                }
                if let RolloutCommand::ClockSet(epoch) = command {
                    self.epoch = epoch;
                }
                self.core.command(now, command);
            }
            Word::Request(request) => self.core.request(now, ask, &request),
            Word::Fetched { fetch, result } => self.core.fetched(now, fetch.rollout, *result),
            Word::Start { version, choice, downgrade } => {
                if self.core.may_start(None, &choice, downgrade).is_ok() {
                    let at = self.asks.is_multiple_of(5).then(|| "22:30".to_owned());
                    let file = match downgrade {
                        Downgrade::Refused => "/home/owner/agent.apk",
                        Downgrade::Allowed => OLDER_APK,
                    };
                    let strategy = StrategyChanges { at, downgrade, ..StrategyChanges::default() };
                    let wanted = Wanted { file: file.into(), choice, strategy };
                    return checks::forecast::begin(&mut self.core, now, ask, version, wanted);
                }
            }
        }
        Ok(())
    }
}

/// Where the owner's APK is from which a downgrade was asked: nothing else comes from there.
pub(super) const OLDER_APK: &str = "/home/owner/older.apk";

/// What phones without the agent get.
pub(super) fn wanted(standing: Option<Standing>, configured: &WantedAgent) -> WantedAgent {
    standing.map_or_else(
        || configured.clone(),
        |standing| WantedAgent {
            apk: apk(standing.version_code.0).path,
            package: standing.package,
            version_code: standing.version_code,
            sha256: standing.sha256,
        },
    )
}

/// An APK that passed all checks.
pub(super) fn apk(version: u64) -> CheckedApk {
    CheckedApk {
        path: format!("/state/apks/{version}.apk").into(),
        package: PackageName::new(PACKAGE),
        version_code: farmhand::rack::ids::VersionCode(version),
        version_name: format!("{version}.0"),
        signer_sha256: "aa".repeat(32),
        size: 4096,
        sha256: format!("{version:064x}"),
        build: Build::Release,
        requirements: Requirements::signed_by("aa".repeat(32)),
    }
}

impl World {
    pub(super) fn rollout_word(&mut self, word: Word) {
        let Some(daemon) = &mut self.daemon else { return };
        daemon.rollouts.waiting.push_back(word);
        self.drive_rollouts();
    }

    pub(super) fn advance_rollouts(&mut self, now: Moment) {
        let Some(daemon) = &mut self.daemon else { return };
        daemon.rollouts.core.advance(now);
        self.drive_rollouts();
    }

    /// The store has committed, in the order of the batches.
    pub(super) fn committed(&mut self) {
        let Some(daemon) = &mut self.daemon else { return };
        let Some((ticket, batch)) = daemon.rollouts.committing.take() else { return };
        daemon.rollouts.core.committed(self.stage.now, ticket);
        self.commit(batch);
        self.drive_rollouts();
    }

    /// One batch reaches the disk.
    pub(super) fn commit(&mut self, batch: Vec<Promise>) {
        self.disk.commit(batch, self.stage.now);
        if let Err(rule) = checks::promised::told(&self.disk, &self.centre) {
            self.stage.broke(rule);
        }
    }

    /// Carries out what the core wants, then takes the next word, until the store must be waited for.
    pub(super) fn drive_rollouts(&mut self) {
        let now = self.stage.now;
        while let Some(shell) = self.daemon.as_mut().map(|daemon| &mut daemon.rollouts)
            && shell.committing.is_none()
        {
            if let Some(output) = shell.core.poll() {
                self.rollouts_want(output);
            } else if std::mem::take(&mut shell.changed) {
                let views = shell.core.views();
                if let Err(rule) = checks::promised::views(&views, &self.disk) {
                    self.stage.broke(rule);
                }
                self.tell_model(Event::Rollout(RolloutEvent::Views(views)));
            } else if let Some(Word::Start { .. }) = shell.waiting.front()
                && shell.advanced_to < now
            {
                // A window may open at this very instant: a look ahead is compared with what is behind that.
                shell.advanced_to = now;
                shell.core.advance(now);
            } else if let Some(word) = shell.waiting.pop_front() {
                if let Err(rule) = shell.take(now, word) {
                    self.stage.broke(rule);
                }
            } else {
                shell.deadline = shell.core.deadline();
                if let Err(rule) = checks::reasons::rollouts(&shell.core.views(), shell.deadline, now) {
                    self.stage.broke(rule);
                }
                return;
            }
        }
    }

    fn rollouts_want(&mut self, output: Output) {
        let run = self.run();
        let Some(shell) = self.daemon.as_mut().map(|daemon| &mut daemon.rollouts) else { return };
        match output {
            Output::Commit { ticket, batch } => {
                self.stage.tell(format_args!("commit {ticket:?} of {} promises", batch.len()));
                let (windows, wall) = (&self.temper.rollout.windows, shell.epoch.plus(self.stage.now.since_start()));
                if let Err(rule) = checks::limits::promised(&batch, &self.disk, &shell.known, windows, wall) {
                    self.stage.broke(rule);
                }
                shell.committing = Some((ticket, batch));
                let slow = self.stage.now < self.temper.slow_store_until;
                let pause = if slow { self.stage.chance.seconds(1, 30) } else { self.stage.chance.millis(2, 15) };
                self.stage.after(pause, Input::Committed { run });
            }
            Output::Fetch(fetch) => {
                let pause = self.stage.chance.millis(50, 5000);
                self.stage.after(pause, Input::Fetched { run, fetch });
            }
            Output::Install { phone, order } => {
                self.stage.tell(format_args!("{} wants {} on {phone}", order.rollout, order.version_code));
                if let Err(rule) = checks::promised::install(&phone, &order, &self.disk) {
                    self.stage.broke(rule);
                }
                self.tell_model(Event::Rollout(RolloutEvent::Install { phone, order }));
            }
            Output::Look { phone, rollout, within } => {
                self.tell_model(Event::Rollout(RolloutEvent::Look { phone, rollout, within }));
            }
            Output::ReportFailure { phone, message_id, why } => {
                self.tell_model(Event::Rollout(RolloutEvent::ReportFailure { phone, message_id, why }));
            }
            Output::Standing(standing) => {
                if let Some(configured) = &self.temper.settings.agent {
                    let agent = wanted(standing, configured);
                    self.stage.tell(format_args!("phones without the agent get {}", agent.version_code));
                    self.tell_model(Event::Rollout(RolloutEvent::Agent(agent)));
                }
            }
            Output::Answer { result, .. } => {
                let answer = result.map_or_else(|refusal| refusal.code, |done| done.what);
                self.stage.tell(format_args!("the operator is told: {answer}"));
            }
            Output::Changed => shell.changed = true,
        }
    }

    pub(super) fn fetched(&mut self, fetch: Fetch) {
        let result = if self.is_calm() || !self.stage.chance.one_in(8) {
            Ok(apk(fetch.version_code.0))
        } else {
            Err("the server answers 404".to_owned())
        };
        self.rollout_word(Word::Fetched { fetch, result: Box::new(result) });
    }
}
