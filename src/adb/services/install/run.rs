//! Bringing the APK to the package manager: streamed where the handset can, else as a file.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{self, Seek as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::watch;
use tokio_util::io::StreamReader;

use super::judge;
use crate::adb::connection::EndReason;
use crate::adb::driver::{Adb, OpenError, Stream};
use crate::adb::failure::{InstallFailure, InstallFailureClass};
use crate::adb::services::batches::{Batch, Batches, Layout, Source};
use crate::adb::services::shared::{SharedBatches, SharedFile, SharedFiles};
use crate::adb::services::shell::{Packet, ServiceError, ShellLimits, read_all, read_packets};
use crate::adb::services::sync::{PushOptions, RemoteFile, SyncError};
use crate::checkpoint;

/// How much a package manager may say, in bytes.
const ANSWER_MAX: usize = 64 << 10;

/// Where APKs are put on handsets that can't take them from a stream, before `.apk`. One install runs on a handset at a time.
const REMOTE_APK: &str = "/data/local/tmp/farmhand-install";
/// Parts of a split app whose files are looked for: more splits than an app for one phone has.
const PARTS_MAX: usize = 16;

/// The files that installs which were cut off may have left on a phone, with a space between.
#[must_use]
pub fn leftovers() -> String {
    let parts = (0..PARTS_MAX).map(|index| format!(" {REMOTE_APK}-{index}.apk"));
    format!("{REMOTE_APK}.apk") + &parts.collect::<String>()
}

/// How much of an APK's name is told to the phone, in characters.
const PART_NAME_MAX: usize = 64;

/// What the package manager shall allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
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
    /// Arguments of `install`. The referrer tells which sessions are farmhand's; `-r` replaces an installed version, which older handsets don't do by themselves.
    fn arguments(&self) -> Vec<String> {
        let mut arguments = ["-r", "--referrer", super::SESSION_MARK].map(str::to_owned).to_vec();
        arguments.extend(self.flags.iter().map(|flag| flag.argument().to_owned()));
        arguments.extend(self.user.iter().flat_map(|user| ["--user".to_owned(), user.to_string()]));
        arguments
    }
}

/// An APK on the host: a whole app, or one split of it.
#[derive(Clone, Debug)]
pub struct Apk {
    name: String,
    content: Content,
    size: u64,
}

/// Where an APK's bytes come from.
#[derive(Clone, Debug)]
enum Content {
    /// A file of its own.
    File(Arc<File>),
    /// A file that goes to other phones at the same time.
    Shared(Arc<SharedFile>),
}

impl Apk {
    /// Takes an open file; `name` is for people and for the phone's own log.
    ///
    /// # Errors
    /// The file's size can't be told.
    pub fn new(name: impl Into<String>, file: File) -> io::Result<Self> {
        let size = file.metadata()?.len();
        Ok(Self { name: name.into(), content: Content::File(Arc::new(file)), size })
    }

    /// Opens one that is read once for all phones to which it goes at a time.
    ///
    /// # Errors
    /// It can't be read.
    pub fn shared(files: &SharedFiles, path: &Path) -> Result<Self, InstallFailure> {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let file = files.open(path).map_err(|error| unreadable(&path.display().to_string(), &error))?;
        Ok(Self { name, size: file.size(), content: Content::Shared(Arc::new(file)) })
    }

    /// Its bytes, from the first one on.
    fn source(&self) -> io::Result<Source<'static>> {
        match &self.content {
            Content::File(file) => {
                file.as_ref().rewind()?;
                Ok(Arc::clone(file).into())
            }
            Content::Shared(file) => Ok(Source::stream(StreamReader::new(file.reader().into_stream()))),
        }
    }

    /// The same in pieces for the wire.
    fn pieces(&self, payload_max: usize) -> io::Result<Pieces> {
        Ok(match &self.content {
            Content::File(_) => {
                Pieces::Own(Box::new(Batches::new(self.source()?, Layout::Plain, payload_max, Bytes::new())))
            }
            Content::Shared(file) => Pieces::Shared(SharedBatches::new(file.reader(), payload_max)),
        })
    }

    /// A name for the part of an install session, of characters that mean nothing to a shell.
    fn part_name(&self, index: usize) -> String {
        let plain = |c: char| if c.is_ascii_alphanumeric() || "._-".contains(c) { c } else { '_' };
        format!("{index}_{}", self.name.chars().map(plain).take(PART_NAME_MAX).collect::<String>())
    }
}

