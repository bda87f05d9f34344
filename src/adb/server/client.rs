//! Who is at the other end of a connection, and the entrances of this host.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, UnixListener};

use super::socket::{ReadHalf, WriteHalf, tcp_halves, unix_halves};
use crate::peer;
use crate::rack::access::Role;

/// Who is at the other end.
#[derive(Clone, Debug)]
pub(super) enum Client {
    /// A user of this host, whom the socket's permissions have let in.
    User(String),
    /// A user of this host.
    Loopback { client: SocketAddr, server: SocketAddr },
    /// The owner of a token, on any host.
    Token { owner: String, role: Role },
}

impl Client {
    pub(super) fn name(&self) -> String {
        match self {
            Self::User(name) | Self::Token { owner: name, .. } => name.clone(),
            Self::Loopback { client, server } => peer::user_of_tcp(*client, *server),
        }
    }

    pub(super) fn role(&self) -> Role {
        match self {
            Self::User(_) | Self::Loopback { .. } => Role::Admin,
            Self::Token { role, .. } => *role,
        }
    }
}

/// Where clients of this host come in.
pub(super) enum Entrance {
    Unix(UnixListener),
    Loopback(TcpListener),
}

impl Entrance {
    pub(super) async fn accept(&self) -> io::Result<(Client, (ReadHalf, WriteHalf))> {
        match self {
            Self::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                let client = Client::User(peer::user_of(&stream));
                Ok((client, unix_halves(stream)))
            }
            Self::Loopback(listener) => {
                let (stream, client) = listener.accept().await?;
                let server = stream.local_addr()?;
                Ok((Client::Loopback { client, server }, tcp_halves(stream)?))
            }
        }
    }
}
