//! Everything around the lines, in a process of its own: virtual phones, the agents on them, and the central server.
//!
//! Agents and server share a clock, so that each frame knows how long it was on its way. Orders come by standard input, a line each, and
//! each has one answer.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use farmhand::central::envelope::{Body, Envelope, View};
use farmhand::central::frame::{self, Split};
use farmhand::central::proto::{DeviceAuthReqMessage, DeviceAuthRspMessage, EnumMsgType};
use firmware_tools::phone::{PhoneSpec, VirtualPhone};
use prost::Message as _;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::OwnedWriteHalf;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval_at, timeout};

use crate::{PHONES, RAW_PORT, credential};

/// Frames a second of all agents together.
const RATE: u32 = 2_000;
const PACED_FOR: Duration = Duration::from_secs(10);
/// The bytes of a notice that is on its way for its time.
const SMALL: usize = 200;
const LARGE: usize = 4 << 10;
const STAMP: usize = 16;
const PATIENCE: Duration = Duration::from_secs(60);
const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const AGENT_PORT: &str = "tcp:9200";

/// What the server sees of notices: whose, and how long each was on its way.
type Seen = mpsc::UnboundedSender<(usize, Duration)>;

/// What all tasks share.
#[derive(Clone)]
struct Clock {
    start: Instant,
    /// Which measurement it is: what an earlier one left on its way counts no more.
    run: Arc<AtomicU64>,
    /// Who hears of notices; nobody between two measurements.
    audience: Arc<Mutex<Option<Seen>>>,
}

struct World {
    clock: Clock,
    server: SocketAddr,
    phones: Vec<VirtualPhone>,
}

#[allow(clippy::print_stdout, reason = "the answers go to the parent process")]
pub(crate) async fn run() -> io::Result<()> {
    let clock = Clock { start: Instant::now(), run: Arc::default(), audience: Arc::default() };
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let server = listener.local_addr()?;
    tokio::spawn(serve(listener, clock.clone()));
    let phone = |number: usize| VirtualPhone::start(PhoneSpec::new(format!("A{number}"), format!("S{number:05}")));
    let phones = (0..PHONES).map(phone).collect::<io::Result<Vec<_>>>()?;
    let addresses: Vec<String> = phones.iter().map(|phone| phone.address().to_string()).collect();
    println!("{server} {}", addresses.join(" "));
    let world = World { clock, server, phones };
    let (to, mut orders) = mpsc::unbounded_channel();
    std::thread::spawn(move || io::stdin().lock().lines().map_while(Result::ok).try_for_each(|line| to.send(line)));
    while let Some(order) = orders.recv().await {
        let answer = match order.as_str() {
            "direct" => world.paced(|_| world.server, Flood::None).await?,
            "relayed" => world.paced(|number| world.tunnel(number, AGENT_PORT), Flood::None).await?,
            "flooded" => world.paced(|number| world.tunnel(number, AGENT_PORT), Flood::ByTheLast).await?,
            "copied" => world.paced(|number| world.tunnel(number, RAW_PORT), Flood::None).await?,
            "copied flooded" => world.paced(|number| world.tunnel(number, RAW_PORT), Flood::ByTheLast).await?,
            "bulk" => world.bulk(world.tunnel(0, AGENT_PORT)).await?,
            "raw" => world.bulk(world.tunnel(0, RAW_PORT)).await?,
            other => return Err(io::Error::other(format!("no order is called {other}"))),
        };
        println!("{answer}");
    }
    Ok(())
}

/// Whether one of the agents says as much as it can.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Flood {
    None,
    ByTheLast,
}

impl World {
    /// Where a tunnel of a phone begins; it is there before the parent asks for anything.
    fn tunnel(&self, number: usize, remote: &str) -> SocketAddr {
        let tunnels = self.phones.get(number).map(|phone| phone.state().tunnels).unwrap_or_default();
        tunnels.get(remote).map(|tunnel| tunnel.local).unwrap_or_else(|| panic!("phone {number} has {remote}"))
    }