/// The bytes of an APK as they go to the wire.
enum Pieces {
    Own(Box<Batches<'static>>),
    Shared(SharedBatches),
}

impl Pieces {
    /// The next one; none behind the last byte. Not cancel-safe.
    async fn next(&mut self) -> io::Result<Option<Batch>> {
        match self {
            Self::Own(batches) => batches.next().await,
            Self::Shared(batches) => batches.next().await,
        }
    }
}

/// The ways to the package manager, the fastest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// The package manager itself, without a process of its own.
    AbbExec,
    /// `cmd package`, from Android 7.
    Cmd,
    /// `pm` on files that were pushed before.
    Pm,
}

impl Way {
    fn is_offered(self, adb: &Adb) -> bool {
        match self {
            Self::AbbExec => adb.banner().offers("abb_exec"),
            Self::Cmd => adb.banner().offers("cmd"),
            Self::Pm => true,
        }
    }
}

impl Adb {
    /// Installs an APK, or updates it.
    ///
    /// # Errors
    /// Why it is not installed, by what to do about it. A connection that ended in the middle is one that may work the next time:
    /// whether the app is installed then must be asked.
    pub async fn install(&self, apk: &Path, options: &InstallOptions) -> Result<(), InstallFailure> {
        let name = apk.file_name().unwrap_or_default().to_string_lossy();
        match File::open(apk).and_then(|file| Apk::new(name, file)) {
            Ok(opened) => self.install_apks(&[opened], options).await,
            Err(error) => Err(unreadable(&apk.display().to_string(), &error)),
        }
    }

    /// Installs an app that consists of one APK, or of a base and its splits: those in one session, all or none.
    ///
    /// # Errors
    /// As [`install`](Self::install).
    pub async fn install_apks(&self, apks: &[Apk], options: &InstallOptions) -> Result<(), InstallFailure> {
        let work = async {
            let mut answer = Ok(String::new());
            for way in [Way::AbbExec, Way::Cmd, Way::Pm].into_iter().filter(|way| way.is_offered(self)) {
                tracing::debug!(?way, apks = apks.len(), "installing");
                answer = match apks {
                    [apk] => self.install_one(apk, options, way).await,
                    _ => self.install_session(apks, options, way).await,
                };
                // What it offers it may still refuse, as before Android has started.
                if !matches!(answer, Err(Trouble::Open(OpenError::Ended { reason: EndReason::Refused, .. }))) {
                    break;
                }
            }
            answer
        };
        let answer = match tokio::time::timeout(options.wait, work).await {
            Ok(answer) => answer.map_err(Trouble::failure)?,
            Err(_) => {
                let why = format!("the phone did not finish the install within {:?}", options.wait);
                return Err(InstallFailure { class: InstallFailureClass::Transient, reason: None, why });
            }
        };
        judge(&answer)
    }

    async fn install_one(&self, apk: &Apk, options: &InstallOptions, way: Way) -> Result<String, Trouble> {
        let mut arguments = vec!["install".to_owned()];
        arguments.extend(options.arguments());
        if way == Way::Pm {
            let remote = format!("{REMOTE_APK}.apk");
            self.push_apk(apk, &remote, options, 0).await?;
            arguments.push(remote.clone());
            let answer = self.package_manager(way, &arguments, options).await;
            self.remove(&[remote]).await;
            return answer;
        }
        arguments.extend(["-S".to_owned(), apk.size.to_string()]);
        self.stream_apk(way, &arguments, apk, options, 0).await
    }

