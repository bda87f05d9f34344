//! The actor with a real store, a real download and a real APK.
#![cfg(feature = "daemon")]

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::actor::{Asked, Channels, spawn};
use super::artefact::RackAgent;
use crate::agent::fetch::Fetcher;
use crate::config;
use crate::phone::{InstallFailure, InstallFailureClass};
use crate::rack::candidate::{Candidate, Choice, Readings};
use crate::rack::event::{InstallOrder, RolloutCommand, RolloutEvent, UpgradeNotice};
use crate::rack::ids::{PackageName, PhoneId, RolloutId, VersionCode};
use crate::rack::request::{Ask, Done, Refusal, Request, RolloutOrder};
use crate::rack::snapshot::{RolloutState, RolloutView};
use crate::rack::strategy::{Strategy, StrategyChanges};
use crate::store::{StateDir, Store};

const KEY_A: &str = "1f3459901dc294cd0daefe7eb300273362911beaeb3884637ed22e65d83aaba6";
/// No step of a test takes so long.
const PATIENCE: Duration = Duration::from_secs(20);

struct Rig {
    commands: mpsc::Sender<RolloutCommand>,
    requests: mpsc::Sender<Asked>,
    events: mpsc::Receiver<RolloutEvent>,
    before: VecDeque<RolloutEvent>,
    cancel: CancellationToken,
    actor: JoinHandle<()>,
    _state: StateDir,
}

impl Rig {
    async fn start(dir: &Path) -> Self {
        let state = StateDir::lock(dir).unwrap();
        let store = Store::open(&state).unwrap();
        let rollout = config::Rollout {
            strategy: Strategy {
                waves: ["1", "3"].map(|size| size.parse().unwrap()).to_vec(),
                retries: 0,
                ..Strategy::default()
            },
            gather: Duration::from_millis(20),
            install_timeout: Duration::from_secs(300),
            windows: config::Windows::default(),
            sources: Vec::new(),
            from_central: config::FromCentral::default(),
            delivery: config::Delivery::default(),
        };
        let package = PackageName::new("org.example.agent");
        let configured =
            config::Agent { apk: None, package, signers: vec![KEY_A.into()], upkeep: config::Upkeep::default() };
        let agent = RackAgent { configured, checked: None };
        let (commands, commands_in) = mpsc::channel(16);
        let (requests, requests_in) = mpsc::channel(16);
        let (events_out, events) = mpsc::channel(64);
        let cancel = CancellationToken::new();
        let fetcher = Fetcher::new(dir.join("apks"), Vec::new()).unwrap();
        let promises = store.load_rollouts().await.unwrap();
        let channels = Channels { commands: commands_in, requests: requests_in, events: events_out };
        let actor = spawn(rollout, Some(agent), fetcher, store, promises, channels, cancel.clone());
        Self { commands, requests, events, before: VecDeque::new(), cancel, actor, _state: state }
    }

    async fn stop(self) {
        self.cancel.cancel();
        self.actor.await.unwrap();
    }

    async fn command(&self, command: RolloutCommand) {
        self.commands.send(command).await.unwrap();
    }

    async fn available(&self, phone: &str, version: u64) {
        let version_code = Some(VersionCode(version));
        let (battery_percent, temperature_celsius, free_mib) = (Some(80), Some(25), Some(9000));
        let readings = Readings { battery_percent, temperature_celsius, free_mib };
        let candidate = Box::new(Candidate { readings, ..Candidate::default() });
        self.command(RolloutCommand::Known { phone: PhoneId::new(phone), candidate }).await;
        self.command(RolloutCommand::Available { phone: PhoneId::new(phone), version_code }).await;
    }

    async fn offer(&self, phone: &str, message_id: i64, url: &str) {
        let notice = UpgradeNotice {
            message_id,
            package: PackageName::new("org.example.agent"),
            version_code: VersionCode(2),
            version_name: "2.0".into(),
            url: url.into(),
        };
        self.command(RolloutCommand::Offered { phone: PhoneId::new(phone), notice }).await;
    }

    /// What comes before the answer is kept for [`Self::next`].
    async fn ask(&mut self, request: Request) -> Result<Done, Refusal> {
        let mut before = std::mem::take(&mut self.before);
        self.requests.send((request, Ask(7))).await.unwrap();
        let result = loop {
            match self.next().await {
                RolloutEvent::Answer { ask, result } => {
                    assert_eq!(ask, Ask(7));
                    break result;
                }
                event => before.push_back(event),
            }
        };
        self.before = before;
        result
    }

    async fn next(&mut self) -> RolloutEvent {
        if let Some(event) = self.before.pop_front() {
            return event;
        }
        tokio::time::timeout(PATIENCE, self.events.recv()).await.expect("an event in time").unwrap()
    }

