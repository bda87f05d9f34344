use super::*;

fn failure(message_id: i64) -> Event {
    let phone = PhoneId::new("P1");
    Event::Rollout(RolloutEvent::ReportFailure { phone, message_id, why: "no space".to_owned() })
}

fn reports(commands: &[Command]) -> Vec<i64> {
    let report = |command: &&LineCommand| match command {
        LineCommand::TaskEnded { task, .. } => Some(task.message_id),
        _ => None,
    };
    line_commands(commands).iter().filter_map(report).collect()
}

fn state(state: LineState) -> LineEvent {
    LineEvent::State { state, why: "as it is".to_owned() }
}

#[test]
fn a_failure_goes_to_each_new_registration_until_the_server_has_taken_its_report() {
    let mut bench = Bench::new(Rung::Reopen);
    bench.ready_with_agent(1);
    assert_eq!(reports(&bench.event(failure(7))), [0; 0], "no line is registered");
    assert_eq!(reports(&bench.line_says(state(LineState::Registered))), [7]);
    bench.line_says(state(LineState::Waiting));
    assert_eq!(reports(&bench.event(failure(8))), [0; 0]);
    assert_eq!(reports(&bench.line_says(state(LineState::Registered))), [7, 8]);
    assert_eq!(reports(&bench.event(failure(7))), [7], "asked for again");

    let commands = bench.line_says(LineEvent::EndTold { message_id: 7 });
    let told = RolloutCommand::FailureTold { phone: PhoneId::new("P1"), message_id: 7 };
    assert_eq!(commands, [Command::Rollout(told)]);
    assert_eq!(reports(&bench.line_says(state(LineState::Registered))), [8]);
}

#[test]
fn what_the_server_has_taken_counts_also_when_the_line_was_closed_meanwhile() {
    let mut bench = Bench::new(Rung::Reopen);
    bench.ready_with_agent(1);
    bench.line_says(state(LineState::Registered));
    bench.event(failure(7));
    bench.unplugged(A1);
    let commands = bench.line_says(LineEvent::EndTold { message_id: 7 });
    assert_eq!(rollout_commands(commands).len(), 1);
}

fn stuck() -> LineEvent {
    LineEvent::Stuck { why: "32 orders waited for it".to_owned() }
}

fn opens(commands: &[Command]) -> bool {
    line_commands(commands).iter().any(|command| matches!(command, LineCommand::Open { .. }))
}

/// The phone answers every probe for so long; what is told to its line.
fn live(bench: &mut Bench, seconds: u64) -> Vec<Command> {
    let mut commands = Vec::new();
    for _ in 0..seconds {
        commands.extend(bench.wait(1));
        commands.extend(bench.phone(phone::Event::ProbeAnswered));
        commands.extend(bench.phone(phone::Event::profile(profile("P1", Some(1)))));
    }
    commands
}

#[test]
fn a_line_whose_actor_was_stuck_is_opened_again_later_each_time() {
    let mut bench = Bench::new(Rung::Reopen);
    bench.ready_with_agent(1);
    bench.line_says(state(LineState::Registered));
    for (times, pause) in [(1, 1), (2, 2), (3, 4), (4, 8)] {
        assert!(!opens(&bench.line_says(stuck())));
        let line = bench.rack.snapshot(bench.now).phones[0].line.clone();
        assert_eq!((line.state, line.restarts), (LineState::Waiting, times));
        let why = format!("its actor was stuck (32 orders waited for it), {times} times so far");
        assert_eq!(line.why, why);
        let deadline = line.deadline.unwrap();
        assert_eq!(deadline.why, "the line's new actor");
        assert_eq!(deadline.at, UnixMillis(0).plus(bench.now.since_start() + Duration::from_secs(pause)));
        assert!(!opens(&live(&mut bench, pause - 1)));
        assert!(opens(&live(&mut bench, 1)));
    }
    for _ in 0..20 {
        bench.line_says(stuck());
        assert!(opens(&live(&mut bench, 60)), "a minute at most");
    }
    live(&mut bench, 600);
    bench.line_says(stuck());
    assert!(opens(&live(&mut bench, 1)), "ten good minutes forgive");
}

#[test]
fn the_new_actor_of_a_line_is_told_what_the_old_one_may_have_lost() {
    let mut bench = Bench::new(Rung::Reopen);
    bench.ready_with_agent(1);
    bench.line_says(state(LineState::Registered));
    bench.event(failure(7));
    bench.line_says(stuck());
    live(&mut bench, 2);
    assert_eq!(reports(&bench.line_says(state(LineState::Registered))), [7]);
}

#[test]
fn the_line_of_a_phone_that_left_meanwhile_waits_for_the_phone() {
    let mut bench = Bench::new(Rung::Reopen);
    bench.ready_with_agent(1);
    bench.line_says(stuck());
    bench.unplugged(A1);
    assert!(!opens(&bench.wait(60)));
    assert!(opens(&bench.ready_with_agent(1)));
}

