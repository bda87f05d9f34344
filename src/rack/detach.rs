//! Places whose interface was given to another program, by a person: nothing there is opened, recovered or installed on.
//!
//! It is the place that is detached, whoever sits there: another program that restarts a phone or flashes it keeps its interface.

use super::ids::Endpoint;
use super::incident::News;
use super::place::Place;
use super::request::Refusal;
use super::snapshot::PhoneState;
use super::{Outcome, Rack};
use crate::clock::{Moment, UnixMillis};
use crate::phone::life::Arrivals;

/// A place that was given away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Detachment {
    /// Which.
    pub endpoint: Endpoint,
    /// By whom: the user's name on this host.
    pub who: String,
    /// Since when.
    pub since: UnixMillis,
}

impl Detachment {
    /// Why nothing is done there, as a sentence.
    #[must_use]
    pub fn sentence(&self) -> String {
        format!("{} has given its interface to another program", self.who)
    }
}

/// What happened to the interface of a place. It is in the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DetachEvent {
    /// It was given to another program.
    Detached(Detachment),
    /// It was taken back.
    Attached {
        /// Which.
        endpoint: Endpoint,
        /// By whom.
        who: String,
    },
    /// It could not be promised, so nothing has changed.
    NotKept {
        /// What the store said.
        why: String,
    },
}

/// A place that a person may give away or take back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Where.
    pub endpoint: Endpoint,
    /// What a person calls it: its slot, or the phone there.
    pub name: String,
    /// Under what it stands in the audit: the phone that sits there, else as `name`.
    pub target: String,
}

impl Rack {
    pub(super) fn detach_reports(&mut self, now: Moment, event: DetachEvent, out: &mut Outcome) {
        match event {
            DetachEvent::Detached(detachment) => {
                let (endpoint, why) = (detachment.endpoint.clone(), detachment.sentence());
                self.place(now, &endpoint);
                self.on_place(now, &endpoint, out, |life| life.detach(now, arrivals(&endpoint), &why));
                if let Some(News::Ended(incident)) = self.incidents.excused(&endpoint) {
                    self.end_incident(now, &incident, "the others answer again", out);
                }
            }
            DetachEvent::Attached { endpoint, .. } => {
                self.on_place(now, &endpoint, out, |life| life.attach(now, arrivals(&endpoint)));
            }
            DetachEvent::NotKept { .. } => {}
        }
    }

    /// The place that `who` may give away under this name, of a slot or a phone.
    ///
    /// # Errors
    /// Nobody is called so, it is given away already, somebody else holds the phone, or something is installed on it.
    pub fn check_detach(&self, name: &str, who: &str) -> Result<Interface, Refusal> {
        let (place, interface) = self.interface(name)?;
        let refused = |code: &str, what: String, help: &str| {
            Err(Refusal { code: code.to_owned(), what, help: Some(help.to_owned()) })
        };
        if place.life.is_detached() {
            let help = format!("`farmhand phone {name} attach` takes it back");
            return refused("phone.detached", format!("{name} is detached: {}", place.life.why()), &help);
        }
        if let Some(phone) = &place.phone {
            self.leases.check_hold(phone, who)?;
        }
        if place.life.state() == PhoneState::Provisioning {
            let help = "wait for its end, or pause the rollout";
            return refused("phone.busy", format!("{name} is being installed on: {}", place.life.why()), help);
        }
        Ok(interface)
    }

    /// The place of this name, of a slot or a phone, if it was given away.
    ///
    /// # Errors
    /// Nobody is called so, or it was not given away.
    pub fn check_attach(&self, name: &str) -> Result<Interface, Refusal> {
        let (place, interface) = self.interface(name)?;
        if place.life.is_detached() {
            return Ok(interface);
        }
        Err(Refusal {
            code: "phone.attached".to_owned(),
            what: format!("{name} is not detached: it is {}", place.life.state().as_str()),
            help: None,
        })
    }

    /// A slot may be named before any phone was seen there.
    fn interface(&self, name: &str) -> Result<(&Place, Interface), Refusal> {
        let slot = self.places.values().find(|place| place.slot.as_ref().is_some_and(|slot| slot.as_str() == name));
        let place = slot.or_else(|| self.places.values().find(|place| place.shown_as().as_str() == name));
        let Some(place) = place else {
            // Says why: nobody is called so, or the phone sits nowhere.
            let phone = self.check_phone(name)?;
            return Err(Refusal {
                code: "phone.unknown".to_owned(),
                what: format!("{phone} is in no place of this rack now"),
                help: Some("name its slot".to_owned()),
            });
        };
        let target = place.shown_as().to_string();
        Ok((place, Interface { endpoint: place.endpoint.clone(), name: name.to_owned(), target }))
    }

    /// Whether the interface at `endpoint` was given to another program.
    #[must_use]
    pub fn is_detached(&self, endpoint: &Endpoint) -> bool {
        self.places.get(endpoint).is_some_and(|place| place.life.is_detached())
    }
}

/// The bus tells of those on USB.
fn arrivals(endpoint: &Endpoint) -> Arrivals {
    match endpoint {
        Endpoint::Usb(_) => Arrivals::Told,
        Endpoint::Tcp(_) => Arrivals::Untold,
    }
}
