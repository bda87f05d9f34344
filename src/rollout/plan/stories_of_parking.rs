//! Phones that are away, come back, and appear while a rollout is under way.

use super::bench::{Bench, apk, fit, id};
use super::*;
use crate::rack::candidate::Choice;
use crate::rack::ids::Label;
use crate::rack::request::Request;
use crate::rack::strategy::{Approve, Join};

const DAY: u64 = 86_400;

/// P1 to P4 with version 1, in waves of one and three.
fn rack() -> Bench {
    let mut bench = Bench::new(Approve::First);
    for phone in ["P1", "P2", "P3", "P4"] {
        bench.available(phone, 1);
    }
    bench.out.clear();
    bench
}

fn begin(bench: &mut Bench) {
    bench.start_for(apk(2), Choice::default()).unwrap();
    bench.approve("R1");
}

#[test]
fn nobody_is_parked_before_his_time_and_the_others_then_go_on() {
    let mut bench = rack();
    begin(&mut bench);
    bench.installed("P1", "R1", 2);
    bench.unavailable("P3", "unplugged");
    bench.installed("P2", "R1", 2);
    bench.installed("P4", "R1", 2);
    bench.available("P3", 1);
    bench.installed("P3", "R1", 2);
    assert_eq!(bench.view("R1").state, RolloutState::Finished);

    let mut bench = rack();
    bench.start_for(apk(2), Choice::default()).unwrap();
    bench.unavailable("P2", "mara holds it: battery check");
    bench.pass(400);
    bench.approve("R1");
    bench.installed("P1", "R1", 2);
    bench.pass(150);
    assert_eq!(bench.waves("R1"), "P1 done | P2 waiting, P3 installing, P4 installing");
    bench.pass(60);
    assert_eq!(bench.waves("R1"), "P1 done | P2 parked, P3 installing, P4 installing");
}

#[test]
fn a_rollout_says_for_whom_it_waits_and_lets_the_next_one_go() {
    let mut bench = rack();
    bench.unavailable("P4", "mara holds it: battery check");
    begin(&mut bench);
    for phone in ["P1", "P2", "P3"] {
        bench.installed(phone, "R1", 2);
    }
    let view = bench.view("R1");
    let why = "3 phones on version 2; 1 parked; waits for 1 phone that is away, until Thu 8 Jan 1970, 00:16 (UTC): P4 (mara holds it: battery check)";
    assert_eq!((view.state, view.why.as_str()), (RolloutState::Running, why));
    bench.start(apk(3), &["P1"]).unwrap();
    bench.out.clear();
    bench.approve("R2");
    assert_eq!(bench.installs(), ["P1"]);
    bench.installed("P1", "R2", 3);
    bench.available("P4", 1);
    assert_eq!(bench.installs(), ["P4"], "it has the turn that it missed");
    bench.installed("P4", "R1", 2);
    assert_eq!(bench.view("R1").state, RolloutState::Finished);
}

#[test]
fn a_phone_that_stays_away_is_given_up_at_the_close_and_the_server_hears_it() {
    let mut bench = rack();
    bench.unavailable("P2", "unplugged");
    for (n, phone) in (41..).zip(["P1", "P2"]) {
        bench.offer(phone, n, 2);
    }
    bench.pass(5);
    bench.fetched(1, Ok(apk(2)));
    bench.approve("R1");
    bench.installed("P1", "R1", 2);
    bench.pass(700);
    assert_eq!(bench.waves("R1"), "P1 done | P2 parked");
    bench.restart();
    bench.pass(7 * DAY - 800);
    assert_eq!(bench.view("R1").state, RolloutState::Running);
    bench.unavailable("P2", "unplugged");
    bench.out.clear();
    bench.pass(200);
    assert_eq!(
        (bench.view("R1").state, bench.waves("R1")),
        (RolloutState::Finished, "P1 done | P2 skipped".to_owned())
    );
    let told = |output: &Output| matches!(output, Output::ReportFailure { message_id: 42, why, .. } if why.contains("after 7 days"));
    assert!(bench.out.iter().any(told), "{:?}", bench.out);
}

#[test]
fn nobody_goes_on_when_the_whole_first_wave_is_away() {
    let mut bench = rack();
    bench.start_for(apk(2), Choice::default()).unwrap();
    bench.unavailable("P1", "unplugged");
    bench.approve("R1");
    bench.pass(700);
    let view = bench.view("R1");
    assert_eq!(view.state, RolloutState::Paused);
    assert!(view.why.starts_with("nobody has the version after wave 1"), "{}", view.why);
}

#[test]
fn a_phone_that_appears_joins_the_last_wave_if_it_is_meant() {
    let mut bench = rack();
    let top = Candidate { labels: [Label::new("top")].into(), ..fit() };
    for phone in ["P1", "P2", "P3", "P4"] {
        bench.known(phone, top.clone());
    }
    bench.start_for(apk(2), Choice { labels: vec![Label::new("top")], ..Choice::default() }).unwrap();
    bench.approve("R1");
    bench.available("P6", 1);
    bench.known("P5", top.clone());
    bench.available("P5", 1);
    bench.known("P7", top);
    bench.available("P7", 2);
    assert_eq!(bench.waves("R1"), "P1 installing | P2 waiting, P3 waiting, P4 waiting, P5 waiting");
    let waves = bench.waves("R1");
    bench.restart();
    assert_eq!(bench.waves("R1"), waves, "it was promised");
}

#[test]
fn a_static_rollout_is_joined_by_nobody_and_waits_for_nobody() {
    let mut bench = rack();
    bench.core.config.strategy.join = Join::Static;
    bench.unavailable("P4", "unplugged");
    let done = bench.start_for(apk(2), Choice::default()).unwrap();
    assert!(done.what.contains("1 phone left out, not being ready"), "{}", done.what);
    bench.approve("R1");
    bench.available("P4", 1);
    bench.available("P5", 1);
    assert_eq!(bench.waves("R1"), "P1 installing | P2 waiting, P3 waiting");
}

#[test]
fn who_appears_while_the_apk_is_looked_for_after_a_restart_joins_too() {
    let mut bench = rack();
    begin(&mut bench);
    bench.restart();
    bench.available("P9", 1);
    assert!(!bench.waves("R1").contains("P9"));
    bench.fetched(1, Ok(apk(2)));
    assert!(bench.waves("R1").ends_with("P9 waiting"), "{}", bench.waves("R1"));
}

#[test]
fn of_two_rollouts_the_higher_version_is_joined() {
    let mut bench = rack();
    begin(&mut bench);
    bench.start_for(apk(3), Choice::default()).unwrap();
    bench.available("P5", 1);
    assert!(!bench.waves("R1").contains("P5") && bench.waves("R2").contains("P5"));
}

#[test]
fn parked_phones_can_be_left_out_and_are_when_it_is_given_up() {
    let mut bench = rack();
    bench.start(apk(2), &["P1"]).unwrap();
    bench.unavailable("P4", "unplugged");
    bench.unavailable("P3", "unplugged");
    bench.start(apk(2), &["P2", "P3", "P4"]).unwrap();
    assert_eq!(bench.waves("R2"), "P2 waiting, P3 parked, P4 parked");
    bench.ask(&Request::RolloutSkip { rollout: RolloutNumber(2).id(), phone: id("P3") }).unwrap();
    bench.ask(&Request::RolloutAbort { rollout: RolloutNumber(2).id(), reason: "no".into() }).unwrap();
    assert_eq!(bench.waves("R2"), "P2 skipped, P3 skipped, P4 skipped");
}
