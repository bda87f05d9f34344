//! Looks at a wave before the next one begins.

use super::bench::{Bench, config, id};
use super::*;
use crate::rack::gates::{Gates, Health};
use crate::rack::request::Request;
use crate::rack::strategy::{Approve, Downgrade, OnFailure, Strategy, StrategyChanges};

/// P1 to P4 in waves of one and three, P1 with the version; the first wave is looked at.
fn watched(gates: Gates) -> Bench {
    let mut bench = Bench::under_way_by(Strategy { gates, soak_s: 600, ..config(Approve::First).strategy }, 4);
    bench.out();
    bench.installed("P1", "R1", 2);
    bench.pass(600);
    bench
}

fn all(least: &str) -> Gates {
    let least = Some(least.parse().unwrap());
    Gates { agent: least, crashes: least, line: least, heartbeats: least }
}

fn looked(bench: &mut Bench, phone: &str, health: Result<Health, String>) {
    let (phone, rollout) = (id(phone), RolloutNumber(1).id());
    bench.core.command(bench.now, RolloutCommand::Looked { phone, rollout, health: health.map(Box::new) });
    bench.settle();
}

fn well() -> Health {
    Health::well(VersionCode(2))
}

#[test]
fn a_wave_is_looked_at_after_its_soak_and_the_next_one_begins_if_it_fares_well() {
    let mut bench = watched(all("100%"));
    let within = Duration::from_secs(600);
    assert_eq!(bench.out(), [Output::Look { phone: id("P1"), rollout: RolloutNumber(1).id(), within }]);
    assert_eq!(bench.view("R1").why, "wave 1 done; its phones are asked how they fare");
    assert_eq!(bench.core.deadline().unwrap().why, "the phones of a wave to say how they fare");
    looked(&mut bench, "P1", Ok(well()));
    assert_eq!(bench.installs(), ["P2", "P3", "P4"]);
}

#[test]
fn what_the_agent_did_while_its_install_went_on_counts_too() {
    let strategy = Strategy { gates: all("100%"), soak_s: 600, ..config(Approve::First).strategy };
    let mut bench = Bench::under_way_by(strategy, 4);
    bench.out();
    bench.pass(25);
    bench.installed("P1", "R1", 2);
    bench.pass(600);
    let within = Duration::from_secs(625);
    assert_eq!(bench.out(), [Output::Look { phone: id("P1"), rollout: RolloutNumber(1).id(), within }]);
}

#[test]
fn a_gate_that_is_not_passed_pauses_and_says_why_until_it_is_looked_at_again_or_promoted() {
    let mut bench = watched(all("100%"));
    looked(&mut bench, "P1", Ok(Health { faults: Some(vec!["it crashed at noon".to_owned()]), ..well() }));
    let view = bench.view("R1");
    let why = "the gate `crashes` wants 100%, and 0 of 1 phone pass; P1: it crashed at noon";
    assert_eq!((view.state, view.why.as_str()), (RolloutState::Paused, why));
    bench.out();
    bench.resume("R1");
    assert!(matches!(bench.out()[..], [Output::Look { .. }]), "it is looked at again");
    looked(&mut bench, "P1", Ok(Health { running: Some(false), ..well() }));
    assert!(bench.view("R1").why.contains("`agent`"), "{}", bench.view("R1").why);
    bench.ask(&Request::RolloutPromote { rollout: RolloutNumber(1).id(), reason: "known".into() }).unwrap();
    assert_eq!(bench.installs(), ["P2", "P3", "P4"]);
}

#[test]
fn a_gate_that_is_not_passed_rolls_back_where_failures_do_and_one_that_cannot_be_judged_never() {
    let on_failure = OnFailure::RollBack;
    let strategy = Strategy { gates: all("100%"), soak_s: 600, on_failure, ..config(Approve::First).strategy };
    let begun = || {
        let mut bench = Bench::under_way_by(strategy.clone(), 4);
        bench.installed("P1", "R1", 2);
        bench.pass(600);
        bench
    };
    let mut bench = begun();
    looked(&mut bench, "P1", Ok(Health { running: None, ..well() }));
    assert_eq!(bench.view("R1").state, RolloutState::Paused, "nobody knows");
    let mut bench = begun();
    looked(&mut bench, "P1", Ok(Health { running: None, faults: Some(vec!["it crashed".to_owned()]), ..well() }));
    let why = "the gate `crashes` wants 100%, and 0 of 1 phone pass; P1: it crashed";
    assert!(bench.shelf.audit.iter().any(|line| line.what == format!("rolls back: {why}")));
    assert!(bench.view("R1").state.is_rolled_back(), "{:?}", bench.view("R1"));
}

#[test]
fn a_phone_that_has_a_newer_version_by_now_does_not_judge_an_older_one() {
    let mut bench = watched(all("100%"));
    bench.out();
    looked(&mut bench, "P1", Ok(Health { running: Some(false), ..Health::well(VersionCode(3)) }));
    assert_eq!(bench.installs(), ["P2", "P3", "P4"]);
}

#[test]
fn a_phone_that_a_later_rollout_took_back_does_not_judge_the_one_before() {
    let mut bench = watched(all("100%"));
    bench.pause("R1");
    let strategy = StrategyChanges { downgrade: Downgrade::Allowed, ..StrategyChanges::default() };
    bench.start_by(super::bench::apk(1), strategy).unwrap();
    bench.approve("R2");
    bench.installed("P1", "R2", 1);
    bench.resume("R1");
    bench.out();
    looked(&mut bench, "P1", Ok(Health::well(VersionCode(1))));
    assert_eq!(bench.view("R1").state, RolloutState::Running, "{}", bench.view("R1").why);
}

