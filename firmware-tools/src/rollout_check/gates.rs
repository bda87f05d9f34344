//! How those must fare that have the version, before the next wave begins.

use farmhand::rack::snapshot::RolloutState;

use super::yard::{Setup, Yard, said};
use super::{Place, unwritten};
use crate::check::{Miss, miss};

/// Its points.
pub(super) const POINTS: &[&str] = &[
    "gate.passed",
    "gate.agent",
    "gate.line",
    "gate.crashes",
    "gate.heartbeats",
    "gate.unknown_pauses",
    "gate.rolls_back",
];

pub(super) async fn look(point: &str, place: &Place) -> Result<String, Miss> {
    match point {
        "gate.passed" => passed(place).await,
        "gate.agent" => stops(place, Setup::of(2).fault(1, "app-stops"), "agent=100%", "run").await,
        "gate.crashes" => stops(place, Setup::of(2).fault(1, "app-crashes"), "crashes=100%", "crashed").await,
        "gate.line" => centre_gone(place, "line=100%").await,
        "gate.heartbeats" => centre_gone(place, "heartbeats=100%").await,
        "gate.unknown_pauses" => unknown(place).await,
        "gate.rolls_back" => rolls_back(place).await,
        other => unwritten(other),
    }
}

const WAVES: [&str; 4] = ["--waves", "1,100%", "--soak", "5s"];

/// All four at once are passed by phones that fare well.
async fn passed(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, Setup::of(2).central()).await?;
    lines_are_up(&yard).await?;
    let gates = ["--gate", "agent=100%", "--gate", "line=100%", "--gate", "crashes=100%", "--gate", "heartbeats=50%"];
    yard.begin("agent-2.apk", &[&WAVES[..], &gates].concat()).await?;
    yard.wait_for("R1", 0).await?;
    yard.expect_versions("A1 A2 on 2")?;
    yard.stop("agent, line, crashes and heartbeats passed, the second wave followed".to_owned()).await
}

async fn lines_are_up(yard: &Yard) -> Result<(), Miss> {
    for slot in ["A1", "A2"] {
        crate::check::until(super::yard::DONE_WITHIN, &format!("heartbeats of {slot}"), async || {
            let device = yard.device(slot)?;
            if device.session_heartbeats > 1 { Ok(()) } else { Err(format!("{device:?}")) }
        })
        .await?;
    }
    Ok(())
}

/// The first phone does not fare well: the rollout pauses, says so, and nobody else is touched.
async fn stops(place: &Place, setup: Setup, gate: &str, word: &str) -> Result<String, Miss> {
    let yard = Yard::start(place, setup).await?;
    yard.begin("agent-2.apk", &[&WAVES[..], &["--gate", gate]].concat()).await?;
    let why = yard.becomes("R1", RolloutState::Paused).await?;
    yard.expect_versions("A1 on 2, A2 on 1")?;
    yard.stop(said(&why, &[word])?).await
}

/// The centre goes away during the soak: no line is registered again, no heartbeat acknowledged.
async fn centre_gone(place: &Place, gate: &str) -> Result<String, Miss> {
    let yard = Yard::start(place, Setup::of(2).central().fault(1, "asks-before-install")).await?;
    lines_are_up(&yard).await?;
    yard.begin("agent-2.apk", &["--waves", "1,100%", "--soak", "12s", "--gate", gate]).await?;
    yard.asks("A1").await?;
    yard.rack.central().ok_or_else(|| miss("a centre", "none"))?.stop().await;
    yard.tap("A1")?;
    let why = yard.becomes("R1", RolloutState::Paused).await?;
    yard.expect_versions("A1 on 2, A2 on 1")?;
    yard.stop(said(&why, &["A1"]).or_else(|_| said(&why, &["VIRTUALA1"]))?).await
}

/// Where failures roll back, so does a gate that isn't passed.
async fn rolls_back(place: &Place) -> Result<String, Miss> {
    let crashes = "packages = [\"agent-1.apk\"]\ndebuggable = true\nfaults = [\"app-crashes\"]";
    let setup = Setup::of(2).phone(1, crashes).rack("[daemon]\nagent = \"agent-1.apk\"");
    let yard = Yard::start(place, setup).await?;
    let words = ["--gate", "crashes=100%", "--on-failure", "roll-back"];
    yard.begin("agent-2.apk", &[&WAVES[..], &words].concat()).await?;
    let why = yard.becomes("R1", RolloutState::RolledBack).await?;
    yard.expect_versions("A1 A2 on 1")?;
    yard.stop(said(&why, &["the gate `crashes`"])?).await
}

/// A phone that is away at the end of its soak can't be judged.
async fn unknown(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, Setup::of(2)).await?;
    yard.begin("agent-2.apk", &["--waves", "1,100%", "--soak", "10s", "--gate", "agent=100%"]).await?;
    yard.row_becomes("R1", "A1", "done", super::yard::DONE_WITHIN).await?;
    yard.unplug("A1").await?;
    let why = yard.becomes("R1", RolloutState::Paused).await?;
    yard.expect_versions("A1 on 2, A2 on 1")?;
    yard.stop(why).await
}
