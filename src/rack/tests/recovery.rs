use super::*;

#[test]
fn by_default_recovery_reopens_and_then_asks_for_a_person() {
    let mut bench = Bench::new(Rung::Reopen);
    bench.appears(A1);
    let commands = bench.wait(5 * 60);
    assert_eq!(bench.state(), PhoneState::Quarantined);
    assert_eq!(
        bench.rack.snapshot(bench.now).phones[0].why,
        "no answer to CNXN; recovery ended at [recovery] max_rung = \"reopen\" (opened again 4 times): look at the phone and its \
         cable, or allow more (\"reset-usb\", \"reboot\", \"cycle-power\"); it is tried again after 10 min, and at once if it is \
         plugged in again"
    );
    assert!(!commands.iter().any(|command| matches!(command, Command::SetPort { .. })));
    assert!(!says_to_phone(&commands, &phone::Command::Reboot));
}

#[test]
fn a_phone_whose_power_cannot_be_cycled_is_said_to_be_quarantined() {
    let mut bench = Bench::new(Rung::CyclePower);
    bench.appears(A1);
    let mut told = Vec::new();
    while bench.state() != PhoneState::Quarantined {
        bench.now = bench.rack.deadline().unwrap().at;
        told = bench.rack.advance(bench.now).changes;
    }
    assert!(matches!(told[..], [Change::Phone { to: PhoneState::Quarantined, .. }]), "{told:?}");
}

#[test]
fn a_phone_that_no_rung_has_helped_tells_each_of_them() {
    let mut bench = Bench::new(Rung::CyclePower);
    bench.plugged(USB, "P1");
    let rung = |bench: &mut Bench, wanted, result| {
        until_ordered(bench, &wanted);
        bench.phone_at(USB, phone::Event::Acted { result });
    };
    rung(&mut bench, phone::Command::ResetUsb, Ok(()));
    rung(&mut bench, phone::Command::ResetUsb, Ok(()));
    rung(&mut bench, phone::Command::Reboot, Err("it did not answer CNXN".to_owned()));
    assert_eq!(why(&bench), "recovering: no answer to CNXN; its restart: it did not answer CNXN");
    bench.wait(30);
    assert_eq!(
        why(&bench),
        "quarantined: no answer to CNXN; all rungs of recovery were tried (opened again 4 times, its USB device reset twice, its \
         restart failed: it did not answer CNXN, the power cycle of its port failed: no hub port is configured for its slot): look \
         at the phone, its cable and its port; it is tried again after 10 min, and at once if it is plugged in again"
    );
}

/// A USB phone that never answers, up to the moment at which this is ordered of its actor.
fn until_ordered(bench: &mut Bench, wanted: &phone::Command) {
    for _ in 0..600 {
        if says_to_phone(&bench.wait(1), wanted) {
            return;
        }
    }
    panic!("the ladder never came to {wanted:?}");
}

fn why(bench: &Bench) -> String {
    let view = bench.rack.snapshot(bench.now).phones.into_iter().find(|view| view.id.as_str() == "P1").unwrap();
    format!("{}: {}", view.state.as_str(), view.why)
}

#[test]
fn a_phone_that_does_not_come_back_from_a_reset_goes_on_up_the_ladder() {
    let mut bench = Bench::new(Rung::Reboot);
    bench.plugged(USB, "P1");
    until_ordered(&mut bench, &phone::Command::ResetUsb);
    bench.unplugged(USB);
    assert!(why(&bench).starts_with("recovering: "), "{}", why(&bench));
    let commands = bench.wait(22);
    assert!(says_to_phone(&commands, &phone::Command::ResetUsb), "{commands:?}");
    assert_eq!(why(&bench), "recovering: it did not come back within 20 s after the reset of its USB device");
    bench.phone_at(USB, phone::Event::Acted { result: Err("it is not there".to_owned()) });
    until_ordered(&mut bench, &phone::Command::Reboot);
    bench.phone_at(USB, phone::Event::Acted { result: Err("it is not there".to_owned()) });
    let fault = "it did not come back within 20 s after the reset of its USB device";
    assert_eq!(
        why(&bench),
        format!(
            "quarantined: {fault}; recovery ended at [recovery] max_rung = \"reboot\" (opened again 4 times, the reset of its USB \
             device failed: it is not there, its restart failed: it is not there): look at the phone and its cable, or allow more \
             (\"cycle-power\"); it is opened at once when it comes back"
        )
    );
    bench.wait(601);
    assert_eq!(why(&bench), format!("absent: {fault}"), "nothing is tried at a phone that is not here");
    assert!(says_to_phone(&bench.plugged(USB, "P1"), &phone::Command::Open));
}

