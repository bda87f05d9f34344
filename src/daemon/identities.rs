//! What phones register as, on its way to the store: one task, so that it is promised and told in one order.

use std::collections::BTreeMap;
use std::time::SystemTime;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::clock::UnixMillis;
use crate::rack::Event;
use crate::rack::identities::IdentityEvent;
use crate::rack::ids::PhoneId;
use crate::rack::request::Ask;
use crate::store::Store;
use crate::store::promise::{AuditRecord, Promise};

/// Orders that wait for the store; one more is refused.
const WAITING_MAX: usize = 16;

/// What a person wants, checked by the model.
#[derive(Debug)]
pub(super) struct Wanted {
    pub(super) who: String,
    pub(super) change: Change,
}

#[derive(Debug)]
pub(super) enum Change {
    Set(BTreeMap<String, String>),
    Forget(PhoneId),
}

/// Starts the task that keeps identities in `store` and tells `events` once they are kept.
pub(super) fn spawn(
    store: Store,
    events: mpsc::Sender<Event>,
    cancel: CancellationToken,
) -> mpsc::Sender<(Wanted, Ask)> {
    let (orders, mut inbox) = mpsc::channel::<(Wanted, Ask)>(WAITING_MAX);
    tokio::spawn(cancel.run_until_cancelled_owned(async move {
        while let Some((wanted, ask)) = inbox.recv().await {
            let event = keep(&store, wanted).await;
            if events.send(Event::Identity { event, ask: Some(ask) }).await.is_err() {
                return;
            }
        }
    }));
    orders
}

/// Who was named stands in the audit, and never what for: credentials are secrets of a kind.
async fn keep(store: &Store, Wanted { who, change }: Wanted) -> IdentityEvent {
    let at = UnixMillis::from(SystemTime::now());
    let audit = |what: &str, target: String| {
        Promise::Audit(AuditRecord { at, who: who.clone(), what: what.to_owned(), target })
    };
    let (batch, event) = match change {
        Change::Set(entries) => {
            let set = entries
                .iter()
                .map(|(name, credential)| Promise::Identity { name: name.clone(), credential: credential.clone() });
            let told = entries.keys().map(|name| audit("its identity was set", name.clone()));
            (set.chain(told).collect(), IdentityEvent::Set(entries.clone()))
        }
        Change::Forget(phone) => {
            let forget = Promise::ForgetIdentity(phone.to_string());
            (vec![forget, audit("its identity was forgotten", phone.to_string())], IdentityEvent::Forgotten { phone })
        }
    };
    match store.commit(batch).await {
        Ok(()) => event,
        Err(error) => IdentityEvent::NotKept { why: error.to_string() },
    }
}
