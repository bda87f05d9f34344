//! Where the APK comes from: a file, an address, the store.

use std::sync::atomic::Ordering;

use farmhand::rack::snapshot::RolloutState;

use super::odd_server::OddServer;
use super::yard::{PACKAGE, Setup, Yard};
use super::{Place, unwritten};
use crate::central::Upgrade;
use crate::check::{Miss, miss};

/// Its points.
pub(super) const POINTS: &[&str] = &[
    "artefact.resumed_by_range",
    "artefact.redirect_followed",
    "artefact.from_file",
    "artefact.from_store",
    "artefact.unfit_phones_skipped",
    "artefact.last_finished_version",
];

pub(super) async fn look(point: &str, place: &Place) -> Result<String, Miss> {
    match point {
        "artefact.from_file" => from_file(place).await,
        "artefact.from_store" => from_store(place).await,
        "artefact.redirect_followed" => from_address(place, "moved", 0).await,
        "artefact.resumed_by_range" => from_address(place, "breaks", 1).await,
        "artefact.unfit_phones_skipped" => unfit(place).await,
        "artefact.last_finished_version" => last_finished(place).await,
        other => unwritten(other),
    }
}

async fn from_file(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, Setup::of(2)).await?;
    yard.begin("agent-2.apk", &["--wait"]).await?;
    yard.expect_versions("A1 A2 on 2")?;
    yard.stop(yard_sum(2)).await
}

fn yard_sum(installs: usize) -> String {
    format!("version 2 on {installs} phones")
}

/// The file is gone once the rollout has begun, and the daemon was killed: the store has it.
async fn from_store(place: &Place) -> Result<String, Miss> {
    let mut yard = Yard::start(place, Setup::of(2)).await?;
    let copy = place.dir.join("gone.apk");
    std::fs::copy(yard.apk("agent-2.apk"), &copy).map_err(|error| miss("a copy", error))?;
    yard.tell(&["rollout", "start", &copy.display().to_string(), "--approve", "first"]).await?;
    std::fs::remove_file(&copy).map_err(|error| miss("the file to go", error))?;
    yard.daemon.kill().await.map_err(|error| miss("the daemon to be killed", error))?;
    yard.daemon.start_again().await.map_err(|error| miss("the daemon to start again", error))?;
    yard.all_ready().await?;
    yard.tell(&["rollout", "approve", "R1"]).await?;
    yard.wait_for("R1", 0).await?;
    yard.expect_versions("A1 A2 on 2")?;
    yard.stop("its file was removed and the daemon killed; it was installed from the store".to_owned()).await
}

/// One download for two phones, resumed so often.
async fn from_address(place: &Place, path: &str, ranges: usize) -> Result<String, Miss> {
    let yard = Yard::start(place, Setup::of(2).central()).await?;
    let apk = std::fs::read(yard.apk("agent-2.apk")).map_err(|error| miss("an APK", error))?;
    let server = OddServer::start(apk).await.map_err(|error| miss("a server", error))?;
    let url = server.url(path);
    let upgrade = Upgrade { package: PACKAGE.to_owned(), version_code: 2, version_name: "2.0".to_owned(), url };
    for slot in ["A1", "A2"] {
        yard.offer(slot, &upgrade).await?;
    }
    yard.settle("R1").await?;
    yard.becomes("R1", RolloutState::Finished).await?;
    yard.expect_versions("A1 A2 on 2")?;
    let (times, seen) = (server.asked().times.load(Ordering::Relaxed), server.asked().ranges.load(Ordering::Relaxed));
    // A redirect and a resumption are one more request each.
    match (times, seen) {
        (2, seen) if seen == ranges => yard.stop(format!("2 requests, {ranges} for the rest, for 2 phones")).await,
        other => Err(miss(&format!("2 requests, {ranges} of them for the rest"), format!("{other:?}"))),
    }
}

async fn unfit(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, Setup::of(2).phone(2, "sdk = 23")).await?;
    yard.begin("agent-2.apk", &[]).await?;
    yard.wait_for("R1", 10).await?;
    yard.expect_versions("A1 on 2, A2 on none")?;
    let row = yard.row("R1", "A2").await.map_err(|why| miss("a row of A2", why))?;
    let why = row.why.unwrap_or_default();
    if row.state != "skipped" || !why.contains("SDK 23") {
        return Err(miss("A2 skipped with its SDK", format!("{} ({why})", row.state)));
    }
    yard.stop(format!("A2 skipped: {why}")).await
}

/// A phone that is plugged in while version 3 is in trial gets version 2, which last finished its rollout.
async fn last_finished(place: &Place) -> Result<String, Miss> {
    let setup = Setup::of(2).phone(2, "faults = [\"stalls\"]").rack("[daemon]\nagent = \"agent-1.apk\"");
    let yard = Yard::start_unready(place, setup).await?;
    yard.ready(&["A1"]).await?;
    yard.begin("agent-2.apk", &["--phone", "A1", "--wait"]).await?;
    yard.begin("agent-3.apk", &["--phone", "A1", "--approve", "first"]).await?;
    yard.phone("A2")?.clear_faults();
    yard.unplug("A2").await?;
    yard.plug("A2").await?;
    yard.ready(&["A2"]).await?;
    yard.expect_versions("A1 A2 on 2")?;
    yard.stop("a new phone got version 2, which finished, not 3, which waits for approval".to_owned()).await
}
