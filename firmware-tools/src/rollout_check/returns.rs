//! Phones that are away, come late, are held, or were left in the middle of an install.

use std::time::{Duration, Instant};

use farmhand::adb::services::install::SESSION_MARK;
use farmhand::rollout::plan::PARK_AFTER;

use super::yard::{DONE_WITHIN, Setup, Yard, said};
use super::{Place, unwritten};
use crate::check::{Miss, miss, until};

/// Its points.
pub(super) const POINTS: &[&str] = &[LONG, "close_after", "parked", "dynamic", "static", "leased", "leftovers_removed"];

/// It takes longer than all others.
pub(super) const LONG: &str = "parked_after_ten_minutes";
/// The shortest time for which a rollout waits for who is away, and what it may be late.
const CLOSED_WITHIN: Duration = Duration::from_secs(120);

pub(super) async fn look(point: &str, place: &Place) -> Result<String, Miss> {
    match point {
        LONG => parked_later(place).await,
        "parked" => parked(place).await,
        "close_after" => close_after(place).await,
        "dynamic" => dynamic(place).await,
        "static" => fixed(place).await,
        "leased" => leased(place).await,
        "leftovers_removed" => leftovers(place).await,
        other => unwritten(other),
    }
}

/// It counts neither way, and has its turn once it is back.
async fn parked(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, Setup::of(2)).await?;
    yard.unplug("A2").await?;
    yard.begin("agent-2.apk", &[]).await?;
    yard.row_becomes("R1", "A1", "done", DONE_WITHIN).await?;
    yard.row_becomes("R1", "A2", "parked", DONE_WITHIN).await?;
    yard.expect_versions("A1 on 2, A2 on 1")?;
    yard.plug("A2").await?;
    yard.wait_for("R1", 0).await?;
    yard.expect_versions("A1 A2 on 2")?;
    yard.stop("A2 was parked while away, and had its turn when it was back".to_owned()).await
}

/// A phone that leaves when the rollout has begun is waited for ten minutes, and then picked up when it is back.
async fn parked_later(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, Setup::of(3).fault(1, "asks-before-install")).await?;
    yard.begin("agent-2.apk", &["--waves", "1,100%"]).await?;
    yard.asks("A1").await?;
    let away = Instant::now();
    yard.unplug("A3").await?;
    yard.phone("A1")?.tap(crate::phone::Tap::Allow);
    yard.row_becomes("R1", "A2", "done", DONE_WITHIN).await?;
    if yard.row("R1", "A3").await.map_err(|why| miss("a row of A3", why))?.state != "waiting" {
        return Err(miss("A3 waited for", "another state"));
    }
    yard.row_becomes("R1", "A3", "parked", PARK_AFTER + DONE_WITHIN).await?;
    let waited = away.elapsed();
    if waited < PARK_AFTER {
        return Err(miss("ten minutes of waiting", format!("{waited:?}")));
    }
    yard.expect_versions("A1 A2 on 2, A3 on 1")?;
    yard.plug("A3").await?;
    yard.wait_for("R1", 0).await?;
    yard.expect_versions("A1 A2 A3 on 2")?;
    yard.stop(format!("A3 was parked after {} s, and had its turn when it was back", waited.as_secs())).await
}

async fn close_after(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, Setup::of(2)).await?;
    yard.unplug("A2").await?;
    yard.begin("agent-2.apk", &["--close-after", "60s"]).await?;
    yard.row_becomes("R1", "A2", "parked", DONE_WITHIN).await?;
    let row = yard.row_becomes("R1", "A2", "skipped", CLOSED_WITHIN).await?;
    yard.wait_for("R1", 10).await?;
    yard.plug("A2").await?;
    yard.ready(&["A2"]).await?;
    yard.expect_versions("A1 on 2, A2 on 1")?;
    yard.stop(row.why.unwrap_or_default()).await
}

/// A phone that appears meanwhile joins the last wave.
async fn dynamic(place: &Place) -> Result<String, Miss> {
    let yard = late(place, &[]).await?;
    yard.row_becomes("R1", "A2", "done", DONE_WITHIN).await?;
    yard.phone("A1")?.tap(crate::phone::Tap::Allow);
    yard.wait_for("R1", 0).await?;
    yard.expect_versions("A1 A2 on 2")?;
    yard.stop("A2, known to nobody before, joined the last wave".to_owned()).await
}

async fn fixed(place: &Place) -> Result<String, Miss> {
    let yard = late(place, &["--static"]).await?;
    yard.phone("A1")?.tap(crate::phone::Tap::Allow);
    yard.wait_for("R1", 0).await?;
    yard.expect_versions("A1 on 2, A2 on 1")?;
    yard.stop("A2, which came later, did not get it".to_owned()).await
}

/// A rollout that is under way on A1 when A2 comes for the first time.
async fn late(place: &Place, words: &[&str]) -> Result<Yard, Miss> {
    let away = "packages = [\"agent-1.apk\"]\nfaults = [\"stalls\"]";
    let yard = Yard::start_unready(place, Setup::of(2).fault(1, "asks-before-install").phone(2, away)).await?;
    yard.ready(&["A1"]).await?;
    yard.begin("agent-2.apk", &[&["--waves", "100%"], words].concat()).await?;
    yard.asks("A1").await?;
    yard.phone("A2")?.clear_faults();
    yard.unplug("A2").await?;
    yard.plug("A2").await?;
    yard.ready(&["A2"]).await?;
    Ok(yard)
}

/// A phone that somebody holds is waited for, and the rollout says for whom.
async fn leased(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, Setup::of(2)).await?;
    yard.tell(&["phone", "A2", "hold", "--for", "1h", "--reason", "the screen is changed"]).await?;
    yard.begin("agent-2.apk", &["--waves", "100%"]).await?;
    yard.row_becomes("R1", "A1", "done", DONE_WITHIN).await?;
    let why = until(DONE_WITHIN, "A2 to wait for who holds it", async || {
        let row = yard.row("R1", "A2").await?;
        let why = row.why.unwrap_or_default();
        let waits =
            matches!(row.state.as_str(), "waiting" | "parked") && why.contains("holds it: the screen is changed");
        if waits { Ok(format!("{}: {why}", row.state)) } else { Err(format!("{} ({why})", row.state)) }
    })
    .await?;
    yard.expect_versions("A1 on 2, A2 on 1")?;
    yard.tell(&["phone", "A2", "release"]).await?;
    yard.wait_for("R1", 0).await?;
    yard.expect_versions("A1 A2 on 2")?;
    yard.stop(format!("A2 waited: {why}")).await
}

/// An install session that farmhand's connection left open is abandoned before the next install; another host's is not.
async fn leftovers(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, Setup::of(1)).await?;
    yard.unplug("A1").await?;
    yard.phone("A1")?.leave_session_open(Some(SESSION_MARK));
    yard.phone("A1")?.leave_session_open(None);
    yard.plug("A1").await?;
    yard.ready(&["A1"]).await?;
    yard.begin("agent-2.apk", &["--wait"]).await?;
    let sessions = yard.seen("A1")?.sessions;
    yard.expect_versions("A1 on 2")?;
    if sessions != 1 {
        return Err(miss("the other host's session, and no more", sessions));
    }
    let told = yard.tell(&["rollout", "show", "R1"]).await?;
    said(&told, &["finished"])?;
    yard.stop("a session that was left open is gone, another host's is there, and so is version 2".to_owned()).await
}
