//! The two listeners and their connections.
//!
//! A client may be slow or silent for ever, so connections are counted, requests and each write have a deadline, and at the end of the daemon
//! what is still open has [`FAREWELL`] to finish.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::serve::Listener;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use miette::Diagnostic;
use thiserror::Error;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::patience::Patient;
use super::{Desk, Door, router};
use crate::peer;

/// The most connections that one listener keeps; the next one waits in the kernel's queue.
const CONNECTIONS_MAX: usize = 256;
/// The longest that a client may take over the head of a request.
const HEAD_DEADLINE: Duration = Duration::from_secs(10);
/// What open connections have left once the daemon ends.
const FAREWELL: Duration = Duration::from_secs(3);
/// Owner and group may talk to the daemon; nobody else.
const SOCKET_MODE: u32 = 0o660;

/// Why a door could not be opened.
#[derive(Debug, Error, Diagnostic)]
pub enum BindError {
    /// Another daemon answers on the socket.
    #[error("another farmhand answers on {} already", .0.display())]
    #[diagnostic(code("web.occupied"), help("stop it first, or give this one another --state directory"))]
    Occupied(PathBuf),
    /// The socket cannot be made.
    #[error("the socket {} cannot be opened: {reason}", path.display())]
    #[diagnostic(
        code("web.socket"),
        help("the state directory must exist and belong to the user that farmhand runs as")
    )]
    Socket {
        /// The socket.
        path: PathBuf,
        /// The system's reason.
        reason: std::io::Error,
    },
    /// The address cannot be listened on.
    #[error("the page cannot be served at {listen}: {reason}")]
    #[diagnostic(code("web.listen"), help("choose another `listen` in [web], or \"off\""))]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// The system's reason.
        reason: std::io::Error,
    },
}

/// Makes the socket at `path`, in place of one that a dead daemon left behind.
///
/// # Errors
/// When another daemon answers on it, or the system says no.
pub async fn bind_unix(path: &Path) -> Result<UnixListener, BindError> {
    if UnixStream::connect(path).await.is_ok() {
        return Err(BindError::Occupied(path.to_owned()));
    }
    let bound = match std::fs::remove_file(path) {
        Err(reason) if reason.kind() != std::io::ErrorKind::NotFound => Err(reason),
        _ => UnixListener::bind(path),
    };
    bound
        .and_then(|listener| {
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(SOCKET_MODE)).map(|()| listener)
        })
        .map_err(|reason| BindError::Socket { path: path.to_owned(), reason })
}

/// Listens on `listen`.
///
/// # Errors
/// When the system says no.
pub async fn bind_tcp(listen: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(listen).await.map_err(|reason| BindError::Listen { listen, reason })
}

/// Serves everything on the Unix socket, until `cancel`.
pub async fn serve_unix(listener: UnixListener, desk: Desk, cancel: CancellationToken) {
    serve(listener, desk, Door::Local, cancel).await;
}

/// Serves everything on TCP, orders only where [`Door`] allows them, until `cancel`.
pub async fn serve_tcp(listener: TcpListener, desk: Desk, cancel: CancellationToken) {
    match listener.local_addr() {
        Ok(listen) => serve(listener, desk, Door::Network(listen), cancel).await,
        Err(error) => tracing::error!(%error, "the page's listener has no address; it is not served"),
    }
}

async fn serve<L: Listener<Io: Peer>>(mut listener: L, desk: Desk, door: Door, cancel: CancellationToken) {
    let router = router(desk, door, cancel.clone());
    let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut connections = JoinSet::new();
    loop {
        let accept = async {
            let permit = permits.clone().acquire_owned().await;
            (permit, listener.accept().await.0)
        };
        tokio::select! {
            () = cancel.cancelled() => break,
            (permit, io) = accept => {
                let user = io.user();
                let service = TowerToHyperService::new(router.clone().layer(Extension(user)));
                let cancel = cancel.clone();
                connections.spawn(async move {
                    let _permit = permit;
                    converse(io, service, cancel).await;
                });
            }
            Some(_) = connections.join_next() => {}
        }
    }
    drop(listener);
    if timeout(FAREWELL, async { while connections.join_next().await.is_some() {} }).await.is_err() {
        tracing::warn!(open = connections.len(), "connections to the page were cut at the end");
    }
}

/// Who is at the other end of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct User(pub(super) String);

trait Peer {
    fn user(&self) -> User;
}

impl Peer for UnixStream {
    fn user(&self) -> User {
        User(peer::user_of(self))
    }
}

impl Peer for TcpStream {
    fn user(&self) -> User {
        User("the page".to_owned())
    }
}

async fn converse<I>(io: I, service: TowerToHyperService<axum::Router>, cancel: CancellationToken)
where
    I: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
{
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(HEAD_DEADLINE);
    let connection = http.serve_connection(TokioIo::new(Patient::new(io)), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = cancel.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a client of the page broke off");
    }
}

#[cfg(test)]
#[path = "serve_tests.rs"]
mod tests;
