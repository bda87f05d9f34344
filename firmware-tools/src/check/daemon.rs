//! The real daemon as a child process, and its command line.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::until::until;

/// A running `farmhand run`; it is killed when it is dropped.
pub struct Daemon {
    program: PathBuf,
    config: PathBuf,
    state: PathBuf,
    log: PathBuf,
    child: Child,
}

/// Why the daemon, or an order to it, failed.
#[derive(Debug, thiserror::Error)]
pub enum DaemonError {
    /// Its program could not be started.
    #[error("{} could not be started: {error}", .program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// It did not answer its command line.
    #[error("the daemon did not come up: {why}; its log: {}", .log.display())]
    NotUp {
        /// What was seen instead.
        why: String,
        /// Where its log is.
        log: PathBuf,
    },
    /// The command line refused or said something else than expected.
    #[error("`farmhand {words}`: {why}")]
    Command {
        /// The words of the command.
        words: String,
        /// What it said.
        why: String,
    },
}

/// From the start of the process to the first answer; the daemon's own goal is far below.
const UP_WITHIN: Duration = Duration::from_secs(15);
/// One command of the command line.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(10);
/// From SIGTERM to the end.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

impl Daemon {
    /// Starts it and waits until its command line answers. What it prints is appended to `log`.
    ///
    /// # Errors
    ///
    /// The program is missing, or the daemon does not come up.
    pub async fn start(program: &Path, config: &Path, state: &Path, log: &Path) -> Result<Self, DaemonError> {
        Self::start_by(&[], program, config, state, log).await
    }

    /// The same with other words before the program's own, such as `unshare` and its options.
    ///
    /// # Errors
    ///
    /// As [`Daemon::start`].
    pub async fn start_by(
        before: &[&str],
        program: &Path,
        config: &Path,
        state: &Path,
        log: &Path,
    ) -> Result<Self, DaemonError> {
        let child = spawn(before, program, config, state, log)?;
        let mut daemon = Self {
            program: program.to_owned(),
            config: config.to_owned(),
            state: state.to_owned(),
            log: log.to_owned(),
            child,
        };
        daemon.wait_until_up().await?;
        Ok(daemon)
    }

    /// Kills it as `kill -9` does and waits until it is gone.
    ///
    /// # Errors
    ///
    /// It cannot be killed.
    pub async fn kill(&mut self) -> io::Result<()> {
        self.child.kill().await
    }

    /// Starts it again on the same state.
    ///
    /// # Errors
    ///
    /// As [`Daemon::start`].
    pub async fn start_again(&mut self) -> Result<(), DaemonError> {
        self.child = spawn(&[], &self.program, &self.config, &self.state, &self.log)?;
        self.wait_until_up().await
    }

    /// Ends it in order, as a service manager would.
    pub async fn stop(&mut self) {
        self.signal(nix::sys::signal::Signal::SIGTERM);
        if timeout(STOP_TIMEOUT, self.child.wait()).await.is_err() {
            let _ = self.child.kill().await;
        }
    }

    /// Has it read its configuration anew, as `systemctl reload` does.
    pub fn reload(&self) {
        self.signal(nix::sys::signal::Signal::SIGHUP);
    }

    fn signal(&self, signal: nix::sys::signal::Signal) {
        if let Some(id) = self.child.id().and_then(|id| i32::try_from(id).ok()) {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(id), signal);
        }
    }

    /// Waits until the process ends by itself.
    ///
    /// # Errors
    ///
    /// It cannot be waited for.
    pub async fn ended(&mut self) -> io::Result<std::process::ExitStatus> {
        self.child.wait().await
    }

    /// Where its log is.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.log
    }

    /// What a command of the command line prints as JSON.
    ///
    /// # Errors
    ///
    /// It fails, or prints something else.
    pub async fn ask<T: DeserializeOwned>(&self, words: &[&str]) -> Result<T, DaemonError> {
        let text = self.tell(words).await?;
        let bad = |error: serde_json::Error| {
            let start: String = text.chars().take(200).collect();
            DaemonError::Command {
                words: words.join(" "),
                why: format!("its JSON cannot be read: {error}; it begins {start}"),
            }
        };
        serde_json::from_str(&text).map_err(bad)
    }

    /// What a command of the command line prints.
    ///
    /// # Errors
    ///
    /// It fails.
    pub async fn tell(&self, words: &[&str]) -> Result<String, DaemonError> {
        let output = self.run(words).await?;
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            Err(DaemonError::Command { words: words.join(" "), why })
        }
    }

    /// Begins a command of the command line, and does not wait for its end.
    ///
    /// # Errors
    ///
    /// It can't be started.
    pub fn begin(&self, words: &[&str]) -> io::Result<Child> {
        let mut command = Command::new(&self.program);
        command.arg("--state").arg(&self.state).args(words).stdin(Stdio::null()).kill_on_drop(true);
        command.stdout(Stdio::null()).stderr(Stdio::null()).spawn()
    }

    /// What a command of the command line prints, byte for byte, and how it ends.
    ///
    /// # Errors
    ///
    /// It can't be started, or does not end.
    pub async fn run(&self, words: &[&str]) -> Result<Output, DaemonError> {
        self.run_within(words, COMMAND_TIMEOUT).await
    }

    /// The same of a command that waits for something itself.
    ///
    /// # Errors
    ///
    /// It can't be started, or does not end within `limit`.
    pub async fn run_within(&self, words: &[&str], limit: Duration) -> Result<Output, DaemonError> {
        let failed = |why: String| DaemonError::Command { words: words.join(" "), why };
        let mut command = Command::new(&self.program);
        // Before the words: what stands behind `shell` is the phone's.
        command.arg("--state").arg(&self.state).args(words).stdin(Stdio::null()).kill_on_drop(true);
        match timeout(limit, command.output()).await {
            Ok(Ok(output)) => Ok(output),
            Ok(Err(error)) => Err(failed(error.to_string())),
            Err(_) => Err(failed(format!("no answer within {limit:?}"))),
        }
    }

    async fn wait_until_up(&mut self) -> Result<(), DaemonError> {
        let up = until(UP_WITHIN, "an answer", async || {
            if let Ok(Some(status)) = self.child.try_wait() {
                return Ok(Err(format!("it ended at once with {status}")));
            }
            let answer: Result<serde_json::Value, _> = self.ask(&["status", "--json"]).await;
            answer.map(|_| Ok(())).map_err(|error| error.to_string())
        });
        let why = match up.await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(why)) => why,
            Err(miss) => miss.to_string(),
        };
        Err(DaemonError::NotUp { why, log: self.log.clone() })
    }
}

fn spawn(before: &[&str], program: &Path, config: &Path, state: &Path, log: &Path) -> Result<Child, DaemonError> {
    let failed = |error| DaemonError::Start { program: program.to_owned(), error };
    let out = File::options().create(true).append(true).open(log).map_err(failed)?;
    let err = out.try_clone().map_err(failed)?;
    let mut words = before.iter().map(std::ffi::OsStr::new).chain([program.as_os_str()]);
    Command::new(words.next().unwrap_or(program.as_os_str()))
        .args(words)
        .arg("run")
        .arg("--config")
        .arg(config)
        .arg("--state")
        .arg(state)
        // Ctrl-C in a terminal goes to everyone of a group: the daemon is ended by this program, in order.
        .process_group(0)
        .stdin(Stdio::null())
        .stdout(out)
        .stderr(err)
        .kill_on_drop(true)
        .spawn()
        .map_err(failed)
}
