//! Rollouts that begin at a time, windows, and a clock that is set.

use super::bench::{Bench, apk, config, sizes};
use super::*;
use crate::rack::candidate::Choice;
use crate::rack::strategy::{Approve, Strategy, StrategyChanges};

const HOUR: u64 = 3600;

/// P1 to P4 with version 1 in waves of one and three, by a clock of UTC that shows 00:16:40 and is shut but from 2:00 to 3:00.
fn nightly() -> Bench {
    let mut bench = Bench::new(Approve::None);
    bench.core.config.windows.each = vec!["02:00-03:00".parse().unwrap()];
    bench.config = bench.core.config.clone();
    for phone in ["P1", "P2", "P3", "P4"] {
        bench.available(phone, 1);
    }
    bench.out.clear();
    bench
}

fn set_clock(bench: &mut Bench, epoch: UnixMillis) {
    bench.core.command(bench.now, RolloutCommand::ClockSet(epoch));
    bench.settle();
}

#[test]
fn nothing_begins_outside_the_windows_and_what_runs_ends() {
    let mut bench = nightly();
    bench.start_for(apk(2), Choice::default()).unwrap();
    assert_eq!(bench.installs(), [""; 0]);
    let why = "wave 1 of 2: 0 of 1 phone done; outside the maintenance windows: goes on at Thu 1 Jan 1970, 02:00 (UTC)";
    assert_eq!(bench.view("R1").why, why);
    let deadline = bench.core.deadline().unwrap();
    assert_eq!(deadline.why, "the maintenance window to open");
    bench.pass(deadline.at.since(bench.now).as_secs());
    assert_eq!(bench.installs(), ["P1"]);
    bench.pass(200);
    bench.installed("P1", "R1", 2);
    assert_eq!(bench.installs(), ["P2", "P3", "P4"]);
    bench.installed("P2", "R1", 2);
    bench.failed("P3", "R1", crate::phone::InstallFailureClass::Permanent);
    bench.resume("R1");
    assert_eq!(bench.installs(), ["P3"], "still open");
    bench.pass(HOUR);
    bench.installed("P4", "R1", 2);
    assert_eq!(bench.view("R1").state, RolloutState::Paused, "P3 had no result in time");
    bench.resume("R1");
    assert_eq!(bench.installs(), [""; 0], "it is three");
    bench.pass(23 * HOUR);
    assert_eq!(bench.installs(), ["P3"]);
}

#[test]
fn a_rollout_begins_at_its_time_and_lets_others_go_before() {
    let mut bench = nightly();
    bench.core.config.windows.each.clear();
    bench.config = bench.core.config.clone();
    let at = |text: &str| StrategyChanges { at: Some(text.to_owned()), ..StrategyChanges::default() };
    let done = bench.start_by(apk(2), at("01:00")).unwrap();
    assert!(done.what.contains("; it begins at Thu 1 Jan 1970, 01:00 (UTC)"), "{}", done.what);
    assert_eq!(bench.view("R1").why, "begins at Thu 1 Jan 1970, 01:00 (UTC)");
    bench.start(apk(3), &["P4"]).unwrap();
    assert_eq!(bench.installs(), ["P4"]);
    bench.installed("P4", "R2", 3);
    let deadline = bench.core.deadline().unwrap();
    assert_eq!(deadline.why, "the time at which a rollout begins");
    bench.pass(deadline.at.since(bench.now).as_secs() - 1);
    bench.restart();
    for phone in ["P1", "P2", "P3"] {
        bench.available(phone, 1);
    }
    bench.available("P4", 3);
    bench.fetched(1, Ok(apk(2)));
    bench.out.clear();
    assert_eq!(bench.view("R1").why, "begins at Thu 1 Jan 1970, 01:00 (UTC)", "the time is on the disk");
    assert_eq!(bench.installs(), [""; 0]);
    bench.pass(1);
    assert_eq!(bench.installs(), ["P1"]);
    for (text, told) in [("tonight", "`tonight` is no time"), ("1970-01-01 00:10", "`1970-01-01 00:10` is over")] {
        let refused = bench.start_by(apk(4), at(text)).unwrap_err();
        assert_eq!((refused.code.as_str(), refused.what.as_str()), ("rollout.time", told));
    }
}

#[test]
fn a_clock_that_is_set_moves_the_windows_and_no_wait_of_its_own() {
    let mut bench = nightly();
    bench.core.config.windows.each.clear();
    bench.core.config.strategy = Strategy { soak_s: 600, waves: sizes("1,3"), ..config(Approve::None).strategy };
    bench.start_for(apk(2), Choice::default()).unwrap();
    bench.installed("P1", "R1", 2);
    bench.out.clear();
    bench.pass(300);
    // A host without a clock of its own learns what year it is.
    set_clock(&mut bench, UnixMillis(1_800_000_000_000));
    assert_eq!(bench.installs(), [""; 0], "the soak is no shorter");
    bench.pass(299);
    assert_eq!(bench.installs(), [""; 0]);
    set_clock(&mut bench, UnixMillis(1_000_000));
    bench.pass(1);
    assert_eq!(bench.installs(), ["P2", "P3", "P4"], "nor longer");
    bench.core.config.windows.each = vec!["02:00-03:00".parse().unwrap()];
    bench.failed("P2", "R1", crate::phone::InstallFailureClass::Permanent);
    bench.resume("R1");
    assert_eq!(bench.installs(), [""; 0], "shut");
    set_clock(&mut bench, UnixMillis(7_200_000));
    assert_eq!(bench.installs(), ["P2"], "it is past two");
}

#[test]
fn a_wait_that_was_promised_by_a_wrong_clock_is_no_longer_than_it_may_be() {
    let mut bench = nightly();
    bench.core.config.windows.each.clear();
    bench.config = bench.core.config.clone();
    bench.core.config.strategy = Strategy { soak_s: 600, waves: sizes("1,3"), ..config(Approve::None).strategy };
    bench.start_for(apk(2), Choice::default()).unwrap();
    set_clock(&mut bench, UnixMillis(4_000_000_000_000));
    bench.installed("P1", "R1", 2);
    bench.out.clear();
    // The next daemon finds a clock that is right again, and a soak until the year 2096.
    bench.restart();
    bench.available("P1", 2);
    for phone in ["P2", "P3", "P4"] {
        bench.available(phone, 1);
    }
    bench.fetched(1, Ok(apk(2)));
    bench.out.clear();
    bench.pass(600);
    assert_eq!(bench.installs(), ["P2", "P3", "P4"]);
}
