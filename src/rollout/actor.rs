//! The task that owns the core: it feeds it, and carries out what it wants.
//!
//! A commit is waited for before anything else is taken, so that a store that is full or failing holds back the model and
//! the operator, and nothing is shown that is not promised. Fetches and checks run beside it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::FutureExt;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::artefact::{RackAgent, Unfit, obtain, standing_apk};
use super::jobs::Jobs;
use super::plan::{Ask, Fetch, Output, Rollouts, Standing, Wanted};
use crate::agent::apk::Expectation;
use crate::agent::fetch::Fetcher;
use crate::agent::{ApkSource, CheckedApk};
use crate::checkpoint;
use crate::clock::{Moment, UnixMillis};
use crate::config;
use crate::rack::event::{RolloutCommand, RolloutEvent};
use crate::rack::ids::PackageName;
use crate::rack::request::{Refusal, Request, RolloutOrder};
use crate::rack::snapshot::RolloutState;
use crate::store::promise::{Promise, RolloutRecord};
use crate::store::{RolloutNumber, Store, StoreError};

/// Between two attempts to commit while the store fails.
const COMMIT_RETRY: Duration = Duration::from_secs(2);

/// Before the first new beginning after the actor broke; doubled each time.
const RESTART_FIRST: Duration = Duration::from_secs(1);
/// The longest of these pauses.
const RESTART_LONGEST: Duration = Duration::from_secs(60);

/// A request of the operator and its name; the answer is an event, which comes after the views that show what it says.
pub type Asked = (Request, Ask);

/// Where the actor's messages come from and go to.
#[derive(Debug)]
pub struct Channels {
    /// From the model.
    pub commands: mpsc::Receiver<RolloutCommand>,
    /// From the operator.
    pub requests: mpsc::Receiver<Asked>,
    /// To the model.
    pub events: mpsc::Sender<RolloutEvent>,
}

/// Starts the actor: restores the core from `promises` (what [`Store::load_rollouts`] gave) and runs until it is cancelled or
/// the model's end of the commands is dropped. An actor that breaks begins anew, from the store.
pub fn spawn(
    config: config::Rollout,
    agent: Option<RackAgent>,
    fetcher: Fetcher,
    store: Store,
    promises: Vec<Promise>,
    channels: Channels,
    cancel: CancellationToken,
) -> JoinHandle<()> {
    prune(&fetcher, &promises, agent.as_ref().map(|agent| &agent.configured.package));
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let wall = UnixMillis::default().plus(wall);
    let parts = Parts { config, agent, fetcher, store, events: channels.events, start: Instant::now(), wall, cancel };
    let inbox = Inbox { commands: channels.commands, requests: channels.requests };
    tokio::spawn(keep(parts, promises, inbox))
}

/// What each actor is made of, one after the other.
#[derive(Clone)]
struct Parts {
    config: config::Rollout,
    agent: Option<RackAgent>,
    fetcher: Fetcher,
    store: Store,
    events: mpsc::Sender<RolloutEvent>,
    start: Instant,
    wall: UnixMillis,
    cancel: CancellationToken,
}

struct Inbox {
    commands: mpsc::Receiver<RolloutCommand>,
    requests: mpsc::Receiver<Asked>,
}

/// Runs one actor after the other, until one ends by itself: then nobody carries rollouts out any more, and the model is told.
async fn keep(parts: Parts, mut promises: Vec<Promise>, mut inbox: Inbox) {
    let mut pause = RESTART_FIRST;
    loop {
        let run = Actor::new(&parts, promises).run(&mut inbox);
        // The inbox is as whole as before: what was taken out of it is lost, and the model says it again.
        let why = match std::panic::AssertUnwindSafe(run).catch_unwind().await {
            Ok(Ended::Told) => return,
            Ok(Ended::Stopped(why)) => {
                tracing::error!(why, "rollouts are not carried out any more");
                let why = format!("rollouts are not carried out any more: {why}; restart farmhand");
                return parts.trouble(Some(why)).await;
            }
            Err(panic) => said(&*panic).to_owned(),
        };
        tracing::error!(why, "the rollouts broke; they begin anew in {} s", pause.as_secs());
        parts.trouble(Some(format!("the rollouts broke and begin anew: {why}"))).await;
        let Some(loaded) = parts.load_after(pause).await else { return };
        promises = loaded;
        pause = (pause * 2).min(RESTART_LONGEST);
        // The model's word may be in the inbox twice then, which does no harm.
        let _ = parts.events.send(RolloutEvent::Restarted).await;
    }
}

