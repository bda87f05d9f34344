//! Whose process has a TCP socket of this host.
//!
//! The kernel is asked for the one socket (`sock_diag(7)`). Where it was built without that, the list of all sockets has it, too: read
//! whole, it takes milliseconds on a host with hundreds of them.

use std::io;
use std::net::{IpAddr, SocketAddr};

use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, SocketId, StateFlags};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use netlink_sys::{Socket, SocketAddr as NetlinkAddress};

/// Whatever socket has the addresses (`INET_DIAG_NOCOOKIE` of linux/inet_diag.h).
const ANY_COOKIE: [u8; 8] = [0xff; 8];
/// One answer, with room for attributes that nobody has asked for.
const ANSWER_MAX: usize = 4096;

/// The owner of the socket at `client`'s end of its connection to `server`; none where this host has no such socket.
pub(super) fn uid_of(client: SocketAddr, server: SocketAddr) -> Option<u32> {
    ask_kernel(client, server).unwrap_or_else(|_| find_in_table(client, server))
}

fn ask_kernel(client: SocketAddr, server: SocketAddr) -> io::Result<Option<u32>> {
    let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.bind_auto()?;
    socket.connect(&NetlinkAddress::new(0, 0))?;
    // It answers before it lets the question return: nothing is waited for.
    socket.set_non_blocking(true)?;
    socket.send(&question(client, server), 0)?;
    let mut answer = vec![0; ANSWER_MAX];
    let len = socket.recv(&mut &mut answer[..], 0)?;
    let answer = answer.get(..len).ok_or(io::ErrorKind::InvalidData)?;
    let answer = NetlinkMessage::<SockDiagMessage>::deserialize(answer).map_err(io::Error::other)?;
    match answer.payload {
        NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(found)) => {
            // What is left of a closed socket has neither a file nor an owner, and says 0 for both; a listener has no other end.
            let is_open = found.header.inode != 0 && found.header.socket_id.destination_port == server.port();
            Ok(is_open.then_some(found.header.uid))
        }
        NetlinkPayload::Error(error) if error.to_io().kind() == io::ErrorKind::NotFound => Ok(None),
        NetlinkPayload::Error(error) => Err(error.to_io()),
        other => Err(io::Error::other(format!("{other:?} is no answer about a socket"))),
    }
}

fn question(client: SocketAddr, server: SocketAddr) -> Vec<u8> {
    let mut header = NetlinkHeader::default();
    header.flags = NLM_F_REQUEST;
    let request = InetRequest {
        family: if client.is_ipv4() { AF_INET } else { AF_INET6 },
        protocol: IPPROTO_TCP,
        extensions: ExtensionFlags::empty(),
        states: StateFlags::all(),
        socket_id: SocketId {
            source_port: client.port(),
            destination_port: server.port(),
            source_address: client.ip(),
            destination_address: server.ip(),
            interface_id: 0,
            cookie: ANY_COOKIE,
        },
    };
    let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
    message.finalize();
    let mut bytes = vec![0; message.buffer_len()];
    message.serialize(&mut bytes);
    bytes
}

fn find_in_table(client: SocketAddr, server: SocketAddr) -> Option<u32> {
    let table = if client.is_ipv4() { "/proc/thread-self/net/tcp" } else { "/proc/thread-self/net/tcp6" };
    let sockets = std::fs::read_to_string(table).ok()?;
    sockets.lines().find_map(|line| uid_in(line, client, server))
}

/// The owner of the socket that this line of the kernel's table is about, if it is the one that connects both.
fn uid_in(line: &str, client: SocketAddr, server: SocketAddr) -> Option<u32> {
    let mut words = line.split_whitespace().skip(1);
    let ours = words.next()? == kernel_form(client) && words.next()? == kernel_form(server);
    let uid = words.nth(4)?.parse().ok()?;
    // What is left of a closed socket has no file, and says 0 for its owner.
    let is_open = words.nth(1)? != "0";
    (ours && is_open).then_some(uid)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_and_its_table_know_the_owner_of_a_connection_and_know_of_no_other() {
        let ours = Some(nix::unistd::getuid().as_raw());
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let listener = std::net::TcpListener::bind(address).unwrap();
            let server = listener.local_addr().unwrap();
            let connection = std::net::TcpStream::connect(server).unwrap();
            let client = connection.local_addr().unwrap();
            assert_eq!(ask_kernel(client, server).unwrap(), ours, "{address}");
            assert_eq!(find_in_table(client, server), ours, "{address}");
            let nobody = SocketAddr::new(client.ip(), 1);
            assert_eq!(ask_kernel(nobody, server).unwrap(), None, "{address}");
            assert_eq!(find_in_table(nobody, server), None, "{address}");

            // Left in FIN_WAIT2 or TIME_WAIT, which the kernel shows as root's.
            drop(connection);
            assert_eq!(ask_kernel(client, server).unwrap(), None, "{address}");
            assert_eq!(find_in_table(client, server), None, "{address}");
        }
    }
}
