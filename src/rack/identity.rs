//! Who sits where: the stable name of each phone, from what its USB descriptor and then Android say of it.
//!
//! ```text
//!     descriptor's serial ──▶ a known phone, or a name for the time being ──profile──▶ the phone's own name
//!
//!     P1                      its serial, where that is sane and no other phone has it
//!     P1~490154203237518      with its IMEI, else its android_id
//!     P1@A1                   with its slot, else its port
//! ```
//!
//! A serial that two phones were seen with at once is shared from then on, over restarts too: both are renamed, so that what they are
//! called does not depend on which of them was plugged in first, or is plugged in at all. Which of them a phone is nobody knows before
//! its Android has started and told: until then it is called by its place.
//!
//! A phone that was to come back from a restart or a rung of recovery and is seen in another place is no twin of itself: somebody has
//! moved it.
//!
//! Invariant: a phone of which nothing but a descriptor was ever seen leaves no trace once its real serial is known.
//! Invariant: nothing is renamed while a rollout installs on it.

use std::sync::Arc;

use super::event::{Command, RolloutCommand};
use super::ids::{Endpoint, PhoneId, Serial};
use super::place::{Phone, Told};
use super::{Change, Outcome, Rack};
use crate::clock::Moment;
use crate::phone::Profile;

/// Serials that makers leave in place of a real one.
const NO_SERIALS: [&str; 6] = ["", "unknown", "0123456789abcdef", "1234567890abcdef", "123456789012", "0"];

/// A serial that says which phone it is, unless another phone has the same one.
fn is_sane(serial: &Serial) -> bool {
    !NO_SERIALS.contains(&serial.as_str().to_ascii_lowercase().as_str())
}

/// Whether what Android told before of this phone does not speak against what it tells now.
fn agrees(phone: &Phone, profile: &Profile) -> bool {
    let same = |before: Option<&String>, now: Option<&String>| before == now || before.is_none() || now.is_none();
    let before = phone.profile.as_ref();
    same(before.and_then(|before| before.imei.as_ref()), profile.imei.as_ref())
        && same(before.and_then(|before| before.android_id.as_ref()), profile.android_id.as_ref())
}

/// Whether nobody knows yet who it is: nothing but its descriptor was seen of it, or it is called by its place until its Android has
/// started and tells.
fn is_nameless(phone: &Phone) -> bool {
    phone.is_provisional() || is_called_by_place(phone) && phone.profile.as_ref().is_none_or(|profile| !profile.booted)
}

fn is_called_by_place(phone: &Phone) -> bool {
    phone.id.as_str().strip_prefix(phone.serial.as_str()).is_some_and(|rest| rest.starts_with('@'))
}

/// The name by a number of its own, if Android tells one.
fn own_name(serial: &Serial, profile: &Profile) -> Option<PhoneId> {
    let own = profile.imei.as_ref().or(profile.android_id.as_ref());
    own.map(|own| PhoneId::new(format!("{serial}~{own}")))
}

impl Rack {
    /// A handset can be reached at `endpoint`, with the serial of its USB descriptor.
    pub(super) fn appeared(&mut self, now: Moment, endpoint: &Endpoint, serial: Option<Serial>, out: &mut Outcome) {
        self.bind_descriptor(now, endpoint, serial, out);
        self.on_place(now, endpoint, out, |life| life.appeared(now));
    }

    /// A handset is on USB, and nobody can speak ADB with it.
    pub(super) fn other_mode(
        &mut self,
        now: Moment,
        endpoint: &Endpoint,
        serial: Option<Serial>,
        why: &str,
        out: &mut Outcome,
    ) {
        self.bind_descriptor(now, endpoint, serial, out);
        self.on_place(now, endpoint, out, |life| life.other_mode(now, why));
    }

    /// Something is plugged in at `endpoint` that the kernel does not get to know.
    pub(super) fn not_enumerated(&mut self, now: Moment, endpoint: &Endpoint, why: &str, out: &mut Outcome) {
        self.place(now, endpoint);
        self.on_place(now, endpoint, out, |life| life.not_enumerated(now, why));
    }

