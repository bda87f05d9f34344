//! Drives the real daemon through every point of the line to the central server on virtual racks, and says what was seen.
//!
//! ```text
//!     points ──▶ yard ──┬─ rack (in this process)   phones, agents on them, central servers, a proxy between the two
//!         │             └─ daemon (child process)   farmhand line, policy, audit, phones import, SIGHUP, kill -9
//!         └────▶ proven ── cargo test               what no rack can show: all codes, simulated time, a disk that fails
//! ```
//!
//! Invariant: a point for which nothing is written yet has failed (`points::unwritten`).

mod answers;
mod bad_input;
mod capture;
mod identity;
mod policy;
mod proven;
mod proxy;
mod relay;
mod rig;
mod session;
mod splice;
mod store;
mod there;
mod upgrades;

use crate::check::points::{self, Place, unwritten};
use crate::check::{CheckError, Miss, PointOutcome, PointPlan};
use crate::rack::test_apks;
use crate::yard;

/// Whose points they are; each family is a file.
#[derive(Clone, Copy, Debug)]
enum Family {
    Answers,
    BadInput,
    Identity,
    Policy,
    Proven,
    Relay,
    Session,
    Splice,
    Store,
    There,
    Upgrades,
}

/// Every point, by family. The long ones come first, so that the others go on beside them.
fn points() -> Vec<(&'static str, Family)> {
    let of = |family, names: &'static [&'static str]| names.iter().map(move |name| (*name, family));
    let proven = proven::POINTS.iter().map(|point| (point.name, Family::Proven));
    proven
        .chain(of(Family::Upgrades, upgrades::POINTS))
        .chain(of(Family::Relay, relay::POINTS))
        .chain(of(Family::Splice, splice::POINTS))
        .chain(of(Family::Store, store::POINTS))
        .chain(of(Family::There, there::POINTS))
        .chain(of(Family::Session, session::POINTS))
        .chain(of(Family::BadInput, bad_input::POINTS))
        .chain(of(Family::Answers, answers::POINTS))
        .chain(of(Family::Identity, identity::POINTS))
        .chain(of(Family::Policy, policy::POINTS))
        .collect()
}

fn names() -> Vec<&'static str> {
    points().into_iter().map(|(name, _)| name).collect()
}

/// Carries out the plan and reports each point as soon as it is decided; gives whether all are ok.
///
/// # Errors
///
/// `only` names no point, or the directory can't be made.
pub async fn run(plan: &PointPlan, report: impl FnMut(&PointOutcome)) -> Result<bool, CheckError> {
    let looks = |point, place| async move { look(point, &place).await };
    points::run(plan, &names(), &[], |_| Ok(test_apks()), looks, report).await
}

async fn look(point: &'static str, place: &Place) -> Result<String, Miss> {
    let Some((_, family)) = points().into_iter().find(|(name, _)| *name == point) else { return unwritten(point) };
    match family {
        Family::Answers => answers::look(point, place).await,
        Family::BadInput => bad_input::look(point, place).await,
        Family::Identity => identity::look(point, place).await,
        Family::Policy => policy::look(point, place).await,
        Family::Proven => proven::look(point, place).await,
        Family::Relay => relay::look(point, place).await,
        Family::Session => session::look(point, place).await,
        Family::Splice => splice::look(point, place).await,
        Family::Store => store::look(point, place).await,
        Family::There => there::look(point, place).await,
        Family::Upgrades => upgrades::look(point, place).await,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn no_point_is_named_twice() {
        assert_eq!(crate::check::points::named_twice(&super::names()), None);
    }
}
