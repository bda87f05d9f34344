//! What a rack of 32 phones costs while nothing happens: threads, wakeups, and what a probe adds.
//!
//! ```text
//!     32 phones ready ── only probes ──────────────────────┬── the first profile is read again
//!                        windows with a probe, and without ┘
//! ```
//!
//! Nobody asks the daemon anything while it is counted. That only probes ran is no guess: the daemon counts the answers to its own
//! questions, before and after. On a machine that is so busy that the time between the two is too short for that, the daemon is
//! started anew among the phones that are there, and counted again, some times.

use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::check::{Failure, result};
use crate::daemon::{Answers, Daemon, Wakeups};

/// After the last phone is ready: the threads that opened them have ended.
const QUIET_AFTER: Duration = Duration::from_secs(12);
/// After the last phone is ready, until what was made of that is over.
const SETTLED_AFTER: Duration = Duration::from_secs(2);
/// The daemon reads no profile again before this is over since the last time: a minute, less a fifth.
const READ_AGAIN_MIN: Duration = Duration::from_secs(48);
/// How long wakeups are counted at most; each phone has a probe by then.
const COUNTED_MAX: Duration = Duration::from_secs(36);
/// How often it is counted until the figures can be believed.
const COUNTS_MAX: usize = 4;
/// How many probes must have been counted: the figure is a mean.
const PROBES_MIN: u64 = 10;
/// In how short windows: 32 phones have a probe each second, so that most of these have none.
const WINDOW: Duration = Duration::from_millis(200);
/// The thread that wakes when there is something from the bus.
const BUS_THREAD: &str = "usb-events";

/// Counts, right after all phones have become ready; `all_ready` waits for that.
pub(crate) fn quiet(
    daemon: &mut Daemon,
    threads_before: usize,
    all_ready: impl Fn(&Daemon) -> Result<(), Failure>,
) -> Result<String, Failure> {
    let mut told = tell(daemon, threads_before);
    for _ in 1..COUNTS_MAX {
        let Err(why) = &told else { break };
        println!("counting again, since {why}");
        daemon.restart()?;
        all_ready(daemon)?;
        told = tell(daemon, threads_before);
    }
    let (threads, said) = told?;
    if threads <= 2 { Ok(said) } else { Err(said.into()) }
}

/// Prints the figures, if they can be believed; gives how many threads there are more, and all that was seen.
fn tell(daemon: &Daemon, threads_before: usize) -> Result<(usize, String), Failure> {
    let ready = Instant::now();
    let (before, since_first) = daemon.answers()?;
    let until = ready + READ_AGAIN_MIN.saturating_sub(since_first + WINDOW).min(COUNTED_MAX);
    sleep(SETTLED_AFTER);
    let count = Count::until(daemon, until)?;
    let (after, _) = daemon.answers()?;
    sleep(QUIET_AFTER.saturating_sub(ready.elapsed()));
    let threads = daemon.threads()?.saturating_sub(threads_before);
    let said = count.tell(before, after)?;
    result("usb.threads_32_phones", threads, "threads", "<= 2");
    Ok((threads, format!("{threads} threads more; {said}")))
}

/// How often the daemon's threads were woken.
struct Count {
    counted: Duration,
    all: Wakeups,
    /// In windows that are far from anything on the bus.
    idle: Wakeups,
    idle_windows: u32,
}

impl Count {
    fn until(daemon: &Daemon, until: Instant) -> Result<Self, Failure> {
        let mut windows = Vec::new();
        let start = Instant::now();
        let mut before = daemon.wakeups()?;
        while Instant::now() < until {
            sleep(WINDOW);
            let after = daemon.wakeups()?;
            windows.push(woken(&before, &after));
            before = after;
        }
        let counted = start.elapsed();
        // A question begins before it is on the bus, and what follows from its answer ends after that.
        let quiet = windows.windows(3).filter(|near| near.iter().all(is_quiet)).map(|near| &near[1]);
        Ok(Self { counted, all: sum(&windows), idle_windows: u32::try_from(quiet.clone().count())?, idle: sum(quiet) })
    }

    /// The figures, if they can be believed.
    fn tell(&self, before: Answers, after: Answers) -> Result<String, Failure> {
        let probes = after.probes - before.probes;
        if after.readings != before.readings || after.failed != before.failed {
            return Err(format!("not only probes were answered: {before:?} became {after:?}").into());
        }
        if probes < PROBES_MIN || self.idle_windows == 0 {
            let seconds = self.counted.as_secs();
            return Err(format!("{probes} probes and {} idle windows in {seconds} s", self.idle_windows).into());
        }
        let idle = total(&self.idle) / (WINDOW * self.idle_windows).as_secs_f64();
        let of_probes = |all: f64, idle: f64| (all - idle * self.counted.as_secs_f64()).max(0.0) / probes as f64;
        let per_probe = of_probes(total(&self.all), idle);
        result("usb.wakeups_per_s_32_idle", format!("{idle:.2}"), "1/s", "<= 2");
        result("usb.wakeups_per_probe", format!("{per_probe:.2}"), "wakeups", "<= 8");
        Ok(format!(
            "{idle:.2} wakeups/s in {} idle windows ({}), {per_probe:.2} a probe ({probes} in {:.0} s: {})",
            self.idle_windows,
            threads(&self.idle),
            self.counted.as_secs_f64(),
            threads(&self.all),
        ))
    }
}

/// How often each thread was woken between two looks.
fn woken(before: &Wakeups, after: &Wakeups) -> Wakeups {
    let since = |(thread, count): (&String, &u64)| (thread.clone(), count - before.get(thread).unwrap_or(&0));
    after.iter().map(since).collect()
}

/// Whether there was nothing from the bus.
fn is_quiet(woken: &Wakeups) -> bool {
    woken.iter().all(|(thread, times)| *times == 0 || !thread.starts_with(BUS_THREAD))
}

fn sum<'a>(windows: impl IntoIterator<Item = &'a Wakeups>) -> Wakeups {
    let mut sum = Wakeups::new();
    for (thread, times) in windows.into_iter().flatten() {
        *sum.entry(thread.clone()).or_default() += times;
    }
    sum
}

fn total(wakeups: &Wakeups) -> f64 {
    wakeups.values().sum::<u64>() as f64
}

fn threads(wakeups: &Wakeups) -> String {
    let woken = wakeups.iter().filter(|(_, times)| **times > 0);
    woken.map(|(thread, times)| format!("{thread}: {times}")).collect::<Vec<_>>().join(", ")
}
