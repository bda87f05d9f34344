//! The frame and envelope codec on one thread: how many frames a second, and whether any of them costs an allocation.

#![allow(clippy::expect_used, clippy::panic, reason = "a bench that cannot measure must say so and stop")]

#[path = "report.rs"]
mod report;

use std::alloc::System;
use std::hint::black_box;
use std::io;
use std::time::{Duration, Instant};

use bytes::{Buf, BytesMut};
use farmhand::central::envelope::{Body, Envelope, View};
use farmhand::central::frame::{self, HEADER, MAX_FRAME_DEFAULT, Split};
use report::{Goal, median, report};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tokio_util::codec::{Decoder, LengthDelimitedCodec};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const RUNS: usize = 15;
const PAIRS: usize = 101;
const LONG: usize = 64 * 1024;
/// As much as one read from a busy socket gives.
const CHUNK: usize = 16 * 1024;

fn main() -> io::Result<()> {
    let short = frames(200, 20_000);
    let allocations = Region::new(ALLOCATOR);
    let mut buffer = BytesMut::from(&short[..]);
    let before = allocations.change().allocations;
    let seen = view_all(&mut buffer);
    let after = allocations.change().allocations;
    assert_eq!(seen, 20_000);

    let speeds = (0..RUNS).map(|_| {
        let mut buffer = BytesMut::from(&short[..]);
        let begin = Instant::now();
        let seen = view_all(&mut buffer);
        f64::from(seen) / begin.elapsed().as_secs_f64()
    });
    report("codec.frames_200b", median(speeds.collect()), "/s", Goal::AtLeast(2_000_000.0))?;
    let each = (after - before) as f64 / f64::from(seen);
    report("codec.allocs_per_frame", each, "allocations", Goal::AtMost(0.0))?;

    let long = frames(LONG, 128);
    let ratios = (0..PAIRS).map(|pair| {
        // Whoever goes first in a pair finds other pages in the cache: they take turns.
        let (ours, theirs) = if pair % 2 == 0 {
            let ours = split_all(&long);
            (ours, length_delimited(&long))
        } else {
            let theirs = length_delimited(&long);
            (split_all(&long), theirs)
        };
        theirs.as_secs_f64() / ours.as_secs_f64()
    });
    let ratio = median(ratios.collect());
    report("codec.frames_64k_vs_length_delimited", ratio, "ratio", Goal::AtLeast(0.95))
}

/// `count` frames of TalkToFriendTaskResultNotice, each with an envelope of `length` bytes.
fn frames(length: usize, count: usize) -> Vec<u8> {
    let content = vec![0x2a; length];
    let envelope = |value| {
        let body = Body { type_name: "Jubo.JuLiao.IM.Wx.Proto.TalkToFriendTaskResultNoticeMessage", value };
        Envelope { id: 123_456, access_token: "0123456789abcdef", msg_type: 1028, body: Some(body), ref_message_id: 99 }
    };
    let fitting = (0..length).find(|cut| envelope(&content[*cut..]).encoded_len() == length);
    let frame = envelope(&content[fitting.expect("an envelope of this length")..]).frame().expect("a frame");
    assert_eq!(frame.len(), HEADER + length);
    frame.repeat(count)
}

/// What a line does with what it read: a view of each frame, nothing kept.
fn view_all(buffer: &mut BytesMut) -> u32 {
    let mut seen = 0;
    while let Ok(Split::Frame { payload, consumed }) = frame::split(buffer, MAX_FRAME_DEFAULT) {
        let view = View::parse(payload).expect("an envelope");
        black_box((view.id, view.msg_type, view.body()));
        buffer.advance(consumed);
        seen += 1;
    }
    seen
}

/// Bytes come in chunks, frames are looked at in the buffer: as a line does it.
fn split_all(wire: &[u8]) -> Duration {
    let (mut buffer, mut seen) = (BytesMut::new(), 0);
    let begin = Instant::now();
    for chunk in wire.chunks(CHUNK) {
        buffer.extend_from_slice(chunk);
        while let Split::Frame { payload, consumed } = frame::split(&buffer, MAX_FRAME_DEFAULT).expect("frames") {
            seen += black_box(payload).len();
            buffer.advance(consumed);
        }
    }
    let took = begin.elapsed();
    assert_eq!(seen, wire.len() - wire.len() / (HEADER + LONG) * HEADER, "every frame came out");
    took
}

/// The same by tokio-util's codec.
fn length_delimited(wire: &[u8]) -> Duration {
    let mut codec = LengthDelimitedCodec::builder().max_frame_length(MAX_FRAME_DEFAULT).new_codec();
    let (mut buffer, mut seen) = (BytesMut::new(), 0);
    let begin = Instant::now();
    for chunk in wire.chunks(CHUNK) {
        buffer.extend_from_slice(chunk);
        while let Some(frame) = codec.decode(&mut buffer).expect("frames") {
            seen += black_box(frame).len();
        }
    }
    let took = begin.elapsed();
    assert_eq!(seen, wire.len() - wire.len() / (HEADER + LONG) * HEADER, "every frame came out");
    took
}
