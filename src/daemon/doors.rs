//! The doors of the daemon: bound before anything is started, so that a daemon which can't be reached does not run.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;

use tokio::net::{TcpListener, UnixListener};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::info;

use super::DaemonError;
use crate::adb::auth::KnownKeys;
use crate::adb::server::{AdbServer, SOCKET as ADB_SOCKET};
use crate::config::Config;
use crate::phone::tools::ToolServer;
use crate::phone::tools::wire::SOCKET as TOOL_SOCKET;
use crate::rack::ids::SlotName;
use crate::web::{self, Desk};

/// Everything that the daemon listens on.
pub(super) struct Doors {
    api: UnixListener,
    tools: UnixListener,
    adb: UnixListener,
    adb_port: Option<TcpListener>,
    slots: Vec<(SlotName, TcpListener)>,
    /// Those who are let in at the slots' ports; everybody on this host, if there are none.
    keys: Option<Arc<KnownKeys>>,
    pub(super) page: Option<TcpListener>,
}

impl Doors {
    pub(super) async fn open(config: &Config, state: &Path) -> Result<Self, DaemonError> {
        let adb_port = match config.adb_server.listen {
            Some(listen) => Some(bind_adb(listen).await?),
            None => None,
        };
        let slot_address = config.adb_server.slot_listen.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let keys = if slot_address.is_loopback() {
            None
        } else {
            let files = config.adb_server.keys.iter().map(std::path::PathBuf::as_path);
            Some(Arc::new(KnownKeys::load(files).map_err(DaemonError::AdbKeys)?))
        };
        let mut slots = Vec::new();
        for (slot, port) in
            config.slots.iter().zip(config.adb_server.slot_base.into_iter().flat_map(|base| base..=u16::MAX))
        {
            slots.push((slot.name.clone(), bind_adb((slot_address, port).into()).await?));
        }
        let page = match &config.web {
            Some(web) => Some(web::bind_tcp(web.listen).await?),
            None => None,
        };
        Ok(Self {
            api: web::bind_unix(&state.join("farmhand.sock")).await?,
            tools: web::bind_unix(&state.join(TOOL_SOCKET)).await?,
            adb: web::bind_unix(&state.join(ADB_SOCKET)).await?,
            adb_port,
            slots,
            keys,
            page,
        })
    }

    /// Lets in who comes, until `cancel`.
    pub(super) fn serve(
        self,
        desk: Desk,
        tools: ToolServer,
        adb: AdbServer,
        tasks: &TaskTracker,
        cancel: &CancellationToken,
    ) {
        let address = |listener: &TcpListener| listener.local_addr().ok();
        tasks.spawn(web::serve_unix(self.api, desk.clone(), cancel.clone()));
        tasks.spawn(tools.serve(self.tools, cancel.clone()));
        if let Some(port) = self.adb_port {
            if let Some(address) = address(&port) {
                info!("adb and what uses it are served at {address}");
            }
            tasks.spawn(adb.clone().serve_tcp(port, cancel.clone()));
        }
        for (slot, port) in self.slots {
            if let Some(address) = address(&port) {
                info!("{slot} is served to `adb connect` at {address}");
            }
            tasks.spawn(adb.clone().serve_slot(slot, port, self.keys.clone(), cancel.clone()));
        }
        tasks.spawn(adb.serve_unix(self.adb, cancel.clone()));
        if let Some(page) = self.page {
            if let Some(address) = address(&page) {
                info!("the page is at http://{address}/");
            }
            tasks.spawn(web::serve_tcp(page, desk, cancel.clone()));
        }
    }
}

async fn bind_adb(listen: SocketAddr) -> Result<TcpListener, DaemonError> {
    TcpListener::bind(listen).await.map_err(|reason| DaemonError::AdbServer { listen, reason })
}
