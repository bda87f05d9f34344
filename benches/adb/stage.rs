//! The stage for TCP: Google's adbd, farmhand's daemon, and the servers of Google's adb 29 and 34, on a loopback of their own.

#![allow(dead_code, reason = "each bench has its own race")]

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, unshare};
use tempfile::TempDir;

use crate::race::{Contender, Race, Sizes};

/// Where adbd listens.
pub(crate) const ADBD: &str = "127.0.0.1:5555";
pub(crate) const PHONE: &str = "A1";
/// Where farmhand's adb server listens.
pub(crate) const FARMHAND_PORT: u16 = 5040;
/// Past this there is nothing to measure.
const PATIENCE: Duration = Duration::from_secs(60);

/// What adbd's shell has of Android: enough for a phone that is ready.
const ANDROID: &[(&str, &str)] = &[
    (
        "getprop",
        "#!/bin/sh\n\
         if [ $# -gt 0 ]; then echo bench; exit; fi\n\
         for pair in sys.boot_completed=1 ro.serialno=BENCH1 ro.product.model=bench ro.build.version.sdk=34; do\n\
           echo \"[${pair%%=*}]: [${pair#*=}]\"\n\
         done\n",
    ),
    ("dumpsys", "#!/bin/sh\ntrue\n"),
    ("service", "#!/bin/sh\ntrue\n"),
];

/// Leaves the machine's network for one that has a loopback only: adbd listens everywhere and asks nobody.
pub(crate) fn leave_the_network() -> io::Result<()> {
    // Fetching needs the network that is left.
    start_script()?;
    unshare(CloneFlags::CLONE_NEWNET).map_err(|error| io::Error::other(format!("run as root: {error}")))?;
    let up = Command::new("ip").args(["link", "set", "lo", "up"]).status()?;
    if up.success() { Ok(()) } else { Err(io::Error::other("the loopback interface can't be set up")) }
}

fn start_script() -> io::Result<PathBuf> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/firmware-tools/fetch-adbd.sh");
    let output = Command::new(script).stderr(Stdio::inherit()).output()?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().into())
}

/// The command line of the crate adb_client, made once.
pub(crate) fn adb_client() -> io::Result<PathBuf> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/make-adb-client.sh");
    let output = Command::new(script).stderr(Stdio::inherit()).output()?;
    if !output.status.success() {
        return Err(io::Error::other("adb_cli could not be built"));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().into())
}

/// All who play; they end with it.
pub(crate) struct Stage {
    dir: TempDir,
    /// The crate adb_client, where it plays, too.
    pub(crate) adb_client: Option<PathBuf>,
    servers: Vec<Child>,
    contenders: Vec<(String, PathBuf, u16, u32)>,
    adbd: u32,
    daemon: u32,
}

