//! Stories of the gates between waves, of failures by their class, and of what the operator does about them.

use super::bench::{Bench, config, sizes};
use super::*;
use crate::phone::InstallFailureClass::{NeedsHand, Permanent, Transient};
use crate::rack::ids::RolloutId;
use crate::rack::request::Request;
use crate::rack::snapshot::RolloutPhoneState;
use crate::rack::strategy::{Approve, Share, Strategy};

fn strategy() -> Strategy {
    config(Approve::First).strategy
}

fn r1() -> RolloutId {
    RolloutId::new("R1")
}

fn promote(bench: &mut Bench) -> Done {
    bench.ask(&Request::RolloutPromote { rollout: r1(), reason: "known phones".into() }).unwrap()
}

#[test]
fn what_may_pass_is_tried_again_after_a_while_and_fails_at_the_end() {
    let mut bench = Bench::under_way_by(Strategy { retries: 2, ..strategy() }, 1);
    for (after, tries) in [(30, 1), (60, 2)] {
        assert_eq!(bench.installs(), ["P1"]);
        bench.failed("P1", "R1", Transient);
        assert_eq!(bench.out(), [], "the server hears of a failure at the end only");
        let view = bench.view("R1");
        assert_eq!(view.state, RolloutState::Running);
        let phone = &view.waves[0].phones[0];
        assert_eq!((phone.state, phone.attempts), (RolloutPhoneState::Waiting, tries));
        assert!(phone.why.as_deref().unwrap().starts_with(&format!("tried again {after} s after: INSTALL_FAILED")));
        assert_eq!(bench.core.deadline().unwrap().why, "the next try of an install");
        bench.pass(after - 1);
        assert_eq!(bench.installs(), [""; 0]);
        bench.pass(1);
    }
    assert_eq!(bench.installs(), ["P1"]);
    bench.failed("P1", "R1", Transient);
    assert_eq!(bench.view("R1").state, RolloutState::Paused);
    bench.out();
    bench.resume("R1");
    assert_eq!(bench.installs(), ["P1"]);
    bench.failed("P1", "R1", Transient);
    assert_eq!(bench.view("R1").state, RolloutState::Running, "resumed, it has all its tries again");
}

#[test]
fn so_many_may_fail_and_one_more_pauses() {
    let strategy = Strategy { waves: sizes("4"), max_failures: Share::Percent(25), ..strategy() };
    let mut bench = Bench::under_way_by(strategy, 4);
    bench.out();
    bench.failed("P1", "R1", Permanent);
    assert_eq!(bench.view("R1").state, RolloutState::Running, "one of four is 25 %");
    bench.failed("P2", "R1", Permanent);
    assert_eq!(bench.view("R1").state, RolloutState::Paused);
    assert!(bench.view("R1").why.starts_with("P2 failed: "));
    bench.installed("P3", "R1", 2);
    bench.installed("P4", "R1", 2);
    assert_eq!(bench.view("R1").state, RolloutState::Paused, "too much has failed to call it finished");
    assert_eq!(promote(&mut bench).what, "R1 goes on without 2 phones");
    let view = bench.view("R1");
    assert_eq!((view.state, view.why.as_str()), (RolloutState::Finished, "2 phones on version 2; 2 failed"));
}

#[test]
fn a_phone_that_needs_a_hand_stops_nobody_else() {
    let mut bench = Bench::under_way_by(Strategy { waves: sizes("2,2"), ..strategy() }, 4);
    bench.out();
    bench.failed("P1", "R1", NeedsHand);
    bench.installed("P2", "R1", 2);
    bench.out();
    bench.installed("P3", "R1", 2);
    bench.installed("P4", "R1", 2);
    let view = bench.view("R1");
    assert_eq!((view.state, view.why.as_str()), (RolloutState::Finished, "3 phones on version 2; 1 needs a hand"));
}

#[test]
fn no_wave_begins_while_nobody_has_the_version() {
    let mut bench = Bench::under_way_by(Strategy { max_failures: Share::Count(5), ..strategy() }, 3);
    bench.out();
    bench.failed("P1", "R1", Permanent);
    let view = bench.view("R1");
    assert_eq!(view.state, RolloutState::Paused);
    assert_eq!(view.why, "nobody has the version after wave 1: nothing is known of it");
    bench.out();
    promote(&mut bench);
    assert_eq!(bench.installs(), ["P2", "P3"]);
}

#[test]
fn what_a_wave_got_is_watched_for_its_soak_also_over_a_restart() {
    let mut bench = Bench::under_way_by(Strategy { soak_s: 600, ..strategy() }, 2);
    bench.out();
    bench.installed("P1", "R1", 2);
    assert_eq!(bench.installs(), [""; 0]);
    assert_eq!(bench.view("R1").why, "wave 1 done; soaks for 600 s before wave 2 of 2");
    let deadline = bench.core.deadline().unwrap();
    assert_eq!((deadline.at, deadline.why), (bench.now + Duration::from_secs(600), "the end of a wave's soak"));
    bench.pass(599);
    bench.restart();
    bench.available("P2", 1);
    bench.fetched(1, Ok(super::bench::apk(2)));
    bench.out();
    assert_eq!(bench.view("R1").state, RolloutState::Running);
    bench.pass(1);
    assert_eq!(bench.installs(), ["P2"]);
}

