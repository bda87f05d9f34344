//! What a person or a program sees of the rack through a browser, a scraper or the command line: one HTTP interface, two doors.
//!
//! ```text
//!   farmhand's command line ── Unix socket ──▶ door::Local ───┐            ┌── snapshots ◀── the model
//!                                                             ├─▶ router ──┤
//!   browser, Prometheus ────── TCP ──────────▶ door::Network ─┘            └── requests ───▶ the model
//! ```
//!
//! Reading is the same through both, but for pages of foreign names ([`door`]). Orders are taken from the local door, to which the file system's permissions decide who
//! comes, and from the network door only where [`door`] finds that they come from this very host.
//!
//! Invariant: nothing here waits for the model without a deadline, and nothing here can slow it: snapshots come by `watch`,
//! orders go through a bounded queue that refuses when it is full.
//! Invariant: a client that sends or reads nothing gives its place back (`serve::tests`).
//! Invariant: every open stream ends when the daemon stops (`tests::an_open_stream_does_not_hold_up_the_end`).

mod api;
mod audit;
pub mod change;
mod door;
mod events;
mod metrics;
mod page;
mod patience;
mod rollouts;
mod serve;
#[cfg(test)]
mod tests;
mod tokens;
mod trace;

use std::sync::Arc;

use axum::Router;
use axum::routing::{delete, get, post};
use tokio::sync::{Semaphore, mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use crate::config::Policy;
use crate::rack::Snapshot;
use crate::rack::request::{Done, Refusal, Request};
use crate::store::Store;

pub use door::Door;
pub use serve::{BindError, bind_tcp, bind_unix, serve_tcp, serve_unix};
pub use tokens::{Access, TokenAsked};

/// An order on its way to the model, with the way back for the answer.
pub type Order = (Request, oneshot::Sender<Result<Done, Refusal>>);

/// Where operators meet the model: they read the snapshots and hand in orders.
#[derive(Clone, Debug)]
pub struct Desk {
    /// The newest snapshot.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// To the model. An order that finds the queue full is refused.
    pub requests: mpsc::Sender<Order>,
    /// What the central server may do.
    pub policy: watch::Receiver<Arc<Policy>>,
    /// Where the audit is.
    pub store: Store,
    /// Who comes to the adb server from other machines.
    pub access: Access,
}

/// The most event streams that are kept open at once; each holds one snapshot.
const STREAMS_MAX: usize = 64;

/// What the handlers share.
#[derive(Clone)]
struct Counter {
    desk: Desk,
    streams: Arc<Semaphore>,
    cancel: CancellationToken,
}

/// Every path, as seen through `door`. Streams end with `cancel`.
pub fn router(desk: Desk, door: Door, cancel: CancellationToken) -> Router {
    let counter = Counter { desk, streams: Arc::new(Semaphore::new(STREAMS_MAX)), cancel };
    Router::new()
        .route("/api/snapshot", get(api::snapshot))
        .route("/api/phones", get(api::phones))
        .route("/api/phones/{name}", get(api::phone))
        .route("/api/phones/{name}/trace", get(trace::trace))
        .route("/api/policy", get(api::policy))
        .route("/api/hubs", get(api::hubs))
        .route("/api/hubs/{name}", get(api::hub))
        .route("/api/rollouts", get(rollouts::rollouts))
        .route("/api/rollouts/{id}", get(rollouts::rollout))
        .route("/api/requests", post(api::request).layer(axum::middleware::from_fn_with_state(door, door::admit)))
        .route("/api/audit", get(audit::audit).layer(axum::middleware::from_fn_with_state(door, audit::local_only)))
        .merge(
            Router::new()
                .route("/api/tokens", get(tokens::list).post(tokens::add))
                .route("/api/tokens/{name}", delete(tokens::revoke))
                .layer(axum::middleware::from_fn_with_state(door, tokens::local_only)),
        )
        .route("/api/adb-server", get(tokens::doors))
        .route("/api/events", get(events::events))
        .route("/metrics", get(metrics::metrics))
        .route("/healthz", get(api::healthz))
        .merge(page::routes())
        .fallback(api::no_such_path)
        .layer(axum::middleware::from_fn_with_state(door, door::greet))
        .with_state(counter)
}
