//! Whom a rollout is for: what an operator chooses, who is left out and why, and that a forecast says what a start does.

use std::time::Duration;

use super::bench::{Bench, apk, config, fit, id, notice};
use super::*;
use crate::rack::candidate::Choice;
use crate::rack::ids::{Label, SlotName};
use crate::rack::snapshot::Forecast;
use crate::rack::snapshot::RolloutPhoneState;
use crate::rack::strategy::Approve;

/// A phone of slot `A1` to `B5` with Android 14.
fn candidate(slot: &str, model: &str, label: &str) -> Candidate {
    Candidate {
        slot: Some(SlotName::new(slot)),
        labels: [Label::new(label)].into(),
        model: model.into(),
        sdk: Some(34),
        abis: vec!["arm64-v8a".into()],
        ..fit()
    }
}

/// Ten phones, A1 to A5 on the top shelf and B1 to B5 below, every second one a Pixel, all with version 1.
fn rack() -> Bench {
    let mut bench = Bench::new(Approve::First);
    for n in 1..=10 {
        let (name, model) = (format!("P{n:02}"), if n % 2 == 0 { "Pixel 8" } else { "FP5" });
        let (slot, label) = if n <= 5 { (format!("A{n}"), "top") } else { (format!("B{}", n - 5), "below") };
        bench.known(&name, candidate(&slot, model, label));
        bench.available(&name, 1);
    }
    bench.out.clear();
    bench
}

fn names(phones: &[&str]) -> Vec<PhoneId> {
    phones.iter().copied().map(id).collect()
}

fn who(bench: &mut Bench, choice: Choice) -> String {
    bench.start_for(apk(2), choice).unwrap();
    let newest = bench.core.views().first().map(|view| view.id.to_string()).unwrap();
    bench.waves(&newest).replace(" waiting", "")
}

#[test]
fn slots_labels_models_and_a_share_choose() {
    let all = "P01 | P02, P03, P04 | P05, P06, P07 | P08, P09, P10";
    assert_eq!(who(&mut rack(), Choice::default()), all);
    let slots = Choice { slots: vec!["a*".into(), "B5".into()], ..Choice::default() };
    assert_eq!(who(&mut rack(), slots), "P01 | P02, P03, P04 | P05, P10");
    let top_pixels = Choice { labels: vec![Label::new("top")], models: vec!["pixel*".into()], ..Choice::default() };
    assert_eq!(who(&mut rack(), top_pixels), "P02 | P04");
    let share = Choice { percent: Some(30), ..Choice::default() };
    assert_eq!(who(&mut rack(), share), "P04 | P07, P10");
    let of_those_named = Choice { models: vec!["FP5".into()], ..Choice::of(names(&["P01", "P02", "P03"])) };
    assert_eq!(who(&mut rack(), of_those_named), "P01 | P03");
    let nobody = Choice { labels: vec![Label::new("cellar")], ..Choice::default() };
    assert_eq!(rack().start_for(apk(2), nobody).unwrap_err().code, "rollout.no_phone");
}

#[test]
fn canaries_are_the_first_wave_in_the_order_in_which_they_are_named() {
    let choice = Choice { canary: names(&["P07", "P03"]), ..Choice::default() };
    assert_eq!(who(&mut rack(), choice.clone()), "P07, P03 | P01 | P02, P04, P05 | P06, P08, P09 | P10");
    let mut bench = rack();
    bench.start_for(apk(2), choice).unwrap();
    bench.approve("R1");
    assert_eq!(bench.installs(), ["P07", "P03"], "and nobody else before they are done");
}

