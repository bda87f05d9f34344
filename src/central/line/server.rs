//! A central server, and how it is connected to: its address, TCP that notices a dead peer, TLS where the owner wants it.

use std::fmt;
use std::io;
use std::time::Duration;

use rustix::net::sockopt;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::link::Wire;
use super::tls::{self, TlsError};
use crate::central::resolver::Resolver;
use crate::config;
use crate::reason;

/// What was sent and is not confirmed by the other host for so long ends the connection: half a heartbeat's usual interval, so that a host
/// that was switched off is noticed by the first heartbeat that it does not take.
const UNCONFIRMED_MAX: Duration = Duration::from_secs(30);
/// A connection that was silent for so long is asked whether the other host is still there; usual heartbeats come before that.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(75);
/// Between two such questions, of which [`KEEPALIVE_COUNT`] may stay without an answer.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);
const KEEPALIVE_COUNT: u32 = 3;

/// A central server. Clones share what is known of its address, and its TLS.
#[derive(Clone)]
pub struct Server {
    resolver: Resolver,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tls = self.tls.as_ref().map(|(_, name)| name);
        f.debug_struct("Server").field("address", &self.address()).field("tls", &tls).finish()
    }
}

/// Why there is no connection, as a sentence.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectError {
    #[error("there is none")]
    NoServer,
    #[error("{}", reason::connecting(server, reason))]
    Unreachable { server: String, reason: io::Error },
    #[error("no TLS with {server}: {}", tls::words(reason))]
    Handshake { server: String, reason: io::Error },
}

impl Server {
    /// Bare TCP to `server`, which is `host:port`. Nothing is looked up yet.
    #[must_use]
    pub fn bare(server: impl Into<String>) -> Self {
        Self { resolver: Resolver::new(server), tls: None }
    }

    /// All that the owner listed, in his order.
    ///
    /// # Errors
    /// A certificate's file is wrong, or a server's name can't be that of a certificate.
    pub fn all_of(central: &config::Central) -> Result<Vec<Self>, TlsError> {
        let connector = central.tls.as_ref().map(tls::connector).transpose()?;
        let server = |server: &String| {
            let named = connector.clone().map(|connector| Ok((connector, tls::name(server)?)));
            Ok(Self { resolver: Resolver::new(server), tls: named.transpose()? })
        };
        std::iter::once(&central.server).chain(&central.fallbacks).map(server).collect()
    }

    /// `host:port`, as the owner wrote it.
    #[must_use]
    pub fn address(&self) -> &str {
        self.resolver.server()
    }

    pub(super) async fn connect(self) -> Result<Wire, ConnectError> {
        let server = || self.address().to_owned();
        let stream = self.dial().await.map_err(|reason| ConnectError::Unreachable { server: server(), reason })?;
        match &self.tls {
            None => Ok(Wire::Bare(stream)),
            Some((connector, name)) => match connector.connect(name.clone(), stream).await {
                Ok(stream) => Ok(Wire::Tls(Box::new(stream))),
                Err(reason) => Err(ConnectError::Handshake { server: server(), reason }),
            },
        }
    }

    async fn dial(&self) -> io::Result<TcpStream> {
        let addresses = self.resolver.addresses().await?;
        let stream = TcpStream::connect(&*addresses).await?;
        stream.set_nodelay(true)?;
        notice_the_dead(&stream)?;
        Ok(stream)
    }
}

/// A host that was switched off, or a way that is gone, says nothing: the system asks.
fn notice_the_dead(socket: &TcpStream) -> io::Result<()> {
    let milliseconds = u32::try_from(UNCONFIRMED_MAX.as_millis()).unwrap_or(u32::MAX);
    sockopt::set_tcp_user_timeout(socket, milliseconds)?;
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(socket, KEEPALIVE_EVERY)?;
    Ok(sockopt::set_tcp_keepcnt(socket, KEEPALIVE_COUNT)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_system_watches_over_each_connection() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = Server::bare(listener.local_addr().unwrap().to_string()).dial().await.unwrap();
        assert_eq!(sockopt::tcp_user_timeout(&socket).unwrap(), 30_000);
        assert!(sockopt::socket_keepalive(&socket).unwrap());
        let idle = sockopt::tcp_keepidle(&socket).unwrap();
        assert_eq!((idle, sockopt::tcp_keepintvl(&socket).unwrap()), (KEEPALIVE_IDLE, KEEPALIVE_EVERY));
        assert_eq!(sockopt::tcp_keepcnt(&socket).unwrap(), KEEPALIVE_COUNT);
        assert!(socket.nodelay().unwrap());
    }
}
