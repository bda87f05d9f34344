//! A virtual phone: device-side ADB over TCP with an Android behind it that answers as a real one does.
//!
//! ```text
//!   VirtualPhone ── cable ──▶ listener ──▶ Line (faults) ──▶ handset ──▶ shell: the table of commands
//!        │                                                      │            │
//!        └── faults, battery, restart                           └── files    └── packages (real APKs), battery, properties
//! ```
//!
//! Invariant: a phone listens exactly while its cable is plugged in and it is not away for a restart; when
//! [`VirtualPhone::unplug`] returns, its port is free and its connections are closed.

mod android;
mod apk;
mod apps;
mod battery;
mod dumpsys;
#[cfg(test)]
mod fault_tests;
mod faults;
mod files;
mod input;
mod line;
mod logcat;
mod packages;
mod permissions;
mod pm;
#[cfg(test)]
mod pm_tests;
mod port;
mod saving;
#[cfg(test)]
mod saving_tests;
mod screen;
mod script;
mod shell;
mod spec;
#[cfg(test)]
mod tests;
mod tools;
mod tunnels;
mod usb;
mod users;
mod vibrator;
mod words;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use handset::{Adbd, AdbdAnswer, Command, Console, Device, FileSystem as _, Output, RebootTarget, TunnelChange};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use android::{Android, State};
use files::PhoneFiles;
use packages::{InstallOptions, Place};
use port::Port;

pub use android::Tap;
pub use apk::facts as apk_facts;
pub use faults::{AppFault, BadFault, Fault};
pub use spec::{AdbGeneration, Auth, Network, PhoneSpec};
pub use tunnels::{Tunnel, Tunnels};
pub use usb::{Gadget, serve as serve_on_usb, serve_bare, serve_fastboot};

/// A phone on a TCP port of this host. It is gone when this is dropped.
pub struct VirtualPhone {
    android: Arc<Android>,
    port: Arc<Port>,
    tunnels: Arc<Tunnels>,
    stop: CancellationToken,
}

/// What can be seen of a phone from outside.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PhoneStateView {
    /// The cable is plugged in.
    pub plugged: bool,
    /// Android has started.
    pub booted: bool,
    /// What is installed: versionCode and versionName by package.
    pub packages: BTreeMap<String, (u64, String)>,
    /// Installs that succeeded, those of the start not counted.
    pub installs: u64,
    /// Installs that failed.
    pub installs_failed: u64,
    /// Commands that were run.
    pub shells: u64,
    /// Install sessions that are open.
    pub sessions: usize,
    /// Restarts.
    pub reboots: u64,
    /// ADB connections that are open.
    pub connections: usize,
    /// Whole percent in the battery.
    pub battery_percent: u8,
    /// Questions on the screen that wait for a hand.
    pub questions: usize,
    /// Its screen is lit.
    pub screen_on: bool,
    /// How often it vibrated.
    pub vibrations: u64,
    /// Reverse tunnels that it keeps, by the endpoint as it was asked for.
    pub tunnels: BTreeMap<String, Tunnel>,
}

impl VirtualPhone {
    /// Makes a phone and plugs it in. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// An APK or key of the spec can't be read or used, or the port is taken; the error names it.
    pub fn start(spec: PhoneSpec) -> io::Result<Self> {
        Self::start_among(spec, Arc::default())
    }

    /// The same, where several phones keep their reverse tunnels together.
    ///
    /// # Errors
    /// As for [`Self::start`].
    pub fn start_among(spec: PhoneSpec, tunnels: Arc<Tunnels>) -> io::Result<Self> {
        let android = installed(spec)?;
        let port = Arc::new(Port::new(Arc::clone(&android), Arc::clone(&tunnels))?);
        port.plug_in_first()?;
        let stop = CancellationToken::new();
        tokio::spawn(live(Arc::clone(&android), Arc::clone(&port), stop.clone()));
        Ok(Self { android, port, tunnels, stop })
    }

