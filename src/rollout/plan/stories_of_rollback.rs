//! Phones get back what they had before, and an older version where it is asked for.

use super::bench::{Bench, apk, config, failure, id};
use super::*;
use crate::phone::InstallFailure;
use crate::phone::InstallFailureClass::Permanent;
use crate::rack::ids::RolloutId;
use crate::rack::request::Request;
use crate::rack::strategy::{Approve, Downgrade, OnFailure, StrategyChanges};

/// P1 to P4 with version 2 of R1, brought in waves of one and three, and version 3 of R2 on P1 and P2; P3 is being installed on.
fn half_way() -> Bench {
    let mut bench = Bench::under_way(4);
    bench.installed("P1", "R1", 2);
    for phone in ["P2", "P3", "P4"] {
        bench.installed(phone, "R1", 2);
    }
    assert_eq!(bench.view("R1").state, RolloutState::Finished);
    bench.start(apk(3), &[]).unwrap();
    bench.approve("R2");
    bench.out();
    bench.installed("P1", "R2", 3);
    bench.installed("P2", "R2", 3);
    bench.out();
    bench
}

fn roll_back(bench: &mut Bench, rollout: &str) -> Result<Done, Refusal> {
    bench.ask(&Request::RolloutRollback { rollout: RolloutId::new(rollout), reason: "it drains batteries".into() })
}

/// The APK that is asked for last.
fn fetch(bench: &mut Bench) -> Fetch {
    let fetch = |output| match output {
        Output::Fetch(fetch) => Some(fetch),
        _ => None,
    };
    bench.out().into_iter().rev().find_map(fetch).expect("an APK is asked for")
}

fn wanted(output: Option<Output>) -> (String, u64, Downgrade) {
    match output {
        Some(Output::Install { phone, order }) => (phone.to_string(), order.version_code.0, order.downgrade),
        other => panic!("not an install: {other:?}"),
    }
}

#[test]
fn what_was_brought_is_taken_back_once_what_is_under_way_has_ended() {
    let mut bench = half_way();
    let said = roll_back(&mut bench, "R2").unwrap().what;
    assert_eq!(said, "R2 is rolled back: 2 phones of version 3 go back to version 2; installs under way end first");
    assert_eq!(bench.waves("R2"), "P1 done | P2 done, P3 installing, P4 installing");
    assert_eq!(bench.view("R2").state, RolloutState::RollingBack);
    assert_eq!(bench.out(), [], "nothing goes back while installs are under way");
    bench.installed("P3", "R2", 3);
    bench.failed("P4", "R2", Permanent);
    let fetch = fetch(&mut bench);
    assert_eq!(
        (fetch.rollout, fetch.version_code, fetch.sha256),
        (RolloutNumber(3), VersionCode(2), Some(apk(2).sha256))
    );
    assert_eq!(bench.waves("R2"), "P1 rolling_back | P2 rolling_back, P3 rolling_back, P4 failed");
    bench.fetched(3, Ok(apk(2)));
    let orders: Vec<_> = bench.out().into_iter().map(|output| wanted(Some(output))).collect();
    let order = |phone: &str| (phone.to_owned(), 2, Downgrade::Allowed);
    assert_eq!(orders, [order("P1"), order("P2"), order("P3")], "all at once, and P4 has kept what it had");
    for phone in ["P1", "P2", "P3"] {
        bench.installed(phone, "R3", 2);
    }
    let view = bench.view("R2");
    assert_eq!(bench.waves("R2"), "P1 rolled_back | P2 rolled_back, P3 rolled_back, P4 failed");
    let sum = "0 phones on version 3; 1 failed; 3 rolled back; rolled back by the operator: it drains batteries";
    assert_eq!((view.state, view.why.as_str()), (RolloutState::RolledBack, sum));
    assert_eq!(view.waves[0].phones[0].why.as_deref(), Some("on version 2 again, by R3"));
    assert!(roll_back(&mut bench, "R2").is_err(), "it is rolled back already");
}

#[test]
fn a_restart_at_any_point_of_a_rollback_changes_nothing() {
    let mut bench = half_way();
    bench.installed("P3", "R2", 3);
    bench.failed("P4", "R2", Permanent);
    bench.restart();
    for phone in 1..=4 {
        bench.available(&format!("P{phone}"), if phone == 4 { 2 } else { 3 });
    }
    roll_back(&mut bench, "R2").unwrap();
    bench.restart();
    let fetch = fetch(&mut bench);
    assert_eq!(fetch.rollout, RolloutNumber(3), "one way back, not two");
    bench.fetched(3, Ok(apk(2)));
    for phone in 1..=4 {
        bench.available(&format!("P{phone}"), if phone == 4 { 2 } else { 3 });
    }
    assert_eq!(bench.installs(), ["P1", "P2", "P3"]);
    bench.installed("P1", "R3", 2);
    bench.restart();
    bench.out();
    bench.fetched(3, Ok(apk(2)));
    bench.available("P1", 2);
    bench.available("P2", 2);
    bench.available("P3", 3);
    assert_eq!(bench.installs(), ["P3"], "P2 had it when it was back, and P1 was done");
    bench.installed("P3", "R3", 2);
    assert_eq!(bench.view("R2").state, RolloutState::RolledBack);
    assert_eq!(bench.core.views().len(), 3);
}

