//! `farmhand run`: the daemon itself, in the foreground, as a service manager wants it.

use std::path::{Path, PathBuf};

use clap::Args;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use tracing_subscriber::EnvFilter;

use super::failure::Failure;
use crate::config::{self, Loaded};
use crate::daemon;

#[derive(Debug, Args)]
pub(super) struct Run {
    /// The configuration; without this and without a file at the usual place the daemon only observes
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// What is logged, from `error` to `trace`, for all or by module: `info,farmhand::adb=debug`
    #[arg(long, value_name = "LEVELS", env = "RUST_LOG", hide_env_values = true, default_value = "info")]
    log: String,
}

impl Run {
    pub(super) fn carry_out(self, state: &Path) -> Result<String, Failure> {
        let config = match &self.config {
            Some(file) => Some(config::read(file)?),
            None if Path::new(super::CONFIG_FILE).exists() => Some(config::read(Path::new(super::CONFIG_FILE))?),
            None => None,
        };
        let levels = EnvFilter::try_new(&self.log).map_err(|reason| Failure::LogLevels { levels: self.log, reason })?;
        // The journal has its own clock; a terminal has none.
        let format = tracing_subscriber::fmt().with_env_filter(levels).with_writer(std::io::stderr).with_target(false);
        if std::env::var_os("JOURNAL_STREAM").is_some() {
            format.without_time().with_ansi(false).init();
        } else {
            format.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).init();
        }
        // One thread for all tasks: they mostly wait, and with more of them each event wakes two.
        tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Failure::Runtime)?
            .block_on(run(config, self.config.unwrap_or_else(|| super::CONFIG_FILE.into()), state))
            .map(|()| String::new())
    }
}

async fn run(loaded: Option<Loaded>, file: PathBuf, state: &Path) -> Result<(), Failure> {
    let cancel = CancellationToken::new();
    stop_on_signal(cancel.clone()).map_err(Failure::Runtime)?;
    let config = loaded.map_or_else(
        || {
            info!("there is no {}: farmhand only observes", super::CONFIG_FILE);
            config::observing()
        },
        |loaded| loaded.config,
    );
    let reloads = reload_on_signal(file).map_err(Failure::Runtime)?;
    daemon::run(config, reloads, state, cancel).await.map_err(Failure::Daemon)
}

/// Reads the file anew at each SIGHUP. One that is wrong changes nothing, and says so.
fn reload_on_signal(file: PathBuf) -> std::io::Result<mpsc::Receiver<config::Config>> {
    let mut hangup = signal(SignalKind::hangup())?;
    let (reloads, inbox) = mpsc::channel(1);
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            match config::read(&file) {
                Ok(loaded) => {
                    if reloads.send(loaded.config).await.is_err() {
                        return;
                    }
                }
                Err(why) => error!("what ran before goes on: {:?}", miette::Report::new(why)),
            }
        }
    });
    Ok(inbox)
}

/// Ends the daemon in good order at the first SIGTERM or SIGINT, at once at the second.
fn stop_on_signal(cancel: CancellationToken) -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    tokio::spawn(async move {
        for seen in 0.. {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            if seen > 0 {
                warn!("told to stop a second time: stopping at once");
                std::process::exit(1);
            }
            info!("told to stop");
            cancel.cancel();
        }
    });
    Ok(())
}
