//! Reverse tunnels: endpoints on the phone whose connections come out at the host.
//!
//! ```text
//!   an app ──▶ listener on the phone ──OPEN "tcp:7100"──▶ host
//! ```
//!
//! Invariant: a tunnel lives as long as the connection that asked for it, as it does with adbd.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::device::{Device, TunnelChange};
use crate::line::Line;
use crate::stream::Stream;

/// The name of this connection in the list of its tunnels; adbd counts its TCP connections so.
const TRANSPORT: &str = "host-1";

/// Tunnels of one connection at most.
const TUNNELS_MAX: usize = 64;

/// The tunnels of one connection, by their endpoint on the phone.
#[derive(Default)]
pub(crate) struct Listeners(Mutex<BTreeMap<String, Tunnel>>);

struct Tunnel {
    /// Where connections go; changed by a rebind.
    remote: Arc<Mutex<String>>,
    address: SocketAddr,
    _stop: DropGuard,
}

/// What can be asked of tunnels, as it stands behind `reverse:`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    List,
    KillAll,
    Kill { local: String },
    Forward { local: String, remote: String, existing: Existing },
}

/// What to do where a tunnel is already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Existing {
    Replace,
    Refuse,
}

impl Request {
    /// # Errors
    /// What adbd says to what is none.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        match text {
            "list-forward" => return Ok(Self::List),
            "killforward-all" => return Ok(Self::KillAll),
            _ => {}
        }
        if let Some(local) = text.strip_prefix("killforward:") {
            let bad = local.is_empty() || local.contains(';');
            return if bad {
                Err(format!("bad killforward: {local}"))
            } else {
                Ok(Self::Kill { local: local.to_owned() })
            };
        }
        let Some(pair) = text.strip_prefix("forward:") else {
            return Err("not a reverse forwarding command".to_owned());
        };
        let (pair, existing) = match pair.strip_prefix("norebind:") {
            Some(pair) => (pair, Existing::Refuse),
            None => (pair, Existing::Replace),
        };
        match pair.split_once(';') {
            Some((local, remote)) if !local.is_empty() && is_endpoint(remote) => {
                Ok(Self::Forward { local: local.to_owned(), remote: remote.to_owned(), existing })
            }
            _ => Err(format!("bad forward: {pair}")),
        }
    }
}

fn is_endpoint(remote: &str) -> bool {
    !remote.is_empty() && !remote.contains(';') && !remote.starts_with('*')
}

/// The port of an endpoint `tcp:<port>`.
///
/// # Errors
/// What adbd says to others.
fn port_of(local: &str) -> Result<u16, String> {
    let Some(port) = local.strip_prefix("tcp:") else {
        return Err(format!("unknown socket specification:{local}"));
    };
    if port.is_empty() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err("listening on specified hostname currently unsupported".to_owned());
    }
    port.parse().map_err(|_| format!("bad port number '{port}'"))
}

impl Listeners {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Tunnel>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends all tunnels.
    pub(crate) fn forget<D: Device>(&self, device: &D) {
        let tunnels = std::mem::take(&mut *self.lock());
        tunnels.keys().for_each(|local| device.tunnel(TunnelChange::Released { local }));
    }

    /// Does what a host asks; gives the answer as it goes on the wire.
    pub(crate) async fn obey<D: Device>(&self, request: &str, device: &Arc<D>, line: &Line) -> String {
        let done = match Request::parse(request) {
            Ok(Request::List) => return counted(&self.listed()),
            Ok(Request::KillAll) => {
                self.forget(&**device);
                Ok(String::new())
            }
            Ok(Request::Kill { local }) => self.kill(&local, &**device),
            Ok(Request::Forward { local, remote, existing }) => {
                self.forward(local, remote, existing, device, line).await
            }
            Err(why) => Err(why),
        };
        match done {
            Ok(answer) => format!("OKAY{answer}"),
            Err(why) => format!("FAIL{}", counted(&why)),
        }
    }

    fn listed(&self) -> String {
        let line = |(local, tunnel): (&String, &Tunnel)| {
            let remote = tunnel.remote.lock().unwrap_or_else(PoisonError::into_inner);
            format!("{TRANSPORT} {local} {remote}\n")
        };
        self.lock().iter().map(line).collect()
    }

    fn kill<D: Device>(&self, local: &str, device: &D) -> Result<String, String> {
        if self.lock().remove(local).is_none() {
            return Err(format!("listener '{local}' not found"));
        }
        device.tunnel(TunnelChange::Released { local });
        Ok(String::new())
    }

