//! Who is at the other end of a connection on this host.

use std::net::SocketAddr;

use nix::unistd::{Uid, User};
use tokio::net::UnixStream;

mod tcp;

/// The name of the user whose process connected; its number where nobody has that name.
#[must_use]
pub fn user_of(stream: &UnixStream) -> String {
    let Ok(peer) = stream.peer_cred() else { return "somebody on this host".to_owned() };
    name_of(peer.uid())
}

/// The name of the user whose process has connected from `client` to `server`, both on this host's loopback.
#[must_use]
pub fn user_of_tcp(client: SocketAddr, server: SocketAddr) -> String {
    match tcp::uid_of(client, server) {
        Some(uid) => name_of(uid),
        None => "somebody on this host".to_owned(),
    }
}

fn name_of(uid: u32) -> String {
    let known = User::from_uid(Uid::from_raw(uid)).ok().flatten();
    known.map_or_else(|| format!("uid {uid}"), |user| user.name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_owner_of_a_connection_on_the_loopback_is_found() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = std::net::TcpListener::bind(address).unwrap();
            let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let user = user_of_tcp(client.local_addr().unwrap(), client.peer_addr().unwrap());
            assert_eq!(user, name_of(nix::unistd::getuid().as_raw()));
        }
        let nobody = user_of_tcp("127.0.0.1:1".parse().unwrap(), "127.0.0.1:2".parse().unwrap());
        assert_eq!(nobody, "somebody on this host");
    }
}
