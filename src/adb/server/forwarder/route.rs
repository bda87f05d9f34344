//! Where a forward of this desk leads: to a phone of the rack, each connection by one of its own.

use std::sync::Arc;

use tracing::debug;

use super::carry;
use super::rack::Rack;
use crate::adb::server::forward::Route;
use crate::adb::server::socket::{ReadHalf, WriteHalf};

#[derive(Clone, Debug)]
pub(super) struct RackRoute {
    /// The phone that was meant when the forward began.
    pub(super) serial: String,
    pub(super) remote: String,
    pub(super) rack: Arc<Rack>,
}

impl Route for RackRoute {
    fn serial(&self) -> &str {
        &self.serial
    }

    fn remote(&self) -> &str {
        &self.remote
    }

    /// Whether the rack can be reached is seen anew by each connection.
    async fn closed(&self) {
        std::future::pending::<()>().await;
    }

    async fn carry(self, local: (ReadHalf, WriteHalf)) {
        match self.rack.open(&self.serial, &self.remote).await {
            Ok(remote) => carry(local, remote).await,
            Err(error) => debug!("a forward to {} leads nowhere: {error}", self.serial),
        }
    }
}
