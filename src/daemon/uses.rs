//! What was done through the adb server, on its way to the audit.

use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::adb::server::uses::UseRecord;
use crate::store::Store;
use crate::store::promise::{AuditRecord, Promise};

/// Uses that wait for the store; the server waits with more.
const WAITING_MAX: usize = 64;

/// Starts the task that writes uses to the audit. It ends behind the last one, so that none is lost when the daemon stops.
pub(super) fn keep(store: Store, tasks: &TaskTracker) -> mpsc::Sender<UseRecord> {
    let (records, mut inbox) = mpsc::channel::<UseRecord>(WAITING_MAX);
    tasks.spawn(async move {
        while let Some(UseRecord { at, who, phone, what }) = inbox.recv().await {
            let record = AuditRecord { at, who: who.clone(), what, target: phone.to_string() };
            if let Err(error) = store.commit(vec![Promise::Audit(record)]).await {
                warn!("what {who} did on {phone} is not in the audit: {error}");
            }
        }
    });
    records
}
