//! Rollouts: all of them, and one as it is now or as soon as it is another than was seen.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::header::{CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use super::Counter;
use super::api::{Refused, unknown};
use crate::rack::snapshot::RolloutView;

/// The longest that an answer is held back for news: shorter than a client or a proxy waits for one.
const WAIT_MAX: Duration = Duration::from_secs(25);

/// How patient the asker is.
#[derive(Clone, Copy, Debug, Deserialize)]
pub(super) struct Patience {
    /// How many seconds the answer may be held back while the rollout is as it was seen, at most [`WAIT_MAX`].
    #[serde(default)]
    wait: u64,
}

pub(super) async fn rollouts(State(counter): State<Counter>) -> Response {
    Json(&counter.now().rollouts).into_response()
}

/// One rollout. What was seen is named by `If-None-Match`; 304 if it is still so after the wait.
pub(super) async fn rollout(
    State(mut counter): State<Counter>,
    Path(id): Path<String>,
    patience: Result<Query<Patience>, QueryRejection>,
    headers: HeaderMap,
) -> Result<Response, Refused> {
    let Query(Patience { wait }) = patience.map_err(|rejection| {
        let help = "wait is a number of seconds: ?wait=20".to_owned();
        Refused::new(rejection.status(), "request.malformed", rejection.body_text(), help)
    })?;
    let until = Instant::now() + Duration::from_secs(wait).min(WAIT_MAX);
    let mut seen: Option<RolloutView> = None;
    loop {
        let now = counter.desk.snapshots.borrow_and_update().clone();
        let Some(rollout) = now.rollouts.iter().find(|rollout| rollout.id.as_str() == id) else {
            let known = now.rollouts.iter().map(|rollout| rollout.id.as_str());
            return Err(unknown("rollout.unknown", "rollout", &id, known));
        };
        if seen.as_ref() != Some(rollout) {
            let (body, tag) = tagged(rollout);
            if headers.get(IF_NONE_MATCH).is_none_or(|known| known.as_bytes() != tag.as_bytes()) {
                let about = [(CONTENT_TYPE, "application/json".to_owned()), (ETAG, tag)];
                return Ok((about, body).into_response());
            }
            seen = Some(rollout.clone());
        }
        let news = tokio::select! {
            news = timeout_at(until, counter.desk.snapshots.changed()) => news,
            () = counter.cancel.cancelled() => return Ok(StatusCode::NOT_MODIFIED.into_response()),
        };
        // No news in time, or no model any more.
        if !matches!(news, Ok(Ok(()))) {
            return Ok(StatusCode::NOT_MODIFIED.into_response());
        }
    }
}

/// What is shown of a rollout, and the name of just that.
fn tagged(rollout: &RolloutView) -> (Vec<u8>, String) {
    // Numbers that JSON cannot hold are written as null by serde_json, so nothing of ours fails here.
    let body = serde_json::to_vec(rollout).unwrap_or_default();
    let mut hasher = DefaultHasher::new();
    body.hash(&mut hasher);
    (body, format!("\"{:016x}\"", hasher.finish()))
}
