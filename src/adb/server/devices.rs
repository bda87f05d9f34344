//! Who is here, under which names, and in which order: what `adb devices` shows, and how `-s`, `-d`, `-e` and `-t` choose.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use super::request::{Awaited, Listing, WaitFor};
use crate::adb::banner::Banner;
use crate::rack::ids::{Endpoint, PhoneId, SlotName};
use crate::rack::snapshot::{PhoneState, PhoneView};

/// The state of a phone in Google's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceState {
    /// It can be worked on.
    Device,
    /// Its user must allow this host.
    Unauthorized,
    /// It is being opened.
    Connecting,
    /// It is here and does not answer.
    Offline,
}

impl DeviceState {
    /// Google's word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Unauthorized => "unauthorized",
            Self::Connecting => "connecting",
            Self::Offline => "offline",
        }
    }
}

/// By what a phone is connected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// USB (`-d`).
    Usb,
    /// TCP (`-e`).
    Tcp,
}

/// Whom a request is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// The only phone.
    Any,
    /// The only phone of this kind.
    Of(Scope),
    /// The phone with this serial, slot or place, or `model:…` and so on.
    Named(String),
    /// The phone with this transport number.
    Id(u64),
}

/// One phone as clients see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its transport number: never used again for another connection of the list.
    pub id: u64,
    /// Its stable name; clients call it its serial.
    pub phone: PhoneId,
    /// The slot in which it sits.
    pub slot: Option<SlotName>,
    /// Where it is reached.
    pub endpoint: Endpoint,
    /// Its state.
    pub state: DeviceState,
    /// What it said of itself, once it is connected.
    pub banner: Arc<Banner>,
}

impl Device {
    /// Where it is on USB, in Google's words: `usb:1-2.3`.
    #[must_use]
    pub fn devpath(&self) -> Option<String> {
        matches!(self.endpoint, Endpoint::Usb(_)).then(|| self.endpoint.to_string())
    }

    /// Its features as a client reads them.
    #[must_use]
    pub fn features(&self) -> String {
        self.banner.features.iter().map(String::as_str).collect::<Vec<_>>().join(",")
    }

    fn scope(&self) -> Scope {
        match self.endpoint {
            Endpoint::Usb(_) => Scope::Usb,
            Endpoint::Tcp(_) => Scope::Tcp,
        }
    }

    fn is_called(&self, name: &str) -> bool {
        let is = |key: &str, value: Option<&str>, clean: fn(char) -> char| {
            let named = name.strip_prefix(key).filter(|named| !named.is_empty());
            named.is_some_and(|named| value.is_some_and(|value| value.chars().map(clean).eq(named.chars())))
        };
        let at_address = match &self.endpoint {
            Endpoint::Usb(_) => None,
            Endpoint::Tcp(address) => Some(address.to_string()),
        };
        self.phone.as_str() == name
            || self.slot.as_ref().is_some_and(|slot| slot.as_str() == name)
            || self.endpoint.to_string() == name
            || at_address.is_some_and(|address| address == name)
            || is("product:", self.banner.product.as_deref(), |c| c)
            || is("model:", self.banner.model.as_deref(), alphanumeric)
            || is("device:", self.banner.device.as_deref(), |c| c)
    }

    fn line(&self, listing: Listing, to: &mut String) {
        let serial = self.phone.as_str();
        // A text can be written to a text.
        let _ = match listing {
            Listing::Short => write!(to, "{serial}\t{}", self.state.as_str()),
            Listing::Long => write!(to, "{serial:<22} {}", self.state.as_str()),
        };
        if listing == Listing::Long {
            let slot = self.slot.as_ref().map(SlotName::as_str);
            let devpath = self.devpath();
            let facts = [("", devpath.as_deref(), false), ("product:", self.banner.product.as_deref(), false)];
            let more =
                [("model:", self.banner.model.as_deref(), true), ("device:", self.banner.device.as_deref(), false)];
            for (key, value, is_cleaned) in facts.into_iter().chain(more).chain([("slot:", slot, false)]) {
                let Some(value) = value else { continue };
                to.push(' ');
                to.push_str(key);
                to.extend(value.chars().map(|c| if is_cleaned { alphanumeric(c) } else { c }));
            }
            let _ = write!(to, " transport_id:{}", self.id);
        }
        to.push('\n');
    }
}

fn alphanumeric(c: char) -> char {
    if c.is_ascii_alphanumeric() { c } else { '_' }
}

/// Everyone who is here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeviceList {
    devices: Vec<Device>,
}

/// Whether a phone must be connected to be chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition {
    /// It can be worked on.
    Connected,
    /// It is here.
    AnyState,
}

impl DeviceList {
    /// All phones, in the order of the rack.
    #[must_use]
    pub fn devices(&self) -> &[Device] {
        &self.devices
    }

    /// The lines of `adb devices`.
    #[must_use]
    pub fn text(&self, listing: Listing) -> String {
        let mut text = String::new();
        for device in &self.devices {
            device.line(listing, &mut text);
        }
        text
    }

