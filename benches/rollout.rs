//! How long an operator waits for what a rollout would come to, and for a rollout.
//!
//! `cargo bench --bench rollout -- 8 4` runs it with 8 phones and an APK of 4 MiB, to try it: its figures mean nothing then. With `scripts`,
//! `slow`, `memory` or `reads` behind that only these are measured.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a bench that cannot measure must say so and stop"
)]

#[path = "rollout/fleet.rs"]
mod fleet;
#[path = "apk/large.rs"]
mod large;
#[path = "report.rs"]
mod report;

use std::io;
use std::time::Instant;

use farmhand::agent::fit::Requirements;
use farmhand::agent::{Build, CheckedApk};
use farmhand::clock::{Moment, UnixMillis};
use farmhand::config::observing;
use farmhand::rack::candidate::{Candidate, Choice, Readings};
use farmhand::rack::event::RolloutCommand;
use farmhand::rack::ids::{PackageName, PhoneId, SlotName, VersionCode};
use farmhand::rack::strategy::StrategyChanges;
use farmhand::rollout::plan::{Ask, Output, Rollouts, Wanted};
use report::{Goal, median, report};

const PACKAGE: &str = "org.example.agent";
const PHONES: usize = 200;
const RUNS: usize = 21;

fn main() -> io::Result<()> {
    let mut core = rack();
    let runs = (0..RUNS).map(|_| look_ahead(&mut core)).collect();
    report("rollout.dry_run_ms", median(runs), "ms", Goal::AtMost(100.0))?;
    let words: Vec<String> = std::env::args().skip(1).collect();
    fleet::measure(size(&words), &words)
}

/// As the goals have it, or as the words of the command line say.
fn size(words: &[String]) -> fleet::Size {
    let numbers: Vec<usize> = words.iter().filter_map(|word| word.parse().ok()).collect();
    match numbers[..] {
        [phones, apk_mib] => fleet::Size { phones, apk_len: apk_mib << 20 },
        _ => fleet::Size::WHOLE,
    }
}

/// Two hundred phones with version 1.
fn rack() -> Rollouts {
    let package = PackageName::new(PACKAGE);
    let wall = UnixMillis(1_700_000_000_000);
    let mut core = Rollouts::restore(observing().rollout, Some(package), wall, Moment::START, Vec::new());
    for n in 0..PHONES {
        let phone = PhoneId::new(format!("R5CW{n:04}X"));
        let candidate = Candidate {
            slot: Some(SlotName::new(format!("A{n}"))),
            model: "Pixel 8".to_owned(),
            sdk: Some(34),
            abis: vec!["arm64-v8a".to_owned(), "armeabi-v7a".to_owned()],
            readings: Readings { battery_percent: Some(80), temperature_celsius: Some(25), free_mib: Some(9000) },
            ..Candidate::default()
        };
        core.command(Moment::START, RolloutCommand::Known { phone: phone.clone(), candidate: Box::new(candidate) });
        core.command(Moment::START, RolloutCommand::Available { phone, version_code: Some(VersionCode(1)) });
    }
    core
}

/// Milliseconds from the checked APK to the answer.
fn look_ahead(core: &mut Rollouts) -> f64 {
    while core.poll().is_some() {}
    let waves = ["1", "5%", "25%", "100%"].map(|size| size.parse().unwrap()).to_vec();
    let strategy = StrategyChanges { waves, ..StrategyChanges::default() };
    let wanted = Wanted { file: "/home/owner/agent.apk".into(), choice: Choice::default(), strategy };
    let begin = Instant::now();
    core.forecast(Moment::START, Ask(1), apk(), wanted);
    let output = core.poll();
    let took = begin.elapsed();
    let Some(Output::Answer { result: Ok(done), .. }) = output else { panic!("no forecast: {output:?}") };
    let forecast = done.forecast.expect("a forecast");
    assert_eq!(forecast.waves.iter().map(Vec::len).collect::<Vec<_>>(), [1, 9, 40, 150]);
    assert!(forecast.takes_s.is_some(), "it was run ahead to its end");
    took.as_secs_f64() * 1000.0
}

fn apk() -> CheckedApk {
    let mut requirements = Requirements::signed_by("aa".repeat(32));
    requirements.abis = ["arm64-v8a".to_owned()].into();
    CheckedApk {
        path: "/state/apks/2.apk".into(),
        package: PackageName::new(PACKAGE),
        version_code: VersionCode(2),
        version_name: "2.0".to_owned(),
        signer_sha256: "aa".repeat(32),
        size: 16 << 20,
        sha256: "22".repeat(32),
        build: Build::Release,
        requirements,
    }
}
