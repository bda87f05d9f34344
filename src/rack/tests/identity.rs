//! Who is who: names that stay, whatever a phone says of itself and wherever it is plugged in.

use super::*;

const ONE: &str = "usb:1-1";
const TWO: &str = "usb:1-2";
const NO_SERIAL: &str = "0123456789ABCDEF";

fn is(serial: &str, imei: Option<&str>, android_id: Option<&str>) -> Profile {
    Profile { imei: imei.map(str::to_owned), android_id: android_id.map(str::to_owned), ..profile(serial, Some(1)) }
}

impl Bench {
    /// Plugs a handset in whose descriptor says `descriptor` and whose Android says `profile`.
    fn joins(&mut self, at: &str, descriptor: &str, profile: Profile) -> Vec<Command> {
        let mut commands = self.plugged(at, descriptor);
        commands.extend(self.phone_at(at, phone::Event::Opened { model: None, features: Vec::new() }));
        commands.extend(self.phone_at(at, phone::Event::profile(profile)));
        commands
    }

    /// Everyone but the empty slot of the bench.
    fn here(&self) -> Vec<(String, String)> {
        let views = self.rack.snapshot(self.now).phones.into_iter().filter(|view| view.id.as_str() != "A1");
        views
            .map(|view| (view.id.to_string(), view.endpoint.map_or("nowhere".to_owned(), |at| at.to_string())))
            .collect()
    }
}

fn at(seen: &[(String, String)]) -> Vec<(&str, &str)> {
    seen.iter().map(|(id, at)| (id.as_str(), at.as_str())).collect()
}

#[test]
fn a_descriptor_with_another_serial_leaves_no_ghost_and_is_known_the_next_time() {
    let mut bench = Bench::new(Rung::Reopen);
    bench.joins(ONE, "DESCRIPTOR", is("REAL", None, None));
    assert_eq!(at(&bench.here()), [("REAL", ONE)]);
    bench.unplugged(ONE);
    bench.plugged(TWO, "DESCRIPTOR");
    assert_eq!(at(&bench.here()), [("REAL", TWO)], "before a word of ADB");
}

#[test]
fn a_phone_that_was_to_come_back_and_does_so_elsewhere_has_moved_and_has_no_twin() {
    for late in [10, 190, 400] {
        let mut bench = Bench::new(Rung::Reopen);
        bench.joins(ONE, "P1", is("P1", Some("111111111111111"), None));
        bench.event(Event::Restart { phone: PhoneId::new("P1") });
        bench.unplugged(ONE);
        bench.wait(late);
        let commands = bench.joins(TWO, "P1", is("P1", Some("111111111111111"), None));
        assert!(!commands.iter().any(|command| matches!(command, Command::PromiseTwins(_))), "{commands:?}");
        assert_eq!(at(&bench.here()), [("P1", TWO)]);
        bench.wait(700);
        assert_eq!(at(&bench.here()), [("P1", TWO)], "nobody looks for it where it was");
    }
}

#[test]
fn twins_of_which_one_was_away_for_a_reset_are_known_once_it_is_back() {
    let mut bench = Bench::new(Rung::Reopen);
    bench.joins(ONE, "TWIN", is("TWIN", Some("111111111111111"), None));
    bench.event(Event::Restart { phone: PhoneId::new("TWIN") });
    bench.unplugged(ONE);
    bench.joins(TWO, "TWIN", is("TWIN", Some("222222222222222"), None));
    bench.joins(ONE, "TWIN", is("TWIN", Some("111111111111111"), None));
    assert_eq!(at(&bench.here()), [("TWIN~111111111111111", ONE), ("TWIN~222222222222222", TWO)]);
}

