//! Reverse tunnels that phones keep, for whoever wants to come in as an app of a phone.
//!
//! Each phone has a loopback address of its own, so that the same port on two phones is two endpoints of this machine. What is
//! kept can be written to a file, a line for each: `phone local remote`, such as `P3 127.66.4.3:8765 tcp:7100`. A connection to
//! `local` comes out at `remote` of the host that asked for the tunnel.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, PoisonError};

use handset::TunnelChange;

/// The tunnels of some phones.
#[derive(Debug, Default)]
pub struct Tunnels {
    file: Option<PathBuf>,
    /// By phone and by the endpoint as it was asked for.
    kept: Mutex<BTreeMap<(String, String), Tunnel>>,
}

/// One tunnel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// Where it begins on this machine.
    pub local: SocketAddr,
    /// Where it ends at the host, such as `tcp:7100`.
    pub remote: String,
}

impl Tunnels {
    /// Tunnels that are written to `file` at each change.
    #[must_use]
    pub fn written_to(file: PathBuf) -> Self {
        Self { file: Some(file), kept: Mutex::default() }
    }

    /// What a phone keeps, by the endpoint as it was asked for.
    #[must_use]
    pub fn of(&self, phone: &str) -> BTreeMap<String, Tunnel> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let of_phone = kept.iter().filter(|((name, _), _)| name == phone);
        of_phone.map(|((_, endpoint), tunnel)| (endpoint.clone(), tunnel.clone())).collect()
    }

    pub(super) fn change(&self, phone: &str, change: TunnelChange<'_>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        match change {
            TunnelChange::Kept { local, address, remote } => {
                let tunnel = Tunnel { local: address, remote: remote.to_owned() };
                kept.insert((phone.to_owned(), local.to_owned()), tunnel);
            }
            TunnelChange::Released { local } => drop(kept.remove(&(phone.to_owned(), local.to_owned()))),
        }
        let Some(file) = &self.file else { return };
        let text = kept.iter().fold(String::new(), |mut text, ((phone, _), tunnel)| {
            // Writing to a String can't fail.
            let _ = writeln!(text, "{phone} {} {}", tunnel.local, tunnel.remote);
            text
        });
        // Under the lock: the last change is the last that is written.
        if let Err(error) = replace(file, &text) {
            tracing::warn!(file = %file.display(), %error, "the kept tunnels could not be written");
        }
    }
}

/// Writes a file so that whoever reads it sees all of it or what was before.
fn replace(file: &Path, text: &str) -> std::io::Result<()> {
    let new = file.with_extension("new");
    std::fs::write(&new, text)?;
    std::fs::rename(&new, file)
}

/// A loopback address that no other phone of this machine has: from 127.64.0.0/10, by process and count.
pub(super) fn own_loopback() -> Ipv4Addr {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    let process = std::process::id().wrapping_add(count / 254);
    let [_, _, high, low] = process.to_be_bytes();
    Ipv4Addr::new(127, 64 | (high & 0x3f), low, (count % 254) as u8 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_stands_in_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let tunnels = Tunnels::written_to(folder.path().join("tunnels"));
        let address: SocketAddr = "127.66.4.3:8765".parse().unwrap();
        tunnels.change("P3", TunnelChange::Kept { local: "tcp:8765", address, remote: "tcp:7100" });
        tunnels.change("P4", TunnelChange::Kept { local: "tcp:8765", address, remote: "tcp:7101" });
        let text = std::fs::read_to_string(folder.path().join("tunnels")).unwrap();
        assert_eq!(text, "P3 127.66.4.3:8765 tcp:7100\nP4 127.66.4.3:8765 tcp:7101\n");
        tunnels.change("P3", TunnelChange::Released { local: "tcp:8765" });
        assert_eq!((tunnels.of("P3").len(), tunnels.of("P4").len()), (0, 1));
    }

    #[test]
    fn each_phone_has_a_loopback_of_its_own() {
        let (one, other) = (own_loopback(), own_loopback());
        assert!(one.is_loopback() && other.is_loopback() && one != other && one != Ipv4Addr::LOCALHOST);
    }
}
