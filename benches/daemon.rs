//! The real daemon on a virtual rack of eight phones: how soon it answers, what it holds, and how soon a phone is of use.
//!
//! The daemon is a process of its own, built as it ships; the rack lives in this one, so that its memory is not counted. The
//! two meet over TCP, a pty and MQTT, as in the demo. What the daemon logs is kept in `target/bench/daemon.log`.

#![allow(clippy::expect_used, clippy::panic, reason = "a bench that cannot measure must say so and stop")]

#[path = "report.rs"]
mod report;

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use bytes::Bytes;
use farmhand::rack::snapshot::{PhoneState, PhoneView};
use firmware_tools::cable::Hand;
use firmware_tools::ports::Addresses;
use firmware_tools::rack::{Rack, test_apks};
use firmware_tools::rack_file::RackFile;
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use report::{Goal, median, report, target};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

const RACK: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/firmware-tools/racks/demo.toml");
const STARTS: u32 = 7;
const PLUGS: u32 = 15;
/// How long the rack is left alone before the daemon's memory is read.
const IDLE: Duration = Duration::from_secs(60);
/// A phone stays away for so long, and for up to a second more: it comes at any moment of the daemon's own rhythm.
const AWAY: Duration = Duration::from_secs(1);
/// Between two looks at the API; short against every goal, long enough to leave the processor to the daemon.
const LOOK_EVERY: Duration = Duration::from_millis(2);
/// Past this there is nothing to measure.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::main]
async fn main() -> io::Result<()> {
    let dir = tempfile::tempdir()?;
    let file = RackFile::read(Path::new(RACK)).expect("the demo's rack file");
    let rack = Rack::start(file, Addresses::AnyFree, &test_apks(), &dir.path().join("rack")).await.expect("a rack");
    let program = Program::new(&rack, &dir.path().join("state"))?;

    // The first start makes the key and installs the agent where it is missing: no start is like it.
    let (daemon, _) = program.start().await?;
    program.until_all_ready().await;
    stop(daemon).await?;

    let mut starts = Vec::new();
    for _ in 0..STARTS {
        let (daemon, took) = program.start().await?;
        starts.push(milliseconds(took));
        stop(daemon).await?;
    }
    report("daemon.start_ms", median(starts), "ms", Goal::AtMost(300.0))?;

    let (daemon, _) = program.start().await?;
    program.until_all_ready().await;
    sleep(IDLE).await;
    report("daemon.rss_mib_idle", resident_mib(&daemon)?, "MiB", Goal::AtMost(30.0))?;

    let plugs = plug_to_ready(&rack, &program).await?;
    report("phone.plug_to_ready_ms", median(plugs), "ms", Goal::AtMost(500.0))?;
    stop(daemon).await
}

/// Milliseconds from the plug to `ready` in the API, again and again, of a phone on which the agent is installed.
async fn plug_to_ready(rack: &Rack, program: &Program) -> io::Result<Vec<f64>> {
    let cable = rack.phone("P2").expect("the phone P2");
    let mut api = Api::connect(&program.socket).await?;
    let mut took = Vec::new();
    for plug in 0..PLUGS {
        cable.hold(Hand::Out).await?;
        api.until("A2", PhoneState::Absent).await;
        sleep(AWAY + Duration::from_secs(1) * plug / PLUGS).await;
        let plugged = Instant::now();
        cable.hold(Hand::In).await?;
        api.until("A2", PhoneState::Ready).await;
        took.push(milliseconds(plugged.elapsed()));
    }
    Ok(took)
}

/// `farmhand run` on one state directory.
struct Program {
    config: PathBuf,
    state: PathBuf,
    socket: PathBuf,
    log: PathBuf,
}

impl Program {
    fn new(rack: &Rack, state: &Path) -> io::Result<Self> {
        let log = target().join("bench/daemon.log");
        fs::create_dir_all(log.parent().unwrap_or(Path::new(".")))?;
        File::create(&log)?;
        Ok(Self { config: rack.config_file(), state: state.to_owned(), socket: state.join("farmhand.sock"), log })
    }

    /// Starts it; tells how long its socket took to answer `GET /healthz`.
    async fn start(&self) -> io::Result<(Child, Duration)> {
        let log = File::options().append(true).open(&self.log)?;
        let begin = Instant::now();
        let mut command = Command::new(env!("CARGO_BIN_EXE_farmhand"));
        command.arg("run").arg("--config").arg(&self.config).arg("--state").arg(&self.state);
        let daemon = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(true).spawn()?;
        let up = timeout(PATIENCE, async {
            while !self.is_healthy().await {
                sleep(LOOK_EVERY).await;
            }
        });
        up.await.unwrap_or_else(|_| panic!("the daemon answers within {PATIENCE:?}; see {}", self.log.display()));
        Ok((daemon, begin.elapsed()))
    }

    async fn is_healthy(&self) -> bool {
        match Api::connect(&self.socket).await {
            Ok(mut api) => api.get("/healthz").await.is_ok(),
            Err(_) => false,
        }
    }

    async fn until_all_ready(&self) {
        let mut api = Api::connect(&self.socket).await.expect("the daemon's socket");
        for slot in 1..=8 {
            api.until(&format!("A{slot}"), PhoneState::Ready).await;
        }
    }
}

/// The daemon's API on one connection.
struct Api(SendRequest<Empty<Bytes>>);

impl Api {
    async fn connect(socket: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(socket).await?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(io::Error::other)?;
        tokio::spawn(connection);
        Ok(Self(sender))
    }

    /// The body of a successful answer.
    async fn get(&mut self, path: &str) -> io::Result<Bytes> {
        let request = Request::get(path).header("host", "localhost").body(Empty::new()).map_err(io::Error::other)?;
        self.0.ready().await.map_err(io::Error::other)?;
        let answer = self.0.send_request(request).await.map_err(io::Error::other)?;
        if !answer.status().is_success() {
            return Err(io::Error::other(format!("GET {path}: {}", answer.status())));
        }
        let body = answer.into_body().collect().await.map_err(io::Error::other)?;
        Ok(body.to_bytes())
    }

    /// Waits until the phone in `slot` is `wanted`.
    async fn until(&mut self, slot: &str, wanted: PhoneState) {
        let path = format!("/api/phones/{slot}");
        let seen = timeout(PATIENCE, async {
            loop {
                let phone = self.get(&path).await.map(|body| serde_json::from_slice::<PhoneView>(&body));
                if phone.is_ok_and(|phone| phone.expect("a phone in JSON").state == wanted) {
                    return;
                }
                sleep(LOOK_EVERY).await;
            }
        });
        seen.await.unwrap_or_else(|_| panic!("the phone in {slot} is {wanted:?} within {PATIENCE:?}"));
    }
}

/// The memory of the process that is in RAM, whoever else shares it.
fn resident_mib(daemon: &Child) -> io::Result<f64> {
    let status = fs::read_to_string(format!("/proc/{}/status", daemon.id().expect("it runs")))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.strip_suffix("kB"));
    let kib: Option<f64> = line.and_then(|number| number.trim().parse().ok());
    kib.map(|kib| kib / 1024.0).ok_or_else(|| io::Error::other("/proc/PID/status has no VmRSS"))
}

async fn stop(mut daemon: Child) -> io::Result<()> {
    let id = daemon.id().and_then(|id| i32::try_from(id).ok()).expect("it runs");
    kill(Pid::from_raw(id), Signal::SIGTERM)?;
    let ended = timeout(PATIENCE, daemon.wait()).await;
    ended.unwrap_or_else(|_| panic!("the daemon ends within {PATIENCE:?}")).map(drop)
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}
