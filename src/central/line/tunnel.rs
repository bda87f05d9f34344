//! The way from the agent on a phone to its line: a port of the phone's own loopback that comes out here (`adb reverse`).
//!
//! ```text
//!     agent ──▶ 127.0.0.1:9200 on the phone ──▶ adbd ══ cable ══▶ Incoming ──▶ the line
//! ```
//!
//! The tunnel goes with the phone's ADB connection, and anyone may replace it: it is made anew on each connection, and looked for each
//! minute.

use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::adb::driver::{Adb, Incoming, Stream};
use crate::adb::online::OnlinePhones;
use crate::adb::services::reverse::Reverse;
use crate::adb::services::shell::ServiceError;
use crate::config::AgentPort;
use crate::rack::ids::Endpoint;

/// What phones call the end of the tunnel here. Nobody else asks for this name: whoever uses `adb reverse` names a port.
const HOST: &str = "localabstract:farmhand-line";
/// Between two looks whether the tunnel is still there.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Before a tunnel that could not be made is tried again: a phone that starts is ready within a few of these.
const RETRY_AFTER: Duration = Duration::from_secs(10);
/// Connections that wait for the line; with more, the phone's wait.
const WAITING_MAX: usize = 2;

/// Which phones' agents find their lines, and where.
#[derive(Clone, Debug)]
pub struct Agents {
    /// The connections of the phones that are online.
    pub online: OnlinePhones,
    /// The port on each phone.
    pub port: AgentPort,
}

/// A tunnel that is kept; it is no longer once this is dropped.
pub(super) struct Tunnel {
    streams: mpsc::Receiver<Stream>,
    _keeper: DropGuard,
}

impl Tunnel {
    /// Keeps the tunnel of the phone at `endpoint`.
    pub(super) fn keep(agents: Agents, endpoint: Endpoint) -> Self {
        let (to, streams) = mpsc::channel(WAITING_MAX);
        let cancel = CancellationToken::new();
        tokio::spawn(cancel.clone().run_until_cancelled_owned(keep(agents, endpoint, to)));
        Self { streams, _keeper: cancel.drop_guard() }
    }

    /// The next connection from the phone. Cancel-safe.
    pub(super) async fn next(&mut self) -> Option<Stream> {
        self.streams.recv().await
    }
}

async fn keep(agents: Agents, endpoint: Endpoint, to: mpsc::Sender<Stream>) {
    let device = format!("tcp:{}", agents.port.0);
    let mut changes = agents.online.changes();
    // The connection that has ended, whose seat may not be given up yet.
    let mut ended = None;
    loop {
        changes.mark_unchanged();
        let seat = agents.online.seat_at(&endpoint).filter(|(number, _)| Some(*number) != ended);
        let Some((number, adb)) = seat else {
            // The phone's actor takes its seat again as soon as the phone is back.
            match changes.changed().await {
                Ok(()) => continue,
                Err(_) => return,
            }
        };
        match serve(&adb, &device, &to).await {
            Ok(()) => ended = Some(number),
            Err(why) => {
                tracing::warn!("{endpoint}: the agent's way to its line, {device} on the phone: {why}");
                tokio::select! {
                    () = sleep(RETRY_AFTER) => {}
                    _ = adb.closed() => ended = Some(number),
                }
            }
        }
    }
}

/// Makes the tunnel and hands on what comes by it, until the connection ends.
async fn serve(adb: &Adb, device: &str, to: &mpsc::Sender<Stream>) -> Result<(), ServiceError> {
    let mut incoming = dig(adb, device).await?;
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    looks.tick().await;
    loop {
        tokio::select! {
            stream = incoming.next() => match stream {
                Some(stream) => drop(to.send(stream).await),
                None => return Ok(()),
            },
            _ = looks.tick() => {
                let wanted = Reverse { device: device.to_owned(), host: HOST.to_owned() };
                if !adb.reverses().await?.contains(&wanted) {
                    tracing::info!("{device} on the phone no longer led to its line: it does again");
                    incoming = dig(adb, device).await?;
                }
            }
        }
    }
}

async fn dig(adb: &Adb, device: &str) -> Result<Incoming, ServiceError> {
    Ok(adb.reverse(device, HOST).await?.1)
}
