//! Following a rollout until it is over, or until somebody must look at it: `--wait`, and what `watch` stands on.
//!
//! A daemon that restarts meanwhile is waited for: the rollout goes on where it was.

use std::time::{Duration, Instant};

use clap::Args;

use super::super::Heard;
use super::super::client::{Client, segment};
use super::super::failure::Failure;
use crate::rack::ids::RolloutId;
use crate::rack::snapshot::{RolloutPhoneState, RolloutState, RolloutView};

/// What `--help` says below the options of a command that waits.
pub(super) const EXIT_CODES: &str = "\
Exit codes of a wait, beside those of `farmhand --help`:
   0  finished, and every phone has the version
  10  finished, and some phones have not: they failed, need a hand, or were left out
  11  paused
  12  given up
  13  waits for an approval
  14  the time was over
  15  rolled back";

/// Every phone has the version.
const ALL_DONE: u8 = 0;
/// Some phones have not.
const SOME_DONE: u8 = 10;
const PAUSED: u8 = 11;
const ABORTED: u8 = 12;
const WAITS_FOR_APPROVAL: u8 = 13;
const TIME_IS_OVER: u8 = 14;
const ROLLED_BACK: u8 = 15;

/// How long one look waits for news, in seconds.
const NEWS_WITHIN_S: u64 = 20;
/// Between two looks, however much is new: no eye follows more. What changes between them is seen at the next one.
const SPACING: Duration = Duration::from_millis(100);
/// Between two tries at a daemon that is away.
const AWAY_SPACING: Duration = Duration::from_millis(500);
/// The longest that a daemon may be away meanwhile.
const AWAY_MAX: Duration = Duration::from_secs(120);

/// Whether a command waits for what it has begun.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct Wait {
    /// Wait until it is over, or until somebody must look at it; the exit code says which
    #[arg(long)]
    pub(super) wait: bool,
    /// Wait at most so long, such as 2h
    #[arg(long, value_name = "TIME", requires = "wait", value_parser = humantime::parse_duration)]
    pub(super) timeout: Option<Duration>,
}

/// Looks at a rollout whenever it has changed until it stands still, and gives what it came to. `show` is told of each look and may end it.
///
/// # Errors
/// The daemon is away for too long, or has no such rollout.
pub(super) async fn follow(
    client: &Client,
    id: &RolloutId,
    timeout: Option<Duration>,
    mut show: impl FnMut(&RolloutView) -> Heard,
) -> Result<u8, Failure> {
    let path = format!("/api/rollouts/{}", segment(id.as_str()));
    let (begin, mut answered, mut seen) = (Instant::now(), Instant::now(), None);
    loop {
        let left = timeout.map_or(NEWS_WITHIN_S, |timeout| timeout.saturating_sub(begin.elapsed()).as_secs());
        let path = format!("{path}?wait={}", left.min(NEWS_WITHIN_S));
        let mut spacing = SPACING;
        match client.read_news::<RolloutView>(&path, &mut seen).await {
            Ok(None) => answered = Instant::now(),
            Ok(Some(view)) => {
                answered = Instant::now();
                match show(&view) {
                    Heard::Yes => {}
                    Heard::NoMore => return Ok(ALL_DONE),
                    Heard::Failed => return Ok(1),
                }
                if let Some(code) = code_of(&view) {
                    return Ok(code);
                }
            }
            Err(away @ (Failure::NoDaemon { .. } | Failure::BrokenOff { .. } | Failure::Slow { .. })) => {
                if answered.elapsed() > AWAY_MAX {
                    return Err(away);
                }
                spacing = AWAY_SPACING;
            }
            Err(failure) => return Err(failure),
        }
        if timeout.is_some_and(|timeout| begin.elapsed() >= timeout) {
            return Ok(TIME_IS_OVER);
        }
        tokio::time::sleep(spacing).await;
    }
}

/// What a rollout that stands still came to; `None` while it goes on by itself.
fn code_of(view: &RolloutView) -> Option<u8> {
    let mut phones = view.waves.iter().flat_map(|wave| &wave.phones);
    match view.state {
        RolloutState::Finished if phones.all(|phone| phone.state == RolloutPhoneState::Done) => Some(ALL_DONE),
        RolloutState::Finished => Some(SOME_DONE),
        RolloutState::Paused => Some(PAUSED),
        RolloutState::Aborted => Some(ABORTED),
        RolloutState::WaitingApproval => Some(WAITS_FOR_APPROVAL),
        RolloutState::RolledBack => Some(ROLLED_BACK),
        RolloutState::Gathering | RolloutState::Fetching | RolloutState::Running | RolloutState::RollingBack => None,
    }
}