    /// What the rack calls it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.android.spec.name
    }

    /// Where its adbd listens while it is plugged in.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.port.address()
    }

    /// Plugs the cable in. While the phone restarts it is not there yet.
    ///
    /// # Errors
    /// The port is taken by somebody else.
    pub async fn plug(&self) -> io::Result<()> {
        self.port.set_cable(true).await
    }

    /// Pulls the cable out. When this returns the port is free and all connections are closed.
    pub async fn unplug(&self) {
        // Without cable nothing is bound, so nothing can fail.
        let _ = self.port.set_cable(false).await;
    }

    /// Whether the cable is plugged in.
    #[must_use]
    pub fn is_plugged(&self) -> bool {
        self.port.cable()
    }

    /// From now on this is wrong, in addition to what was.
    pub fn set_fault(&self, fault: Fault) {
        self.android.faults.send_modify(|faults| faults.add(fault));
    }

    /// Nothing is wrong any more.
    pub fn clear_faults(&self) {
        self.android.faults.send_modify(|faults| *faults = faults::Faults::default());
    }

    /// Sets the charge of the battery, 0 to 100, from where it moves on.
    pub fn set_battery(&self, percent: f64) {
        let now = self.android.now();
        self.android.state().battery.set_percent(percent, now);
    }

    /// A hand answers all questions on its screen.
    pub fn tap(&self, tap: Tap) {
        self.android.tap(tap);
    }

    /// Restarts the phone, as its owner would.
    pub fn reboot(&self) {
        self.android.restart.notify_one();
    }

    /// The content of one of its files, if it is there.
    #[must_use]
    pub fn file(&self, path: &str) -> Option<Bytes> {
        self.android.files.read(path).ok()
    }

    /// An app on the phone has an APK installed, as Android's package installer does it.
    ///
    /// # Errors
    /// Android's words for why not.
    pub async fn install(&self, apk: Bytes) -> io::Result<()> {
        let options = InstallOptions { replace: true, ..InstallOptions::default() };
        self.android.install(&[apk], &options).await.map_err(io::Error::other)
    }

    /// What can be seen of it.
    #[must_use]
    pub fn state(&self) -> PhoneStateView {
        let now = self.android.now();
        let screen_on = input::is_screen_on(&self.android);
        let state = self.android.state();
        let packages = state.packages.iter().map(|installed| {
            let apk = &installed.apk;
            (apk.package.clone(), (apk.version_code, apk.version_name.clone()))
        });
        PhoneStateView {
            plugged: self.port.cable(),
            booted: state.booted,
            packages: packages.collect(),
            installs: state.installs,
            installs_failed: state.installs_failed,
            shells: state.shells,
            sessions: state.packages.sessions().count(),
            reboots: state.reboots,
            connections: self.port.connections(),
            battery_percent: state.battery.read(now).level,
            questions: state.questions,
            screen_on,
            vibrations: state.vibrations,
            tunnels: self.tunnels.of(&self.android.spec.name),
        }
    }
}

impl VirtualPhone {
    /// Opens an install session with this referrer, as a host does that dies right behind it.
    pub fn leave_session_open(&self, referrer: Option<&str>) {
        let options = InstallOptions { referrer: referrer.map(str::to_owned), ..InstallOptions::default() };
        let _ = self.android.state().packages.create_session(options);
    }
}

impl Drop for VirtualPhone {
    fn drop(&mut self) {
        self.stop.cancel();
        self.port.stop();
    }
}

/// An error that names what it is about.
fn named<T>(what: impl std::fmt::Display, result: io::Result<T>) -> io::Result<T> {
    result.map_err(|error| io::Error::new(error.kind(), format!("{what}: {error}")))
}

/// An Android with the apps of its spec.
fn installed(spec: PhoneSpec) -> io::Result<Arc<Android>> {
    let android = Arc::new(Android::new(spec));
    for path in &android.spec.packages {
        let content = Bytes::from(named(path.display(), std::fs::read(path))?);
        let mut state = android.state();
        let State { packages, users, apps, .. } = &mut *state;
        let place = Place { sdk: android.spec.sdk, debuggable: android.spec.debuggable, free_bytes: u64::MAX, users };
        let options = InstallOptions { test_only: true, ..InstallOptions::default() };
        let installed = packages.install(&[content], place, &options);
        let installed = named(path.display(), installed.map_err(io::Error::other))?;
        // Its owner has started it.
        apps.start(&installed.apk.package);
    }
    Ok(android)
}

/// Restarts and pulled cables, until the phone is gone.
async fn live(android: Arc<Android>, port: Arc<Port>, stop: CancellationToken) {
    let lives = async {
        loop {
            tokio::select! {
                () = android.restart.notified() => restart(&android, &port).await,
                () = android.adbd_ended.notified() => restart_adbd(&android, &port).await,
                // Without cable nothing is bound, so nothing can fail.
                () = android.pulled.notified() => drop(port.set_cable(false).await),
            }
        }
    };
    tokio::select! {
        () = lives => {}
        () = stop.cancelled() => {}
    }
}

