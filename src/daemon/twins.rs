//! Serials that two phones have, on their way to the store: after a restart neither of them may be taken for the only one.

use std::collections::BTreeSet;
use std::time::Duration;

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::rack::ids::Serial;
use crate::store::promise::Promise;
use crate::store::{Store, StoreError};

/// Between two attempts to commit while the store fails: a disk that is full may have room again.
const COMMIT_RETRY: Duration = Duration::from_secs(2);

/// Keeps all serials that come by `shared` until `cancel`, or until nobody can send any more.
pub(super) async fn keep(store: Store, mut shared: watch::Receiver<BTreeSet<Serial>>, cancel: CancellationToken) {
    let kept = async {
        while shared.changed().await.is_ok() {
            let batch = shared.borrow_and_update().iter().cloned().map(Promise::SharedSerial).collect();
            match store.commit(batch).await {
                Ok(()) => {}
                Err(StoreError::Stopped) => return,
                Err(why) => {
                    error!(%why, "that two phones have one serial can't be kept; it is tried again");
                    shared.mark_changed();
                    tokio::time::sleep(COMMIT_RETRY).await;
                }
            }
        }
    };
    cancel.run_until_cancelled(kept).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::StateDir;

    #[tokio::test]
    async fn what_came_while_the_store_was_busy_is_kept_too() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::lock(dir.path()).unwrap();
        let store = Store::open(&state).unwrap();
        let (twins, shared) = watch::channel(BTreeSet::new());
        let keeper = tokio::spawn(keep(store.clone(), shared, CancellationToken::new()));
        for serial in ["A", "B", "C"] {
            twins.send_if_modified(|known| known.insert(Serial::new(serial)));
        }
        while store.load_shared_serials().await.unwrap().len() < 3 {
            tokio::task::yield_now().await;
        }
        drop(twins);
        keeper.await.unwrap();
    }
}
