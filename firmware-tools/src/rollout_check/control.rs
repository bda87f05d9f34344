//! The verbs: what an operator does to a rollout, and what is shown of it.

use farmhand::rack::snapshot::RolloutState;

use super::yard::{DONE_WITHIN, Setup, Yard, said};
use super::{Place, unwritten};
use crate::check::{Miss, miss, until};

/// Its points.
pub(super) const POINTS: &[&str] = &[
    "control.start",
    "control.list",
    "control.show",
    "control.watch",
    "control.pause",
    "control.resume",
    "control.approve",
    "control.skip",
    "control.promote",
    "control.abort",
    "control.retry",
    "control.rollback",
    "control.allow_downgrade",
    "control.export_json",
    "control.export_csv",
];

/// Fails for good.
const LASTING: &str = "install-fails:INSTALL_FAILED_NO_MATCHING_ABIS";

pub(super) async fn look(point: &str, place: &Place) -> Result<String, Miss> {
    match point {
        "control.start" => start(place).await,
        "control.list" => list(place).await,
        "control.show" => show(place).await,
        "control.watch" => watch(place).await,
        "control.pause" | "control.resume" => pause_and_resume(place, point).await,
        "control.approve" => approve(place).await,
        "control.skip" => skip(place).await,
        "control.promote" => promote(place).await,
        "control.abort" => abort(place).await,
        "control.retry" => retry(place).await,
        "control.rollback" => rollback(place).await,
        "control.allow_downgrade" => allow_downgrade(place).await,
        "control.export_json" => export_json(place).await,
        "control.export_csv" => export_csv(place).await,
        other => unwritten(other),
    }
}

async fn start(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, Setup::of(2)).await?;
    let told = yard.begin("agent-2.apk", &[]).await?;
    let told = said(&told, &["R1 takes org.example.agent 2 to 2 phones"])?;
    yard.wait_for("R1", 0).await?;
    yard.stop(told).await
}

async fn list(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, Setup::of(2)).await?;
    yard.begin("agent-2.apk", &["--wait"]).await?;
    yard.begin("agent-3.apk", &["--approve", "first"]).await?;
    let told = yard.tell(&["rollout", "list"]).await?;
    let lines: Vec<&str> = told.lines().filter(|line| line.starts_with('R') && !line.starts_with("ROLLOUT")).collect();
    match lines.as_slice() {
        [second, first] if second.starts_with("R2") && first.starts_with("R1") && first.contains("finished") => {
            let seen = lines.join("; ");
            yard.stop(seen.split_whitespace().collect::<Vec<_>>().join(" ")).await
        }
        _ => Err(miss("R2 and R1, the newest first", told)),
    }
}

/// One line at the top sums it up; each phone has its row.
async fn show(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, Setup::of(3).fault(3, LASTING)).await?;
    yard.begin("agent-2.apk", &["--waves", "100%", "--max-failures", "1"]).await?;
    yard.wait_for("R1", 10).await?;
    let told = yard.tell(&["rollout", "show", "R1"]).await?;
    let top: Vec<&str> = told.lines().take(2).collect();
    let top = said(&top.join(" "), &["R1", "org.example.agent", "2 phones on version 2", "1 failed"])?;
    said(&told, &["A3", "failed", "INSTALL_FAILED_NO_MATCHING_ABIS"])?;
    yard.stop(top).await
}

/// A line for each change, where it is no terminal; its code is that of a wait.
async fn watch(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, Setup::of(2).fault(1, "asks-before-install")).await?;
    yard.begin("agent-2.apk", &["--waves", "1,100%"]).await?;
    yard.asks("A1").await?;
    let words = ["rollout", "watch", "R1"];
    let (output, tapped) = tokio::join!(yard.run(&words), async {
        yard.row_becomes("R1", "A1", "installing", DONE_WITHIN).await?;
        yard.tap("A1")
    });
    tapped?;
    let output = output?;
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.code() != Some(0) {
        return Err(miss("exit code 0", format!("{:?}: {told}", output.status)));
    }
    yard.stop(said(&told, &["A1", "done", "finished"])?).await
}

/// What is under way finishes, nothing else begins; then it goes on.
async fn pause_and_resume(place: &Place, point: &str) -> Result<String, Miss> {
    let yard = Yard::start(place, Setup::of(2).fault(1, "asks-before-install")).await?;
    yard.begin("agent-2.apk", &["--waves", "1,100%"]).await?;
    yard.asks("A1").await?;
    let paused = yard.tell(&["rollout", "pause", "R1"]).await?;
    yard.tap("A1")?;
    yard.row_becomes("R1", "A1", "done", DONE_WITHIN).await?;
    yard.wait_for("R1", 11).await?;
    yard.expect_versions("A1 on 2, A2 on 1")?;
    let resumed = yard.tell(&["rollout", "resume", "R1"]).await?;
    yard.wait_for("R1", 0).await?;
    yard.expect_versions("A1 A2 on 2")?;
    let told = if point == "control.pause" { paused } else { resumed };
    yard.stop(told.trim().to_owned()).await
}

async fn approve(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, Setup::of(1)).await?;
    yard.begin("agent-2.apk", &["--approve", "first"]).await?;
    yard.wait_for("R1", 13).await?;
    let told = yard.tell(&["rollout", "approve", "R1"]).await?;
    yard.wait_for("R1", 0).await?;
    let again = yard.refused(&["rollout", "approve", "R1"]).await?;
    yard.stop(format!("{}; again: {again}", told.trim())).await
}

