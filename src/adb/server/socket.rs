//! Addresses on this host, as forwards and tunnels name them, and the two halves of a connection to one.

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::time::timeout;

/// The longest that a connection within this host may take.
const CONNECT_MAX: Duration = Duration::from_secs(5);

/// The half that is read.
pub(super) type ReadHalf = Box<dyn AsyncRead + Send + Unpin>;
/// The half that is written. Dropping it tells the other end that nothing comes any more.
pub(super) type WriteHalf = Box<dyn AsyncWrite + Send + Unpin>;

/// An address on this host. The daemon opens no file that a client names, so there are no sockets of the file system among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum HostAddress {
    /// A port of the loopback.
    Tcp(u16),
    /// A name in the kernel's own space.
    Abstract(String),
}

impl HostAddress {
    /// Reads `tcp:6100` or `localabstract:name`.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("tcp", port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
                port.parse().map(Self::Tcp).map_err(|_| format!("bad port number '{port}'"))
            }
            Some(("tcp", _)) => Err("listening on specified hostname currently unsupported".to_owned()),
            // The kernel takes 107 bytes.
            Some(("localabstract", name)) if (1..=107).contains(&name.len()) && !name.contains('\0') => {
                Ok(Self::Abstract(name.to_owned()))
            }
            Some(("local" | "localfilesystem" | "localreserved", _)) => {
                Err(format!("farmhand opens no file that a client names: {text}; use tcp: or localabstract:"))
            }
            _ => Err(format!("unknown socket specification:{text}")),
        }
    }

    pub(super) async fn connect(&self) -> io::Result<(ReadHalf, WriteHalf)> {
        let connected = timeout(CONNECT_MAX, async {
            match self {
                Self::Tcp(port) => TcpStream::connect((Ipv4Addr::LOCALHOST, *port)).await.and_then(tcp_halves),
                Self::Abstract(name) => UnixStream::connect(format!("\0{name}")).await.map(unix_halves),
            }
        });
        connected.await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
    }

    pub(super) async fn listen(&self) -> io::Result<HostListener> {
        Ok(match self {
            Self::Tcp(port) => HostListener::Tcp(TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).await?),
            Self::Abstract(name) => HostListener::Unix(UnixListener::bind(format!("\0{name}"))?),
        })
    }
}

/// What listens at a [`HostAddress`].
pub(super) enum HostListener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl HostListener {
    /// The port, also where the system has chosen it.
    pub(super) fn port(&self) -> Option<u16> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok().map(|address| address.port()),
            Self::Unix(_) => None,
        }
    }

    pub(super) async fn accept(&self) -> io::Result<(ReadHalf, WriteHalf)> {
        match self {
            Self::Tcp(listener) => listener.accept().await.and_then(|(stream, _)| tcp_halves(stream)),
            Self::Unix(listener) => listener.accept().await.map(|(stream, _)| unix_halves(stream)),
        }
    }
}

pub(super) fn tcp_halves(stream: TcpStream) -> io::Result<(ReadHalf, WriteHalf)> {
    // Answers of a few bytes must not wait for each other.
    stream.set_nodelay(true)?;
    let (read, write) = stream.into_split();
    Ok((Box::new(read), Box::new(write)))
}

pub(super) fn unix_halves(stream: UnixStream) -> (ReadHalf, WriteHalf) {
    let (read, write) = stream.into_split();
    (Box::new(read), Box::new(write))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_hosts_ports_and_names_are_addresses() {
        assert_eq!(HostAddress::parse("tcp:6100"), Ok(HostAddress::Tcp(6100)));
        assert_eq!(HostAddress::parse("localabstract:scrcpy"), Ok(HostAddress::Abstract("scrcpy".to_owned())));
        // Recorded from adb 29.0.6.
        assert_eq!(HostAddress::parse("tcp:99999").unwrap_err(), "bad port number '99999'");
        assert_eq!(HostAddress::parse("nope:1").unwrap_err(), "unknown socket specification:nope:1");
        for text in ["tcp:10.0.0.1:80", "tcp:1x", "tcp:", "localabstract:", "localfilesystem:/etc/x", "", "tcp"] {
            assert!(HostAddress::parse(text).is_err(), "{text}");
        }
    }
}