impl Parts {
    /// Whoever is told may have ended.
    async fn trouble(&self, why: Option<String>) {
        let _ = self.events.send(RolloutEvent::Trouble(why)).await;
    }

    /// What the store has promised, after a pause and as many attempts as it takes; `None` if the daemon ends.
    async fn load_after(&self, pause: Duration) -> Option<Vec<Promise>> {
        loop {
            self.cancel.run_until_cancelled(tokio::time::sleep(pause)).await?;
            match self.store.load_rollouts().await {
                Ok(promises) => return Some(promises),
                Err(StoreError::Stopped) => return None,
                Err(error) => tracing::error!(%error, "rollouts cannot begin anew"),
            }
        }
    }
}

/// What a panic said.
fn said(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("a panic without a word")
}

/// Lets go of the APKs of rollouts that are over, but for those that a rollback of what is under way or was last would take, and that of the
/// version that phones without the agent get. A failure costs room and nothing else.
fn prune(fetcher: &Fetcher, promises: &[Promise], agent: Option<&PackageName>) {
    let rollouts = || {
        promises.iter().filter_map(|promise| match promise {
            Promise::Rollout(record) => Some(record),
            _ => None,
        })
    };
    let last = rollouts().map(|record| record.number).max();
    let may_go_back: BTreeSet<_> = rollouts()
        .filter(|record| record.ended.is_none() || Some(record.number) == last)
        .map(|record| record.number)
        .collect();
    let before = |promise: &Promise| match promise {
        Promise::RolloutPhone(phone) if may_go_back.contains(&phone.rollout) => phone.before,
        _ => None,
    };
    let before: BTreeSet<_> = promises.iter().filter_map(before).collect();
    let stands = agent.and_then(|package| Standing::last(rollouts(), package)).map(|record| record.number);
    let is_wanted = |record: &&RolloutRecord| {
        record.ended.is_none() || before.contains(&record.version_code) || Some(record.number) == stands
    };
    let wanted = rollouts().filter(is_wanted).filter_map(|record| record.sha256.clone()).collect();
    if let Err(error) = fetcher.store().pin_only(&wanted) {
        tracing::warn!(%error, "APKs that no rollout needs could not be removed");
    }
}

struct Actor {
    core: Rollouts,
    start: Instant,
    agent: Option<RackAgent>,
    /// What stands, as the core said last.
    standing: Option<Standing>,
    fetcher: Fetcher,
    store: Store,
    events: mpsc::Sender<RolloutEvent>,
    jobs: Jobs<Job, Result<CheckedApk, Unfit>>,
    cancel: CancellationToken,
}

/// What a fetch beside the actor is for.
enum Job {
    Fetch { rollout: RolloutNumber },
    Operator { run: Run, ask: Ask, wanted: Box<Wanted> },
    Standing(Standing),
}

/// What an operator wants with an APK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Run {
    Start,
    Forecast,
}

/// Why the actor has ended.
enum Ended {
    /// It was told to, or everyone else has.
    Told,
    /// It cannot go on, for this reason.
    Stopped(&'static str),
}

impl Actor {
    fn new(parts: &Parts, promises: Vec<Promise>) -> Self {
        let now = Moment::from_start(parts.start.elapsed());
        let agent = parts.agent.as_ref().map(RackAgent::kept);
        let core = Rollouts::restore(parts.config.clone(), agent, parts.wall, now, promises);
        checkpoint::at(checkpoint::RESTORED);
        Self {
            core,
            start: parts.start,
            agent: parts.agent.clone(),
            standing: None,
            fetcher: parts.fetcher.clone(),
            store: parts.store.clone(),
            events: parts.events.clone(),
            jobs: Jobs::new(),
            cancel: parts.cancel.clone(),
        }
    }

