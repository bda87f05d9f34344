//! The keeper of the power cycles' ledger: it has the newest one committed, and answers once that is on the disk.
//!
//! Ledgers that were overtaken while the store was busy are skipped: each is the whole truth.

use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::error;

use crate::rack::PowerLedger;
use crate::rack::event::PowerPromise;
use crate::store::promise::Promise;
use crate::store::{Store, StoreError};

/// Between two attempts to commit while the store fails: a disk that is full may have room again.
const COMMIT_RETRY: Duration = Duration::from_secs(2);

/// A ledger and its number, which rises with each; 0 before the first.
pub(super) type Numbered = (u64, PowerLedger);

/// Keeps ledgers until `cancel`, or until `ledgers` or `answers` has no other end.
pub(super) async fn keep(
    store: Store,
    mut ledgers: watch::Receiver<Numbered>,
    answers: mpsc::Sender<PowerPromise>,
    cancel: CancellationToken,
) {
    let kept = async {
        while ledgers.changed().await.is_ok() {
            let (number, ledger) = ledgers.borrow_and_update().clone();
            let answer = match store.commit(vec![Promise::Power(ledger)]).await {
                Ok(()) => PowerPromise::Kept { number },
                Err(why) => {
                    error!(%why, "the ledger of power cycles can't be kept");
                    if !matches!(why, StoreError::Stopped) {
                        ledgers.mark_changed();
                    }
                    PowerPromise::Failing { why: why.to_string() }
                }
            };
            let failed = matches!(answer, PowerPromise::Failing { .. });
            if answers.send(answer).await.is_err() {
                return;
            }
            if failed {
                tokio::time::sleep(COMMIT_RETRY).await;
            }
        }
    };
    cancel.run_until_cancelled(kept).await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixMillis;
    use crate::rack::ids::{HubName, HubPort};
    use crate::rack::power::PortOff;
    use crate::rack::snapshot::PowerPort;
    use crate::store::StateDir;

    fn ledger(port: u8) -> PowerLedger {
        let power = PowerPort { hub: HubName::new("H1"), port: HubPort(port) };
        PowerLedger { off: vec![PortOff { power, since: UnixMillis(7) }], cycles: vec![UnixMillis(7)] }
    }

    #[tokio::test]
    async fn what_is_answered_is_on_the_disk_and_only_the_newest_ledger_is() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::lock(dir.path()).unwrap();
        let store = Store::open(&state).unwrap();
        let (ledgers, inbox) = watch::channel((0, PowerLedger::default()));
        let (answers, mut answered) = mpsc::channel(4);
        let keeper = tokio::spawn(keep(store.clone(), inbox, answers, CancellationToken::new()));
        // On this thread the keeper runs only once this test waits.
        ledgers.send_replace((1, ledger(1)));
        ledgers.send_replace((2, ledger(2)));
        assert_eq!(answered.recv().await, Some(PowerPromise::Kept { number: 2 }));
        assert_eq!(store.load_power().await.unwrap(), ledger(2));
        drop(ledgers);
        keeper.await.unwrap();
    }
}
