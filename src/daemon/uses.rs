//! What is done through the adb server, on its way to the audit.

use tokio::sync::mpsc;
use tokio_util::task::TaskTracker;
use tracing::warn;

use crate::adb::server::AuditEntry;
use crate::store::Store;
use crate::store::promise::{AuditRecord, Promise};

/// Lines that wait for the store; the server waits with more.
const WAITING_MAX: usize = 64;

/// Starts the task that writes uses to the audit. It ends behind the last one, so that none is lost when the daemon stops.
pub(super) fn keep(store: Store, tasks: &TaskTracker) -> mpsc::Sender<AuditEntry> {
    let (entries, mut inbox) = mpsc::channel(WAITING_MAX);
    tasks.spawn(async move {
        let mut together = Vec::new();
        // Those that begin at the same time wait for one commit.
        while inbox.recv_many(&mut together, WAITING_MAX).await > 0 {
            let batch = together.iter().map(|AuditEntry { record, .. }| {
                let (who, what) = (record.who.clone(), record.what.clone());
                Promise::Audit(AuditRecord { at: record.at, who, what, target: record.phone.to_string() })
            });
            let written = store.commit(batch.collect()).await.map_err(|error| error.to_string());
            for AuditEntry { record, kept } in together.drain(..) {
                if let Err(why) = &written {
                    warn!("what {} does on {} is not in the audit: {why}", record.who, record.phone);
                }
                if let Some(kept) = kept {
                    kept.send_replace(Some(written.clone()));
                }
            }
        }
    });
    entries
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::sync::watch;

    use super::*;
    use crate::adb::server::uses::{Family, Now, UseRecord};
    use crate::clock::{Moment, UnixMillis};
    use crate::rack::ids::PhoneId;
    use crate::store::StateDir;

    #[tokio::test]
    async fn whoever_waits_for_a_line_hears_of_it_once_it_is_on_the_disk() {
        let dir = tempfile::tempdir().unwrap();
        let state = StateDir::lock(dir.path()).unwrap();
        let store = Store::open(&state).unwrap();
        let tasks = TaskTracker::new();
        let entries = keep(store.clone(), &tasks);
        let now = Now { at: Moment::from_start(Duration::ZERO), wall: UnixMillis(7) };
        let waiting: Vec<_> = ["mara", "jon"]
            .map(|who| {
                let record = UseRecord::beginning(now, &PhoneId::new("P1"), who, Family::of("shell:secret"));
                let (kept, heard) = watch::channel(None);
                entries.try_send(AuditEntry { record, kept: Some(kept) }).unwrap();
                heard
            })
            .into();
        for mut heard in waiting {
            assert_eq!(*heard.wait_for(Option::is_some).await.unwrap(), Some(Ok(())));
        }
        let lines = store.audit(8).await.unwrap();
        let told: Vec<_> = lines.iter().map(|line| (line.who.as_str(), line.what.as_str(), line.at.0)).collect();
        let what = "begins to work on it with adb: shell";
        assert_eq!(told, [("jon", what, 7), ("mara", what, 7)]);
        drop(entries);
        tasks.close();
        tasks.wait().await;
    }
}
