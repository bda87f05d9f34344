//! The task that owns the core: it feeds it, and carries out what it wants.
//!
//! A commit is waited for before anything else is taken, so that a store that is full or failing holds back the model and
//! the operator, and nothing is shown that is not promised. Fetches and checks run beside it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::plan::{Ask, Fetch, Output, Rollouts};
use crate::agent::apk::{self, Expectation};
use crate::agent::fetch::Fetcher;
use crate::agent::{ApkSource, CheckedApk};
use crate::clock::{Moment, UnixMillis};
use crate::config;
use crate::rack::event::{RolloutCommand, RolloutEvent};
use crate::rack::ids::{PackageName, PhoneId, VersionCode};
use crate::rack::request::{Done, Refusal, Request};
use crate::store::promise::Promise;
use crate::store::{RolloutNumber, Store, StoreError};

/// Between two attempts to commit while the store fails.
const COMMIT_RETRY: Duration = Duration::from_secs(2);

/// A request of the operator and where its answer goes.
pub type Asked = (Request, oneshot::Sender<Result<Done, Refusal>>);

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
/// the model's end of the commands is dropped.
pub fn spawn(
    config: config::Rollout,
    agent: Option<config::Agent>,
    fetcher: Fetcher,
    store: Store,
    promises: Vec<Promise>,
    channels: Channels,
    cancel: CancellationToken,
) -> JoinHandle<()> {
    let start = Instant::now();
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let wall = UnixMillis::default().plus(wall);
    let package = agent.as_ref().map(|agent| agent.package.clone());
    prune(&fetcher, &promises);
    let core = Rollouts::restore(config, package, wall, Moment::START, promises);
    let signers = agent.map(|agent| agent.signers).unwrap_or_default();
    let (events, inbox) = (channels.events, (channels.commands, channels.requests));
    let actor = Actor {
        core,
        start,
        signers,
        fetcher,
        store,
        events,
        work: JoinSet::new(),
        asked: BTreeMap::new(),
        last_ask: 0,
        cancel,
    };
    tokio::spawn(actor.run(inbox.0, inbox.1))
}

/// Removes the APKs of rollouts that are over. A failure costs room and nothing else.
fn prune(fetcher: &Fetcher, promises: &[Promise]) {
    let wanted = |promise: &Promise| match promise {
        Promise::Rollout(record) if record.ended.is_none() => record.sha256.clone(),
        _ => None,
    };
    if let Err(error) = fetcher.keep_only(&promises.iter().filter_map(wanted).collect()) {
        tracing::warn!(%error, "APKs that no rollout needs could not be removed");
    }
}

struct Actor {
    core: Rollouts,
    start: Instant,
    signers: Vec<String>,
    fetcher: Fetcher,
    store: Store,
    events: mpsc::Sender<RolloutEvent>,
    work: JoinSet<Work>,
    asked: BTreeMap<Ask, oneshot::Sender<Result<Done, Refusal>>>,
    last_ask: u64,
    cancel: CancellationToken,
}

/// What a fetch beside the actor ends with.
enum Work {
    Fetched { rollout: RolloutNumber, result: Result<CheckedApk, String> },
    ToStart { ask: Ask, file: PathBuf, phones: Vec<PhoneId>, result: Result<CheckedApk, Refusal> },
}

/// The actor is to end.
struct Ended;

impl Actor {
    async fn run(mut self, mut commands: mpsc::Receiver<RolloutCommand>, mut requests: mpsc::Receiver<Asked>) {
        let cancel = self.cancel.clone();
        loop {
            if self.carry_out(&mut requests).await.is_err() {
                break;
            }
            let deadline = self.core.deadline().map(|deadline| self.start + deadline.at.since_start());
            tokio::select! {
                () = cancel.cancelled() => break,
                command = commands.recv() => match command {
                    Some(command) => {
                        let now = self.now();
                        self.core.command(now, command);
                    }
                    None => break,
                },
                Some(asked) = requests.recv() => self.request(asked),
                Some(work) = self.work.join_next() => self.worked(work),
                () = sleep_until(deadline) => {
                    let now = self.now();
                    self.core.advance(now);
                }
            }
        }
    }

    fn now(&self) -> Moment {
        Moment::from_start(self.start.elapsed())
    }

    /// Carries out everything that the core wants now.
    async fn carry_out(&mut self, requests: &mut mpsc::Receiver<Asked>) -> Result<(), Ended> {
        let mut changed = false;
        while let Some(output) = self.core.poll() {
            match output {
                Output::Commit { ticket, batch } => {
                    self.commit(batch, requests).await?;
                    let now = self.now();
                    self.core.committed(now, ticket);
                }
                Output::Fetch(fetch) => self.fetch(fetch),
                Output::Install { phone, order } => {
                    tracing::debug!(%phone, rollout = %order.rollout, version = %order.version_code, "install");
                    self.tell(RolloutEvent::Install { phone, order }).await?;
                }
                Output::ReportFailure { phone, message_id, why } => {
                    tracing::warn!(%phone, message_id, why, "the server is told that its upgrade notice failed");
                    self.tell(RolloutEvent::ReportFailure { phone, message_id, why }).await?;
                }
                Output::Answer { ask, result } => {
                    if let Some(asker) = self.asked.remove(&ask) {
                        // An asker that has left got what it asked for all the same.
                        drop(asker.send(result));
                    }
                }
                Output::Changed => changed = true,
            }
        }
        if changed {
            let views = self.core.views();
            self.tell(RolloutEvent::Views(views)).await?;
        }
        Ok(())
    }

