//! What can be wrong with a phone, in the words of a rack file and of `rackbench ctl`: `stalls`, `install-fails:INSTALL_FAILED_DEXOPT`.

use std::fmt;
use std::str::FromStr;

/// One thing that is wrong with a phone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `install-fails[:REASON[: detail]]`: each install ends so, as `Failure [reason]`.
    InstallFails {
        /// What stands between the brackets, such as `INSTALL_FAILED_INSUFFICIENT_STORAGE`.
        reason: String,
    },
    /// `asks-before-install`: the maker's dialog is on the screen until a hand taps (`rackbench ctl phone P1 tap allow`).
    AsksBeforeInstall,
    /// `install-takes:MS`: each install takes so long, once its APK is there.
    InstallTakes {
        /// Milliseconds, at least 1.
        ms: u64,
    },
    /// `hot`: its battery has more than 45 °C.
    Hot,
    /// `stalls`: it is there, but neither reads nor answers.
    Stalls,
    /// `garbage`: what it says is noise.
    Garbage,
    /// `refuses-auth`: it asks for a key and its user never answers.
    RefusesAuth,
    /// `short-packets`: it says everything in pieces of a few bytes.
    ShortPackets,
    /// `wrong-magic`: the headers of its messages have another last field.
    WrongMagic,
    /// `wrong-checksum`: its messages tell a sum that is not theirs.
    WrongChecksum,
    /// `cnxn-twice`: it greets twice.
    CnxnTwice,
    /// `long-payload`: the headers of its messages announce more than was agreed.
    LongPayload,
    /// `unplugs-after:BYTES`: its cable comes out when a host has sent so much on one connection.
    UnplugsAfter {
        /// Bytes from the host.
        bytes: u64,
    },
    /// `slow-disk:KBPS`: its storage takes and gives so many KiB a second.
    SlowDisk {
        /// KiB a second, at least 1.
        kib_per_s: u64,
    },
    /// `full-disk`: nothing can be written.
    FullDisk,
    /// `app-stops`, `app-crashes`, `app-hangs`: what becomes of an app that is installed anew while it runs.
    App(AppFault),
    /// `forgets-exemptions`: a restart takes from apps what keeps them running, and starts none, as some makers' ROMs do.
    ForgetsExemptions,
    /// `never-comes-back`: it does not come back from a restart until this is cleared.
    NeverComesBack,
}

/// What is wrong with a new version of an app.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppFault {
    /// It does not run.
    Stops,
    /// It crashes once, and runs then.
    Crashes,
    /// It does not answer once, and runs then.
    Hangs,
}

/// A text that names no fault.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadFault {
    /// Nothing is called so.
    #[error("no fault is called `{0}`; there are {names}", names = NAMES.join(", "))]
    Unknown(String),
    /// What stands behind the colon is missing, or too much.
    #[error("`{name}` wants {wanted}")]
    Argument {
        /// The fault.
        name: &'static str,
        /// What belongs behind the colon.
        wanted: &'static str,
    },
}

const NAMES: [&str; 20] = [
    "install-fails[:REASON]",
    "asks-before-install",
    "install-takes:MS",
    "hot",
    "stalls",
    "garbage",
    "refuses-auth",
    "short-packets",
    "wrong-magic",
    "wrong-checksum",
    "cnxn-twice",
    "long-payload",
    "unplugs-after:BYTES",
    "slow-disk:KIB_PER_S",
    "full-disk",
    "forgets-exemptions",
    "never-comes-back",
    "app-stops",
    "app-crashes",
    "app-hangs",
];

/// What an install fails with where nothing is said.
const USUAL_REASON: &str = "INSTALL_FAILED_INSUFFICIENT_STORAGE";

impl FromStr for Fault {
    type Err = BadFault;

