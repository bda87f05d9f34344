//! A whole rollout over TCP beside a shell script with Google's adb 34, and what it costs the daemon.
//!
//! The virtual phones live in this process and add no delay but the one that is asked for; daemon and adb server are processes of their
//! own. Each run has a rack of its own, on which every phone has version 1.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use farmhand::rack::snapshot::{PhoneState, PhoneView};
use firmware_tools::check::{Daemon, until};
use firmware_tools::ports::Addresses;
use firmware_tools::rack::{Rack, test_apks};
use firmware_tools::rack_file::RackFile;

use crate::report::{Goal, median, report};
use crate::{PACKAGE, large};

/// Who signed the test APKs.
const SIGNER: &str = "1f3459901dc294cd0daefe7eb300273362911beaeb3884637ed22e65d83aaba6";
/// Runs of each, in turns; the slow ones run once, they are minutes.
const ROUNDS: usize = 3;
/// An install on a phone that is slow.
const SLOW_MS: u64 = 3000;
/// Phones with which the daemon's memory begins.
const FEW: usize = 8;
/// Waves over which the APK's reads are counted.
const WAVES: u64 = 2;
/// Past this there is nothing to measure: the slow loop alone takes more than three minutes.
const PATIENCE: Duration = Duration::from_secs(900);
/// Where Google's server listens.
const ADB_PORT: u16 = 5046;

/// What is measured, by the words of the command line.
const PARTS: [&str; 4] = ["scripts", "slow", "memory", "reads"];

/// How large it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Size {
    /// Phones.
    pub(crate) phones: usize,
    /// Bytes of the APK.
    pub(crate) apk_len: usize,
}

impl Size {
    /// What the goals are for.
    pub(crate) const WHOLE: Self = Self { phones: 64, apk_len: 64 << 20 };
}

/// All figures of a rollout that really runs, or those that words name.
///
/// # Errors
/// Something could not be started, or a rollout did not end well.
#[tokio::main]
pub(crate) async fn measure(size: Size, words: &[String]) -> io::Result<()> {
    let dir = tempfile::Builder::new().prefix("farmhand-bench").tempdir_in("/dev/shm")?;
    let apk = large::signed(dir.path(), size.apk_len)?.path;
    let stage = Stage { dir: dir.path().to_owned(), apk, adb: adb34()?, size };
    let named = |part: &&str| words.iter().any(|word| word == part);
    let chosen: Vec<&str> = PARTS.into_iter().filter(named).collect();
    for part in if chosen.is_empty() { PARTS.to_vec() } else { chosen } {
        match part {
            "scripts" => stage.beside_scripts().await?,
            "slow" => stage.slow().await?,
            "memory" => stage.memory().await?,
            _ => stage.reads().await?,
        }
    }
    Ok(())
}

/// Google's adb 34, as the testbed has it.
fn adb34() -> io::Result<PathBuf> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/firmware-tools/fetch-adbd.sh");
    let output = Command::new(script).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(io::Error::other("adb 34 can't be had"));
    }
    Ok(PathBuf::from(String::from_utf8_lossy(&output.stdout).trim()).with_file_name("start-adb"))
}

struct Stage {
    dir: PathBuf,
    apk: PathBuf,
    adb: PathBuf,
    size: Size,
}

/// A shell script that installs on all phones, one of them for each line of `serials`.
const LOOP: &str =
    "while read -r serial; do $ADB -s \"$serial\" install -r \"$APK\" >/dev/null || exit 1; done <serials";
const XARGS: &str = "xargs -P16 -I{} $ADB -s {} install -r \"$APK\" >/dev/null <serials";

