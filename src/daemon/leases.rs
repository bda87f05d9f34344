//! Holds on their way to the store: one task, so that they are promised and told in one order.

use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::clock::UnixMillis;
use crate::rack::Event;
use crate::rack::ids::PhoneId;
use crate::rack::lease::{HOLD, Lease, LeaseEvent, Tool};
use crate::rack::request::Ask;
use crate::store::Store;
use crate::store::promise::{AuditRecord, Promise};

/// Holds that wait for the store; one more is refused.
const WAITING_MAX: usize = 64;

/// What is to be kept, checked by the model.
#[derive(Debug)]
pub(super) enum Wanted {
    Hold {
        phone: PhoneId,
        who: String,
        reason: String,
        lasts: Duration,
    },
    Release {
        phone: PhoneId,
        who: String,
    },
    /// The time of a hold is over. Nobody waits for an answer.
    Over(Lease),
}

/// Where holds are kept, with whoever waits for the answer.
pub(super) type Orders = mpsc::Sender<(Wanted, Option<Ask>)>;

/// Has it kept that the time of a hold is over. What cannot be kept now stands in the store, and is over again after the next start.
pub(super) fn is_over(orders: &Orders, lease: Lease) {
    if let Err(why) = orders.try_send((Wanted::Over(lease), None)) {
        warn!("the end of a hold comes into the audit only after the next start: {why}");
    }
}

/// Starts the task that keeps holds in `store` and tells `events` once they are kept.
pub(super) fn spawn(store: Store, events: mpsc::Sender<Event>, cancel: CancellationToken) -> Orders {
    let (orders, mut inbox) = mpsc::channel::<(Wanted, Option<Ask>)>(WAITING_MAX);
    tokio::spawn(async move {
        loop {
            let (wanted, ask) = tokio::select! {
                () = cancel.cancelled() => return,
                order = inbox.recv() => match order {
                    Some(order) => order,
                    None => return,
                },
            };
            let Some(event) = keep(&store, wanted).await else { continue };
            if events.send(Event::Lease { event, ask }).await.is_err() {
                return;
            }
        }
    });
    orders
}

/// What the model must hear of it.
async fn keep(store: &Store, wanted: Wanted) -> Option<LeaseEvent> {
    let at = UnixMillis::from(SystemTime::now());
    let (batch, event) = match wanted {
        Wanted::Hold { phone, who, reason, lasts } => {
            let what = format!("held for {}: {reason}", humantime::format_duration(lasts));
            let audit = AuditRecord { at, who: who.clone(), what, target: phone.to_string() };
            let lease = Lease { phone, id: HOLD, tool: Tool::Hold, who, reason, since: at, until: at.plus(lasts) };
            (vec![Promise::Lease(lease.clone()), Promise::Audit(audit)], Some(LeaseEvent::Taken(lease)))
        }
        Wanted::Release { phone, who } => {
            let what = "its hold was ended".to_owned();
            let audit = AuditRecord { at, who: who.clone(), what, target: phone.to_string() };
            let why = format!("{who} has ended it");
            (
                vec![Promise::ForgetLease(phone.clone()), Promise::Audit(audit)],
                Some(LeaseEvent::Ended { phone, id: HOLD, why }),
            )
        }
        Wanted::Over(lease) => {
            let what = format!("the hold of {} ended by itself: {}", lease.who, lease.reason);
            let audit = AuditRecord { at, who: "farmhand".to_owned(), what, target: lease.phone.to_string() };
            (vec![Promise::LeaseIsOver(lease), Promise::Audit(audit)], None)
        }
    };
    match store.commit(batch).await {
        Ok(()) => event,
        Err(error) if event.is_none() => {
            error!(%error, "the end of a hold comes into the audit only after the next start");
            None
        }
        Err(error) => Some(LeaseEvent::NotKept { why: error.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StateDir;

    #[tokio::test]
    async fn a_hold_whose_time_is_over_leaves_the_store_and_stands_in_the_audit() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::lock(dir.path()).unwrap();
        let store = Store::open(&state).unwrap();
        let lease = Lease {
            phone: PhoneId::new("P1"),
            id: HOLD,
            tool: Tool::Hold,
            who: "mara".to_owned(),
            reason: "battery check".to_owned(),
            since: UnixMillis(1),
            until: UnixMillis(2),
        };
        store.commit(vec![Promise::Lease(lease.clone())]).await.unwrap();
        let (events, _told) = mpsc::channel(1);
        let orders = spawn(store.clone(), events, CancellationToken::new());
        is_over(&orders, lease);
        while !store.load_leases().await.unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        let audit = store.audit(8).await.unwrap();
        let [row] = &audit[..] else { panic!("{audit:?}") };
        assert_eq!((row.who.as_str(), row.target.as_str()), ("farmhand", "P1"));
        assert_eq!(row.what, "the hold of mara ended by itself: battery check");
    }
}
