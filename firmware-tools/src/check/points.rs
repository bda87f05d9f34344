//! Checks by points: each has a rack, a daemon and a state of its own, so that none builds on another, and says what was seen.
//!
//! Invariant: each point is reported exactly once, and one whose check broke off has failed ([`run`]).

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio::task::{JoinSet, LocalSet};

use super::{Miss, fresh, miss};

/// What to check, and with what.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The daemon's binary.
    pub farmhand: PathBuf,
    /// Racks, states and logs are made below it, anew.
    pub dir: PathBuf,
    /// The command that proves what no rack shows: kills at each named place, or tests by their names.
    pub proof: Option<String>,
    /// Only points that begin so (`refused`); all by default.
    pub only: Option<String>,
}

/// What became of one point.
#[derive(Debug)]
pub struct Outcome {
    /// Its name, without that of the check.
    pub point: &'static str,
    /// How long it took.
    pub took: Duration,
    /// What was seen, if it was as expected; each line after the first is a figure.
    pub result: Result<String, Miss>,
}

/// Where one point has its rack.
#[derive(Clone, Debug)]
pub(crate) struct Place {
    pub(crate) farmhand: PathBuf,
    pub(crate) dir: PathBuf,
    /// The APKs that it may use.
    pub(crate) apks: PathBuf,
    pub(crate) proof: Option<String>,
}

/// Why nothing was checked.
#[derive(Debug, thiserror::Error)]
pub enum CheckError {
    /// No point begins so.
    #[error("no point begins with `{name}`; there are {}", points.join(", "))]
    NoPoint {
        /// What was asked for.
        name: String,
        /// All of them.
        points: Vec<&'static str>,
    },
    /// No place for the racks.
    #[error("{what}")]
    Dir {
        /// Why.
        what: String,
    },
}

/// Racks at once: most of a point is waiting, and two of them keep a small host busy.
const AT_ONCE: usize = 3;
/// The longest that any point may take: a proof builds a daemon of its own first.
const POINT_MAX: Duration = Duration::from_secs(900);

/// Looks at each of `points` that is wanted, in this order, and reports it as soon as it is decided; gives whether all are ok. The points
/// share this thread; the racks have the runtime's others. `lay_out` gives the folder of the APKs, where it may make one. Those that are
/// `patient` do nothing but wait for minutes, and are no part of those at once.
///
/// # Errors
///
/// `only` names no point, or a directory can't be made.
pub(crate) async fn run<F>(
    plan: &Plan,
    points: &[&'static str],
    patient: &[&'static str],
    lay_out: impl FnOnce(&Path) -> io::Result<PathBuf>,
    look: impl Fn(&'static str, Place) -> F,
    mut report: impl FnMut(&Outcome),
) -> Result<bool, CheckError>
where
    F: Future<Output = Result<String, Miss>> + 'static,
{
    let only = plan.only.as_deref().unwrap_or_default();
    let wanted: Vec<&'static str> = points.iter().copied().filter(|name| name.starts_with(only)).collect();
    if wanted.is_empty() {
        return Err(CheckError::NoPoint { name: only.to_owned(), points: points.to_vec() });
    }
    let dir = fresh(&plan.dir).map_err(|error| CheckError::Dir { what: error.to_string() })?;
    let apks = lay_out(&dir.join("apks")).map_err(|error| CheckError::Dir { what: error.to_string() })?;
    let (gate, mut under_way) = (Arc::new(Semaphore::new(AT_ONCE)), JoinSet::new());
    let local = LocalSet::new();
    let _on_this_thread = local.enter();
    for point in &wanted {
        let (farmhand, proof) = (plan.farmhand.clone(), plan.proof.clone());
        let looks = look(point, Place { farmhand, dir: dir.join(point), apks: apks.clone(), proof });
        let gate = (!patient.contains(point)).then(|| Arc::clone(&gate));
        under_way.spawn_local(outcome(point, looks, gate));
    }
    let (mut all_ok, mut missing) = (true, wanted);
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

async fn outcome(
    point: &'static str,
    looks: impl Future<Output = Result<String, Miss>>,
    gate: Option<Arc<Semaphore>>,
) -> Outcome {
    let _one_of_few = match gate {
        Some(gate) => gate.acquire_owned().await.ok(),
        None => None,
    };
    let begun = Instant::now();
    let result = tokio::time::timeout(POINT_MAX, looks).await;
    let result = result.unwrap_or_else(|_| Err(miss("an end", format!("none within {POINT_MAX:?}"))));
    Outcome { point, took: begun.elapsed(), result }
}

/// Nothing is written for a point of the list.
pub(crate) fn unwritten(point: &str) -> Result<String, Miss> {
    Err(miss("a check of this point", format!("none is written for `{point}`")))
}

/// Why one of `points` is named twice, which would hide one of the two.
#[cfg(test)]
pub(crate) fn named_twice(points: &[&'static str]) -> Option<&'static str> {
    let mut names = points.to_vec();
    names.sort_unstable();
    names.windows(2).find(|pair| pair.first() == pair.last()).and_then(|pair| pair.first().copied())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_point_that_breaks_off_has_failed_and_the_others_are_told() {
        let folder = tempfile::tempdir().unwrap();
        let plan = Plan {
            farmhand: PathBuf::new(),
            dir: folder.path().join("check"),
            proof: None,
            only: Some("line".to_owned()),
        };
        let looks = |point: &'static str, _place| async move {
            assert_ne!(point, "line.breaks");
            Ok("seen".to_owned())
        };
        let mut told = Vec::new();
        let points = ["line.breaks", "line.holds", "other"];
        let all_ok = run(
            &plan,
            &points,
            &["line.holds"],
            |dir| Ok(dir.to_owned()),
            looks,
            |outcome| {
                told.push((outcome.point, outcome.result.is_ok()));
            },
        );
        assert!(!all_ok.await.unwrap());
        told.sort_unstable();
        assert_eq!(told, [("line.breaks", false), ("line.holds", true)]);
        let plan = Plan { only: Some("nothing".to_owned()), ..plan };
        let refused = run(&plan, &points, &[], |dir| Ok(dir.to_owned()), looks, |_| {}).await;
        assert!(refused.unwrap_err().to_string().contains("line.holds"));
    }

    #[test]
    fn a_name_that_comes_twice_is_told() {
        assert_eq!(named_twice(&["a", "b"]), None);
        assert_eq!(named_twice(&["a", "b", "a"]), Some("a"));
    }
}
