//! The model's state as a [`Snapshot`].

use super::ids::{Endpoint, HubName, PhoneId};
use super::place::{Phone, Place};
use super::snapshot::{
    AlertView, DaemonView, DeadlineView, DeviceView, HubPortView, HubView, LineView, PhoneState, PhoneView, PowerPort,
    Snapshot, TroubleView,
};
use super::{Rack, hubs::Hub};
use crate::clock::{Deadline, Moment, UnixMillis};
use crate::phone::Profile;
use crate::rack::ids::HubPort;
use crate::rack::request::Refusal;

/// What a person can do about a phone that the central server took off line.
const FORCED_OFFLINE_HELP: &str = "look for another rack or app that registers with this phone's credential; the central server's \
                                   operator can say who took it";

/// One phone, or one place where no phone is known, as the model holds it: a look without copies, for the checks of the
/// simulation, which come after every step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Standing<'a> {
    /// The phone; `None` where nobody knows yet who is there.
    pub phone: Option<&'a PhoneId>,
    /// The place; `None` for a phone that another one has displaced.
    pub endpoint: Option<&'a Endpoint>,
    /// Where it is in its life.
    pub state: PhoneState,
    /// Why, as a sentence.
    pub why: &'a str,
    /// What is waited for.
    pub deadline: Option<Deadline>,
}

