//! Free TCP ports that stay free while nobody listens on them: a phone that is unplugged comes back to its own address.
//!
//! Ports that the system gives for port 0 lie in the range from which it also serves outgoing connections, so that one of those
//! could sit on the address of an unplugged phone. Ports below that range are asked for by nobody else.

use std::io::{self, BufRead as _, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

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

/// Waits until somebody listens on a TCP port of the network in which this thread is, and looks at the kernel's table for it: a
/// connection made in order to find out would be one that the listener takes notice of. Gives way to other tasks meanwhile.
///
/// # Errors
///
/// Nobody listens when `limit` has passed, or the table can't be read.
pub async fn listener(port: u16, limit: Duration) -> io::Result<()> {
    let deadline = Instant::now() + limit;
    while !has_listener(port)? {
        if Instant::now() >= deadline {
            let what = format!("nobody listens on port {port} within {limit:?}");
            return Err(io::Error::new(io::ErrorKind::TimedOut, what));
        }
        tokio::task::yield_now().await;
    }
    Ok(())
}

fn has_listener(port: u16) -> io::Result<bool> {
    /// TCP_LISTEN
    const LISTENS: &str = "0A";
    let local = format!(":{port:04X}");
    for table in ["/proc/thread-self/net/tcp", "/proc/thread-self/net/tcp6"] {
        // A kernel without IPv6 has no table of it.
        let text = match std::fs::read_to_string(table) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            text => text?,
        };
        let listens = |line: &str| {
            let mut fields = line.split_whitespace().skip(1);
            fields.next().is_some_and(|address| address.ends_with(&local)) && fields.nth(1) == Some(LISTENS)
        };
        if text.lines().skip(1).any(listens) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Waits until a program has said a line with `words` in it, and goes on reading behind that, so that it never waits for a reader.
///
/// # Errors
///
/// It says no such line until it ends, or until `limit` has passed; what it said is told.
pub fn said(output: impl Read + Send + 'static, words: &str, limit: Duration) -> io::Result<()> {
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            // Nobody asks for more once the words were said.
            let _ = sender.send(line);
        }
    });
    let (deadline, mut all) = (Instant::now() + limit, Vec::new());
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) if line.contains(words) => return Ok(()),
            Ok(line) => all.push(line),
            Err(why) => {
                let kind = match why {
                    RecvTimeoutError::Timeout => io::ErrorKind::TimedOut,
                    RecvTimeoutError::Disconnected => io::ErrorKind::UnexpectedEof,
                };
                return Err(io::Error::new(kind, format!("`{words}` was not said, but: {}", all.join(" | "))));
            }
        }
    }
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

    #[tokio::test]
    async fn who_listens_is_found_without_a_connection() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let port = listener.local_addr().unwrap().port();
        super::listener(port, Duration::from_secs(20)).await.unwrap();
        assert_eq!(listener.accept().unwrap_err().kind(), io::ErrorKind::WouldBlock, "nobody came");
        drop(listener);
        let why = super::listener(port, Duration::ZERO).await.unwrap_err();
        assert_eq!(why.kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn what_a_program_says_is_waited_for() {
        let long = Duration::from_secs(20);
        said(&b"one\nready on 5\nthree\n"[..], "ready", long).unwrap();
        let why = said(&b"one\ntwo\n"[..], "ready", long).unwrap_err();
        assert_eq!(why.to_string(), "`ready` was not said, but: one | two");
        let (silent, _kept) = std::io::pipe().unwrap();
        assert_eq!(said(silent, "ready", Duration::ZERO).unwrap_err().kind(), io::ErrorKind::TimedOut);
    }

    #[test]
    fn two_free_ports_differ() {
        let mut file = RackFile::parse("[[phone]]\nname = 'P1'\n[[phone]]\nname = 'P2'\n", "test").unwrap();
        settle(&mut file, Addresses::AsWritten).unwrap();
        assert_ne!(file.phones[0].listen, file.phones[1].listen);
    }
}
