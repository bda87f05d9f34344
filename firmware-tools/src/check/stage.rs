//! What every step works with: the rack, the daemon on it, a subscriber, and a browser once a step needs one.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use farmhand::rack::snapshot::{HubView, PhoneState, PhoneView, RolloutView};

use super::Plan;
use super::browser::{Browser, BrowserError};
use super::daemon::{Daemon, DaemonError};
use super::subscriber::{Subscriber, SubscriberError};
use super::until::{Miss, until};
use crate::cable::Hand;
use crate::central::DeviceRecord;
use crate::ports::Addresses;
use crate::rack::{Rack, RackError, test_apks};
use crate::rack_file::{RackFile, RackFileError};

/// See the module.
pub struct Stage {
    pub(super) rack: Rack,
    pub(super) daemon: Daemon,
    pub(super) subscriber: Subscriber,
    /// Started by the first step that looks at the page.
    pub(super) browser: Option<Browser>,
    pub(super) screenshot: PathBuf,
    pub(super) first_rollout: Option<FirstRollout>,
}

/// What the steps of the first rollout leave to the next one.
#[derive(Debug)]
pub(super) struct FirstRollout {
    pub(super) id: String,
    /// The notices' ids, by phone.
    pub(super) notices: BTreeMap<String, i64>,
    /// The phone that was told to fail.
    pub(super) failing: Option<String>,
    pub(super) installs_before: BTreeMap<&'static str, u64>,
}

