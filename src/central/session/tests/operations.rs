use proptest::prelude::*;

use super::*;

/// Something that may happen to a line.
#[derive(Clone, Debug)]
enum Operation {
    Command(LineCommand),
    Connected,
    ConnectFailed,
    Closed,
    Corrupt,
    Pass(Duration),
    Auth(i64),
    Serve { code: i32, body: Vec<u8>, reference: i64 },
    Bytes(Vec<u8>),
}

fn operations() -> impl Strategy<Value = Vec<Operation>> {
    let command = prop_oneof![
        4 => ("[ab]", 0_u64..3).prop_map(|(credential, seconds)| LineCommand::Open {
            credential,
            device: Box::new(device()),
            pause: Duration::from_secs(seconds),
        }),
        1 => Just(LineCommand::Close { why: "x".to_owned() }),
        1 => "[a-c]".prop_map(|brand| LineCommand::Device(Box::new(DeviceInfo { brand, ..device() }))),
        6 => Just(LineCommand::Presence(Presence::Answered)),
        1 => Just(LineCommand::Presence(Presence::Silent)),
        1 => any::<i64>().prop_map(|message_id| LineCommand::TaskEnded {
            task: TaskName { message_id, task_type: 1094, ..TaskName::default() },
            result: Err("x".to_owned()),
        }),
        2 => (0..=100_u8).prop_map(|level| LineCommand::Condition(condition(level))),
    ];
    let known = prop::sample::select(catalogue::entries().iter().map(|e| e.code).collect::<Vec<_>>());
    let code =
        prop_oneof![3 => known, 3 => prop::sample::select(vec![1002, 1003, 1011, 1013, 1094, 1097]), 1 => any::<i32>()];
    let body = prop_oneof![Just(vec![]), Just(b"\x08\x01".to_vec()), prop::collection::vec(any::<u8>(), 0..20)];
    let operation = prop_oneof![
        4 => command.prop_map(Operation::Command),
        4 => Just(Operation::Connected),
        1 => Just(Operation::ConnectFailed),
        1 => Just(Operation::Closed),
        1 => Just(Operation::Corrupt),
        4 => (0_u64..200_000).prop_map(|ms| Operation::Pass(Duration::from_millis(ms))),
        3 => (0_i64..4).prop_map(Operation::Auth),
        4 => (code, body, 0_i64..6).prop_map(|(code, body, reference)| Operation::Serve { code, body, reference }),
        1 => prop::collection::vec(any::<u8>(), 0..40).prop_map(Operation::Bytes),
    ];
    prop::collection::vec(operation, 0..60)
}

fn apply(line: &mut Line, operation: Operation) {
    let now = line.now;
    match operation {
        Operation::Command(command) => line.session.command(command, now),
        Operation::Connected => line.session.connected(now),
        Operation::ConnectFailed => line.session.connect_failed("refused", now),
        Operation::Closed => line.session.closed("reset", now),
        Operation::Corrupt => line.session.corrupt("nonsense", now),
        Operation::Pass(time) => line.pass(time),
        Operation::Auth(request) => line.serve_auth(request),
        Operation::Serve { code, body, reference } => {
            line.serve_bytes(code, &body, reference);
        }
        Operation::Bytes(bytes) => {
            line.session.receive(&bytes, now);
        }
    }
    line.drain();
}

proptest! {
    #[test]
    fn no_list_of_operations_breaks_the_rules(operations in operations()) {
        let mut line = Line::new();
        let mut link_asked_for = false;
        for operation in operations {
            let answered = matches!(operation, Operation::Command(LineCommand::Presence(Presence::Answered)));
            apply(&mut line, operation);
            for output in std::mem::take(&mut line.outputs) {
                match output {
                    Output::Connect => link_asked_for = true,
                    Output::Disconnect => {
                        prop_assert!(link_asked_for);
                        link_asked_for = false;
                    }
                    Output::Transmit(frame) => {
                        let view = View::parse(&frame[HEADER..]).unwrap();
                        prop_assert!(link_asked_for);
                        prop_assert!(answered || view.msg_type != 1001, "a heartbeat that nobody vouched for");
                        let named = view.access_token == "token";
                        prop_assert!(named || matches!(view.msg_type, 1010 | 1003), "{} without a token", view.msg_type);
                    }
                    Output::Event(_) | Output::Judged(_) => {}
                    Output::TellAgent { .. } | Output::EndAgent { .. } | Output::Disk(_) => prop_assert!(false, "a session has no agent"),
                }
            }
            let idle = matches!(line.session.state, State::Idle);
            prop_assert_eq!(line.session.deadline().is_none(), idle, "every wait has a deadline");
        }
    }
}