    /// Nothing can be reached at `endpoint` any more.
    pub(super) fn gone(&mut self, now: Moment, endpoint: &Endpoint, why: &str, out: &mut Outcome) {
        if let Some(place) = self.places.get_mut(endpoint) {
            place.usb = None;
        }
        self.on_place(now, endpoint, out, |life| life.gone(now, why));
    }

    fn bind_descriptor(&mut self, now: Moment, endpoint: &Endpoint, serial: Option<Serial>, out: &mut Outcome) {
        self.place(now, endpoint).serial.clone_from(&serial);
        let Some(serial) = serial else { return };
        let calls_itself = |phone: &Phone| phone.serial == serial || phone.descriptor.as_ref() == Some(&serial);
        if self.phone_at(endpoint).and_then(|id| self.phones.get(id)).is_some_and(calls_itself) {
            // A phone keeps its name when its twin leaves.
            self.note_twins(now, endpoint, &serial, out);
            return;
        }
        let mut known = self.phones.values().filter(|phone| calls_itself(phone));
        let only = known.next().filter(|_| known.next().is_none() && is_sane(&serial)).map(|phone| phone.id.clone());
        self.note_twins(now, endpoint, &serial, out);
        match only.filter(|id| !self.is_elsewhere(endpoint, id) && !self.shared.contains(&serial)) {
            Some(id) => self.bind(now, endpoint, id, &serial, out),
            None => {
                let id = self.identity(endpoint, &serial, None);
                self.bind(now, endpoint, id, &serial, out);
            }
        }
        if let Some(phone) = self.phone_at(endpoint).cloned().and_then(|id| self.phones.get_mut(&id)) {
            phone.descriptor = Some(serial);
        }
    }

    /// The profile of the handset at `endpoint` was read: now it is known who it is.
    pub(super) fn bind_profile(&mut self, now: Moment, endpoint: &Endpoint, profile: &Profile, out: &mut Outcome) {
        let Some(serial) = profile.serial.clone() else { return };
        let Some(place) = self.places.get(endpoint) else { return };
        let (descriptor, busy) = (place.serial.clone(), place.life.installing().is_some());
        self.note_twins(now, endpoint, &serial, out);
        let here = self.phone_at(endpoint).and_then(|id| self.phones.get(id));
        let shared = !is_sane(&serial) || self.shared.contains(&serial);
        let plain = here.is_some_and(|phone| phone.id.as_str() == serial.as_str());
        let same = here.is_some_and(|phone| phone.serial == serial && !is_nameless(phone) && agrees(phone, profile));
        // Its own name was another's when it told its number, and that one has left or told another number meanwhile.
        let has_own = |phone: &Phone| is_called_by_place(phone) && own_name(&serial, profile).is_some();
        let keeps = same && (busy || plain != shared && !here.is_some_and(has_own));
        // The service that knows the IMEI answers last: a phone is not called by the next best number because of that.
        let waits = shared && !plain && !profile.booted && here.is_some_and(|phone| phone.serial == serial);
        if !keeps && !waits {
            let id = self.identity(endpoint, &serial, Some(profile));
            self.bind(now, endpoint, id, &serial, out);
        }
        if let Some(phone) = self.phone_at(endpoint).cloned().and_then(|id| self.phones.get_mut(&id)) {
            phone.descriptor = descriptor;
        }
    }

    /// Remembers that another phone that is here has the same serial, and renames that one by what is known of it.
    fn note_twins(&mut self, now: Moment, endpoint: &Endpoint, serial: &Serial, out: &mut Outcome) {
        let twin = |phone: &&Phone| phone.serial == *serial && self.is_elsewhere(endpoint, &phone.id);
        let twins: Vec<Endpoint> = self.phones.values().filter(twin).filter_map(|phone| phone.place.clone()).collect();
        if twins.is_empty() || !self.shared.insert(serial.clone()) {
            return;
        }
        if is_sane(serial) {
            out.commands.push(Command::PromiseTwins(serial.clone()));
        }
        for twin in twins {
            let profile = self.places.get(&twin).and_then(|place| place.life.profile()).cloned();
            if let Some(profile) = profile {
                self.bind_profile(now, &twin, &profile, out);
                self.settle(now, &twin, out);
            }
        }
    }

