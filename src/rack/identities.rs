//! What phones register as with the central server: what somebody has set for one, or what the owner's rule gives.
//!
//! Invariant: no two open lines of a rack have one credential (`tests/sim` asserts it after every step).

use std::collections::BTreeMap;

use super::ids::{PhoneId, SlotName};
use super::place::Phone;
use super::request::Refusal;
use super::{Outcome, Rack};
use crate::clock::Moment;
use crate::config::Credential;
use crate::phone::Profile;

/// What happened to the identities that were set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum IdentityEvent {
    /// These are in the store: a credential for each id, serial or slot.
    Set(BTreeMap<String, String>),
    /// What was set for this phone no longer counts; the store has forgotten it.
    Forgotten {
        /// Its id.
        phone: PhoneId,
    },
    /// It could not be promised, so nothing has changed.
    NotKept {
        /// What the store said.
        why: String,
    },
}

impl Rack {
    /// What was set by somebody; the lines follow at once.
    pub(super) fn identities_changed(&mut self, now: Moment, event: IdentityEvent, out: &mut Outcome) {
        match event {
            IdentityEvent::Set(entries) => self.identities.extend(entries),
            IdentityEvent::Forgotten { phone } => drop(self.identities.remove(phone.as_str())),
            IdentityEvent::NotKept { .. } => return,
        }
        let places: Vec<_> = self.phones.values().filter_map(|phone| phone.place.clone()).collect();
        for endpoint in places {
            self.settle(now, &endpoint, out);
        }
    }

    /// The phone that a person calls so, if something was set for it.
    ///
    /// # Errors
    /// Nobody is called so, or nothing was set.
    pub fn check_identity(&self, name: &str) -> Result<PhoneId, Refusal> {
        let phone = self.check_phone(name)?;
        if self.identities.contains_key(phone.as_str()) {
            return Ok(phone);
        }
        Err(Refusal {
            code: "identity.none".to_owned(),
            what: format!("no identity was set for {phone} itself"),
            help: Some("[central.identity] counts for it, and what was imported for its serial or slot".to_owned()),
        })
    }

    /// Whether these credentials may be set: none of them is set for anybody else.
    ///
    /// # Errors
    /// Which one is, and for whom.
    pub fn check_identities(&self, entries: &BTreeMap<String, String>) -> Result<(), Refusal> {
        let mut holders: BTreeMap<&str, &str> = self
            .identities
            .iter()
            .filter(|(name, _)| !entries.contains_key(*name))
            .map(|(name, credential)| (credential.as_str(), name.as_str()))
            .collect();
        for (name, credential) in entries {
            if let Some(other) = holders.insert(credential, name) {
                return Err(Refusal {
                    code: "identity.taken".to_owned(),
                    what: format!("{other} is {credential}, so that {name} cannot be: one credential, one phone"),
                    help: Some(format!("`farmhand phone {other} identity forget` frees it")),
                });
            }
        }
        Ok(())
    }

    /// What a phone registers as, or why it cannot.
    pub(super) fn credential_of(
        &self,
        rule: &Credential,
        phone: &Phone,
        profile: &Profile,
        slot: Option<&SlotName>,
    ) -> Result<String, String> {
        let names = names(&phone.id, profile, slot);
        let set = names.iter().find_map(|name| self.identities.get(*name)).cloned();
        let credential = match set {
            Some(credential) => credential,
            None => by_rule(rule, &phone.id, profile, &names)?,
        };
        let twin = self.phones.values().find(|other| other.id != phone.id && other.line.registers_as(&credential));
        match twin {
            Some(twin) => Err(format!("{} has the line of {credential}: one credential, one phone", twin.id)),
            None => Ok(credential),
        }
    }
}

/// What a phone may be called in a table: its id, its serial where no other phone has it, its slot.
pub(super) fn names<'p>(id: &'p PhoneId, profile: &'p Profile, slot: Option<&'p SlotName>) -> Vec<&'p str> {
    let serial = profile.serial.as_ref().map(|serial| serial.as_str()).filter(|serial| *serial == id.as_str());
    [Some(id.as_str()), serial, slot.map(SlotName::as_str)].into_iter().flatten().collect()
}

fn by_rule(rule: &Credential, id: &PhoneId, profile: &Profile, names: &[&str]) -> Result<String, String> {
    match rule {
        Credential::Imei => {
            profile.imei.clone().ok_or_else(|| "the phone does not tell its IMEI to its shell".to_owned())
        }
        Credential::Serial => match &profile.serial {
            Some(serial) if serial.as_str() == id.as_str() => Ok(serial.to_string()),
            Some(serial) => Err(format!("its serial {serial} is not its own: another phone may have it, too")),
            None => Err("the phone has no serial".to_owned()),
        },
        Credential::Map(map) => {
            let known = names.iter().find_map(|name| map.entries.get(*name));
            known.cloned().ok_or_else(|| {
                let table = map
                    .file
                    .as_ref()
                    .map_or_else(|| "[central.identity.map]".to_owned(), |file| file.display().to_string());
                format!("neither its id nor its slot is in {table}")
            })
        }
    }
}