impl Stage {
    /// farmhand, the loop and xargs in turns.
    async fn beside_scripts(&self) -> io::Result<()> {
        let (mut ours, mut one_by_one, mut by_16) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            ours.push(self.by_farmhand(self.size.phones, None).await?.took_s);
            one_by_one.push(self.by_script(LOOP, None).await?);
            by_16.push(self.by_script(XARGS, None).await?);
        }
        let (ours, one_by_one, by_16) = (median(ours), median(one_by_one), median(by_16));
        tell(&format!("rollout over TCP: farmhand {ours:.1} s, loop {one_by_one:.1} s, xargs -P16 {by_16:.1} s"));
        report("rollout.64_tcp_vs_shell_loop", ours / one_by_one, "ratio", Goal::AtMost(0.8))?;
        report("rollout.64_tcp_vs_xargs", ours / by_16, "ratio", Goal::AtMost(0.95))
    }

    async fn slow(&self) -> io::Result<()> {
        let ours = self.by_farmhand(self.size.phones, Some(SLOW_MS)).await?.took_s;
        let one_by_one = self.by_script(LOOP, Some(SLOW_MS)).await?;
        tell(&format!("rollout to slow phones: farmhand {ours:.1} s, loop {one_by_one:.1} s"));
        report("rollout.64_slow_vs_shell_loop", ours / one_by_one, "ratio", Goal::AtMost(0.1))
    }

    /// How much more memory at its highest a rollout to all takes than one to a few.
    async fn memory(&self) -> io::Result<()> {
        let few = self.by_farmhand(FEW.min(self.size.phones), None).await?.peak_rss_mib;
        let all = self.by_farmhand(self.size.phones, None).await?.peak_rss_mib;
        tell(&format!("the daemon's memory at its highest: {few:.1} MiB with few phones, {all:.1} MiB with all"));
        report("rollout.peak_rss_delta_mib", all - few, "MiB", Goal::AtMost(16.0))
    }

    /// How often a wave reads the APK from its file: what the daemon reads between the approval and the end.
    async fn reads(&self) -> io::Result<()> {
        let field = Field::start(self, self.size.phones, None).await?;
        let daemon = self.daemon(&field).await?;
        let half = self.size.phones.div_ceil(2).to_string();
        self.start(&daemon, &["--approve", "first", "--waves", &half]).await?;
        let before = read_bytes(daemon.pid)?;
        told(&daemon.daemon, &["rollout", "approve", "R1"]).await?;
        told(&daemon.daemon, &["rollout", "show", "R1", "--wait"]).await?;
        let read = read_bytes(daemon.pid)?.saturating_sub(before);
        daemon.stop().await;
        let apk_len = fs::metadata(&self.apk)?.len();
        report("rollout.apk_reads", read as f64 / apk_len as f64 / WAVES as f64, "of a wave", Goal::AtMost(1.0))
    }

    /// From the order to the end, by the whole process of the command.
    async fn by_farmhand(&self, phones: usize, slow_ms: Option<u64>) -> io::Result<Run> {
        let field = Field::start(self, phones, slow_ms).await?;
        let daemon = self.daemon(&field).await?;
        let begun = Instant::now();
        self.start(&daemon, &["--waves", "100%", "--wait"]).await?;
        let took_s = begun.elapsed().as_secs_f64();
        let peak_rss_mib = peak_rss_mib(daemon.pid)?;
        daemon.stop().await;
        field.expect_version_2()?;
        Ok(Run { took_s, peak_rss_mib })
    }

    async fn start(&self, daemon: &Started, words: &[&str]) -> io::Result<()> {
        let apk = self.apk.display().to_string();
        told(&daemon.daemon, &[&["rollout", "start", &apk], words].concat()).await
    }

    async fn daemon(&self, field: &Field) -> io::Result<Started> {
        let (state, log) = (field.dir.path().join("state"), crate::report::target().join("bench-rollout-daemon.log"));
        let program = Path::new(env!("CARGO_BIN_EXE_farmhand"));
        let daemon = Daemon::start(program, &field.rack.config_file(), &state, &log).await.map_err(io::Error::other)?;
        let ready = until(PATIENCE, "all phones ready", async || {
            let phones: Vec<PhoneView> = daemon.ask(&["phones", "--json"]).await.map_err(|error| error.to_string())?;
            let ready = phones.iter().filter(|phone| phone.state == PhoneState::Ready).count();
            if ready == field.names.len() { Ok(()) } else { Err(format!("{ready} of {}", field.names.len())) }
        });
        ready.await.map_err(io::Error::other)?;
        let pid = fs::read_to_string(state.join("farmhand.lock"))?.trim().parse().map_err(io::Error::other)?;
        Ok(Started { daemon, pid })
    }

    /// Seconds that a script takes for all phones, with a server that has them all.
    async fn by_script(&self, script: &str, slow_ms: Option<u64>) -> io::Result<f64> {
        let field = Field::start(self, self.size.phones, slow_ms).await?;
        let home = field.dir.path().to_owned();
        let addresses: Vec<String> = field.addresses();
        fs::write(home.join("serials"), addresses.join("\n") + "\n")?;
        let (adb, apk, script) = (self.adb.clone(), self.apk.clone(), script.to_owned());
        // The phones live in this runtime: whatever blocks has a thread of its own.
        let ran = tokio::task::spawn_blocking(move || {
            let server = Server::start(&adb, &home, &addresses)?;
            let begun = Instant::now();
            let ended = server.shell(&script, &apk).status()?;
            let took = begun.elapsed().as_secs_f64();
            if ended.success() { Ok(took) } else { Err(io::Error::other(format!("{script}: {ended}"))) }
        });
        let took = ran.await??;
        field.expect_version_2()?;
        Ok(took)
    }
}

/// What one rollout took.
struct Run {
    took_s: f64,
    peak_rss_mib: f64,
}

/// A daemon and its process.
struct Started {
    daemon: Daemon,
    pid: u32,
}

impl Started {
    async fn stop(mut self) {
        self.daemon.stop().await;
    }
}

/// A rack of its own for one run.
struct Field {
    dir: tempfile::TempDir,
    rack: Rack,
    names: Vec<String>,
}

