//! Virtual phones, a central server, and daemons on them, one after the other.

use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use farmhand::rack::snapshot::LineView;
use firmware_tools::central::{CentralServer, CentralSpec};
use firmware_tools::phone::{PhoneSpec, VirtualPhone};
use firmware_tools::rack_file::{Allow, CentralAck};
use tempfile::TempDir;

/// Everything but the daemon.
pub(crate) struct Site {
    pub(crate) phones: Vec<Arc<VirtualPhone>>,
    pub(crate) centre: CentralServer,
    dir: TempDir,
}

/// What a phone registers as: its serial.
pub(crate) fn credential(phone: usize) -> String {
    format!("OUTAGE{phone:03}")
}

impl Site {
    /// The server is away.
    pub(crate) async fn open(ack: CentralAck, phones: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let spec = CentralSpec {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            silence_max: Duration::from_secs(180),
            allow: Allow::Device,
            fault: None,
            ack,
            capture: Some(dir.path().join("capture")),
            tls: None,
        };
        let centre = CentralServer::start(spec).await.unwrap();
        centre.stop().await;
        let start = |phone| VirtualPhone::start(PhoneSpec::new(format!("A{phone}"), credential(phone))).unwrap();
        let phones: Vec<_> = (0..phones).map(|phone| Arc::new(start(phone))).collect();
        let slots: String = phones
            .iter()
            .enumerate()
            .map(|(number, phone)| format!("[[slot]]\nname = \"A{number}\"\nendpoint = \"tcp:{}\"\n", phone.address()))
            .collect();
        let text = format!(
            "[central]\nserver = \"{}\"\nmode = \"relay\"\n[central.identity]\ncredential = \"serial\"\n\
             [central.outbox]\nper_second = 1000\n[web]\nlisten = \"off\"\n[usb]\nscan = false\n{slots}",
            centre.address()
        );
        std::fs::write(dir.path().join("farmhand.toml"), text).unwrap();
        Self { phones, centre, dir }
    }

    pub(crate) fn capture(&self) -> PathBuf {
        self.dir.path().join("capture")
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    /// Starts a daemon on the state that the one before has left.
    pub(crate) fn start(&self) -> Daemon {
        self.run(Command::new(env!("CARGO_BIN_EXE_farmhand")))
    }

    /// Starts a daemon whose state is on a disk of so many bytes, which only it and its children see and which goes with it.
    pub(crate) fn start_on_disk_of(&self, bytes: u64) -> Daemon {
        std::fs::create_dir_all(self.state()).unwrap();
        let mount = format!("mount -t tmpfs -o size={bytes},mode=0700 farmhand \"$1\" && shift && exec \"$@\"");
        let mut command = Command::new("unshare");
        // Root may mount without a user namespace, which some hosts forbid.
        if !nix::unistd::geteuid().is_root() {
            command.arg("--map-root-user");
        }
        command.args(["--mount", "sh", "-c", &mount, "sh"]).arg(self.state());
        command.arg(env!("CARGO_BIN_EXE_farmhand"));
        self.run(command)
    }

    fn run(&self, mut command: Command) -> Daemon {
        let log = File::options().create(true).append(true).open(self.dir.path().join("log")).unwrap();
        command.args(["run", "--config"]).arg(self.dir.path().join("farmhand.toml")).arg("--state").arg(self.state());
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        Daemon(command.spawn().unwrap())
    }

    /// How many files of the daemon say this.
    pub(crate) fn files_that_say(&self, secret: &str) -> usize {
        let files =
            std::fs::read_dir(self.state()).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
        let says = |path: &PathBuf| {
            let bytes = std::fs::read(path).unwrap_or_default();
            bytes.windows(secret.len()).any(|window| window == secret.as_bytes())
        };
        files.filter(says).count()
    }

    /// What the outbox takes on the disk.
    pub(crate) fn outbox_bytes(&self) -> u64 {
        let len = |name: &str| std::fs::metadata(self.state().join(name)).map_or(0, |meta| meta.len());
        len("outbox.db") + len("outbox.db-wal")
    }

    /// What `farmhand line` says waits.
    ///
    /// # Errors
    /// Something does, or nobody answers.
    pub(crate) fn waiting(&self) -> Result<(), String> {
        let lines = lines(&self.state())?;
        let waiting: u64 = lines.iter().map(|line| line.outbox.waiting).sum();
        if waiting == 0 && lines.len() == self.phones.len() { Ok(()) } else { Err(format!("{waiting} wait")) }
    }

    /// All that the daemons said.
    pub(crate) fn whole_log(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("log")).unwrap_or_default()
    }

    /// The end of what the daemons said.
    pub(crate) fn log(&self) -> String {
        let text = self.whole_log();
        text.lines().rev().take(40).collect::<Vec<_>>().into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

/// What `farmhand line` says of the daemon with this state.
///
/// # Errors
/// Nobody answers.
pub(crate) fn lines(state: &Path) -> Result<Vec<LineView>, String> {
    let mut command = Command::new(env!("CARGO_BIN_EXE_farmhand"));
    let said = command.arg("--state").arg(state).args(["line", "--json"]).output().map_err(|why| why.to_string())?;
    serde_json::from_slice(&said.stdout).map_err(|why| format!("{why}: {said:?}"))
}

/// A daemon that runs.
pub(crate) struct Daemon(Child);

impl Daemon {
    /// A path of its own, for whoever does not see its mounts.
    pub(crate) fn sees(&self, path: &Path) -> PathBuf {
        let root = PathBuf::from(format!("/proc/{}/root", self.0.id()));
        root.join(path.strip_prefix("/").expect("it is absolute"))
    }

    /// As `kill -9` does.
    pub(crate) fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
    }
}
