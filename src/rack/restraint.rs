//! Who keeps recovery from a phone: an incident of the hub that it hangs on, or somebody who holds it.
//!
//! The lives know nothing of each other; here their failures are put together, and each life is told what it must wait for.

use super::ids::{Endpoint, PhoneId, PortPath};
use super::incident::{Ancestor, Incident, LAST_MAX, Member, News, WINDOW};
use super::lease::{HOLD, Lease, LeaseEvent, Tool};
use super::place::Place;
use super::request::Refusal;
use super::snapshot::{AlertView, IncidentPhone, IncidentView, PortMode};
use super::{Change, Command, Outcome, Rack};
use crate::clock::Moment;
use crate::phone::life::Restraint;
use crate::phone::trace::Happening;

/// What a person can do about an incident.
const INCIDENT_HELP: &str =
    "look at this hub: its cable, its supply, the kernel's log; its phones are tried again by themselves";

impl Rack {
    /// The life at `endpoint` has failed by itself: perhaps not alone.
    pub(super) fn note_failure(&mut self, now: Moment, endpoint: &Endpoint, out: &mut Outcome) {
        if self.is_cut_off(endpoint) {
            return;
        }
        match self.incidents.failed(now, endpoint, self.ancestors(endpoint)) {
            None | Some(News::Ended(_)) => {}
            Some(News::Joined(number)) => self.restrain_members(now, number),
            Some(News::Began(number)) => {
                self.restrain_members(now, number);
                if let Some(incident) = self.incidents.numbered(number) {
                    let what = self.incident_sentence(incident);
                    out.changes.push(Change::Incident { number, what });
                }
            }
        }
    }

    /// The phone at `endpoint` has answered: if it was the last one of its incident, that is over.
    pub(super) fn note_answer(&mut self, now: Moment, endpoint: &Endpoint, out: &mut Outcome) {
        let Some(place) = self.places.get(endpoint).filter(|place| place.life.is_connected()) else { return };
        let Some(alive) = place.life.last_alive() else { return };
        if let Some(News::Ended(incident)) = self.incidents.answered(endpoint, alive) {
            self.end_incident(now, &incident, "all of its phones answer again", out);
        }
    }

    /// Ends the incidents that have lasted for too long.
    pub(super) fn advance_incidents(&mut self, now: Moment, out: &mut Outcome) {
        for incident in self.incidents.advance(now) {
            let missing = incident.phones.values().filter(|member| **member != Member::Back).count();
            let why = format!(
                "{missing} of its {} phones have not come back in {} min; each is recovered by itself now",
                incident.phones.len(),
                LAST_MAX.as_secs() / 60
            );
            self.end_incident(now, &incident, &why, out);
        }
    }

    pub(super) fn end_incident(&mut self, now: Moment, incident: &Incident, why: &str, out: &mut Outcome) {
        for endpoint in incident.phones.keys() {
            self.restrain(now, endpoint);
            let what = Happening::IncidentOver { number: incident.number, why: why.to_owned() };
            self.record(now, endpoint, what);
        }
        let ancestor = incident.ancestor().map(ToString::to_string).unwrap_or_default();
        out.changes.push(Change::IncidentOver { number: incident.number, what: format!("{ancestor}: {why}") });
    }

    fn restrain_members(&mut self, now: Moment, number: u64) {
        let Some(incident) = self.incidents.numbered(number) else { return };
        let ancestor = incident.ancestor().map(ToString::to_string).unwrap_or_default();
        let members: Vec<Endpoint> = incident.phones.keys().cloned().collect();
        for endpoint in members {
            if self.restrain(now, &endpoint).incident.is_none() {
                self.record(now, &endpoint, Happening::Incident { number, ancestor: ancestor.clone() });
            }
        }
    }

