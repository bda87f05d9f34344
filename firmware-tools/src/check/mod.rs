//! Drives the real daemon on the demo's rack without a person, and says of each step whether it was seen from outside.
//!
//! ```text
//!     steps ──▶ stage ──┬─ rack (in this process)      what happens: cables, faults, the centre's notices
//!                       ├─ daemon (child process)      the command line: phones, hubs, rollout, hub … port … off
//!                       ├─ subscriber (mosquitto_sub)  MQTT
//!                       └─ browser (Chromium)          the page, by the DevTools protocol
//! ```
//!
//! Invariant: every step of [`STEPS`] is reported exactly once, whatever happens before it (`run`).
//! Invariant: nothing is believed that the daemon's process tells only to itself.

mod browser;
mod daemon;
pub(crate) mod points;
pub(crate) mod proof;
mod stage;
mod steps;
mod subscriber;
mod until;

use std::path::PathBuf;
use std::time::{Duration, Instant};

pub use browser::{Browser, BrowserError};
pub use daemon::{Daemon, DaemonError};
pub use points::{CheckError, Outcome as PointOutcome, Plan as PointPlan};
pub use stage::{Stage, StageError};
pub(crate) use stage::{fresh, miss};
pub use steps::STEPS;
pub use subscriber::{Subscriber, SubscriberError};
pub use until::{Miss, until};

/// What to check, and with what.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The daemon's binary.
    pub farmhand: PathBuf,
    /// The rack's directory, the daemon's state and its log are made here, anew.
    pub dir: PathBuf,
    /// Where the picture of the page is kept.
    pub screenshot: PathBuf,
    /// Only this step, or this family of steps (`rollout`); all by default.
    pub only: Option<String>,
}

/// What became of one step.
#[derive(Debug)]
pub struct Outcome {
    /// Its name.
    pub step: &'static str,
    /// How long it took.
    pub took: Duration,
    /// Nothing, if it was seen as expected.
    pub result: Result<(), Miss>,
}

/// Carries out the plan and reports each step as soon as it is decided; gives whether all are ok.
///
/// # Errors
///
/// `only` names no step.
pub async fn run(plan: &Plan, mut report: impl FnMut(&Outcome)) -> Result<bool, UnknownStep> {
    let wanted = steps::wanted(plan.only.as_deref())?;
    let started = Instant::now();
    let mut all_ok = true;
    let mut stage = Stage::start(plan).await;
    for step in wanted {
        let begun = Instant::now();
        let result = match &mut stage {
            Ok(stage) => steps::carry_out(stage, step).await,
            Err(error) => Err(Miss { expected: "a rack with a daemon on it".to_owned(), seen: error.to_string() }),
        };
        // The first step pays for the start.
        let took = if step == "phone.online" { started.elapsed() } else { begun.elapsed() };
        all_ok &= result.is_ok();
        report(&Outcome { step, took, result });
    }
    if let Ok(stage) = stage {
        stage.stop().await;
    }
    Ok(all_ok)
}

/// A name that is no step.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("there is no step `{name}`; there are {}", STEPS.join(", "))]
pub struct UnknownStep {
    /// What was asked for.
    pub name: String,
}
