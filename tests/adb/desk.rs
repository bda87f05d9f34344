//! A real daemon with virtual phones on TCP, worked with by its command line as a person does.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use farmhand::rack::snapshot::{PhoneState, PhoneView};
use firmware_tools::check::{Daemon, until};
use firmware_tools::order::{Order, PhoneAct};
use firmware_tools::phone::VirtualPhone;
use firmware_tools::ports::Addresses;
use firmware_tools::rack::{Rack, test_apks};
use firmware_tools::rack_file::RackFile;
use tempfile::TempDir;
use tokio::process::Command;
use tokio::sync::watch;
use tokio::time::timeout;

/// A phone that was in trouble is back: an answer to CNXN is waited for 10 s, then it is opened again after 1, 2 and 4 s; a busy
/// machine takes its time, too.
const BACK: Duration = Duration::from_secs(45);

/// Longer than any test with a desk.
const TEST_MAX: Duration = Duration::from_secs(300);

/// A rack and its daemon. All of it ends when it is dropped.
pub(crate) struct Desk {
    pub(crate) rack: Rack,
    pub(crate) daemon: Daemon,
    dir: TempDir,
    /// What the daemon shows, as last seen by [`Desk::look`].
    phones: watch::Sender<Vec<PhoneView>>,
}

impl Desk {
    /// Starts the rack of a rack file and its daemon, whose configuration also says what `config` does.
    pub(crate) async fn start(rack: &str, config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let file = RackFile::parse(rack, "rack.toml").unwrap();
        let rack = Rack::start(file, Addresses::AsWritten, &test_apks(), &dir.path().join("rack")).await.unwrap();
        let written = fs::read_to_string(rack.config_file()).unwrap();
        fs::write(rack.config_file(), format!("{written}\n{config}")).unwrap();
        let state = dir.path().join("state");
        fs::create_dir(&state).unwrap();
        // Making a key takes seconds without optimisation.
        let keys = Path::new(env!("CARGO_MANIFEST_DIR")).join("firmware-tools/handset/tests/keys");
        for name in ["adbkey", "adbkey.pub"] {
            fs::copy(keys.join(name), state.join(name)).unwrap();
        }
        let program = Path::new(env!("CARGO_BIN_EXE_farmhand"));
        let daemon = Daemon::start(program, &rack.config_file(), &state, &dir.path().join("log")).await.unwrap();
        Self { rack, daemon, dir, phones: watch::Sender::default() }
    }

    /// Does `work` while somebody looks at what the daemon shows.
    pub(crate) async fn look<T>(&self, work: impl Future<Output = T>) -> T {
        let looking = until(TEST_MAX, "the work to end", async || -> Result<(), String> {
            let phones = self.daemon.ask(&["phones", "--json"]).await.map_err(|error| error.to_string())?;
            self.phones.send_replace(phones);
            Err("it goes on".to_owned())
        });
        tokio::select! {
            done = work => done,
            missed = looking => panic!("{missed:?}"),
        }
    }

    /// The phone as soon as it is shown so. Only within [`Desk::look`].
    pub(crate) async fn seen(&self, slot: &str, so: impl Fn(&PhoneView) -> bool) -> Result<PhoneView, String> {
        let of = |phones: &[PhoneView]| {
            phones.iter().find(|phone| phone.slot.as_ref().is_some_and(|name| name.as_str() == slot)).cloned()
        };
        let mut phones = self.phones.subscribe();
        let waiting = phones.wait_for(|phones| of(phones).is_some_and(|phone| so(&phone)));
        if let Ok(Ok(phones)) = timeout(BACK, waiting).await {
            return of(&phones).ok_or_else(|| format!("{slot} is nowhere"));
        }
        match of(&self.phones.borrow()) {
            Some(phone) => Err(format!("{slot} is shown as {:?}: {}", phone.state, phone.why)),
            None => Err(format!("{slot} is not shown")),
        }
    }

    /// The phone as soon as it is ready.
    pub(crate) async fn ready(&self, slot: &str) -> Result<PhoneView, String> {
        self.seen(slot, |phone| phone.state == PhoneState::Ready).await
    }

    /// Lets something happen to a phone.
    pub(crate) async fn act(&self, phone: &str, act: PhoneAct) -> Result<(), String> {
        let order = Order::Phone { name: phone.to_owned(), act };
        self.rack.obey(order).await.map(drop).map_err(|refused| refused.to_string())
    }

    /// From now on this is wrong with a phone.
    pub(crate) async fn fault(&self, phone: &str, fault: &str) -> Result<(), String> {
        let fault = fault.parse().map_err(|bad| format!("{bad:?}"))?;
        self.act(phone, PhoneAct::Fault { fault }).await
    }

    /// The phone itself.
    pub(crate) fn phone(&self, name: &str) -> &VirtualPhone {
        self.rack.phone(name).unwrap().phone()
    }

    /// A path beside the rack's.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The daemon's state directory.
    pub(crate) fn state(&self) -> PathBuf {
        self.path("state")
    }

    /// How `farmhand phone SLOT <words>` ends, if it does within `limit`.
    pub(crate) async fn run(&self, slot: &str, words: &[&str], limit: Duration) -> Result<Output, String> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_farmhand"));
        command.arg("--state").arg(self.state()).args(["phone", slot]).args(words);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        match timeout(limit, command.output()).await {
            Ok(output) => output.map_err(|error| error.to_string()),
            Err(_) => Err(format!("`phone {slot} {}` has no end within {limit:?}", words.join(" "))),
        }
    }

    /// What such a command prints when it does what it shall.
    pub(crate) async fn done(&self, slot: &str, words: &[&str], limit: Duration) -> Result<Vec<u8>, String> {
        let output = self.run(slot, words, limit).await?;
        match output.status.success() {
            true => Ok(output.stdout),
            false => Err(format!("`phone {slot} {}` fails: {}", words.join(" "), said(&output))),
        }
    }

    /// Something is so within a while, or what was seen instead.
    pub(crate) async fn comes<T>(&self, what: &str, look: impl AsyncFnMut() -> Result<T, String>) -> Result<T, String> {
        until(BACK, what, look).await.map_err(|miss| miss.to_string())
    }
}

/// What a command says on standard error, in one line.
pub(crate) fn said(output: &Output) -> String {
    // A diagnostic is wrapped at the width of a terminal, with a bar before each further line.
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    text.split_whitespace().filter(|word| *word != "│").collect::<Vec<_>>().join(" ")
}