    /// Whether the phone is in another place at this moment.
    fn is_elsewhere(&self, endpoint: &Endpoint, id: &PhoneId) -> bool {
        let at = self.phones.get(id).and_then(|phone| phone.place.as_ref()).filter(|at| *at != endpoint);
        at.and_then(|at| self.places.get(at)).is_some_and(|place| place.life.is_here() && !place.life.is_to_return())
    }

    /// What the phone with `serial` at `endpoint` is called.
    fn identity(&self, endpoint: &Endpoint, serial: &Serial, profile: Option<&Profile>) -> PhoneId {
        let plain = PhoneId::new(serial.as_str());
        if is_sane(serial) && !self.shared.contains(serial) && !self.is_elsewhere(endpoint, &plain) {
            return plain;
        }
        let told = profile.and_then(|profile| own_name(serial, profile));
        if let Some(told) = told.filter(|told| !self.is_elsewhere(endpoint, told)) {
            return told;
        }
        let slot = self.settings.slots.get(endpoint);
        PhoneId::new(format!("{serial}@{}", slot.map_or_else(|| endpoint.to_string(), ToString::to_string)))
    }

    /// Says that the phone `id`, which gave `serial` of itself, is at `endpoint`.
    fn bind(&mut self, now: Moment, endpoint: &Endpoint, id: PhoneId, serial: &Serial, out: &mut Outcome) {
        let name = self.place(now, endpoint).name_of_place();
        let Some(place) = self.places.get_mut(endpoint) else { return };
        let before = place.phone.replace(id.clone()).filter(|before| *before != id);
        if let Some(before) = &before {
            self.displace(now, before, &id, out);
        }
        let phone = self.phones.entry(id.clone()).or_insert_with(|| Phone::new(now, id.clone(), serial.clone()));
        phone.serial.clone_from(serial);
        if let Some(old) = phone.place.replace(endpoint.clone())
            && old != *endpoint
        {
            self.leave(now, &old, endpoint, out);
            let from = self.place(now, &old).name_of_place();
            out.changes.push(Change::Moved { phone: id, from, to: name });
        }
    }

    /// The phone that was at `old` is at `new`.
    fn leave(&mut self, now: Moment, old: &Endpoint, new: &Endpoint, out: &mut Outcome) {
        let Some(place) = self.places.get_mut(old) else { return };
        place.phone = None;
        if !place.life.is_to_return() {
            return;
        }
        let mut restarts = false;
        self.on_place(now, old, out, |life| {
            let (under_way, wishes) = life.moved(now);
            restarts = under_way;
            wishes
        });
        if restarts && let Some(place) = self.places.get_mut(new) {
            place.life.goes_on_with_restart();
        }
    }

    /// The phone `before` is not at its place any more: `now_here` is, which may be the same one under a better name.
    fn displace(&mut self, now: Moment, before: &PhoneId, now_here: &PhoneId, out: &mut Outcome) {
        let why = "another phone is in its place";
        self.close_line(now, before, why, out);
        let Some(phone) = self.phones.get_mut(before) else { return };
        phone.place = None;
        if phone.told != Told::Unavailable {
            phone.told = Told::Unavailable;
            let command = RolloutCommand::Unavailable { phone: before.clone(), why: why.to_owned() };
            out.commands.push(Command::Rollout(command));
        }
        let same_serial = self.shared.contains(&phone.serial) && before.as_str() == phone.serial.as_str();
        let own = phone.profile.as_ref().and_then(|profile| own_name(&phone.serial, profile));
        if is_nameless(phone) || same_serial || is_called_by_place(phone) && own.as_ref() == Some(now_here) {
            let why = if same_serial { "another phone has the same serial" } else { "its own serial is known now" };
            out.changes.push(Change::Renamed { from: before.clone(), to: now_here.clone(), why: why.to_owned() });
            if let Some(nameless) = self.phones.remove(before)
                && let Some(place) = self.places.values_mut().find(|place| place.phone.as_ref() == Some(now_here))
            {
                Arc::make_mut(&mut place.trace).take_over(Arc::unwrap_or_clone(nameless.trace));
            }
        }
    }
}