#[test]
fn a_canary_that_gets_nothing_is_refused() {
    let canary = |name| Choice { canary: names(&[name]), labels: vec![Label::new("top")], ..Choice::default() };
    let refused = rack().start_for(apk(2), canary("P06")).unwrap_err();
    assert_eq!(refused.what, "P06 can't go first: it is not among the phones that were chosen");
    let mut bench = rack();
    bench.available("P02", 2);
    let refused = bench.start_for(apk(2), canary("P02")).unwrap_err();
    assert_eq!(
        (refused.code.as_str(), refused.what.as_str()),
        ("rollout.canary", "P02 can't go first: it has version 2 already")
    );
}

#[test]
fn phones_for_which_the_apk_is_not_made_are_skipped_and_take_no_wave() {
    let mut bench = rack();
    for name in ["P01", "P02"] {
        bench.known(name, Candidate { sdk: Some(23), ..candidate("A1", "Old", "top") });
    }
    let mut apk = apk(2);
    apk.requirements.abis = ["arm64-v8a".to_owned()].into();
    bench.known("P03", Candidate { abis: vec!["x86".into()], ..candidate("A3", "FP5", "top") });
    let done = bench.start_for(apk, Choice::default()).unwrap();
    assert!(
        done.what.contains("3 phones left out for which it is not made (P01: its Android (SDK 23)"),
        "{}",
        done.what
    );
    let waves = bench.waves("R1");
    assert!(waves.starts_with("P04 waiting | P05 waiting, P06 waiting, P07 waiting |"), "{waves}");
    assert!(waves.ends_with("P01 skipped, P02 skipped, P03 skipped"), "{waves}");
    let before = bench.core.views();
    bench.restart();
    assert_eq!(bench.waves("R1"), waves, "{before:?}");
}

#[test]
fn the_server_hears_for_which_phones_its_apk_is_not_made() {
    let mut bench = rack();
    bench.known("P01", Candidate { sdk: Some(23), ..candidate("A1", "Old", "top") });
    bench.offer("P01", 41, 2);
    bench.offer("P02", 42, 2);
    bench.pass(5);
    bench.fetched(1, Ok(apk(2)));
    assert_eq!(bench.waves("R1"), "P02 waiting, P01 skipped");
    let told =
        |output: &Output| matches!(output, Output::ReportFailure { message_id: 41, why, .. } if why.contains("SDK 23"));
    assert!(bench.out.iter().any(told), "{:?}", bench.out);
    bench.known("P03", Candidate { sdk: Some(23), ..candidate("A1", "Old", "top") });
    bench.offer("P03", 43, 2);
    bench.pass(5);
    bench.fetched(2, Ok(apk(2)));
    assert_eq!(bench.view("R2").state, RolloutState::Aborted, "made for none of its phones");
}

#[test]
fn a_phone_that_turns_out_not_to_fit_is_skipped_when_its_turn_comes() {
    let mut bench = rack();
    bench.unavailable("P01", "unplugged");
    bench.start(apk(2), &["P01", "P02"]).unwrap();
    bench.approve("R1");
    bench.known("P01", Candidate { sdk: Some(23), ..candidate("A1", "Old", "top") });
    bench.available("P01", 1);
    assert_eq!(bench.waves("R1"), "P02 installing, P01 skipped");
}

fn shape(forecast: &Forecast) -> Vec<Vec<String>> {
    forecast.waves.iter().map(|wave| wave.iter().map(|phone| phone.phone.to_string()).collect()).collect()
}

