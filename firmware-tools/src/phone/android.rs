//! The state of a phone: who it is, what is installed, how its battery is, whether Android runs.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use handset::{FileSystem as _, MemoryFiles};
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::apps::Apps;
use super::battery::{Battery, Power};
use super::faults::Faults;
use super::files::PhoneFiles;
use super::packages::{InstallOptions, Packages, Place};
use super::saving::{self, Saving};
use super::spec::{Network, PhoneSpec};
use super::tunnels::own_loopback;
use super::users::Users;

/// Bytes that fit on a virtual phone; held in memory, so far less than a real one has.
pub(super) const STORAGE_BYTES: u64 = 1 << 30;

/// Folders that a shell user may write to.
const WRITABLE: [&str; 2] = ["/data/local/tmp", "/sdcard"];

/// The folder that is read-only until a remount.
const SYSTEM: &str = "/system";

/// A phone's Android.
pub(super) struct Android {
    pub(super) spec: PhoneSpec,
    pub(super) files: PhoneFiles,
    pub(super) faults: watch::Sender<Faults>,
    /// Told when somebody asks for a restart.
    pub(super) restart: Notify,
    /// Told when adbd has ended in order to start again.
    pub(super) adbd_ended: Notify,
    /// Told when something pulls the cable out.
    pub(super) pulled: Notify,
    /// Where the phone's own TCP ports are.
    pub(super) loopback: Ipv4Addr,
    /// The last tap on the screen, counted.
    taps: watch::Sender<(u64, Tap)>,
    started: Instant,
    state: Mutex<State>,
}

/// What a hand does with a question on the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Tap {
    /// "Install"
    Allow,
    /// "Cancel"
    Deny,
}

/// What changes.
pub(super) struct State {
    pub(super) packages: Packages,
    pub(super) apps: Apps,
    pub(super) saving: Saving,
    pub(super) users: Users,
    pub(super) battery: Battery,
    /// Android has started: its services answer.
    pub(super) booted: bool,
    pub(super) installs: u64,
    pub(super) installs_failed: u64,
    pub(super) shells: u64,
    pub(super) reboots: u64,
    /// When the kernel started last.
    pub(super) kernel_started: Duration,
    /// adbd runs as root.
    pub(super) root: bool,
    /// Questions on the screen that wait for a hand.
    pub(super) questions: usize,
    /// The screen, since a key switched it last; by itself it is lit while the phone has power.
    pub(super) screen_on: Option<bool>,
    /// How often it vibrated.
    pub(super) vibrations: u64,
    /// Lines of the log before this one are forgotten.
    pub(super) log_cleared: u64,
    /// What was set, beside what a phone has by itself.
    pub(super) properties: BTreeMap<String, String>,
    /// What was put, by table and key; `None` for what was deleted.
    pub(super) settings: BTreeMap<(String, String), Option<String>>,
}

/// A question on the screen, as long as it stands there.
struct Question<'a>(&'a Android);

impl Drop for Question<'_> {
    fn drop(&mut self) {
        self.0.state().questions -= 1;
    }
}