    /// The newest rollout, once it is in this state.
    async fn until(&mut self, state: RolloutState) -> RolloutView {
        loop {
            if let RolloutEvent::Views(views) = self.next().await
                && let Some(view) = views.into_iter().next().filter(|view| view.state == state)
            {
                return view;
            }
        }
    }

    async fn install(&mut self) -> (PhoneId, InstallOrder) {
        loop {
            if let RolloutEvent::Install { phone, order } = self.next().await {
                return (phone, order);
            }
        }
    }

    async fn installed(&self, phone: &str, result: Result<u64, InstallFailure>) {
        let (phone, rollout) = (PhoneId::new(phone), RolloutId::new("R1"));
        self.command(RolloutCommand::Installed { phone, rollout, result: result.map(VersionCode) }).await;
    }
}

fn apks() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("firmware-tools/apks")
}

/// Serves a test APK once.
async fn serve(apk: &str) -> String {
    let body = std::fs::read(apks().join(apk)).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/{apk}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut connection, _) = listener.accept().await.unwrap();
        let mut request = [0; 4096];
        assert!(connection.read(&mut request).await.unwrap() > 0);
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
        connection.write_all(head.as_bytes()).await.unwrap();
        connection.write_all(&body).await.unwrap();
    });
    url
}

/// How many APKs are in the state directory.
fn kept(state: &Path) -> usize {
    let apks = std::fs::read_dir(state.join("apks")).unwrap();
    apks.filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|kind| kind == "apk")).count()
}

fn approve() -> Request {
    Request::RolloutApprove { rollout: RolloutId::new("R1") }
}

#[tokio::test]
async fn a_rollout_survives_a_restart_in_the_middle() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("given.apk");
    std::fs::copy(apks().join("agent-2.apk"), &file).unwrap();
    let mut rig = Rig::start(dir.path()).await;
    let phones = ["P1", "P2", "P3"];
    for phone in phones {
        rig.available(phone, 1).await;
    }
    let start = Request::RolloutStart(RolloutOrder {
        apk: file.clone(),
        package: None,
        choice: Choice::of(phones.map(PhoneId::new).to_vec()),
        strategy: StrategyChanges::default(),
    });
    // Commands and requests come by two ways: the phones may not be known yet.
    while let Err(refused) = rig.ask(start.clone()).await {
        assert_eq!(refused.code, "rollout.phone_unknown");
    }
    let view = rig.until(RolloutState::WaitingApproval).await;
    assert_eq!(view.waves.iter().map(|wave| wave.phones.len()).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(rig.ask(approve()).await.unwrap().what, "R1 is approved for 3 phones");
    let shown = rig.before.iter().any(|event| match event {
        RolloutEvent::Views(views) => views.iter().any(|view| view.state == RolloutState::Running),
        _ => false,
    });
    assert!(shown, "whoever has the answer sees what it says: {:?}", rig.before);
    let (phone, order) = rig.install().await;
    assert_eq!(phone.as_str(), "P1");
    assert_eq!(std::fs::read(&order.apk).unwrap(), std::fs::read(apks().join("agent-2.apk")).unwrap());
    rig.installed("P1", Ok(2)).await;
    assert_eq!(rig.install().await.0.as_str(), "P2");
    rig.stop().await;

    // The file is gone: the APK must be the one that was kept.
    std::fs::remove_file(file).unwrap();
    let mut rig = Rig::start(dir.path()).await;
    for (phone, version) in [("P1", 2), ("P2", 2), ("P3", 1)] {
        rig.available(phone, version).await;
    }
    assert_eq!(rig.install().await.0.as_str(), "P3");
    rig.installed("P3", Ok(2)).await;
    let view = rig.until(RolloutState::Finished).await;
    assert_eq!(view.waves[1].phones[1].attempts, 2, "P3 was under way when the daemon ended");
    rig.stop().await;
}

#[tokio::test]
async fn a_failure_is_told_to_the_server_and_resume_tries_again() {
    let dir = tempfile::tempdir().unwrap();
    let url = serve("agent-2.apk").await;
    let mut rig = Rig::start(dir.path()).await;
    rig.available("P1", 1).await;
    rig.offer("P1", 41, &url).await;
    rig.until(RolloutState::WaitingApproval).await;
    rig.ask(approve()).await.unwrap();
    rig.install().await;
    let failure = InstallFailure { class: InstallFailureClass::Transient, reason: None, why: "no space".into() };
    rig.installed("P1", Err(failure)).await;
    loop {
        if let RolloutEvent::ReportFailure { message_id, why, .. } = rig.next().await {
            assert_eq!((message_id, why.as_str()), (41, "no space"));
            break;
        }
    }
    assert_eq!(rig.until(RolloutState::Paused).await.why, "P1 failed: no space");
    rig.ask(Request::RolloutResume { rollout: RolloutId::new("R1") }).await.unwrap();
    rig.install().await;
    rig.installed("P1", Ok(2)).await;
    rig.until(RolloutState::Finished).await;
    rig.stop().await;
}

