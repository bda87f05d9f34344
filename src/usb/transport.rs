//! A handset's pair of bulk endpoints as the two halves that ADB drives.
//!
//! Both keep several transfers in flight. A read is sized by what the decoder wants, rounded up to whole packets, so that stale
//! bytes of an earlier connection cannot overflow it; a long payload is spread over several reads at once, all of which go to
//! their places in one buffer, so that it is never copied. A write hands header
//! and payload to the kernel without waiting for either, so that the next message's header travels behind this one's payload.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};

use super::allowance::{Allowance, LanePass, Permit};
use super::engine::Claimed;
use super::enumerate::{AdbInterface, BulkEndpoint};
use super::transfer::{Cargo, Completion, InFlight, TransferFault, WriteEnd, submit};
use crate::adb::transport::{HEADER_LEN, Reader, SPARE_KEPT, SpareBuffers, Transport, Writer};

/// Reads posted at once: as many as fill the bus while the first is being handed on (measured with 256 KiB each), and a packet at
/// either end.
const READS_MAX: usize = 6;

/// Writes in flight: a whole message of 1 MiB in transfers of 256 KiB, its header, and the same again.
const WRITES_MAX: usize = 10;

/// The kernel may lack memory in spite of the budget, since other programs share it: this is how often and after what pause a
/// transfer is submitted again before the way is called dead.
const NO_MEMORY_RETRIES: u32 = 100;
const NO_MEMORY_PAUSE: Duration = Duration::from_millis(50);

/// An open and claimed handset.
#[derive(Debug)]
pub struct UsbTransport {
    reader: UsbReader,
    writer: UsbWriter,
}

/// The half that reads from a handset.
#[derive(Debug)]
pub struct UsbReader {
    endpoint: BulkEndpoint,
    claimed: Arc<Claimed>,
    lane: LanePass,
    posted: VecDeque<InFlight>,
    last_want: usize,
    /// Where the rest of the payload goes that is being read.
    place: BytesMut,
    /// What has come of it.
    gathered: BytesMut,
    spare: SpareBuffers,
    ready: Bytes,
    dead: Option<TransferFault>,
}

/// The half that writes to a handset.
#[derive(Debug)]
pub struct UsbWriter {
    endpoint: BulkEndpoint,
    claimed: Arc<Claimed>,
    lane: LanePass,
    /// Pieces of messages that were taken over and are not with the kernel yet.
    queued: VecDeque<Piece>,
    in_flight: VecDeque<InFlight>,
    dead: Option<TransferFault>,
}

/// A part of a message: its header, or bytes of its payload.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Piece {
    bytes: Bytes,
    /// Whether the message ends with it, so that a zero-length packet may be due.
    place: Place,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Header,
    Middle,
    End,
}

impl UsbTransport {
    pub(super) fn new(claimed: Claimed, interface: AdbInterface, allowance: &Allowance) -> Self {
        let claimed = Arc::new(claimed);
        let (from, to) = allowance.open_lanes();
        Self {
            reader: UsbReader {
                endpoint: interface.input,
                claimed: Arc::clone(&claimed),
                lane: from,
                posted: VecDeque::new(),
                last_want: 0,
                place: BytesMut::new(),
                gathered: BytesMut::new(),
                spare: SpareBuffers::default(),
                ready: Bytes::new(),
                dead: None,
            },
            writer: UsbWriter {
                endpoint: interface.output,
                claimed,
                lane: to,
                queued: VecDeque::new(),
                in_flight: VecDeque::new(),
                dead: None,
            },
        }
    }
}

impl Transport for UsbTransport {
    type Reader = UsbReader;
    type Writer = UsbWriter;

    fn split(self) -> (UsbReader, UsbWriter) {
        (self.reader, self.writer)
    }
}

impl Reader for UsbReader {
    async fn read(&mut self, want: usize) -> io::Result<Bytes> {
        loop {
            if !self.ready.is_empty() {
                return Ok(self.ready.split_to(want.min(self.ready.len())));
            }
            if let Some(fault) = self.dead {
                return Err(died(fault));
            }
            let outcome = self.next(want).await;
            match outcome {
                // Nothing in it: the zero-length packet that ends a payload.
                Ok(bytes) => self.ready = bytes,
                Err(fault) => self.dead = Some(fault),
            }
        }
    }
}