impl Field {
    async fn start(stage: &Stage, phones: usize, slow_ms: Option<u64>) -> io::Result<Self> {
        let dir = tempfile::Builder::new().prefix("rack").tempdir_in(&stage.dir)?;
        let names: Vec<String> = (1..=phones).map(|number| format!("A{number}")).collect();
        let fault = slow_ms.map(|ms| format!("faults = ['install-takes:{ms}']\n")).unwrap_or_default();
        let phone = |name: &String| format!("[[phone]]\nname = '{name}'\npackages = ['agent-1.apk']\n{fault}");
        let text: String = names.iter().map(phone).collect();
        let file = RackFile::parse(&text, "fleet.toml").map_err(io::Error::other)?;
        let rack = Rack::start(file, Addresses::AnyFree, &test_apks(), &dir.path().join("rack")).await;
        let rack = rack.map_err(io::Error::other)?;
        let written = fs::read_to_string(rack.config_file())?;
        let agent = format!("[agent]\npackage = \"{PACKAGE}\"\nsigners = [\"{SIGNER}\"]\n");
        let rollout = format!("[rollout]\napprove = \"none\"\nat_once = {phones}\nat_once_per_hub = {phones}\n");
        fs::write(rack.config_file(), format!("{}\n{agent}", written.replace("[rollout]\n", &rollout)))?;
        Ok(Self { dir, rack, names })
    }

    fn addresses(&self) -> Vec<String> {
        let phones = self.names.iter().filter_map(|name| self.rack.phone(name));
        phones.map(|cable| cable.phone().address().to_string()).collect()
    }

    /// Every phone has version 2, by one install.
    fn expect_version_2(&self) -> io::Result<()> {
        for name in &self.names {
            let state = self.rack.phone(name).map(|cable| cable.phone().state());
            let has = state.as_ref().and_then(|state| state.packages.get(PACKAGE)).map(|(code, _)| *code);
            if (has, state.map(|state| state.installs)) != (Some(2), Some(1)) {
                return Err(io::Error::other(format!("{name} has version {has:?}")));
            }
        }
        Ok(())
    }
}

/// Google's adb server, with all phones; it ends when it is dropped.
struct Server {
    adb: PathBuf,
    home: PathBuf,
    child: Child,
}

impl Server {
    fn start(adb: &Path, home: &Path, addresses: &[String]) -> io::Result<Self> {
        let mut command = Command::new(adb);
        command.args(["-L", &format!("tcp:{ADB_PORT}"), "server", "nodaemon"]).env("HOME", home).current_dir(home);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let server = Self { adb: adb.to_owned(), home: home.to_owned(), child };
        let begun = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", ADB_PORT)).is_err() {
            if begun.elapsed() > PATIENCE {
                return Err(io::Error::other("Google's adb server does not listen"));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        for address in addresses {
            server.command().args(["connect", address]).stdout(Stdio::null()).status()?;
            let there = server.command().args(["-s", address, "wait-for-device"]).status()?;
            if !there.success() {
                return Err(io::Error::other(format!("adb 34 has no {address}")));
            }
        }
        Ok(server)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.adb);
        command.args(["-P", &ADB_PORT.to_string()]).env("HOME", &self.home).stdin(Stdio::null());
        command
    }

    fn shell(&self, script: &str, apk: &Path) -> Command {
        let mut command = Command::new("sh");
        let adb = format!("{} -P {ADB_PORT}", self.adb.display());
        command.args(["-c", script]).env("ADB", adb).env("APK", apk).env("HOME", &self.home).current_dir(&self.home);
        command.stdin(Stdio::null()).stderr(Stdio::null());
        command
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command that must end well.
async fn told(daemon: &Daemon, words: &[&str]) -> io::Result<()> {
    let output = daemon.run_within(words, PATIENCE).await.map_err(io::Error::other)?;
    if output.status.success() {
        return Ok(());
    }
    let [out, err] = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes).into_owned());
    Err(io::Error::other(format!("farmhand {}: {}: {err} {out}", words.join(" "), output.status)))
}

/// The most that a process ever had in RAM.
fn peak_rss_mib(pid: u32) -> io::Result<f64> {
    let kib = number_of(&format!("/proc/{pid}/status"), "VmHWM:")?;
    Ok(kib as f64 / 1024.0)
}

/// What a process has read from files, in bytes; sockets are not in it.
fn read_bytes(pid: u32) -> io::Result<u64> {
    number_of(&format!("/proc/{pid}/io"), "rchar:")
}

fn number_of(file: &str, key: &str) -> io::Result<u64> {
    let text = fs::read_to_string(file)?;
    let value = text.lines().find_map(|line| line.strip_prefix(key)?.split_whitespace().next()?.parse().ok());
    value.ok_or_else(|| io::Error::other(format!("{file} has no {key}")))
}

#[allow(clippy::print_stdout, reason = "printing is what a bench is for")]
fn tell(what: &str) {
    println!("# {what}");
}