#[tokio::test]
async fn an_apk_of_another_key_never_reaches_a_phone() {
    let dir = tempfile::tempdir().unwrap();
    let url = serve("agent-2-other-key.apk").await;
    let mut rig = Rig::start(dir.path()).await;
    rig.available("P1", 1).await;
    rig.offer("P1", 1, &url).await;
    let view = rig.until(RolloutState::Aborted).await;
    assert!(view.why.starts_with(&format!("{url} is refused: it is signed by aedc91c8")), "{}", view.why);
    assert_eq!(kept(dir.path()), 0, "what was refused takes no room");
    rig.stop().await;
}

#[tokio::test]
async fn the_operators_apk_is_checked_before_there_is_a_rollout() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(dir.path()).await;
    let start = |apk: &str| {
        Request::RolloutStart(RolloutOrder {
            apk: apks().join(apk),
            package: None,
            choice: Choice::of(Vec::new()),
            strategy: StrategyChanges::default(),
        })
    };
    assert_eq!(rig.ask(start("agent-2.apk")).await.unwrap_err().code, "rollout.no_phone");
    rig.available("P1", 2).await;
    // Commands and requests come by two ways: the phone may not be known yet.
    let downgrade = loop {
        let refused = rig.ask(start("agent-1.apk")).await.unwrap_err();
        if refused.code != "rollout.no_phone" {
            break refused;
        }
    };
    assert_eq!(downgrade.code, "apk.downgrade");
    assert!(downgrade.what.ends_with("agent-1.apk is refused: it is version 1, a downgrade from version 2"));
    let cut = rig.ask(start("agent-2-truncated.apk")).await.unwrap_err();
    assert_eq!(cut.code, "apk.archive");
    assert!(cut.what.contains("agent-2-truncated.apk is refused"), "{}", cut.what);
    let done = rig.ask(start("agent-3.apk")).await.unwrap();
    assert_eq!(done.rollout.unwrap().as_str(), "R1");
    rig.until(RolloutState::WaitingApproval).await;
    assert_eq!(kept(dir.path()), 1, "only the good one");
    rig.ask(start("agent-1.apk")).await.unwrap_err();
    assert_eq!(kept(dir.path()), 1);
    rig.stop().await;
}

#[tokio::test]
async fn an_actor_that_breaks_begins_anew_from_the_store_and_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(dir.path()).await;
    let start = Request::RolloutStart(RolloutOrder {
        apk: apks().join("agent-2.apk"),
        package: None,
        choice: Choice::of(Vec::new()),
        strategy: StrategyChanges::default(),
    });
    rig.available("P1", 1).await;
    while rig.ask(start.clone()).await.is_err() {}
    rig.command(RolloutCommand::Unavailable { phone: PhoneId::new("BREAKS-US"), why: "a fault".into() }).await;
    let mut told = Vec::new();
    while told.last() != Some(&RolloutEvent::Restarted) {
        told.push(rig.next().await);
    }
    let why = "the rollouts broke and begin anew: a fault".to_owned();
    assert!(told.contains(&RolloutEvent::Trouble(Some(why))), "{told:?}");
    assert_eq!(rig.until(RolloutState::WaitingApproval).await.id.as_str(), "R1");
    assert_eq!(rig.ask(approve()).await.unwrap().what, "R1 is approved for 1 phone");
    rig.available("P1", 1).await;
    rig.install().await;
    rig.stop().await;
}

#[tokio::test]
async fn rollouts_that_cannot_promise_say_so_until_they_can() {
    let dir = tempfile::tempdir().unwrap();
    let mut rig = Rig::start(dir.path()).await;
    let db = rusqlite::Connection::open(dir.path().join("promises.db")).unwrap();
    db.execute_batch("ALTER TABLE rollout RENAME TO rollout_elsewhere").unwrap();
    rig.available("P1", 1).await;
    rig.offer("P1", 41, "http://127.0.0.1:9/agent.apk").await;
    let is_trouble = |event: &RolloutEvent| matches!(event, RolloutEvent::Trouble(Some(_)));
    while !is_trouble(&rig.next().await) {}
    db.execute_batch("ALTER TABLE rollout_elsewhere RENAME TO rollout").unwrap();
    while rig.next().await != RolloutEvent::Trouble(None) {}
    rig.stop().await;
}
