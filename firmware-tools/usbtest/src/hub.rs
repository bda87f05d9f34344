//! The ports of one hub, for phones that fail together and share a bus: virtual device controllers that are reached over USB/IP, with
//! this program on the way between them and the host's side.
//!
//! ```text
//!     gadget ── usbip-vudc ──▶ this program ──▶ vhci_hcd's root hub ── the host
//!                              (breaks, or not; moves so much a second)
//! ```
//!
//! Where the hub is broken each bulk transfer ends with EPROTO, as the transfers behind a hub with a bad cable or supply do. Where its
//! bus has a speed, each transfer to a phone takes the bus for its time, and the next one waits: the phones have it in turn, as a
//! host's controller gives it to them.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

use crate::check::Failure;
use crate::own::Own;

/// Bytes of each head of USB/IP (Documentation/usb/usbip_protocol.rst), all of whose fields are big-endian.
const HEAD_BYTES: usize = 48;
/// Where in a head its fields are.
const COMMAND: usize = 0;
const NUMBER: usize = 4;
const DIRECTION: usize = 12;
const ENDPOINT: usize = 16;
/// Of an answer.
const STATUS: usize = 20;
/// Of an answer, and of a transfer that is handed in: how many bytes.
const LENGTH: usize = 24;

const CMD_SUBMIT: u32 = 1;
const RET_SUBMIT: u32 = 3;
const FROM_DEVICE: u32 = 1;
/// "Protocol error": no answer on the bus.
const EPROTO: i32 = 71;
/// In the kernel's words for `attach`: a high-speed device.
const SPEED_HIGH: u32 = 3;

/// How many ports it has: as many as the guest's init makes controllers for.
pub(crate) const PORTS: usize = 4;

/// The hub; its phones stay plugged in until this program ends.
pub(crate) struct Hub {
    bus: Arc<Bus>,
}

/// What the ports of the hub have in common.
#[derive(Debug)]
struct Bus {
    broken: AtomicBool,
    /// In bytes; 0 stands for whatever this machine moves.
    speed_per_s: AtomicU64,
    /// When all that was handed in has passed.
    free_at: Mutex<Instant>,
    /// What has passed to the bulk endpoints behind each port, in bytes.
    moved: [AtomicU64; PORTS],
}

/// What was handed in and not answered yet: direction and endpoint, by number.
type Pending = Arc<Mutex<BTreeMap<u32, (u32, u32)>>>;

impl Hub {
    pub(crate) fn new() -> Self {
        let (broken, speed_per_s, moved) = Default::default();
        Self { bus: Arc::new(Bus { broken, speed_per_s, free_at: Mutex::new(Instant::now()), moved }) }
    }

    /// From now on its transfers fail, or no more.
    pub(crate) fn set_broken(&self, broken: bool) {
        self.bus.broken.store(broken, Ordering::SeqCst);
    }

    /// From now on its bus moves so many bytes to the phones in a second.
    pub(crate) fn set_speed(&self, bytes_per_s: u64) {
        self.bus.speed_per_s.store(bytes_per_s, Ordering::SeqCst);
    }

    /// What has passed to the phone at each port so far, in bytes.
    pub(crate) fn moved(&self) -> [u64; PORTS] {
        self.bus.moved.each_ref().map(|bytes| bytes.load(Ordering::SeqCst))
    }

    /// Plugs in a phone of our own, at a port that nobody has had before.
    pub(crate) fn plug_own(&self, own: &Own, port: usize) -> Result<(), Failure> {
        own.order("plug-at", &[&format!("usbip-vudc.{port}"), own.serial])?;
        self.plug(port)
    }