#[test]
fn a_start_is_told_by_the_first_reading_until_another_one_is_seen() {
    let mut bench = Bench::new(Rung::Reopen);
    let up = |millis| Profile { uptime: Some(Duration::from_millis(millis)), ..is("P1", None, None) };
    bench.joins(ONE, "P1", up(50_000));
    let started = |bench: &Bench| {
        let phones = bench.rack.snapshot(bench.now).phones;
        phones.into_iter().find(|phone| phone.id.as_str() == "P1").and_then(|phone| phone.device.started)
    };
    let first = started(&bench);
    assert!(first.is_some());
    bench.unplugged(ONE);
    bench.now = bench.now + Duration::from_secs(60);
    bench.joins(ONE, "P1", up(108_000));
    assert_eq!(started(&bench), first, "an answer that took 2 s is of the same start");
    bench.unplugged(ONE);
    bench.now = bench.now + Duration::from_secs(30);
    bench.joins(ONE, "P1", up(20_000));
    assert_eq!(started(&bench).map(|at| at.0), first.map(|at| at.0 + 120_000));
}

#[test]
fn two_phones_behind_one_descriptor_serial_keep_their_own_names() {
    let mut bench = Bench::new(Rung::Reopen);
    bench.joins(ONE, "MAKER", is("P1", None, None));
    bench.joins(TWO, "MAKER", is("P2", None, None));
    assert_eq!(at(&bench.here()), [("P1", ONE), ("P2", TWO)]);
    bench.unplugged(ONE);
    bench.unplugged(TWO);
    bench.joins(ONE, "MAKER", is("P2", None, None));
    bench.joins(TWO, "MAKER", is("P1", None, None));
    assert_eq!(at(&bench.here()), [("P1", TWO), ("P2", ONE)]);
}

#[test]
fn a_serial_that_is_none_is_completed_by_imei_android_id_or_place() {
    let mut bench = Bench::new(Rung::Reopen);
    bench.joins(ONE, NO_SERIAL, is(NO_SERIAL, Some("490154203237518"), None));
    bench.joins(TWO, NO_SERIAL, is(NO_SERIAL, None, Some("9774d56d682e549c")));
    bench.joins("usb:1-3", NO_SERIAL, is(NO_SERIAL, None, None));
    let seen = bench.here();
    let names: Vec<&str> = seen.iter().map(|(id, _)| id.as_str()).collect();
    let expected =
        ["0123456789ABCDEF@usb:1-3", "0123456789ABCDEF~490154203237518", "0123456789ABCDEF~9774d56d682e549c"];
    assert_eq!(names, expected);
}

#[test]
fn twins_are_called_the_same_whichever_was_first() {
    let names = |order: [(&str, &str); 2]| {
        let mut bench = Bench::new(Rung::Reopen);
        for (place, imei) in order {
            bench.joins(place, "TWIN", is("TWIN", Some(imei), None));
        }
        bench.here()
    };
    let one = names([(ONE, "111111111111111"), (TWO, "222222222222222")]);
    let other = names([(TWO, "222222222222222"), (ONE, "111111111111111")]);
    assert_eq!(one, other);
    assert_eq!(at(&one), [("TWIN~111111111111111", ONE), ("TWIN~222222222222222", TWO)]);
}

#[test]
fn twins_that_changed_places_while_they_started_get_their_names_back() {
    let mut bench = Bench::new(Rung::Reopen);
    let (first, second) = ("111111111111111", "222222222222222");
    bench.joins(ONE, "TWIN", is("TWIN", Some(first), None));
    bench.joins(TWO, "TWIN", is("TWIN", Some(second), None));
    bench.unplugged(ONE);
    bench.unplugged(TWO);
    let starting = Profile { booted: false, ..is("TWIN", None, None) };
    bench.joins(ONE, "TWIN", starting.clone());
    bench.joins(TWO, "TWIN", starting);
    for _ in 0..2 {
        bench.phone_at(ONE, phone::Event::profile(is("TWIN", Some(second), None)));
        bench.phone_at(TWO, phone::Event::profile(is("TWIN", Some(first), None)));
    }
    assert_eq!(at(&bench.here()), [("TWIN~111111111111111", TWO), ("TWIN~222222222222222", ONE)]);
}

#[test]
fn a_renamed_phone_is_available_under_its_new_name_only() {
    let mut bench = Bench::new(Rung::Reopen);
    bench.joins(ONE, "TWIN", is("TWIN", Some("111111111111111"), None));
    let told = rollout_commands(bench.plugged(TWO, "TWIN"));
    let gone =
        |told: &RolloutCommand| matches!(told, RolloutCommand::Unavailable { phone, .. } if phone.as_str() == "TWIN");
    let here = |told: &RolloutCommand| matches!(told, RolloutCommand::Available { phone, .. } if phone.as_str() == "TWIN~111111111111111");
    assert!(told.iter().any(gone) && told.iter().any(here), "{told:?}");
}

