//! A handset's life: what the model wants of it, and what its actor reports.
//!
//! The model owns one [`life`] for each endpoint and sends [`Command`]s; the actor owns the ADB connection, carries them out one
//! by one and reports with [`Event`]s. Nobody else touches the handset, but for commands on this host: through the tool server they open
//! streams of their own on the actor's connection.

#[cfg(feature = "daemon")]
pub mod actor;
pub mod ladder;
pub mod life;
pub mod profile;
#[cfg(feature = "daemon")]
pub mod tools;
pub mod trace;
pub mod upkeep;

use std::path::PathBuf;
use std::time::Duration;

pub use crate::adb::failure::{InstallFailure, InstallFailureClass, OpenFault};
use crate::rack::gates::Health;
use crate::rack::ids::{PackageName, RolloutId, Serial, VersionCode};
use crate::rack::snapshot::{Battery, InstalledAgent, ScreenSize, ScreenState, Storage};
use crate::rack::strategy::Downgrade;

/// What the actor of a phone is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Open the interface (or the TCP connection), speak CNXN and authenticate.
    Open,
    /// Read the profile: properties, identity, battery, whether Android has started, the agent.
    ReadProfile,
    /// Install the agent where it is missing, and read its version back.
    Provision {
        /// What.
        agent: Box<WantedAgent>,
    },
    /// Open a new stream and see whether it answers.
    Probe,
    /// Install the APK of a rollout.
    Install {
        /// What.
        order: InstallOrder,
    },
    /// See how the agent fares.
    Inspect {
        /// For which rollout.
        rollout: RolloutId,
        /// Faults of the last time of this length count.
        within: Duration,
    },
    /// Look at what the owner wants to be so on it, and set what is otherwise.
    Upkeep,
    /// End the agent and start it again.
    RestartAgent,
    /// End the connection.
    Close,
    /// End the connection, and leave the interface or the TCP address to other programs until the next [`Command::Open`].
    Leave,
    /// Reset the USB device.
    ResetUsb,
    /// Restart Android over ADB.
    Reboot,
}

/// One install of a rollout.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstallOrder {
    /// The rollout.
    pub rollout: RolloutId,
    /// The file of the checked APK.
    pub apk: PathBuf,
    /// The app.
    pub package: PackageName,
    /// The version of it that must be installed afterwards.
    pub version_code: VersionCode,
    /// Who carries it out.
    pub carrier: Carrier,
    /// Whether it may take the place of a newer version.
    pub downgrade: Downgrade,
}

impl InstallOrder {
    /// Whether a phone with this version has what it shall have: this version, or a newer one, unless that shall go.
    #[must_use]
    pub fn is_done_by(&self, version: VersionCode) -> bool {
        self.downgrade.is_done_by(version, self.version_code)
    }
}

/// Who carries an install out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Carrier {
    /// The rack, over ADB.
    #[default]
    Rack,
    /// The agent on the phone, which its line tells.
    Agent {
        /// Where the APK is.
        url: String,
        /// The version's name.
        version_name: String,
    },
}

/// What the actor of a phone reports.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The phone wants its user to allow this host's key; the connection stays open for it.
    AuthorisationWanted,
    /// ADB works. The texts come from the banner of CNXN.
    Opened {
        /// `ro.product.model` of the banner.
        model: Option<String>,
        /// The features that it offers.
        features: Vec<String>,
    },
    /// It speaks ADB, but it is not Android that answers: recovery, sideload, rescue.
    OtherMode {
        /// What it is and what to do, as a sentence.
        why: String,
    },
    /// It could not be opened.
    OpenFailed {
        /// What kind of failure, to act on.
        fault: OpenFault,
        /// What was seen, as a sentence.
        why: String,
    },
    /// The connection ended by itself.
    Lost {
        /// What was seen, as a sentence.
        why: String,
    },
    /// The profile was read.
    Profile(Box<Profile>),
    /// The profile could not be read.
    ProfileFailed {
        /// What was seen, as a sentence.
        why: String,
    },
    /// The probe was answered.
    ProbeAnswered,
    /// The probe was not answered in time.
    ProbeFailed {
        /// What was seen, as a sentence.
        why: String,
    },
    /// The configured agent is installed; this is what the phone reports.
    Provisioned(InstalledAgent),
    /// The agent could not be installed.
    ProvisionFailed(InstallFailure),
    /// What became of a rollout's install.
    Installed {
        /// The rollout.
        rollout: RolloutId,
        /// What the phone reports afterwards, or what went wrong.
        result: Result<InstalledAgent, InstallFailure>,
    },
    /// How the agent fares.
    Inspected {
        /// For which rollout.
        rollout: RolloutId,
        /// What the phone itself knows of it.
        health: Box<Health>,
        /// As it was asked.
        within: Duration,
    },
    /// What the owner wants to be so on it was looked at.
    Upkept(Box<upkeep::Report>),
    /// The agent was started again, or not.
    AgentRestarted {
        /// `Ok`, or what was seen, as a sentence.
        result: Result<(), String>,
    },
    /// A command that has no other answer was carried out, or not.
    Acted {
        /// `Ok`, or what was seen, as a sentence.
        result: Result<(), String>,
    },
}

impl Event {
    /// The profile was read. It is by far the largest report, so that it stands on the heap.
    #[must_use]
    pub fn profile(profile: Profile) -> Self {
        Self::Profile(Box::new(profile))
    }
}

/// What is known of a phone that is online.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Profile {
    /// `ro.serialno`.
    pub serial: Option<Serial>,
    /// `ro.product.brand`.
    pub brand: String,
    /// `ro.product.model`.
    pub model: String,
    /// `ro.build.version.sdk`.
    pub sdk: u32,
    /// `ro.build.version.release`.
    pub android: Option<String>,
    /// `ro.build.display.id`.
    pub build: Option<String>,
    /// `ro.product.cpu.abi`.
    pub abi: Option<String>,
    /// `ro.product.cpu.abilist`, the best first.
    pub abis: Vec<String>,
    /// Why an install over ADB waits for somebody at the screen, where the phone's settings say so.
    pub asks_its_user: Option<&'static str>,
    /// The first IMEI, where the phone tells it to its shell.
    pub imei: Option<String>,
    /// `settings get secure android_id`, asked only where there is no IMEI.
    pub android_id: Option<String>,
    /// `sys.boot_completed` is 1 and the package service answers.
    pub booted: bool,
    /// `dumpsys battery`.
    pub battery: Option<Battery>,
    /// Since its kernel started.
    pub uptime: Option<Duration>,
    /// The partition of apps and their data.
    pub storage: Option<Storage>,
    /// The screen's size, as apps see it.
    pub screen_size: Option<ScreenSize>,
    /// The screen's density, as apps see it, in dots an inch.
    pub screen_density_dpi: Option<u32>,
    /// Whether the screen is on.
    pub screen: Option<ScreenState>,
    /// The agent's package as installed.
    pub agent: Option<InstalledAgent>,
    /// `wifi`, `mobile` or `none`.
    pub network: String,
    /// Its SIM cards, by slot; read only where the owner wants them told.
    pub sims: Vec<Sim>,
}

/// A SIM card, as far as Android tells of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sim {
    /// The IMSI; empty where it is not told.
    pub imsi: String,
    /// The number; empty where it is not told.
    pub number: String,
}

/// The agent that phones without it get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedAgent {
    /// The checked APK on the host.
    pub apk: PathBuf,
    /// Its package.
    pub package: PackageName,
    /// Its version.
    pub version_code: VersionCode,
    /// SHA-256 of the APK, in lower-case hex.
    pub sha256: String,
}