    /// Waits for room at the model: it always takes, so this is short.
    async fn tell(&self, event: RolloutEvent) -> Result<(), Ended> {
        tokio::select! {
            () = self.cancel.cancelled() => Err(Ended),
            sent = self.events.send(event) => sent.map_err(|_| Ended),
        }
    }

    /// Commits, trying until it works: a disk that is full may have room again. Meanwhile requests are refused.
    async fn commit(&mut self, batch: Vec<Promise>, requests: &mut mpsc::Receiver<Asked>) -> Result<(), Ended> {
        loop {
            let error = match self.store.commit(batch.clone()).await {
                Ok(()) => return Ok(()),
                Err(StoreError::Stopped) => return Err(Ended),
                Err(error) => error,
            };
            tracing::error!(%error, "rollouts wait: their next step can't be promised");
            let again = Instant::now() + COMMIT_RETRY;
            loop {
                tokio::select! {
                    () = self.cancel.cancelled() => return Err(Ended),
                    Some((_, asker)) = requests.recv() => drop(asker.send(Err(no_store(&error)))),
                    () = tokio::time::sleep_until(again) => break,
                }
            }
        }
    }

    fn request(&mut self, (request, asker): Asked) {
        self.last_ask += 1;
        let ask = Ask(self.last_ask);
        self.asked.insert(ask, asker);
        let now = self.now();
        match request {
            Request::RolloutStart { apk, package, phones } => match self.core.may_start(package.as_ref(), &phones) {
                Ok((package, installed)) => self.check_to_start(ask, apk, phones, package, installed),
                Err(refusal) => self.refuse(ask, refusal),
            },
            other => self.core.request(now, ask, &other),
        }
    }

    fn refuse(&mut self, ask: Ask, refusal: Refusal) {
        if let Some(asker) = self.asked.remove(&ask) {
            drop(asker.send(Err(refusal)));
        }
    }

    fn fetch(&mut self, fetch: Fetch) {
        let expected = Expectation {
            package: fetch.package,
            signers: self.signers.clone(),
            version_code: Some(fetch.version_code),
            installed: None,
        };
        let (fetcher, rollout) = (self.fetcher.clone(), fetch.rollout);
        tracing::info!(%rollout, source = %fetch.source, "the APK is fetched and checked");
        self.work.spawn(async move {
            let result = obtain(&fetcher, &fetch.source, fetch.sha256.as_deref(), expected).await;
            Work::Fetched { rollout, result: result.map_err(|failure| failure.what) }
        });
    }

    fn check_to_start(
        &mut self,
        ask: Ask,
        file: PathBuf,
        phones: Vec<PhoneId>,
        package: PackageName,
        installed: Option<VersionCode>,
    ) {
        let expected = Expectation { package, signers: self.signers.clone(), version_code: None, installed };
        let fetcher = self.fetcher.clone();
        self.work.spawn(async move {
            let result = obtain(&fetcher, &ApkSource::File(file.clone()), None, expected).await;
            Work::ToStart { ask, file, phones, result }
        });
    }

    fn worked(&mut self, work: Result<Work, tokio::task::JoinError>) {
        let now = self.now();
        match work {
            Ok(Work::Fetched { rollout, result }) => {
                match &result {
                    Ok(apk) => tracing::info!(%rollout, sha256 = apk.sha256, "the APK is good"),
                    Err(why) => tracing::warn!(%rollout, why, "the APK is refused"),
                }
                self.core.fetched(now, rollout, result);
            }
            Ok(Work::ToStart { ask, file, phones, result }) => match result {
                Ok(apk) => self.core.start(now, ask, apk, file, &phones),
                Err(refusal) => {
                    tracing::warn!(why = refusal.what, "the operator's APK is refused");
                    self.refuse(ask, refusal);
                }
            },
            Err(error) => tracing::error!(%error, "a fetch ended without a result"),
        }
    }
}

/// Brings an APK here and checks it on a thread for such work.
async fn obtain(
    fetcher: &Fetcher,
    source: &ApkSource,
    sha256: Option<&str>,
    expected: Expectation,
) -> Result<CheckedApk, Refusal> {
    let refusal = |code: String, what: String, help| Refusal { code, what, help };
    let path = fetcher.fetch(source, sha256).await;
    let path = path.map_err(|error| refusal("apk.unavailable".into(), error.to_string(), None))?;
    let (done, checked) = oneshot::channel();
    let file = path.clone();
    let check = move || drop(done.send(apk::check(&file, &expected)));
    std::thread::Builder::new()
        .name("apk-check".into())
        .spawn(check)
        .map_err(|error| refusal("apk.unavailable".into(), format!("no thread to check the APK: {error}"), None))?;
    match checked.await {
        Ok(Ok(apk)) => Ok(apk),
        Ok(Err(refused)) => {
            use miette::Diagnostic;
            let code = refused.code().map(|code| code.to_string().replace("::", ".")).unwrap_or_default();
            // People know the APK by where it came from, not by its name in the state directory.
            let what = refused.to_string().replace(&path.display().to_string(), &source.to_string());
            let help = refused.help().map(|help| help.to_string());
            Err(refusal(code, what, help))
        }
        Err(_) => Err(refusal("apk.unavailable".into(), format!("the check of {source} ended without a result"), None)),
    }
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
