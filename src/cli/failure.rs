//! Why a command failed, as a person reads it, and the exit code for programs.

use std::fmt::Display;
use std::path::PathBuf;

use miette::Diagnostic;
use thiserror::Error;

use crate::config::{BadPhones, ConfigError};
use crate::daemon::DaemonError;
use crate::rack::request::Refusal;

/// Why a command failed.
#[derive(Debug, Error, Diagnostic)]
pub(super) enum Failure {
    /// Nobody listens on the socket.
    #[error("no farmhand runs on {}", state.display())]
    #[diagnostic(
        code("cli.no_daemon"),
        help(
            "start it with `systemctl start farmhand`, or by hand with `farmhand run`; if its state directory is \
             another one, give --state or set FARMHAND_STATE"
        )
    )]
    NoDaemon { state: PathBuf },
    /// The socket's permissions say no.
    #[error("this user may not talk to the daemon on {}", socket.display())]
    #[diagnostic(code("cli.permission_denied"), help("use sudo, or join the daemon's group: adduser YOU farmhand"))]
    Denied { socket: PathBuf },
    /// The conversation broke off.
    #[error("the daemon on {} broke off: {reason}", socket.display())]
    #[diagnostic(code("cli.broken_off"), help("it may be stopping or starting; try again, then look at its log"))]
    BrokenOff { socket: PathBuf, reason: String },
    /// It did not answer in time.
    #[error("the daemon on {} did not answer within {seconds} s", socket.display())]
    #[diagnostic(code("cli.no_answer"), help("look at its log: journalctl -u farmhand"))]
    Slow { socket: PathBuf, seconds: u64 },
    /// It answered something that this program does not understand.
    #[error("the daemon's answer to {path} is not understood: {reason}")]
    #[diagnostic(
        code("cli.not_understood"),
        help("are the daemon and this program of one version? restart the daemon after an upgrade")
    )]
    NotUnderstood { path: String, reason: String },
    /// It refused.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Refused(#[from] Refused),
    /// The configuration.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Config(#[from] ConfigError),
    /// The agent's APK, as configured.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Apk(#[from] crate::agent::apk::ApkRefusal),
    /// TLS to the central server, as configured.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Tls(#[from] crate::central::line::TlsError),
    /// The owner's file.
    #[error("{} cannot be written: {reason}", file.display())]
    #[diagnostic(code("cli.unwritable"), help("without --append the sections are printed"))]
    Unwritable { file: PathBuf, reason: std::io::Error },
    /// A file of this host.
    #[error("{}: {reason}", path.display())]
    #[diagnostic(code("cli.file"))]
    File { path: PathBuf, reason: String },
    /// A table of identities.
    #[error("{}: {bad}", path.display())]
    #[diagnostic(
        code("identity.table"),
        help(
            "it begins with the line `phone,credential`; a line for each phone follows: its id, serial or slot, a comma, its credential"
        )
    )]
    Phones { path: PathBuf, bad: BadPhones },
    /// The command line asks for what does not go together.
    #[error("{what}")]
    #[diagnostic(code("cli.usage"), help("{help}"))]
    Usage { what: String, help: &'static str },
    /// This host's keys for ADB.
    #[error(transparent)]
    #[diagnostic(code("keys.unusable"))]
    Keys(#[from] crate::adb::auth::KeyError),
    /// The file with a token.
    #[error("{}: {reason}", path.display())]
    #[diagnostic(
        code("remote.token_file"),
        help("put what `farmhand tokens add` has printed on the rack's host into a file that only you can read")
    )]
    TokenFile { path: PathBuf, reason: String },
    /// Nobody answers there.
    #[error("{0}")]
    #[diagnostic(
        code("remote.unreachable"),
        help("`farmhand adb-server show` on the rack's host says where it listens; a firewall may be between")
    )]
    RackUnreachable(String),
    /// Somebody else answers there.
    #[error("{0}")]
    #[diagnostic(
        code("remote.certificate"),
        help(
            "the token was told to nobody. If the rack's owner has changed its certificate, `farmhand adb-server show` there says which it \
             is: --fingerprint SHA256"
        )
    )]
    RackUnknown(String),
    /// The rack does not take the token.
    #[error("{0}")]
    #[diagnostic(code("remote.refused"), help("`farmhand tokens list` on the rack's host shows which tokens count"))]
    RackRefused(String),
    /// The port of this machine is taken.
    #[error("{0}")]
    #[diagnostic(
        code("remote.listen"),
        help(
            "an adb server of Google's may be there: `adb kill-server` ends it; or choose another port: --listen 127.0.0.1:15037, and \
             ANDROID_ADB_SERVER_PORT=15037 for adb"
        )
    )]
    DeskTaken(String),
    /// This process could not start what it needs.
    #[error("the program cannot start: {0}")]
    #[diagnostic(code("cli.runtime"))]
    Runtime(std::io::Error),
    /// The levels of the log.
    #[error("`{levels}` does not say what is to be logged: {reason}")]
    #[diagnostic(code("cli.log_levels"), help("a level, and levels by module: `info,farmhand::adb=debug`"))]
    LogLevels { levels: String, reason: tracing_subscriber::filter::ParseError },
    /// The daemon could not start.
    #[error(transparent)]
    #[diagnostic(transparent)]
    Daemon(#[from] DaemonError),
}

impl Failure {
    /// See the text in `--help`.
    pub(super) fn exit_code(&self) -> u8 {
        match self {
            Self::Config(_)
            | Self::Apk(_)
            | Self::Tls(_)
            | Self::NotUnderstood { .. }
            | Self::Unwritable { .. }
            | Self::Phones { .. }
            | Self::File { .. }
            | Self::Keys(_)
            | Self::TokenFile { .. }
            | Self::RackUnreachable(_)
            | Self::RackUnknown(_)
            | Self::RackRefused(_)
            | Self::DeskTaken(_)
            | Self::Runtime(_)
            | Self::LogLevels { .. }
            | Self::Daemon(_) => 1,
            Self::Usage { .. } => 2,
            Self::NoDaemon { .. } | Self::Denied { .. } | Self::BrokenOff { .. } | Self::Slow { .. } => 3,
            Self::Refused(_) => 4,
        }
    }
}

/// The daemon's refusal, with its own code and help.
#[derive(Debug, Error)]
#[error("{0}")]
pub(super) struct Refused(pub(super) Refusal);

impl Diagnostic for Refused {
    fn code<'a>(&'a self) -> Option<Box<dyn Display + 'a>> {
        Some(Box::new(&self.0.code))
    }

    fn help<'a>(&'a self) -> Option<Box<dyn Display + 'a>> {
        self.0.help.as_ref().map(|help| Box::new(help) as Box<dyn Display>)
    }
}
