//! Server-sent events: the whole snapshot first, then what changes in it.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use futures_util::{Stream, StreamExt, stream};
use tokio::sync::{OwnedSemaphorePermit, watch};
use tokio::time::{Instant, sleep_until};

use super::api::Refused;
use super::change::Change;
use super::{Counter, STREAMS_MAX};
use crate::rack::Snapshot;

/// Between two events: readings of a whole rack come in bursts, and no eye follows more than ten a second.
const SPACING: Duration = Duration::from_millis(100);
/// Proxies and phones drop connections that are silent for half a minute.
const KEEP_ALIVE: Duration = Duration::from_secs(15);
/// How soon a browser tries again after a lost stream.
const RETRY: Duration = Duration::from_secs(1);

pub(super) async fn events(
    State(counter): State<Counter>,
) -> Result<Sse<impl Stream<Item = Result<Event, Infallible>>>, Refused> {
    let permit = counter.streams.clone().try_acquire_owned().map_err(|_| {
        let what = format!("{STREAMS_MAX} event streams are open already");
        Refused::new(StatusCode::SERVICE_UNAVAILABLE, "events.full", what, "close other pages of this rack".to_owned())
    })?;
    let viewer = Viewer { snapshots: counter.desk.snapshots, seen: None, next: Instant::now(), _permit: permit };
    let told = stream::unfold(viewer, |mut viewer| async { viewer.look().await.map(|event| (Ok(event), viewer)) });
    let told = told.take_until(counter.cancel.cancelled_owned());
    Ok(Sse::new(told).keep_alive(KeepAlive::new().interval(KEEP_ALIVE).text("still here")))
}

/// One who watches, and what he has been told.
struct Viewer {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    seen: Option<Arc<Snapshot>>,
    next: Instant,
    _permit: OwnedSemaphorePermit,
}

impl Viewer {
    /// The next event; `None` once the model has ended.
    async fn look(&mut self) -> Option<Event> {
        let Some(seen) = self.seen.take() else {
            let now = self.snapshots.borrow_and_update().clone();
            let event = event("snapshot", now.revision, &*now).retry(RETRY);
            self.seen = Some(now);
            return Some(event);
        };
        self.snapshots.changed().await.ok()?;
        sleep_until(self.next).await;
        self.next = Instant::now() + SPACING;
        let now = self.snapshots.borrow_and_update().clone();
        let event = event("change", now.revision, &Change::between(&seen, &now));
        self.seen = Some(now);
        Some(event)
    }
}

fn event(kind: &str, revision: u64, content: &impl serde::Serialize) -> Event {
    let event = Event::default().event(kind).id(revision.to_string());
    // Numbers that JSON cannot hold are written as null by serde_json, so nothing of ours fails here.
    event.json_data(content).unwrap_or_else(|_| Event::default().comment("a snapshot that JSON cannot hold"))
}
