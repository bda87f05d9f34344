//! Phones of one bus, from `Stream::write` over its turn to a bus whose controller takes the phones in turn.
//!
//! The bus is made up, and so is the time on it; what is in front of it is what the daemon sends by.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use farmhand::adb::driver::{Adb, ConnectOptions, connect};
use farmhand::adb::message::{Checksums, Command, Header, Message, PAYLOAD_MAX, Packet, VERSION_SKIP_CHECKSUM};
use farmhand::adb::transport::{HEADER_LEN, Reader, Transport, Writer};
use farmhand::adb::turns::{Bus, PATIENCE};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::adbd::KEYS;

/// What a high-speed bus moves in a second, and a slow one, in bytes.
const SPEED_PER_S: f64 = 40e6;
const SLOW_PER_S: f64 = 8e6;
/// What of one phone's the controller moves before it is the next one's turn, in bytes.
const STEP: usize = 64 << 10;
/// What a phone takes in before it has said that it did.
const WINDOW: u32 = 4 << 20;
/// For how long who gets how much is looked at: some hundred turns.
const A_WHILE: Duration = Duration::from_secs(5);

/// Whether phones acknowledge each message before the next one, or later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Acknowledges {
    Each,
    Later,
}

/// The host's end of a phone's endpoints.
struct Port {
    to_bus: mpsc::Sender<([u8; HEADER_LEN], Bytes)>,
    from_phone: mpsc::UnboundedReceiver<Bytes>,
}

struct PortReader {
    from_phone: mpsc::UnboundedReceiver<Bytes>,
    left: Bytes,
}

struct PortWriter(mpsc::Sender<([u8; HEADER_LEN], Bytes)>);

impl Transport for Port {
    type Reader = PortReader;
    type Writer = PortWriter;

    fn split(self) -> (PortReader, PortWriter) {
        (PortReader { from_phone: self.from_phone, left: Bytes::new() }, PortWriter(self.to_bus))
    }
}

impl Reader for PortReader {
    async fn read(&mut self, want: usize) -> io::Result<Bytes> {
        if self.left.is_empty() {
            self.left = self.from_phone.recv().await.unwrap_or_default();
        }
        Ok(self.left.split_to(want.min(self.left.len())))
    }
}

impl Writer for PortWriter {
    async fn write(&mut self, header: [u8; HEADER_LEN], payload: Bytes) -> io::Result<()> {
        self.0.send((header, payload)).await.map_err(|_| io::ErrorKind::BrokenPipe.into())
    }
}

/// A phone that takes all that it is sent, and its end of the bus.
struct Phone {
    acknowledges: Acknowledges,
    stuck: Arc<AtomicBool>,
    took: Arc<AtomicU64>,
    from_host: mpsc::Receiver<([u8; HEADER_LEN], Bytes)>,
    /// What of a message is on the bus; its bytes hold their turn.
    moving: Option<(Header, Bytes)>,
    /// Of its payload.
    moved: usize,
    to_host: mpsc::UnboundedSender<Bytes>,
}

impl Phone {
    /// Moves a step of what is there for it; gives how many bytes that was.
    fn step(&mut self) -> usize {
        if self.stuck.load(Ordering::SeqCst) {
            return 0;
        }
        if self.moving.is_none() {
            self.moving = self.from_host.try_recv().ok().map(|(header, payload)| {
                let header = Header::parse(Packet(header), PAYLOAD_MAX).unwrap();
                (header, payload)
            });
            self.moved = 0;
        }
        let Some((header, payload)) = &self.moving else { return 0 };
        let step = STEP.min(payload.len() - self.moved);
        self.moved += step;
        if self.moved == payload.len() {
            let (header, payload) = (*header, payload.clone());
            self.moving = None;
            self.receive(&header, &payload);
        }
        HEADER_LEN + step
    }

    fn receive(&self, header: &Header, payload: &Bytes) {
        let count = |bytes: u32| match self.acknowledges {
            Acknowledges::Each => Bytes::new(),
            Acknowledges::Later => Bytes::copy_from_slice(&bytes.to_le_bytes()),
        };
        let (command, arg0, arg1, payload) = match header.command {
            Command::Connect => {
                let feature = if self.acknowledges == Acknowledges::Later { ",delayed_ack" } else { "" };
                let banner = format!("device::ro.product.name=oriole;features=shell_v2{feature}");
                let length = u32::try_from(PAYLOAD_MAX).unwrap();
                (Command::Connect, VERSION_SKIP_CHECKSUM, length, Bytes::from(banner))
            }
            Command::Open => (Command::Okay, header.arg0, header.arg0, count(WINDOW)),
            Command::Write => {
                self.took.fetch_add(payload.len() as u64, Ordering::SeqCst);
                (Command::Okay, header.arg1, header.arg0, count(header.payload_len))
            }
            _ => return,
        };
        let message = Message::new(command, arg0, arg1, payload, Checksums::Verified);
        let bytes = [&message.header.emit()[..], &message.payload].concat();
        // The host may have ended already.
        let _ = self.to_host.send(BytesMut::from(&bytes[..]).freeze());
    }
}

/// What the test sees of a phone.
struct Seen {
    adb: Adb,
    stuck: Arc<AtomicBool>,
    took: Arc<AtomicU64>,
}

