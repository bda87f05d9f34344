//! The JSON API: reading the snapshot and handing in orders.
//!
//! Every answer that is not a success is a [`Refusal`] in JSON, with a code, a sentence and what can be done.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::JsonRejection;
use axum::extract::{FromRequest, Path, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::Counter;
use super::serve::User;
use crate::rack::Snapshot;
use crate::rack::request::{Refusal, Request};
use crate::rack::snapshot::PhoneView;
use crate::spelling;

/// The longest that a client may take over the body of an order, which is short.
const BODY_DEADLINE: Duration = Duration::from_secs(10);
/// The longest that the model may take over an order: checking an APK on a slow card is in it.
const ORDER_DEADLINE: Duration = Duration::from_secs(30);

/// A refusal with its HTTP status.
pub(super) struct Refused(pub(super) StatusCode, pub(super) Refusal);

impl Refused {
    pub(super) fn new(
        status: StatusCode,
        code: &str,
        what: impl Into<String>,
        help: impl Into<Option<String>>,
    ) -> Self {
        Self(status, Refusal { code: code.to_owned(), what: what.into(), help: help.into() })
    }
}

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0, Json(self.1)).into_response()
    }
}

impl Counter {
    pub(super) fn now(&self) -> Arc<Snapshot> {
        self.desk.snapshots.borrow().clone()
    }
}

pub(super) async fn snapshot(State(counter): State<Counter>) -> Response {
    Json(&*counter.now()).into_response()
}

pub(super) async fn phones(State(counter): State<Counter>) -> Response {
    Json(&counter.now().phones).into_response()
}

pub(super) async fn phone(State(counter): State<Counter>, Path(name): Path<String>) -> Result<Response, Refused> {
    let now = counter.now();
    match now.phone(&name) {
        Some(phone) => Ok(Json(phone).into_response()),
        None => Err(unknown_phone(&now, &name)),
    }
}

pub(super) fn unknown_phone(now: &Snapshot, name: &str) -> Refused {
    unknown("phone.unknown", "phone or slot", name, now.phones.iter().flat_map(names))
}

fn names(phone: &PhoneView) -> impl Iterator<Item = &str> {
    phone.slot.iter().map(|slot| slot.as_str()).chain([phone.id.as_str()])
}

pub(super) async fn policy(State(counter): State<Counter>) -> Response {
    let policy = counter.desk.policy.borrow().clone();
    Json(&*policy).into_response()
}

pub(super) async fn hubs(State(counter): State<Counter>) -> Response {
    Json(&counter.now().hubs).into_response()
}

pub(super) async fn hub(State(counter): State<Counter>, Path(name): Path<String>) -> Result<Response, Refused> {
    let now = counter.now();
    match now.hub(&name) {
        Some(hub) => Ok(Json(hub).into_response()),
        None => Err(unknown("hub.unknown", "hub", &name, now.hubs.iter().map(|hub| hub.name.as_str()))),
    }
}

/// No such thing is known, and what might be meant.
pub(super) fn unknown<'w>(code: &str, kind: &str, name: &str, known: impl Iterator<Item = &'w str>) -> Refused {
    let known: Vec<&str> = known.collect();
    let help = match spelling::nearest(name, known.iter().copied()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => match known.as_slice() {
            [] => format!("there is no {kind} yet"),
            [only] => format!("the only {kind} is {only}"),
            several => format!("there are {}", several.join(", ")),
        },
    };
    Refused::new(StatusCode::NOT_FOUND, code, format!("no {kind} is called `{name}`"), help)
}

pub(super) async fn request(
    State(counter): State<Counter>,
    user: Option<Extension<User>>,
    request: axum::extract::Request,
) -> Result<Response, Refused> {
    let body = timeout(BODY_DEADLINE, Json::from_request(request, &())).await.map_err(|_| {
        let what = format!("the order did not arrive within {} s", BODY_DEADLINE.as_secs());
        Refused::new(StatusCode::REQUEST_TIMEOUT, "request.slow", what, "send the whole order at once".to_owned())
    })?;
    let Json(request): Json<Request> = body.map_err(|rejection: JsonRejection| {
        let help = "send a JSON object such as {\"do\": \"rollout_approve\", \"rollout\": \"R1\"}".to_owned();
        Refused::new(rejection.status(), "request.malformed", rejection.body_text(), help)
    })?;
    let request = request.by(user.as_ref().map_or("somebody", |user| user.0.0.as_str()));
    let (answer, answered) = oneshot::channel();
    counter.desk.requests.try_send((request, answer)).map_err(|error| match error {
        TrySendError::Full(_) => unavailable("daemon.busy", "too many orders wait for an answer"),
        TrySendError::Closed(_) => unavailable("daemon.stopping", "the daemon is stopping"),
    })?;
    match timeout(ORDER_DEADLINE, answered).await {
        Ok(Ok(Ok(done))) => Ok(Json(done).into_response()),
        Ok(Ok(Err(refusal))) => Err(Refused(status_of(&refusal), refusal)),
        Ok(Err(_)) => Err(unavailable("daemon.stopping", "the daemon is stopping")),
        Err(_) => {
            let what = format!(
                "the order was not answered within {} s; it may still be carried out",
                ORDER_DEADLINE.as_secs()
            );
            Err(Refused::new(
                StatusCode::GATEWAY_TIMEOUT,
                "daemon.slow",
                what,
                "look at the log of the daemon".to_owned(),
            ))
        }
    }
}

fn unavailable(code: &str, what: &str) -> Refused {
    Refused::new(StatusCode::SERVICE_UNAVAILABLE, code, what, "try again in a moment".to_owned())
}

/// What is unknown is 404; what cannot be done in the present state is 409.
fn status_of(refusal: &Refusal) -> StatusCode {
    if refusal.code.ends_with(".unknown") { StatusCode::NOT_FOUND } else { StatusCode::CONFLICT }
}

/// Alive means that there is still a model behind the desk.
pub(super) async fn healthz(State(counter): State<Counter>) -> (StatusCode, &'static str) {
    match counter.desk.snapshots.has_changed() {
        Ok(_) => (StatusCode::OK, "ok\n"),
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the model has ended\n"),
    }
}

pub(super) async fn no_such_path(uri: Uri) -> Refused {
    let help = "the page is at /, the API below /api, the metrics at /metrics".to_owned();
    Refused::new(StatusCode::NOT_FOUND, "path.unknown", format!("there is nothing at {}", uri.path()), help)
}
