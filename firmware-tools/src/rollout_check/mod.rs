//! Drives the real daemon through every point of a rollout on virtual racks, by its command line as a user does, and says what was seen.
//!
//! ```text
//!     points ──▶ yard ──┬─ rack (in this process)   phones, the centre, faults, a server that behaves oddly
//!                       └─ daemon (child process)   farmhand rollout start, show, watch, pause, …
//! ```
//!
//! Invariant: a point for which nothing is written yet has failed (`points::unwritten`).

mod artefact;
mod central;
mod choice;
mod control;
mod course;
mod desired;
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

use crate::check::points::{self, Place, unwritten};
use crate::check::{CheckError, Miss, PointOutcome, PointPlan};
use crate::yard;

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
    Desired,
    Failures,
    Fitness,
    Gates,
    Proof,
    Refusals,
    Returns,
    Times,
    Waits,
}

/// Every point, by family. The long ones come first, so that the others go on beside them.
fn points() -> Vec<Point> {
    let of = |family, names: &'static [&'static str]| names.iter().map(move |name| (*name, family));
    of(Family::Proof, proof::POINTS)
        .chain(of(Family::Refusals, refusals::POINTS))
        .chain(of(Family::Times, times::POINTS))
        .chain(of(Family::Desired, desired::POINTS))
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

/// Carries out the plan and reports each point as soon as it is decided; gives whether all are ok.
///
/// # Errors
///
/// `only` names no point, or the directory can't be made.
pub async fn run(plan: &PointPlan, report: impl FnMut(&PointOutcome)) -> Result<bool, CheckError> {
    let looks = |point, place| async move { look(point, &place).await };
    points::run(plan, &names(), &[returns::LONG], forgery::lay_out, looks, report).await
}

async fn look(point: &'static str, place: &Place) -> Result<String, Miss> {
    let Some((_, family)) = points().into_iter().find(|(name, _)| *name == point) else { return unwritten(point) };
    match family {
        Family::Artefact => artefact::look(point, place).await,
        Family::Central => central::look(point, place).await,
        Family::Choice => choice::look(point, place).await,
        Family::Control => control::look(point, place).await,
        Family::Course => course::look(point, place).await,
        Family::Desired => desired::look(point, place).await,
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

fn names() -> Vec<&'static str> {
    points().into_iter().map(|(name, _)| name).collect()
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_point_is_named_twice() {
        assert_eq!(crate::check::points::named_twice(&super::names()), None);
    }
}
