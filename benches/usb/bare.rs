//! farmhand's engine and ADB on our own phone behind FunctionFS, beside a function whose endpoints only take and give bytes, in the same
//! transfers: what ADB costs on either side. As the bare function keeps and makes nothing, the phone is asked for a dry run, and what it
//! sends goes to /dev/null; beside it is told what it is with files at both ends.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use farmhand::adb::auth::KeyRing;
use farmhand::adb::driver::{Adb, ConnectOptions, connect};
use farmhand::adb::services::sync::{Fate, PullOptions, PushOptions, RemoteFile};
use farmhand::usb::{Bus, BusEvent};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::floor::tell;
use crate::line::Line;
use crate::race::{noise, same, sha256_of};
use crate::report::{Goal, median, report};

const ROUNDS: usize = 7;
const FILE_LEN: usize = 64 << 20;
/// Rounds with many at once, and what each of them is sent.
const ROUNDS_AT_ONCE: usize = 3;
const FILE_AT_ONCE_LEN: usize = 8 << 20;
/// Where phones keep what is pushed.
const TARGET: &str = "/data/local/tmp/bench";
/// Where a pull goes that nobody needs.
const NOWHERE: &str = "/dev/null";
/// From the start of the bus until all are there.
const PATIENCE: Duration = Duration::from_secs(60);

/// One phone and one bare function, in turns.
pub(crate) fn measure(own: &str, bare: &str, dir: &Path) -> io::Result<()> {
    let content = noise(FILE_LEN)?;
    let (file, pulled) = (dir.join("file"), dir.join("pulled"));
    fs::write(&file, &content)?;
    let sum = sha256_of(&content);
    let mut line = Line::open(bare)?;
    let phone = runtime()?;
    let adb = phone.block_on(phones(&[own]))?.remove(0);
    let [mut push, mut pull, mut bare_push, mut bare_pull, mut kept_push, mut kept_pull] = [const { Vec::new() }; 6];
    for _ in 0..ROUNDS {
        kept_push.push(timed(|| phone.block_on(push_file(&adb, &file, TARGET, Fate::Kept)))?);
        kept_pull.push(timed(|| phone.block_on(pull_file(&adb, &pulled)))?);
        same(&sum, &pulled, "the pull")?;
        fs::remove_file(&pulled)?;
        bare_push.push(timed(|| line.push(FILE_LEN))?);
        push.push(timed(|| phone.block_on(push_file(&adb, &file, TARGET, Fate::Discarded)))?);
        bare_pull.push(timed(|| line.pull(FILE_LEN))?);
        pull.push(timed(|| phone.block_on(pull_file(&adb, Path::new(NOWHERE))))?);
    }
    let all = [push, pull, bare_push, bare_pull, kept_push, kept_pull].map(median);
    let [push, pull, bare_push, bare_pull, ..] = all;
    let [mb_s_push, mb_s_pull, mb_s_bare_push, mb_s_bare_pull, mb_s_kept_push, mb_s_kept_pull] =
        all.map(|seconds| FILE_LEN as f64 / 1e6 / seconds);
    tell(&format!("push {mb_s_push:.1} MB/s, bare {mb_s_bare_push:.1} MB/s, into a file {mb_s_kept_push:.1} MB/s"));
    tell(&format!("pull {mb_s_pull:.1} MB/s, bare {mb_s_bare_pull:.1} MB/s, into a file {mb_s_kept_pull:.1} MB/s"));
    report("usb.push_vs_bare_async", bare_push / push, "ratio", Goal::AtLeast(0.9))?;
    report("usb.pull_vs_bare_async", bare_pull / pull, "ratio", Goal::AtLeast(0.9))
}

/// Sends to many at once, `own` phones or `bare` functions, and says how many MB a second all of them took.
pub(crate) fn at_once(what: &str, dir: &Path, serials: &[&str]) -> io::Result<()> {
    let times = if what == "own" { own_at_once(dir, serials)? } else { bare_at_once(serials)? };
    let bytes = (FILE_AT_ONCE_LEN * serials.len()) as f64;
    tell(&format!("at_once {what} {} MB/s {:.2}", serials.len(), bytes / 1e6 / median(times)));
    Ok(())
}

/// Sends a file to `to` on all phones at once, and says how long that took.
pub(crate) fn pushes(file: &Path, to: &str, serials: &[&str]) -> io::Result<()> {
    let runtime = runtime()?;
    let phones = runtime.block_on(phones(serials))?;
    let took = timed(|| runtime.block_on(push_to_all(&phones, file, to, Fate::Kept)))?;
    tell(&format!("pushes to {}: {took:.3} s", phones.len()));
    Ok(())
}

