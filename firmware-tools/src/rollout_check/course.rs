//! How a rollout goes on: waves, soaks, approvals, limits.

use std::time::{Duration, Instant};

use farmhand::rack::snapshot::RolloutState;

use super::yard::{Setup, Yard};
use super::{Place, unwritten};
use crate::check::{Miss, miss, until};
use crate::phone::Tap;

/// Its points.
pub(super) const POINTS: &[&str] = &[
    "waves",
    "canary_first",
    "soak",
    "limit.rack",
    "limit.hub",
    "approve.each",
    "approve.first",
    "approve.none",
    "second_waits",
];

/// Between a wave and the next one in the point of the soak.
const SOAK: Duration = Duration::from_secs(4);

pub(super) async fn look(point: &str, place: &Place) -> Result<String, Miss> {
    match point {
        "waves" => waves(place).await,
        "canary_first" => canary(place).await,
        "soak" => soak(place).await,
        "limit.rack" => limit(place, asking(4), &["--at-once", "2"]).await,
        "limit.hub" => per_hub(place).await,
        "approve.each" => each(place).await,
        "approve.first" => first(place).await,
        "approve.none" => none(place).await,
        "second_waits" => second(place).await,
        other => unwritten(other),
    }
}

/// Phones on which an install is under way until a hand taps.
fn asking(phones: usize) -> Setup {
    (1..=phones).fold(Setup::of(phones), |setup, number| setup.fault(number, "asks-before-install"))
}

impl Yard {
    /// A hand lets the installs go on that are under way on these.
    pub(super) fn tap(&self, slots: &str) -> Result<(), Miss> {
        for slot in slots.split_whitespace() {
            self.phone(slot)?.tap(Tap::Allow);
        }
        Ok(())
    }
}

/// Nobody of a wave is installed on before the whole wave before it is done.
async fn waves(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, asking(5)).await?;
    yard.begin("agent-2.apk", &["--waves", "1,60%,100%"]).await?;
    let mut story = Vec::new();
    for wave in ["A1", "A2 A3", "A4 A5"] {
        yard.asks(wave).await?;
        story.push(wave);
        yard.tap(wave)?;
    }
    yard.wait_for("R1", 0).await?;
    yard.expect_versions("A1 A2 A3 A4 A5 on 2")?;
    yard.stop(format!("installed one wave after another: {}", story.join(" | "))).await
}

async fn canary(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, asking(4)).await?;
    yard.begin("agent-2.apk", &["--canary", "A3,A4", "--waves", "100%"]).await?;
    yard.asks("A3 A4").await?;
    yard.tap("A3 A4")?;
    yard.asks("A1 A2").await?;
    yard.expect_versions("A1 A2 on 1, A3 A4 on 2")?;
    yard.tap("A1 A2")?;
    yard.wait_for("R1", 0).await?;
    yard.stop("A3 and A4 first, then the others".to_owned()).await
}

async fn soak(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, Setup::of(2).fault(2, "asks-before-install")).await?;
    let length = format!("{}s", SOAK.as_secs());
    yard.begin("agent-2.apk", &["--waves", "1,100%", "--soak", &length]).await?;
    until(Duration::from_secs(30), "version 2 on A1", async || {
        let versions = yard.versions();
        if versions == "A1 on 2, A2 on 1" { Ok(()) } else { Err(versions) }
    })
    .await?;
    let done = Instant::now();
    yard.asks("A2").await?;
    let waited = done.elapsed();
    yard.tap("A2")?;
    yard.wait_for("R1", 0).await?;
    // A look at the first phone may be late by its interval, never early by a second.
    if waited + Duration::from_secs(1) < SOAK {
        return Err(miss(&format!("at least {SOAK:?} between the waves"), format!("{waited:?}")));
    }
    yard.stop(format!("{:.1} s between the waves with --soak {length}", waited.as_secs_f64())).await
}

