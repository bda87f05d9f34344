//! Upgrades that agents carry out by themselves, with the real daemon on virtual phones: each point of `rackbench line-check` about them.

use std::path::Path;

use firmware_tools::check::PointPlan;
use firmware_tools::line_check;

/// Whether the points that begin so are ok.
async fn is_ok(points: &str) {
    let dir = tempfile::tempdir().unwrap();
    let plan = PointPlan {
        farmhand: Path::new(env!("CARGO_BIN_EXE_farmhand")).to_owned(),
        dir: dir.path().join("racks"),
        proof: None,
        only: Some(points.to_owned()),
    };
    let mut told = Vec::new();
    let all_ok = line_check::run(&plan, |outcome| told.push(format!("{outcome:?}"))).await;
    assert!(all_ok.unwrap(), "{}", told.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rollout_reaches_phones_by_their_agents_and_so_does_what_is_forwarded() {
    is_ok("upgrade.").await;
}