impl Rack {
    /// Everyone that is known, and every place.
    pub fn standings(&self) -> impl Iterator<Item = Standing<'_>> {
        let placed = self.places.values().map(|place| Standing {
            phone: place.phone.as_ref(),
            endpoint: Some(&place.endpoint),
            state: place.life.state(),
            why: place.life.why(),
            deadline: place.life.deadline(),
        });
        let unplaced = self.phones.values().filter(|phone| phone.place.is_none()).map(|phone| Standing {
            phone: Some(&phone.id),
            endpoint: None,
            state: PhoneState::Absent,
            why: "another phone is in its place",
            deadline: None,
        });
        placed.chain(unplaced)
    }

    /// The whole rack as it stands.
    #[must_use]
    pub fn snapshot(&self, now: Moment) -> Snapshot {
        Snapshot {
            revision: self.revision,
            at: self.wall(now),
            daemon: DaemonView {
                rack: self.settings.rack.clone(),
                version: env!("CARGO_PKG_VERSION").to_owned(),
                started: self.started,
            },
            host: self.host.clone(),
            phones: self.phone_views(),
            hubs: self.hubs.by_name.iter().map(|(name, hub)| self.hub_view(name, hub)).collect(),
            controllers: self.controllers.clone(),
            rollouts: self.rollouts.clone(),
            mqtt: self.mqtt.clone(),
            alerts: self.alerts(),
            incidents: self.incident_views(),
            switched_off: self.settings.switched_off.clone(),
            troubles: self
                .troubles
                .iter()
                .map(|(part, trouble)| TroubleView {
                    part: (*part).to_owned(),
                    why: trouble.why.clone(),
                    since: self.wall(trouble.since),
                })
                .collect(),
            traces: self.traces(),
        }
    }

    /// Whether an operator may switch this port now.
    ///
    /// # Errors
    /// What is wrong with the order.
    pub fn check_port(&self, hub: &HubName, port: HubPort) -> Result<(), Refusal> {
        self.hubs.check(hub, port)
    }

    pub(super) fn wall(&self, moment: Moment) -> UnixMillis {
        self.epoch.plus(moment.since_start())
    }

    fn phone_views(&self) -> Vec<PhoneView> {
        let mut views: Vec<PhoneView> = self.places.values().filter_map(|place| self.place_view(place)).collect();
        let unplaced = self.phones.values().filter(|phone| phone.place.is_none());
        views.extend(unplaced.map(|phone| self.view(&phone.id, None, Some(phone))));
        let order = |view: &PhoneView| {
            let slot =
                view.slot.as_ref().and_then(|slot| self.settings.slot_order.iter().position(|name| name == slot));
            (slot.unwrap_or(usize::MAX), view.id.clone())
        };
        views.sort_by_key(order);
        views
    }

    /// A place without a phone is shown if somebody expects one there or something is there.
    fn place_view(&self, place: &Place) -> Option<PhoneView> {
        let phone = place.phone.as_ref().and_then(|id| self.phones.get(id));
        let empty = phone.is_none() && place.slot.is_none() && place.life.state() == PhoneState::Absent;
        (!empty).then(|| self.view(&place.shown_as(), Some(place), phone))
    }

    fn view(&self, id: &PhoneId, place: Option<&Place>, phone: Option<&Phone>) -> PhoneView {
        let profile = phone.and_then(|phone| phone.profile.as_ref());
        let life = place.map(|place| &place.life);
        let slot = place.and_then(|place| place.slot.clone());
        PhoneView {
            id: id.clone(),
            power: slot.as_ref().and_then(|slot| self.settings.power.get(slot)).cloned(),
            slot,
            endpoint: place.map(|place| place.endpoint.clone()),
            usb: place.and_then(|place| place.usb.clone()),
            leases: self.leases.of(id).cloned().collect(),
            serial: phone.map(|phone| phone.serial.clone()).or_else(|| place.and_then(|place| place.serial.clone())),
            state: life.map(crate::phone::life::Life::state).unwrap_or_default(),
            why: life.map_or("it was last seen in a place where another phone is now", |life| life.why()).to_owned(),
            since: self.wall(life.map_or(Moment::START, |life| life.since())),
            deadline: life.and_then(crate::phone::life::Life::deadline).map(|deadline| self.deadline_view(deadline)),
            brand: profile.map(|profile| profile.brand.clone()),
            model: profile.map(|profile| profile.model.clone()),
            sdk: profile.map(|profile| profile.sdk),
            device: profile.map(|profile| self.device_view(profile, phone)).unwrap_or_default(),
            battery: profile.and_then(|profile| profile.battery),
            agent: profile.and_then(|profile| profile.agent.clone()),
            upkeep: phone.map(|phone| phone.upkept.view(|at| self.wall(at))).unwrap_or_default(),
            line: phone.map(|phone| self.line_view(phone)).unwrap_or_default(),
            last_alive: phone.and_then(|phone| phone.last_alive).map(|at| self.wall(at)),
            answers: phone.map(|phone| phone.answers).unwrap_or_default(),
        }
    }

    fn device_view(&self, profile: &Profile, phone: Option<&Phone>) -> DeviceView {
        let read = phone.and_then(|phone| phone.read);
        DeviceView {
            android: profile.android.clone(),
            build: profile.build.clone(),
            abi: profile.abi.clone(),
            imei: profile.imei.clone(),
            android_id: profile.android_id.clone(),
            storage: profile.storage,
            screen_size: profile.screen_size,
            screen_density_dpi: profile.screen_density_dpi,
            screen: profile.screen,
            started: read.and_then(|read| read.started),
            read: read.map(|read| self.wall(read.at)),
        }
    }

    fn line_view(&self, phone: &Phone) -> LineView {
        LineView {
            state: phone.line.state,
            why: phone.line.sentence(),
            since: self.wall(phone.line.since),
            last_heartbeat: phone.line.last_heartbeat.map(|at| self.wall(at)),
            deadline: phone.line.waits.map(|deadline| self.deadline_view(deadline)),
            restarts: phone.line.restarts(),
            agent_since: phone.line.agent_since().map(|since| self.wall(since)),
            outbox: phone.line.outbox.clone(),
        }
    }

    /// What the central server did to lines, and which phones failed together, the newest first.
    fn alerts(&self) -> Vec<AlertView> {
        let view = |phone: &Phone| {
            let alert = phone.line.alert.as_ref()?;
            let slot = phone.place.as_ref().and_then(|at| self.places.get(at)).and_then(|place| place.slot.clone());
            Some(AlertView {
                code: "line.forced_offline".to_owned(),
                at: self.wall(alert.at),
                phone: Some(phone.id.clone()),
                slot,
                what: alert.why.clone(),
                help: FORCED_OFFLINE_HELP.to_owned(),
            })
        };
        let mut alerts: Vec<AlertView> = self.phones.values().filter_map(view).chain(self.incident_alerts()).collect();
        alerts.sort_by_key(|alert| std::cmp::Reverse(alert.at));
        alerts
    }

    fn deadline_view(&self, deadline: Deadline) -> DeadlineView {
        DeadlineView { at: self.wall(deadline.at), why: deadline.why.to_owned() }
    }

    fn hub_view(&self, name: &HubName, hub: &Hub) -> HubView {
        let reading = hub.reading.as_ref();
        let slot_on = |port| {
            let power = PowerPort { hub: name.clone(), port };
            self.settings.slot_on(&power.hub, power.port).cloned()
        };
        HubView {
            name: name.clone(),
            device: hub.device.clone(),
            identity: reading.map(|reading| reading.identity.clone()),
            state: hub.state,
            why: hub.why.clone(),
            last_reading: hub.last_reading.map(|at| self.wall(at)),
            temperature_celsius: reading.and_then(|reading| reading.temperature_celsius),
            supply_volts: reading.and_then(|reading| reading.supply_volts),
            ports: reading
                .map(|reading| reading.ports.iter())
                .into_iter()
                .flatten()
                .map(|port| HubPortView {
                    port: port.port,
                    current_milliamps: port.current_milliamps,
                    mode: port.mode,
                    attached: port.attached,
                    slot: slot_on(port.port),
                })
                .collect(),
        }
    }
}
