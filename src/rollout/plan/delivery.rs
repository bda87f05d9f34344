//! By whom an install is carried out: by the rack over ADB, or by the agent on the phone, which is told by its line.

use super::Rollouts;
use crate::agent::ApkSource;
use crate::config::Delivery;
use crate::phone::Carrier;
use crate::store::promise::RolloutRecord;

impl Rollouts {
    /// An agent can fetch only what has an address: an operator's own file goes over ADB.
    pub(super) fn carrier_of(&self, record: &RolloutRecord) -> Carrier {
        match (self.config.delivery, &record.source) {
            (Delivery::Notice, ApkSource::Url(url)) => {
                Carrier::Agent { url: url.clone(), version_name: record.version_name.clone() }
            }
            (Delivery::Notice | Delivery::Adb, _) => Carrier::Rack,
        }
    }
}
