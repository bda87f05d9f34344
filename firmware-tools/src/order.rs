//! What can be asked of a running rack: the words of `rackbench ctl`, as JSON on the rack's control socket.

use std::path::PathBuf;

use clap::Subcommand;
use serde::{Deserialize, Serialize};

use crate::phone::Tap;
use crate::rack_file::{CentralFault, PhoneFault};

/// Something to do to a running rack.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Subcommand)]
#[serde(tag = "to", rename_all = "snake_case")]
pub enum Order {
    /// To one phone
    Phone {
        /// Its name in the rack file, such as P3
        name: String,
        /// What happens to it
        #[command(subcommand)]
        act: PhoneAct,
    },
    /// To one power hub
    Hub {
        /// Its name in the rack file, such as H1
        name: String,
        /// What happens to it
        #[command(subcommand)]
        act: HubAct,
    },
    /// To the central server
    Central {
        /// What happens to it
        #[command(subcommand)]
        act: CentralAct,
    },
    /// Show the whole rack as JSON
    Show,
}

/// What can happen to a phone.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Subcommand)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum PhoneAct {
    /// Pull its cable out
    Unplug,
    /// Put its cable in
    Plug,
    /// Let something be wrong with it
    Fault {
        /// What, such as stalls or install-fails:INSTALL_FAILED_DEXOPT; an unknown name lists all
        fault: PhoneFault,
    },
    /// Let nothing be wrong with it any more
    Clear,
    /// Answer the questions on its screen
    Tap {
        /// How
        tap: Tap,
    },
    /// Let an app on it have an APK installed
    Install {
        /// The APK, a path on the rack's host
        apk: PathBuf,
    },
    /// Set what is in its battery
    Battery {
        /// 0 to 100
        percent: u8,
    },
}

/// What can happen to a power hub.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, Subcommand)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum HubAct {
    /// Cut its serial line: it does not answer
    Cut,
    /// Let it answer with bytes that mean nothing
    Garbage,
    /// Let its line be whole again
    Restore,
}

/// What can happen to the central server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Subcommand)]
#[serde(tag = "do", rename_all = "snake_case")]
pub enum CentralAct {
    /// Kill it: every connection ends and nothing listens
    Stop,
    /// Start it again at the same address
    Start,
    /// Let something be wrong with it
    Fault {
        /// What
        fault: CentralFault,
    },
    /// Let nothing be wrong with it any more
    Clear,
    /// Ask phones for an upgrade of an app (UpgradeDeviceAppNotice)
    Upgrade {
        /// The APK, a name in the rack's directory of APKs
        #[arg(long, default_value = "agent-2.apk")]
        apk: String,
        /// The phones, by their names in the rack file
        #[arg(required = true)]
        phones: Vec<String>,
    },
    /// Send a message without content to a phone
    Send {
        /// The phone, by its name in the rack file
        phone: String,
        /// The message's number, such as 1256
        code: i32,
    },
}