#[test]
fn who_can_not_go_back_is_said() {
    let mut bench = Bench::under_way(3);
    bench.installed("P1", "R1", 2);
    bench.installed("P2", "R1", 2);
    bench.installed("P3", "R1", 2);
    let refused = roll_back(&mut bench, "R1").unwrap_err();
    let why = "no phone can get back what it had before R1; P1: no rollout has brought version 1, so its APK is not known here";
    assert_eq!((refused.code.as_str(), refused.what.as_str()), ("rollout.nothing_to_do", why));

    bench.core.agent.as_mut().unwrap().apk = Some("/etc/farmhand/agent.apk".into());
    bench.unavailable("P2", "unplugged");
    bench.available("P3", 7);
    let said = roll_back(&mut bench, "R1").unwrap().what;
    let stays = "P3: it has version 7 by now, which R1 did not bring";
    assert_eq!(said, format!("R1 is rolled back: 2 phones of version 2 go back to version 1; 1 phone can't ({stays})"));
    let fetch = fetch(&mut bench);
    assert_eq!(fetch.source, ApkSource::File("/etc/farmhand/agent.apk".into()));
    bench.fetched(2, Ok(apk(1)));
    let mut refusal = failure(Permanent);
    refusal.reason = Some("INSTALL_FAILED_VERSION_DOWNGRADE".into());
    let rollout = RolloutId::new("R2");
    let command = RolloutCommand::Installed { phone: id("P1"), rollout, result: Err::<_, InstallFailure>(refusal) };
    bench.core.command(bench.now, command);
    bench.settle();
    assert_eq!(bench.waves("R1"), "P1 needs_hand | P2 rolling_back, P3 needs_hand");
    let view = bench.view("R1");
    let why = |place: usize| view.waves.iter().flat_map(|wave| &wave.phones).nth(place).unwrap().why.clone().unwrap();
    assert!(why(0).contains("debuggable apps only"), "{}", why(0));
    assert_eq!(why(2), format!("it can't be rolled back: {}", &stays[4..]));
    bench.pass(7 * 86_400);
    bench.pass(7 * 86_400);
    assert_eq!(bench.waves("R1"), "P1 needs_hand | P2 skipped, P3 needs_hand", "P2 never came back");
    assert_eq!(bench.view("R1").state, RolloutState::RolledBack);
}

#[test]
fn an_apk_that_is_gone_leaves_its_phones_as_they_are_and_says_so() {
    let mut bench = half_way();
    bench.installed("P3", "R2", 3);
    bench.installed("P4", "R2", 3);
    roll_back(&mut bench, "R2").unwrap();
    bench.fetched(3, Err("http://127.0.0.1/agent-2.apk: 404".into()));
    let view = bench.view("R2");
    assert_eq!(view.state, RolloutState::RolledBack);
    assert_eq!(view.waves[0].phones[0].why.as_deref(), Some("not rolled back: http://127.0.0.1/agent-2.apk: 404"));
}

#[test]
fn too_many_failures_roll_back_by_themselves_where_that_is_asked_for() {
    let mut bench = half_way();
    bench.installed("P3", "R2", 3);
    bench.installed("P4", "R2", 3);
    let changes = StrategyChanges { on_failure: Some(OnFailure::RollBack), ..StrategyChanges::default() };
    bench.start_by(apk(4), changes).unwrap();
    bench.approve("R3");
    bench.installed("P1", "R3", 4);
    bench.out();
    bench.failed("P3", "R3", Permanent);
    assert_eq!(bench.view("R3").state, RolloutState::RollingBack);
    assert!(bench.view("R3").why.starts_with("P3 failed: "), "{}", bench.view("R3").why);
    bench.installed("P2", "R3", 4);
    bench.installed("P4", "R3", 4);
    bench.fetched(4, Ok(apk(3)));
    for phone in ["P1", "P2", "P4"] {
        bench.installed(phone, "R4", 3);
    }
    assert_eq!(bench.waves("R3"), "P1 rolled_back | P2 rolled_back, P3 failed, P4 rolled_back");
    assert_eq!(bench.view("R3").state, RolloutState::RolledBack);
}

#[test]
fn a_downgrade_must_be_asked_for_and_undoes_no_later_rollout() {
    let mut bench = Bench::new(Approve::None);
    bench.config = config(Approve::None);
    bench.available("P1", 5);
    bench.available("P2", 5);
    assert!(bench.start_by(apk(4), StrategyChanges::default()).is_err(), "nobody asked for a downgrade");
    let asked = StrategyChanges { downgrade: Downgrade::Allowed, ..StrategyChanges::default() };
    let said = bench.start_by(apk(4), asked).unwrap().what;
    assert_eq!(said, format!("R1 takes {} 4 to 2 phones; a downgrade of 2 phones", super::bench::PACKAGE));
    assert_eq!(wanted(bench.out().pop()), ("P1".to_owned(), 4, Downgrade::Allowed));
    bench.available("P3", 6);
    assert_eq!(bench.waves("R1"), "P1 installing | P2 waiting", "who was not there was not meant");
    bench.pause("R1");
    bench.installed("P1", "R1", 4);
    bench.start(apk(7), &["P2"]).unwrap();
    bench.installed("P2", "R2", 7);
    bench.resume("R1");
    assert_eq!(bench.waves("R1"), "P1 done | P2 skipped");
    let why = bench.view("R1").waves[1].phones[0].why.clone();
    assert_eq!(why.as_deref(), Some("it has version 7 from R2, which began later"));
}