    /// Tells the life at `endpoint` what keeps recovery from it; what kept it before comes back.
    pub(super) fn restrain(&mut self, now: Moment, endpoint: &Endpoint) -> Restraint {
        let incident = self.incidents.of(endpoint).map(Incident::until);
        let Some(place) = self.places.get_mut(endpoint) else { return Restraint::default() };
        let held = place.phone.as_ref().and_then(|phone| self.leases.until(phone));
        let before = place.life.restrain(now, Restraint { held, incident });
        self.leave_line(endpoint);
        before
    }

    /// A lease was taken or ended.
    pub(super) fn lease_reports(&mut self, now: Moment, event: LeaseEvent, out: &mut Outcome) {
        match event {
            LeaseEvent::Taken(lease) => {
                let (phone, what) = (lease.phone.clone(), lease.sentence());
                let news = !self.leases.of(&phone).any(|known| known.id == lease.id && known.who == lease.who);
                self.leases.take(now, self.wall(now), lease);
                if news {
                    out.changes.push(Change::Lease { phone: phone.clone(), what });
                }
                self.settle_lease(now, &phone, out);
            }
            LeaseEvent::Ended { phone, id, why } => {
                if let Some(lease) = self.leases.end(&phone, id) {
                    self.lease_ended(now, &lease, &why, out);
                }
            }
            LeaseEvent::NotKept { .. } => {}
        }
    }

    pub(super) fn advance_leases(&mut self, now: Moment, out: &mut Outcome) {
        for lease in self.leases.advance(now) {
            self.lease_ended(now, &lease, "its time is over", out);
            if lease.tool == Tool::Hold {
                out.commands.push(Command::HoldIsOver(lease));
            }
        }
    }

    fn lease_ended(&mut self, now: Moment, lease: &Lease, why: &str, out: &mut Outcome) {
        let what = format!("no longer: {}: {why}", lease.sentence());
        out.changes.push(Change::Lease { phone: lease.phone.clone(), what });
        self.settle_lease(now, &lease.phone, out);
    }

    fn settle_lease(&mut self, now: Moment, phone: &PhoneId, out: &mut Outcome) {
        if let Some(endpoint) = self.phones.get(phone).and_then(|known| known.place.clone()) {
            self.restrain(now, &endpoint);
            self.settle(now, &endpoint, out);
        }
    }

    /// The phone that `who` may hold under this name.
    ///
    /// # Errors
    /// Nobody knows it, or somebody else has it.
    pub fn check_hold(&self, name: &str, who: &str) -> Result<PhoneId, Refusal> {
        let phone = self.check_phone(name)?;
        self.leases.check_hold(&phone, who).map(|()| phone)
    }

    /// The phone of this name, if it is held.
    ///
    /// # Errors
    /// Nobody knows it, or nobody holds it.
    pub fn check_release(&self, name: &str) -> Result<PhoneId, Refusal> {
        let phone = self.check_phone(name)?;
        if self.leases.of(&phone).any(|lease| lease.id == HOLD) {
            return Ok(phone);
        }
        Err(Refusal { code: "lease.none".to_owned(), what: format!("nobody holds {name}"), help: None })
    }

    /// The phone that a person calls so, by slot or id.
    ///
    /// # Errors
    /// Nobody is called so, or nobody was seen there.
    pub fn check_phone(&self, name: &str) -> Result<PhoneId, Refusal> {
        let in_slot = |place: &&Place| place.slot.as_ref().is_some_and(|slot| slot.as_str() == name);
        let by_slot = self.places.values().find(in_slot);
        let known = match by_slot {
            Some(place) => place.phone.clone(),
            None => Some(PhoneId::new(name)).filter(|id| self.phones.contains_key(id)),
        };
        known.ok_or_else(|| Refusal {
            code: "phone.unknown".to_owned(),
            what: match by_slot {
                Some(_) => format!("no phone was seen in {name} yet"),
                None => format!("no phone or slot is called `{name}`"),
            },
            help: Some("see `farmhand phones`".to_owned()),
        })
    }