#[test]
fn a_phone_that_comes_back_from_a_reset_is_opened_at_once_and_keeps_its_rung() {
    let mut bench = Bench::new(Rung::Reboot);
    bench.plugged(USB, "P1");
    until_ordered(&mut bench, &phone::Command::ResetUsb);
    bench.unplugged(USB);
    assert!(says_to_phone(&bench.plugged(USB, "P1"), &phone::Command::Open));
    let commands = bench.wait(17);
    assert!(says_to_phone(&commands, &phone::Command::ResetUsb), "no new beginning: {commands:?}");
}

#[test]
fn a_phone_that_enumerates_twice_after_a_reset_keeps_its_rung_and_one_that_is_plugged_in_anew_does_not() {
    let twice = |pause| {
        let mut bench = Bench::new(Rung::Reboot);
        bench.plugged(USB, "P1");
        until_ordered(&mut bench, &phone::Command::ResetUsb);
        bench.unplugged(USB);
        bench.plugged(USB, "P1");
        bench.unplugged(USB);
        assert_eq!(why(&bench), "absent: unplugged");
        bench.wait(pause);
        bench.plugged(USB, "P1");
        says_to_phone(&bench.wait(17), &phone::Command::ResetUsb)
    };
    assert!(twice(1), "no new beginning");
    assert!(!twice(40), "somebody has plugged it in");
}

#[test]
fn a_phone_that_is_unplugged_on_its_own_account_is_absent_at_once() {
    let mut bench = Bench::new(Rung::Reboot);
    bench.plugged(USB, "P1");
    bench.wait(20);
    bench.unplugged(USB);
    assert_eq!(why(&bench), "absent: unplugged");
}

#[test]
fn a_phone_that_the_operator_restarts_has_three_minutes() {
    let mut bench = Bench::new(Rung::Reopen);
    bench.ready_with_agent(1);
    let phone = PhoneId::new("P1");
    assert!(says_to_phone(&bench.event(Event::Restart { phone }), &phone::Command::Reboot));
    bench.unplugged(A1);
    bench.wait(179);
    assert_eq!(why(&bench), "absent: it restarts, as the operator asked");
    assert!(says_to_phone(&bench.appears(A1), &phone::Command::Open));

    let mut bench = Bench::new(Rung::Reopen);
    bench.ready_with_agent(1);
    bench.event(Event::Restart { phone: PhoneId::new("P1") });
    bench.unplugged(A1);
    let commands = bench.rack.advance(bench.now + Duration::from_secs(180)).changes;
    let told = "it did not come back within 180 s after the restart that was asked for";
    assert!(matches!(&commands[..], [Change::Phone { why, .. }] if why.contains(told)), "{commands:?}");
}

#[test]
fn whoever_has_adbd_start_again_and_again_spends_no_rung_and_what_fails_later_does() {
    let mut bench = Bench::new(Rung::Reopen);
    bench.ready_with_agent(1);
    for _ in 0..10 {
        bench.event(Event::Leaves { phone: PhoneId::new("P1"), time: Duration::from_secs(30) });
        bench.phone(phone::Event::Lost { why: "end of file".to_owned() });
        assert!(says_to_phone(&bench.wait(2), &phone::Command::Open), "{}", why(&bench));
        bench.opened();
        bench.phone(phone::Event::profile(profile("P1", Some(1))));
    }
    assert_eq!(bench.state(), PhoneState::Ready);
    bench.wait(31);
    bench.phone(phone::Event::ProbeAnswered);
    for _ in 0..5 {
        bench.phone(phone::Event::Lost { why: "end of file".to_owned() });
        bench.wait(8);
        if bench.state() != PhoneState::Quarantined {
            bench.opened();
        }
    }
    assert_eq!(bench.state(), PhoneState::Quarantined);
}