    async fn install_session(&self, apks: &[Apk], options: &InstallOptions, way: Way) -> Result<String, Trouble> {
        let total: u64 = apks.iter().map(|apk| apk.size).sum();
        let mut create = vec!["install-create".to_owned()];
        create.extend(options.arguments());
        create.extend(["-S".to_owned(), total.to_string()]);
        let answer = self.package_manager(way, &create, options).await?;
        let Some(session) = session_of(&answer) else { return Ok(answer) };
        let answer = self.fill_session(session, apks, options, way).await;
        if !matches!(&answer, Ok(answer) if judge(answer).is_ok()) {
            // The failure that is told is the first one; a session that is left is dropped by Android some day.
            let abandon = ["install-abandon".to_owned(), session.to_string()];
            let _ = self.package_manager(way, &abandon, options).await;
        }
        answer
    }

    /// Writes each part and commits. Ends with the first answer that is no success.
    async fn fill_session(
        &self,
        session: u64,
        apks: &[Apk],
        options: &InstallOptions,
        way: Way,
    ) -> Result<String, Trouble> {
        let mut before = 0;
        for (index, apk) in apks.iter().enumerate() {
            let part = apk.part_name(index);
            let write: Vec<String> =
                ["install-write", "-S", &apk.size.to_string(), &session.to_string(), &part].map(str::to_owned).into();
            let answer = if way == Way::Pm {
                let remote = format!("{REMOTE_APK}-{index}.apk");
                self.push_apk(apk, &remote, options, before).await?;
                let answer = self.package_manager(way, &[write, vec![remote.clone()]].concat(), options).await;
                self.remove(&[remote]).await;
                answer?
            } else {
                self.stream_apk(way, &[write, vec!["-".to_owned()]].concat(), apk, options, before).await?
            };
            if judge(&answer).is_err() {
                return Ok(answer);
            }
            before += apk.size;
        }
        self.package_manager(way, &["install-commit".to_owned(), session.to_string()], options).await
    }

    /// Has the package manager do something that needs no bytes.
    async fn package_manager(
        &self,
        way: Way,
        arguments: &[String],
        options: &InstallOptions,
    ) -> Result<String, Trouble> {
        let program = match way {
            Way::AbbExec => {
                let stream = self.open(abb_exec(arguments)).await?;
                return Ok(String::from_utf8_lossy(&read_all(&stream, ANSWER_MAX).await?).into_owned());
            }
            Way::Cmd => "cmd package",
            Way::Pm => "pm",
        };
        let limits = ShellLimits { wait: options.wait, output_max: ANSWER_MAX };
        Ok(self.shell_within(&format!("{program} {}", arguments.join(" ")), limits).await?.all())
    }

    /// Has the package manager read an APK from the stream. Ends early if the handset does: its answer says why.
    async fn stream_apk(
        &self,
        way: Way,
        arguments: &[String],
        apk: &Apk,
        options: &InstallOptions,
        before: u64,
    ) -> Result<String, Trouble> {
        let unreadable = |error| Trouble::Apk(apk.name.clone(), error);
        let mut batches = apk.pieces(self.payload_max()).map_err(unreadable)?;
        let (service, input) = self.streamed(way, arguments, apk.size);
        let stream = self.open(service).await?;
        if let Input::Packet(len) = input {
            // If it has ended already, the next write sees it, too.
            let _ = stream.write(Packet::stdin_head(len)).await;
        }
        let mut total = before;
        let mut batch = batches.next().await.map_err(unreadable)?;
        while let Some(now) = batch {
            let (written, next) = tokio::join!(stream.write(now.bytes), batches.next());
            checkpoint::at(checkpoint::INSTALL_HALF);
            match written {
                Ok(()) => {}
                Err(error) if error.reason == EndReason::ByPeer => break,
                Err(error) => return Err(ServiceError::from(error).into()),
            }
            batch = next.map_err(unreadable)?;
            total += now.source_len as u64;
            if let Some(progress) = &options.progress {
                progress.send_replace(total);
            }
        }
        // What it was read for with others it no longer holds up.
        drop(batches);
        Ok(answer(&stream, input).await?)
    }