    /// Gives the port in adbd's form, where the tunnel is new.
    async fn forward<D: Device>(
        &self,
        local: String,
        remote: String,
        existing: Existing,
        device: &Arc<D>,
        line: &Line,
    ) -> Result<String, String> {
        if let Some(tunnel) = self.lock().get(&local) {
            if existing == Existing::Refuse {
                return Err("cannot rebind existing socket".to_owned());
            }
            device.tunnel(TunnelChange::Kept { local: &local, address: tunnel.address, remote: &remote });
            *tunnel.remote.lock().unwrap_or_else(PoisonError::into_inner) = remote;
            return Ok(String::new());
        }
        let cannot = |why: String| format!("cannot bind listener: {why}");
        let port = port_of(&local).map_err(cannot)?;
        if self.lock().len() >= TUNNELS_MAX {
            return Err(cannot("Too many open files".to_owned()));
        }
        let words = |error: io::Error| cannot(os_words(&error));
        let listener = device.listen(port).await.map_err(words)?;
        let address = listener.local_addr().map_err(words)?;
        let local = format!("tcp:{}", address.port());
        device.tunnel(TunnelChange::Kept { local: &local, address, remote: &remote });
        let (stop, remote) = (CancellationToken::new(), Arc::new(Mutex::new(remote)));
        let accepting = accept_all(listener, Arc::clone(&remote), line.clone(), stop.clone());
        self.lock().insert(local, Tunnel { remote, address, _stop: stop.drop_guard() });
        line.run(Box::pin(accepting)).await;
        Ok(counted(&address.port().to_string()))
    }
}

/// The kernel's words, without the number that Rust puts behind them.
fn os_words(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or_default().to_owned()
}

/// The length in four hex digits, then the text.
pub(crate) fn counted(text: &str) -> String {
    format!("{:04x}{text}", text.len())
}

async fn accept_all(listener: TcpListener, remote: Arc<Mutex<String>>, line: Line, stop: CancellationToken) {
    loop {
        let socket = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => match accepted {
                Ok((socket, _)) => socket,
                Err(error) => {
                    tracing::debug!(%error, "a connection to a reverse tunnel could not be accepted");
                    continue;
                }
            },
        };
        let destination = remote.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let own = line.clone();
        let carry = async move {
            if let Some(stream) = Stream::open(&own, &destination).await {
                let local = stream.local();
                pump(socket, stream).await;
                own.with(|core| core.close(local));
            }
        };
        line.run(Box::pin(carry)).await;
    }
}

/// Carries bytes both ways until one end hangs up.
pub(crate) async fn pump(socket: TcpStream, mut stream: Stream) {
    const READ_BYTES: usize = 1 << 16;
    if let Err(error) = socket.set_nodelay(true) {
        tracing::debug!(%error, "TCP_NODELAY was refused");
    }
    let (mut reading, mut writing) = socket.into_split();
    let writer = stream.writer();
    let to_host = async {
        let mut buffer = BytesMut::new();
        loop {
            buffer.reserve(READ_BYTES);
            match reading.read_buf(&mut buffer).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => return,
            }
            if writer.write(buffer.split().freeze()).await.is_err() {
                return;
            }
        }
    };
    let from_host = async {
        while let Some(bytes) = stream.read().await {
            let bytes: Bytes = bytes;
            if writing.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = to_host => {}
        () = from_host => {}
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn requests_are_read_and_others_refused_in_adbds_words() {
        let forward = |existing| Request::Forward { local: "tcp:1".to_owned(), remote: "tcp:2".to_owned(), existing };
        assert_eq!(Request::parse("forward:tcp:1;tcp:2"), Ok(forward(Existing::Replace)));
        assert_eq!(Request::parse("forward:norebind:tcp:1;tcp:2"), Ok(forward(Existing::Refuse)));
        assert_eq!(Request::parse("list-forward"), Ok(Request::List));
        for (text, why) in [
            ("", "not a reverse forwarding command"),
            ("forward:tcp:1", "bad forward: tcp:1"),
            ("forward:tcp:1;*x", "bad forward: tcp:1;*x"),
            ("forward:a;b;c", "bad forward: a;b;c"),
            ("killforward:", "bad killforward: "),
        ] {
            assert_eq!(Request::parse(text), Err(why.to_owned()));
        }
        assert_eq!(port_of("tcp:65535"), Ok(65535));
        assert!(port_of("tcp:65536").unwrap_err().starts_with("bad port"));
        assert!(port_of("tcp:x").is_err() && port_of("local:x").is_err() && port_of("tcp:").is_err());
    }

    proptest! {
        #[test]
        fn any_request_is_read_or_refused(text in ".{0,60}") {
            if let Ok(Request::Forward { local, .. }) = Request::parse(&format!("forward:{text}")) {
                let _ = port_of(&local);
            }
            let _ = Request::parse(&text);
        }
    }
}
