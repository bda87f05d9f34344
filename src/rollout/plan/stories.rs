//! Stories of rollouts.

use std::time::Duration;

use super::bench::{Bench, PACKAGE, apk, core, id, notice};
use super::*;
use crate::config::{FromCentral, Rollout as Config};
use crate::phone::InstallFailureClass::{NeedsHand, Permanent, Transient};
use crate::rack::event::UpgradeNotice;
use crate::rack::ids::RolloutId;
use crate::rack::request::Request;
use crate::rack::snapshot::RolloutPhoneState;
use crate::rack::strategy::Approve;

fn report(phone: &str, message_id: i64, why: &str) -> Output {
    Output::ReportFailure { phone: id(phone), message_id, why: why.into() }
}

#[test]
fn notices_within_the_gathering_become_one_rollout_that_waits_for_approval() {
    let mut bench = Bench::new(Approve::First);
    for (n, phone) in ["P1", "P2", "P3", "P4"].into_iter().enumerate() {
        bench.available(phone, 1);
        bench.offer(phone, 100 + n as i64, 2);
    }
    assert_eq!(bench.view("R1").state, RolloutState::Gathering);
    assert_eq!(bench.core.deadline().unwrap().at, bench.now + Duration::from_secs(5));
    bench.pass(5);
    let out = bench.out();
    let [Output::Fetch(fetch)] = out.as_slice() else { panic!("one fetch for all: {out:?}") };
    assert_eq!(fetch.source, ApkSource::Url(super::bench::URL.into()));
    bench.fetched(1, Ok(apk(2)));
    assert_eq!(bench.out(), []);
    let view = bench.view("R1");
    assert_eq!(view.state, RolloutState::WaitingApproval);
    assert_eq!(view.why, "waits for `farmhand rollout approve R1`");
    assert_eq!(bench.waves("R1"), "P1 waiting | P2 waiting, P3 waiting, P4 waiting");
    assert_eq!(bench.core.deadline(), None);
}

#[test]
fn what_the_centre_asks_for_needs_the_approval_that_the_owner_wants_for_it() {
    let waits = |from_central, approve| {
        let mut bench = Bench::new(approve);
        bench.core.config.from_central = from_central;
        bench.available("P1", 1);
        bench.offer("P1", 100, 2);
        bench.pass(5);
        bench.fetched(1, Ok(apk(2)));
        bench.view("R1").state == RolloutState::WaitingApproval
    };
    assert!(waits(FromCentral::Ask, Approve::First));
    assert!(waits(FromCentral::Ask, Approve::None), "that is about the owner's own rollouts");
    assert!(!waits(FromCentral::Auto, Approve::First));
    assert!(!waits(FromCentral::Auto, Approve::Each));
}

