//! Turns at a USB bus: bytes for a phone wait for theirs, and hold it until they are with the phone.
//!
//! ```text
//!     Stream::write ──Pass::take──▶ Order (core) of the bus ──granted──▶ bytes that own their turn ──▶ core, transport, kernel
//!                                        ▲                                                                   │
//!                                        └──────────── the last of the bytes is dropped ◀────────────────────┘
//! ```

mod order;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep_until};

pub use order::{PATIENCE, PATIENCE_MAX, Party, SMALL, WINDOW};

use crate::clock::Moment;
use order::{Order, Ticket};

/// A bus of the host. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Bus(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    state: Mutex<State>,
    started: Instant,
}

#[derive(Debug, Default)]
struct State {
    order: Order,
    waiting: BTreeMap<Ticket, oneshot::Sender<()>>,
}

impl Default for Bus {
    fn default() -> Self {
        Self(Arc::new(Shared { state: Mutex::default(), started: Instant::now() }))
    }
}

impl Bus {
    /// The right of a party to send on this bus.
    #[must_use]
    pub fn pass(&self, party: Party) -> Pass {
        Pass(Arc::new(Holder { bus: self.clone(), party }))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing in here panics half-way through a change.
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn now(&self) -> Moment {
        Moment::from_start(self.0.started.elapsed())
    }

    fn end(&self, ticket: Ticket) {
        let mut state = self.state();
        state.waiting.remove(&ticket);
        let granted = state.order.end(ticket, self.now());
        state.wake(granted);
    }

    fn advance(&self) {
        let mut state = self.state();
        let granted = state.order.advance(self.now());
        state.wake(granted);
    }

    /// When a turn on the bus is overdue.
    fn deadline(&self) -> Option<Instant> {
        self.state().order.deadline().map(|deadline| self.0.started + deadline.at.since_start())
    }
}

impl State {
    fn wake(&mut self, granted: Vec<Ticket>) {
        for ticket in granted {
            // Whoever has just gone ends the turn in its drop.
            if let Some(waiter) = self.waiting.remove(&ticket) {
                let _ = waiter.send(());
            }
        }
    }
}

/// The right of one party to send on a bus. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Pass(Arc<Holder>);

#[derive(Debug)]
struct Holder {
    bus: Bus,
    party: Party,
}

impl Pass {
    /// The right of another party to send on the same bus.
    #[must_use]
    pub fn of(&self, party: Party) -> Self {
        self.0.bus.pass(party)
    }

    /// Waits for a turn. The bytes that come back hold it until the last of them is dropped. Cancel-safe. It waits for no longer
    /// than others hold their turns: [`PATIENCE_MAX`] for each window before it.
    pub(super) async fn take(&self, bytes: Bytes) -> Bytes {
        let bus = &self.0.bus;
        let (turn, granted) = {
            let mut state = bus.state();
            let (ticket, granted_now) = state.order.ask(&self.0.party, bytes.len(), bus.now());
            let Some(ticket) = ticket else { return bytes };
            let (grant, granted) = oneshot::channel();
            state.waiting.insert(ticket, grant);
            state.wake(granted_now);
            (Turn { bus: bus.clone(), ticket }, granted)
        };
        bus.wait(granted).await;
        Bytes::from_owner(Held { bytes, _turn: turn })
    }
}

impl Bus {
    async fn wait(&self, mut granted: oneshot::Receiver<()>) {
        loop {
            // Others may be granted at that time, and this one later: the next deadline is another.
            let overdue = async {
                match self.deadline() {
                    Some(at) => sleep_until(at).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                // The sender lives until it grants, so this can't end in any other way.
                _ = &mut granted => return,
                () = overdue => self.advance(),
            }
        }
    }
}

/// A turn, or the wish for one, until it is dropped.
#[derive(Debug)]
struct Turn {
    bus: Bus,
    ticket: Ticket,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.bus.end(self.ticket);
    }
}

#[derive(Debug)]
struct Held {
    bytes: Bytes,
    _turn: Turn,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use futures_util::poll;

    use super::*;

    fn message() -> Bytes {
        Bytes::from(vec![7; WINDOW / 2])
    }

    fn two() -> (Pass, Pass) {
        let bus = Bus::default();
        (bus.pass(Party::Rack), bus.pass(Party::Person("mara".into())))
    }

    #[tokio::test(start_paused = true)]
    async fn bytes_hold_their_turn_until_the_last_of_them_is_dropped() {
        let (rack, mara) = two();
        let (mut first, _hers) = (rack.take(message()).await, mara.take(message()).await);
        assert_eq!(first, message());
        let mut second = Box::pin(rack.take(message()));
        assert!(poll!(second.as_mut()).is_pending());
        let part = first.split_to(9);
        drop(first);
        assert!(poll!(second.as_mut()).is_pending());
        drop(part);
        assert_eq!(second.await, message());
    }

    #[tokio::test(start_paused = true)]
    async fn a_phone_that_takes_nothing_is_waited_for_so_long_and_no_longer() {
        let (rack, mara) = two();
        let (_first, _hers) = (rack.take(message()).await, mara.take(message()).await);
        let began = Instant::now();
        let _second = rack.take(message()).await;
        assert!((PATIENCE..PATIENCE * 2).contains(&began.elapsed()), "{:?}", began.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_wish_that_is_dropped_leaves_nothing_behind_granted_or_not() {
        let (rack, mara) = two();
        let (first, hers) = (rack.take(message()).await, mara.take(message()).await);
        let mut granted_unseen = Box::pin(rack.take(message()));
        assert!(poll!(granted_unseen.as_mut()).is_pending());
        {
            let mut waits = Box::pin(rack.take(message()));
            assert!(poll!(waits.as_mut()).is_pending());
        }
        drop(first);
        drop(granted_unseen);
        assert!(rack.0.bus.state().waiting.is_empty());
        assert!(poll!(Box::pin(rack.take(message()))).is_ready(), "a turn that was left would fill the window");
        drop(hers);
    }
}