#[test]
fn what_failed_is_tried_again_in_a_rollout_that_is_finished_too() {
    let mut bench = Bench::under_way_by(Strategy { waves: sizes("3"), ..strategy() }, 3);
    bench.failed("P1", "R1", NeedsHand);
    bench.failed("P2", "R1", NeedsHand);
    bench.installed("P3", "R1", 2);
    assert_eq!(bench.view("R1").state, RolloutState::Finished);
    bench.out();
    let retry = |phone: Option<&str>| Request::RolloutRetry { rollout: r1(), phone: phone.map(super::bench::id) };
    assert_eq!(bench.ask(&retry(Some("P9"))).unwrap_err().code, "rollout.phone_unknown");
    assert_eq!(bench.ask(&retry(Some("P3"))).unwrap_err().code, "rollout.nothing_to_do");
    assert_eq!(bench.ask(&retry(Some("P2"))).unwrap().what, "R1 tries 1 phone again");
    assert_eq!(bench.installs(), ["P2"]);
    bench.installed("P2", "R1", 2);
    assert_eq!(bench.view("R1").why, "2 phones on version 2; 1 needs a hand");
    bench.restart();
    bench.available("P1", 1);
    assert_eq!(bench.ask(&retry(None)).unwrap().what, "R1 tries 1 phone again");
    bench.fetched(1, Ok(super::bench::apk(2)));
    bench.out.clear();
    bench.installed("P1", "R1", 2);
    assert_eq!(bench.view("R1").why, "3 phones on version 2");
}

#[test]
fn an_owner_who_wants_to_agree_to_each_wave_is_asked_before_each() {
    let mut bench = Bench::under_way_by(Strategy { approve: Approve::Each, ..strategy() }, 3);
    assert_eq!(bench.installs(), ["P1"]);
    bench.installed("P1", "R1", 2);
    let view = bench.view("R1");
    assert_eq!(view.state, RolloutState::WaitingApproval);
    assert_eq!(view.why, "wave 1 done; waits for `farmhand rollout approve R1`");
    bench.restart();
    bench.available("P2", 1);
    bench.available("P3", 1);
    bench.fetched(1, Ok(super::bench::apk(2)));
    bench.out();
    bench.approve("R1");
    assert_eq!(bench.installs(), ["P2", "P3"]);
}

#[test]
fn a_phone_that_is_left_out_is_waited_for_no_longer_and_the_server_hears_of_it() {
    let mut bench = Bench::under_way(2);
    bench.unavailable("P2", "it was unplugged");
    bench.installed("P1", "R1", 2);
    bench.out();
    let skip = |phone: &str| Request::RolloutSkip { rollout: r1(), phone: super::bench::id(phone) };
    assert_eq!(bench.ask(&skip("P9")).unwrap_err().code, "rollout.phone_unknown");
    assert_eq!(bench.ask(&skip("P1")).unwrap_err().code, "rollout.phone_state");
    assert_eq!(bench.ask(&skip("P2")).unwrap().what, "P2 is left out of R1");
    assert_eq!(bench.view("R1").why, "1 phone on version 2; 1 skipped");
    assert_eq!(bench.view("R1").state, RolloutState::Finished);
    assert!(matches!(bench.out().as_slice(), [Output::ReportFailure { message_id: 2, .. }]));
    assert_eq!(bench.ask(&skip("P2")).unwrap_err().code, "rollout.state");
}

#[test]
fn a_rollout_that_is_given_up_begins_nothing_more_and_tells_the_server_of_each_phone() {
    let mut bench = Bench::under_way(3);
    bench.out();
    let abort = |reason: &str| Request::RolloutAbort { rollout: r1(), reason: reason.into() };
    assert_eq!(bench.ask(&abort(" ")).unwrap_err().code, "rollout.reason");
    let done = bench.ask(&abort("a bad build")).unwrap();
    assert_eq!(done.what, "R1 is given up; 0 phones on version 2; 2 skipped; 1 install under way will finish");
    let view = bench.view("R1");
    assert_eq!((view.state, view.why.as_str()), (RolloutState::Aborted, "given up by the operator: a bad build"));
    assert_eq!(bench.out().len(), 2, "a report for each phone that will not get it");
    bench.available("P1", 1);
    bench.start(super::bench::apk(3), &["P1"]).unwrap();
    bench.approve("R2");
    assert_eq!(bench.out(), [], "nobody else installs on a phone while it installs");
    bench.installed("P1", "R1", 2);
    assert_eq!(bench.waves("R1"), "P1 done | P2 skipped, P3 skipped");
    assert_eq!(bench.installs(), ["P1"]);
    assert!(bench.shelf.audit.iter().any(|line| line.what == "gave up: a bad build"));
}