    /// The one phone that is meant.
    ///
    /// # Errors
    /// Google's sentence: none is meant, or several are, or it can't be worked on.
    pub fn choose(&self, target: &Target, condition: Condition) -> Result<&Device, String> {
        let device = self.meant(target).map_err(|(_, why)| why)?;
        if condition == Condition::AnyState {
            return Ok(device);
        }
        match device.state {
            DeviceState::Device => Ok(device),
            DeviceState::Connecting => Err("device still connecting".to_owned()),
            DeviceState::Offline => Err("device offline".to_owned()),
            DeviceState::Unauthorized => Err(
                "device unauthorized.\nAllow this host on the phone's screen, or give farmhand a key that the phone knows: farmhand keys import"
                    .to_owned(),
            ),
        }
    }

    /// Whether a wait is over, and how.
    #[must_use]
    pub fn awaited(&self, wait: &WaitFor) -> Option<Result<(), String>> {
        let meant = self.meant(&wait.target);
        let met = |awaited: &Awaited| match (awaited, &meant) {
            (Awaited::State(state), Ok(device)) => device.state == *state,
            (Awaited::Any, Ok(_)) => true,
            // A phone at a TCP address never leaves the list for long: that it does not answer is all that can be seen.
            (Awaited::Disconnect, Ok(device)) => device.scope() == Scope::Tcp && device.state == DeviceState::Offline,
            (Awaited::Disconnect, Err((Miss::None, _))) => true,
            _ => false,
        };
        if wait.states.iter().any(met) {
            return Some(Ok(()));
        }
        match meant {
            Err((Miss::Several, why)) => Some(Err(why)),
            _ => None,
        }
    }

    fn meant(&self, target: &Target) -> Result<&Device, (Miss, String)> {
        let is_meant = |device: &&Device| match target {
            Target::Any => true,
            Target::Of(scope) => device.scope() == *scope,
            Target::Named(name) => device.is_called(name),
            Target::Id(id) => device.id == *id,
        };
        // The exact serial wins over a slot, model or place of the same name.
        if let Target::Named(name) = target
            && let Some(device) = self.devices.iter().find(|device| device.phone.as_str() == name)
        {
            return Ok(device);
        }
        let mut meant = self.devices.iter().filter(is_meant);
        match (meant.next(), meant.next()) {
            (Some(device), None) => Ok(device),
            (Some(_), Some(_)) => {
                let what = match target {
                    Target::Any => "device/emulator",
                    Target::Of(Scope::Tcp) => "emulator",
                    Target::Of(Scope::Usb) | Target::Named(_) | Target::Id(_) => "device",
                };
                Err((Miss::Several, format!("more than one {what}")))
            }
            (None, _) => {
                let why = match target {
                    Target::Any => "no devices/emulators found".to_owned(),
                    Target::Of(Scope::Usb) => "no devices found".to_owned(),
                    Target::Of(Scope::Tcp) => "no emulators found".to_owned(),
                    Target::Named(name) => format!("device '{name}' not found"),
                    Target::Id(id) => format!("no device with transport id '{id}'"),
                };
                Err((Miss::None, why))
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Miss {
    None,
    Several,
}

/// Gives phones their transport numbers.
#[derive(Debug, Default)]
pub struct Numbers {
    /// A phone's number, with the connection that it stands for.
    given: BTreeMap<PhoneId, (Option<u64>, u64)>,
    last: u64,
}

impl Numbers {
    /// The list of `phones`. `connection` gives the banner of a phone that is online, and a number that no other connection has.
    pub fn list<'p>(
        &mut self,
        phones: impl IntoIterator<Item = &'p PhoneView>,
        connection: impl Fn(&Endpoint) -> Option<(u64, Arc<Banner>)>,
    ) -> DeviceList {
        let mut devices = Vec::new();
        for phone in phones {
            let Some(endpoint) = &phone.endpoint else { continue };
            let online = connection(endpoint);
            let Some(state) = state_of(phone.state, online.is_some()) else { continue };
            let (seat, banner) = online.map_or((None, Arc::default()), |(seat, banner)| (Some(seat), banner));
            let id = self.number(&phone.id, seat);
            let (phone, slot, endpoint) = (phone.id.clone(), phone.slot.clone(), endpoint.clone());
            devices.push(Device { id, phone, slot, endpoint, state, banner });
        }
        self.given.retain(|phone, _| devices.iter().any(|device| device.phone == *phone));
        DeviceList { devices }
    }

    /// A phone keeps its number until it is connected anew.
    fn number(&mut self, phone: &PhoneId, seat: Option<u64>) -> u64 {
        let known = self.given.get(phone).copied();
        let id = match known {
            Some((before, id)) if seat.is_none() || before.is_none() || before == seat => id,
            _ => {
                self.last += 1;
                self.last
            }
        };
        let seat = seat.or(known.and_then(|(before, _)| before));
        self.given.insert(phone.clone(), (seat, id));
        id
    }
}

/// What a client is told; nothing of phones that are not here, or that only a person can speak with.
fn state_of(state: PhoneState, is_connected: bool) -> Option<DeviceState> {
    if is_connected {
        return Some(DeviceState::Device);
    }
    match state {
        PhoneState::Absent | PhoneState::NotEnumerated | PhoneState::OtherMode | PhoneState::Detached => None,
        PhoneState::Detected | PhoneState::Claiming => Some(DeviceState::Connecting),
        PhoneState::Authorising => Some(DeviceState::Unauthorized),
        PhoneState::Online
        | PhoneState::Provisioning
        | PhoneState::Ready
        | PhoneState::Recovering
        | PhoneState::Quarantined => Some(DeviceState::Offline),
    }
}

#[cfg(test)]
#[path = "devices_tests.rs"]
mod tests;