#[test]
fn a_gate_that_cannot_be_judged_pauses() {
    let mut bench = watched(all("1%"));
    looked(&mut bench, "P1", Ok(Health { running: None, ..well() }));
    assert_eq!(bench.view("R1").why, "the gate `agent` can't be judged: P1: whether the agent runs can't be seen");
    bench.resume("R1");
    looked(&mut bench, "P1", Err("the phone is not here".to_owned()));
    assert_eq!(bench.view("R1").why, "the gate `agent` can't be judged: P1: the phone is not here");
    bench.resume("R1");
    bench.pass(LOOK_MAX.as_secs());
    let view = bench.view("R1");
    assert_eq!(view.state, RolloutState::Paused);
    assert!(view.why.ends_with("P1: it has not answered within 60 s"), "{}", view.why);
}

#[test]
fn a_phone_that_has_left_since_the_start_is_not_waited_for_as_one_that_was_not_seen_yet() {
    let mut bench = watched(all("100%"));
    bench.restart();
    bench.available("P1", 2);
    bench.unavailable("P1", "unplugged");
    bench.fetched(1, Ok(super::bench::apk(2)));
    bench.pass(1);
    assert!(bench.out().iter().any(|output| matches!(output, Output::Look { .. })), "it is asked at once");
    looked(&mut bench, "P1", Err("the phone is not here".to_owned()));
    assert_eq!(bench.view("R1").state, RolloutState::Paused);
}

#[test]
fn after_a_restart_it_is_looked_at_again() {
    let mut bench = watched(all("100%"));
    bench.out();
    bench.restart();
    bench.available("P1", 2);
    for phone in ["P2", "P3", "P4"] {
        bench.available(phone, 1);
    }
    bench.fetched(1, Ok(super::bench::apk(2)));
    // The soak that was promised is over by the clock; its end is looked at.
    bench.pass(1);
    assert!(bench.out().iter().any(|output| matches!(output, Output::Look { .. })));
    looked(&mut bench, "P1", Ok(well()));
    assert_eq!(bench.installs(), ["P2", "P3", "P4"]);
}

#[test]
fn without_gates_nobody_is_asked() {
    let mut bench = watched(Gates::default());
    assert_eq!(bench.installs(), ["P2", "P3", "P4"]);
}

#[test]
fn the_last_wave_is_watched_and_looked_at_too_before_it_is_finished() {
    let mut bench = watched(all("100%"));
    looked(&mut bench, "P1", Ok(well()));
    bench.out();
    for phone in ["P2", "P3", "P4"] {
        bench.installed(phone, "R1", 2);
    }
    let view = bench.view("R1");
    let why = "4 phones on version 2; soaks for 600 s before its phones are asked how they fare";
    assert_eq!((view.state, view.why.as_str()), (RolloutState::Running, why));
    assert_eq!(bench.core.deadline().unwrap().why, "the end of a wave's soak");
    bench.pass(600);
    assert_eq!(bench.out().len(), 3, "P1 was looked at before");
    looked(&mut bench, "P2", Ok(well()));
    looked(&mut bench, "P3", Ok(Health { running: Some(false), ..well() }));
    looked(&mut bench, "P4", Ok(well()));
    assert_eq!(bench.view("R1").state, RolloutState::Paused);
    bench.resume("R1");
    assert_eq!(bench.out().len(), 3, "they are looked at again");
    bench.restart();
    bench.pass(0);
    assert!(!matches!(bench.out()[..], [Output::Look { .. }, ..]), "nobody was seen yet");
    for phone in 1..=4 {
        bench.available(&format!("P{phone}"), 2);
    }
    assert_eq!(bench.out().len(), 3, "they are looked at again");
    for phone in ["P2", "P3", "P4"] {
        looked(&mut bench, phone, Ok(well()));
    }
    assert_eq!(bench.view("R1").state, RolloutState::Finished);
}

#[test]
fn promoted_behind_the_last_wave_it_is_finished_and_whoever_comes_later_is_looked_at_again() {
    let mut bench = watched(all("100%"));
    looked(&mut bench, "P1", Ok(well()));
    bench.installed("P2", "R1", 2);
    bench.installed("P3", "R1", 2);
    bench.failed("P4", "R1", crate::phone::InstallFailureClass::NeedsHand);
    bench.pass(600);
    looked(&mut bench, "P2", Err("its dropbox can't be read".into()));
    looked(&mut bench, "P3", Ok(well()));
    assert_eq!(bench.view("R1").state, RolloutState::Paused);
    bench.ask(&Request::RolloutPromote { rollout: RolloutNumber(1).id(), reason: "known".into() }).unwrap();
    assert_eq!(bench.view("R1").state, RolloutState::Finished);
    bench.ask(&Request::RolloutRetry { rollout: RolloutNumber(1).id(), phone: None }).unwrap();
    bench.installed("P4", "R1", 2);
    bench.out();
    bench.pass(600);
    assert_eq!(bench.out().len(), 3, "the wave of the late one is looked at");
    for phone in ["P2", "P3", "P4"] {
        looked(&mut bench, phone, Ok(well()));
    }
    assert_eq!(bench.view("R1").state, RolloutState::Finished);
}
