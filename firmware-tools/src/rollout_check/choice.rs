//! For whom a rollout is, and what it would come to.

use super::yard::{Setup, Yard, said};
use super::{Place, unwritten};
use crate::check::{Miss, miss};

/// Its points.
pub(super) const POINTS: &[&str] = &[
    "choice.all",
    "choice.phones",
    "choice.slots",
    "choice.labels",
    "choice.models",
    "choice.share",
    "choice.canary",
    "choice.nobody",
    "dry_run",
];

pub(super) async fn look(point: &str, place: &Place) -> Result<String, Miss> {
    match point {
        "choice.all" => chosen(place, &[], "A1 | A2 A3 A4").await,
        "choice.phones" => chosen(place, &["--phone", "A3", "--phone", "A1"], "A3 | A1").await,
        "choice.slots" => chosen(place, &["--slot", "A1*,A4"], "A1 | A4").await,
        "choice.labels" => chosen(place, &["--label", "top"], "A2 | A4").await,
        "choice.models" => chosen(place, &["--model", "Pixel*"], "A1 | A2 A4").await,
        "choice.share" => share(place).await,
        "choice.canary" => chosen(place, &["--canary", "A4,A2"], "A2 A4 | A1 | A3").await,
        "choice.nobody" => nobody(place).await,
        "dry_run" => dry_run(place).await,
        other => unwritten(other),
    }
}

fn four() -> Setup {
    let galaxy = "packages = [\"agent-1.apk\"]\nmodel = \"SM-A336B\"";
    Setup::of(4)
        .phone(3, galaxy)
        .label("A2", "top")
        .label("A4", "top")
        .config("[rollout]\napprove = \"first\"\nwaves = [1, 10]")
}

/// The waves of who was chosen; nothing is installed before it is approved.
async fn chosen(place: &Place, words: &[&str], expected: &str) -> Result<String, Miss> {
    let yard = Yard::start(place, four()).await?;
    yard.begin("agent-2.apk", words).await?;
    let waves = yard.waves("R1").await.map_err(|why| miss("the waves", why))?;
    yard.expect_untouched()?;
    if waves == expected {
        yard.stop(format!("{}: {waves}", words.join(" "))).await
    } else {
        Err(miss(expected, waves))
    }
}

async fn share(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, four()).await?;
    yard.begin("agent-2.apk", &["--share", "50%"]).await?;
    let rows = yard.rows("R1").await.map_err(|why| miss("rows", why))?;
    let waves = yard.waves("R1").await.map_err(|why| miss("the waves", why))?;
    match rows.iter().filter(|row| row.state != "skipped").count() {
        2 => yard.stop(format!("half of four: {waves}")).await,
        _ => Err(miss("2 phones", waves)),
    }
}

async fn nobody(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, four()).await?;
    let told = yard.refused(&["rollout", "start", &yard.apk("agent-2.apk"), "--slot", "B*"]).await?;
    yard.expect_untouched()?;
    yard.stop(told).await
}

/// Who gets it, who does not and why, who will need a hand, how long it takes; and nothing has begun.
async fn dry_run(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, four().phone(4, "sdk = 23")).await?;
    let verifier = "settings put global package_verifier_enable 1; settings put global verifier_verify_adb_installs 1";
    yard.tell(&["phone", "A2", "shell", verifier]).await?;
    yard.unplug("A2").await?;
    yard.plug("A2").await?;
    yard.ready(&["A2"]).await?;
    let told = yard.begin("agent-2.apk", &["--dry-run"]).await?;
    let words = ["would go to 3 phones in 2 waves within", "gets it", "needs a hand", "left out: A4", "SDK 23"];
    let told = said(&told, &words)?;
    yard.expect_untouched()?;
    let rollouts = yard.rollouts().await.map_err(|why| miss("the list", why))?;
    if rollouts.is_empty() { yard.stop(told).await } else { Err(miss("no rollout", format!("{rollouts:?}"))) }
}
