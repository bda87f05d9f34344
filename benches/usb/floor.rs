//! The least that a push to adbd takes: all frames are made before, and a bare loop of transfers sends them as adbd's window allows.

use std::fs;
use std::io;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use farmhand::adb::message::{
    Checksums, Command, Decoder, Framing, Header, Message, PAYLOAD_MAX, VERSION_SKIP_CHECKSUM,
};
use nusb::transfer::Buffer;

use crate::line::{Line, PATIENCE, TRANSFER_LEN, TRANSFERS, done};
use crate::race::{Race, same};
use crate::report::{Goal, median, report};

const ROUNDS: usize = 7;
/// Of a message that is full but for a few bytes: one whose length is a multiple of a packet's would want an empty packet behind it.
const PAYLOAD_LEN: usize = PAYLOAD_MAX - 24;
/// Bytes of a chunk in the sync protocol.
const CHUNK_LEN: usize = 64 << 10;
/// Bytes of a read, and how many are posted: what comes is small.
const READ_LEN: usize = 16 << 10;
const READS: usize = 4;

/// farmhand's whole process beside the floor, in turns, each on an adbd of its own.
pub(crate) fn measure(serial: &str, race: &Race) -> io::Result<()> {
    let content = race.make_file()?;
    let path = race.dir.join("floor");
    let sync = sync_stream(&path.display().to_string(), &content);
    let mut floor = Floor::connect(serial)?;
    let (mut times, mut floors) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        times.push(race.push_by_farmhand()?.as_secs_f64());
        floors.push(floor.push(&sync)?.as_secs_f64());
        same(&crate::race::sha256_of(&content), &path, "the floor")?;
        fs::remove_file(&path)?;
    }
    let (time, least) = (median(times), median(floors));
    let mb_s = |seconds: f64| content.len() as f64 / 1e6 / seconds;
    tell(&format!("push: farmhand {:.1} MB/s, floor {:.1} MB/s", mb_s(time), mb_s(least)));
    report("adb.usb_push_vs_floor", time / least, "ratio", Goal::AtMost(1.1))
}

#[allow(clippy::print_stdout, reason = "printing is what a bench is for")]
pub(crate) fn tell(what: &str) {
    println!("# {what}");
}

/// What a push says on its stream.
fn sync_stream(path: &str, content: &[u8]) -> Vec<u8> {
    let mut stream = Vec::with_capacity(content.len() + content.len() / CHUNK_LEN * 8 + 1024);
    let mut record = |word: &[u8; 4], number: usize, rest: &[u8]| {
        stream.extend_from_slice(word);
        stream.extend_from_slice(&u32::try_from(number).unwrap_or_default().to_le_bytes());
        stream.extend_from_slice(rest);
    };
    let target = format!("{path},33188");
    record(b"SEND", target.len(), target.as_bytes());
    for chunk in content.chunks(CHUNK_LEN) {
        record(b"DATA", chunk.len(), chunk);
    }
    record(b"DONE", 0, &[]);
    stream
}

struct Floor {
    line: Line,
    decoder: Decoder,
    came: Bytes,
    stream: u32,
}

impl Floor {
    fn connect(serial: &str) -> io::Result<Self> {
        let framing = Framing { payload_max: PAYLOAD_MAX, checksums: Checksums::Skipped };
        let line = Line::open(serial)?;
        let mut floor = Self { line, decoder: Decoder::aligned(framing), came: Bytes::new(), stream: 0 };
        let banner = Bytes::from_static(b"host::features=delayed_ack");
        let sums = Checksums::Verified;
        floor.send(&Message::new(Command::Connect, VERSION_SKIP_CHECKSUM, PAYLOAD_MAX as u32, banner, sums))?;
        floor.hear(Command::Connect)?;
        Ok(floor)
    }

    /// From OPEN to adbd's word that the file is written.
    fn push(&mut self, sync: &[u8]) -> io::Result<Duration> {
        self.stream += 1;
        let mut ready: Vec<Vec<Buffer>> = sync
            .chunks(PAYLOAD_LEN)
            .map(|payload| payload.chunks(TRANSFER_LEN).map(|part| part.to_vec().into()).collect())
            .collect();
        let lens: Vec<usize> = sync.chunks(PAYLOAD_LEN).map(<[u8]>::len).collect();
        let begun = Instant::now();
        let service = Bytes::from_static(b"sync:\0");
        self.send(&Message::new(Command::Open, self.stream, PAYLOAD_MAX as u32, service, Checksums::Skipped))?;
        let opened = self.hear(Command::Okay)?;
        let (remote, mut window) = (opened.header.arg0, acknowledged(&opened)?);
        for (parts, len) in ready.drain(..).zip(lens) {
            while window < len {
                window += acknowledged(&self.hear(Command::Okay)?)?;
            }
            window -= len;
            let payload_len = u32::try_from(len).map_err(io::Error::other)?;
            let header = Header { command: Command::Write, arg0: self.stream, arg1: remote, payload_len, checksum: 0 };
            self.submit(header.emit().to_vec().into())?;
            for part in parts {
                self.submit(part)?;
            }
        }
        let answer = self.hear(Command::Write)?;
        let took = begun.elapsed();
        self.line.flush()?;
        self.send(&Message::new(Command::Close, self.stream, remote, Bytes::new(), Checksums::Skipped))?;
        if answer.payload.starts_with(b"OKAY") {
            return Ok(took);
        }
        Err(io::Error::other(format!("adbd said {:?}", answer.payload)))
    }

    fn submit(&mut self, buffer: Buffer) -> io::Result<()> {
        // The header of the next message beside the payload of this one.
        if self.line.output.pending() > TRANSFERS {
            self.line.written()?;
        }
        self.line.output.submit(buffer);
        Ok(())
    }

    fn send(&mut self, message: &Message) -> io::Result<()> {
        self.submit(message.header.emit().to_vec().into())?;
        if !message.payload.is_empty() {
            self.submit(message.payload.to_vec().into())?;
        }
        self.line.flush()
    }

    /// The next message of this kind to the stream that is open; others are of streams before.
    fn hear(&mut self, wanted: Command) -> io::Result<Message> {
        loop {
            let message = self.next()?;
            let ours = wanted == Command::Connect || message.header.arg1 == self.stream;
            if ours && message.header.command == wanted {
                return Ok(message);
            }
            if ours && message.header.command == Command::Close {
                return Err(io::Error::other("adbd closed the stream"));
            }
        }
    }

    fn next(&mut self) -> io::Result<Message> {
        loop {
            while !self.came.is_empty() {
                let want = self.decoder.want().min(self.came.len());
                if let Some(message) = self.decoder.push(self.came.split_to(want)).map_err(io::Error::other)? {
                    return Ok(message);
                }
            }
            while self.line.input.pending() < READS {
                self.line.input.submit(Buffer::new(READ_LEN));
            }
            let read = done(self.line.input.wait_next_complete(PATIENCE))?;
            self.came = BytesMut::from(&read.buffer[..read.actual_len]).freeze();
        }
    }
}

/// How many bytes more adbd takes now.
fn acknowledged(okay: &Message) -> io::Result<usize> {
    let bytes = <[u8; 4]>::try_from(&okay.payload[..]).map_err(|_| io::Error::other("adbd has no delayed_ack"))?;
    usize::try_from(u32::from_le_bytes(bytes)).map_err(io::Error::other)
}
