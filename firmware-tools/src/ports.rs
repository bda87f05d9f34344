//! Free TCP ports that stay free while nobody listens on them: a phone that is unplugged comes back to its own address.
//!
//! Ports that the system gives for port 0 lie in the range from which it also serves outgoing connections, so that one of those
//! could sit on the address of an unplugged phone. Ports below that range are asked for by nobody else.

use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};

use crate::rack_file::RackFile;

/// The range in which free ports are looked for: above the well-known demo ports, below Linux's `ip_local_port_range`.
const FIRST: u16 = 18_000;
const COUNT: u16 = 14_000;

/// How the addresses of a rack file are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// As they are written; port 0 means any free one.
    AsWritten,
    /// As they are written where they are free, else any.
    PreferWritten,
    /// Any free ones, whatever is written.
    AnyFree,
}

/// Settles every address of the file.
///
/// # Errors
///
/// No port is free.
pub fn settle(file: &mut RackFile, addresses: Addresses) -> io::Result<()> {
    let phones = file.phones.iter_mut().map(|phone| &mut phone.listen);
    let central = file.central.iter_mut().map(|central| &mut central.listen);
    let broker = file.broker.iter_mut().map(|broker| &mut broker.listen);
    let files = file.files.iter_mut().map(|files| &mut files.listen);
    let web = file.web.iter_mut().map(|web| &mut web.listen);
    for listen in phones.chain(central).chain(broker).chain(files).chain(web) {
        let keep = match addresses {
            Addresses::AsWritten => listen.port() != 0,
            Addresses::PreferWritten => listen.port() != 0 && TcpListener::bind(*listen).is_ok(),
            Addresses::AnyFree => false,
        };
        if !keep {
            let free = free(*listen)?;
            if addresses == Addresses::PreferWritten && listen.port() != 0 {
                tracing::warn!(taken = %listen, instead = %free, "an address of the rack file is taken by somebody else");
            }
            *listen = free;
        }
    }
    Ok(())
}

/// A free port on loopback for the address that is `near` it.
fn free(near: SocketAddr) -> io::Result<SocketAddr> {
    static TRIED: AtomicU16 = AtomicU16::new(0);
    // Processes that run side by side begin at different places.
    let start = std::process::id().wrapping_mul(61) % u32::from(COUNT);
    for _ in 0..COUNT {
        let tried = u32::from(TRIED.fetch_add(1, Ordering::Relaxed));
        let offset = u16::try_from((start + tried) % u32::from(COUNT)).unwrap_or(0);
        let address = SocketAddr::new(near.ip(), FIRST + offset);
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    Err(io::Error::new(io::ErrorKind::AddrInUse, format!("no port of {} is free from {FIRST} on", Ipv4Addr::LOCALHOST)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(port: u16) -> RackFile {
        RackFile::parse(&format!("[[phone]]\nname = 'P1'\nlisten = '127.0.0.1:{port}'\n"), "test").unwrap()
    }

    #[test]
    fn a_port_that_is_taken_is_replaced_where_that_is_allowed() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        for (addresses, kept) in
            [(Addresses::AsWritten, true), (Addresses::PreferWritten, false), (Addresses::AnyFree, false)]
        {
            let mut file = file(port);
            settle(&mut file, addresses).unwrap();
            assert_eq!(file.phones[0].listen.port() == port, kept, "{addresses:?}");
        }
    }

    #[test]
    fn two_free_ports_differ() {
        let mut file = RackFile::parse("[[phone]]\nname = 'P1'\n[[phone]]\nname = 'P2'\n", "test").unwrap();
        settle(&mut file, Addresses::AsWritten).unwrap();
        assert_ne!(file.phones[0].listen, file.phones[1].listen);
    }
}
