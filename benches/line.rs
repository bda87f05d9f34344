//! A thousand registered lines: what one holds on the heap, and how soon all are back after the server's restart.
//!
//! The server is another process (this program again, with the argument `serve`), so that its memory is not counted and it can
//! be killed. Its listen queue has 128 places, as many a server has by default.

#![allow(clippy::expect_used, clippy::panic, reason = "a bench that cannot measure must say so and stop")]

#[path = "report.rs"]
mod report;

use std::alloc::System;
use std::collections::BTreeMap;
use std::io::{self, BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::{env, fs};

use bytes::{Buf, BytesMut};
use farmhand::adb::online::OnlinePhones;
use farmhand::central::envelope::{Body, Envelope, View};
use farmhand::central::frame::{self, Split};
use farmhand::central::line::{Agents, LineSettings, Server, spawn};
use farmhand::central::pace::Speakers;
use farmhand::central::proto::{DeviceAuthRspMessage, EnumMsgType};
use farmhand::central::session::Settings;
use farmhand::config::{Ack, AgentPort};
use farmhand::rack::event::{DeviceInfo, LineCommand, LineEvent, Presence};
use farmhand::rack::ids::PhoneId;
use farmhand::rack::snapshot::LineState;
use farmhand::store::{StateDir, Store};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use prost::Message;
use report::{Goal, report};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const LINES: usize = 1000;
/// Long enough for most lines to have failed several times and to wait long.
const SERVER_AWAY: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_secs(120);
/// The usual one.
const HEARTBEAT: Duration = Duration::from_secs(60);
/// Longer than any measurement.
const NO_HEARTBEAT: Duration = Duration::from_secs(3600);
const BACKLOG: u32 = 128;
const TOKEN: &str = "0123456789abcdef0123456789abcdef";

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let mut arguments = env::args().skip_while(|argument| argument != "serve").skip(1);
    match arguments.next() {
        Some(address) => serve(&address).await,
        None => measure().await,
    }
}

async fn measure() -> io::Result<()> {
    let (server, address) = start_server("127.0.0.1:0")?;
    let (registered_in, mut registered) = mpsc::channel(LINES);
    let dir = tempfile::tempdir()?;
    let state = StateDir::lock(dir.path()).map_err(io::Error::other)?;
    let store = Store::open(&state).map_err(io::Error::other)?;
    let before = live_bytes();
    let cancel = CancellationToken::new();
    let mut doors = Vec::with_capacity(LINES);
    for number in 0..LINES {
        doors.push(open_line(number, &address, &store, NO_HEARTBEAT, registered_in.clone(), &cancel).await);
    }
    all(&mut registered).await;
    let held = live_bytes().saturating_sub(before);
    report("line.heap_bytes", held as f64 / LINES as f64, "bytes", Goal::AtMost(20_480.0))?;

    kill(server)?;
    tokio::time::sleep(SERVER_AWAY).await;
    let overflows = listen_overflows()?;
    let (server, _) = start_server(&address)?;
    let restarted = Instant::now();
    let mut back: Vec<Duration> = all(&mut registered).await.into_values().map(|at| at - restarted).collect();
    back.sort_unstable();
    report("line.back_p99_s", back[LINES * 99 / 100 - 1].as_secs_f64(), "s", Goal::AtMost(90.0))?;
    let overflows = listen_overflows()? - overflows;
    report("line.listen_overflows", overflows as f64, "connections", Goal::AtMost(0.0))?;
    cancel.cancel();
    measure_idle(&address, &store).await?;
    kill(server)
}

/// What the lines cost while nothing happens but their heartbeats, two of each, before which the model is asked each time.
async fn measure_idle(address: &str, store: &Store) -> io::Result<()> {
    let (registered_in, mut registered) = mpsc::channel(LINES);
    let cancel = CancellationToken::new();
    let mut doors = Vec::with_capacity(LINES);
    for number in 0..LINES {
        doors.push(open_line(number, address, store, HEARTBEAT, registered_in.clone(), &cancel).await);
    }
    all(&mut registered).await;
    let (before, began) = (processor_time()?, Instant::now());
    tokio::time::sleep(HEARTBEAT * 2).await;
    let percent = (processor_time()? - before).as_secs_f64() / began.elapsed().as_secs_f64() * 100.0;
    cancel.cancel();
    report("line.cpu_percent_1000_idle", percent, "%", Goal::AtMost(1.0))
}

/// Of this process, in user and system mode.
fn processor_time() -> io::Result<Duration> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(Duration::from_micros(u64::try_from(micros).unwrap_or_default()))
}

