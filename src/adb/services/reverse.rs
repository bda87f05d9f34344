//! `reverse:`: sockets on the handset whose other end is this host.
//!
//! ```text
//!     an app ──▶ tcp:5000 on the handset ──▶ adbd ──OPEN "tcp:9000"──▶ Incoming::next ──▶ whatever the caller does with it
//! ```
//!
//! The handset answers OKAY or FAIL, then a text with its length as four hexadecimal digits before it.

use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use super::reverse_answer;
use super::shell::{ServiceError, read_all};
use crate::adb::driver::{Adb, Incoming, Stream};

/// How long the handset may take to make or remove a tunnel.
const REVERSE_WAIT: Duration = Duration::from_secs(10);

/// How much the list of tunnels may have, in bytes.
const ANSWER_MAX: usize = 64 << 10;

/// How much goes from a tunnel to the handset at once, in bytes.
const PUMP_LEN: usize = 64 << 10;

/// A tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reverse {
    /// Where the handset listens: `tcp:5000`, `localabstract:name`.
    pub device: String,
    /// What it opens to the host then.
    pub host: String,
}

impl Adb {
    /// Has the handset listen at `device` (`tcp:0` for any free port) and gives where it does, with the streams that it opens to
    /// `host`, a name of this host's own choice in the form `tcp:9000`. An earlier tunnel of the same `device` is replaced. The
    /// tunnel goes with the connection; dropping the [`Incoming`] only has its streams refused.
    ///
    /// # Errors
    /// The handset does not listen.
    pub async fn reverse(&self, device: &str, host: &str) -> Result<(Reverse, Incoming), ServiceError> {
        check(device)?;
        check(host)?;
        // Before the handset is asked: whoever waits at its end is served at once.
        let lost = |fault: crate::adb::connection::Fault| ServiceError::Said(fault.to_string());
        let incoming = self.listen(host).await.map_err(lost)?;
        let answer = self.reverse_service(&format!("reverse:forward:{device};{host}")).await?;
        let port = answer.trim();
        let device = if device == "tcp:0" && !port.is_empty() { format!("tcp:{port}") } else { device.to_owned() };
        Ok((Reverse { device, host: host.to_owned() }, incoming))
    }

    /// Ends a tunnel.
    ///
    /// # Errors
    /// There is none, or the handset does not answer.
    pub async fn kill_reverse(&self, device: &str) -> Result<(), ServiceError> {
        check(device)?;
        self.reverse_service(&format!("reverse:killforward:{device}")).await.map(drop)
    }

    /// All tunnels of this connection.
    ///
    /// # Errors
    /// The handset does not answer.
    pub async fn reverses(&self) -> Result<Vec<Reverse>, ServiceError> {
        let answer = self.reverse_service("reverse:list-forward").await?;
        let tunnel = |(device, host): (&str, &str)| Reverse { device: device.to_owned(), host: host.to_owned() };
        Ok(reverse_answer::tunnels(&answer).map(tunnel).collect())
    }

    async fn reverse_service(&self, service: &str) -> Result<String, ServiceError> {
        let work = async {
            let stream = self.open(service).await?;
            let answer = read_all(&stream, ANSWER_MAX).await?;
            reverse_answer::read(&answer).map_err(ServiceError::Said)
        };
        let late = ServiceError::Timeout { why: "the handset's answer about a tunnel", after: REVERSE_WAIT };
        tokio::time::timeout(REVERSE_WAIT, work).await.unwrap_or(Err(late))
    }
}

/// A socket's name has no character that parts requests.
fn check(socket: &str) -> Result<(), ServiceError> {
    let is_plain = !socket.is_empty() && !socket.contains([';', '\0', ' ', '\n']);
    if is_plain { Ok(()) } else { Err(ServiceError::Said(format!("{socket:?} is no name of a socket"))) }
}

/// Carries bytes between a stream and a socket of the host until one of them ends; what came before an end arrives.
///
/// # Errors
/// What the socket said.
pub async fn pump(stream: Stream, socket: impl AsyncRead + AsyncWrite + Send) -> std::io::Result<()> {
    let (mut from_socket, mut to_socket) = tokio::io::split(socket);
    let up = async {
        while let Ok(Some(chunk)) = stream.read().await {
            to_socket.write_all(&chunk).await?;
        }
        to_socket.shutdown().await
    };
    let down = async {
        let mut chunk = BytesMut::with_capacity(PUMP_LEN);
        loop {
            chunk.reserve(PUMP_LEN);
            if from_socket.read_buf(&mut chunk).await? == 0 {
                return Ok(());
            }
            if stream.write(chunk.split().freeze()).await.is_err() {
                return Ok(());
            }
        }
    };
    let ended: std::io::Result<()> = tokio::select! {
        ended = up => ended,
        ended = down => ended,
    };
    stream.finish().await;
    ended
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_that_would_be_two_is_refused() {
        for name in ["", "tcp:1;tcp:2", "a b", "a\0"] {
            assert!(check(name).is_err(), "{name:?}");
        }
        assert!(check("localabstract:org.example.agent").is_ok());
    }
}
