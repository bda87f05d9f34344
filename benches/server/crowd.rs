//! 64 virtual phones, 64 clients that push at once, one of them killed each second: what the daemon has left of it afterwards.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use farmhand::rack::snapshot::{PhoneState, PhoneView};
use firmware_tools::check::{Daemon, until};
use firmware_tools::ports::Addresses;
use firmware_tools::rack::{Rack, test_apks};
use firmware_tools::rack_file::RackFile;

use crate::race::noise;
use crate::report::{Goal, report};

const PHONES: usize = 64;
const FILE_LEN: usize = 4 << 20;
const LASTS: Duration = Duration::from_secs(20);
const KILL_EVERY: Duration = Duration::from_secs(1);
/// A use ends half a minute after its last stream.
const PATIENCE: Duration = Duration::from_secs(120);
const PORT: u16 = 5043;

#[tokio::main]
pub(crate) async fn measure(adb: &Path) -> io::Result<()> {
    let dir = tempfile::Builder::new().prefix("farmhand-bench").tempdir_in("/dev/shm")?;
    let phone = |number: usize| format!("[[phone]]\nname = 'A{number}'\nserial = 'CROWD{number:03}'\n");
    let text: String = (1..=PHONES).map(phone).collect();
    let file = RackFile::parse(&text, "crowd.toml").map_err(io::Error::other)?;
    let (apks, state) = (test_apks(), dir.path().join("rack"));
    let rack = Rack::start(file, Addresses::AnyFree, &apks, &state);
    let rack = rack.await.map_err(io::Error::other)?;
    let config = dir.path().join("farmhand.toml");
    let written = fs::read_to_string(rack.config_file())?;
    fs::write(&config, format!("{written}\n[adb_server]\nlisten = \"127.0.0.1:{PORT}\"\n"))?;
    let program = Path::new(env!("CARGO_BIN_EXE_farmhand"));
    let (state, log) = (dir.path().join("state"), crate::report::target().join("bench-server-daemon.log"));
    let mut daemon = Daemon::start(program, &config, &state, &log).await.map_err(io::Error::other)?;
    all(&daemon, "ready", |phone| phone.state == PhoneState::Ready).await?;
    let pid = daemon_pid(&state)?;
    // The first round brings what stays: the crowd is then compared with itself.
    crowd_aside(adb, dir.path(), KILL_EVERY).await?;
    all(&daemon, "free", |phone| phone.leases.is_empty()).await?;
    let before = descriptors(pid)?;
    crowd_aside(adb, dir.path(), LASTS).await?;
    let left = all(&daemon, "free", |phone| phone.leases.is_empty()).await;
    let phones: Vec<PhoneView> = daemon.ask(&["phones", "--json"]).await.map_err(io::Error::other)?;
    let leases: usize = phones.iter().map(|phone| phone.leases.len()).sum();
    report("server.leases_left", leases as f64, "leases", Goal::AtMost(0.0))?;
    left?;
    let after = descriptors(pid)?;
    report("server.fds_delta", after as f64 - before as f64, "descriptors", Goal::AtMost(0.0))?;
    daemon.stop().await;
    Ok(())
}

/// Waits until all phones are so.
async fn all(daemon: &Daemon, what: &str, are: impl Fn(&PhoneView) -> bool) -> io::Result<()> {
    let waited = until(PATIENCE, what, async || {
        let phones: Vec<PhoneView> = daemon.ask(&["phones", "--json"]).await.map_err(|error| error.to_string())?;
        let count = phones.iter().filter(|phone| are(phone)).count();
        if count == PHONES { Ok(()) } else { Err(format!("{count} of {PHONES}")) }
    });
    waited.await.map_err(io::Error::other)
}

/// On a thread of its own: the phones live in this runtime.
async fn crowd_aside(adb: &Path, dir: &Path, lasts: Duration) -> io::Result<()> {
    let (adb, dir) = (adb.to_owned(), dir.to_owned());
    tokio::task::spawn_blocking(move || crowd(&adb, &dir, lasts)).await?
}

/// Clients that push, each to a phone of its own, again and again; one after the other is killed in the middle.
fn crowd(adb: &Path, dir: &Path, lasts: Duration) -> io::Result<()> {
    let file = dir.join("file");
    fs::write(&file, noise(FILE_LEN)?)?;
    let push = |number: usize| -> io::Result<Child> {
        let mut command = Command::new(adb);
        command
            .args(["-P", &PORT.to_string(), "-s", &format!("A{number}"), "push"])
            .arg(&file)
            .arg("/data/local/tmp/file");
        command.env("HOME", dir).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
    };
    let mut clients = (1..=PHONES).map(push).collect::<io::Result<Vec<Child>>>()?;
    let (begun, mut killed) = (Instant::now(), 0);
    while begun.elapsed() < lasts {
        if begun.elapsed() >= KILL_EVERY * (killed + 1) {
            let victim = &mut clients[killed as usize % PHONES];
            let _ = victim.kill();
            killed += 1;
        }
        for (number, client) in clients.iter_mut().enumerate() {
            if client.try_wait()?.is_some() {
                *client = push(number + 1)?;
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    clients.iter_mut().try_for_each(|client| client.wait().map(drop))
}

/// The lock's file has it.
fn daemon_pid(state: &Path) -> io::Result<u32> {
    fs::read_to_string(state.join("farmhand.lock"))?.trim().parse().map_err(io::Error::other)
}

fn descriptors(pid: u32) -> io::Result<usize> {
    Ok(fs::read_dir(format!("/proc/{pid}/fd"))?.count())
}
