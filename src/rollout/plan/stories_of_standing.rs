//! Phones that come later get the version that last finished its rollout.

use super::bench::{Bench, EPOCH, PACKAGE, apk};
use super::*;
use crate::phone::InstallFailureClass::Permanent;
use crate::rack::request::Request;
use crate::rack::strategy::{Approve, Downgrade, StrategyChanges};

/// `[agent]` with an APK of this content.
fn agent(sha256: &str) -> KeptAgent {
    let apk = Some("/etc/farmhand/agent.apk".into());
    KeptAgent { package: PackageName::new(PACKAGE), apk, sha256: Some(sha256.to_owned()) }
}

/// The daemon is started with that `[agent] apk`, on what was promised.
fn started(bench: &mut Bench, sha256: &str) {
    let promises = bench.shelf.promises();
    bench.core = Rollouts::restore(bench.config.clone(), Some(agent(sha256)), EPOCH, bench.now, promises);
    bench.settle();
}

/// P1 and P2 with version 1 on a rack whose `[agent] apk` is `owners`.
fn rack() -> Bench {
    let mut bench = Bench::new(Approve::First);
    started(&mut bench, "owners");
    bench.available("P1", 1);
    bench.available("P2", 1);
    assert_eq!(bench.out(), [Output::Standing(None)]);
    bench
}

/// The next rollout takes that version to one phone, and finishes.
fn finished(bench: &mut Bench, version: u64, phone: &str) -> String {
    let rollout = begun(bench, version, phone);
    bench.installed(phone, &rollout, version);
    assert_eq!(bench.view(&rollout).state, RolloutState::Finished);
    rollout
}

fn begun(bench: &mut Bench, version: u64, phone: &str) -> String {
    let rollout = bench.start(apk(version), &[phone]).unwrap().rollout.unwrap().to_string();
    bench.approve(&rollout);
    rollout
}

fn rolled_back(bench: &mut Bench, rollout: &str) {
    bench.ask(&Request::RolloutRollback { rollout: RolloutId::new(rollout), reason: "it crashes".into() }).unwrap();
}

fn stands(bench: &Bench) -> Option<u64> {
    let stands = bench.core.standing();
    let promised = Standing::of(&bench.shelf.promises(), bench.core.agent.as_ref().unwrap());
    assert_eq!(stands, promised, "the next start would take what is promised");
    stands.map(|standing| standing.version_code.0)
}

/// What was said of it since the last look.
fn said(bench: &mut Bench) -> Vec<Option<u64>> {
    let version = |output| match output {
        Output::Standing(standing) => Some(standing.map(|standing| standing.version_code.0)),
        _ => None,
    };
    bench.out().into_iter().filter_map(version).collect()
}

#[test]
fn what_finishes_stands_and_what_is_in_trial_does_not() {
    let mut bench = rack();
    begun(&mut bench, 2, "P1");
    assert_eq!(stands(&bench), None, "in trial");
    bench.installed("P1", "R1", 2);
    assert_eq!((stands(&bench), said(&mut bench)), (Some(2), vec![Some(2)]));
    assert_eq!(bench.view("R1").why, "1 phone on version 2; phones that come without the agent get it");
    begun(&mut bench, 3, "P1");
    bench.failed("P1", "R2", Permanent);
    assert_eq!(bench.view("R2").state, RolloutState::Paused);
    assert_eq!(stands(&bench), Some(2), "the next one is in trial");
    bench.ask(&Request::RolloutAbort { rollout: RolloutId::new("R2"), reason: "broken".into() }).unwrap();
    assert_eq!((stands(&bench), said(&mut bench)), (Some(2), vec![]), "and is given up");
    started(&mut bench, "owners");
    assert_eq!((stands(&bench), said(&mut bench)), (Some(2), vec![Some(2)]), "over a restart");
}

#[test]
fn the_way_back_of_a_version_leaves_the_one_before_it() {
    let mut bench = rack();
    finished(&mut bench, 2, "P1");
    finished(&mut bench, 3, "P1");
    assert_eq!(stands(&bench), Some(3));
    rolled_back(&mut bench, "R2");
    assert_eq!((stands(&bench), said(&mut bench)), (Some(2), vec![Some(2), Some(3), Some(2)]));
    bench.fetched(3, Ok(apk(2)));
    bench.installed("P1", "R3", 2);
    assert_eq!(bench.view("R3").state, RolloutState::Finished);
    assert_eq!(stands(&bench), Some(2));
    rolled_back(&mut bench, "R1");
    assert_eq!(stands(&bench), None, "nothing is left but [agent] apk");
}

#[test]
fn another_file_of_the_owners_counts_once_no_rollout_knows_it() {
    let mut bench = rack();
    finished(&mut bench, 2, "P1");
    begun(&mut bench, 3, "P1");
    started(&mut bench, &apk(3).sha256);
    assert_eq!(stands(&bench), Some(2), "the owner's new file is in trial");
    started(&mut bench, &apk(2).sha256);
    assert_eq!(stands(&bench), Some(2));
    started(&mut bench, "another file");
    assert_eq!(stands(&bench), None, "the owner has spoken last");
    bench.available("P1", 1);
    bench.available("P2", 1);
    bench.pass(1);
    bench.fetched(2, Ok(apk(3)));
    bench.installed("P1", "R2", 3);
    assert_eq!((stands(&bench), bench.view("R2").state), (Some(3), RolloutState::Finished), "and then the rollout");
}

#[test]
fn an_older_version_that_was_asked_for_stands_like_any_other_and_without_an_apk_of_the_owners_none_does() {
    let mut bench = rack();
    finished(&mut bench, 3, "P1");
    let strategy = StrategyChanges { downgrade: Downgrade::Allowed, ..StrategyChanges::default() };
    bench.start_by(apk(2), strategy).unwrap();
    bench.approve("R2");
    bench.installed("P1", "R2", 2);
    bench.installed("P2", "R2", 2);
    assert_eq!((bench.view("R2").state, stands(&bench)), (RolloutState::Finished, Some(2)));
    bench.restart();
    assert_eq!(bench.core.standing(), None, "[agent] apk is not configured");
}

#[test]
fn what_stands_is_never_forgotten_and_its_file_never_removed() {
    let mut bench = rack();
    finished(&mut bench, 2, "P1");
    for number in 0..=KEPT_MAX {
        bench.start(apk(3), &["P2"]).unwrap();
        let rollout = RolloutId::new(format!("R{}", number + 2));
        bench.ask(&Request::RolloutAbort { rollout, reason: "not yet".into() }).unwrap();
    }
    assert_eq!(stands(&bench), Some(2));
    started(&mut bench, "owners");
    assert_eq!(stands(&bench), Some(2));
    let file = |version| std::path::PathBuf::from(format!("/state/apks/{}.apk", apk(version).sha256));
    assert!(bench.core.uses(&file(2)) && !bench.core.uses(&file(3)));
}