#[test]
fn waves_follow_each_other_until_every_phone_has_the_version() {
    let mut bench = Bench::under_way(4);
    assert_eq!(bench.installs(), ["P1"]);
    assert_eq!(bench.view("R1").why, "wave 1 of 2: 0 of 1 phone done");
    bench.installed("P1", "R1", 2);
    assert_eq!(bench.installs(), ["P2", "P3", "P4"]);
    bench.installed("P3", "R1", 2);
    bench.installed("P4", "R1", 2);
    assert_eq!(bench.view("R1").why, "wave 2 of 2: 2 of 3 phones done");
    bench.installed("P2", "R1", 2);
    assert_eq!(bench.out(), []);
    let view = bench.view("R1");
    assert_eq!((view.state, view.why.as_str()), (RolloutState::Finished, "4 phones on version 2"));
    assert!(bench.shelf.rollouts[&RolloutNumber(1)].ended.is_some());
    assert!(bench.shelf.audit.iter().all(|line| line.target == "R1"));
    let story: Vec<_> = bench.shelf.audit.iter().map(|line| format!("{}: {}", line.who, line.what)).collect();
    insta::assert_snapshot!(story.join("\n"), @"
    central server: asks for org.example.agent 2
    farmhand: the APK was fetched and checked; it is signed by aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
    operator: approved
    farmhand: wave 2 of 2 began: 3 phones
    farmhand: finished: 4 phones on version 2
    ");
}

#[test]
fn a_failure_pauses_and_resume_tries_the_failed_phone_again() {
    let mut bench = Bench::under_way(4);
    bench.installed("P1", "R1", 2);
    bench.out.clear();
    bench.failed("P3", "R1", Transient);
    let why = "INSTALL_FAILED_INTERNAL_ERROR: the package manager gave up";
    assert_eq!(bench.out(), [report("P3", 3, why)]);
    let view = bench.view("R1");
    assert_eq!((view.state, view.why), (RolloutState::Paused, format!("P3 failed: {why}")));
    // What is under way goes on.
    bench.installed("P2", "R1", 2);
    bench.installed("P4", "R1", 2);
    assert_eq!(bench.waves("R1"), "P1 done | P2 done, P3 failed, P4 done");

    assert_eq!(bench.resume("R1"), "R1 goes on and tries 1 phone again");
    assert_eq!(bench.installs(), ["P3"]);
    bench.installed("P3", "R1", 2);
    assert_eq!(bench.view("R1").state, RolloutState::Finished);
    assert_eq!(bench.view("R1").waves[1].phones[1].attempts, 2);
    assert_eq!(bench.out(), [], "the server is told of each notice's failure once");
}

#[test]
fn a_phone_that_needs_a_hand_pauses_with_a_sentence_of_its_own() {
    let mut bench = Bench::under_way(1);
    bench.failed("P1", "R1", NeedsHand);
    assert!(bench.view("R1").why.starts_with("P1 needs a hand: "), "{}", bench.view("R1").why);
}

#[test]
fn a_phone_that_reports_another_version_has_failed() {
    let mut bench = Bench::under_way(1);
    bench.installed("P1", "R1", 1);
    assert_eq!(bench.view("R1").why, "P1 failed: the phone reports version 1 after the install of 2");
}

#[test]
fn a_phone_that_has_the_version_is_done_without_an_install() {
    let mut bench = Bench::under_way(2);
    bench.available("P2", 2);
    bench.out.clear();
    bench.installed("P1", "R1", 2);
    assert_eq!(bench.out(), []);
    let view = bench.view("R1");
    assert_eq!(view.state, RolloutState::Finished);
    assert_eq!(view.waves[1].phones[0].why.as_deref(), Some("had the version already"));
    assert_eq!(view.waves[1].phones[0].attempts, 0);
}

#[test]
fn a_wave_waits_for_a_phone_that_is_away_and_says_so() {
    let mut bench = Bench::under_way(2);
    bench.unavailable("P2", "it was unplugged");
    bench.out.clear();
    bench.installed("P1", "R1", 2);
    assert_eq!(bench.out(), []);
    assert_eq!(bench.view("R1").why, "wave 2 of 2: 0 of 1 phone done; waits for P2 (it was unplugged)");
    bench.available("P2", 1);
    assert_eq!(bench.installs(), ["P2"]);
}

#[test]
fn an_install_without_a_result_fails_at_its_deadline_and_a_late_success_still_counts() {
    let mut bench = Bench::under_way(2);
    bench.out.clear();
    let deadline = bench.core.deadline().unwrap();
    assert_eq!((deadline.at, deadline.why), (bench.now + Duration::from_secs(300), "the result of an install"));
    bench.pass(299);
    assert_eq!(bench.view("R1").state, RolloutState::Running);
    bench.pass(1);
    assert_eq!(bench.view("R1").why, "P1 failed: no result within 300 s");
    assert_eq!(bench.out(), [report("P1", 1, "no result within 300 s")]);
    bench.failed("P1", "R1", Permanent);
    assert_eq!(bench.view("R1").why, "P1 failed: no result within 300 s");
    bench.installed("P1", "R1", 2);
    assert_eq!(bench.waves("R1"), "P1 done | P2 waiting");
    assert_eq!(bench.view("R1").state, RolloutState::Paused);
}

#[test]
fn nothing_goes_out_before_its_promise_is_committed() {
    let mut bench = Bench::under_way(1);
    bench.out.clear();
    bench.available("P9", 1);
    bench.start(apk(3), &["P9"]).unwrap();
    bench.installed("P1", "R1", 2);
    let approve = Request::RolloutApprove { rollout: RolloutId::new("R2") };
    bench.core.request(bench.now, Ask(77), &approve);
    let Some(Output::Commit { ticket, batch }) = bench.core.poll() else { panic!("a batch comes first") };
    assert_eq!(bench.core.poll(), None);
    let promised = |promise: &Promise| matches!(promise, Promise::RolloutPhone(p) if p.state == RolloutPhoneState::Installing && p.attempts == 1);
    assert!(batch.iter().any(promised), "{batch:?}");
    bench.core.committed(bench.now, ticket);
    let out: Vec<_> = std::iter::from_fn(|| bench.core.poll()).collect();
    assert!(
        matches!(out.as_slice(), [Output::Answer { ask: Ask(77), .. }, Output::Install { .. }, Output::Changed]),
        "{out:?}"
    );
}

#[test]
fn a_late_success_spares_the_phone_the_install_that_waits_for_its_promise() {
    let mut bench = Bench::under_way(1);
    assert_eq!(bench.installs(), ["P1"]);
    bench.pass(300);
    bench.out();
    let rollout = RolloutId::new("R1");
    bench.core.request(bench.now, Ask(9), &Request::RolloutResume { rollout: rollout.clone() });
    let late = RolloutCommand::Installed { phone: id("P1"), rollout, result: Ok(VersionCode(2)) };
    bench.core.command(bench.now, late);
    bench.settle();
    let out = bench.out();
    assert!(!out.iter().any(|output| matches!(output, Output::Install { .. })), "{out:?}");
    assert_eq!(bench.view("R1").state, RolloutState::Finished);
}

#[test]
fn after_a_kill_the_phone_itself_says_what_became_of_its_install() {
    let mut bench = Bench::under_way(4);
    bench.installed("P1", "R1", 2);
    assert_eq!(bench.installs(), ["P1", "P2", "P3", "P4"]);
    bench.restart();
    let out = bench.out();
    let [Output::Fetch(fetch)] = out.as_slice() else { panic!("the APK is looked for again: {out:?}") };
    assert_eq!(fetch.sha256.as_deref(), Some(apk(2).sha256.as_str()));
    bench.fetched(1, Ok(apk(2)));
    bench.available("P1", 2);
    bench.available("P2", 2);
    assert_eq!(bench.out(), []);
    bench.available("P3", 1);
    assert_eq!(bench.installs(), ["P3"]);
    assert_eq!(bench.waves("R1"), "P1 done | P2 done, P3 installing, P4 installing");
    assert_eq!(bench.view("R1").waves[1].phones[1].attempts, 2);
    bench.installed("P3", "R1", 2);
    bench.available("P4", 2);
    assert_eq!(bench.view("R1").state, RolloutState::Finished);
}

#[test]
fn a_phone_that_leaves_in_each_install_is_given_up() {
    let mut bench = Bench::under_way(1);
    for _ in 0..2 {
        assert_eq!(bench.installs(), ["P1"]);
        bench.unavailable("P1", "it was unplugged");
        bench.available("P1", 1);
    }
    assert_eq!(bench.installs(), ["P1"]);
    bench.unavailable("P1", "it was unplugged");
    bench.available("P1", 1);
    assert_eq!(bench.view("R1").why, "P1 failed: the install was interrupted 3 times");
    assert_eq!(bench.out(), [report("P1", 1, "the install was interrupted 3 times")]);
    bench.resume("R1");
    assert_eq!(bench.installs(), ["P1"]);
}

#[test]
fn a_phone_that_left_before_its_promise_was_committed_gets_no_order_until_it_is_back() {
    let mut bench = Bench::under_way(1);
    bench.out.clear();
    bench.failed("P1", "R1", Transient);
    let resume = Request::RolloutResume { rollout: RolloutId::new("R1") };
    bench.core.request(bench.now, Ask(8), &resume);
    let Some(Output::Commit { ticket, .. }) = bench.core.poll() else { panic!("a batch comes first") };
    bench.core.command(bench.now, RolloutCommand::Unavailable { phone: id("P1"), why: "gone".into() });
    bench.core.committed(bench.now, ticket);
    bench.settle();
    assert!(!bench.out().iter().any(|output| matches!(output, Output::Install { .. })));
    bench.available("P1", 1);
    assert_eq!(bench.installs(), ["P1"]);
}

#[test]
fn an_apk_that_is_refused_ends_the_rollout_and_the_server_hears_of_each_phone() {
    let mut bench = Bench::new(Approve::First);
    for (phone, message_id) in [("P1", 1), ("P2", 2)] {
        bench.available(phone, 1);
        bench.offer(phone, message_id, 2);
    }
    bench.pass(5);
    bench.out.clear();
    bench.fetched(1, Err("it is signed by another key".into()));
    let why = "it is signed by another key";
    assert_eq!(bench.out(), [report("P1", 1, why), report("P2", 2, why)]);
    let view = bench.view("R1");
    assert_eq!((view.state, view.why.as_str()), (RolloutState::Aborted, why));
    assert_eq!(
        bench.core.deadline().map(|deadline| deadline.why),
        Some("the central server to take the report of a failure")
    );
    for (phone, message_id) in [("P1", 1), ("P2", 2)] {
        bench.told(phone, message_id);
    }
    assert_eq!(bench.core.deadline(), None);
}

#[test]
fn an_apk_that_is_not_what_the_notice_said_is_refused() {
    let mut bench = Bench::new(Approve::First);
    bench.offer("P1", 1, 2);
    bench.pass(5);
    bench.fetched(1, Ok(apk(3)));
    assert_eq!(bench.view("R1").state, RolloutState::Aborted);
    assert!(bench.view("R1").why.ends_with("is org.example.agent 3, and org.example.agent 2 was asked for"));
}

#[test]
fn an_apk_that_changed_after_its_approval_pauses_the_rollout() {
    let mut bench = Bench::under_way(2);
    bench.restart();
    bench.out.clear();
    let changed = CheckedApk { sha256: "ff".repeat(32), ..apk(2) };
    bench.fetched(1, Ok(changed));
    let view = bench.view("R1");
    assert_eq!(view.state, RolloutState::Paused);
    assert!(view.why.ends_with("has changed since it was checked for this rollout"), "{}", view.why);
    bench.resume("R1");
    assert!(matches!(bench.out().as_slice(), [Output::Fetch(_)]), "the operator may try again");
}

#[test]
fn a_notice_is_refused_when_nothing_of_it_may_happen() {
    let refused = |core: &mut Rollouts, phone: &str, version: u64, package: &str| {
        let notice = UpgradeNotice { package: PackageName::new(package), ..notice(7, version) };
        core.command(Moment::START, RolloutCommand::Offered { phone: id(phone), notice });
        let Some(Output::Commit { ticket, batch }) = std::iter::from_fn(|| core.poll()).last() else {
            panic!("audited")
        };
        assert!(matches!(batch.as_slice(), [Promise::Audit(_)]), "{batch:?}");
        core.committed(Moment::START, ticket);
        match core.poll() {
            Some(Output::ReportFailure { message_id: 7, why, .. }) => why,
            other => panic!("not refused: {other:?}"),
        }
    };
    let bench = Bench::new(Approve::First);
    let mut off =
        Rollouts::restore(bench.config.clone(), None::<PackageName>, UnixMillis(0), Moment::START, Vec::new());
    assert!(refused(&mut off, "P1", 2, PACKAGE).contains("[agent] is not configured"));
    let none_from_there = Config { from_central: FromCentral::Refuse, ..bench.config.clone() };
    let mut closed = core(none_from_there, Moment::START, &bench.shelf);
    assert!(refused(&mut closed, "P1", 2, PACKAGE).contains("from_central is refuse"));
    let mut on = core(bench.config.clone(), Moment::START, &bench.shelf);
    assert!(refused(&mut on, "P1", 2, "org.example.other").contains("keeps org.example.agent"));
    on.command(Moment::START, RolloutCommand::Available { phone: id("P1"), version_code: Some(VersionCode(3)) });
    assert_eq!(refused(&mut on, "P1", 2, PACKAGE), "P1 has version 3; 2 would be a downgrade");
    assert_eq!(on.views(), []);
}

#[test]
fn a_notice_for_what_the_phone_has_begins_nothing() {
    let mut bench = Bench::new(Approve::First);
    bench.available("P1", 2);
    bench.offer("P1", 1, 2);
    assert_eq!(bench.core.views(), []);
    assert_eq!(bench.out(), []);
}

#[test]
fn a_notice_said_again_joins_nothing_new_and_is_the_one_that_is_answered() {
    let mut bench = Bench::under_way(1);
    bench.out.clear();
    bench.offer("P1", 50, 2);
    assert_eq!(bench.core.views().len(), 1);
    bench.failed("P1", "R1", Permanent);
    let why = "INSTALL_FAILED_INTERNAL_ERROR: the package manager gave up";
    assert_eq!(bench.out(), [report("P1", 50, why)]);
    bench.offer("P1", 51, 2);
    assert_eq!(bench.out(), [report("P1", 51, why)], "the paused rollout answers the newer notice too");
}

#[test]
fn a_failure_is_reported_until_the_server_has_taken_it_also_over_restarts() {
    let mut bench = Bench::under_way(1);
    bench.out.clear();
    let result = Err(super::bench::failure(Permanent));
    bench.core.command(bench.now, RolloutCommand::Installed { phone: id("P1"), rollout: RolloutId::new("R1"), result });
    let Some(Output::Commit { batch, .. }) = bench.core.poll() else { panic!("a batch comes first") };
    bench.shelf.apply(batch);
    bench.restart();
    let reports = |out: Vec<Output>| out.into_iter().filter(|o| matches!(o, Output::ReportFailure { .. })).count();
    assert_eq!(reports(bench.out()), 0, "nobody knows yet whether the phone is here");
    bench.available("P1", 1);
    assert_eq!(reports(bench.out()), 1);
    bench.restart();
    bench.available("P1", 1);
    assert_eq!(reports(bench.out()), 1, "it went out, and nobody knows whether it arrived");
    bench.pass(599);
    assert_eq!(reports(bench.out()), 0, "it may still be on its way");
    bench.pass(1);
    assert_eq!(reports(bench.out()), 1, "it may have been lost");

    bench.core.command(bench.now, RolloutCommand::FailureTold { phone: id("P1"), message_id: 1 });
    let Some(Output::Commit { batch, .. }) = bench.core.poll() else { panic!("that it was taken is promised") };
    bench.restart();
    bench.available("P1", 1);
    assert_eq!(reports(bench.out()), 1, "the crash came before the commit");
    bench.shelf.apply(batch);
    bench.restart();
    bench.available("P1", 1);
    bench.pass(3600);
    assert_eq!(reports(bench.out()), 0);
}

#[test]
fn the_report_of_a_phone_that_was_not_seen_since_the_start_waits_until_it_is() {
    let mut bench = Bench::under_way(1);
    bench.restart();
    bench.out.clear();
    bench.pass(300);
    let told = [report("P1", 1, "no result within 300 s; the phone is away")];
    assert_eq!(bench.out(), told);
    bench.pass(600);
    assert_eq!((bench.out(), bench.core.deadline()), (Vec::new(), None));
    bench.available("P1", 1);
    assert_eq!(bench.out(), told);
}

#[test]
fn the_operator_starts_a_rollout_of_a_checked_apk() {
    let mut bench = Bench::new(Approve::First);
    bench.available("P1", 1);
    bench.available("P2", 2);
    bench.unavailable("P3", "it is booting");
    let done = bench.start(apk(2), &[]).unwrap();
    assert_eq!(
        done.what,
        "R1 takes org.example.agent 2 to 1 phone; it waits for 1 phone that is away; 1 phone left out, having this \
         version or a newer one; it waits for `farmhand rollout approve R1`"
    );
    bench.approve("R1");
    assert_eq!(bench.installs(), ["P1"]);
    assert_eq!(bench.start(apk(2), &["P2"]).unwrap_err().code, "rollout.nothing_to_do");
    assert_eq!(bench.start(apk(2), &["P7"]).unwrap_err().what, "no phone `P7` is known");
    assert_eq!(bench.start(apk(3), &["P3", "P3"]).unwrap().rollout.unwrap().as_str(), "R2");
    assert_eq!(bench.waves("R2"), "P3 parked");
}

#[test]
fn a_request_that_does_not_fit_the_state_is_refused_with_what_to_do() {
    let mut bench = Bench::under_way(1);
    let rollout = || RolloutId::new("R1");
    let refused = bench.ask(&Request::RolloutApprove { rollout: rollout() }).unwrap_err();
    assert_eq!(refused.what, "R1 is running, not waiting for approval");
    assert_eq!(bench.ask(&Request::RolloutResume { rollout: rollout() }).unwrap_err().code, "rollout.state");
    let unknown = bench.ask(&Request::RolloutPause { rollout: RolloutId::new("R9") }).unwrap_err();
    assert_eq!((unknown.code.as_str(), unknown.what.as_str()), ("rollout.unknown", "no rollout is called `R9`"));
    assert!(unknown.help.unwrap().contains("farmhand rollout list"));
}

#[test]
fn a_paused_rollout_starts_no_further_install() {
    let mut bench = Bench::under_way(2);
    assert_eq!(bench.installs(), ["P1"]);
    assert_eq!(bench.pause("R1"), "R1 is paused; 1 install under way will finish");
    bench.installed("P1", "R1", 2);
    assert_eq!(bench.installs(), [""; 0]);
    assert_eq!(bench.view("R1").why, "paused by the operator");
    assert_eq!(bench.resume("R1"), "R1 goes on");
    assert_eq!(bench.installs(), ["P2"]);
}

#[test]
fn with_automatic_approval_a_rollout_begins_once_its_apk_is_checked() {
    let mut bench = Bench::new(Approve::None);
    bench.available("P1", 1);
    bench.offer("P1", 1, 2);
    bench.pass(5);
    bench.out.clear();
    bench.fetched(1, Ok(apk(2)));
    assert_eq!(bench.installs(), ["P1"]);
}

#[test]
fn a_second_rollout_waits_until_the_first_is_finished_or_paused() {
    let mut bench = Bench::under_way(2);
    bench.available("P9", 1);
    bench.start(apk(3), &["P9"]).unwrap();
    bench.approve("R2");
    assert_eq!(bench.installs(), ["P1"]);
    assert_eq!(bench.view("R2").why, "waits until R1 is finished or paused");
    bench.pause("R1");
    assert_eq!(bench.out(), [], "an install of R1 is under way");
    bench.installed("P1", "R1", 2);
    assert_eq!(bench.installs(), ["P9"]);
}

#[test]
fn old_rollouts_are_forgotten_and_no_number_is_used_twice() {
    let mut bench = Bench::new(Approve::None);
    for version in 2..62 {
        bench.available("P1", version - 1);
        bench.start(apk(version), &[]).unwrap();
        bench.installed("P1", &format!("R{}", version - 1), version);
    }
    let views = bench.core.views();
    assert_eq!((views.len(), views[0].id.as_str(), views[49].id.as_str()), (KEPT_MAX, "R60", "R11"));
    assert_eq!(bench.shelf.rollouts.len(), KEPT_MAX);
    bench.restart();
    bench.available("P1", 61);
    assert_eq!(bench.start(apk(90), &[]).unwrap().rollout.unwrap().as_str(), "R61");
}

#[test]
fn a_flood_of_notices_is_refused_at_the_limit() {
    let mut bench = Bench::new(Approve::First);
    for version in 1..=UNFINISHED_MAX as u64 + 1 {
        bench.offer("P1", 1, version);
    }
    assert_eq!(bench.core.views().len(), UNFINISHED_MAX);
    assert!(matches!(bench.out().as_slice(), [Output::ReportFailure { why, .. }] if why.contains("limit")));
}