#[test]
fn rollouts_that_began_anew_are_told_who_is_here() {
    let mut bench = Bench::new(Rung::Reopen);
    bench.ready_with_agent(1);
    bench.event(Event::Rollout(RolloutEvent::Trouble(Some("they broke".to_owned()))));
    assert_eq!(bench.rack.snapshot(bench.now).troubles[0].why, "they broke");
    let commands = rollout_commands(bench.event(Event::Rollout(RolloutEvent::Restarted)));
    let here = RolloutCommand::Available { phone: PhoneId::new("P1"), version_code: Some(VersionCode(1)) };
    assert_eq!(commands.last(), Some(&here));
    assert!(
        matches!(&commands[..], [RolloutCommand::ClockSet(_), RolloutCommand::Known { candidate, .. }, _] if candidate.slot == Some(ids::SlotName::new("A1")))
    );
    assert_eq!(bench.rack.snapshot(bench.now).troubles, []);
}

#[test]
fn the_lines_of_a_full_rack_connect_one_after_the_other() {
    let mut bench = Bench::new(Rung::Reopen);
    let mut pauses = Vec::new();
    for n in 1..=100_u8 {
        let (at, serial) = (format!("usb:1-{n}"), format!("P{n}"));
        bench.plugged(&at, &serial);
        bench.phone_at(&at, phone::Event::Opened { model: None, features: Vec::new() });
        let commands = bench.phone_at(
            &at,
            phone::Event::profile(Profile { imei: Some(format!("35000000000{n:04}")), ..profile(&serial, Some(1)) }),
        );
        pauses.extend(line_commands(&commands).iter().filter_map(|command| match command {
            LineCommand::Open { pause, .. } => Some(*pause),
            _ => None,
        }));
    }
    assert_eq!((pauses.len(), pauses[0]), (100, Duration::ZERO), "the first one at once");
    let gaps: Vec<Duration> = pauses.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let (least, most) = (Duration::from_micros(2500), Duration::from_micros(7500));
    assert!(gaps.iter().all(|gap| (least..=most).contains(gap)), "{gaps:?}");
    assert!(gaps.windows(2).any(|pair| pair[0] != pair[1]), "not in step with another rack");
    bench.now = bench.now + Duration::from_secs(10);
    bench.plugged("usb:2-1", "Q1");
    bench.phone_at("usb:2-1", phone::Event::Opened { model: None, features: Vec::new() });
    let commands = bench.phone_at("usb:2-1", phone::Event::profile(profile("Q1", Some(1))));
    assert!(matches!(line_commands(&commands)[..], [LineCommand::Open { pause: Duration::ZERO, .. }]), "{commands:?}");
}

#[test]
fn in_relay_the_agent_finds_its_line_once_the_phone_is_ready() {
    use crate::config::LineMode;
    let tunnels = |commands: &[Command]| -> Vec<Option<Endpoint>> {
        let tunnel = |command: &&LineCommand| match command {
            LineCommand::Tunnel(at) => Some(at.clone()),
            _ => None,
        };
        line_commands(commands).iter().filter_map(tunnel).collect()
    };
    let at: Endpoint = A1.parse().unwrap();
    let mut bench = Bench::new(Rung::Reopen);
    assert_eq!(tunnels(&bench.ready_with_agent(1)), [], "the rack speaks alone by default");

    for modes in [vec![], vec![("P1", LineMode::Relay)], vec![("A1", LineMode::Relay)], vec![("A1", LineMode::Hold)]] {
        let mut bench = Bench::new(Rung::Reopen);
        bench.rack.settings.relay.mode = if modes.is_empty() { LineMode::Relay } else { LineMode::Hold };
        let wanted = modes.first().is_none_or(|(_, mode)| *mode == LineMode::Relay);
        bench.rack.settings.relay.modes = modes.into_iter().map(|(name, mode)| (name.to_owned(), mode)).collect();
        let dug = tunnels(&bench.ready_with_agent(1));
        assert_eq!(dug, if wanted { vec![Some(at.clone())] } else { vec![] });
        assert_eq!(tunnels(&bench.phone(phone::Event::profile(profile("P1", Some(2))))), [], "once");
    }
}

#[test]
fn a_line_says_whether_an_agent_speaks_by_it() {
    let mut bench = Bench::new(Rung::Reopen);
    bench.ready_with_agent(1);
    let line = |bench: &Bench| bench.rack.snapshot(bench.now).phones[0].line.clone();
    assert_eq!(line(&bench).agent_since, None);
    bench.line_says(LineEvent::AgentThere);
    assert!(line(&bench).agent_since.is_some() && line(&bench).why.ends_with("the agent on the phone speaks by it"));
    bench.line_says(LineEvent::AgentLeft { why: "it sent nothing".to_owned() });
    assert!(line(&bench).agent_since.is_none() && line(&bench).why.ends_with("has left: it sent nothing"));
    bench.unplugged(A1);
    assert!(!line(&bench).why.contains("agent"));
}