async fn restart(android: &Android, port: &Port) {
    tracing::debug!(phone = android.spec.name, "the phone restarts");
    android.goes_down();
    // Nothing is bound while it is away, so nothing can fail.
    let _ = port.set_up(false).await;
    tokio::time::sleep(seconds(android.spec.reboot_away_s)).await;
    // The sender lives as long as the phone.
    let _ = android.faults.subscribe().wait_for(|faults| !faults.never_comes_back).await;
    if let Err(error) = port.set_up(true).await {
        tracing::warn!(phone = android.spec.name, %error, "the phone is back, but its port is taken");
    }
    tokio::time::sleep(seconds(android.spec.boot_s)).await;
    android.state().booted = true;
}

/// adbd alone is away and comes back: Android goes on.
async fn restart_adbd(android: &Android, port: &Port) {
    let away = seconds(android.spec.adbd_away_s);
    if away.is_zero() {
        return;
    }
    // Nothing is bound while it is away, so nothing can fail.
    let _ = port.set_up(false).await;
    tokio::time::sleep(away).await;
    if let Err(error) = port.set_up(true).await {
        tracing::warn!(phone = android.spec.name, %error, "adbd is back, but its port is taken");
    }
}

/// Seconds of a spec; nonsense counts as none.
fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

/// The phone as its adbd sees it over one connection.
struct Behind {
    android: Arc<Android>,
    tunnels: Arc<Tunnels>,
    /// Something was asked of adbd over this connection for which it starts again, once the answer is out.
    ends_adbd: AtomicBool,
}

impl Behind {
    fn new(android: Arc<Android>, tunnels: Arc<Tunnels>) -> Self {
        Self { android, tunnels, ends_adbd: AtomicBool::new(false) }
    }

    fn ends_adbd(&self) -> bool {
        self.ends_adbd.load(Ordering::Relaxed)
    }
}

impl Device for Behind {
    type Files = PhoneFiles;

    async fn run(&self, command: Command<'_>, console: &mut Console<'_>) -> Output {
        match command {
            Command::Line(line) => shell::run(&self.android, line, console).await,
            Command::Service(arguments) => {
                let words = [&["cmd"], arguments].concat();
                shell::command(&self.android, &words, console).await
            }
        }
    }

    fn files(&self) -> &PhoneFiles {
        &self.android.files
    }

    fn reboot(&self, target: RebootTarget<'_>) -> Result<(), String> {
        if matches!(target, RebootTarget::Other("sideload" | "sideload-auto-reboot")) && !self.android.state().root {
            return Err("'adb root' is required for 'adb reboot sideload'.\n".to_owned());
        }
        // A virtual phone has neither boot loader nor recovery: it always comes back into Android.
        self.android.restart.notify_one();
        Ok(())
    }

    fn adbd(&self, wanted: Adbd) -> AdbdAnswer {
        let mut state = self.android.state();
        let (answer, property) = match (wanted, state.root) {
            (Adbd::Root, true) => return AdbdAnswer::stays("adbd is already running as root\n"),
            (Adbd::Root, false) if !self.android.spec.debuggable => {
                return AdbdAnswer::stays("adbd cannot run as root in production builds\n");
            }
            (Adbd::NoRoot, false) => return AdbdAnswer::stays("adbd not running as root\n"),
            (Adbd::Tcp { port: port @ ..=0 }, _) => return AdbdAnswer::stays(format!("invalid port {port}\n")),
            (Adbd::Root, false) => ("restarting adbd as root\n".to_owned(), ("service.adb.root", 1)),
            (Adbd::NoRoot, true) => ("restarting adbd as non root\n".to_owned(), ("service.adb.root", 0)),
            // Its one port serves for USB and for TCP.
            (Adbd::Tcp { port }, _) => {
                (format!("restarting in TCP mode port: {port}\n"), ("service.adb.tcp.port", port))
            }
            (Adbd::Usb, _) => ("restarting in USB mode\n".to_owned(), ("service.adb.tcp.port", 0)),
        };
        state.root = match wanted {
            Adbd::Root => true,
            Adbd::NoRoot => false,
            Adbd::Tcp { .. } | Adbd::Usb => state.root,
        };
        let (name, value) = property;
        state.properties.insert(name.to_owned(), value.to_string());
        self.ends_adbd.store(true, Ordering::Relaxed);
        AdbdAnswer::restarts(answer)
    }

    fn remount(&self) -> String {
        self.android.remount().unwrap_or_else(|why| why).to_owned()
    }

    async fn listen(&self, port: u16) -> io::Result<TcpListener> {
        TcpListener::bind((self.android.loopback, port)).await
    }

    async fn connect(&self, port: u16) -> io::Result<TcpStream> {
        TcpStream::connect((self.android.loopback, port)).await
    }

    fn tunnel(&self, change: TunnelChange<'_>) {
        self.tunnels.change(&self.android.spec.name, change);
    }
}
