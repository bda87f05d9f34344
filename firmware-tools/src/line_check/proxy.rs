//! A way between two ends of TCP that delays, cuts, or swallows what goes by it.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::{CancellationToken, DropGuard};

/// What becomes of what goes by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// It goes on at once.
    Open,
    /// It goes on so much later.
    Delayed(Duration),
    /// Every connection ends, and no new one is carried.
    Cut,
    /// It is taken and goes nowhere; neither end hears anything.
    HalfOpen,
}

/// A way that is there until it is dropped.
pub(super) struct Proxy {
    address: SocketAddr,
    way: watch::Sender<Way>,
    leads_to: watch::Sender<Option<SocketAddr>>,
    connections: Arc<AtomicU64>,
    _ends: DropGuard,
}

/// Bytes of one reading.
const CHUNK_LEN: usize = 16 << 10;

impl Proxy {
    /// A way that leads nowhere yet.
    pub(super) async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (way, leads_to, end) = (watch::Sender::new(Way::Open), watch::Sender::new(None), CancellationToken::new());
        let connections = Arc::new(AtomicU64::new(0));
        let accepts = accept(listener, way.subscribe(), leads_to.subscribe(), Arc::clone(&connections));
        tokio::spawn(end.clone().run_until_cancelled_owned(accepts));
        Ok(Self { address, way, leads_to, connections, _ends: end.drop_guard() })
    }

    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(super) fn leads_to(&self, address: SocketAddr) {
        self.leads_to.send_replace(Some(address));
    }

    pub(super) fn is_now(&self, way: Way) {
        self.way.send_replace(way);
    }

    /// Connections that came so far.
    pub(super) fn connections(&self) -> u64 {
        self.connections.load(Ordering::SeqCst)
    }
}

async fn accept(
    listener: TcpListener,
    way: watch::Receiver<Way>,
    leads_to: watch::Receiver<Option<SocketAddr>>,
    connections: Arc<AtomicU64>,
) {
    let mut carried = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let Ok((near, _)) = accepted else { continue };
                connections.fetch_add(1, Ordering::SeqCst);
                let Some(far) = *leads_to.borrow() else { continue };
                carried.spawn(carry(near, far, way.clone()));
            }
            Some(_) = carried.join_next() => {}
        }
    }
}

/// Carries one connection until an end of it, or of the way.
async fn carry(near: TcpStream, far: SocketAddr, mut way: watch::Receiver<Way>) {
    if *way.borrow() == Way::Cut {
        return;
    }
    let Ok(far) = TcpStream::connect(far).await else { return };
    let _ = (near.set_nodelay(true), far.set_nodelay(true));
    let ((near_reads, near_writes), (far_reads, far_writes)) = (near.into_split(), far.into_split());
    let (there, back) = (way.clone(), way.clone());
    tokio::select! {
        _ = pump(near_reads, far_writes, there) => {}
        _ = pump(far_reads, near_writes, back) => {}
        _ = way.wait_for(|way| *way == Way::Cut) => {}
    }
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    way: watch::Receiver<Way>,
) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK_LEN];
    loop {
        let read = from.read(&mut chunk).await?;
        let now = *way.borrow();
        match now {
            // A half-open way does not tell that the other end has gone.
            Way::HalfOpen if read == 0 => return std::future::pending().await,
            _ if read == 0 => return Ok(()),
            Way::HalfOpen => continue,
            Way::Delayed(time) => sleep(time).await,
            Way::Open | Way::Cut => {}
        }
        to.write_all(chunk.get(..read).unwrap_or_default()).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::time::timeout;

    const PATIENCE: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn a_way_carries_swallows_and_ends() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let proxy = Proxy::start().await.unwrap();
        proxy.leads_to(listener.local_addr().unwrap());
        let mut near = TcpStream::connect(proxy.address()).await.unwrap();
        let (mut far, _) = timeout(PATIENCE, listener.accept()).await.unwrap().unwrap();
        let mut byte = [0];
        near.write_all(b"a").await.unwrap();
        timeout(PATIENCE, far.read_exact(&mut byte)).await.unwrap().unwrap();
        proxy.is_now(Way::HalfOpen);
        near.write_all(b"b").await.unwrap();
        // The swallowed byte is read before the way opens again, or after: it may come only in the second case.
        proxy.is_now(Way::Cut);
        let mut rest = Vec::new();
        timeout(PATIENCE, far.read_to_end(&mut rest)).await.unwrap().unwrap();
        assert_eq!((rest.as_slice(), proxy.connections()), (&b""[..], 1));
    }
}
