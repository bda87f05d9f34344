//! Who is at the other end of a connection on this host.

use std::net::{IpAddr, SocketAddr};

use nix::unistd::{Uid, User};
use tokio::net::UnixStream;

/// The name of the user whose process connected; its number where nobody has that name.
#[must_use]
pub fn user_of(stream: &UnixStream) -> String {
    let Ok(peer) = stream.peer_cred() else { return "somebody on this host".to_owned() };
    name_of(peer.uid())
}

/// The name of the user whose process has connected from `client` to `server`, both on this host's loopback.
#[must_use]
pub fn user_of_tcp(client: SocketAddr, server: SocketAddr) -> String {
    let table = if client.is_ipv4() { "/proc/thread-self/net/tcp" } else { "/proc/thread-self/net/tcp6" };
    let sockets = std::fs::read_to_string(table).unwrap_or_default();
    match sockets.lines().find_map(|line| uid_in(line, client, server)) {
        Some(uid) => name_of(uid),
        None => "somebody on this host".to_owned(),
    }
}

/// The owner of the socket that this line of the kernel's table is about, if it is the one that connects both.
fn uid_in(line: &str, client: SocketAddr, server: SocketAddr) -> Option<u32> {
    let mut words = line.split_whitespace().skip(1);
    let ours = words.next()? == kernel_form(client) && words.next()? == kernel_form(server);
    if ours { words.nth(4)?.parse().ok() } else { None }
}

/// An address as the kernel's table has it: each group of four bytes as a number of this host, in hex.
fn kernel_form(address: SocketAddr) -> String {
    let octets = match address.ip() {
        IpAddr::V4(ip) => ip.octets().to_vec(),
        IpAddr::V6(ip) => ip.octets().to_vec(),
    };
    let words = octets.chunks_exact(4).map(|word| format!("{:08X}", word.iter().rev().fold(0, native)));
    format!("{}:{:04X}", words.collect::<String>(), address.port())
}

/// One byte more of a number whose bytes are taken from the last to the first.
fn native(sum: u32, byte: &u8) -> u32 {
    if cfg!(target_endian = "little") { (sum << 8) | u32::from(*byte) } else { (sum >> 8) | (u32::from(*byte) << 24) }
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
