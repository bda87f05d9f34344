//! What the server itself holds and takes, without a daemon around it: one adbd stands for all phones.

use std::alloc::System;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use farmhand::adb::auth::KeyRing;
use farmhand::adb::driver::{Adb, ConnectOptions, connect};
use farmhand::adb::online::{OnlinePhones, Seat};
use farmhand::adb::server::AdbServer;
use farmhand::adb::tcp::TcpTransport;
use farmhand::clock::{Moment, UnixMillis};
use farmhand::rack::ids::{Endpoint, PhoneId, SlotName};
use farmhand::rack::snapshot::{PhoneState, PhoneView};
use farmhand::rack::{Rack, Snapshot};
use stats_alloc::StatsAlloc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::report::{Goal, median, report};
use crate::stage::ADBD;

const HEAP_PHONES: usize = 32;
const LIST_PHONES: usize = 200;
const LISTS: usize = 200;
/// Past this there is nothing to measure.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::main(flavor = "current_thread")]
pub(crate) async fn measure(allocator: &StatsAlloc<System>) -> io::Result<()> {
    tokio::time::timeout(PATIENCE, heap(allocator)).await??;
    tokio::time::timeout(PATIENCE, lists()).await?
}

/// A server, and the phones that sit before it.
struct Bench {
    snapshots: watch::Sender<Arc<Snapshot>>,
    online: OnlinePhones,
    seats: Vec<Seat>,
    port: u16,
    cancel: CancellationToken,
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

impl Bench {
    async fn set() -> io::Result<Self> {
        let settings = (&farmhand::config::observing()).into();
        let snapshot = Rack::new(settings, UnixMillis(0), Moment::START).snapshot(Moment::START);
        let (snapshots, receiver) = watch::channel(Arc::new(snapshot));
        let (online, cancel) = (OnlinePhones::default(), CancellationToken::new());
        let ((events, mut inbox), (records, mut lines)) = (mpsc::channel(64), mpsc::channel(64));
        tokio::spawn(async move { while inbox.recv().await.is_some() {} });
        tokio::spawn(async move { while lines.recv().await.is_some() {} });
        let server = AdbServer::start(receiver, online.clone(), events, records, &cancel);
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        tokio::spawn(server.serve_tcp(listener, cancel.clone()));
        Ok(Self { snapshots, online, seats: Vec::new(), port, cancel })
    }

    fn seat(&mut self, adb: Adb) -> io::Result<()> {
        let number = self.seats.len();
        let endpoint: Endpoint = format!("tcp:127.0.0.1:{}", 10_000 + number).parse().map_err(io::Error::other)?;
        let mut phone = PhoneView::unknown(PhoneId::new(format!("R5CW{number:06}")));
        phone.slot = Some(SlotName::new(format!("A{number}")));
        phone.endpoint = Some(endpoint.clone());
        phone.state = PhoneState::Ready;
        self.snapshots.send_modify(|snapshot| Arc::make_mut(snapshot).phones.push(phone));
        self.seats.push(self.online.sit(endpoint, adb));
        Ok(())
    }

    /// The answer to one request, until the server hangs up.
    async fn ask(&self, request: &str) -> io::Result<Vec<u8>> {
        let mut socket = TcpStream::connect(("127.0.0.1", self.port)).await?;
        socket.write_all(format!("{:04x}{request}", request.len()).as_bytes()).await?;
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await?;
        Ok(answer)
    }
}

async fn adbd() -> io::Result<Adb> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/firmware-tools/handset/tests/keys");
    let keys = Arc::new(KeyRing::load_or_create(Path::new(dir)).map_err(io::Error::other)?);
    let transport = TcpTransport::connect(ADBD.parse().map_err(io::Error::other)?).await?;
    connect(transport, keys, ConnectOptions::default()).await.map_err(io::Error::other)
}

/// A phone that is online and idle: its connection, its seat, its line in the list and what is known of it.
async fn heap(allocator: &StatsAlloc<System>) -> io::Result<()> {
    let live = || {
        let stats = allocator.stats();
        stats.bytes_allocated as isize - stats.bytes_deallocated as isize
    };
    let mut bench = Bench::set().await?;
    let mut before = 0;
    // The first one brings what all share.
    for phone in 0..=HEAP_PHONES {
        let adb = adbd().await?;
        // A question that is over must leave nothing behind.
        adb.shell("true").await.map_err(io::Error::other)?;
        bench.seat(adb)?;
        let listed = bench.ask("host:devices-l").await?;
        if listed.iter().filter(|byte| **byte == b'\n').count() != phone + 1 {
            return Err(io::Error::other(String::from_utf8_lossy(&listed).into_owned()));
        }
        if phone == 0 {
            before = live();
        }
    }
    let held = (live() - before) as f64 / HEAP_PHONES as f64;
    report("server.heap_per_device", held, "bytes", Goal::AtMost(34_816.0))
}

/// The list of many phones, from the connection to its end.
async fn lists() -> io::Result<()> {
    let mut bench = Bench::set().await?;
    let adb = adbd().await?;
    for _ in 0..LIST_PHONES {
        bench.seat(adb.clone())?;
    }
    let mut took = Vec::new();
    for _ in 0..LISTS {
        let begun = Instant::now();
        let listed = bench.ask("host:devices-l").await?;
        took.push(begun.elapsed().as_secs_f64() * 1e3);
        let lines = listed.iter().filter(|byte| **byte == b'\n').count();
        if lines != LIST_PHONES {
            return Err(io::Error::other(format!("{lines} phones are listed")));
        }
    }
    report("server.devices_l_200", median(took), "ms", Goal::AtMost(5.0))
}