/// Two at once, of four whose turn it is.
async fn limit(place: &Place, setup: Setup, words: &[&str]) -> Result<String, Miss> {
    let yard = Yard::start(place, setup).await?;
    yard.begin("agent-2.apk", &[words, &["--waves", "100%"]].concat()).await?;
    yard.asks("A1 A2").await?;
    let why = yard.waits_for("R1", "A3", "2").await?;
    yard.asks("A1 A2").await?;
    yard.tap("A1 A2")?;
    yard.asks("A3 A4").await?;
    yard.tap("A3 A4")?;
    yard.wait_for("R1", 0).await?;
    yard.stop(format!("A1 and A2, then A3 and A4; A3 meanwhile: {why}")).await
}

/// Two hubs: one of each hub at once.
async fn per_hub(place: &Place) -> Result<String, Miss> {
    let on = |hub: &str, port: u8| {
        format!("packages = [\"agent-1.apk\"]\nfaults = [\"asks-before-install\"]\nhub = \"{hub}\"\nport = {port}")
    };
    let hubs = "[[hub]]\nname = \"H1\"\nports = 4\n[[hub]]\nname = \"H2\"\nports = 4\n";
    let setup = Setup::of(4).rack(hubs).phone(1, &on("H1", 1)).phone(2, &on("H2", 1));
    let setup = setup.phone(3, &on("H1", 2)).phone(4, &on("H2", 2));
    let yard = Yard::start(place, setup).await?;
    yard.begin("agent-2.apk", &["--at-once-per-hub", "1", "--waves", "100%"]).await?;
    yard.asks("A1 A2").await?;
    let why = yard.waits_for("R1", "A3", "H1").await?;
    yard.tap("A1")?;
    yard.asks("A2 A3").await?;
    yard.tap("A2 A3")?;
    yard.asks("A4").await?;
    yard.tap("A4")?;
    yard.wait_for("R1", 0).await?;
    yard.stop(format!("one of each hub at once; A3 meanwhile: {why}")).await
}

async fn each(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, Setup::of(2)).await?;
    yard.begin("agent-2.apk", &["--approve", "each", "--waves", "1,100%"]).await?;
    for versions in ["A1 A2 on 1", "A1 on 2, A2 on 1"] {
        yard.wait_for("R1", 13).await?;
        yard.expect_versions(versions)?;
        yard.tell(&["rollout", "approve", "R1"]).await?;
    }
    yard.wait_for("R1", 0).await?;
    yard.stop("it waited for an approval before each of two waves".to_owned()).await
}

async fn first(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, Setup::of(2)).await?;
    yard.begin("agent-2.apk", &["--approve", "first", "--waves", "1,100%"]).await?;
    yard.wait_for("R1", 13).await?;
    yard.expect_untouched()?;
    yard.tell(&["rollout", "approve", "R1"]).await?;
    yard.wait_for("R1", 0).await?;
    yard.stop("it waited once, before the first of two waves".to_owned()).await
}

async fn none(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, Setup::of(2).config("[rollout]\napprove = \"each\"")).await?;
    yard.begin("agent-2.apk", &["--approve", "none", "--waves", "1,100%"]).await?;
    yard.wait_for("R1", 0).await?;
    yard.expect_versions("A1 A2 on 2")?;
    yard.stop("it waited for nobody, though farmhand.toml says each".to_owned()).await
}

/// A second rollout of the package waits for the first; the two never install at once.
async fn second(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, asking(2)).await?;
    yard.begin("agent-2.apk", &["--phone", "A1"]).await?;
    yard.asks("A1").await?;
    yard.begin("agent-3.apk", &["--phone", "A2"]).await?;
    let why = until(Duration::from_secs(20), "R2 to wait for R1", async || {
        let view = yard.view("R2").await?;
        let why = format!("{}: {}", view.state.as_str(), view.why);
        if why.contains("R1") { Ok(why) } else { Err(why) }
    })
    .await?;
    yard.asks("A1").await?;
    yard.tap("A1")?;
    yard.becomes("R1", RolloutState::Finished).await?;
    yard.asks("A2").await?;
    yard.tap("A2")?;
    yard.wait_for("R2", 0).await?;
    yard.expect_versions("A1 on 2, A2 on 3")?;
    yard.stop(format!("R2 {why}")).await
}
