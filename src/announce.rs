//! The page on the local network: `_farmhand._tcp` by multicast DNS, so that `farmhand discover` and a browser find it.
//!
//! Invariant: nothing is announced, and nothing answered, on loopback or on a network that a phone brings (tethering): the
//! page is not for them. Interfaces that come later are judged when they come.

use std::path::{Path, PathBuf};
use std::time::Duration;

use mdns_sd::{IfKind, IfPredicate, ServiceDaemon, ServiceInfo};
use tracing::info;

use crate::config;

/// The type under which racks are found.
pub const SERVICE_TYPE: &str = "_farmhand._tcp.local.";

/// The longest that an end waits for the goodbye to be sent: neighbours forget the page by themselves after two minutes.
const GOODBYE_PATIENCE: Duration = Duration::from_millis(500);

/// Drivers of networks that a USB device brings, as phones do when they share theirs.
const TETHERING_DRIVERS: [&str; 7] =
    ["rndis_host", "cdc_ether", "cdc_ncm", "cdc_mbim", "cdc_eem", "cdc_subset", "ipheth"];

/// Names that the kernel and systems without predictable names give to the same.
const TETHERING_NAMES: [&str; 3] = ["usb", "rndis", "ncm"];

/// Why the page is not announced.
#[derive(Debug, thiserror::Error)]
pub enum AnnounceError {
    /// Multicast DNS does not work on this host.
    #[error("the page can't be announced on the local network: {0}")]
    Mdns(#[from] mdns_sd::Error),
}

/// Why an interface is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excluded {
    /// Only this host is there.
    Loopback,
    /// It leads to a phone.
    Tethering,
}

/// Whether an interface is left out, by its name, whether it is loopback, and its driver (the name of
/// `/sys/class/net/<name>/device/driver`; `None` for one without a device, such as a bridge).
#[must_use]
pub fn excluded(name: &str, kind: Kind, driver: Option<&str>) -> Option<Excluded> {
    if kind == Kind::Loopback {
        return Some(Excluded::Loopback);
    }
    let numbered = |prefix: &str| {
        name.strip_prefix(prefix).is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()))
    };
    let by_name = TETHERING_NAMES.iter().any(|prefix| numbered(prefix));
    let by_driver = driver.is_some_and(|driver| TETHERING_DRIVERS.contains(&driver));
    (by_name || by_driver).then_some(Excluded::Tethering)
}

/// What the kernel says of an interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It leads to this host only.
    Loopback,
    /// It leads somewhere.
    Network,
}

/// Whether the configuration wants the page announced: it must be reachable from elsewhere.
#[must_use]
pub fn wanted(web: &config::Web) -> bool {
    web.announce == config::Announce::Mdns && !web.listen.ip().is_loopback()
}

/// A page that is announced until this is dropped. Dropping it says goodbye, and takes at most half a second.
pub struct Announcement {
    daemon: ServiceDaemon,
    fullname: String,
}

/// Announces the page of the rack `rack` at `port` on every network of the host that is not [`excluded`].
///
/// # Errors
/// [`AnnounceError`], which is no reason to end: the page works without.
pub fn start(rack: &str, port: u16) -> Result<Announcement, AnnounceError> {
    start_where(rack, port, |name, kind| {
        let driver = driver_of(Path::new("/sys/class/net"), name);
        excluded(name, kind, driver.as_deref()).is_some()
    })
}

fn start_where(
    rack: &str,
    port: u16,
    left_out: impl Fn(&str, Kind) -> bool + Send + Sync + 'static,
) -> Result<Announcement, AnnounceError> {
    let daemon = ServiceDaemon::new()?;
    let left_out = IfPredicate::new(move |interface| {
        left_out(&interface.name, if interface.is_loopback() { Kind::Loopback } else { Kind::Network })
    });
    daemon.disable_interface(IfKind::Predicate(left_out))?;
    let properties = [("version", env!("CARGO_PKG_VERSION")), ("path", "/")];
    let host = format!("{}.local.", host_name());
    let service = ServiceInfo::new(SERVICE_TYPE, rack, &host, "", port, &properties[..])?.enable_addr_auto();
    let fullname = service.get_fullname().to_owned();
    daemon.register(service)?;
    info!(name = %fullname, port, "the page is announced on the local network");
    Ok(Announcement { daemon, fullname })
}

