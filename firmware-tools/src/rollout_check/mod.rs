//! Drives the real daemon through every point of a rollout on virtual racks, by its command line as a user does, and says what was seen.
//!
//! ```text
//!     points ──▶ yard ──┬─ rack (in this process)   phones, the centre, faults, a server that behaves oddly
//!                       └─ daemon (child process)   farmhand rollout start, show, watch, pause, …
//! ```
//!
//! Invariant: each point is reported exactly once, and a point for which nothing is written yet has failed ([`run`]).
//! Invariant: each point has a rack, a daemon and a state of its own, so that none builds on another.

mod artefact;
mod central;
mod choice;
mod control;
mod course;
mod failures;
mod fitness;
mod forgery;
mod gates;
mod odd_server;
mod proof;
mod refusals;
mod returns;
mod times;
mod waits;
mod yard;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::{JoinSet, LocalSet};

use crate::check::{Miss, miss};

/// What to check, and with what.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The daemon's binary.
    pub farmhand: PathBuf,
    /// Racks, states and logs are made below it, anew.
    pub dir: PathBuf,
    /// The command that kills daemons at each named place, and says what became of the rollouts.
    pub proof: Option<String>,
    /// Only points that begin so (`refused`); all by default.
    pub only: Option<String>,
}

/// What became of one point.
#[derive(Debug)]
pub struct Outcome {
    /// Its name, without `rollout.`.
    pub point: &'static str,
    /// How long it took.
    pub took: Duration,
    /// What was seen, if it was as expected.
    pub result: Result<String, Miss>,
}

/// Where one point has its rack.
#[derive(Clone, Debug)]
struct Place {
    farmhand: PathBuf,
    dir: PathBuf,
    /// The test APKs, and those that were forged.
    apks: PathBuf,
    proof: Option<String>,
}

/// A point: its name, and whatever looks at it.
type Point = (&'static str, Family);

/// Whose points they are; each family is a file.
#[derive(Clone, Copy, Debug)]
enum Family {
    Artefact,
    Central,
    Choice,
    Control,
    Course,
    Failures,
    Fitness,
    Gates,
    Proof,
    Refusals,
    Returns,
    Times,
    Waits,
}

/// Racks at once: most of a point is waiting, and two of them keep a small host busy.
const AT_ONCE: usize = 3;
/// The longest that any point may take: the proof builds a daemon of its own first.
const POINT_MAX: Duration = Duration::from_secs(900);

/// Every point, by family. The long ones come first, so that the others go on beside them.
fn points() -> Vec<Point> {
    let of = |family, names: &'static [&'static str]| names.iter().map(move |name| (*name, family));
    of(Family::Proof, proof::POINTS)
        .chain(of(Family::Refusals, refusals::POINTS))
        .chain(of(Family::Times, times::POINTS))
        .chain(of(Family::Fitness, fitness::POINTS))
        .chain(of(Family::Failures, failures::POINTS))
        .chain(of(Family::Artefact, artefact::POINTS))
        .chain(of(Family::Choice, choice::POINTS))
        .chain(of(Family::Course, course::POINTS))
        .chain(of(Family::Returns, returns::POINTS))
        .chain(of(Family::Gates, gates::POINTS))
        .chain(of(Family::Control, control::POINTS))
        .chain(of(Family::Waits, waits::POINTS))
        .chain(of(Family::Central, central::POINTS))
        .collect()
}

/// Carries out the plan and reports each point as soon as it is decided; gives whether all are ok. The points share this thread; the
/// racks have the runtime's others.
///
/// # Errors
///
/// `only` names no point, or the directory can't be made.
pub async fn run(plan: &Plan, mut report: impl FnMut(&Outcome)) -> Result<bool, CheckError> {
    let only = plan.only.as_deref().unwrap_or_default();
    let wanted: Vec<Point> = points().into_iter().filter(|(name, _)| name.starts_with(only)).collect();
    if wanted.is_empty() {
        return Err(CheckError::NoPoint { name: only.to_owned() });
    }
    let dir = crate::check::fresh(&plan.dir).map_err(|error| CheckError::Dir { what: error.to_string() })?;
    let apks = forgery::lay_out(&dir.join("apks")).map_err(|error| CheckError::Dir { what: error.to_string() })?;
    let (gate, mut under_way) = (Arc::new(Semaphore::new(AT_ONCE)), JoinSet::new());
    let mut missing: Vec<&'static str> = wanted.iter().map(|(name, _)| *name).collect();
    let local = LocalSet::new();
    let _on_this_thread = local.enter();
    for (point, family) in wanted {
        let place = Place {
            farmhand: plan.farmhand.clone(),
            dir: dir.join(point),
            apks: apks.clone(),
            proof: plan.proof.clone(),
        };
        let gate = Arc::clone(&gate);
        under_way.spawn_local(async move {
            let _one_of_few = gate.acquire_owned().await;
            let begun = Instant::now();
            let result = tokio::time::timeout(POINT_MAX, look(point, family, &place)).await;
            let result = result.unwrap_or_else(|_| Err(miss("an end", format!("none within {POINT_MAX:?}"))));
            Outcome { point, took: begun.elapsed(), result }
        });
    }
    let mut all_ok = true;
    while let Some(joined) = local.run_until(under_way.join_next()).await {
        let Ok(outcome) = joined else { continue };
        missing.retain(|name| *name != outcome.point);
        all_ok &= outcome.result.is_ok();
        report(&outcome);
    }
    for point in &missing {
        let result = Err(miss("a result", "the check of it broke off"));
        report(&Outcome { point, took: Duration::ZERO, result });
    }
    Ok(all_ok && missing.is_empty())
}

async fn look(point: &'static str, family: Family, place: &Place) -> Result<String, Miss> {
    match family {
        Family::Artefact => artefact::look(point, place).await,
        Family::Central => central::look(point, place).await,
        Family::Choice => choice::look(point, place).await,
        Family::Control => control::look(point, place).await,
        Family::Course => course::look(point, place).await,
        Family::Failures => failures::look(point, place).await,
        Family::Fitness => fitness::look(point, place).await,
        Family::Gates => gates::look(point, place).await,
        Family::Proof => proof::look(point, place).await,
        Family::Refusals => refusals::look(point, place).await,
        Family::Returns => returns::look(point, place).await,
        Family::Times => times::look(point, place).await,
        Family::Waits => waits::look(point, place).await,
    }
}

/// Nothing is written for a point of the list.
fn unwritten(point: &str) -> Result<String, Miss> {
    Err(miss("a check of this point", format!("none is written for `{point}`")))
}

/// Why nothing was checked.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// No point begins so.
    #[error("no point begins with `{name}`; there are {}", names().join(", "))]
    NoPoint {
        /// What was asked for.
        name: String,
    },
    /// No place for the racks.
    #[error("{what}")]
    Dir {
        /// Why.
        what: String,
    },
}

fn names() -> Vec<&'static str> {
    points().into_iter().map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_point_is_named_twice() {
        let mut names = names();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