/// Plugs in so many phones at one bus.
async fn plug(count: usize, acknowledges: Acknowledges, speed_per_s: f64) -> Vec<Seen> {
    let bus = Bus::default();
    let (mut phones, mut ports) = (Vec::new(), Vec::new());
    for _ in 0..count {
        // One message is handed over to the kernel while the next one waits.
        let ((to_bus, from_host), (to_host, from_phone)) = (mpsc::channel(1), mpsc::unbounded_channel());
        let (stuck, took) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        ports.push((Port { to_bus, from_phone }, Arc::clone(&stuck), Arc::clone(&took)));
        phones.push(Phone { acknowledges, stuck, took, from_host, moving: None, moved: 0, to_host });
    }
    tokio::spawn(async move {
        // The clock of a test ticks in milliseconds: the bus is held to its speed over all of its steps.
        let mut free_at = Instant::now();
        loop {
            let mut bytes = 0;
            for phone in &mut phones {
                let step = phone.step();
                free_at += Duration::from_secs_f64(step as f64 / speed_per_s);
                sleep_until(free_at).await;
                bytes += step;
            }
            if bytes == 0 {
                sleep(Duration::from_millis(1)).await;
                free_at = Instant::now();
            }
        }
    });
    let mut seen = Vec::new();
    for (port, stuck, took) in ports {
        let adb = connect(port, KEYS.clone(), ConnectOptions::default()).await.unwrap().on_bus(&bus);
        seen.push(Seen { adb, stuck, took });
    }
    seen
}

/// Pushes to a phone without end.
async fn push(adb: Adb) {
    let stream = adb.open("exec:cat > /dev/null").await.unwrap();
    let piece = Bytes::from(vec![7; PAYLOAD_MAX]);
    while stream.write(piece.clone()).await.is_ok() {}
}

/// What each phone has taken meanwhile, in bytes.
async fn taken(seen: &[Seen], meanwhile: Duration) -> Vec<u64> {
    let took = || seen.iter().map(|seen| seen.took.load(Ordering::SeqCst)).collect::<Vec<_>>();
    let before = took();
    sleep(meanwhile).await;
    took().into_iter().zip(before).map(|(after, before)| after - before).collect()
}

fn share(of: u64, all: &[u64]) -> f64 {
    of as f64 / all.iter().sum::<u64>() as f64
}

#[tokio::test(start_paused = true)]
async fn two_who_push_to_phones_of_one_bus_have_half_of_it_each_whoever_was_first() {
    for acknowledges in [Acknowledges::Each, Acknowledges::Later] {
        let seen = plug(2, acknowledges, SPEED_PER_S).await;
        tokio::spawn(push(seen[0].adb.clone()));
        let alone = taken(&seen, A_WHILE).await;
        assert!(alone[0] as f64 > 0.85 * SPEED_PER_S * A_WHILE.as_secs_f64(), "one alone has all of it: {alone:?}");
        tokio::spawn(push(seen[1].adb.for_person("mara")));
        let both = taken(&seen, A_WHILE).await;
        let all = both.iter().sum::<u64>() as f64;
        assert!(all > 0.85 * SPEED_PER_S * A_WHILE.as_secs_f64(), "the bus is kept busy: {both:?} {acknowledges:?}");
        let share = share(both[1], &both);
        assert!((0.45..=0.55).contains(&share), "{both:?} {acknowledges:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn one_phone_is_not_starved_by_three_of_somebody_else() {
    for (acknowledges, speed) in [
        (Acknowledges::Each, SPEED_PER_S),
        (Acknowledges::Later, SPEED_PER_S),
        (Acknowledges::Each, SLOW_PER_S),
        (Acknowledges::Later, SLOW_PER_S),
    ] {
        let seen = plug(4, acknowledges, speed).await;
        for many in &seen[1..] {
            tokio::spawn(push(many.adb.clone()));
        }
        tokio::spawn(push(seen[0].adb.for_person("mara")));
        // How fast the bus is must be seen first.
        taken(&seen, A_WHILE).await;
        let all = taken(&seen, A_WHILE).await;
        let share = share(all[0], &all);
        assert!((0.42..=0.58).contains(&share), "{share}: {all:?} {acknowledges:?} at {speed} bytes a second");
    }
}

#[tokio::test(start_paused = true)]
async fn a_phone_that_stops_taking_holds_its_turn_for_a_moment_and_nobody_back() {
    for acknowledges in [Acknowledges::Each, Acknowledges::Later] {
        let seen = plug(3, acknowledges, SPEED_PER_S).await;
        tokio::spawn(push(seen[0].adb.for_person("mara")));
        for (number, who) in [(1, "jon"), (2, "eva")] {
            tokio::spawn(push(seen[number].adb.for_person(who)));
        }
        taken(&seen, A_WHILE).await;
        seen[2].stuck.store(true, Ordering::SeqCst);
        // What is on the bus for it counts until then.
        taken(&seen, PATIENCE).await;
        let all = taken(&seen, A_WHILE).await;
        let speed = all.iter().sum::<u64>() as f64 / A_WHILE.as_secs_f64();
        assert_eq!(all[2], 0);
        assert!(speed > 0.85 * SPEED_PER_S, "the others have all of it: {all:?} {acknowledges:?}");
        let share = share(all[0], &all);
        assert!((0.4..=0.6).contains(&share), "{all:?} {acknowledges:?}");
        // A message that needs no turn goes at once, whatever else is on the bus.
        let began = Instant::now();
        timeout(A_WHILE, seen[0].adb.open("shell:true")).await.expect("it is opened soon").unwrap();
        assert!(began.elapsed() < PATIENCE * 2, "{:?}", began.elapsed());
    }
}