    /// The 99th percentile of how long notices are on their way at [`RATE`], in seconds. A flood counts for nothing itself.
    async fn paced(&self, way: impl Fn(usize) -> SocketAddr, flood: Flood) -> io::Result<f64> {
        let mut agents = Vec::new();
        for number in 0..PHONES {
            agents.push(Agent::register(way(number), number, self.clock.clone()).await?);
        }
        let (seen_in, mut seen) = mpsc::unbounded_channel();
        self.clock.listen(Some(seen_in));
        let (mut speaking, pause) = (JoinSet::new(), Duration::from_secs(1) * PHONES as u32 / RATE);
        let begin = tokio::time::Instant::now();
        for (number, agent) in agents.into_iter().enumerate() {
            if flood == Flood::ByTheLast && number == PHONES - 1 {
                speaking.spawn(timeout(PACED_FOR, agent.flood()));
            } else {
                let first = begin + pause * number as u32 / PHONES as u32;
                speaking.spawn(timeout(PACED_FOR, agent.speak(first, pause)));
            }
        }
        // Each ends by its timeout; an agent whose connection breaks is a measurement that failed.
        while let Some(ended) = speaking.join_next().await {
            if let Ok(Ok(broken)) = ended {
                broken?;
            }
        }
        self.clock.listen(None);
        let mut times = Vec::new();
        while let Ok((number, time)) = seen.try_recv() {
            if flood == Flood::None || number != PHONES - 1 {
                times.push(time);
            }
        }
        times.sort_unstable();
        let expected = PACED_FOR.as_secs() as usize * RATE as usize;
        assert!(times.len() > expected * 8 / 10, "{} of {expected} notices arrived", times.len());
        Ok(times[times.len() * 99 / 100].as_secs_f64())
    }

    /// How long 64 MiB in notices of 4 KiB take, in seconds.
    async fn bulk(&self, way: SocketAddr) -> io::Result<f64> {
        const NOTICES: usize = (64 << 20) / LARGE;
        let agent = Agent::register(way, 0, self.clock.clone()).await?;
        let (seen_in, mut seen) = mpsc::unbounded_channel();
        self.clock.listen(Some(seen_in));
        let begin = Instant::now();
        let sending = tokio::spawn(agent.send(NOTICES, LARGE));
        for _ in 0..NOTICES {
            timeout(PATIENCE, seen.recv()).await?;
        }
        let took = begin.elapsed().as_secs_f64();
        self.clock.listen(None);
        // Until here it stands: whoever hangs up behind his last word may have it cut off, with adb's tunnels as with sockets.
        drop(sending.await.map_err(io::Error::other)??);
        Ok(took)
    }
}

impl Clock {
    fn listen(&self, seen: Option<Seen>) {
        self.run.fetch_add(1, Ordering::SeqCst);
        *self.audience.lock().unwrap_or_else(PoisonError::into_inner) = seen;
    }

    /// The time, and the measurement, for the first 16 bytes of a notice.
    fn stamp(&self, run: u64) -> [u8; STAMP] {
        let nanos = self.start.elapsed().as_nanos() as u64;
        let mut stamp = [0; STAMP];
        stamp[..8].copy_from_slice(&nanos.to_le_bytes());
        stamp[8..].copy_from_slice(&run.to_le_bytes());
        stamp
    }

    fn tell(&self, number: usize, body: &[u8]) {
        let (Some(stamp), Some(run)) = (body.first_chunk(), body.get(8..).and_then(<[u8]>::first_chunk)) else {
            return;
        };
        if u64::from_le_bytes(*run) != self.run.load(Ordering::SeqCst) {
            return;
        }
        let time = self.start.elapsed().saturating_sub(Duration::from_nanos(u64::from_le_bytes(*stamp)));
        if let Some(seen) = &*self.audience.lock().unwrap_or_else(PoisonError::into_inner) {
            // Whoever measures may have enough.
            let _ = seen.send((number, time));
        }
    }
}

/// An agent that is let in. What is said to it is read and left aside.
struct Agent {
    writer: OwnedWriteHalf,
    token: String,
    next_id: i64,
    /// The measurement for which it speaks.
    run: u64,
    clock: Clock,
}

impl Agent {
    async fn register(way: SocketAddr, number: usize, clock: Clock) -> io::Result<Self> {
        let mut stream = TcpStream::connect(way).await?;
        stream.set_nodelay(true)?;
        let request = DeviceAuthReqMessage { auth_type: 1, credential: credential(number) }.encode_to_vec();
        stream.write_all(&frame_of(EnumMsgType::DeviceAuthReq, 1, "", Some(&request), 0)).await?;
        let mut buffer = BytesMut::new();
        let token = loop {
            if let Ok(Split::Frame { payload, .. }) = frame::split(&buffer, frame::MAX_FRAME_DEFAULT) {
                let view = View::parse(payload).map_err(io::Error::other)?;
                let response = DeviceAuthRspMessage::decode(view.body()).map_err(io::Error::other)?;
                break response.access_token;
            }
            if timeout(PATIENCE, stream.read_buf(&mut buffer)).await?? == 0 {
                return Err(io::ErrorKind::ConnectionAborted.into());
            }
        };
        let (mut reader, writer) = stream.into_split();
        tokio::spawn(async move { tokio::io::copy(&mut reader, &mut tokio::io::sink()).await });
        // The one that begins once all agents are there.
        let run = clock.run.load(Ordering::SeqCst) + 1;
        Ok(Self { writer, token, next_id: 2, run, clock })
    }

