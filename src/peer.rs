//! Who is at the other end of a connection on this host.

use nix::unistd::{Uid, User};
use tokio::net::UnixStream;

/// The name of the user whose process connected; its number where nobody has that name.
#[must_use]
pub fn user_of(stream: &UnixStream) -> String {
    let Ok(peer) = stream.peer_cred() else { return "somebody on this host".to_owned() };
    let known = User::from_uid(Uid::from_raw(peer.uid())).ok().flatten();
    known.map_or_else(|| format!("uid {}", peer.uid()), |user| user.name)
}
