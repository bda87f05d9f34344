//! `[[slot]]` and `[[hub]]`: the rack's places, and that no two claim the same thing.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use super::problem::Problem;
use super::section::{Section, Typed};
use super::value::{file, list, name, parsed, whole_as};
use super::{Hub, Slot};
use crate::rack::ids::{Endpoint, HubName, HubPort, Label, PortPath, SlotName};
use crate::spelling;

/// The most ports that a hub of the known kinds can name.
const HUB_PORT_MAX: i64 = 255;

/// Reads every `[[hub]]`; no two may share a name or a device.
pub(super) fn hubs(root: &mut Section<'_, '_>, base: &Path) -> Vec<Hub> {
    let (mut names, mut devices) = (Once::new("hub name"), Once::new("serial device"));
    let mut hubs = Vec::new();
    for mut table in root.children("hub") {
        let name = table.required("name", "\"H1\"", name);
        let device = table.required("device", "\"/dev/serial/by-id/…\"", file(base));
        names.claim(&table, name.as_ref(), |name| name.clone());
        devices.claim(&table, device.as_ref(), |path| path.display().to_string());
        table.finish();
        if let (Some(name), Some(device)) = (name, device) {
            hubs.push(Hub { name: HubName::new(name.value), device: device.value });
        }
    }
    hubs
}

/// Reads every `[[slot]]`; no two may share a name, a phone's place or a port of a hub.
pub(super) fn slots(root: &mut Section<'_, '_>, hubs: &[Hub]) -> Vec<Slot> {
    let (mut names, mut places) = (Once::new("slot name"), Once::new("place of a phone"));
    let mut ports = Once::new("port of a hub");
    let mut slots = Vec::new();
    for mut table in root.children("slot") {
        let name = table.required("name", "\"A1\"", name);
        let endpoint = endpoint(&mut table);
        let labels = table.optional("labels", list(super::value::name));
        let power = power(&mut table, hubs);
        names.claim(&table, name.as_ref(), |name| name.clone());
        places.claim(&table, endpoint.as_ref(), ToString::to_string);
        ports.claim(&table, power.as_ref(), |(hub, port)| format!("{hub} port {port}"));
        table.finish();
        if let (Some(name), Some(endpoint)) = (name, endpoint) {
            let power = power.map(|power| power.value);
            let labels = labels.map(|labels| labels.value).unwrap_or_default();
            let labels = labels.into_iter().map(|label| Label::new(label.value)).collect();
            slots.push(Slot { name: SlotName::new(name.value), endpoint: endpoint.value, labels, power });
        }
    }
    slots
}

fn endpoint(table: &mut Section<'_, '_>) -> Option<Typed<Endpoint>> {
    let typed = [table.typed("path"), table.typed("endpoint")];
    let path = table.optional("path", parsed::<PortPath>("a USB port path in quotes such as \"1-2.3\""));
    let endpoint = table.optional("endpoint", parsed("an endpoint in quotes such as \"tcp:127.0.0.1:15501\""));
    match typed {
        [None, None] => {
            let help = "write path = \"1-2.3\" for a USB port, or endpoint = \"tcp:127.0.0.1:15501\"";
            table.missing("[[slot]] does not say where its phone is reached", help);
            None
        }
        [Some(path), Some(endpoint)] => {
            let what = "[[slot]] says twice where its phone is reached";
            table.complain(
                Problem::new("config.contradiction", endpoint, what, "keep either `path` or `endpoint`").after(path),
            );
            None
        }
        _ => path.map(|path| Typed { value: Endpoint::Usb(path.value), at: path.at }).or(endpoint),
    }
}

fn power(table: &mut Section<'_, '_>, hubs: &[Hub]) -> Option<Typed<(HubName, HubPort)>> {
    let typed = (table.typed("hub"), table.typed("port"));
    let hub = table.optional("hub", name);
    let port = table.optional("port", whole_as::<u8>(1..=HUB_PORT_MAX));
    match typed {
        (Some(at), None) | (None, Some(at)) => {
            let what = "[[slot]] names only half of what feeds it";
            table.complain(Problem::new("config.contradiction", at, what, "`hub` and `port` stand together"));
            return None;
        }
        (None, None) | (Some(_), Some(_)) => {}
    }
    let (hub, port) = (hub?, port?);
    let known = || hubs.iter().map(|hub| hub.name.as_str());
    if !known().any(|name| name == hub.value) {
        let help = match spelling::nearest(&hub.value, known()) {
            Some(near) => format!("did you mean `{near}`?"),
            None => format!("add [[hub]] with name = \"{}\" and its device", hub.value),
        };
        let what = format!("no [[hub]] is called `{}`", hub.value);
        table.complain(Problem::new("config.unknown_hub", hub.at, what, help));
        return None;
    }
    Some(Typed { value: (HubName::new(hub.value), HubPort(port.value)), at: hub.at.start..port.at.end.max(hub.at.end) })
}

/// Sees to it that something is claimed only once.
struct Once {
    what: &'static str,
    first: BTreeMap<String, Range<usize>>,
}

impl Once {
    fn new(what: &'static str) -> Self {
        Self { what, first: BTreeMap::new() }
    }

    fn claim<T>(&mut self, table: &Section<'_, '_>, typed: Option<&Typed<T>>, name: impl FnOnce(&T) -> String) {
        let Some(typed) = typed else { return };
        let name = name(&typed.value);
        let Some(first) = self.first.get(&name) else {
            self.first.insert(name, typed.at.clone());
            return;
        };
        let what = format!("the {} `{name}` is used twice", self.what);
        let help = format!("each {} can be used once", self.what);
        table.complain(Problem::new("config.duplicate", typed.at.clone(), what, help).after(first.clone()));
    }
}