    /// The service of a package manager that reads `size` bytes of an APK, and how they come to it.
    fn streamed(&self, way: Way, arguments: &[String], size: u64) -> (String, Input) {
        if way == Way::AbbExec {
            return (abb_exec(arguments), Input::Bytes);
        }
        let command = format!("cmd package {}", arguments.join(" "));
        // What comes by `exec:` goes through a terminal to the command, 4 KiB at a time, and each 10 KB are acknowledged.
        match u32::try_from(size) {
            Ok(len) if self.banner().offers("shell_v2") => (format!("shell,v2,raw:{command}"), Input::Packet(len)),
            _ => (format!("exec:{command}"), Input::Bytes),
        }
    }

    async fn push_apk(&self, apk: &Apk, remote: &str, options: &InstallOptions, before: u64) -> Result<(), Trouble> {
        let source = apk.source().map_err(|error| Trouble::Apk(apk.name.clone(), error))?;
        let to = RemoteFile { path: remote.to_owned(), mode: 0o644, mtime_s: 0 };
        let pushed = self.push(source, &to, &PushOptions::default()).await;
        pushed.map_err(|error| match error {
            SyncError::Source(error) => Trouble::Apk(apk.name.clone(), error),
            error => error.into(),
        })?;
        if let Some(progress) = &options.progress {
            progress.send_replace(before + apk.size);
        }
        Ok(())
    }

    /// Removes what was pushed. What can't be removed now is written over by the next install.
    async fn remove(&self, paths: &[String]) {
        let _ = self.shell(&format!("rm -f {}", paths.join(" "))).await;
    }
}

/// How an APK comes to the package manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Input {
    /// As the stream's bytes; the stream's other bytes are the answer.
    Bytes,
    /// As one packet of the shell's protocol, of so many bytes.
    Packet(u32),
}

/// What the package manager says once it has the APK.
async fn answer(stream: &Stream, input: Input) -> Result<String, ServiceError> {
    match input {
        Input::Bytes => Ok(String::from_utf8_lossy(&read_all(stream, ANSWER_MAX).await?).into_owned()),
        Input::Packet(_) => {
            // Who has had enough may have ended.
            let _ = stream.write(Packet::CloseStdin.emit()).await;
            Ok(read_packets(stream, ANSWER_MAX).await?.all())
        }
    }
}

fn abb_exec(arguments: &[String]) -> String {
    format!("abb_exec:package\0{}", arguments.join("\0"))
}

/// The number in `Success: created install session [1234]`.
fn session_of(answer: &str) -> Option<u64> {
    let (_, rest) = answer.split_once("Success")?;
    let (_, rest) = rest.split_once('[')?;
    rest.split_once(']')?.0.trim().parse().ok()
}

fn unreadable(apk: &str, error: &io::Error) -> InstallFailure {
    InstallFailure { class: InstallFailureClass::Permanent, reason: None, why: format!("{apk} can't be read: {error}") }
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
    #[error("{0} can't be read: {1}")]
    Apk(String, io::Error),
}

impl Trouble {
    fn failure(self) -> InstallFailure {
        match self {
            Self::Apk(name, error) => unreadable(&name, &error),
            Self::Open(_) | Self::Service(_) | Self::Sync(_) => InstallFailure::interrupted(&self.to_string()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_is_known_by_its_number() {
        assert_eq!(session_of("Success: created install session [1234]\n"), Some(1234));
        assert_eq!(session_of("Failure [INSTALL_FAILED_INTERNAL_ERROR]"), None);
        assert_eq!(session_of("Success"), None);
    }

    #[test]
    fn a_part_of_a_session_has_a_name_that_no_shell_takes_apart() {
        let apk = Apk::new("base $(reboot)'.apk", tempfile::tempfile().unwrap()).unwrap();
        assert_eq!(apk.part_name(2), "2_base___reboot__.apk");
    }
}
