use super::*;

/// Phones on three ports of one hub, which are ready; and one on another controller.
const HUB: [&str; 3] = ["usb:1-2.1", "usb:1-2.2", "usb:1-2.3"];
const ELSEWHERE: &str = "usb:2-1";

fn full() -> Bench {
    let mut bench = Bench::new(Rung::Reboot);
    for (at, serial) in HUB.into_iter().chain([ELSEWHERE]).zip(["P1", "P2", "P3", "P4"]) {
        bench.plugged(at, serial);
        bench.answers(at, serial);
    }
    bench
}

impl Bench {
    fn answers(&mut self, at: &str, serial: &str) {
        self.phone_at(at, phone::Event::Opened { model: None, features: Vec::new() });
        self.now = self.now + Duration::from_millis(1);
        self.phone_at(at, phone::Event::profile(profile(serial, Some(1))));
    }

    fn fails(&mut self, at: &str) -> Outcome {
        let event = phone::Event::Lost { why: "input/output error".to_owned() };
        self.rack.apply(self.now, Event::Phone { endpoint: at.parse().unwrap(), event })
    }

    fn cannot_be_opened(&mut self, at: &str) {
        let why = "no answer".to_owned();
        self.phone_at(at, phone::Event::OpenFailed { fault: OpenFault::Protocol, why });
    }

    fn alerts(&self) -> Vec<String> {
        self.rack.snapshot(self.now).alerts.into_iter().map(|alert| alert.what).collect()
    }
}

fn alarms(outcome: &Outcome) -> usize {
    outcome.changes.iter().filter(|change| matches!(change, Change::Incident { .. })).count()
}

/// Resets and restarts of the hub's phones.
fn harsh(commands: &[Command]) -> usize {
    let is_harsh = |command: &&Command| match command {
        Command::Phone { endpoint, command: phone::Command::ResetUsb | phone::Command::Reboot } => {
            endpoint.to_string() != ELSEWHERE
        }
        _ => false,
    };
    commands.iter().filter(is_harsh).count()
}

#[test]
fn a_hub_that_drops_its_phones_is_one_alert_and_no_phone_of_it_climbs() {
    let mut bench = full();
    assert_eq!(alarms(&bench.fails(HUB[0])), 0);
    assert_eq!(alarms(&bench.fails(HUB[1])), 1);
    assert_eq!(alarms(&bench.fails(HUB[2])), 0, "it joins");
    assert_eq!(
        bench.alerts(),
        [
            "USB hub 1-2: 3 phones failed within 5 s of each other: usb:1-2.1, usb:1-2.2, usb:1-2.3; 0 of them answer again"
        ]
    );
    let mut commands = Vec::new();
    for _ in 0..29 {
        HUB.iter().for_each(|at| bench.cannot_be_opened(at));
        commands.extend(bench.wait(10));
    }
    assert_eq!(harsh(&commands), 0);
    let view = bench.rack.snapshot(bench.now).incidents.remove(0);
    assert_eq!((view.ancestor.as_str(), view.phones.len()), ("USB hub 1-2", 3));
}

#[test]
fn after_five_minutes_each_climbs_by_itself_from_the_bottom() {
    let mut bench = full();
    HUB.iter().for_each(|at| drop(bench.fails(at)));
    let mut commands = Vec::new();
    while !bench.alerts().is_empty() {
        HUB.iter().for_each(|at| bench.cannot_be_opened(at));
        commands.extend(bench.wait(1));
    }
    assert!(bench.now.since_start() < Duration::from_secs(302), "{}", bench.now);
    assert_eq!(harsh(&commands), 0);
    for _ in 0..60 {
        HUB.iter().for_each(|at| bench.cannot_be_opened(at));
        commands.extend(bench.wait(1));
    }
    assert!(harsh(&commands) >= HUB.len());
}

#[test]
fn it_is_over_when_all_answer_and_a_single_failure_never_is_one() {
    let mut bench = full();
    HUB[..2].iter().for_each(|at| drop(bench.fails(at)));
    bench.answers(HUB[0], "P1");
    assert_eq!(bench.alerts().len(), 1);
    bench.answers(HUB[1], "P2");
    assert_eq!(bench.alerts(), [] as [&str; 0]);
    bench.wait(6);
    bench.fails(HUB[0]);
    bench.fails(ELSEWHERE);
    assert_eq!(bench.alerts(), [] as [&str; 0], "they share no ancestor");
}

#[test]
fn unplugged_phones_of_one_hub_are_an_incident_and_the_operators_restarts_are_none() {
    let mut bench = full();
    for phone in ["P1", "P2"] {
        bench.event(Event::Restart { phone: PhoneId::new(phone) });
    }
    HUB[..2].iter().for_each(|at| drop(bench.unplugged(at)));
    assert_eq!(bench.alerts(), [] as [&str; 0]);
    let mut bench = full();
    HUB.iter().for_each(|at| drop(bench.unplugged(at)));
    assert_eq!(bench.alerts().len(), 1);
}
