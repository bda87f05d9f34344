//! By whom an install is carried out: by the rack over ADB, or by the agent on the phone, which is told by its line.

use super::Rollouts;
use crate::agent::ApkSource;
use crate::config;
use crate::phone::Delivery;
use crate::store::promise::RolloutRecord;

impl Rollouts {
    /// An agent can fetch only what has an address: an operator's own file goes over ADB.
    pub(super) fn delivery_of(&self, record: &RolloutRecord) -> Delivery {
        match (self.config.delivery, &record.source) {
            (config::Delivery::Notice, ApkSource::Url(url)) => {
                Delivery::Notice { url: url.clone(), version_name: record.version_name.clone() }
            }
            (config::Delivery::Notice | config::Delivery::Adb, _) => Delivery::Adb,
        }
    }
}
