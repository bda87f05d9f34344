//! The shell around [`Budget`]: permits that are waited for by futures and given back when they are dropped.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

use super::budget::{Answer, Budget, Lane, TRANSFER_OVERHEAD, Ticket};

/// The budget of all handsets, shared by everyone who moves bytes.
#[derive(Clone, Debug)]
pub(super) struct Allowance(Arc<Mutex<Counter>>);

#[derive(Debug)]
struct Counter {
    budget: Budget,
    waiting: BTreeMap<Ticket, oneshot::Sender<()>>,
}

impl Allowance {
    pub(super) fn new(budget: Budget) -> Self {
        Self(Arc::new(Mutex::new(Counter { budget, waiting: BTreeMap::new() })))
    }

    /// Opens both directions of a handset, from it and to it; each is closed when its pass is dropped.
    pub(super) fn open_lanes(&self) -> (LanePass, LanePass) {
        let (from, to) = self.lock().budget.open_lanes();
        let pass = |lane| LanePass { allowance: self.clone(), lane };
        (pass(from), pass(to))
    }

    fn lock(&self) -> MutexGuard<'_, Counter> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Counter {
    fn wake(&mut self, granted: Vec<Ticket>) {
        for ticket in granted {
            // A waiter that has just gone finds out in its own drop, where it gives back what it was granted here.
            if let Some(waiter) = self.waiting.remove(&ticket) {
                let _ = waiter.send(());
            }
        }
    }
}

/// The right of one lane to ask for permits.
#[derive(Debug)]
pub(super) struct LanePass {
    allowance: Allowance,
    lane: Lane,
}

impl LanePass {
    /// What the next transfer should carry at most.
    pub(super) fn transfer_len(&self) -> usize {
        self.allowance.lock().budget.transfer_len()
    }

    /// Waits for the permit of a transfer of `len` bytes.
    pub(super) async fn permit(&mut self, len: usize) -> Permit {
        let bytes = len.saturating_add(TRANSFER_OVERHEAD);
        let permit = Permit { allowance: self.allowance.clone(), lane: self.lane, bytes };
        let (ticket, granted) = {
            let mut counter = self.allowance.lock();
            match counter.budget.ask(self.lane, bytes) {
                Answer::Granted => return permit,
                Answer::Waits(ticket) => {
                    let (grant, granted) = oneshot::channel();
                    counter.waiting.insert(ticket, grant);
                    (ticket, granted)
                }
            }
        };
        let mut wish = PendingWish { ticket, permit: Some(permit) };
        // The sender lives in the counter until it grants, so this cannot end in any other way.
        let _ = granted.await;
        wish.redeem()
    }

    /// The permit of a transfer of `len` bytes if it can be had without waiting.
    pub(super) fn permit_now(&mut self, len: usize) -> Option<Permit> {
        let bytes = len.saturating_add(TRANSFER_OVERHEAD);
        let mut counter = self.allowance.lock();
        match counter.budget.ask(self.lane, bytes) {
            Answer::Granted => Some(Permit { allowance: self.allowance.clone(), lane: self.lane, bytes }),
            Answer::Waits(ticket) => {
                let granted = counter.budget.withdraw(ticket);
                counter.wake(granted);
                None
            }
        }
    }
}

impl Drop for LanePass {
    fn drop(&mut self) {
        let mut counter = self.allowance.lock();
        let granted = counter.budget.close_lane(self.lane);
        counter.wake(granted);
    }
}

/// A wish that is being waited for; dropping it takes it back, granted or not.
struct PendingWish {
    ticket: Ticket,
    permit: Option<Permit>,
}

impl PendingWish {
    #[expect(clippy::expect_used, reason = "the permit is put in by the only constructor and taken out once, here")]
    fn redeem(&mut self) -> Permit {
        self.permit.take().expect("a wish is redeemed once")
    }
}

impl Drop for PendingWish {
    fn drop(&mut self) {
        let Some(permit) = self.permit.take() else { return };
        let granted_meanwhile = {
            let mut counter = permit.allowance.lock();
            let granted_meanwhile = counter.waiting.remove(&self.ticket).is_none();
            if !granted_meanwhile {
                let granted = counter.budget.withdraw(self.ticket);
                counter.wake(granted);
            }
            granted_meanwhile
        };
        if granted_meanwhile {
            drop(permit);
        } else {
            permit.forget();
        }
    }
}

/// Bytes of the budget that belong to one transfer until this is dropped.
#[derive(Debug)]
pub(super) struct Permit {
    allowance: Allowance,
    lane: Lane,
    bytes: usize,
}

impl Permit {
    /// Ends a permit that was never granted.
    fn forget(mut self) {
        self.bytes = 0;
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.bytes == 0 {
            return;
        }
        let mut counter = self.allowance.lock();
        let granted = counter.budget.give_back(self.lane, self.bytes);
        counter.wake(granted);
    }
}

#[cfg(test)]
mod tests {
    use std::task::Poll;

    use super::*;

    const HALF: usize = 384 * 1024 - TRANSFER_OVERHEAD;

    fn small() -> Allowance {
        Allowance::new(Budget::of_usbfs_memory(Some(1)))
    }

    #[tokio::test]
    async fn a_permit_is_waited_for_until_another_is_dropped() {
        let allowance = small();
        let ((_, mut a), (_, mut b)) = (allowance.open_lanes(), allowance.open_lanes());
        let first = a.permit(HALF).await;
        let _other = b.permit(HALF).await;
        let mut second = Box::pin(a.permit(1));
        assert!(matches!(futures_util::poll!(second.as_mut()), Poll::Pending));
        drop(first);
        second.await;
    }

    #[tokio::test]
    async fn a_wish_that_is_dropped_leaves_nothing_behind_granted_or_not() {
        let allowance = small();
        let (_, mut a) = allowance.open_lanes();
        let all = 768 * 1024 - TRANSFER_OVERHEAD;
        let first = a.permit(all).await;
        {
            let mut waits = Box::pin(a.permit(all));
            assert!(matches!(futures_util::poll!(waits.as_mut()), Poll::Pending));
        }
        let mut granted_unseen = Box::pin(a.permit(all));
        assert!(matches!(futures_util::poll!(granted_unseen.as_mut()), Poll::Pending));
        drop(first);
        drop(granted_unseen);
        assert!(a.permit_now(all).is_some(), "everything was given back");
    }

    #[tokio::test]
    async fn who_does_not_want_to_wait_is_told_no() {
        let allowance = small();
        let ((_, mut a), (_, mut b)) = (allowance.open_lanes(), allowance.open_lanes());
        let held = a.permit(HALF).await;
        assert!(a.permit_now(1).is_none());
        assert!(b.permit_now(1).is_some());
        drop(held);
        assert!(a.permit_now(1).is_some());
    }
}
