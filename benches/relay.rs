//! What the relay costs: time on the way, throughput, allocations, and what one agent that floods does to the others.
//!
//! ```text
//!     this process: 64 lines, ADB ══ cable (TCP) ══ world (this program again): virtual phones, agents │ central server
//! ```
//!
//! Agents and server are in one process, so that one clock says how long a frame was on its way; what they allocate is not counted.

#![allow(clippy::expect_used, clippy::panic, reason = "a bench that cannot measure must say so and stop")]
#![allow(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a bench counts small numbers"
)]

#[path = "relay/core.rs"]
mod core;
#[path = "report.rs"]
mod report;
#[path = "relay/world.rs"]
mod world;

use std::alloc::System;
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;
use std::{env, path::Path};

use bytes::Bytes;
use farmhand::adb::auth::KeyRing;
use farmhand::adb::driver::{Adb, ConnectOptions, Incoming, Stream, connect};
use farmhand::adb::online::{OnlinePhones, Seat};
use farmhand::adb::tcp::TcpTransport;
use farmhand::central::frame;
use farmhand::central::line::{Agents, LineSettings, Server, spawn};
use farmhand::central::pace::Speakers;
use farmhand::central::session::Settings;
use farmhand::config::{Ack, AgentPort};
use farmhand::rack::event::{DeviceInfo, LineCommand, LineEvent, Presence};
use farmhand::rack::ids::{Endpoint, PhoneId};
use farmhand::rack::snapshot::LineState;
use farmhand::store::{StateDir, Store};
use report::{Goal, median, report};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

pub(crate) const PHONES: usize = 64;
/// Where a phone's bytes go to the server past all lines.
pub(crate) const RAW_PORT: &str = "tcp:9300";
const PATIENCE: Duration = Duration::from_secs(60);
const ROUNDS: usize = 7;
const READ_CHUNK: usize = 64 << 10;

pub(crate) fn credential(number: usize) -> String {
    format!("{:015}", 490_154_203_000_000 + number)
}

pub(crate) fn allocations() -> usize {
    ALLOCATOR.stats().allocations
}

#[tokio::main]
async fn main() -> io::Result<()> {
    if env::args().any(|argument| argument == "world") {
        return world::run().await;
    }
    report("relay.allocs_per_frame", core::allocs_per_frame(), "allocations", Goal::AtMost(0.01))?;
    let (mut world, server, addresses) = World::start()?;
    let rack = Rack::start(&server, &addresses).await?;

    let (mut added, mut spread) = (Vec::new(), Vec::new());
    for _ in 0..3 {
        let (direct, relayed) = (world.asked("direct")?, world.asked("relayed")?);
        let (flooded, copied, copied_flooded) =
            (world.asked("flooded")?, world.asked("copied")?, world.asked("copied flooded")?);
        added.push((relayed - direct) * 1000.0);
        spread.push(flooded / relayed);
        say(&[("direct", direct), ("relayed", relayed), ("flooded", flooded)]);
        say(&[("copied", copied), ("copied, flooded", copied_flooded)]);
    }
    report("relay.added_p99_ms", median(added), "ms", Goal::AtMost(1.0))?;
    report("relay.others_p99_under_flood", median(spread), "ratio", Goal::AtMost(2.0))?;

    let mut ratios = Vec::new();
    for _ in 0..ROUNDS {
        let (raw, relayed) = (world.asked("raw")?, world.asked("bulk")?);
        ratios.push(raw / relayed);
    }
    report("relay.vs_copy_bidirectional", median(ratios), "ratio", Goal::AtLeast(0.7))?;
    rack.cancel.cancel();
    world.end()
}

/// What a ratio is made of.
#[allow(clippy::print_stdout, reason = "figures are for whoever reads the bench")]
fn say(times: &[(&str, f64)]) {
    let told: Vec<String> = times.iter().map(|(way, time)| format!("{way} {:.3} ms", time * 1000.0)).collect();
    println!("# 99th percentile of the way: {}", told.join(", "));
}

/// The other process.
struct World {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl World {
    /// With the server's address, and the phones'.
    fn start() -> io::Result<(Self, String, Vec<String>)> {
        let mut command = Command::new(env::current_exe()?);
        let mut child = command.arg("world").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
        let orders = child.stdin.take().expect("a pipe");
        let mut answers = BufReader::new(child.stdout.take().expect("a pipe"));
        let mut line = String::new();
        answers.read_line(&mut line)?;
        let mut words = line.split_whitespace().map(str::to_owned);
        let server = words.next().ok_or_else(|| io::Error::other("the world did not begin"))?;
        Ok((Self { child, orders, answers }, server, words.collect()))
    }

    /// What it measured, in seconds. The runtime's other threads go on meanwhile.
    fn asked(&mut self, order: &str) -> io::Result<f64> {
        writeln!(self.orders, "{order}")?;
        let mut line = String::new();
        tokio::task::block_in_place(|| self.answers.read_line(&mut line))?;
        line.trim().parse().map_err(|_| io::Error::other(format!("{order} could not be measured: {line}")))
    }