#[test]
fn a_forecast_says_what_a_start_does_and_begins_nothing() {
    let mut bench = rack();
    bench.available("P05", 2);
    bench.known("P06", Candidate { sdk: Some(23), ..candidate("B1", "Old", "below") });
    bench.known("P07", Candidate { asks_its_user: Some("it asks first"), ..candidate("B2", "MIUI", "below") });
    bench.unavailable("P08", "mara holds it: battery check");
    let choice = Choice { canary: names(&["P03"]), ..Choice::of((1..=10).map(|n| id(&format!("P{n:02}"))).collect()) };
    let shelf = format!("{:?}", bench.shelf);
    let forecast = bench.forecast(apk(2), choice.clone()).unwrap();
    assert_eq!(
        (bench.core.views(), format!("{:?}", bench.shelf)),
        (Vec::new(), shelf),
        "nothing is begun, nothing promised"
    );
    assert_eq!(shape(&forecast), [vec!["P03"], vec!["P01"], vec!["P02", "P04", "P07"], vec!["P09", "P10", "P08"]]);
    let left_out: Vec<_> = forecast.left_out.iter().map(|one| (one.phone.as_str(), one.why.as_str())).collect();
    assert_eq!(left_out[0], ("P05", "it has version 2 already"));
    assert_eq!((left_out[1].0, left_out[1].1.starts_with("its Android (SDK 23)")), ("P06", true));
    let all = || forecast.waves.iter().flatten();
    let hands: Vec<_> = all().filter_map(|phone| Some((phone.phone.as_str(), phone.hand.as_deref()?))).collect();
    assert_eq!(hands, [("P07", "it asks first")]);
    let waits: Vec<_> = all().filter_map(|phone| Some((phone.phone.as_str(), phone.waits.as_deref()?))).collect();
    assert_eq!(waits, [("P08", "mara holds it: battery check")]);
    assert_eq!((forecast.approvals, forecast.takes_s), (1, Some(4 * 30)), "four waves of guessed 30 s");

    bench.start_for(apk(2), choice).unwrap();
    let begun: Vec<Vec<String>> = bench
        .view("R1")
        .waves
        .iter()
        .map(|wave| {
            let gets = wave.phones.iter().filter(|phone| phone.state != RolloutPhoneState::Skipped);
            gets.map(|phone| phone.phone.to_string()).collect()
        })
        .collect();
    assert_eq!(shape(&forecast), begun);
}

#[test]
fn a_forecast_reckons_with_what_installs_took_and_with_soaks_and_approvals() {
    let mut bench = rack();
    bench.start(apk(2), &["P01"]).unwrap();
    bench.approve("R1");
    bench.now = bench.now + Duration::from_secs(12);
    bench.installed("P01", "R1", 2);
    bench.out.clear();
    bench.core.config.strategy.approve = Approve::Each;
    bench.core.config.strategy.soak_s = 600;
    let forecast = bench.forecast(apk(2), Choice::of(names(&["P02", "P03", "P04", "P05"]))).unwrap();
    assert_eq!((forecast.install_s, forecast.measured, forecast.approvals), (12, 1, 2));
    assert_eq!(forecast.takes_s, Some(12 + 600 + 12));
}

#[test]
fn a_forecast_says_who_needed_a_hand_the_last_time_and_which_rollouts_come_first() {
    let mut bench = rack();
    bench.start(apk(2), &["P01", "P02"]).unwrap();
    bench.approve("R1");
    bench.failed("P01", "R1", crate::phone::InstallFailureClass::NeedsHand);
    bench.out.clear();
    let forecast = bench.forecast(apk(3), Choice::of(names(&["P01"]))).unwrap();
    let hand = forecast.waves[0][0].hand.as_deref().unwrap();
    assert!(hand.starts_with("it needed a hand in R1: "), "{hand}");
    assert_eq!(forecast.behind, [RolloutNumber(1).id()]);
}

#[test]
fn two_hundred_phones_are_looked_ahead_for() {
    let mut bench = Bench::new(Approve::First);
    bench.core.config = config(Approve::First);
    for n in 0..200 {
        bench.known(&format!("P{n:03}"), candidate(&format!("A{n}"), "FP5", "top"));
        bench.available(&format!("P{n:03}"), 1);
    }
    let forecast = bench.forecast(apk(2), Choice::default()).unwrap();
    assert_eq!(forecast.waves.iter().map(Vec::len).sum::<usize>(), 200);
    assert_eq!(forecast.takes_s, Some(30 * (1 + 199_u64.div_ceil(3))));
    assert_eq!(notice(1, 2).version_code, forecast.version_code);
}
