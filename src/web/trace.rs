//! A phone's trace: what happened to it, once or as it goes on.

use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use super::Counter;
use super::api::{Refused, unknown_phone};
use crate::phone::trace::TracePage;
use crate::rack::Snapshot;

/// The longest that an answer is held back for news: shorter than a client or a proxy waits for one.
const WAIT_MAX: Duration = Duration::from_secs(25);

/// Which events are wanted.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Wanted {
    /// The number of the first one.
    #[serde(default)]
    from: u64,
    /// How many seconds the answer may be held back while there is none, at most [`WAIT_MAX`].
    #[serde(default)]
    wait: u64,
}

pub(super) async fn trace(
    State(mut counter): State<Counter>,
    Path(name): Path<String>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, Refused> {
    let Query(wanted) = wanted.map_err(|rejection| {
        let help = "from is an event's number, wait a number of seconds: ?from=17&wait=20".to_owned();
        Refused::new(rejection.status(), "request.malformed", rejection.body_text(), help)
    })?;
    let until = Instant::now() + Duration::from_secs(wanted.wait).min(WAIT_MAX);
    loop {
        let now = counter.desk.snapshots.borrow_and_update().clone();
        let page = page(&now, &name, wanted.from).ok_or_else(|| unknown_phone(&now, &name))?;
        let news = tokio::select! {
            news = timeout_at(until, counter.desk.snapshots.changed()), if page.events.is_empty() => news,
            () = counter.cancel.cancelled(), if page.events.is_empty() => return Ok(Json(page).into_response()),
            else => return Ok(Json(page).into_response()),
        };
        // No news in time, or no model any more.
        if !matches!(news, Ok(Ok(()))) {
            return Ok(Json(page).into_response());
        }
    }
}

fn page(rack: &Snapshot, name: &str, from: u64) -> Option<TracePage> {
    let phone = rack.phone(name)?;
    let events = rack.traces.of(&phone.id, from);
    let next = events.last().map_or(from, |last| last.number + 1);
    Some(TracePage { phone: phone.id.clone(), slot: phone.slot.clone(), events, next })
}