    async fn run(mut self, inbox: &mut Inbox) -> Ended {
        let cancel = self.cancel.clone();
        loop {
            if let Err(ended) = self.carry_out(&mut inbox.requests).await {
                return ended;
            }
            let deadline = self.core.deadline().map(|deadline| self.start + deadline.at.since_start());
            tokio::select! {
                () = cancel.cancelled() => return Ended::Told,
                command = inbox.commands.recv() => match command {
                    Some(command) => {
                        fault(&command);
                        let now = self.now();
                        let command = self.by_own_clock(command);
                        self.core.command(now, command);
                    }
                    None => return Ended::Told,
                },
                Some(asked) = inbox.requests.recv() => self.request(asked).await,
                (job, result) = self.jobs.ended() => self.worked(job, result).await,
                () = sleep_until(deadline) => {
                    let now = self.now();
                    self.core.advance(now);
                }
            }
        }
    }

    /// The model counts its moments from an earlier start than this actor.
    fn by_own_clock(&self, command: RolloutCommand) -> RolloutCommand {
        match command {
            RolloutCommand::ClockSet(_) => {
                RolloutCommand::ClockSet(UnixMillis::from(SystemTime::now()).minus(self.start.elapsed()))
            }
            other => other,
        }
    }

    fn now(&self) -> Moment {
        Moment::from_start(self.start.elapsed())
    }

    /// Carries out everything that the core wants now. Operators are answered last: whoever has the answer sees what it says.
    async fn carry_out(&mut self, requests: &mut mpsc::Receiver<Asked>) -> Result<(), Ended> {
        let (mut changed, mut answers) = (false, Vec::new());
        while let Some(output) = self.core.poll() {
            match output {
                Output::Commit { ticket, batch } => {
                    checkpoint::at(checkpoint::COMMIT_BEFORE);
                    let step = rollback_step(&batch);
                    self.commit(batch, requests).await?;
                    checkpoint::at(checkpoint::COMMIT_AFTER);
                    if let Some(step) = step {
                        checkpoint::at(step);
                    }
                    let now = self.now();
                    self.core.committed(now, ticket);
                }
                Output::Fetch(fetch) => self.fetch(fetch),
                Output::Install { phone, order } => {
                    tracing::debug!(%phone, rollout = %order.rollout, version = %order.version_code, "install");
                    checkpoint::at(checkpoint::ORDER_BEFORE);
                    self.tell(RolloutEvent::Install { phone, order }).await?;
                    checkpoint::at(checkpoint::ORDER_AFTER);
                }
                Output::Look { phone, rollout, within } => {
                    self.tell(RolloutEvent::Look { phone, rollout, within }).await?;
                }
                Output::ReportFailure { phone, message_id, why } => {
                    tracing::warn!(%phone, message_id, why, "the server is told that its upgrade notice failed");
                    self.tell(RolloutEvent::ReportFailure { phone, message_id, why }).await?;
                }
                Output::Standing(standing) => self.stand(standing).await?,
                Output::Answer { ask, result } => answers.push(RolloutEvent::Answer { ask, result }),
                Output::Changed => changed = true,
            }
        }
        if changed {
            let views = self.core.views();
            self.tell(RolloutEvent::Views(views)).await?;
        }
        for answer in answers {
            self.tell(answer).await?;
        }
        Ok(())
    }

    /// Waits for room at the model: it always takes, so this is short.
    async fn tell(&self, event: RolloutEvent) -> Result<(), Ended> {
        match self.cancel.run_until_cancelled(self.events.send(event)).await {
            Some(Ok(())) => Ok(()),
            Some(Err(_)) | None => Err(Ended::Told),
        }
    }

