//! How many are installed on at once, and phones that must not be installed on for now.

use super::bench::{Bench, apk, config, fit, sizes};
use super::*;
use crate::phone::InstallFailureClass::Permanent;
use crate::rack::candidate::{Choice, Readings};
use crate::rack::ids::RolloutId;
use crate::rack::limits::{Heed, LimitChanges, Limits};
use crate::rack::request::Request;
use crate::rack::strategy::{Approve, Share, Strategy, StrategyChanges};

fn with(readings: Readings) -> Candidate {
    Candidate { readings, ..fit() }
}

fn battery(percent: u8) -> Candidate {
    with(Readings { battery_percent: Some(percent), ..fit().readings })
}

/// P1 to P6 in one wave; P1 to P4 hang on the hub H1.
fn begin(limits: Limits) -> Bench {
    let mut bench = Bench::new(Approve::None);
    bench.core.config.strategy = Strategy { waves: sizes("100%"), limits, ..bench.core.config.strategy.clone() };
    for n in 1..=6 {
        bench.known(&format!("P{n}"), Candidate { hub: (n <= 4).then(|| "H1".to_owned()), ..fit() });
        bench.available(&format!("P{n}"), 1);
    }
    bench.start_for(apk(2), Choice::default()).unwrap();
    bench
}

fn why(bench: &Bench, phone: &str) -> String {
    let view = bench.view("R1");
    let shown = view.waves.iter().flat_map(|wave| &wave.phones).find(|shown| shown.phone.as_str() == phone);
    shown.unwrap().why.clone().unwrap_or_default()
}

#[test]
fn so_many_at_once_of_the_rack_and_of_each_hub_and_no_more() {
    let mut bench = begin(Limits { at_once: 3, at_once_per_hub: 2, ..Limits::default() });
    assert_eq!(bench.installs(), ["P1", "P2", "P5"], "P3 and P4 wait for their hub, P6 for the rack");
    assert_eq!(why(&bench, "P6"), "its turn comes after others: 3 are installed on at once");
    bench.installed("P5", "R1", 2);
    assert_eq!(bench.installs(), ["P6"]);
    bench.installed("P6", "R1", 2);
    assert_eq!(bench.installs(), [""; 0]);
    assert_eq!(why(&bench, "P3"), "its turn comes after others: 2 of H1 are installed on at once");
    bench.installed("P2", "R1", 2);
    assert_eq!(bench.installs(), ["P3"]);
    assert_eq!(bench.core.deadline().unwrap().why, "the result of an install");
}

#[test]
fn an_unfit_phone_waits_with_its_reason_and_is_picked_up_when_it_is_fit() {
    let mut bench = Bench::new(Approve::First);
    bench.known("P1", battery(12));
    bench.available("P1", 1);
    bench.start(apk(2), &["P1"]).unwrap();
    assert_eq!(why(&bench, "P1"), "", "its turn has not come");
    bench.approve("R1");
    assert_eq!(bench.installs(), [""; 0]);
    let reason = "its battery is at 12 %, and an install wants 30 %";
    assert_eq!(why(&bench, "P1"), reason);
    assert_eq!(bench.view("R1").why, format!("wave 1 of 1: 0 of 1 phone done; waits for P1 ({reason})"));
    assert_eq!(bench.core.deadline().unwrap().why, "a phone to be fit for its install");
    bench.known("P1", battery(30));
    assert_eq!(bench.installs(), ["P1"]);
}

#[test]
fn the_time_of_an_unfit_phone_goes_on_over_a_restart_and_ends_as_a_failure() {
    let mut bench = Bench::new(Approve::First);
    bench.known("P1", with(Readings { free_mib: Some(0), ..fit().readings }));
    bench.available("P1", 1);
    bench.start(apk(2), &["P1"]).unwrap();
    bench.approve("R1");
    bench.pass(6 * 3600 - 10);
    bench.restart();
    bench.known("P1", with(Readings { free_mib: Some(0), ..fit().readings }));
    bench.available("P1", 1);
    bench.fetched(1, Ok(apk(2)));
    assert_eq!(bench.waves("R1"), "P1 waiting");
    bench.pass(10);
    let view = bench.view("R1");
    assert_eq!((view.state, bench.waves("R1")), (RolloutState::Paused, "P1 failed".to_owned()));
    let told =
        "it was not fit for an install within 6 h: it has 0 MiB free, and an install wants 1 MiB, three times the APK";
    assert_eq!(why(&bench, "P1"), told);
    bench.resume("R1");
    assert_eq!(bench.waves("R1"), "P1 waiting", "resumed, it has all its time again");
    bench.pass(60);
    assert_eq!(bench.waves("R1"), "P1 waiting");
}

#[test]
fn an_unfit_phone_of_a_later_wave_waits_while_an_earlier_one_is_tried_again() {
    let limits = Limits { fit_within_s: 300, ..Limits::default() };
    let waves =
        Strategy { waves: sizes("2,100%"), limits, max_failures: Share::Count(1), ..config(Approve::First).strategy };
    let mut bench = Bench::under_way_by(waves, 3);
    bench.known("P3", battery(12));
    bench.installed("P2", "R1", 2);
    bench.failed("P1", "R1", Permanent);
    assert_eq!(bench.waves("R1"), "P1 failed, P2 done | P3 waiting");
    bench.unavailable("P1", "unplugged");
    let retry = Request::RolloutRetry { rollout: RolloutId::new("R1"), phone: Some(super::bench::id("P1")) };
    bench.ask(&retry).unwrap();
    bench.pass(300);
    assert_eq!(bench.waves("R1"), "P1 waiting, P2 done | P3 waiting");
    assert!(bench.core.deadline().unwrap().at > bench.now, "nothing is due that changes nothing");
    bench.available("P1", 1);
    bench.installed("P1", "R1", 2);
    assert_eq!(bench.waves("R1"), "P1 done, P2 done | P3 failed", "its time is over once it has its turn");
}

#[test]
fn force_looks_at_no_battery_and_stands_in_the_audit() {
    let mut bench = Bench::new(Approve::First);
    bench.known("P1", battery(3));
    bench.available("P1", 1);
    let limits = LimitChanges { readings: Heed::Forced, ..LimitChanges::default() };
    bench.start_by(apk(2), StrategyChanges { limits, ..StrategyChanges::default() }).unwrap();
    bench.approve("R1");
    assert_eq!(bench.installs(), ["P1"]);
    let said = |line: &AuditRecord| line.what.contains("; by force: the phones' batteries are not looked at");
    assert!(bench.shelf.audit.iter().any(said), "{:?}", bench.shelf.audit);
}

#[test]
fn what_a_forecast_says_of_unfit_phones_is_what_they_wait_for() {
    let mut bench = Bench::new(Approve::First);
    bench.known("P1", battery(3));
    for phone in ["P1", "P2"] {
        bench.available(phone, 1);
    }
    let forecast = bench.forecast(apk(2), Choice::default()).unwrap();
    let waits = forecast.waves[0][0].waits.as_deref();
    assert_eq!(waits, Some("its battery is at 3 %, and an install wants 30 %"));
    assert_eq!(forecast.takes_s, Some(30), "it is not waited for");
}
