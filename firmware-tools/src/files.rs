//! The HTTP server from which the rack fetches APKs, as `PackageUrl` of the central server names them.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// A running server of one directory; it ends when it is dropped.
pub struct Files {
    address: SocketAddr,
    served: Arc<Served>,
    task: JoinHandle<()>,
}

struct Served {
    dir: PathBuf,
    fetches: Mutex<BTreeMap<String, u32>>,
}

impl Files {
    /// Serves the files of `dir` (not of directories below it) under `/`.
    ///
    /// # Errors
    ///
    /// The address is taken.
    pub async fn start(listen: SocketAddr, dir: PathBuf) -> io::Result<Self> {
        let listener = TcpListener::bind(listen).await?;
        let address = listener.local_addr()?;
        let served = Arc::new(Served { dir, fetches: Mutex::default() });
        let router = Router::new().route("/{name}", get(fetch)).with_state(Arc::clone(&served));
        let task = tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::warn!(%error, "the APK server ended");
            }
        });
        Ok(Self { address, served, task })
    }

    /// The address of a file.
    #[must_use]
    pub fn url(&self, name: &str) -> String {
        format!("http://{}/{name}", self.address)
    }

    /// How often each file was fetched.
    #[must_use]
    pub fn fetches(&self) -> BTreeMap<String, u32> {
        self.served.fetches.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn fetch(State(served): State<Arc<Served>>, Path(name): Path<String>) -> Response {
    // The router gives one decoded segment: it may still hold `/` or be `..`.
    if name.contains(['/', '\\']) || name.starts_with('.') {
        return StatusCode::NOT_FOUND.into_response();
    }
    match tokio::fs::read(served.dir.join(&name)).await {
        Ok(bytes) => {
            *served.fetches.lock().unwrap_or_else(PoisonError::into_inner).entry(name).or_default() += 1;
            ([(header::CONTENT_TYPE, "application/vnd.android.package-archive")], bytes).into_response()
        }
        Err(_) => StatusCode::NOT_FOUND.into_response(),
    }
}
