//! Interfaces that are given away or taken back, on their way to the store: one task, so that it is promised and told in one order.

use std::time::SystemTime;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::clock::UnixMillis;
use crate::rack::Event;
use crate::rack::detach::{DetachEvent, Detachment, Interface};
use crate::rack::request::Ask;
use crate::store::Store;
use crate::store::promise::{AuditRecord, Promise};

/// Orders that wait for the store; one more is refused.
const WAITING_MAX: usize = 16;

/// What a person wants, checked by the model.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) who: String,
    pub(super) interface: Interface,
    pub(super) change: Change,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Detach,
    Attach,
}

/// Starts the task that keeps them in `store` and tells `events` once they are kept.
pub(super) fn spawn(
    store: Store,
    events: mpsc::Sender<Event>,
    cancel: CancellationToken,
) -> mpsc::Sender<(Wanted, Ask)> {
    let (orders, mut inbox) = mpsc::channel::<(Wanted, Ask)>(WAITING_MAX);
    tokio::spawn(cancel.run_until_cancelled_owned(async move {
        while let Some((wanted, ask)) = inbox.recv().await {
            let event = keep(&store, wanted).await;
            if events.send(Event::Detach { event, ask: Some(ask) }).await.is_err() {
                return;
            }
        }
    }));
    orders
}

async fn keep(store: &Store, Wanted { who, interface, change }: Wanted) -> DetachEvent {
    let at = UnixMillis::from(SystemTime::now());
    let Interface { endpoint, target, .. } = interface;
    let (promise, what, event) = match change {
        Change::Detach => {
            let detachment = Detachment { endpoint, who: who.clone(), since: at };
            let what = format!("the interface {} was given to another program", detachment.endpoint);
            (Promise::Detached(detachment.clone()), what, DetachEvent::Detached(detachment))
        }
        Change::Attach => {
            let what = format!("the interface {endpoint} was taken back");
            (Promise::Attached(endpoint.clone()), what, DetachEvent::Attached { endpoint, who: who.clone() })
        }
    };
    let audit = AuditRecord { at, who, what, target };
    match store.commit(vec![promise, Promise::Audit(audit)]).await {
        Ok(()) => event,
        Err(error) => DetachEvent::NotKept { why: error.to_string() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StateDir;

    #[tokio::test]
    async fn what_was_given_away_is_in_the_store_and_the_audit_until_it_is_taken_back() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::lock(dir.path()).unwrap();
        let store = Store::open(&state).unwrap();
        let (events, mut told) = mpsc::channel(1);
        let orders = spawn(store.clone(), events, CancellationToken::new());
        let endpoint: crate::rack::ids::Endpoint = "usb:1-2.3".parse().unwrap();
        let wanted = |change| {
            let (endpoint, name, target) = (endpoint.clone(), "A1".to_owned(), "P1".to_owned());
            Wanted { who: "mara".to_owned(), interface: Interface { endpoint, name, target }, change }
        };
        orders.send((wanted(Change::Detach), Ask(1))).await.unwrap();
        let Some(Event::Detach { event: DetachEvent::Detached(detachment), ask: Some(Ask(1)) }) = told.recv().await
        else {
            panic!("it was not told")
        };
        assert_eq!(store.load_detachments().await.unwrap(), [detachment]);
        orders.send((wanted(Change::Attach), Ask(2))).await.unwrap();
        let attached = DetachEvent::Attached { endpoint: endpoint.clone(), who: "mara".to_owned() };
        assert_eq!(told.recv().await, Some(Event::Detach { event: attached, ask: Some(Ask(2)) }));
        assert_eq!(store.load_detachments().await.unwrap(), []);
        let rows = store.audit(8).await.unwrap();
        let rows: Vec<_> = rows.iter().map(|row| format!("{} {}: {}", row.who, row.target, row.what)).collect();
        assert_eq!(
            rows,
            [
                "mara P1: the interface usb:1-2.3 was taken back",
                "mara P1: the interface usb:1-2.3 was given to another program"
            ]
        );
    }
}