fn own_at_once(dir: &Path, serials: &[&str]) -> io::Result<Vec<f64>> {
    let (content, file) = (noise(FILE_AT_ONCE_LEN)?, dir.join("file"));
    fs::write(&file, &content)?;
    let runtime = runtime()?;
    let phones = runtime.block_on(phones(serials))?;
    let round = || runtime.block_on(push_to_all(&phones, &file, TARGET, Fate::Discarded));
    let times = (0..ROUNDS_AT_ONCE).map(|_| timed(round)).collect::<io::Result<Vec<_>>>()?;
    let kept = timed(|| runtime.block_on(push_to_all(&phones, &file, TARGET, Fate::Kept)))?;
    tell(&format!("into {} files: {:.1} MB/s", phones.len(), (FILE_AT_ONCE_LEN * phones.len()) as f64 / 1e6 / kept));
    let (sum, pulled) = (sha256_of(&content), dir.join("pulled"));
    for adb in &phones {
        runtime.block_on(pull_file(adb, &pulled))?;
        same(&sum, &pulled, "a pull")?;
    }
    Ok(times)
}

async fn push_to_all(phones: &[Adb], file: &Path, to: &str, fate: Fate) -> io::Result<()> {
    let mut pushes = JoinSet::new();
    for adb in phones {
        let (adb, file, to) = (adb.clone(), file.to_owned(), to.to_owned());
        pushes.spawn(async move { push_file(&adb, &file, &to, fate).await });
    }
    while let Some(push) = pushes.join_next().await {
        push.map_err(io::Error::other)??;
    }
    Ok(())
}

fn bare_at_once(serials: &[&str]) -> io::Result<Vec<f64>> {
    let mut lines = serials.iter().map(|serial| Line::open(serial)).collect::<io::Result<Vec<_>>>()?;
    let mut round = || {
        std::thread::scope(|scope| {
            let pushes: Vec<_> = lines.iter_mut().map(|line| scope.spawn(|| line.push(FILE_AT_ONCE_LEN))).collect();
            pushes.into_iter().try_for_each(|push| push.join().expect("the pushing thread"))
        })
    };
    (0..ROUNDS_AT_ONCE).map(|_| timed(&mut round)).collect()
}

/// As the daemon: one thread for all tasks.
fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

/// Connections with these phones.
async fn phones(serials: &[&str]) -> io::Result<Vec<Adb>> {
    let home = std::env::var_os("HOME").ok_or_else(|| io::Error::other("HOME is not set"))?;
    let keys = Arc::new(KeyRing::load_or_create(&Path::new(&home).join(".android")).map_err(io::Error::other)?);
    let (bus, mut events) = Bus::start(CancellationToken::new()).map_err(io::Error::other)?;
    let mut phones = Vec::new();
    let all = async {
        while phones.len() < serials.len() {
            let Some(event) = events.recv().await else { return Err(io::Error::other("the bus has ended")) };
            let BusEvent::Arrived(handset) = event else { continue };
            if handset.serial.is_some_and(|serial| serials.contains(&serial.as_str())) {
                let transport = bus.open(&handset.path).await.map_err(io::Error::other)?;
                let options = ConnectOptions::default();
                phones.push(connect(transport, Arc::clone(&keys), options).await.map_err(io::Error::other)?);
            }
        }
        Ok(())
    };
    tokio::time::timeout(PATIENCE, all).await??;
    Ok(phones)
}

async fn push_file(adb: &Adb, file: &Path, to: &str, fate: Fate) -> io::Result<u64> {
    let to = RemoteFile { path: to.to_owned(), mode: 0o644, mtime_s: 0 };
    let options = PushOptions { fate, ..PushOptions::default() };
    adb.push(File::open(file)?, &to, &options).await.map_err(io::Error::other)
}

async fn pull_file(adb: &Adb, to: &Path) -> io::Result<()> {
    let into = Arc::new(File::create(to)?);
    adb.pull(TARGET, into, &PullOptions::default()).await.map(drop).map_err(io::Error::other)
}

fn timed<T>(work: impl FnOnce() -> io::Result<T>) -> io::Result<f64> {
    let begun = Instant::now();
    work()?;
    Ok(begun.elapsed().as_secs_f64())
}
