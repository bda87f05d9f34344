//! Holds on their way to the store: one task, so that they are promised and told in one order.

use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::clock::UnixMillis;
use crate::rack::Event;
use crate::rack::ids::PhoneId;
use crate::rack::lease::{HOLD, Lease, LeaseEvent, Tool};
use crate::rack::request::Ask;
use crate::store::Store;
use crate::store::promise::{AuditRecord, Promise};

/// Holds that wait for the store; one more is refused.
const WAITING_MAX: usize = 64;

/// What a person wants, checked by the model.
#[derive(Debug)]
pub(super) enum Wanted {
    Hold { phone: PhoneId, who: String, reason: String, lasts: Duration },
    Release { phone: PhoneId, who: String },
}

/// Starts the task that keeps holds in `store` and tells `events` once they are kept.
pub(super) fn spawn(
    store: Store,
    events: mpsc::Sender<Event>,
    cancel: CancellationToken,
) -> mpsc::Sender<(Wanted, Ask)> {
    let (orders, mut inbox) = mpsc::channel::<(Wanted, Ask)>(WAITING_MAX);
    tokio::spawn(async move {
        loop {
            let (wanted, ask) = tokio::select! {
                () = cancel.cancelled() => return,
                order = inbox.recv() => match order {
                    Some(order) => order,
                    None => return,
                },
            };
            let event = keep(&store, wanted).await;
            if events.send(Event::Lease { event, ask: Some(ask) }).await.is_err() {
                return;
            }
        }
    });
    orders
}

async fn keep(store: &Store, wanted: Wanted) -> LeaseEvent {
    let at = UnixMillis::from(SystemTime::now());
    let (batch, event) = match wanted {
        Wanted::Hold { phone, who, reason, lasts } => {
            let what = format!("held for {}: {reason}", humantime::format_duration(lasts));
            let audit = AuditRecord { at, who: who.clone(), what, target: phone.to_string() };
            let lease = Lease { phone, id: HOLD, tool: Tool::Hold, who, reason, since: at, until: at.plus(lasts) };
            (vec![Promise::Lease(lease.clone()), Promise::Audit(audit)], LeaseEvent::Taken(lease))
        }
        Wanted::Release { phone, who } => {
            let what = "its hold was ended".to_owned();
            let audit = AuditRecord { at, who: who.clone(), what, target: phone.to_string() };
            let why = format!("{who} has ended it");
            (
                vec![Promise::ForgetLease(phone.clone()), Promise::Audit(audit)],
                LeaseEvent::Ended { phone, id: HOLD, why },
            )
        }
    };
    match store.commit(batch).await {
        Ok(()) => event,
        Err(error) => LeaseEvent::NotKept { why: error.to_string() },
    }
}
