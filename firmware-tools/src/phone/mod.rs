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
mod battery;
mod dumpsys;
mod faults;
mod packages;
mod port;
mod shell;
mod spec;
#[cfg(test)]
mod tests;
mod words;

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use handset::{Command, Console, Device, MemoryFiles, Output, RebootTarget};
use tokio_util::sync::CancellationToken;

use android::Android;
use packages::InstallOptions;
use port::Port;

pub use faults::Fault;
pub use spec::{AdbGeneration, Auth, Network, PhoneSpec};

/// A phone on a TCP port of this host. It is gone when this is dropped.
pub struct VirtualPhone {
    android: Arc<Android>,
    port: Arc<Port>,
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
    /// Restarts.
    pub reboots: u64,
    /// ADB connections that are open.
    pub connections: usize,
    /// Whole percent in the battery.
    pub battery_percent: u8,
}

impl VirtualPhone {
    /// Makes a phone and plugs it in. Must be called inside a tokio runtime.
    ///
    /// # Errors
    /// An APK or key of the spec can't be read or used, or the port is taken; the error names it.
    pub fn start(spec: PhoneSpec) -> io::Result<Self> {
        let android = Arc::new(Android::new(spec));
        for path in &android.spec.packages {
            let content = Bytes::from(named(path.display(), std::fs::read(path))?);
            let mut state = android.state();
            let installed = state.packages.install(&content, android.spec.sdk, u64::MAX, InstallOptions::default());
            named(path.display(), installed.map(drop).map_err(io::Error::other))?;
        }
        let port = Arc::new(Port::new(Arc::clone(&android))?);
        port.plug_in_first()?;
        let stop = CancellationToken::new();
        tokio::spawn(restart_when_asked(Arc::clone(&android), Arc::clone(&port), stop.clone()));
        Ok(Self { android, port, stop })
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

    /// Restarts the phone, as its owner would.
    pub fn reboot(&self) {
        self.android.restart.notify_one();
    }

    /// What can be seen of it.
    #[must_use]
    pub fn state(&self) -> PhoneStateView {
        let now = self.android.now();
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
            reboots: state.reboots,
            connections: self.port.connections(),
            battery_percent: state.battery.read(now).level,
        }
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

async fn restart_when_asked(android: Arc<Android>, port: Arc<Port>, stop: CancellationToken) {
    let restarts = async {
        loop {
            android.restart.notified().await;
            tracing::debug!(phone = android.spec.name, "the phone restarts");
            {
                let mut state = android.state();
                state.booted = false;
                state.reboots += 1;
            }
            // Nothing is bound while it is away, so nothing can fail.
            let _ = port.set_up(false).await;
            tokio::time::sleep(seconds(android.spec.reboot_away_s)).await;
            if let Err(error) = port.set_up(true).await {
                tracing::warn!(phone = android.spec.name, %error, "the phone is back, but its port is taken");
            }
            tokio::time::sleep(seconds(android.spec.boot_s)).await;
            let mut state = android.state();
            state.booted = true;
        }
    };
    tokio::select! {
        () = restarts => {}
        () = stop.cancelled() => {}
    }
}

/// Seconds of a spec; nonsense counts as none.
fn seconds(seconds: f64) -> Duration {
    Duration::try_from_secs_f64(seconds).unwrap_or_default()
}

/// The phone as its adbd sees it.
struct Behind(Arc<Android>);

impl Device for Behind {
    type Files = MemoryFiles;

    async fn run(&self, command: Command<'_>, console: &mut Console<'_>) -> Output {
        match command {
            Command::Line(line) => shell::run(&self.0, line, console).await,
            Command::Service(arguments) => {
                let words = [&["cmd"], arguments].concat();
                shell::command(&self.0, &words, console).await
            }
        }
    }

    fn files(&self) -> &MemoryFiles {
        &self.0.files
    }

    fn reboot(&self, _target: RebootTarget<'_>) {
        // A virtual phone has neither boot loader nor recovery: it always comes back into Android.
        self.0.restart.notify_one();
    }
}
