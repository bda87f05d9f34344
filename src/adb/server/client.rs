//! Who is at the other end of a connection, and the entrances of this host.

use std::io;

use tokio::net::{TcpListener, UnixListener};

use super::socket::{ReadHalf, WriteHalf, tcp_halves, unix_halves};
use crate::peer;
use crate::rack::access::Role;

/// Who is at the other end.
#[derive(Clone, Debug)]
pub(super) enum Client {
    /// A user of this host.
    User(String),
    /// The owner of a token, on any host.
    Token { owner: String, role: Role },
}

impl Client {
    pub(super) fn name(&self) -> String {
        match self {
            Self::User(name) | Self::Token { owner: name, .. } => name.clone(),
        }
    }

    pub(super) fn role(&self) -> Role {
        match self {
            Self::User(_) => Role::Admin,
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
                // At once: nobody owns a socket that is closed.
                let client = Client::User(peer::user_of_tcp(client, stream.local_addr()?));
                Ok((client, tcp_halves(stream)?))
            }
        }
    }
}