    fn from_str(text: &str) -> Result<Self, BadFault> {
        let (name, argument) = match text.split_once(':') {
            Some((name, argument)) => (name, Some(argument)),
            None => (text, None),
        };
        let number = |name, wanted| {
            let number = argument.and_then(|text| text.parse().ok()).filter(|&number: &u64| number > 0);
            number.ok_or(BadFault::Argument { name, wanted })
        };
        let fault = match name {
            "install-fails" => {
                return Ok(Self::InstallFails { reason: argument.unwrap_or(USUAL_REASON).to_owned() });
            }
            "unplugs-after" => return Ok(Self::UnplugsAfter { bytes: number("unplugs-after", "a number of bytes")? }),
            "slow-disk" => return Ok(Self::SlowDisk { kib_per_s: number("slow-disk", "a number of KiB a second")? }),
            "install-takes" => {
                return Ok(Self::InstallTakes { ms: number("install-takes", "a number of milliseconds")? });
            }
            "hot" => Self::Hot,
            "asks-before-install" => Self::AsksBeforeInstall,
            "stalls" => Self::Stalls,
            "garbage" => Self::Garbage,
            "refuses-auth" => Self::RefusesAuth,
            "short-packets" => Self::ShortPackets,
            "wrong-magic" => Self::WrongMagic,
            "wrong-checksum" => Self::WrongChecksum,
            "cnxn-twice" => Self::CnxnTwice,
            "long-payload" => Self::LongPayload,
            "full-disk" => Self::FullDisk,
            "forgets-exemptions" => Self::ForgetsExemptions,
            "never-comes-back" => Self::NeverComesBack,
            "app-stops" => Self::App(AppFault::Stops),
            "app-crashes" => Self::App(AppFault::Crashes),
            "app-hangs" => Self::App(AppFault::Hangs),
            _ => return Err(BadFault::Unknown(name.to_owned())),
        };
        if argument.is_some() { Err(BadFault::Unknown(text.to_owned())) } else { Ok(fault) }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::InstallFails { reason } => write!(f, "install-fails:{reason}"),
            Self::UnplugsAfter { bytes } => write!(f, "unplugs-after:{bytes}"),
            Self::SlowDisk { kib_per_s } => write!(f, "slow-disk:{kib_per_s}"),
            Self::InstallTakes { ms } => write!(f, "install-takes:{ms}"),
            Self::Hot => f.write_str("hot"),
            Self::AsksBeforeInstall => f.write_str("asks-before-install"),
            Self::Stalls => f.write_str("stalls"),
            Self::Garbage => f.write_str("garbage"),
            Self::RefusesAuth => f.write_str("refuses-auth"),
            Self::ShortPackets => f.write_str("short-packets"),
            Self::WrongMagic => f.write_str("wrong-magic"),
            Self::WrongChecksum => f.write_str("wrong-checksum"),
            Self::CnxnTwice => f.write_str("cnxn-twice"),
            Self::LongPayload => f.write_str("long-payload"),
            Self::FullDisk => f.write_str("full-disk"),
            Self::ForgetsExemptions => f.write_str("forgets-exemptions"),
            Self::NeverComesBack => f.write_str("never-comes-back"),
            Self::App(AppFault::Stops) => f.write_str("app-stops"),
            Self::App(AppFault::Crashes) => f.write_str("app-crashes"),
            Self::App(AppFault::Hangs) => f.write_str("app-hangs"),
        }
    }
}

/// All that is wrong with a phone at once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Faults {
    pub(super) install: Option<String>,
    pub(super) asks_before_install: bool,
    pub(super) install_takes_ms: Option<u64>,
    pub(super) hot: bool,
    pub(super) stalls: bool,
    pub(super) refuses_auth: bool,
    pub(super) unplugs_after_bytes: Option<u64>,
    pub(super) disk_kib_per_s: Option<u64>,
    pub(super) full_disk: bool,
    pub(super) forgets_exemptions: bool,
    pub(super) never_comes_back: bool,
    pub(super) app: Option<AppFault>,
    pub(super) spoils: Spoils,
}

/// What becomes of what a phone says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Spoils {
    pub(super) garbage: bool,
    pub(super) short_packets: bool,
    pub(super) magic: bool,
    pub(super) sum: bool,
    pub(super) greets_twice: bool,
    pub(super) length: bool,
}

impl Faults {
    /// Exactly these.
    pub(super) fn of(faults: &[Fault]) -> Self {
        let mut all = Self::default();
        faults.iter().for_each(|fault| all.add(fault.clone()));
        all
    }

    pub(super) fn add(&mut self, fault: Fault) {
        match fault {
            Fault::InstallFails { reason } => self.install = Some(reason),
            Fault::AsksBeforeInstall => self.asks_before_install = true,
            Fault::InstallTakes { ms } => self.install_takes_ms = Some(ms),
            Fault::Hot => self.hot = true,
            Fault::Stalls => self.stalls = true,
            Fault::RefusesAuth => self.refuses_auth = true,
            Fault::UnplugsAfter { bytes } => self.unplugs_after_bytes = Some(bytes),
            Fault::SlowDisk { kib_per_s } => self.disk_kib_per_s = Some(kib_per_s),
            Fault::FullDisk => self.full_disk = true,
            Fault::ForgetsExemptions => self.forgets_exemptions = true,
            Fault::NeverComesBack => self.never_comes_back = true,
            Fault::App(fault) => self.app = Some(fault),
            Fault::Garbage => self.spoils.garbage = true,
            Fault::ShortPackets => self.spoils.short_packets = true,
            Fault::WrongMagic => self.spoils.magic = true,
            Fault::WrongChecksum => self.spoils.sum = true,
            Fault::CnxnTwice => self.spoils.greets_twice = true,
            Fault::LongPayload => self.spoils.length = true,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn each_name_of_the_list_is_read_and_comes_back() {
        for name in NAMES {
            let text = name
                .replace("[:REASON]", ":INSTALL_FAILED_DEXOPT: x")
                .replace("BYTES", "7")
                .replace("KIB_PER_S", "9")
                .replace(":MS", ":5");
            assert_eq!(text.parse::<Fault>().unwrap().to_string(), text);
        }
        assert_eq!("install-fails".parse(), Ok(Fault::InstallFails { reason: USUAL_REASON.to_owned() }));
    }

    #[test]
    fn what_is_no_fault_is_said() {
        let why = |text: &str| text.parse::<Fault>().unwrap_err().to_string();
        assert!(why("stall").contains("no fault is called `stall`; there are install-fails"));
        assert!(why("stalls:3").contains("`stalls:3`"));
        assert_eq!(why("slow-disk"), "`slow-disk` wants a number of KiB a second");
        assert_eq!(why("unplugs-after:0"), "`unplugs-after` wants a number of bytes");
    }

    proptest! {
        #[test]
        fn any_text_is_a_fault_or_none(text in ".{0,40}") {
            if let Ok(fault) = text.parse::<Fault>() {
                prop_assert_eq!(fault.to_string().parse::<Fault>().unwrap(), fault);
            }
        }
    }
}
