//! Who did what: the newest lines of the audit. Only through the Unix socket, since they name people.

use axum::Json;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;

use super::api::Refused;
use super::{Counter, Door};
use crate::clock::UnixMillis;
use crate::rack::Snapshot;
use crate::store::promise::AuditQuery;

/// The most lines of one answer.
const LINES_MAX: u32 = 10_000;
/// As many as are wanted where nobody says how many.
const LINES: u32 = 100;

/// Which lines are wanted.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// By whom.
    who: Option<String>,
    /// About what: a phone by its id or slot, a rollout, a hub.
    target: Option<String>,
    /// Not before this.
    since_unix_ms: Option<i64>,
    /// The newest so many, at most [`LINES_MAX`].
    limit: Option<u32>,
}

/// Lets only those in who have come through the Unix socket.
pub(super) async fn local_only(State(door): State<Door>, request: Request, next: Next) -> Result<Response, Refused> {
    if let Door::Network(listen) = door {
        let what = format!("the audit names people, and is not told at {listen}");
        let help = "use the command line on the rack's host: farmhand audit".to_owned();
        return Err(Refused::new(StatusCode::FORBIDDEN, "request.forbidden", what, help));
    }
    Ok(next.run(request).await)
}

pub(super) async fn audit(
    State(counter): State<Counter>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, Refused> {
    let Query(wanted) = wanted.map_err(|rejection| {
        let help = "for example ?who=mara&target=A1&since_unix_ms=0&limit=100".to_owned();
        Refused::new(rejection.status(), "request.malformed", rejection.body_text(), help)
    })?;
    let now = counter.desk.snapshots.borrow().clone();
    let query = AuditQuery {
        who: wanted.who,
        targets: wanted.target.map(|name| names_of(&now, name)).unwrap_or_default(),
        since: wanted.since_unix_ms.map(UnixMillis),
        limit: wanted.limit.unwrap_or(LINES).min(LINES_MAX),
    };
    match counter.desk.store.search_audit(query).await {
        Ok(lines) => Ok(Json(lines).into_response()),
        Err(error) => {
            let help = "look for room and permissions in the state directory".to_owned();
            Err(Refused::new(StatusCode::SERVICE_UNAVAILABLE, "audit.unreadable", error.to_string(), help))
        }
    }
}

/// A phone stands in the audit under its id, or under its slot where nobody knew the phone yet.
fn names_of(rack: &Snapshot, name: String) -> Vec<String> {
    match rack.phone(&name) {
        Some(phone) => {
            let others = [Some(phone.id.to_string()), phone.slot.as_ref().map(ToString::to_string)];
            others.into_iter().flatten().collect()
        }
        None => vec![name],
    }
}