#[test]
fn a_quarantined_phone_that_can_be_opened_now_is_tried_at_once() {
    let mut bench = Bench::new(Rung::Reopen);
    bench.plugged(USB, "P1");
    bench.wait(5 * 60);
    assert!(why(&bench).starts_with("quarantined: "), "{}", why(&bench));
    assert!(says_to_phone(&bench.plugged(USB, "P1"), &phone::Command::Open));
}

#[test]
fn an_install_may_take_as_long_as_the_owner_allows() {
    let endpoint: Endpoint = USB.parse().unwrap();
    let mut bench = Bench::new(Rung::Reopen);
    bench.rack.settings.install_timeout = Duration::from_secs(900);
    bench.plugged(USB, "P1");
    bench.phone_at(USB, phone::Event::Opened { model: None, features: Vec::new() });
    bench.phone_at(USB, phone::Event::profile(profile("P1", Some(1))));
    let install = RolloutEvent::Install { phone: PhoneId::new("P1"), order: order(2) };
    bench.event(Event::Rollout(install));
    let until = bench.now + Duration::from_secs(959);
    while bench.now < until {
        bench.wait(1);
        bench.phone_at(USB, phone::Event::ProbeAnswered);
        bench.phone_at(USB, phone::Event::profile(profile("P1", Some(1))));
    }
    assert!(bench.rack.places[&endpoint].life.installing().is_some(), "{}", why(&bench));
    let told = bench.rack.advance(bench.now + Duration::from_secs(1)).changes;
    let text = format!("{told:?}");
    assert!(text.contains("an install did not end in 960 s"), "{text}");
}

/// Eight phones that have never answered, plugged in one second after the other.
fn silent(max_rung: Rung) -> Bench {
    let mut bench = Bench::new(max_rung);
    for number in 0..8 {
        bench.plugged(&port(number), &format!("P{number}"));
        bench.wait(1);
    }
    bench
}

fn port(number: u8) -> String {
    format!("usb:{}-1", number + 1)
}

/// How often this was ordered within so many seconds, of phones whose every opening fails at once.
fn ordered(bench: &mut Bench, wanted: &phone::Command, seconds: u64) -> usize {
    let mut count = 0;
    for _ in 0..seconds {
        let mut commands = bench.wait(1);
        while !commands.is_empty() {
            count += commands
                .iter()
                .filter(|command| matches!(command, Command::Phone { command, .. } if command == wanted))
                .count();
            let opened: Vec<Endpoint> = commands
                .drain(..)
                .filter_map(|command| match command {
                    Command::Phone { endpoint, command: phone::Command::Open } => Some(endpoint),
                    _ => None,
                })
                .collect();
            for endpoint in opened {
                let event = phone::Event::OpenFailed { fault: OpenFault::Protocol, why: "no answer".to_owned() };
                commands.extend(bench.event(Event::Phone { endpoint, event }));
            }
        }
    }
    count
}

#[test]
fn a_rack_of_silent_phones_is_reset_by_a_few_a_minute_and_whoever_waits_says_until_when() {
    let mut bench = silent(Rung::ResetUsb);
    assert_eq!(ordered(&mut bench, &phone::Command::ResetUsb, 58), 6, "8 phones would have had 16");
    let snapshot = bench.rack.snapshot(bench.now);
    let waits =
        |view: &&snapshot::PhoneView| view.why.starts_with("no answer; the rack resets at most 6 USB devices in 60 s");
    let view = snapshot.phones.iter().find(waits).expect("somebody waits for its turn");
    assert_eq!(view.state, PhoneState::Recovering);
    let turn = view.deadline.clone().unwrap();
    assert_eq!(turn.why, "its turn in the rack's budget");
    assert!(view.why.ends_with(&format!("and its turn comes at about {}", turn.at.time_of_day())), "{}", view.why);
    let told = bench.rack.traces().of(&view.id, 0);
    assert!(told.iter().any(|event| event.what.to_string().starts_with("recovery waits before reset-usb")), "{told:?}");
    assert_eq!(ordered(&mut bench, &phone::Command::ResetUsb, 60), 6, "the next minute has as many");
}

