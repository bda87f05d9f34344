//! How many notices a second the outbox makes durable, and what it writes for each from storing to removal: `make bench ONLY=outbox`.
//!
//! Sixty-four lines store full blocks of notices of 1 KiB at once, on the disk that cargo builds on, with every fsync. What is written is
//! what the process gave to `write` (`wchar` of `/proc/self/io`), journal and checkpoints included: no less than what reaches the disk.

#![allow(clippy::expect_used, clippy::panic, reason = "a bench that cannot measure must say so and stop")]

#[path = "report.rs"]
mod report;

use std::time::{Duration, Instant};
use std::{fs, io};

use bytes::Bytes;
use farmhand::store::StateDir;
use farmhand::store::outbox::{Answer, Ask, BLOCK_NOTICES_MAX, Limits, Notice, Outbox, Request, Write, Written};
use report::{Goal, report, target};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

const PHONES: usize = 64;
const BLOCKS: usize = 40;
const NOTICE_LEN: usize = 1024;

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    fs::create_dir_all(target())?;
    let dir = tempfile::tempdir_in(target())?;
    let state = StateDir::lock(dir.path()).expect("the directory is new");
    let limits = Limits { bytes: 4 << 30, age: Duration::from_secs(3600) };
    let outbox = Outbox::start(&state, None, limits)?;
    let total = PHONES * BLOCKS * BLOCK_NOTICES_MAX;

    let (before, began) = (written()?, Instant::now());
    let mut lines = JoinSet::new();
    for phone in 0..PHONES {
        lines.spawn(store(outbox.clone(), phone));
    }
    while lines.join_next().await.is_some() {}
    let seconds = began.elapsed().as_secs_f64();
    for phone in 0..PHONES {
        lines.spawn(take(outbox.clone(), phone));
    }
    while lines.join_next().await.is_some() {}
    let ratio = (written()? - before) as f64 / (total * NOTICE_LEN) as f64;

    report("outbox.notices_per_s", total as f64 / seconds, "1/s", Goal::AtLeast(5000.0))?;
    report("outbox.bytes_written_per_notice", ratio, "ratio", Goal::AtMost(6.0))
}

/// One line's notices, a block at a time, each once the one before is durable.
async fn store(outbox: Outbox, phone: usize) {
    let mut line = Line::new(outbox, phone);
    for block in 0..BLOCKS {
        let first = (block * BLOCK_NOTICES_MAX) as u64;
        // No two alike, and nothing that a disk could make smaller.
        let notice = |number: usize| {
            let mut state = (phone * BLOCKS + block) as u64 * 1000 + number as u64 + 1;
            let mut next = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (state >> 56) as u8
            };
            let envelope: Vec<u8> = (0..NOTICE_LEN).map(|_| next()).collect();
            Notice { msg_type: 1024, reference: 0, envelope: Bytes::from(envelope) }
        };
        let store = (0..BLOCK_NOTICES_MAX).map(notice).collect();
        line.write(Write { taken: 0, first, store, refused: Vec::new() }).await;
    }
}

/// All of it is taken, half a window at a time, as a line writes it down.
async fn take(outbox: Outbox, phone: usize) {
    let mut line = Line::new(outbox, phone);
    let end = (BLOCKS * BLOCK_NOTICES_MAX) as u64;
    for taken in (1..=end).filter(|taken| taken % (BLOCK_NOTICES_MAX as u64 / 2) == 0) {
        line.write(Write { taken, first: end, ..Write::default() }).await;
    }
}

struct Line {
    outbox: Outbox,
    owner: String,
    to: mpsc::Sender<farmhand::store::outbox::Reply>,
    answers: mpsc::Receiver<farmhand::store::outbox::Reply>,
}

impl Line {
    fn new(outbox: Outbox, phone: usize) -> Self {
        let (to, answers) = mpsc::channel(1);
        Self { outbox, owner: format!("P{phone}"), to, answers }
    }

    async fn write(&mut self, write: Write) {
        let request = Request { owner: self.owner.clone(), ask: Ask::Write(write) };
        self.outbox.ask(request, self.to.clone()).await;
        let answer = self.answers.recv().await.expect("the outbox answers").1;
        assert!(matches!(answer, Answer::Written(Written::All(_))), "{answer:?}");
    }
}

/// Bytes that this process has given to `write`.
fn written() -> io::Result<u64> {
    let text = fs::read_to_string("/proc/self/io")?;
    let line = text.lines().find_map(|line| line.strip_prefix("wchar: "));
    line.and_then(|number| number.trim().parse().ok()).ok_or_else(|| io::ErrorKind::InvalidData.into())
}