impl UsbReader {
    /// What one more transfer brings; nothing as long as a payload is not whole.
    async fn next(&mut self, want: usize) -> Result<Bytes, TransferFault> {
        self.post(want).await?;
        let Some(asked) = self.posted.front().map(InFlight::len) else { return Ok(Bytes::new()) };
        let completion = self.first(want).await;
        self.posted.pop_front();
        let came = completion?;
        let is_short = came.len() < asked;
        // Transfers into one buffer are one again.
        self.gathered.unsplit(came);
        if !is_short && self.gathered.len() < want {
            return Ok(Bytes::new());
        }
        let bytes = std::mem::take(&mut self.gathered).freeze();
        if bytes.len() > self.endpoint.max_packet {
            self.spare.lend(&bytes);
        }
        Ok(bytes)
    }

    /// Waits for the first read, without the spare buffers if a header takes long to come.
    async fn first(&mut self, want: usize) -> Completion {
        let Some(first) = self.posted.front_mut() else { return Err(TransferFault::Cancelled) };
        if want <= self.endpoint.max_packet && !self.spare.is_empty() {
            if let Ok(completion) = tokio::time::timeout(SPARE_KEPT, &mut *first).await {
                return completion;
            }
            self.spare.clear();
        }
        first.await
    }

    /// Sees to it that reads for `want` bytes are posted, and for what comes behind them: one in any case, more where the budget has
    /// room right now.
    async fn post(&mut self, want: usize) -> Result<(), TransferFault> {
        let packet = self.endpoint.max_packet;
        let beyond = packets_beyond(want, std::mem::replace(&mut self.last_want, want), packet) * packet;
        let want = want.saturating_sub(self.gathered.len());
        let mut posted: usize = self.posted.iter().map(InFlight::len).sum();
        while posted < want + beyond && self.posted.len() < READS_MAX {
            let missing = want.saturating_sub(posted).max(packet);
            let len = read_len(missing, self.lane.transfer_len(), packet);
            let permit = if self.posted.is_empty() {
                self.lane.permit(len).await
            } else {
                let Some(permit) = self.lane.permit_now(len) else { return Ok(()) };
                permit
            };
            let room = self.room(len, missing);
            match submit(&self.claimed, self.endpoint.address, Cargo::Read(room), permit) {
                Ok(read) => self.posted.push_back(read),
                Err(TransferFault::NoMemory) if !self.posted.is_empty() => return Ok(()),
                Err(TransferFault::NoMemory) => {
                    let read = self.post_when_the_kernel_has_memory(len).await?;
                    self.posted.push_back(read);
                }
                Err(fault) => return Err(fault),
            }
            posted += len;
        }
        Ok(())
    }

    /// Where the next `len` bytes go, of `missing` that are still wanted.
    fn room(&mut self, len: usize, missing: usize) -> BytesMut {
        let packet = self.endpoint.max_packet;
        if len <= packet {
            return if self.place.len() == len { std::mem::take(&mut self.place) } else { BytesMut::zeroed(len) };
        }
        if self.place.len() < len {
            let whole = missing.div_ceil(packet).saturating_mul(packet);
            self.place = self.spare.take(whole).unwrap_or_else(|| BytesMut::zeroed(whole));
            self.place.resize(whole, 0);
        }
        self.place.split_to(len)
    }

    async fn post_when_the_kernel_has_memory(&mut self, len: usize) -> Result<InFlight, TransferFault> {
        for _ in 0..NO_MEMORY_RETRIES {
            tokio::time::sleep(NO_MEMORY_PAUSE).await;
            let permit = self.lane.permit(len).await;
            match submit(&self.claimed, self.endpoint.address, Cargo::Read(BytesMut::zeroed(len)), permit) {
                Err(TransferFault::NoMemory) => {}
                outcome => return outcome,
            }
        }
        Err(TransferFault::NoMemory)
    }
}

