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
use crate::adb::server::tokens::Sha256Digest;
use crate::adb::server::{AdbServer, Certificate, SOCKET as ADB_SOCKET, TokenDoor};
use crate::config::Config;
use crate::phone::tools::ToolServer;
use crate::phone::tools::wire::SOCKET as TOOL_SOCKET;
use crate::rack::access::AdbDoors;
use crate::rack::ids::SlotName;
use crate::web::{self, Desk};

/// Everything that the daemon listens on.
pub(super) struct Doors {
    api: UnixListener,
    tools: UnixListener,
    adb: UnixListener,
    adb_port: Option<TcpListener>,
    /// Made also where nobody asks for it yet: tokens name it.
    certificate: Certificate,
    shown: AdbDoors,
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
        let certificate = match &config.adb_server.certificate {
            Some(files) => Certificate::of_files(&files.cert, &files.key),
            None => Certificate::of_state(state),
        }
        .map_err(DaemonError::Certificate)?;
        let shown = shown(state, adb_port.as_ref(), &certificate, &slots);
        let page = match &config.web {
            Some(web) => Some(web::bind_tcp(web.listen).await?),
            None => None,
        };
        Ok(Self {
            api: web::bind_unix(&state.join("farmhand.sock")).await?,
            tools: web::bind_unix(&state.join(TOOL_SOCKET)).await?,
            adb: web::bind_unix(&state.join(ADB_SOCKET)).await?,
            adb_port,
            certificate,
            shown,
            slots,
            keys,
            page,
        })
    }

    /// By which the adb server is known on other machines.
    pub(super) fn certificate(&self) -> Sha256Digest {
        self.certificate.digest()
    }

    /// Where the adb server is found.
    pub(super) fn shown(&self) -> AdbDoors {
        self.shown.clone()
    }

    /// Lets in who comes, until `cancel`.
    ///
    /// # Errors
    /// The certificate can't be used.
    pub(super) fn serve(
        self,
        desk: Desk,
        tools: ToolServer,
        adb: AdbServer,
        tokens: TokenDoor,
        (tasks, cancel): (&TaskTracker, &CancellationToken),
    ) -> Result<(), DaemonError> {
        let address = |listener: &TcpListener| listener.local_addr().ok();
        tasks.spawn(web::serve_unix(self.api, desk.clone(), cancel.clone()));
        tasks.spawn(tools.serve(self.tools, cancel.clone()));
        if let Some(port) = self.adb_port {
            let at = address(&port);
            if at.is_some_and(|at| at.ip().is_loopback()) {
                tasks.spawn(adb.clone().serve_tcp(port, cancel.clone()));
            } else {
                let acceptor = self.certificate.acceptor().map_err(DaemonError::Certificate)?;
                tasks.spawn(adb.clone().serve_tls(port, acceptor, tokens, cancel.clone()));
            }
            if let Some(at) = at {
                let whom = if at.ip().is_loopback() { "adb and what uses it" } else { "the owners of tokens" };
                info!("{whom} are served at {at}");
            }
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
        Ok(())
    }
}

fn shown(
    state: &Path,
    port: Option<&TcpListener>,
    certificate: &Certificate,
    slots: &[(SlotName, TcpListener)],
) -> AdbDoors {
    let listen = port.and_then(|port| port.local_addr().ok());
    let speaks_tls = listen.is_some_and(|address| !address.ip().is_loopback());
    let slots = slots.iter().filter_map(|(slot, port)| Some((slot.clone(), port.local_addr().ok()?)));
    AdbDoors {
        socket: state.join(ADB_SOCKET),
        listen,
        fingerprint: speaks_tls.then(|| base16ct::lower::encode_string(&certificate.digest())),
        slots: slots.collect(),
    }
}

async fn bind_adb(listen: SocketAddr) -> Result<TcpListener, DaemonError> {
    TcpListener::bind(listen).await.map_err(|reason| DaemonError::AdbServer { listen, reason })
}