    /// Plugs in the gadget of controller `usbip-vudc.<number>`, at the port of the same number.
    fn plug(&self, number: usize) -> Result<(), Failure> {
        let (device, to_device) = UnixStream::pair()?;
        let (host, to_host) = UnixStream::pair()?;
        let controller = format!("/sys/devices/platform/usbip-vudc.{number}/usbip_sockfd");
        named(&controller, fs::write(&controller, device.as_raw_fd().to_string()))?;
        let attach = "/sys/devices/platform/vhci_hcd.0/attach";
        let words = format!("{number} {} {} {SPEED_HIGH}", host.as_raw_fd(), number + 1);
        named(attach, fs::write(attach, words))?;
        let pending = Pending::default();
        let (from_host, from_device) = (to_host.try_clone()?, to_device.try_clone()?);
        let (handed_in, bus) = (Arc::clone(&pending), Arc::clone(&self.bus));
        // They end when either side hangs up.
        thread::spawn(move || hand_in(from_host, to_device, &handed_in, &bus, number));
        let bus = Arc::clone(&self.bus);
        thread::spawn(move || answer(from_device, to_host, &pending, &bus.broken));
        Ok(())
    }
}

impl Bus {
    /// Takes the bus for a transfer to the phone at a port, for as long as that needs.
    fn pass(&self, port: usize, bytes: u64) {
        let speed_per_s = self.speed_per_s.load(Ordering::SeqCst);
        if speed_per_s > 0 {
            let passed_at = {
                let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
                *free_at = (*free_at).max(Instant::now()) + Duration::from_secs_f64(bytes as f64 / speed_per_s as f64);
                *free_at
            };
            sleep(passed_at.saturating_duration_since(Instant::now()));
        }
        if let Some(moved) = self.moved.get(port) {
            moved.fetch_add(bytes, Ordering::SeqCst);
        }
    }
}

fn named<T>(what: &str, result: io::Result<T>) -> Result<T, Failure> {
    result.map_err(|error| format!("{what}: {error}").into())
}

fn field(head: &[u8; HEAD_BYTES], at: usize) -> u32 {
    head.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_be_bytes)
}

fn set(head: &mut [u8; HEAD_BYTES], at: usize, value: u32) {
    for (to, byte) in head.iter_mut().skip(at).zip(value.to_be_bytes()) {
        *to = byte;
    }
}

/// What the host hands in goes to the phone.
fn hand_in(mut from: UnixStream, mut to: UnixStream, pending: &Pending, bus: &Bus, port: usize) -> io::Result<()> {
    let mut head = [0; HEAD_BYTES];
    loop {
        from.read_exact(&mut head)?;
        let (submits, direction) = (field(&head, COMMAND) == CMD_SUBMIT, field(&head, DIRECTION));
        if submits {
            // Before the device hears of it: its answer may be quicker than this thread.
            let handed = (direction, field(&head, ENDPOINT));
            pending.lock().unwrap_or_else(PoisonError::into_inner).insert(field(&head, NUMBER), handed);
        }
        to.write_all(&head)?;
        if submits && direction != FROM_DEVICE {
            if field(&head, ENDPOINT) != 0 {
                bus.pass(port, field(&head, LENGTH).into());
            }
            io::copy(&mut (&from).take(field(&head, LENGTH).into()), &mut to)?;
        }
    }
}

/// What the phone answers goes to the host, or is lost in a hub that is broken.
fn answer(mut from: UnixStream, mut to: UnixStream, pending: &Pending, broken: &AtomicBool) -> io::Result<()> {
    let mut head = [0; HEAD_BYTES];
    loop {
        from.read_exact(&mut head)?;
        let number = field(&head, NUMBER);
        let handed = pending.lock().unwrap_or_else(PoisonError::into_inner).remove(&number);
        let (true, Some((direction, endpoint))) = (field(&head, COMMAND) == RET_SUBMIT, handed) else {
            to.write_all(&head)?;
            continue;
        };
        let mut bytes = Vec::new();
        if direction == FROM_DEVICE {
            (&from).take(field(&head, LENGTH).into()).read_to_end(&mut bytes)?;
        }
        if endpoint != 0 && broken.load(Ordering::SeqCst) {
            set(&mut head, STATUS, EPROTO.wrapping_neg() as u32);
            set(&mut head, LENGTH, 0);
            bytes.clear();
        }
        to.write_all(&head)?;
        to.write_all(&bytes)?;
    }
}
