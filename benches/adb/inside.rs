//! What a question costs the daemon itself, without a process around it.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use farmhand::adb::auth::KeyRing;
use farmhand::adb::driver::{ConnectOptions, connect};
use farmhand::adb::tcp::TcpTransport;

use crate::report::{Goal, median, report};

const SHELLS: usize = 200;

/// The key of the tests: making one takes seconds.
pub(crate) fn keys() -> Arc<KeyRing> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/firmware-tools/handset/tests/keys");
    Arc::new(KeyRing::load_or_create(Path::new(dir)).expect("a key"))
}

/// `shell:true` over a connection that is there, from OPEN to the exit status.
#[tokio::main]
pub(crate) async fn measure(adbd: &str) -> io::Result<()> {
    // A task, as all that asks a phone in the daemon.
    let took = tokio::spawn(ask(adbd.parse().map_err(io::Error::other)?)).await??;
    report("adb.shell_in_daemon_ms", median(took), "ms", Goal::AtMost(2.2))
}

async fn ask(adbd: SocketAddr) -> io::Result<Vec<f64>> {
    let transport = TcpTransport::connect(adbd).await?;
    let adb = connect(transport, keys(), ConnectOptions::default()).await.map_err(io::Error::other)?;
    let mut took = Vec::new();
    for _ in 0..SHELLS {
        let begun = Instant::now();
        adb.shell("true").await.map_err(io::Error::other)?;
        took.push(begun.elapsed().as_secs_f64() * 1e3);
    }
    Ok(took)
}