/// Why there is no stage.
#[derive(Debug, thiserror::Error)]
pub enum StageError {
    /// The rack file is wrong.
    #[error(transparent)]
    RackFile(#[from] RackFileError),
    /// The rack could not be started.
    #[error(transparent)]
    Rack(#[from] RackError),
    /// There is no broker to watch.
    #[error("the demo's rack file has no [broker]")]
    NoBroker,
    /// There is no subscriber.
    #[error(transparent)]
    Subscriber(#[from] SubscriberError),
    /// There is no daemon.
    #[error(transparent)]
    Daemon(#[from] DaemonError),
    /// The directory could not be made anew.
    #[error("{} could not be made anew: {error}", .dir.display())]
    Dir {
        /// Which.
        dir: PathBuf,
        /// Why.
        error: std::io::Error,
    },
}

/// A phone that is plugged in, found, opened and provisioned.
pub(super) const READY_WITHIN: Duration = Duration::from_secs(20);
/// The rack file's phones, in the file's order.
pub(super) const PHONES: [&str; 8] = ["P1", "P2", "P3", "P4", "P5", "P6", "P7", "P8"];

impl Stage {
    /// Starts rack, subscriber and daemon on any free addresses, so that it runs beside a demo. Every frame of the centre is kept in
    /// `central.capture`, for other people's decoders.
    ///
    /// # Errors
    ///
    /// One of them does not start.
    pub async fn start(plan: &Plan) -> Result<Self, StageError> {
        let mut file = RackFile::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("racks/demo.toml"))?;
        let dir = fresh(&plan.dir)?;
        if let Some(central) = &mut file.central {
            central.capture = Some(dir.join("central.capture"));
        }
        let rack = Rack::start(file, Addresses::AnyFree, &test_apks(), &dir.join("rack")).await?;
        let broker: SocketAddr = rack.broker().map(crate::broker::Broker::address).ok_or(StageError::NoBroker)?;
        let subscriber = Subscriber::start(broker)?;
        let daemon =
            Daemon::start(&plan.farmhand, &rack.config_file(), &dir.join("state"), &dir.join("farmhand.log")).await?;
        let screenshot = plan.screenshot.clone();
        Ok(Self { rack, daemon, subscriber, browser: None, screenshot, first_rollout: None })
    }

    /// Ends the daemon in order; the rest ends by being dropped.
    pub async fn stop(mut self) {
        self.daemon.stop().await;
    }

    /// `farmhand phones --json`, by the phones' names in the rack file.
    pub(super) async fn phones(&self) -> Result<BTreeMap<String, PhoneView>, String> {
        let views: Vec<PhoneView> = self.daemon.ask(&["phones", "--json"]).await.map_err(|error| error.to_string())?;
        let named = views.into_iter().filter_map(|view| Some((self.name_of(&view)?, view)));
        Ok(named.collect())
    }

    /// One phone of `farmhand phones --json`.
    pub(super) async fn phone(&self, name: &str) -> Result<PhoneView, String> {
        let missing = || format!("no phone in the slot of {name}");
        self.phones().await?.remove(name).ok_or_else(missing)
    }

    /// `farmhand hubs --json`: the hub H1.
    pub(super) async fn hub(&self) -> Result<HubView, String> {
        let hubs: Vec<HubView> = self.daemon.ask(&["hubs", "--json"]).await.map_err(|error| error.to_string())?;
        hubs.into_iter().find(|hub| hub.name.as_str() == "H1").ok_or_else(|| "no hub H1".to_owned())
    }

    /// `farmhand rollout list --json`
    pub(super) async fn rollouts(&self) -> Result<Vec<RolloutView>, String> {
        self.daemon.ask(&["rollout", "list", "--json"]).await.map_err(|error| error.to_string())
    }

    /// What the central server has seen of a phone.
    pub(super) fn device(&self, name: &str) -> Result<DeviceRecord, String> {
        let imei = self.rack.imei(name).ok_or_else(|| format!("{name} has no IMEI"))?;
        let record = self.rack.central().map(crate::central::CentralServer::record).unwrap_or_default();
        record.devices.get(imei).cloned().ok_or_else(|| format!("the centre has never seen {name} ({imei})"))
    }

    /// Waits until every one of these phones is ready.
    pub(super) async fn all_ready(&self, names: &[&str]) -> Result<(), Miss> {
        until(READY_WITHIN, "every phone ready", async || {
            let phones = self.phones().await?;
            let others: Vec<String> = names
                .iter()
                .filter_map(|name| match phones.get(*name) {
                    Some(phone) if phone.state == PhoneState::Ready => None,
                    Some(phone) => Some(format!("{name} {} ({})", phone.state.as_str(), phone.why)),
                    None => Some(format!("{name} not listed")),
                })
                .collect();
            if others.is_empty() { Ok(()) } else { Err(others.join(", ")) }
        })
        .await
    }

    /// Pulls the phone's cable out, or puts it in.
    pub(super) async fn hold(&self, name: &str, hand: Hand) -> Result<(), Miss> {
        let cable = self.rack.phone(name).ok_or_else(|| miss("a phone in the rack file", name))?;
        cable.hold(hand).await.map_err(|error| miss(&format!("the cable of {name} to move"), error))
    }

    /// The browser, started by the first call.
    pub(super) async fn browser(&mut self) -> Result<&mut Browser, BrowserError> {
        let browser = match self.browser.take() {
            Some(browser) => browser,
            None => Browser::start().await?,
        };
        Ok(self.browser.insert(browser))
    }

    /// A sentence of the daemon's command line, done.
    pub(super) async fn tell(&self, words: &[&str]) -> Result<(), Miss> {
        let told = self.daemon.tell(words).await;
        told.map(drop).map_err(|error| miss(&format!("`farmhand {}` to succeed", words.join(" ")), error))
    }

    fn name_of(&self, view: &PhoneView) -> Option<String> {
        let slot = view.slot.as_ref()?.as_str();
        let phones = &self.rack.file().phones;
        phones.iter().find(|phone| phone.slot.as_deref() == Some(slot)).map(|phone| phone.name.clone())
    }
}

/// A miss without a wait.
pub(crate) fn miss(expected: &str, seen: impl std::fmt::Display) -> Miss {
    Miss { expected: expected.to_owned(), seen: seen.to_string() }
}

/// `dir`, absolute and empty.
pub(crate) fn fresh(dir: &Path) -> Result<PathBuf, StageError> {
    let failed = |error| StageError::Dir { dir: dir.to_owned(), error };
    match std::fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    std::fs::create_dir_all(dir).map_err(failed)?;
    std::fs::canonicalize(dir).map_err(failed)
}
