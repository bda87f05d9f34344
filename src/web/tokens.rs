//! Tokens and the adb server's doors. Tokens are asked about only through the Unix socket: whoever makes one may let anybody in.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::timeout;

use super::api::Refused;
use super::serve::User;
use super::{Counter, Door};
use crate::rack::access::{AdbDoors, TokenBook, TokenDone, TokenOrder, TokenRecord, TokenWish};
use crate::rack::request::Refusal;

/// The longest that the store may take.
const ORDER_DEADLINE: Duration = Duration::from_secs(30);

/// An order about tokens on its way to whoever keeps them.
#[derive(Debug)]
pub struct TokenAsked {
    /// What is asked.
    pub order: TokenOrder,
    /// By whom.
    pub who: String,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Result<TokenDone, Refusal>>,
}

/// Who may come in from other machines, and by which doors.
#[derive(Clone, Debug)]
pub struct Access {
    /// All tokens.
    pub book: watch::Receiver<Arc<TokenBook>>,
    /// To whoever keeps them. An order that finds the queue full is refused.
    pub orders: mpsc::Sender<TokenAsked>,
    /// The adb server's doors.
    pub doors: Arc<AdbDoors>,
}

impl Access {
    /// No tokens, and nobody who keeps any.
    #[must_use]
    pub fn closed() -> Self {
        Self { book: watch::channel(Arc::default()).1, orders: mpsc::channel(1).0, doors: Arc::default() }
    }
}

/// Lets only those in who have come through the Unix socket.
pub(super) async fn local_only(State(door): State<Door>, request: Request, next: Next) -> Result<Response, Refused> {
    if let Door::Network(listen) = door {
        let what = format!("tokens are not asked about at {listen}");
        let help = "use the command line on the rack's host: farmhand tokens".to_owned();
        return Err(Refused::new(StatusCode::FORBIDDEN, "request.forbidden", what, help));
    }
    Ok(next.run(request).await)
}

pub(super) async fn doors(State(counter): State<Counter>) -> Response {
    Json(&*counter.desk.access.doors).into_response()
}

pub(super) async fn list(State(counter): State<Counter>) -> Response {
    let book = counter.desk.access.book.borrow().clone();
    let records: Vec<&TokenRecord> = book.records().collect();
    Json(records).into_response()
}

pub(super) async fn add(
    State(counter): State<Counter>,
    user: Option<Extension<User>>,
    wish: Result<Json<TokenWish>, JsonRejection>,
) -> Result<Response, Refused> {
    let Json(wish) = wish.map_err(|rejection| {
        let help = "send a JSON object such as {\"owner\": \"mara\", \"role\": \"use\", \"lasts_s\": 86400}".to_owned();
        Refused::new(rejection.status(), "request.malformed", rejection.body_text(), help)
    })?;
    order(&counter, user, TokenOrder::Add(wish)).await
}

pub(super) async fn revoke(
    State(counter): State<Counter>,
    user: Option<Extension<User>>,
    Path(name): Path<String>,
) -> Result<Response, Refused> {
    order(&counter, user, TokenOrder::Revoke(name)).await
}

async fn order(counter: &Counter, user: Option<Extension<User>>, order: TokenOrder) -> Result<Response, Refused> {
    let who = user.map_or_else(|| "somebody".to_owned(), |Extension(User(name))| name);
    let (answer, answered) = oneshot::channel();
    let busy = |_| {
        let what = "the daemon takes no orders about tokens now";
        Refused::new(StatusCode::SERVICE_UNAVAILABLE, "token.busy", what, "try again in a moment".to_owned())
    };
    counter.desk.access.orders.try_send(TokenAsked { order, who, answer }).map_err(busy)?;
    match timeout(ORDER_DEADLINE, answered).await {
        Ok(Ok(Ok(done))) => Ok(Json(done).into_response()),
        Ok(Ok(Err(refusal))) => {
            let unknown = refusal.code.ends_with(".unknown");
            Err(Refused(if unknown { StatusCode::NOT_FOUND } else { StatusCode::CONFLICT }, refusal))
        }
        Ok(Err(_)) | Err(_) => {
            let what = format!("the order was not answered within {} s", ORDER_DEADLINE.as_secs());
            let help = "look at `farmhand tokens list`, and at the log of the daemon".to_owned();
            Err(Refused::new(StatusCode::GATEWAY_TIMEOUT, "daemon.slow", what, help))
        }
    }
}