    async fn notice(&mut self, body: &mut [u8]) -> io::Result<()> {
        if let Some(place) = body.first_chunk_mut() {
            *place = self.clock.stamp(self.run);
        }
        let frame = frame_of(EnumMsgType::FriendTalkNotice, self.next_id, &self.token, Some(body), 0);
        self.next_id += 1;
        self.writer.write_all(&frame).await
    }

    /// For as long as it is let.
    async fn speak(mut self, first: tokio::time::Instant, pause: Duration) -> io::Result<()> {
        let mut turns = interval_at(first, pause);
        turns.set_missed_tick_behavior(MissedTickBehavior::Burst);
        let mut body = [0x2a; SMALL];
        loop {
            turns.tick().await;
            self.notice(&mut body).await?;
        }
    }

    async fn flood(mut self) -> io::Result<()> {
        let mut body = [0x2a; SMALL];
        loop {
            self.notice(&mut body).await?;
            tokio::task::coop::consume_budget().await;
        }
    }

    async fn send(mut self, count: usize, length: usize) -> io::Result<Self> {
        let mut body = vec![0x2a; length];
        for _ in 0..count {
            self.notice(&mut body).await?;
        }
        Ok(self)
    }
}

/// Knows every device, acknowledges everything at once, and tells of each notice.
async fn serve(listener: TcpListener, clock: Clock) {
    while let Ok((stream, _)) = listener.accept().await {
        let _ = stream.set_nodelay(true);
        tokio::spawn(answer(stream, clock.clone()));
    }
}

async fn answer(mut stream: TcpStream, clock: Clock) -> io::Result<()> {
    let numbers: BTreeMap<String, usize> = (0..PHONES).map(|number| (credential(number), number)).collect();
    let (mut buffer, mut answers, mut number) = (BytesMut::with_capacity(64 << 10), Vec::new(), 0);
    while stream.read_buf(&mut buffer).await? > 0 {
        while let Ok(Split::Frame { payload, consumed }) = frame::split(&buffer, frame::MAX_FRAME_DEFAULT) {
            let view = View::parse(payload).map_err(io::Error::other)?;
            if view.msg_type == EnumMsgType::DeviceAuthReq as i32 {
                let request = DeviceAuthReqMessage::decode(view.body()).map_err(io::Error::other)?;
                number = numbers.get(&request.credential).copied().unwrap_or_default();
                let response = DeviceAuthRspMessage { access_token: TOKEN.to_owned(), ..Default::default() };
                let body = response.encode_to_vec();
                answers.extend_from_slice(&frame_of(EnumMsgType::DeviceAuthRsp, 0, "", Some(&body), view.id));
            } else {
                if view.msg_type == EnumMsgType::FriendTalkNotice as i32 {
                    clock.tell(number, view.body());
                }
                answers.extend_from_slice(&frame_of(EnumMsgType::MsgReceivedAck, 0, "", None, view.id));
            }
            buffer.advance(consumed);
        }
        stream.write_all(&answers).await?;
        answers.clear();
    }
    Ok(())
}

fn frame_of(code: EnumMsgType, id: i64, access_token: &str, value: Option<&[u8]>, reference: i64) -> bytes::Bytes {
    let type_name = match code {
        EnumMsgType::DeviceAuthReq => "Jubo.JuLiao.IM.Wx.Proto.DeviceAuthReqMessage",
        EnumMsgType::DeviceAuthRsp => "Jubo.JuLiao.IM.Wx.Proto.DeviceAuthRspMessage",
        _ => "Jubo.JuLiao.IM.Wx.Proto.FriendTalkNoticeMessage",
    };
    let body = value.map(|value| Body { type_name, value });
    let envelope = Envelope { id, access_token, msg_type: code as i32, body, ref_message_id: reference };
    envelope.frame().expect("a frame")
}
