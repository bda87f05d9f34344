//! `--wait`: exit codes that a script can use.

use super::yard::{Setup, Yard};
use super::{Place, unwritten};
use crate::check::{Miss, miss};

/// Its points.
pub(super) const POINTS: &[&str] =
    &["wait.0", "wait.10", "wait.11", "wait.12", "wait.13", "wait.14", "wait.over_restart"];

/// Fails for good.
const LASTING: &str = "install-fails:INSTALL_FAILED_NO_MATCHING_ABIS";

pub(super) async fn look(point: &str, place: &Place) -> Result<String, Miss> {
    match point {
        "wait.0" => code(place, Setup::of(2), &[], 0).await,
        "wait.10" => code(place, Setup::of(2).fault(2, LASTING), &["--waves", "100%", "--max-failures", "1"], 10).await,
        "wait.11" => code(place, Setup::of(2).fault(1, LASTING), &[], 11).await,
        "wait.12" => aborted(place).await,
        "wait.13" => code(place, Setup::of(2), &["--approve", "each"], 13).await,
        "wait.14" => code(place, Setup::of(1).fault(1, "asks-before-install"), &["--timeout", "2s"], 14).await,
        "wait.over_restart" => over_restart(place).await,
        other => unwritten(other),
    }
}

/// `rollout start … --wait` ends with this code.
async fn code(place: &Place, setup: Setup, words: &[&str], expected: i32) -> Result<String, Miss> {
    let yard = Yard::start(place, setup).await?;
    let apk = yard.apk("agent-2.apk");
    let output = yard.run(&[&["rollout", "start", &apk, "--wait"], words].concat()).await?;
    let said = String::from_utf8_lossy(&output.stdout);
    let why = said.lines().nth(2).unwrap_or_default().to_owned();
    match output.status.code() {
        Some(seen) if seen == expected => yard.stop(format!("exit code {seen}: {why}")).await,
        other => Err(miss(&format!("exit code {expected}"), format!("{other:?}: {said}"))),
    }
}

async fn aborted(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, Setup::of(1).fault(1, "asks-before-install")).await?;
    yard.begin("agent-2.apk", &[]).await?;
    yard.asks("A1").await?;
    yard.tell(&["rollout", "abort", "R1", "--reason", "enough"]).await?;
    yard.wait_for("R1", 12).await?;
    yard.stop("exit code 12 once it was given up".to_owned()).await
}

/// The daemon is killed while somebody waits.
async fn over_restart(place: &Place) -> Result<String, Miss> {
    let mut yard = Yard::start(place, Setup::of(2).fault(1, "asks-before-install")).await?;
    yard.begin("agent-2.apk", &[]).await?;
    yard.asks("A1").await?;
    let mut waiting = yard.daemon.begin(&["rollout", "show", "R1", "--wait"]).map_err(|error| miss("a wait", error))?;
    yard.daemon.kill().await.map_err(|error| miss("the daemon to be killed", error))?;
    yard.phone("A1")?.clear_faults();
    yard.tap("A1")?;
    yard.daemon.start_again().await.map_err(|error| miss("the daemon to start again", error))?;
    let ended = tokio::time::timeout(super::yard::DONE_WITHIN * 2, waiting.wait()).await;
    let ended = ended.map_err(|_| miss("an end of the wait", "none"))?.map_err(|error| miss("an end", error))?;
    yard.expect_versions("A1 A2 on 2")?;
    match ended.code() {
        Some(0) => yard.stop("a wait outlived a kill -9 of the daemon, and ended with 0".to_owned()).await,
        other => Err(miss("exit code 0", format!("{other:?}"))),
    }
}
