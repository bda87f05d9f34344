//! What becomes of a failure, by its class.

use std::time::{Duration, Instant};

use farmhand::rack::snapshot::RolloutState;

use super::yard::{DONE_WITHIN, Setup, Yard, said};
use super::{Place, unwritten};
use crate::check::{Miss, miss, until};

/// Its points.
pub(super) const POINTS: &[&str] = &[
    "failure.transient",
    "failure.retries_end",
    "failure.permanent",
    "failure.needs_hand",
    "failure.deadline",
    "max_failures.count",
    "max_failures.share",
];

/// What may pass: the phone's storage was full.
const PASSING: &str = "install-fails:INSTALL_FAILED_INSUFFICIENT_STORAGE";
/// What doesn't.
const LASTING: &str = "install-fails:INSTALL_FAILED_NO_MATCHING_ABIS";
/// The first retry comes after half a minute.
const RETRIED_AFTER: Duration = Duration::from_secs(29);
const RETRIED_WITHIN: Duration = Duration::from_secs(90);

pub(super) async fn look(point: &str, place: &Place) -> Result<String, Miss> {
    match point {
        "failure.transient" => transient(place).await,
        "failure.retries_end" => retries_end(place).await,
        "failure.permanent" => permanent(place).await,
        "failure.needs_hand" => needs_hand(place).await,
        "failure.deadline" => deadline(place).await,
        "max_failures.count" => count(place).await,
        "max_failures.share" => share(place).await,
        other => unwritten(other),
    }
}

/// It is tried again by itself, after half a minute.
async fn transient(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, Setup::of(1).fault(1, PASSING)).await?;
    yard.begin("agent-2.apk", &[]).await?;
    failed_once(&yard, "A1").await?;
    let began = Instant::now();
    yard.phone("A1")?.clear_faults();
    let row = yard.row_becomes("R1", "A1", "done", RETRIED_WITHIN).await?;
    let waited = began.elapsed();
    yard.wait_for("R1", 0).await?;
    match (row.attempts, waited >= RETRIED_AFTER) {
        (2, true) => yard.stop(format!("tried again after {:.0} s, and done", waited.as_secs_f64())).await,
        other => Err(miss("2 attempts, half a minute apart", format!("{other:?} after {waited:?}"))),
    }
}

async fn failed_once(yard: &Yard, slot: &str) -> Result<(), Miss> {
    until(DONE_WITHIN, &format!("a failed install on {slot}"), async || {
        match yard.seen(slot).map_err(|miss| miss.to_string())?.installs_failed {
            0 => Err("none".to_owned()),
            _ => Ok(()),
        }
    })
    .await
}

async fn retries_end(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, Setup::of(2).fault(1, PASSING)).await?;
    yard.begin("agent-2.apk", &["--retries", "1", "--waves", "100%"]).await?;
    let row = yard.row_becomes("R1", "A1", "failed", RETRIED_WITHIN).await?;
    yard.wait_for("R1", 11).await?;
    let failed = yard.seen("A1")?.installs_failed;
    match (row.attempts, failed) {
        (2, 2) => {
            yard.stop(format!("--retries 1: failed for good after 2 attempts: {}", row.why.unwrap_or_default())).await
        }
        other => Err(miss("2 attempts", format!("{other:?}"))),
    }
}

/// It counts at once, and stops the rollout before the next wave.
async fn permanent(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, Setup::of(3).fault(1, LASTING)).await?;
    yard.begin("agent-2.apk", &["--waves", "1,100%"]).await?;
    yard.wait_for("R1", 11).await?;
    yard.expect_versions("A1 A2 A3 on 1")?;
    let row = yard.row("R1", "A1").await.map_err(|why| miss("A1", why))?;
    if (row.state.as_str(), row.attempts) != ("failed", 1) {
        return Err(miss("A1 failed after 1 attempt", format!("{row:?}")));
    }
    let shown = yard.tell(&["rollout", "show", "R1"]).await?;
    let why = said(&shown, &["paused", "INSTALL_FAILED_NO_MATCHING_ABIS"])?;
    yard.stop(why).await
}

/// It counts for nobody, the others go on, and the list says what to do, in the order of the slots.
async fn needs_hand(place: &Place) -> Result<String, Miss> {
    let hand = "install-fails:INSTALL_FAILED_USER_RESTRICTED";
    let setup = Setup::of(4).fault(1, hand).fault(3, hand);
    let yard = Yard::start(place, setup).await?;
    yard.begin("agent-2.apk", &["--waves", "100%"]).await?;
    yard.wait_for("R1", 10).await?;
    yard.expect_versions("A1 A3 on 1, A2 A4 on 2")?;
    let rows = yard.rows("R1").await.map_err(|why| miss("rows", why))?;
    let hands = rows.iter().filter(|row| row.state == "needs_hand");
    let list =
        hands.map(|row| format!("{}: {}", row.slot.as_deref().unwrap_or("?"), row.why.as_deref().unwrap_or("?")));
    let list: Vec<String> = list.collect();
    let shown = yard.tell(&["rollout", "show", "R1"]).await?;
    said(&shown, &["2 phones on version 2", "need a hand"])?;
    let places = ["A1", "A3"].map(|slot| shown.find(slot));
    match (list.as_slice(), places) {
        ([a, b], [Some(first), Some(second)]) if a.starts_with("A1") && b.starts_with("A3") && first < second => {
            yard.stop(list.join("; ")).await
        }
        _ => Err(miss("A1 and A3 need a hand, in this order", format!("{list:?}"))),
    }
}

/// An install without result within its time has failed.
async fn deadline(place: &Place) -> Result<String, Miss> {
    let setup = Setup::of(1).fault(1, "install-takes:600000").config("[rollout]\ninstall_timeout_s = 3");
    let yard = Yard::start(place, setup).await?;
    yard.begin("agent-2.apk", &["--retries", "0"]).await?;
    let row = yard.row_becomes("R1", "A1", "failed", RETRIED_WITHIN).await?;
    yard.wait_for("R1", 11).await?;
    yard.stop(said(&row.why.unwrap_or_default(), &["3 s"])?).await
}

/// One failure more than allowed pauses it; as many as allowed don't.
async fn count(place: &Place) -> Result<String, Miss> {
    let setup = Setup::of(4).fault(1, LASTING).fault(3, LASTING);
    let yard = Yard::start(place, setup).await?;
    yard.begin("agent-2.apk", &["--waves", "2,1,100%", "--max-failures", "1"]).await?;
    let why = yard.becomes("R1", RolloutState::Paused).await?;
    yard.expect_versions("A1 A3 A4 on 1, A2 on 2")?;
    yard.stop(format!("--max-failures 1: it went on after one failure and stopped at the second: {why}")).await
}

async fn share(place: &Place) -> Result<String, Miss> {
    let setup = Setup::of(4).fault(1, LASTING);
    let yard = Yard::start(place, setup).await?;
    yard.begin("agent-2.apk", &["--waves", "2,100%", "--max-failures", "25%"]).await?;
    yard.wait_for("R1", 10).await?;
    yard.expect_versions("A1 on 1, A2 A3 A4 on 2")?;
    yard.stop("--max-failures 25%: one of four may fail, and the others got it".to_owned()).await
}