/// A line as the daemon has it, with the queues that belong to it.
async fn open_line(
    number: usize,
    address: &str,
    store: &Store,
    heartbeat: Duration,
    registered: mpsc::Sender<(usize, Instant)>,
    cancel: &CancellationToken,
) -> mpsc::Sender<LineCommand> {
    let ((commands, commands_out), (events_in, mut events)) = (mpsc::channel(8), mpsc::channel(8));
    let settings = LineSettings {
        started: tokio::time::Instant::now(),
        servers: vec![Server::bare(address)],
        max_frame: frame::MAX_FRAME_DEFAULT,
        session: Settings::new(heartbeat),
        policy: watch::channel(Arc::default()).1,
        store: store.clone(),
        ack: Ack::default(),
        agents: Agents { online: OnlinePhones::default(), port: AgentPort::default() },
        speakers: Speakers::default(),
        storage: None,
    };
    spawn(settings, PhoneId::new(format!("P{number}")), commands_out, events_in, cancel.clone());
    let model = commands.downgrade();
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            match event {
                LineEvent::State { state: LineState::Registered, .. } => {
                    let _ = registered.send((number, Instant::now())).await;
                }
                LineEvent::HeartbeatDue => {
                    let Some(line) = model.upgrade() else { return };
                    let _ = line.send(LineCommand::Presence(Presence::Answered)).await;
                }
                _ => {}
            }
        }
    });
    let device = DeviceInfo { brand: "acme".to_owned(), model: "A1".to_owned(), sdk: 33, ..DeviceInfo::default() };
    let credential = format!("{:015}", 490_154_203_000_000 + number);
    commands
        .send(LineCommand::Open { credential, device: Box::new(device), pause: Duration::ZERO })
        .await
        .expect("the line lives");
    // Phones come up one by one; the herd that is measured is the one after the restart.
    tokio::time::sleep(Duration::from_millis(1)).await;
    commands
}

/// When each line was last registered, once all of them are. One that was lost again meanwhile counts once.
async fn all(registered: &mut mpsc::Receiver<(usize, Instant)>) -> BTreeMap<usize, Instant> {
    let mut moments = BTreeMap::new();
    let gathered = tokio::time::timeout(PATIENCE, async {
        while moments.len() < LINES {
            moments.extend(registered.recv().await);
        }
    });
    gathered.await.unwrap_or_else(|_| panic!("all {LINES} lines are registered within {PATIENCE:?}"));
    moments
}

fn live_bytes() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated.saturating_sub(stats.bytes_deallocated)
}

/// How many connections no listen queue of this host had room for.
fn listen_overflows() -> io::Result<i64> {
    let text = fs::read_to_string("/proc/net/netstat")?;
    let mut extended = text.lines().filter_map(|line| line.strip_prefix("TcpExt: ")).map(str::split_whitespace);
    let (names, values) = (extended.next(), extended.next());
    let mut pairs = names.into_iter().flatten().zip(values.into_iter().flatten());
    let value = pairs.find(|(name, _)| *name == "ListenOverflows").and_then(|(_, value)| value.parse().ok());
    value.ok_or_else(|| io::Error::other("/proc/net/netstat has no ListenOverflows"))
}

/// The server, once it listens, and where.
fn start_server(address: &str) -> io::Result<(Child, String)> {
    let mut command = Command::new(env::current_exe()?);
    let mut child = command.args(["serve", address]).stdout(Stdio::piped()).spawn()?;
    let mut line = String::new();
    BufReader::new(child.stdout.take().expect("a pipe")).read_line(&mut line)?;
    Ok((child, line.trim().to_owned()))
}

fn kill(mut server: Child) -> io::Result<()> {
    server.kill()?;
    server.wait().map(drop)
}

#[allow(clippy::print_stdout, reason = "the address is handed to the parent process")]
async fn serve(address: &str) -> io::Result<()> {
    let socket = TcpSocket::new_v4()?;
    socket.set_reuseaddr(true)?;
    socket.bind(address.parse().expect("an address"))?;
    let listener = socket.listen(BACKLOG)?;
    println!("{}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        tokio::spawn(answer(stream));
    }
}

/// Knows every device, acknowledges everything.
async fn answer(mut stream: TcpStream) {
    let mut buffer = BytesMut::new();
    while stream.read_buf(&mut buffer).await.is_ok_and(|read| read > 0) {
        while let Ok(Split::Frame { payload, consumed }) = frame::split(&buffer, frame::MAX_FRAME_DEFAULT) {
            let Ok(view) = View::parse(payload) else { return };
            let response =
                DeviceAuthRspMessage { access_token: TOKEN.to_owned(), ..Default::default() }.encode_to_vec();
            let type_name = "Jubo.JuLiao.IM.Wx.Proto.DeviceAuthRspMessage";
            let (code, body) = if view.msg_type == EnumMsgType::DeviceAuthReq as i32 {
                (EnumMsgType::DeviceAuthRsp, Some(Body { type_name, value: &response }))
            } else {
                (EnumMsgType::MsgReceivedAck, None)
            };
            let answer = Envelope { msg_type: code as i32, body, ref_message_id: view.id, ..Envelope::default() };
            let answer = answer.frame().expect("a frame");
            buffer.advance(consumed);
            if stream.write_all(&answer).await.is_err() {
                return;
            }
        }
    }
}
