//! `farmhand adb-server connect`: adb on this machine works on the phones of a rack elsewhere. Needs no daemon here.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use clap::Args;
use tokio_util::sync::CancellationToken;

use crate::adb::server::tokens::{Sha256Digest, Token, parse_digest};
use crate::adb::server::{Forwarder, ForwarderError};
use crate::cli::failure::Failure;
use crate::cli::{Heard, tell};

/// A file that others may read.
const OTHERS: u32 = 0o077;
/// The longest file with a token, in bytes: what `farmhand tokens add` has printed is all that is in it.
const FILE_MAX: usize = 16 << 10;

#[derive(Debug, Args)]
pub(super) struct Connect {
    /// Where the rack's [adb_server] listens
    #[arg(value_name = "HOST:PORT")]
    rack: String,
    /// The file with what `farmhand tokens add` has printed
    #[arg(long, value_name = "FILE")]
    token_file: PathBuf,
    /// Where adb on this machine finds the phones; an address of the loopback, since nobody is asked for anything there
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:5037")]
    listen: SocketAddr,
    /// The rack's certificate (see `farmhand adb-server show` there), if it is not the one in the token any more
    #[arg(long, value_name = "SHA256", value_parser = digest)]
    fingerprint: Option<Sha256Digest>,
}

fn digest(text: &str) -> Result<Sha256Digest, &'static str> {
    parse_digest(text.trim_start_matches("sha256").trim_start_matches(':')).ok_or("64 hex digits are wanted")
}

impl Connect {
    /// Until Ctrl-C.
    pub(super) async fn carry_out(self) -> Result<String, Failure> {
        if !self.listen.ip().is_loopback() {
            let what = format!("whoever reaches {} could use the rack's phones by your token", self.listen);
            return Err(Failure::Usage { what, help: "listen on this machine only: --listen 127.0.0.1:5037" });
        }
        let token = read_token(&self.token_file)?;
        let forwarder = Forwarder::open(&self.rack, &token, self.fingerprint).await?;
        let listener = Forwarder::listen(self.listen).await?;
        let address = listener.local_addr().map_err(Failure::Runtime)?;
        let told = tell(&format!("adb works on the phones of {} at {address}, until Ctrl-C\n", self.rack));
        if told == Heard::Failed {
            return Err(Failure::Runtime(io::Error::other("standard output can't be written")));
        }
        let cancel = CancellationToken::new();
        let mut terminate =
            tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).map_err(Failure::Runtime)?;
        tokio::select! {
            () = forwarder.serve(listener, cancel) => {}
            _ = tokio::signal::ctrl_c() => {}
            _ = terminate.recv() => {}
        }
        Ok(String::new())
    }
}

/// The first line that is a token: what stands around it is for people.
fn read_token(path: &Path) -> Result<Token, Failure> {
    let failed = |reason: String| Failure::TokenFile { path: path.to_owned(), reason };
    let mode = std::fs::metadata(path).map_err(|error| failed(error.to_string()))?.permissions().mode();
    if mode & OTHERS != 0 {
        return Err(failed(format!("others may read it (its mode is {:03o}): chmod 600", mode & 0o777)));
    }
    let bytes = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
    let text = String::from_utf8_lossy(bytes.get(..bytes.len().min(FILE_MAX)).unwrap_or_default());
    let token = text.lines().find_map(Token::parse);
    token.ok_or_else(|| failed("there is no token in it".to_owned()))
}

impl From<ForwarderError> for Failure {
    fn from(error: ForwarderError) -> Self {
        match error {
            ForwarderError::Unreachable { .. } => Self::RackUnreachable(error.to_string()),
            ForwarderError::Certificate { .. } => Self::RackUnknown(error.to_string()),
            ForwarderError::Refused { .. } => Self::RackRefused(error.to_string()),
            ForwarderError::Listen { .. } => Self::DeskTaken(error.to_string()),
        }
    }
}