async fn skip(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, Setup::of(2)).await?;
    yard.begin("agent-2.apk", &["--approve", "first"]).await?;
    let told = yard.tell(&["rollout", "skip", "R1", "--phone", "A2"]).await?;
    yard.tell(&["rollout", "approve", "R1"]).await?;
    yard.wait_for("R1", 10).await?;
    yard.expect_versions("A1 on 2, A2 on 1")?;
    yard.stop(told.trim().to_owned()).await
}

/// It goes on without what failed, and the reason stands in the audit.
async fn promote(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, Setup::of(3).fault(1, LASTING)).await?;
    yard.begin("agent-2.apk", &["--waves", "1,100%"]).await?;
    yard.wait_for("R1", 11).await?;
    let bare = yard.refused(&["rollout", "promote", "R1"]).await?;
    said(&bare, &["--reason"])?;
    yard.tell(&["rollout", "promote", "R1", "--reason", "A1 is an old tablet"]).await?;
    yard.wait_for("R1", 10).await?;
    yard.expect_versions("A1 on 1, A2 A3 on 2")?;
    let audit = yard.tell(&["audit"]).await?;
    match audit.lines().find(|line| line.contains("A1 is an old tablet")) {
        Some(line) => yard.stop(line.split_whitespace().collect::<Vec<_>>().join(" ")).await,
        None => Err(miss("the reason in the audit", audit)),
    }
}

/// The install under way finishes; nobody else gets it.
async fn abort(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, Setup::of(2).fault(1, "asks-before-install")).await?;
    yard.begin("agent-2.apk", &["--waves", "1,100%"]).await?;
    yard.asks("A1").await?;
    let told = yard.tell(&["rollout", "abort", "R1", "--reason", "a better one comes"]).await?;
    yard.tap("A1")?;
    yard.wait_for("R1", 12).await?;
    until(DONE_WITHIN, "version 2 on A1", async || {
        let versions = yard.versions();
        if versions == "A1 on 2, A2 on 1" { Ok(()) } else { Err(versions) }
    })
    .await?;
    let state = yard.view("R1").await.map_err(|why| miss("R1", why))?.state;
    if state != RolloutState::Aborted {
        return Err(miss("aborted", state.as_str()));
    }
    yard.stop(told.trim().to_owned()).await
}

/// A rollout that is finished is open again for the phone that failed.
async fn retry(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, Setup::of(2).fault(2, LASTING)).await?;
    yard.begin("agent-2.apk", &["--waves", "100%", "--max-failures", "1"]).await?;
    yard.wait_for("R1", 10).await?;
    yard.phone("A2")?.clear_faults();
    let told = yard.tell(&["rollout", "retry", "R1", "--phone", "A2"]).await?;
    yard.wait_for("R1", 0).await?;
    yard.expect_versions("A1 A2 on 2")?;
    let installs = yard.seen("A1")?.installs;
    if installs == 1 { yard.stop(told.trim().to_owned()).await } else { Err(miss("1 install on A1", installs)) }
}

/// Phones whose builds are for developers: others take an older version only of an app that can be debugged.
fn for_developers(apk: &str) -> Setup {
    let lines = format!("packages = [\"{apk}\"]\ndebuggable = true");
    Setup::of(2).phone(1, &lines).phone(2, &lines).rack("[daemon]\nagent = \"agent-1.apk\"")
}

/// The version of before comes back.
async fn rollback(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, for_developers("agent-1.apk")).await?;
    yard.begin("agent-2.apk", &["--wait"]).await?;
    let told = yard.tell(&["rollout", "rollback", "R1", "--reason", "it drains the battery"]).await?;
    until(DONE_WITHIN, "version 1 again on both phones", async || {
        let versions = yard.versions();
        if versions == "A1 A2 on 1" { Ok(()) } else { Err(versions) }
    })
    .await?;
    yard.stop(told.trim().to_owned()).await
}

async fn allow_downgrade(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, for_developers("agent-2.apk")).await?;
    yard.refused(&["rollout", "start", &yard.apk("agent-1.apk")]).await?;
    yard.expect_untouched()?;
    yard.begin("agent-1.apk", &["--allow-downgrade"]).await?;
    yard.wait_for("R1", 0).await?;
    yard.expect_versions("A1 A2 on 1")?;
    yard.stop("version 1 over version 2, only with --allow-downgrade".to_owned()).await
}

async fn exported(place: &Place, format: &str) -> Result<(Yard, String), Miss> {
    let yard = Yard::start(place, Setup::of(2)).await?;
    yard.begin("agent-2.apk", &["--wait"]).await?;
    let told = yard.tell(&["rollout", "export", "R1", "--format", format]).await?;
    Ok((yard, told))
}

async fn export_json(place: &Place) -> Result<String, Miss> {
    let (yard, told) = exported(place, "json").await?;
    let rows: Vec<serde_json::Value> = serde_json::from_str(&told).map_err(|error| miss("JSON", error))?;
    let is_done = |row: &&serde_json::Value| row.get("state").and_then(serde_json::Value::as_str) == Some("done");
    match rows.iter().filter(is_done).count() {
        2 => yard.stop("2 objects, both done".to_owned()).await,
        _ => Err(miss("2 rows that are done", told)),
    }
}

async fn export_csv(place: &Place) -> Result<String, Miss> {
    let (yard, told) = exported(place, "csv").await?;
    let mut lines = told.lines();
    let heading = lines.next().unwrap_or_default().to_owned();
    let done = lines.filter(|line| line.contains(",done,")).count();
    match (heading.starts_with("rollout,rollout_state,package"), done) {
        (true, 2) => yard.stop(format!("2 rows below {heading}")).await,
        _ => Err(miss("a heading and 2 rows that are done", told)),
    }
}