#[test]
fn nothing_is_renamed_while_a_rollout_installs_on_it() {
    let mut bench = Bench::new(Rung::Reopen);
    bench.joins(ONE, "TWIN", is("TWIN", Some("111111111111111"), None));
    bench.event(Event::Rollout(RolloutEvent::Install { phone: PhoneId::new("TWIN"), order: order(2) }));
    bench.plugged(TWO, "TWIN");
    assert_eq!(at(&bench.here()), [("TWIN", ONE), ("TWIN@usb:1-2", TWO)]);
    bench.phone_at(ONE, phone::Event::Installed { rollout: order(2).rollout, result: Ok(agent(2)) });
    bench.phone_at(ONE, phone::Event::profile(is("TWIN", Some("111111111111111"), None)));
    assert_eq!(at(&bench.here())[1], ("TWIN~111111111111111", ONE));
}

#[test]
fn a_phone_keeps_its_name_when_its_twin_leaves_and_when_an_answer_is_missing() {
    let mut bench = Bench::new(Rung::Reopen);
    bench.joins(ONE, "TWIN", is("TWIN", Some("111111111111111"), None));
    bench.joins(TWO, "TWIN", is("TWIN", Some("222222222222222"), None));
    bench.unplugged(ONE);
    bench.phone_at(TWO, phone::Event::profile(is("TWIN", None, None)));
    assert_eq!(at(&bench.here())[1], ("TWIN~222222222222222", TWO));
}

#[test]
fn a_move_is_told_with_both_places() {
    let mut bench = Bench::new(Rung::Reopen);
    bench.joins(ONE, "P1", is("P1", None, None));
    bench.unplugged(ONE);
    let appeared = Event::Appeared { endpoint: TWO.parse().unwrap(), serial: Some(Serial::new("P1")) };
    let changes = bench.rack.apply(bench.now, appeared).changes;
    let moved = Change::Moved { phone: PhoneId::new("P1"), from: ONE.to_owned(), to: TWO.to_owned() };
    assert!(changes.contains(&moved), "{changes:?}");
}

#[test]
fn a_port_without_a_device_says_nothing_of_who_is_in_it() {
    let mut bench = Bench::new(Rung::Reopen);
    bench.joins(ONE, "P1", is("P1", None, None));
    bench.unplugged(ONE);
    let why = "hub usb1 says that something is plugged in".to_owned();
    bench.event(Event::NotEnumerated { endpoint: ONE.parse().unwrap(), why: why.clone() });
    let view =
        bench.rack.snapshot(bench.now).phones.into_iter().find(|view| view.endpoint == Some(ONE.parse().unwrap()));
    let view = view.unwrap();
    assert_eq!((view.state, view.why), (PhoneState::NotEnumerated, why));
    bench.joins(TWO, "P1", is("P1", None, None));
    assert_eq!(
        at(&bench.here()),
        [("P1", TWO), (ONE, ONE)],
        "the phone is where it is seen, the port is still in trouble"
    );
    bench.joins(ONE, "P2", is("P2", None, None));
    assert_eq!(at(&bench.here()), [("P1", TWO), ("P2", ONE)]);
}

#[test]
fn another_mode_is_shown_until_the_handset_leaves() {
    let mut bench = Bench::new(Rung::Reopen);
    let why = "it is in fastboot: restart it".to_owned();
    let event = Event::OtherMode { endpoint: ONE.parse().unwrap(), serial: Some(Serial::new("P1")), why: why.clone() };
    assert_eq!(bench.event(event).len(), 1, "rollouts hear that it is not available, nothing is opened");
    let view = bench.rack.snapshot(bench.now).phones.pop().unwrap();
    assert_eq!((view.id.as_str(), view.state, view.why), ("P1", PhoneState::OtherMode, why));
    bench.unplugged(ONE);
    assert_eq!(bench.rack.snapshot(bench.now).phones.pop().unwrap().state, PhoneState::Absent);
}

