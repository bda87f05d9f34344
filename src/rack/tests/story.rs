use super::*;
use crate::phone::trace::Happening;
use crate::rack::snapshot::Outcomes;

fn story(bench: &Bench, phone: &str) -> Vec<Happening> {
    let traces = bench.rack.snapshot(bench.now).traces;
    traces.of(&PhoneId::new(phone), 0).into_iter().map(|event| event.what).collect()
}

fn told(bench: &Bench, phone: &str) -> Vec<String> {
    story(bench, phone).iter().map(ToString::to_string).collect()
}

#[test]
fn a_persons_eye_can_follow_a_phone_from_its_plug_to_its_line() {
    let mut bench = Bench::new(Rung::Reopen);
    bench.appears(A1);
    assert_eq!(told(&bench, "A1").len(), 1, "nobody knows yet whose story it is");
    bench.opened();
    bench.phone(phone::Event::profile(profile("P1", None)));
    bench.phone(phone::Event::Provisioned(agent(1)));
    assert_eq!(told(&bench, "A1"), [] as [&str; 0]);
    assert_eq!(
        told(&bench, "P1"),
        [
            "absent → claiming: its interface is being opened",
            "ADB works",
            "claiming → online: ADB works; its profile is being read",
            "answered a reading",
            "online → provisioning: the agent is being installed",
            "version 1.0 is installed",
            "provisioning → ready: the agent's version 1.0 was installed",
        ]
    );
}

#[test]
fn quiet_takes_one_event_and_a_failure_stands_with_its_reason() {
    let mut bench = Bench::new(Rung::Reopen);
    bench.ready_with_agent(1);
    let before = story(&bench, "P1").len();
    let mut answered = 0;
    for _ in 0..1800 {
        let asked = bench.wait(1);
        if says_to_phone(&asked, &phone::Command::Probe) {
            bench.phone(phone::Event::ProbeAnswered);
            answered += 1;
        }
        if says_to_phone(&asked, &phone::Command::ReadProfile) {
            bench.phone(phone::Event::profile(profile("P1", Some(1))));
        }
    }
    let quiet = story(&bench, "P1").split_off(before);
    assert!(matches!(quiet[..], [Happening::Alive { probes: 50.., readings: 25.. }]), "{quiet:?}");
    let answers = bench.rack.snapshot(bench.now).phone("P1").unwrap().answers;
    assert_eq!(answers.probes, Outcomes { answered, failed: 0 });
    assert!(answers.readings.answered > 25 && answers.readings.failed == 0, "{answers:?}");
    bench.phone(phone::Event::Lost { why: "end of file".to_owned() });
    let last = story(&bench, "P1").split_off(before + 1);
    assert!(
        matches!(&last[..], [Happening::Lost { why }, Happening::State { .. }, ..] if why == "end of file"),
        "{last:?}"
    );
}

#[test]
fn a_phone_takes_its_story_to_its_next_place() {
    let mut bench = Bench::new(Rung::Reopen);
    bench.ready_with_agent(1);
    let before = story(&bench, "P1");
    bench.unplugged(A1);
    bench.plugged(USB, "P1");
    let after = story(&bench, "P1");
    assert!(after.starts_with(&before) && after.len() > before.len(), "{after:?}");
}