impl Writer for UsbWriter {
    /// Dropping the future leaves the rest of the message queued: the next call sends it first.
    async fn write(&mut self, header: [u8; HEADER_LEN], payload: Bytes) -> io::Result<()> {
        self.queued.extend(pieces(header, payload, self.lane.transfer_len(), self.endpoint.max_packet));
        loop {
            if let Some(fault) = self.dead {
                return Err(died(fault));
            }
            match self.hand_over().await {
                Ok(()) => return Ok(()),
                Err(fault) => self.dead = Some(fault),
            }
        }
    }
}

impl UsbWriter {
    /// Hands everything that is queued to the kernel, and looks at what has come back.
    async fn hand_over(&mut self) -> Result<(), TransferFault> {
        self.reap()?;
        let mut refusals = 0;
        while let Some(piece) = self.queued.front() {
            if self.in_flight.len() >= WRITES_MAX {
                self.wait_for_first().await?;
                continue;
            }
            let cargo = Cargo::Write(piece.bytes.clone(), piece.end(self.endpoint.max_packet));
            let permit = self.permit(cargo.len()).await?;
            match submit(&self.claimed, self.endpoint.address, cargo, permit) {
                Ok(write) => {
                    self.queued.pop_front();
                    self.in_flight.push_back(write);
                }
                Err(TransferFault::NoMemory) if refusals < NO_MEMORY_RETRIES => {
                    refusals += 1;
                    tokio::time::sleep(NO_MEMORY_PAUSE).await;
                }
                Err(fault) => return Err(fault),
            }
        }
        Ok(())
    }

    async fn permit(&mut self, len: usize) -> Result<Permit, TransferFault> {
        let permit = self.lane.permit(len).await;
        self.reap()?;
        Ok(permit)
    }

    /// Takes what has come back out of the queue, without waiting.
    fn reap(&mut self) -> Result<(), TransferFault> {
        while let Some(completion) = self.in_flight.front_mut().and_then(InFlight::try_done) {
            self.in_flight.pop_front();
            completion?;
        }
        Ok(())
    }

    async fn wait_for_first(&mut self) -> Result<(), TransferFault> {
        let Some(first) = self.in_flight.front_mut() else { return Ok(()) };
        let completion = first.await;
        self.in_flight.pop_front();
        completion.map(drop)
    }
}

impl Piece {
    fn end(&self, max_packet: usize) -> WriteEnd {
        if self.place == Place::End && self.bytes.len().is_multiple_of(max_packet) {
            WriteEnd::ZeroPacket
        } else {
            WriteEnd::Plain
        }
    }
}

/// A message as the pieces that become a transfer each.
fn pieces(header: [u8; HEADER_LEN], mut payload: Bytes, transfer_len: usize, max_packet: usize) -> Vec<Piece> {
    let transfer_len = whole_packets(transfer_len, max_packet);
    let mut pieces = vec![Piece { bytes: Bytes::copy_from_slice(&header), place: Place::Header }];
    while payload.len() > transfer_len {
        pieces.push(Piece { bytes: payload.split_to(transfer_len), place: Place::Middle });
    }
    if !payload.is_empty() {
        pieces.push(Piece { bytes: payload, place: Place::End });
    }
    pieces
}

/// How many packets are asked for beyond what is wanted. Behind a header comes its payload, and behind that the next header: what
/// fits in a packet is taken with it, and wakes this host once instead of twice. Not so after a payload that is longer: the next
/// one is likely to be so too, and is handed on without a copy only if it comes in one piece.
fn packets_beyond(want: usize, last_want: usize, max_packet: usize) -> usize {
    usize::from(want > max_packet || last_want <= max_packet)
}

/// The length of the next read: what is still wanted in whole packets, bounded by what a transfer may carry.
fn read_len(wanted: usize, transfer_len: usize, max_packet: usize) -> usize {
    let most = whole_packets(transfer_len, max_packet);
    wanted.div_ceil(max_packet).saturating_mul(max_packet).min(most)
}

