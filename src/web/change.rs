//! What became different between two snapshots: a page that has the older one makes the newer one from it.

use serde::{Deserialize, Serialize};

use crate::clock::UnixMillis;
use crate::rack::Snapshot;
use crate::rack::ids::PhoneId;
use crate::rack::snapshot::{
    AlertView, DaemonView, HostHealth, HubView, IncidentView, MqttView, PhoneView, RolloutView, SwitchedOff,
    TroubleView,
};

/// The differences. Phones come one by one, for there are many; the rest is whole wherever it differs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    /// The newer snapshot's revision.
    pub revision: u64,
    /// When the newer snapshot was made.
    pub at: UnixMillis,
    /// Phones that are new or differ.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phones: Vec<PhoneView>,
    /// All phones in their order, where phones came, went or changed places.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<Vec<PhoneId>>,
    /// The daemon.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daemon: Option<DaemonView>,
    /// The host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host: Option<HostHealth>,
    /// Every hub.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hubs: Option<Vec<HubView>>,
    /// Every rollout.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollouts: Option<Vec<RolloutView>>,
    /// The broker.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mqtt: Option<MqttView>,
    /// Every alert.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub alerts: Option<Vec<AlertView>>,
    /// Phones that failed together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incidents: Option<Vec<IncidentView>>,
    /// What is off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switched_off: Option<Vec<SwitchedOff>>,
    /// What does not get on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub troubles: Option<Vec<TroubleView>>,
}

impl Change {
    /// What must be told to one who has `old` so that he has `new`. A host that was measured stays measured.
    #[must_use]
    pub fn between(old: &Snapshot, new: &Snapshot) -> Self {
        let before = |phone: &PhoneView| old.phones.iter().find(|known| known.id == phone.id);
        let ids = |snapshot: &Snapshot| snapshot.phones.iter().map(|phone| phone.id.clone()).collect::<Vec<_>>();
        let order = ids(new);
        Self {
            revision: new.revision,
            at: new.at,
            phones: new.phones.iter().filter(|phone| before(phone) != Some(*phone)).cloned().collect(),
            order: (order != ids(old)).then_some(order),
            daemon: differing(&old.daemon, &new.daemon),
            host: differing(&old.host, &new.host).flatten(),
            hubs: differing(&old.hubs, &new.hubs),
            rollouts: differing(&old.rollouts, &new.rollouts),
            mqtt: differing(&old.mqtt, &new.mqtt),
            alerts: differing(&old.alerts, &new.alerts),
            incidents: differing(&old.incidents, &new.incidents),
            switched_off: differing(&old.switched_off, &new.switched_off),
            troubles: differing(&old.troubles, &new.troubles),
        }
    }

    /// Makes the newer snapshot from the older one, as the page does.
    pub fn apply(self, to: &mut Snapshot) {
        to.revision = self.revision;
        to.at = self.at;
        for phone in self.phones {
            match to.phones.iter_mut().find(|known| known.id == phone.id) {
                Some(known) => *known = phone,
                None => to.phones.push(phone),
            }
        }
        if let Some(order) = self.order {
            let place = |phone: &PhoneView| order.iter().position(|id| *id == phone.id);
            to.phones.retain(|phone| place(phone).is_some());
            to.phones.sort_by_key(place);
        }
        to.host = self.host.or(to.host.take());
        replace(&mut to.daemon, self.daemon);
        replace(&mut to.hubs, self.hubs);
        replace(&mut to.rollouts, self.rollouts);
        replace(&mut to.mqtt, self.mqtt);
        replace(&mut to.alerts, self.alerts);
        replace(&mut to.incidents, self.incidents);
        replace(&mut to.switched_off, self.switched_off);
        replace(&mut to.troubles, self.troubles);
    }
}

fn differing<T: PartialEq + Clone>(old: &T, new: &T) -> Option<T> {
    (old != new).then(|| new.clone())
}

fn replace<T>(old: &mut T, new: Option<T>) {
    if let Some(new) = new {
        *old = new;
    }
}
