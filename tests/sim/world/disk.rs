//! The store as it is on the disk: what was committed, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use farmhand::rack::PowerLedger;
use farmhand::rack::ids::{Endpoint, PhoneId, Serial};
use farmhand::store::RolloutNumber;
use farmhand::store::promise::{Promise, RolloutPhoneRecord, RolloutRecord};

#[derive(Debug, Default)]
pub(super) struct Disk {
    pub(super) rollouts: BTreeMap<RolloutNumber, RolloutRecord>,
    pub(super) phones: BTreeMap<(RolloutNumber, PhoneId), RolloutPhoneRecord>,
    pub(super) power: PowerLedger,
    /// The serials that two phones were seen with.
    pub(super) twins: BTreeSet<Serial>,
    /// The places whose interface is another program's.
    pub(super) detached: BTreeSet<Endpoint>,
}

impl Disk {
    /// One batch, whole.
    pub(super) fn commit(&mut self, batch: Vec<Promise>) {
        for promise in batch {
            match promise {
                Promise::Rollout(record) => {
                    self.rollouts.insert(record.number, record);
                }
                Promise::RolloutPhone(record) => {
                    self.phones.insert((record.rollout, record.phone.clone()), record);
                }
                Promise::ForgetRollout(number) => {
                    self.rollouts.remove(&number);
                    self.phones.retain(|(rollout, _), _| *rollout != number);
                }
                Promise::Power(ledger) => self.power = ledger,
                Promise::SharedSerial(serial) => drop(self.twins.insert(serial)),
                Promise::Audit(_)
                | Promise::Lease(_)
                | Promise::LeaseIsOver(_)
                | Promise::ForgetLease(_)
                | Promise::Identity { .. }
                | Promise::ForgetIdentity(_)
                | Promise::Detached(_)
                | Promise::Attached(_)
                | Promise::Token(_)
                | Promise::ForgetToken(_) => {}
            }
        }
    }

    /// What a daemon that starts is given.
    pub(super) fn promises(&self) -> Vec<Promise> {
        let rollouts = self.rollouts.values().cloned().map(Promise::Rollout);
        rollouts.chain(self.phones.values().cloned().map(Promise::RolloutPhone)).collect()
    }
}