    fn end(mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }
}

/// The lines, registered, and the ways of the agents to them.
struct Rack {
    cancel: CancellationToken,
    _seats: Vec<Seat>,
    _phones: Vec<Adb>,
    _state: (StateDir, tempfile::TempDir),
}

impl Rack {
    async fn start(server: &str, addresses: &[String]) -> io::Result<Self> {
        let dir = tempfile::tempdir()?;
        let state = StateDir::lock(dir.path()).map_err(io::Error::other)?;
        let store = Store::open(&state).map_err(io::Error::other)?;
        let (online, cancel) = (OnlinePhones::default(), CancellationToken::new());
        let (started, speakers) = (tokio::time::Instant::now(), Speakers::default());
        let (mut seats, mut phones) = (Vec::new(), Vec::new());
        let (registered_in, mut registered) = mpsc::channel(PHONES);
        for (number, address) in addresses.iter().enumerate() {
            let adb = plug(address).await?;
            let endpoint: Endpoint = format!("tcp:{address}").parse().map_err(|_| io::Error::other("an address"))?;
            seats.push(online.sit(endpoint.clone(), adb.clone()));
            let settings = LineSettings {
                started,
                servers: vec![Server::bare(server)],
                max_frame: frame::MAX_FRAME_DEFAULT,
                session: Settings::new(Duration::from_secs(60)),
                policy: watch::channel(Arc::default()).1,
                store: store.clone(),
                ack: Ack::Each,
                agents: Agents { online: online.clone(), port: AgentPort::default() },
                speakers: speakers.clone(),
                storage: None,
            };
            open_line(number, settings, endpoint, registered_in.clone(), &cancel).await;
            phones.push(adb);
        }
        for _ in 0..PHONES {
            timeout(PATIENCE, registered.recv()).await?;
        }
        for adb in &phones {
            until_tunnelled(adb).await?;
        }
        for adb in &phones {
            let (_, incoming) = adb.reverse(RAW_PORT, "localabstract:raw").await.map_err(io::Error::other)?;
            tokio::spawn(copy_all(incoming, server.to_owned()));
        }
        Ok(Self { cancel, _seats: seats, _phones: phones, _state: (state, dir) })
    }
}

async fn plug(address: &str) -> io::Result<Adb> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/firmware-tools/handset/tests/keys");
    let keys = Arc::new(KeyRing::load_or_create(Path::new(dir)).map_err(io::Error::other)?);
    let address = address.parse().map_err(io::Error::other)?;
    let transport = TcpTransport::connect(address).await.map_err(io::Error::other)?;
    connect(transport, keys, ConnectOptions::default()).await.map_err(|why| io::Error::other(format!("{why:?}")))
}

/// A line as the daemon has it, whose phone answers each probe.
async fn open_line(
    number: usize,
    settings: LineSettings,
    endpoint: Endpoint,
    registered: mpsc::Sender<()>,
    cancel: &CancellationToken,
) {
    let ((commands, orders), (reports, mut events)) = (mpsc::channel(8), mpsc::channel(8));
    spawn(settings, PhoneId::new(format!("P{number}")), orders, reports, cancel.clone());
    let device = Box::new(DeviceInfo { brand: "acme".to_owned(), ..DeviceInfo::default() });
    let open = LineCommand::Open { credential: credential(number), device, pause: Duration::ZERO };
    commands.send(open).await.expect("the line lives");
    commands.send(LineCommand::Tunnel(Some(endpoint))).await.expect("the line lives");
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            match event {
                LineEvent::State { state: LineState::Registered, .. } => drop(registered.send(()).await),
                LineEvent::HeartbeatDue => drop(commands.send(LineCommand::Presence(Presence::Answered)).await),
                _ => {}
            }
        }
    });
}

async fn until_tunnelled(adb: &Adb) -> io::Result<()> {
    let wait = async {
        while adb.reverses().await.map_err(io::Error::other)?.is_empty() {
            tokio::task::yield_now().await;
        }
        Ok(())
    };
    timeout(PATIENCE, wait).await?
}

/// What a relay is measured against: bytes both ways as they come, as tokio's `copy_bidirectional` does it with sockets.
async fn copy_all(mut incoming: Incoming, server: String) {
    while let Some(stream) = incoming.next().await {
        tokio::spawn(copy(stream, server.clone()));
    }
}

async fn copy(stream: Stream, server: String) -> io::Result<()> {
    let socket = TcpStream::connect(&server).await?;
    socket.set_nodelay(true)?;
    let (mut reader, mut writer) = socket.into_split();
    let up = async {
        while let Ok(Some(bytes)) = stream.read().await {
            writer.write_all(&bytes).await?;
        }
        writer.shutdown().await
    };
    let down = async {
        let mut chunk = vec![0; READ_CHUNK];
        loop {
            let read = reader.read(&mut chunk).await?;
            if read == 0 {
                return io::Result::Ok(());
            }
            // What nobody takes is read all the same: a socket that is closed with bytes in it is reset, and what was sent by it is lost.
            let _ = stream.write(Bytes::copy_from_slice(chunk.get(..read).unwrap_or_default())).await;
        }
    };
    tokio::try_join!(up, down).map(drop)
}
