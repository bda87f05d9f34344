//! The store as it is on the disk: what was committed, and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use farmhand::clock::Moment;
use farmhand::rack::PowerLedger;
use farmhand::rack::ids::{Endpoint, PhoneId, Serial, VersionCode};
use farmhand::rack::snapshot::{RolloutPhoneState, RolloutState};
use farmhand::store::RolloutNumber;
use farmhand::store::promise::{Promise, RolloutPhoneRecord, RolloutRecord};

#[derive(Debug, Default)]
pub(super) struct Disk {
    pub(super) rollouts: BTreeMap<RolloutNumber, RolloutRecord>,
    pub(super) phones: BTreeMap<(RolloutNumber, PhoneId), RolloutPhoneRecord>,
    pub(super) power: PowerLedger,
    /// The rollouts of new versions that have finished with a phone on them and were not taken back since, as they did.
    pub(super) finished: Vec<RolloutNumber>,
    /// When that changed last.
    pub(super) finished_at: Moment,
    /// The versions of all that ever finished.
    pub(super) stood: BTreeSet<VersionCode>,
    /// The serials that two phones were seen with.
    pub(super) twins: BTreeSet<Serial>,
    /// The places whose interface is another program's.
    pub(super) detached: BTreeSet<Endpoint>,
}

impl Disk {
    /// One batch, whole.
    pub(super) fn commit(&mut self, batch: Vec<Promise>, now: Moment) {
        let mut ended = Vec::new();
        for promise in batch {
            match promise {
                Promise::Rollout(record) => {
                    ended.push((record.number, record.state));
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
        for (number, state) in ended {
            let before = self.finished.clone();
            self.note_end(number, state);
            if self.finished != before {
                self.finished_at = now;
                self.stood.extend(self.rollouts.get(&number).map(|record| record.version_code));
            }
        }
    }

    fn note_end(&mut self, number: RolloutNumber, state: RolloutState) {
        let is_new = self.rollouts.get(&number).is_some_and(|record| record.takes_back.is_none());
        let is_done = |record: &RolloutPhoneRecord| record.rollout == number && record.state == RolloutPhoneState::Done;
        match state {
            RolloutState::Finished if !is_new || self.finished.contains(&number) => {}
            RolloutState::Finished if self.phones.values().any(is_done) => self.finished.push(number),
            RolloutState::Aborted | RolloutState::RollingBack | RolloutState::RolledBack => {
                self.finished.retain(|known| *known != number);
            }
            _ => {}
        }
    }

    /// What a daemon that starts is given.
    pub(super) fn promises(&self) -> Vec<Promise> {
        let rollouts = self.rollouts.values().cloned().map(Promise::Rollout);
        rollouts.chain(self.phones.values().cloned().map(Promise::RolloutPhone)).collect()
    }
}