    /// What the handset at `endpoint` hangs on, the innermost first.
    fn ancestors(&self, endpoint: &Endpoint) -> Vec<Ancestor> {
        let Endpoint::Usb(path) = endpoint else {
            return self.power_hub(endpoint).into_iter().collect();
        };
        let controller = self.controllers.iter().find(|controller| controller.buses.contains(&path.bus()));
        let controller = controller.map_or_else(|| root_hub(path), |controller| controller.name.clone());
        path.hubs().rev().map(Ancestor::Hub).chain([Ancestor::Controller(controller)]).collect()
    }

    fn power_hub(&self, endpoint: &Endpoint) -> Option<Ancestor> {
        let slot = self.settings.slots.get(endpoint)?;
        self.settings.power.get(slot).map(|power| Ancestor::PowerHub(power.hub.clone()))
    }

    /// Whether its port was switched off, by an operator or by recovery: then the cause of its failure is known.
    fn is_cut_off(&self, endpoint: &Endpoint) -> bool {
        let port = self.places.get(endpoint).and_then(|place| place.slot.as_ref());
        let Some(power) = port.and_then(|slot| self.settings.power.get(slot)) else { return false };
        let reading = self.hubs.by_name.get(&power.hub).and_then(|hub| hub.reading.as_ref());
        let mut ports = reading.into_iter().flat_map(|reading| &reading.ports);
        ports.any(|port| port.port == power.port && port.mode != PortMode::Sync)
    }

    fn incident_sentence(&self, incident: &Incident) -> String {
        let ancestor = incident.ancestor().map(ToString::to_string).unwrap_or_default();
        let names: Vec<String> = incident.phones.keys().map(|endpoint| self.name_at(endpoint)).collect();
        let (count, window) = (names.len(), WINDOW.as_secs());
        format!("{ancestor}: {count} phones failed within {window} s of each other: {}", names.join(", "))
    }

    fn name_at(&self, endpoint: &Endpoint) -> String {
        self.places.get(endpoint).map_or_else(|| endpoint.to_string(), super::place::Place::name_of_place)
    }

    /// The number of the open incident in which the phone at `endpoint` waits for others.
    #[must_use]
    pub fn incident_at(&self, endpoint: &Endpoint) -> Option<u64> {
        self.incidents.of(endpoint).map(|incident| incident.number)
    }

    /// Who has the phone and why, as a sentence.
    pub(super) fn held_by(&self, phone: &PhoneId) -> Option<String> {
        self.leases.of(phone).next().map(Lease::sentence)
    }

    /// Who has the phone at `endpoint` to himself.
    #[must_use]
    pub fn holder_at(&self, endpoint: &Endpoint) -> Option<&str> {
        let phone = self.phone_at(endpoint)?;
        self.leases.of(phone).next().map(|lease| lease.who.as_str())
    }

    /// The open incidents, the newest first.
    pub(super) fn incident_views(&self) -> Vec<IncidentView> {
        let view = |incident: &Incident| IncidentView {
            number: incident.number,
            ancestor: incident.ancestor().map(ToString::to_string).unwrap_or_default(),
            what: self.incident_sentence(incident),
            since: self.wall(incident.began),
            until: self.wall(incident.until()),
            phones: incident
                .phones
                .iter()
                .map(|(endpoint, member)| IncidentPhone {
                    phone: self.places.get(endpoint).map(super::place::Place::shown_as),
                    endpoint: endpoint.clone(),
                    answers: *member == Member::Back,
                })
                .collect(),
        };
        let mut views: Vec<IncidentView> = self.incidents.open.iter().map(view).collect();
        views.sort_by_key(|view| std::cmp::Reverse(view.number));
        views
    }

    /// One alert for each open incident.
    pub(super) fn incident_alerts(&self) -> impl Iterator<Item = AlertView> + '_ {
        self.incident_views().into_iter().map(|view| {
            let back = view.phones.iter().filter(|phone| phone.answers).count();
            AlertView {
                code: "incident".to_owned(),
                at: view.since,
                phone: None,
                slot: None,
                what: format!("{}; {back} of them answer again", view.what),
                help: INCIDENT_HELP.to_owned(),
            }
        })
    }
}

fn root_hub(path: &PortPath) -> String {
    format!("usb{}", path.bus())
}