    /// Commits, trying until it works: a disk that is full may have room again. Meanwhile requests are refused, and every
    /// surface says so.
    async fn commit(&mut self, batch: Vec<Promise>, requests: &mut mpsc::Receiver<Asked>) -> Result<(), Ended> {
        let mut failing = false;
        loop {
            let error = match self.store.commit(batch.clone()).await {
                Ok(()) if failing => return self.tell(RolloutEvent::Trouble(None)).await,
                Ok(()) => return Ok(()),
                Err(StoreError::Stopped) => return Err(Ended::Stopped("the store's thread has ended")),
                Err(error) => error,
            };
            tracing::error!(%error, "rollouts wait: their next step can't be promised");
            let why = format!("rollouts wait, for their next step can't be promised: {error}");
            self.tell(RolloutEvent::Trouble(Some(why))).await?;
            failing = true;
            let again = Instant::now() + COMMIT_RETRY;
            loop {
                tokio::select! {
                    () = self.cancel.cancelled() => return Err(Ended::Told),
                    Some((_, ask)) = requests.recv() => self.refuse(ask, no_store(&error)).await,
                    () = tokio::time::sleep_until(again) => break,
                }
            }
        }
    }

    async fn request(&mut self, (request, ask): Asked) {
        let now = self.now();
        match request {
            Request::RolloutStart(order) => self.check_to(Run::Start, ask, order).await,
            Request::RolloutForecast(order) => self.check_to(Run::Forecast, ask, order).await,
            other => self.core.request(now, ask, &other),
        }
    }

    /// Nobody is left to hear it if the model has ended.
    async fn refuse(&self, ask: Ask, refusal: Refusal) {
        let _ = self.tell(RolloutEvent::Answer { ask, result: Err(refusal) }).await;
    }

    fn signers(&self) -> Vec<String> {
        self.agent.as_ref().map(|agent| agent.configured.signers.clone()).unwrap_or_default()
    }

    /// Has the APK looked at that phones without the agent get from now on, unless this daemon has checked it before.
    async fn stand(&mut self, standing: Option<Standing>) -> Result<(), Ended> {
        self.standing.clone_from(&standing);
        let Some(standing) = standing else {
            return match self.agent.as_ref().and_then(|agent| agent.checked.clone()) {
                Some(checked) => self.tell(RolloutEvent::Agent(checked)).await,
                None => Ok(()),
            };
        };
        if let Some(checked) = self.core.checked(standing.rollout).cloned() {
            self.looked_at(&standing, Ok(checked)).await;
            return Ok(());
        }
        let (apks, signers, one) = (self.fetcher.store().clone(), self.signers(), standing.clone());
        self.jobs.start(Job::Standing(standing), async move { standing_apk(&apks, &one, signers).await });
        Ok(())
    }

    /// Nobody is left to hear it if the model has ended.
    async fn looked_at(&self, one: &Standing, result: Result<CheckedApk, Unfit>) {
        let agent = self.agent.as_ref().filter(|_| self.standing.as_ref() == Some(one));
        if let Some(wanted) = agent.and_then(|agent| agent.standing_or_configured(one, result)) {
            let _ = self.tell(RolloutEvent::Agent(wanted)).await;
        }
    }

    fn fetch(&mut self, fetch: Fetch) {
        let expected = Expectation {
            package: fetch.package,
            signers: self.signers(),
            version_code: Some(fetch.version_code),
            version_name: Some(fetch.version_name).filter(|name| !name.is_empty()),
            installed: None,
        };
        let (fetcher, rollout) = (self.fetcher.clone(), fetch.rollout);
        tracing::info!(%rollout, source = %fetch.source, "the APK is fetched and checked");
        self.jobs.start(Job::Fetch { rollout }, async move {
            obtain(&fetcher, &fetch.source, fetch.sha256.as_deref(), expected).await
        });
    }

