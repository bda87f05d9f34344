//! The check of a large APK, as a rollout does it, against SHA-256 alone over the same bytes.

#![allow(clippy::expect_used, clippy::panic, reason = "a bench that cannot measure must say so and stop")]
#![allow(clippy::print_stdout, reason = "printing is what a bench is for")]

#[path = "apk/large.rs"]
mod large;
#[path = "report.rs"]
mod report;

use std::hint::black_box;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};

use farmhand::agent::apk::{Expectation, check_stored};
use farmhand::rack::ids::PackageName;
use report::{Goal, median, report};
use sha2::{Digest, Sha256};

/// Bytes of what the APK carries.
const LEN: usize = 64 << 20;
const PAIRS: usize = 15;

fn main() -> io::Result<()> {
    let dir = tempfile::tempdir()?;
    let stored = large::signed(dir.path(), LEN)?;
    let expected = Expectation {
        package: PackageName::new("org.example.agent"),
        signers: Vec::new(),
        version_code: None,
        version_name: None,
        installed: None,
    };
    let ours = || {
        let begin = Instant::now();
        black_box(check_stored(&stored, &expected)).expect("a good APK");
        begin.elapsed()
    };
    let theirs = || sha256_alone(&stored.path).expect("the file can be read");
    let mut times = Vec::new();
    let ratios = (0..PAIRS).map(|pair| {
        let (ours, theirs) = if pair % 2 == 0 {
            let ours = ours();
            (ours, theirs())
        } else {
            let theirs = theirs();
            (ours(), theirs)
        };
        times.push(stored.size as f64 / 1e6 / ours.as_secs_f64());
        theirs.as_secs_f64() / ours.as_secs_f64()
    });
    let ratio = median(ratios.collect());
    println!("{:.0} MB/s checked", median(times));
    report("apk.verify_mb_s", ratio, "of sha256", Goal::AtLeast(0.8))
}

/// One thread that reads and digests.
fn sha256_alone(path: &Path) -> io::Result<Duration> {
    let begin = Instant::now();
    let file = std::fs::File::open(path)?;
    let mut buffer = vec![0; 1024 * 1024];
    let (mut hasher, mut at) = (Sha256::new(), 0);
    loop {
        let len = file.read_at(&mut buffer, at)?;
        if len == 0 {
            black_box(hasher.finalize());
            return Ok(begin.elapsed());
        }
        hasher.update(&buffer[..len]);
        at += len as u64;
    }
}