#[test]
fn a_phone_that_comes_to_itself_while_it_waits_makes_room_for_the_next() {
    let mut bench = silent(Rung::Reboot);
    let restarts = ordered(&mut bench, &phone::Command::Reboot, 9 * 60);
    assert_eq!(restarts, 4);
    let waiting = |bench: &Bench| -> Vec<Endpoint> {
        let views = bench.rack.snapshot(bench.now).phones;
        let waits = |view: &snapshot::PhoneView| view.why.contains("the rack restarts at most 4 phones in 10 min");
        views.into_iter().filter(waits).filter_map(|view| view.endpoint).collect()
    };
    let before = waiting(&bench);
    assert!(before.len() >= 2, "{before:?}");
    // It is opened again every minute, and this time it answers.
    let mut commands = Vec::new();
    while !commands.iter().any(|command| matches!(command, Command::Phone { endpoint, command: phone::Command::Open } if *endpoint == before[0])) {
        commands = bench.wait(1);
    }
    bench.phone_at(&before[0].to_string(), phone::Event::Opened { model: None, features: Vec::new() });
    bench.phone_at(&before[0].to_string(), phone::Event::profile(profile("P0", Some(1))));
    assert!(!waiting(&bench).contains(&before[0]));
    assert_eq!(ordered(&mut bench, &phone::Command::Reboot, 10 * 60), 4, "the budget is not lost with it");
}

/// A phone that this host may not open: `why` tells who is to mend that.
fn barred(fault: OpenFault, why: &str) -> Bench {
    let mut bench = Bench::new(Rung::CyclePower);
    bench.plugged(USB, "P1");
    bench.phone_at(USB, phone::Event::OpenFailed { fault, why: why.to_owned() });
    bench
}

#[test]
fn a_phone_without_permission_is_opened_as_soon_as_the_rule_is_there_and_no_rung_is_spent_on_it() {
    let mut bench = barred(OpenFault::NoPermission, "this user may not open it; the udev rule that allows it: RULE");
    let told = "quarantined: this user may not open it; the udev rule that allows it: RULE; it is opened by itself within seconds once \
                that is mended";
    assert_eq!(why(&bench), told);
    assert_eq!(bench.wait(9 * 60), [], "it is not hammered, let alone reset");
    assert!(says_to_phone(&bench.plugged(USB, "P1"), &phone::Command::Open), "the bus says that its node was changed");
    bench.phone_at(USB, phone::Event::Opened { model: None, features: Vec::new() });
    bench.phone_at(USB, phone::Event::profile(profile("P1", Some(1))));
    assert!(why(&bench).starts_with("ready: "), "{}", why(&bench));
}

#[test]
fn a_phone_that_another_program_has_is_never_reset_under_it() {
    let mut bench = Bench::new(Rung::CyclePower);
    bench.plugged(USB, "P1");
    let mut commands = Vec::new();
    for _ in 0..12 {
        let why = "another program holds it".to_owned();
        bench.phone_at(USB, phone::Event::OpenFailed { fault: OpenFault::Busy, why });
        commands.extend(bench.wait(601));
    }
    let opened = commands.iter().filter(|command| says_to_phone(&[(*command).clone()], &phone::Command::Open)).count();
    assert_eq!(opened, 12, "every 10 min, should the bus not have seen that it is free");
    for harsh in [phone::Command::ResetUsb, phone::Command::Reboot] {
        assert!(!says_to_phone(&commands, &harsh));
    }
}

#[test]
fn a_phone_that_waits_for_a_tap_is_asked_again_and_again_and_never_reset() {
    let mut bench = Bench::new(Rung::CyclePower);
    bench.plugged(USB, "P1");
    let mut commands = Vec::new();
    for _ in 0..6 {
        bench.phone_at(USB, phone::Event::AuthorisationWanted);
        commands.extend(bench.wait(20 * 60));
        assert_eq!(
            why(&bench),
            "recovering: nobody allowed this host on the phone's screen in 20 min: unlock the phone and allow USB debugging for this \
             host; it is asked again"
        );
        commands.extend(bench.wait(30));
        assert!(why(&bench).starts_with("claiming: "), "{}", why(&bench));
    }
    assert!(!says_to_phone(&commands, &phone::Command::ResetUsb), "{commands:?}");
}