impl Drop for Stage {
    fn drop(&mut self) {
        for server in &mut self.servers {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

impl Stage {
    pub(crate) fn set() -> io::Result<Self> {
        // In memory: what is measured is no disk.
        let dir = tempfile::Builder::new().prefix("farmhand-bench").tempdir_in("/dev/shm")?;
        let mut stage = Self { dir, adb_client: None, servers: Vec::new(), contenders: Vec::new(), adbd: 0, daemon: 0 };
        stage.start_adbd()?;
        stage.start_daemon()?;
        let adb34 = start_script()?.with_file_name("start-adb");
        for (name, program, port) in [("adb29", PathBuf::from("adb"), 5038), ("adb34", adb34, 5039)] {
            stage.start_adb(name, &program, port)?;
        }
        Ok(stage)
    }

    pub(crate) fn race(&self) -> Race {
        let program = Path::new(env!("CARGO_BIN_EXE_farmhand"));
        let mut contenders = vec![Contender::farmhand(program, &self.path("state"), PHONE, self.daemon)];
        for (name, program, port, pid) in &self.contenders {
            let adb = Contender::adb(name, program, *port, ADBD, *pid);
            // The older one has no such flag, and never compresses.
            let uncompressed = (name == "adb34").then(|| adb.uncompressed());
            contenders.push(adb);
            contenders.extend(uncompressed);
        }
        contenders.extend(self.adb_client.as_ref().map(|program| Contender::adb_client(program, ADBD)));
        Race { bus: "tcp".to_owned(), contenders, dir: self.dir.path().to_owned(), sizes: Sizes::TCP }
    }

    /// The same client, of Google's adb 34, before farmhand's server and before Google's own.
    pub(crate) fn servers_race(&self) -> io::Result<Race> {
        let (_, adb34, port, pid) = self.adb34()?;
        let contenders = vec![
            Contender::adb("farmhand's server", adb34, FARMHAND_PORT, PHONE, self.daemon).with_adbd(self.adbd),
            Contender::adb("google's server 34", adb34, *port, ADBD, *pid).with_adbd(self.adbd),
        ];
        Ok(Race { bus: "tcp".to_owned(), contenders, dir: self.dir.path().to_owned(), sizes: Sizes::TCP })
    }

    /// Google's adb 34, and the port of its server.
    pub(crate) fn google(&self) -> io::Result<(&Path, u16)> {
        let (_, program, port, _) = self.adb34()?;
        Ok((program, *port))
    }

    fn adb34(&self) -> io::Result<&(String, PathBuf, u16, u32)> {
        let found = self.contenders.iter().find(|(name, ..)| name == "adb34");
        found.ok_or_else(|| io::Error::other("adb 34 is not there"))
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn start(&mut self, command: &mut Command) -> io::Result<u32> {
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?;
        let id = child.id();
        self.servers.push(child);
        Ok(id)
    }

    fn start_adbd(&mut self) -> io::Result<()> {
        let bin = self.path("android");
        fs::create_dir(&bin)?;
        for (name, script) in ANDROID {
            fs::write(bin.join(name), script)?;
            fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755))?;
        }
        let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
        let mut adbd = Command::new(start_script()?);
        self.adbd = self.start(adbd.env("PATH", path).env("ADBD_PORT", "5555").stderr(Stdio::null()))?;
        until("adbd listens", || std::net::TcpStream::connect(ADBD).is_ok())
    }

    fn start_daemon(&mut self) -> io::Result<()> {
        let (config, state) = (self.path("farmhand.toml"), self.path("state"));
        let slot = format!(
            "[usb]\nscan = false\n[web]\nlisten = \"off\"\n[adb_server]\nlisten = \"127.0.0.1:{FARMHAND_PORT}\"\n[[slot]]\nname = \"{PHONE}\"\nendpoint = \"tcp:{ADBD}\"\n"
        );
        fs::write(&config, slot)?;
        let program = env!("CARGO_BIN_EXE_farmhand");
        let log = fs::File::create(crate::report::target().join("bench-adb-daemon.log"))?;
        let mut daemon = Command::new(program);
        daemon.arg("run").arg("--config").arg(&config).arg("--state").arg(&state).stderr(log);
        self.daemon = self.start(&mut daemon)?;
        let mut shell = Command::new(program);
        shell
            .arg("--state")
            .arg(&state)
            .args(["phone", PHONE, "shell", "true"])
            .stdin(Stdio::null())
            .stderr(Stdio::null());
        until("the daemon has its phone", || shell.status().is_ok_and(|status| status.success()))
    }

    fn start_adb(&mut self, name: &str, program: &Path, port: u16) -> io::Result<()> {
        let mut server = Command::new(program);
        let home = self.path(name);
        fs::create_dir(&home)?;
        server.args(["-L", &format!("tcp:{port}"), "server", "nodaemon"]).env("HOME", &home).stderr(Stdio::null());
        let pid = self.start(&mut server)?;
        until("the adb server listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok())?;
        let port_text = port.to_string();
        until("adb has its phone", || {
            let adb = |arguments: &[&str]| {
                Command::new(program).args(["-P", &port_text]).args(arguments).stdin(Stdio::null()).output()
            };
            let _ = adb(&["connect", ADBD]);
            adb(&["-s", ADBD, "shell", "true"]).is_ok_and(|output| output.status.success())
        })?;
        self.contenders.push((name.to_owned(), program.to_owned(), port, pid));
        Ok(())
    }
}

pub(crate) fn until(what: &str, mut there: impl FnMut() -> bool) -> io::Result<()> {
    let begun = Instant::now();
    while !there() {
        if begun.elapsed() > PATIENCE {
            return Err(io::Error::other(format!("waited {PATIENCE:?}: {what}")));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}