impl Android {
    pub(super) fn new(spec: PhoneSpec) -> Self {
        let now = Instant::now();
        let state = State {
            packages: Packages::default(),
            apps: Apps::default(),
            saving: Saving::default(),
            users: Users::default(),
            battery: Battery::new(spec.battery_percent, Duration::ZERO),
            booted: true,
            installs: 0,
            installs_failed: 0,
            shells: 0,
            reboots: 0,
            kernel_started: Duration::ZERO,
            root: false,
            questions: 0,
            screen_on: None,
            vibrations: 0,
            log_cleared: 0,
            properties: BTreeMap::new(),
            settings: BTreeMap::new(),
        };
        let faults = watch::Sender::<Faults>::default();
        Self {
            spec,
            files: PhoneFiles::new(MemoryFiles::new(STORAGE_BYTES, &WRITABLE), faults.subscribe()),
            faults,
            restart: Notify::new(),
            adbd_ended: Notify::new(),
            pulled: Notify::new(),
            loopback: own_loopback(),
            taps: watch::Sender::new((0, Tap::Allow)),
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

    /// Time since the kernel started.
    pub(super) fn uptime(&self) -> Duration {
        self.now().saturating_sub(self.state().kernel_started)
    }

    /// The kernel starts anew; Android follows.
    pub(super) fn goes_down(&self) {
        let now = self.now();
        let forgets = self.faults.borrow().forgets_exemptions;
        let mut state = self.state();
        self.files.memory.forbid(SYSTEM);
        if forgets {
            // What keeps nothing for an app does not start it either.
            state.saving = Saving::default();
            state.apps.stop_all();
        }
        state.booted = false;
        state.root = false;
        state.properties.retain(|name, _| name.starts_with("persist."));
        state.screen_on = None;
        state.reboots += 1;
        state.kernel_started = now;
    }

    /// Lets the system's folder be written to until the next restart, or says why not, as `remount` does.
    pub(super) fn remount(&self) -> Result<&'static str, &'static str> {
        if !self.state().root {
            return Err("Not running as root. Try \"adb root\" first.\n");
        }
        self.files.memory.allow(SYSTEM);
        Ok("remount succeeded\n")
    }

    pub(super) fn set_power(&self, power: Power) {
        let now = self.now();
        self.state().battery.set_power(power, now);
    }

    /// Installs the APKs of an app, or says why not in Android's words.
    pub(super) async fn install(&self, apks: &[Bytes], options: &InstallOptions) -> Result<(), String> {
        let free_bytes = self.files.free_bytes();
        let allowed = self.asked_before_install().await;
        let (fault, takes_ms, app_fault) = {
            let faults = self.faults.borrow();
            (faults.install.clone(), faults.install_takes_ms, faults.app)
        };
        if let Some(ms) = takes_ms {
            tokio::time::sleep(Duration::from_millis(ms)).await;
        }
        let mut state = self.state();
        let installed = match (allowed, fault) {
            (Err(reason), _) | (Ok(()), Some(reason)) => Err(reason),
            (Ok(()), None) => {
                let State { packages, users, apps, .. } = &mut *state;
                packages
                    .install(
                        apks,
                        Place { sdk: self.spec.sdk, debuggable: self.spec.debuggable, free_bytes, users },
                        options,
                    )
                    .map(|installed| apps.installed(&installed.apk.package, installed.apk.version_code, app_fault))
            }
        };
        match &installed {
            Ok(()) => state.installs += 1,
            Err(_) => state.installs_failed += 1,
        }
        installed
    }

    /// Puts the maker's question on the screen, where it has one, and waits for a hand.
    async fn asked_before_install(&self) -> Result<(), String> {
        if !self.faults.borrow().asks_before_install {
            return Ok(());
        }
        let mut taps = self.taps.subscribe();
        self.state().questions += 1;
        let _question = Question(self);
        // The sender lives as long as the phone.
        let _ = taps.changed().await;
        match taps.borrow().1 {
            Tap::Allow => Ok(()),
            Tap::Deny => Err(refusal(&self.spec.brand).to_owned()),
        }
    }

    /// A hand answers all questions on the screen.
    pub(super) fn tap(&self, tap: Tap) {
        self.taps.send_modify(|(count, last)| {
            *count += 1;
            *last = tap;
        });
    }

    /// All properties, by name.
    pub(super) fn properties(&self) -> BTreeMap<String, String> {
        let spec = &self.spec;
        let product = self.product();
        let release = release(spec.sdk);
        let (booted, set) = {
            let state = self.state();
            (state.booted, state.properties.clone())
        };
        let flag = |set: bool| if set { "1" } else { "" };
        let (operator, sim, network_type) = match spec.imei {
            Some(_) => ("Test Net", "LOADED", "LTE"),
            None => ("", "ABSENT", "Unknown"),
        };
        let build = if spec.debuggable { "userdebug" } else { "user" };
        let own = [
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
                format!("{}/{product}/{product}:{release}/VIRT.1/1:{build}/release-keys", spec.brand),
            ),
            ("ro.build.display.id", "VIRT.1".to_owned()),
            ("ro.build.id", "VIRT.1".to_owned()),
            ("ro.build.type", build.to_owned()),
            ("ro.build.version.release", release.to_owned()),
            ("ro.build.version.sdk", spec.sdk.to_string()),
            ("ro.debuggable", u8::from(spec.debuggable).to_string()),
            ("ro.product.brand", spec.brand.clone()),
            ("ro.product.cpu.abi", "arm64-v8a".to_owned()),
            ("ro.product.device", product.clone()),
            ("ro.product.manufacturer", spec.brand.clone()),
            ("ro.product.model", spec.model.clone()),
            ("ro.product.name", product),
            ("ro.serialno", spec.serial.clone()),
            ("sys.boot_completed", flag(booted).to_owned()),
            ("sys.usb.state", "adb".to_owned()),
        ];
        // Its user has allowed installs over USB.
        let miui = [("persist.security.adbinstall", "1".to_owned()), ("ro.miui.ui.version.name", "V140".to_owned())];
        let rom = miui.into_iter().filter(|_| saving::is_miui(self));
        own.into_iter().chain(rom).map(|(name, value)| (name.to_owned(), value)).chain(set).collect()
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
        self.settings_of(table).remove(key)
    }

    /// `settings list <table>`.
    pub(super) fn settings_of(&self, table: &str) -> BTreeMap<String, String> {
        let wifi = u8::from(self.spec.network == Network::Wifi).to_string();
        let one = || "1".to_owned();
        let own = match table {
            "secure" => vec![("android_id", self.android_id())],
            "global" => vec![
                ("adb_enabled", one()),
                ("stay_on_while_plugged_in", one()),
                ("airplane_mode_on", "0".to_owned()),
                ("wifi_on", wifi),
                ("device_name", self.spec.model.clone()),
            ],
            _ => Vec::new(),
        };
        let mut all: BTreeMap<_, _> = own.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
        for ((_, key), value) in self.state().settings.iter().filter(|((of, _), _)| of == table) {
            match value {
                Some(value) => drop(all.insert(key.clone(), value.clone())),
                None => drop(all.remove(key)),
            }
        }
        all
    }
}

/// What stands between the brackets when a hand has refused an install on a phone of this maker.
fn refusal(brand: &str) -> &'static str {
    match brand.to_lowercase().as_str() {
        // EMUI's own pm.
        "huawei" | "honor" => "INSTALL_CANCELED_BY_USER",
        // ColorOS asks for the account's password before the package manager hears of it.
        "oppo" | "realme" | "oneplus" => "-99",
        "vivo" | "iqoo" => "INSTALL_FAILED_ABORTED: User rejected permissions",
        // MIUI's "Install via USB", and who has no words of its own.
        _ => "INSTALL_FAILED_USER_RESTRICTED: Install canceled by user",
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