/// The largest multiple of the packet size within `len`, at least one packet: only the last transfer of a payload may be short,
/// since a short packet ends it for the other side.
fn whole_packets(len: usize, max_packet: usize) -> usize {
    (len / max_packet).max(1) * max_packet
}

fn died(fault: TransferFault) -> io::Error {
    let kind = match fault {
        TransferFault::Gone => io::ErrorKind::NotConnected,
        TransferFault::Stalled => io::ErrorKind::BrokenPipe,
        TransferFault::Overflow => io::ErrorKind::InvalidData,
        TransferFault::Cancelled => io::ErrorKind::ConnectionAborted,
        TransferFault::NoMemory => io::ErrorKind::OutOfMemory,
        TransferFault::Short { .. } => io::ErrorKind::WriteZero,
        TransferFault::Broken | TransferFault::Other(_) => io::ErrorKind::Other,
    };
    io::Error::new(kind, fault)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HEADER: [u8; HEADER_LEN] = [0; HEADER_LEN];

    fn ends(payload: usize, transfer_len: usize) -> Vec<(usize, WriteEnd)> {
        let cut = pieces(HEADER, vec![0; payload].into(), transfer_len, 512);
        cut.iter().map(|piece| (piece.bytes.len(), piece.end(512))).collect()
    }

    #[test]
    fn a_payload_ends_by_a_zero_length_packet_only_where_it_fills_its_last_packet() {
        use WriteEnd::{Plain, ZeroPacket};
        assert_eq!(ends(0, 4096), [(24, Plain)]);
        assert_eq!(ends(5, 4096), [(24, Plain), (5, Plain)]);
        assert_eq!(ends(512, 4096), [(24, Plain), (512, ZeroPacket)]);
        assert_eq!(ends(4096, 4096), [(24, Plain), (4096, ZeroPacket)]);
        assert_eq!(ends(8192, 4096), [(24, Plain), (4096, Plain), (4096, ZeroPacket)]);
        assert_eq!(ends(4097, 4096), [(24, Plain), (4096, Plain), (1, Plain)]);
    }

    #[test]
    fn a_packet_is_read_ahead_of_what_is_likely_to_be_small() {
        assert_eq!(packets_beyond(24, 0, 512), 1, "the first header of all");
        assert_eq!(packets_beyond(24, 24, 512), 1, "a header behind one without a payload");
        assert_eq!(packets_beyond(18, 24, 512), 1, "a small payload");
        assert_eq!(packets_beyond(1 << 20, 24, 512), 1, "the header behind a large payload");
        assert_eq!(packets_beyond(24, 1 << 20, 512), 0, "a header, and a large payload behind it");
    }

    #[test]
    fn a_read_is_what_is_wanted_in_whole_packets() {
        assert_eq!(read_len(24, 262_144, 512), 512);
        assert_eq!(read_len(24, 262_144, 1024), 1024);
        assert_eq!(read_len(512, 262_144, 512), 512);
        assert_eq!(read_len(513, 262_144, 512), 1024);
        assert_eq!(read_len(1 << 20, 262_144, 512), 262_144);
        assert_eq!(read_len(1 << 20, 4096, 64), 4096);
        assert_eq!(read_len(5000, 4096, 1000), 4000, "odd packet sizes are kept whole too");
    }

    proptest! {
        #[test]
        fn the_pieces_are_the_message(len in 0_usize..100_000, transfer_len in 1_usize..70_000, max_packet in 1_usize..2048) {
            let payload: Bytes = (0..len).map(|i| u8::try_from(i % 251).unwrap()).collect();
            let cut = pieces(HEADER, payload.clone(), transfer_len, max_packet);
            let sent: Vec<u8> = cut[1..].iter().flat_map(|piece| piece.bytes.to_vec()).collect();
            prop_assert_eq!(sent, payload.to_vec());
            for (i, piece) in cut.iter().enumerate().skip(1) {
                let last = i + 1 == cut.len();
                prop_assert_eq!(piece.place, if last { Place::End } else { Place::Middle });
                prop_assert!(last || piece.bytes.len() % max_packet == 0);
            }
        }
    }
}
