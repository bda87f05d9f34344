//! Sixteen virtual phones, and daemons on them, one after the other.

use std::fs::File;
use std::io::{BufRead, BufReader, PipeReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use farmhand::rack::snapshot::{PhoneState, PhoneView, RolloutPhoneState, RolloutView};
use firmware_tools::phone::{PhoneSpec, VirtualPhone};
use firmware_tools::rack::test_apks;
use tempfile::TempDir;
use tokio::runtime::Runtime;

pub(crate) const PACKAGE: &str = "org.example.agent";
pub(crate) const PHONES: usize = 16;
/// The signer of the test APKs.
const SIGNER: &str = "1f3459901dc294cd0daefe7eb300273362911beaeb3884637ed22e65d83aaba6";
/// From the start of a daemon until all phones are ready.
const READY: Duration = Duration::from_secs(60);

/// Phones with version 1, a configuration, and the state of the daemons.
pub(crate) struct Farm {
    pub(crate) phones: Vec<VirtualPhone>,
    dir: TempDir,
    _runtime: Runtime,
}

impl Farm {
    pub(crate) fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let dir = tempfile::tempdir().unwrap();
        let phone = |number: usize| {
            let packages = vec![test_apks().join("agent-1.apk")];
            let spec = PhoneSpec {
                packages,
                debuggable: true,
                ..PhoneSpec::new(format!("P{number}"), format!("PROOF{number:02}"))
            };
            VirtualPhone::start(spec).unwrap()
        };
        let phones = {
            let _entered = runtime.enter();
            (1..=PHONES).map(phone).collect::<Vec<_>>()
        };
        let farm = Self { phones, dir, _runtime: runtime };
        farm.configure();
        farm
    }

    fn configure(&self) {
        let slots: String = (1..)
            .zip(&self.phones)
            .map(|(number, phone)| format!("[[slot]]\nname = \"A{number}\"\nendpoint = \"tcp:{}\"\n", phone.address()))
            .collect();
        let text = format!(
            "[agent]\npackage = \"{PACKAGE}\"\nsigners = [\"{SIGNER}\"]\napk = \"{}\"\n[rollout]\nwaves = [1, 5, 10]\napprove = \"none\"\nfrom_central = \"auto\"\n\
             at_once = 6\n[web]\nlisten = \"off\"\n[usb]\nscan = false\n{slots}",
            test_apks().join("agent-1.apk").display()
        );
        std::fs::write(self.config(), text).unwrap();
    }

    fn config(&self) -> PathBuf {
        self.dir.path().join("farmhand.toml")
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// Starts a daemon on the state that the one before has left; it dies at this place, the so-manieth time.
    pub(crate) fn start(&self, kill_at: Option<(&str, u32)>) -> Daemon {
        let log = File::options().create(true).append(true).open(self.dir.path().join("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_farmhand"));
        command.args(["run", "--config"]).arg(self.config()).arg("--state").arg(self.state());
        let (said, says) = std::io::pipe().unwrap();
        command.stdin(Stdio::null()).stdout(says.try_clone().unwrap()).stderr(says);
        if let Some((place, nth)) = kill_at {
            command.env("FARMHAND_KILL_AT", format!("{place}:{nth}"));
        }
        let (news, heard) = channel();
        let socket = self.state().join("farmhand.sock");
        let child = command.spawn().unwrap();
        // Else the pipe would stay open when the daemon dies.
        drop(command);
        std::thread::spawn(move || listen(said, log, &socket, &news));
        Daemon { child, state: self.state(), heard, is_silent: false }
    }
}

/// Copies what a daemon says into the log, and tells of each line; from when it answers on its socket on also of each of its events. Ends
/// with the daemon.
fn listen(said: PipeReader, mut log: File, socket: &Path, news: &Sender<()>) {
    let mut hears_events = false;
    for line in BufReader::new(said).lines().map_while(Result::ok) {
        let _ = writeln!(log, "{line}");
        let events = if hears_events { None } else { UnixStream::connect(socket).ok() };
        if let Some(mut events) = events
            && events.write_all(b"GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n").is_ok()
        {
            hears_events = true;
            let news = news.clone();
            std::thread::spawn(move || {
                for _ in BufReader::new(events).lines().map_while(Result::ok) {
                    let _ = news.send(());
                }
            });
        }
        let _ = news.send(());
    }
}

/// A daemon that runs, or has died.
pub(crate) struct Daemon {
    child: Child,
    state: PathBuf,
    /// Something has happened to it.
    heard: Receiver<()>,
    /// Nothing will be heard of it any more.
    is_silent: bool,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Daemon {
    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    fn has_died(&mut self) -> bool {
        if self.is_silent {
            // Its pipes are closed: it ends now, if it has not.
            self.child.wait().unwrap();
        }
        self.child.try_wait().unwrap().is_some()
    }

    /// Whether something comes true in time; looked at each time that the daemon has news.
    fn comes_true(&mut self, limit: Duration, mut is_true: impl FnMut(&mut Self) -> bool) -> bool {
        let until = Instant::now() + limit;
        loop {
            if is_true(self) {
                return true;
            }
            match self.heard.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(()) => while self.heard.try_recv().is_ok() {},
                Err(RecvTimeoutError::Timeout) => return is_true(self),
                Err(RecvTimeoutError::Disconnected) => {
                    self.is_silent = true;
                    return is_true(self);
                }
            }
        }
    }

    pub(crate) fn died_within(&mut self, limit: Duration) -> bool {
        self.comes_true(limit, Self::has_died)
    }

    /// Whether it died before the rollout had ended, in which case the place was never come by.
    pub(crate) fn died_or_ended(&mut self, limit: Duration) -> bool {
        self.comes_true(limit, |daemon| daemon.has_died() || daemon.is_finished())
            && self.died_within(Duration::from_millis(200))
    }

    fn is_finished(&self) -> bool {
        let rollouts: Option<Vec<RolloutView>> = ask(&self.state, &["rollout", "list", "--json"]);
        rollouts.is_some_and(|rollouts| rollouts.first().is_some_and(|rollout| rollout.state.is_over()))
    }

    pub(crate) fn is_ready(&mut self, farm: &Farm) -> bool {
        self.comes_true(READY, |daemon| {
            let phones: Vec<PhoneView> = ask(&daemon.state, &["phones", "--json"]).unwrap_or_default();
            let ready = phones.iter().filter(|phone| phone.state == PhoneState::Ready).count();
            daemon.has_died() || ready == farm.phones.len()
        }) && !self.has_died()
    }

    /// Waits until every phone is ready.
    pub(crate) fn ready(&mut self, farm: &Farm) {
        let is_ready = |daemon: &mut Self| {
            let phones: Vec<PhoneView> = ask(&daemon.state, &["phones", "--json"]).unwrap_or_default();
            // One that is being installed on by the rollout that goes on has been ready.
            let is_there = |phone: &&PhoneView| matches!(phone.state, PhoneState::Ready | PhoneState::Provisioning);
            phones.iter().filter(is_there).count() == farm.phones.len()
        };
        assert!(self.comes_true(READY, is_ready), "the phones are not ready; {}", log(farm));
    }

    pub(crate) fn rollouts(&self) -> usize {
        ask::<Vec<RolloutView>>(&self.state, &["rollout", "list", "--json"]).expect("the daemon answers").len()
    }

    /// Orders the rollout; the answer may never come.
    pub(crate) fn begin_order(&self, _farm: &Farm) -> Order {
        Order(start(&self.state).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    /// Orders the way back; the answer may never come.
    pub(crate) fn begin_rollback(&self) -> Order {
        let mut command = Command::new(env!("CARGO_BIN_EXE_farmhand"));
        command.arg("--state").arg(&self.state).args(["rollout", "rollback", "R1", "--reason", "a bad build"]);
        Order(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }

    pub(crate) fn order(&self, farm: &Farm) {
        let said = start(&self.state).output().unwrap();
        assert!(said.status.success(), "{said:?}; {}", log(farm));
    }

    /// Waits for the end of a rollout, with the exit code for scripts.
    pub(crate) fn wait(&self, rollout: &str) -> i32 {
        farmhand(&self.state, &["rollout", "show", rollout, "--wait", "--timeout", "2m"]).status.code().unwrap_or(-1)
    }

    pub(crate) fn show(&self, rollout: &str) -> String {
        let said = farmhand(&self.state, &["rollout", "show", rollout]);
        String::from_utf8_lossy(&said.stdout).into_owned()
    }

    /// The phones of a rollout that are in a state, each counted once.
    pub(crate) fn rows(&self, rollout: &str, state: RolloutPhoneState) -> usize {
        let view: RolloutView = ask(&self.state, &["rollout", "show", rollout, "--json"]).expect("the daemon answers");
        let rows = view.waves.iter().flat_map(|wave| &wave.phones).filter(|phone| phone.state == state);
        rows.map(|phone| &phone.phone).collect::<std::collections::BTreeSet<_>>().len()
    }
}

/// An order that was given.
pub(crate) struct Order(Child);

impl Order {
    /// Its answer does not matter any more.
    pub(crate) fn end(mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(state: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_farmhand"));
    command.arg("--state").arg(state).args(["rollout", "start"]).arg(test_apks().join("agent-2.apk"));
    command.stdin(Stdio::null());
    command
}

fn farmhand(state: &Path, words: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_farmhand"));
    command.arg("--state").arg(state).args(words).stdin(Stdio::null()).output().unwrap()
}

/// What a command prints as JSON; `None` while nobody answers.
fn ask<T: serde::de::DeserializeOwned>(state: &Path, words: &[&str]) -> Option<T> {
    let said = farmhand(state, words);
    if said.status.success() { serde_json::from_slice(&said.stdout).ok() } else { None }
}

/// The end of what the daemons said.
fn log(farm: &Farm) -> String {
    let text = std::fs::read_to_string(farm.dir.path().join("log")).unwrap_or_default();
    text.lines().rev().take(40).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
}
