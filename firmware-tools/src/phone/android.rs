//! The state of a phone: who it is, what is installed, how its battery is, whether Android runs.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use handset::MemoryFiles;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::battery::{Battery, Power};
use super::faults::Faults;
use super::packages::{InstallOptions, Packages};
use super::spec::{Network, PhoneSpec};

/// Bytes that fit on a virtual phone; held in memory, so far less than a real one has.
const STORAGE_BYTES: u64 = 1 << 30;

/// Folders that a shell user may write to.
const WRITABLE: [&str; 2] = ["/data/local/tmp", "/sdcard"];

/// A phone's Android.
pub(super) struct Android {
    pub(super) spec: PhoneSpec,
    pub(super) files: MemoryFiles,
    pub(super) faults: watch::Sender<Faults>,
    /// Told when somebody asks for a restart.
    pub(super) restart: Notify,
    started: Instant,
    state: Mutex<State>,
}

/// What changes.
pub(super) struct State {
    pub(super) packages: Packages,
    pub(super) battery: Battery,
    /// Android has started: its services answer.
    pub(super) booted: bool,
    pub(super) installs: u64,
    pub(super) installs_failed: u64,
    pub(super) shells: u64,
    pub(super) reboots: u64,
}

impl Android {
    pub(super) fn new(spec: PhoneSpec) -> Self {
        let now = Instant::now();
        let state = State {
            packages: Packages::default(),
            battery: Battery::new(spec.battery_percent, Duration::ZERO),
            booted: true,
            installs: 0,
            installs_failed: 0,
            shells: 0,
            reboots: 0,
        };
        Self {
            spec,
            files: MemoryFiles::new(STORAGE_BYTES, &WRITABLE),
            faults: watch::Sender::default(),
            restart: Notify::new(),
            started: now,
            state: Mutex::new(state),
        }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Time since the phone was made.
    pub(super) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    pub(super) fn set_power(&self, power: Power) {
        let now = self.now();
        self.state().battery.set_power(power, now);
    }

    /// Installs an APK, or says why not in Android's words.
    pub(super) fn install(&self, content: &Bytes, options: InstallOptions) -> Result<(), String> {
        let fault = self.faults.borrow().install.clone();
        let free = handset::FileSystem::free_bytes(&self.files);
        let mut state = self.state();
        let installed = match fault {
            Some(reason) => Err(reason),
            None => state.packages.install(content, self.spec.sdk, free, options).map(|_| ()),
        };
        match &installed {
            Ok(()) => state.installs += 1,
            Err(_) => state.installs_failed += 1,
        }
        installed
    }

    /// All properties, by name.
    pub(super) fn properties(&self) -> BTreeMap<&'static str, String> {
        let spec = &self.spec;
        let product = self.product();
        let release = release(spec.sdk);
        let booted = self.state().booted;
        let flag = |set: bool| if set { "1" } else { "" };
        let (operator, sim, network_type) = match spec.imei {
            Some(_) => ("Test Net", "LOADED", "LTE"),
            None => ("", "ABSENT", "Unknown"),
        };
        BTreeMap::from([
            ("dev.bootcomplete", flag(booted).to_owned()),
            ("gsm.network.type", network_type.to_owned()),
            ("gsm.operator.alpha", operator.to_owned()),
            ("gsm.sim.state", sim.to_owned()),
            ("init.svc.adbd", "running".to_owned()),
            ("persist.sys.timezone", "Etc/UTC".to_owned()),
            ("persist.sys.usb.config", "adb".to_owned()),
            ("ro.boot.serialno", spec.serial.clone()),
            (
                "ro.build.fingerprint",
                format!("{}/{product}/{product}:{release}/VIRT.1/1:user/release-keys", spec.brand),
            ),
            ("ro.build.id", "VIRT.1".to_owned()),
            ("ro.build.type", "user".to_owned()),
            ("ro.build.version.release", release.to_owned()),
            ("ro.build.version.sdk", spec.sdk.to_string()),
            ("ro.product.brand", spec.brand.clone()),
            ("ro.product.cpu.abi", "arm64-v8a".to_owned()),
            ("ro.product.device", product.clone()),
            ("ro.product.manufacturer", spec.brand.clone()),
            ("ro.product.model", spec.model.clone()),
            ("ro.product.name", product),
            ("ro.serialno", spec.serial.clone()),
            ("sys.boot_completed", flag(booted).to_owned()),
            ("sys.usb.state", "adb".to_owned()),
        ])
    }

    /// `ro.product.name`: the model in lower case, without what a property would not have.
    pub(super) fn product(&self) -> String {
        let model = self.spec.model.to_lowercase();
        model.chars().map(|letter| if letter.is_ascii_alphanumeric() { letter } else { '_' }).collect()
    }

    /// `settings get secure android_id`: 64 bits that are this phone's own, here made of its serial by FNV-1a.
    pub(super) fn android_id(&self) -> String {
        let hash = self
            .spec
            .serial
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        format!("{hash:016x}")
    }

    /// `settings get <table> <key>`.
    pub(super) fn setting(&self, table: &str, key: &str) -> Option<String> {
        let wifi = self.spec.network == Network::Wifi;
        match (table, key) {
            ("secure", "android_id") => Some(self.android_id()),
            ("global", "adb_enabled" | "stay_on_while_plugged_in") => Some("1".to_owned()),
            ("global", "airplane_mode_on") => Some("0".to_owned()),
            ("global", "wifi_on") => Some(u8::from(wifi).to_string()),
            ("global", "device_name") => Some(self.spec.model.clone()),
            _ => None,
        }
    }
}

/// Android's name for an API level.
fn release(sdk: u32) -> &'static str {
    match sdk {
        ..=20 => "4.4.4",
        21 => "5.0",
        22 => "5.1",
        23 => "6.0.1",
        24 => "7.0",
        25 => "7.1.2",
        26 => "8.0.0",
        27 => "8.1.0",
        28 => "9",
        29 => "10",
        30 => "11",
        31 | 32 => "12",
        33 => "13",
        34 => "14",
        35 => "15",
        36.. => "16",
    }
}
