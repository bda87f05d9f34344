//! The real daemon, and one virtual phone in its slot A1.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use farmhand::rack::snapshot::{PhoneState, PhoneView};
use firmware_tools::check::{Daemon, until};
use firmware_tools::ports::Addresses;
use firmware_tools::rack::{Rack, test_apks};
use firmware_tools::rack_file::RackFile;

/// Nothing takes so long on an idle machine; a busy one may need some seconds.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
const FILE: &str = "[[phone]]\nname = 'A1'\nserial = 'R5CW2355X'\n";

/// Both of them; they end when it is dropped.
pub(crate) struct OnePhone {
    pub(crate) daemon: Daemon,
    rack: Rack,
    config: PathBuf,
}

impl OnePhone {
    /// In this folder, with a state directory, and these further lines of farmhand.toml. The phone need not be ready yet.
    pub(crate) async fn start(dir: &Path, state: &Path, lines: &str) -> Self {
        let file = RackFile::parse(FILE, "one.toml").unwrap();
        let rack = Rack::start(file, Addresses::AnyFree, &test_apks(), &dir.join("rack")).await.unwrap();
        let config = dir.join("farmhand.toml");
        configure(&config, &rack, lines);
        let program = Path::new(env!("CARGO_BIN_EXE_farmhand"));
        let daemon = Daemon::start(program, &config, state, &dir.join("log")).await.unwrap();
        Self { daemon, rack, config }
    }

    pub(crate) async fn until_ready(&self) {
        let ready = until(PATIENCE, "A1 is ready", async || {
            let phones: Vec<PhoneView> =
                self.daemon.ask(&["phones", "--json"]).await.map_err(|error| error.to_string())?;
            let is_ready = phones.iter().any(|phone| phone.state == PhoneState::Ready);
            if is_ready { Ok(()) } else { Err(format!("{phones:?}")) }
        });
        ready.await.unwrap();
    }

    /// The daemon runs with these further lines, and nothing of what went before.
    pub(crate) async fn configure(&mut self, lines: &str) {
        self.daemon.stop().await;
        configure(&self.config, &self.rack, lines);
        self.daemon.start_again().await.unwrap();
        self.until_ready().await;
    }
}

fn configure(config: &Path, rack: &Rack, lines: &str) {
    let written = fs::read_to_string(rack.config_file()).unwrap();
    fs::write(config, format!("{written}\n{lines}")).unwrap();
}
