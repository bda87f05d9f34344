//! What a phone must have for an install: a battery that is charged and cool, and room.

use std::time::Duration;

use super::yard::{Setup, Yard};
use super::{Place, unwritten};
use crate::check::{Miss, miss};

/// Its points.
pub(super) const POINTS: &[&str] = &["battery_low", "battery_hot", "room", "forced"];

/// Readings come every minute.
const PICKED_UP_WITHIN: Duration = Duration::from_secs(150);

pub(super) async fn look(point: &str, place: &Place) -> Result<String, Miss> {
    match point {
        "battery_low" => battery(place).await,
        "battery_hot" => passing(place, "hot", " °C").await,
        "room" => passing(place, "full-disk", "MiB free").await,
        "forced" => forced(place).await,
        other => unwritten(other),
    }
}

fn low() -> Setup {
    Setup::of(2).phone(2, "packages = [\"agent-1.apk\"]\nbattery = 20")
}

async fn battery(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, low()).await?;
    yard.begin("agent-2.apk", &["--waves", "100%"]).await?;
    let why = yard.waits_for("R1", "A2", "20 %").await?;
    yard.expect_versions("A1 on 2, A2 on 1")?;
    yard.phone("A2")?.set_battery(80.0);
    yard.row_becomes("R1", "A2", "done", PICKED_UP_WITHIN).await?;
    yard.wait_for("R1", 0).await?;
    yard.stop(format!("A2 waited: {why}; charged, it had its turn")).await
}

/// Something that is wrong with A2, and passes.
async fn passing(place: &Place, fault: &str, word: &str) -> Result<String, Miss> {
    let yard = Yard::start(place, Setup::of(2).fault(2, fault)).await?;
    yard.begin("agent-2.apk", &["--waves", "100%"]).await?;
    let why = yard.waits_for("R1", "A2", word).await?;
    yard.expect_versions("A1 on 2, A2 on 1")?;
    yard.phone("A2")?.clear_faults();
    yard.row_becomes("R1", "A2", "done", PICKED_UP_WITHIN).await?;
    yard.wait_for("R1", 0).await?;
    yard.stop(format!("A2 waited: {why}; then it had its turn")).await
}

async fn forced(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, low()).await?;
    yard.begin("agent-2.apk", &["--force", "--wait"]).await?;
    yard.expect_versions("A1 A2 on 2")?;
    let audit = yard.tell(&["audit"]).await?;
    match audit.lines().find(|line| line.contains("R1") && line.to_lowercase().contains("batter")) {
        Some(line) => yard.stop(line.split_whitespace().collect::<Vec<_>>().join(" ")).await,
        None => Err(miss("an audit that says that no battery was looked at", audit)),
    }
}
