use super::*;

fn failure(message_id: i64) -> Event {
    let phone = PhoneId::new("P1");
    Event::Rollout(RolloutEvent::ReportFailure { phone, message_id, why: "no space".to_owned() })
}

fn reports(commands: &[Command]) -> Vec<i64> {
    let report = |command: &&LineCommand| match command {
        LineCommand::TaskFailed { message_id, .. } => Some(*message_id),
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

    let commands = bench.line_says(LineEvent::FailureTold { message_id: 7 });
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
    let commands = bench.line_says(LineEvent::FailureTold { message_id: 7 });
    assert_eq!(rollout_commands(commands).len(), 1);
}
