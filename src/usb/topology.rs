//! How the host's USB hangs together: controllers with the room on them, and hub ports that should have a device. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::rack::ids::PortPath;
use crate::rack::snapshot::ControllerView;

/// The addresses of one bus; each device but the root hub takes one of 127, the root hub the first.
const DEVICES_PER_BUS: u32 = 126;

/// A device on the bus, whatever it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// The number of its bus.
    pub bus: u8,
    /// Where it is plugged in; `None` for a root hub.
    pub path: Option<PortPath>,
    /// Its address on the bus.
    pub address: u8,
    /// How many ports it has, if it is a hub.
    pub ports: u8,
    /// Its endpoints in use, the control endpoint included.
    pub endpoints: u32,
}

impl Device {
    /// The path that a device in port `number` of this hub has.
    #[must_use]
    pub fn port(&self, number: u8) -> Option<PortPath> {
        let above = self.path.as_ref().map_or(&[][..], PortPath::ports);
        PortPath::new(self.bus, &[above, &[number]].concat())
    }

    /// The ports of this hub in which `devices` has nothing, with their numbers.
    pub fn free_ports<'a>(&'a self, devices: &'a [Self]) -> impl Iterator<Item = (u8, PortPath)> + 'a {
        let taken = |path: &PortPath| devices.iter().any(|device| device.path.as_ref() == Some(path));
        (1..=self.ports).filter_map(|number| Some((number, self.port(number)?))).filter(move |(_, path)| !taken(path))
    }
}

/// The controllers that `controllers` names by bus, with what is on them and what the kernel said of them.
#[must_use]
pub fn controllers(
    devices: &[Device],
    controllers: &BTreeMap<u8, String>,
    said: &BTreeMap<String, (Option<u32>, String)>,
) -> Vec<ControllerView> {
    let names: BTreeSet<&String> = controllers.values().collect();
    let view = |name: &String| {
        let buses: Vec<u8> = controllers.iter().filter(|(_, of)| *of == name).map(|(bus, _)| *bus).collect();
        let on_it = || devices.iter().filter(|device| device.path.is_some() && buses.contains(&device.bus));
        let (told_max, full) = said.get(name).map_or((None, None), |(max, why)| (*max, Some(why.clone())));
        let addresses = DEVICES_PER_BUS.saturating_mul(u32::try_from(buses.len()).unwrap_or(u32::MAX));
        ControllerView {
            name: name.clone(),
            devices: u32::try_from(on_it().count()).unwrap_or(u32::MAX),
            devices_max: told_max.unwrap_or(addresses),
            endpoints: on_it().map(|device| device.endpoints).sum(),
            full,
            buses,
        }
    };
    names.into_iter().map(view).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn device(path: &str, ports: u8, endpoints: u32) -> Device {
        let path: PortPath = path.parse().unwrap();
        Device { bus: path.bus(), path: Some(path), address: 5, ports, endpoints }
    }

    fn root(bus: u8, ports: u8) -> Device {
        Device { bus, path: None, address: 1, ports, endpoints: 2 }
    }

    #[test]
    fn the_free_ports_of_a_hub_and_of_a_root_hub_are_named_by_their_paths() {
        let devices = [root(1, 2), device("1-1", 3, 2), device("1-1.2", 0, 4)];
        let free = |hub: &Device| hub.free_ports(&devices).map(|(_, path)| path.to_string()).collect::<Vec<_>>();
        assert_eq!(free(&devices[0]), ["1-2"]);
        assert_eq!(free(&devices[1]), ["1-1.1", "1-1.3"]);
        assert!(free(&devices[2]).is_empty());
    }

    #[test]
    fn the_two_buses_of_a_controller_are_counted_together() {
        let devices =
            [root(1, 4), root(2, 4), root(3, 1), device("1-1", 0, 3), device("2-4", 0, 5), device("3-1", 0, 7)];
        let names = [(1, "0000:00:14.0"), (2, "0000:00:14.0"), (3, "dummy_hcd.0")];
        let names = names.map(|(bus, name)| (bus, name.to_owned())).into();
        let said = [("0000:00:14.0".to_owned(), (Some(2), "it takes no more".to_owned()))].into();
        let seen = controllers(&devices, &names, &said);
        let xhci = &seen[0];
        assert_eq!((xhci.buses.as_slice(), xhci.devices, xhci.endpoints, xhci.devices_left()), (&[1, 2][..], 2, 8, 0));
        assert_eq!(xhci.full.as_deref(), Some("it takes no more"));
        assert_eq!((seen[1].devices, seen[1].devices_max, seen[1].full.as_ref()), (1, 126, None));
    }
}