impl Bench {
    /// The next daemon, which was told what the one before has promised of twins.
    fn started_anew(&self, promised: &[Command]) -> Self {
        let twins = promised.iter().filter_map(|command| match command {
            Command::PromiseTwins(serial) => Some(serial.clone()),
            _ => None,
        });
        let mut rack = Rack::new(self.rack.settings.clone(), UnixMillis(0), Moment::START);
        rack.apply(Moment::START, Event::Twins(twins.collect()));
        Self { rack, now: Moment::START }
    }
}

#[test]
fn a_twin_that_is_alone_after_a_restart_is_called_as_before() {
    let mut bench = Bench::new(Rung::Reopen);
    let mut commands = bench.joins(ONE, "TWIN", is("TWIN", Some("111111111111111"), None));
    commands.extend(bench.joins(TWO, "TWIN", is("TWIN", Some("222222222222222"), None)));
    let mut bench = bench.started_anew(&commands);
    bench.plugged(TWO, "TWIN");
    assert_eq!(at(&bench.here()), [("TWIN@usb:1-2", TWO)], "nobody knows yet which of them it is");
    bench.joins(TWO, "TWIN", is("TWIN", Some("222222222222222"), None));
    assert_eq!(at(&bench.here()), [("TWIN~222222222222222", TWO)]);
    bench.unplugged(TWO);
    bench.joins(ONE, "TWIN", is("TWIN", Some("222222222222222"), None));
    assert_eq!(at(&bench.here()), [("TWIN~222222222222222", ONE)], "in the other one's place, too");
    bench.joins(TWO, "TWIN", is("TWIN", Some("111111111111111"), None));
    assert_eq!(at(&bench.here()), [("TWIN~111111111111111", TWO), ("TWIN~222222222222222", ONE)]);
}

#[test]
fn that_a_serial_has_two_phones_is_promised_once_and_a_placeholder_needs_no_promise() {
    let mut bench = Bench::new(Rung::Reopen);
    let mut commands = bench.joins(ONE, "TWIN", is("TWIN", Some("111111111111111"), None));
    assert!(!commands.contains(&Command::PromiseTwins(Serial::new("TWIN"))), "it is the only one");
    commands.extend(bench.joins(TWO, "TWIN", is("TWIN", Some("222222222222222"), None)));
    commands.extend(bench.joins("usb:1-3", NO_SERIAL, is(NO_SERIAL, Some("333333333333333"), None)));
    commands.extend(bench.joins("usb:1-4", NO_SERIAL, is(NO_SERIAL, Some("444444444444444"), None)));
    let promises: Vec<_> = commands.iter().filter(|command| matches!(command, Command::PromiseTwins(_))).collect();
    assert_eq!(promises, [&Command::PromiseTwins(Serial::new("TWIN"))]);
}

#[test]
fn a_twin_whose_android_still_starts_waits_for_its_number() {
    let mut bench = Bench::new(Rung::Reopen).started_anew(&[Command::PromiseTwins(Serial::new("TWIN"))]);
    let starting = Profile { booted: false, ..is("TWIN", None, Some("9774d56d682e549c")) };
    bench.joins(ONE, "TWIN", starting.clone());
    assert_eq!(at(&bench.here()), [("TWIN@usb:1-1", ONE)], "the service that knows the IMEI answers last");
    bench.wait(2);
    bench.phone_at(ONE, phone::Event::profile(is("TWIN", Some("111111111111111"), None)));
    assert_eq!(
        at(&bench.here()),
        [("TWIN~111111111111111", ONE)],
        "and no ghost is left of the name for the time being"
    );
    // It restarts: what it is called does not depend on how far its Android is.
    bench.unplugged(ONE);
    bench.joins(ONE, "TWIN", starting);
    assert_eq!(at(&bench.here()), [("TWIN~111111111111111", ONE)]);
    bench.wait(2);
    bench.phone_at(ONE, phone::Event::profile(is("TWIN", Some("111111111111111"), None)));
    assert_eq!(at(&bench.here()), [("TWIN~111111111111111", ONE)]);
}