    /// Checks the APK of an order that makes sense now, and then does what is asked with it.
    async fn check_to(&mut self, run: Run, ask: Ask, order: RolloutOrder) {
        let RolloutOrder { apk, package, choice, strategy } = order;
        let (package, installed) = match self.core.may_start(package.as_ref(), &choice, strategy.downgrade) {
            Ok(expected) => expected,
            Err(refusal) => return self.refuse(ask, refusal).await,
        };
        let wanted = Wanted { file: apk, choice, strategy };
        let expected =
            Expectation { package, signers: self.signers(), version_code: None, version_name: None, installed };
        let fetcher = self.fetcher.clone();
        let source = ApkSource::File(wanted.file.clone());
        self.jobs.start(Job::Operator { run, ask, wanted: Box::new(wanted) }, async move {
            obtain(&fetcher, &source, None, expected).await
        });
    }

    async fn worked(&mut self, job: Job, result: Result<Result<CheckedApk, Unfit>, String>) {
        let now = self.now();
        let result = result.unwrap_or_else(|what| Err(Unfit::unavailable(what)));
        match (job, result) {
            (Job::Fetch { rollout }, result) => {
                match &result {
                    Ok(apk) => tracing::info!(%rollout, sha256 = apk.sha256, "the APK is good"),
                    Err(unfit) => tracing::warn!(%rollout, why = unfit.refusal.what, "the APK is refused"),
                }
                let result = result.map_err(|unfit| {
                    self.discard(unfit.kept);
                    unfit.refusal.what
                });
                self.core.fetched(now, rollout, result);
            }
            (Job::Operator { run: Run::Start, ask, wanted }, Ok(apk)) => self.core.start(now, ask, apk, *wanted),
            (Job::Operator { run: Run::Forecast, ask, wanted }, Ok(apk)) => {
                let kept = apk.path.clone();
                self.core.forecast(now, ask, apk, *wanted);
                self.discard(Some(kept));
            }
            (Job::Standing(one), result) => self.looked_at(&one, result).await,
            (Job::Operator { ask, .. }, Err(Unfit { refusal, kept })) => {
                tracing::warn!(why = refusal.what, "the operator's APK is refused");
                self.discard(kept);
                self.refuse(ask, refusal).await;
            }
        }
    }

    /// Removes the file of an APK that was refused or only looked at, unless a rollout has the same one or may be about to: what is fetched at
    /// the same time keeps it until the next start.
    fn discard(&self, kept: Option<PathBuf>) {
        let unwanted = kept.filter(|kept| self.jobs.is_empty() && !self.core.uses(kept));
        if let Some(Err(error)) = unwanted.map(|kept| self.fetcher.store().discard(&kept)) {
            tracing::warn!(%error, "an APK that nobody needs could not be removed");
        }
    }
}

/// The step of a rollback that a batch promises, by the name of its checkpoint.
fn rollback_step(batch: &[Promise]) -> Option<&'static str> {
    let records = || {
        batch.iter().filter_map(|promise| match promise {
            Promise::Rollout(record) => Some(record),
            _ => None,
        })
    };
    if records().any(|record| record.takes_back.is_some() && record.state == RolloutState::Fetching) {
        return Some(checkpoint::RETURN_PROMISED);
    }
    records().any(|record| record.state == RolloutState::RollingBack).then_some(checkpoint::ROLLBACK_PROMISED)
}

fn no_store(error: &StoreError) -> Refusal {
    Refusal {
        code: "store.failing".into(),
        what: format!("nothing can be promised: {error}"),
        help: miette::Diagnostic::help(error).map(|help| help.to_string()),
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// A place at which a test may break the actor.
#[cfg(not(test))]
const fn fault(_command: &RolloutCommand) {}

/// A place at which a test may break the actor, as a fault of ours would: by a phone of this name.
#[cfg(test)]
fn fault(command: &RolloutCommand) {
    if let RolloutCommand::Unavailable { phone, why } = command {
        assert!(phone.as_str() != "BREAKS-US", "{why}");
    }
}