impl Drop for Announcement {
    fn drop(&mut self) {
        // Both only tell the thread of mdns-sd, which does them in turn; if it has ended there is nothing to end.
        let _ = self.daemon.unregister(&self.fullname);
        if let Ok(ended) = self.daemon.shutdown() {
            let _ = ended.recv_timeout(GOODBYE_PATIENCE);
        }
    }
}

fn driver_of(net: &Path, name: &str) -> Option<String> {
    let link: PathBuf = net.join(name).join("device/driver").read_link().ok()?;
    Some(link.file_name()?.to_string_lossy().into_owned())
}

/// The host's name up to its first dot, as multicast DNS takes it.
fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name: String = name
        .trim()
        .split('.')
        .next()
        .unwrap_or_default()
        .chars()
        .filter(|c| c.is_alphanumeric() || *c == '-')
        .collect();
    if name.is_empty() { "farmhand".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use mdns_sd::ServiceEvent;

    use super::*;

    #[test]
    fn loopback_and_the_networks_of_phones_are_left_out() {
        let network = |name, driver| excluded(name, Kind::Network, driver);
        assert_eq!(excluded("lo", Kind::Loopback, None), Some(Excluded::Loopback));
        for (name, driver) in [
            ("usb0", None),
            ("usb12", Some("g_ether")),
            ("rndis0", None),
            ("enx0a1b2c3d4e5f", Some("rndis_host")),
            ("enp0s20f0u3", Some("cdc_ncm")),
            ("enx0a1b2c3d4e5f", Some("cdc_ether")),
        ] {
            assert_eq!(network(name, driver), Some(Excluded::Tethering), "{name} {driver:?}");
        }
        for (name, driver) in [
            ("eth0", Some("virtio_net")),
            ("wlan0", Some("brcmfmac")),
            ("br0", None),
            ("usbridge", None),
            ("enx00e04c680001", Some("r8152")),
            ("eth0", Some("smsc95xx")),
        ] {
            assert_eq!(
                network(name, driver),
                None,
                "{name} {driver:?}: a wired adapter on USB is a network like others"
            );
        }
    }

    #[test]
    fn the_driver_is_read_where_the_kernel_shows_it() {
        let net = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(net.path().join("enx1/device")).unwrap();
        std::os::unix::fs::symlink("../../../bus/usb/drivers/cdc_ncm", net.path().join("enx1/device/driver")).unwrap();
        assert_eq!(driver_of(net.path(), "enx1").as_deref(), Some("cdc_ncm"));
        assert_eq!(driver_of(net.path(), "br0"), None);
    }

    #[test]
    fn a_page_for_this_host_only_is_not_announced() {
        let web = |listen: &str, announce| config::Web { listen: listen.parse().unwrap(), announce };
        assert!(wanted(&web("0.0.0.0:8420", config::Announce::Mdns)));
        assert!(!wanted(&web("127.0.0.1:8420", config::Announce::Mdns)));
        assert!(!wanted(&web("[::1]:8420", config::Announce::Mdns)));
        assert!(!wanted(&web("0.0.0.0:8420", config::Announce::Off)));
    }

    /// On loopback only, so that the test tells no neighbour.
    #[test]
    fn a_page_is_found_with_its_port_and_said_goodbye() {
        let browser = ServiceDaemon::new().unwrap();
        let elsewhere = IfPredicate::new(|interface| !interface.is_loopback());
        browser.disable_interface(IfKind::Predicate(elsewhere)).unwrap();
        let events = browser.browse(SERVICE_TYPE).unwrap();
        let rack = format!("rack-{}", std::process::id());
        let announcement = start_where(&rack, 8420, |_, kind| kind == Kind::Network).unwrap();
        let next = || events.recv_timeout(Duration::from_secs(20)).expect("an event of the browser");
        let found = loop {
            if let ServiceEvent::ServiceResolved(found) = next()
                && found.get_fullname().starts_with(&rack)
            {
                break found;
            }
        };
        assert_eq!(found.get_port(), 8420);
        assert_eq!(found.get_property_val_str("path"), Some("/"));
        assert_eq!(found.get_property_val_str("version"), Some(env!("CARGO_PKG_VERSION")));
        let fullname = announcement.fullname.clone();
        drop(announcement);
        while !matches!(next(), ServiceEvent::ServiceRemoved(_, name) if name == fullname) {}
        let _ = browser.shutdown();
    }
}
