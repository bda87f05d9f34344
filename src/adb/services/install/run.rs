//! Bringing the APK to the package manager: streamed where the handset can, else as a file.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use bytes::BytesMut;
use tokio::fs::File;
use tokio::io::AsyncReadExt as _;
use tokio::sync::watch;

use super::judge;
use crate::adb::connection::EndReason;
use crate::adb::driver::{Adb, OpenError, Stream};
use crate::adb::services::shell::{ServiceError, ShellLimits, read_all};
use crate::adb::services::sync::{RemoteFile, SyncError};
use crate::phone::{InstallFailure, InstallFailureClass};

/// How much a package manager may say, in bytes.
const ANSWER_MAX: usize = 64 << 10;

/// Where an APK is put on handsets that can't take it from a stream. One install runs on a handset at a time.
const REMOTE_APK: &str = "/data/local/tmp/farmhand-install.apk";

/// What the package manager shall allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum InstallFlag {
    /// An older version than the installed one.
    Downgrade,
    /// An app that is marked as a test.
    TestOnly,
    /// All its permissions at once.
    GrantPermissions,
}

impl InstallFlag {
    fn argument(self) -> &'static str {
        match self {
            Self::Downgrade => "-d",
            Self::TestOnly => "-t",
            Self::GrantPermissions => "-g",
        }
    }
}

/// How to install.
#[derive(Debug)]
pub struct InstallOptions {
    /// What is allowed.
    pub flags: BTreeSet<InstallFlag>,
    /// For which user of the handset; all, if none is named.
    pub user: Option<u32>,
    /// From the first byte to the package manager's answer. Slow flash takes minutes for a large app.
    pub wait: Duration,
    /// Told the bytes that were given for sending.
    pub progress: Option<watch::Sender<u64>>,
}

impl Default for InstallOptions {
    fn default() -> Self {
        Self { flags: BTreeSet::new(), user: None, wait: Duration::from_secs(600), progress: None }
    }
}

impl InstallOptions {
    /// Arguments of `install`. `-r` replaces an installed version, which older handsets don't do by themselves.
    fn arguments(&self) -> Vec<String> {
        let mut arguments = vec!["-r".to_owned()];
        arguments.extend(self.flags.iter().map(|flag| flag.argument().to_owned()));
        arguments.extend(self.user.iter().flat_map(|user| ["--user".to_owned(), user.to_string()]));
        arguments
    }
}

/// The ways to stream an APK, the fastest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// The package manager itself, without a process of its own.
    AbbExec,
    /// `cmd package`, from Android 7.
    Cmd,
}

impl Adb {
    /// Installs an APK, or updates it.
    ///
    /// # Errors
    /// Why it is not installed, by what to do about it. A connection that ended in the middle is one that may work the next time:
    /// whether the app is installed then must be asked.
    pub async fn install(&self, apk: &Path, options: &InstallOptions) -> Result<(), InstallFailure> {
        let work = async {
            for way in [Way::AbbExec, Way::Cmd].into_iter().filter(|way| self.has(*way)) {
                match self.install_streamed(apk, options, way).await {
                    // What it offers it may still refuse, as before Android has started.
                    Err(Trouble::Open(OpenError::Ended { reason: EndReason::Refused, .. })) => {}
                    other => return other,
                }
            }
            self.install_file(apk, options).await
        };
        let answer = match tokio::time::timeout(options.wait, work).await {
            Ok(answer) => answer.map_err(|trouble| trouble.failure(apk))?,
            Err(_) => {
                let why = format!("the phone did not finish the install within {:?}", options.wait);
                return Err(InstallFailure { class: InstallFailureClass::Transient, reason: None, why });
            }
        };
        judge(&answer)
    }

    fn has(&self, way: Way) -> bool {
        match way {
            Way::AbbExec => self.banner().offers("abb_exec"),
            Way::Cmd => self.banner().offers("cmd"),
        }
    }

    async fn install_streamed(&self, apk: &Path, options: &InstallOptions, way: Way) -> Result<String, Trouble> {
        let mut file = File::open(apk).await.map_err(Trouble::Apk)?;
        let size = file.metadata().await.map_err(Trouble::Apk)?.len();
        let mut arguments = vec!["package".to_owned(), "install".to_owned()];
        arguments.extend(options.arguments());
        arguments.extend(["-S".to_owned(), size.to_string()]);
        let service = match way {
            Way::AbbExec => format!("abb_exec:{}", arguments.join("\0")),
            Way::Cmd => format!("exec:cmd {}", arguments.join(" ")),
        };
        let stream = self.open(service).await?;
        tracing::debug!(apk = %apk.display(), size, ?way, "installing");
        send(&stream, &mut file, self.payload_max(), options.progress.as_ref()).await?;
        Ok(String::from_utf8_lossy(&read_all(&stream, ANSWER_MAX).await?).into_owned())
    }

    async fn install_file(&self, apk: &Path, options: &InstallOptions) -> Result<String, Trouble> {
        let file = File::open(apk).await.map_err(Trouble::Apk)?;
        let to = RemoteFile { path: REMOTE_APK.to_owned(), mode: 0o644, mtime_s: 0 };
        tracing::debug!(apk = %apk.display(), "installing by way of a file");
        let len = self.push(file, &to).await?;
        if let Some(progress) = &options.progress {
            progress.send_replace(len);
        }
        let limits = ShellLimits { wait: options.wait, output_max: ANSWER_MAX };
        let command = format!("pm install {} {REMOTE_APK}; rm -f {REMOTE_APK}", options.arguments().join(" "));
        let output = self.shell_within(&command, limits).await?;
        // Some print their failure as an error.
        Ok(String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
    }
}

/// Sends a file as it is, in writes of exactly the agreed maximum. Ends early if the handset does: its answer says why.
async fn send(
    stream: &Stream,
    file: &mut File,
    payload_max: usize,
    progress: Option<&watch::Sender<u64>>,
) -> Result<(), Trouble> {
    let mut total = 0;
    loop {
        let mut chunk = BytesMut::with_capacity(payload_max);
        while chunk.len() < payload_max {
            let room = payload_max - chunk.len();
            if (&mut *file).take(room as u64).read_buf(&mut chunk).await.map_err(Trouble::Apk)? == 0 {
                break;
            }
        }
        let last = chunk.len() < payload_max;
        total += chunk.len() as u64;
        match stream.write(chunk.freeze()).await {
            Ok(()) => {}
            Err(error) if error.reason == EndReason::ByPeer => return Ok(()),
            Err(error) => return Err(ServiceError::from(error).into()),
        }
        if let Some(progress) = progress {
            progress.send_replace(total);
        }
        if last {
            return Ok(());
        }
    }
}

/// Why there is no answer of the package manager.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Open(#[from] OpenError),
    #[error(transparent)]
    Service(#[from] ServiceError),
    #[error(transparent)]
    Sync(#[from] SyncError),
    #[error(transparent)]
    Apk(std::io::Error),
}

impl Trouble {
    fn failure(&self, apk: &Path) -> InstallFailure {
        match self {
            Self::Apk(error) | Self::Sync(SyncError::Source(error)) => InstallFailure {
                class: InstallFailureClass::Permanent,
                reason: None,
                why: format!("{} can't be read: {error}", apk.display()),
            },
            Self::Open(_) | Self::Service(_) | Self::Sync(_) => InstallFailure::interrupted(&self.to_string()),
        }
    }
}
