use proptest::prelude::*;

use super::*;
use crate::adb::message::{Checksums, PAYLOAD_MAX, VERSION_CHECKSUM, VERSION_SKIP_CHECKSUM};

const T0: Moment = Moment::START;
const ADBDS_WINDOW: u32 = 32 << 20;

fn at(seconds: u64) -> Moment {
    Moment::from_start(Duration::from_secs(seconds))
}

fn message(command: Command, arg0: u32, arg1: u32, payload: &[u8]) -> Message {
    Message::new(command, arg0, arg1, Bytes::copy_from_slice(payload), Checksums::Skipped)
}

fn events(core: &mut Connection) -> Vec<Event> {
    std::iter::from_fn(|| match core.poll() {
        Output::Event(event) => Some(event),
        Output::Idle(_) => None,
    })
    .collect()
}

fn deadline(core: &mut Connection) -> Option<Deadline> {
    match core.poll() {
        Output::Idle(deadline) => deadline,
        Output::Event(event) => panic!("unexpected {event:?}"),
    }
}

fn sent(core: &mut Connection) -> Vec<Message> {
    std::iter::from_fn(|| core.next_transmit(T0)).collect()
}

/// Command and arguments of what waits to be sent.
fn sent_short(core: &mut Connection) -> Vec<(Command, u32, u32, usize)> {
    sent(core).iter().map(|m| (m.header.command, m.header.arg0, m.header.arg1, m.payload.len())).collect()
}

fn online_with(features: &str, payload_max: u32) -> Connection {
    let mut core = Connection::new(Waits::default(), T0);
    assert_eq!(sent(&mut core).len(), 1);
    let banner = format!("device::ro.product.model=Test;features={features}");
    core.receive(message(Command::Connect, VERSION_SKIP_CHECKSUM, payload_max, banner.as_bytes()), T0);
    assert!(matches!(events(&mut core)[..], [Event::Online(_)]));
    core
}

fn online() -> Connection {
    online_with("shell_v2", 1 << 20)
}

/// An open stream whose number on the handset is 70.
fn opened(core: &mut Connection) -> StreamId {
    let id = core.open("shell:true", T0).unwrap();
    let open = core.next_transmit(T0).unwrap();
    assert_eq!((open.header.command, open.payload.as_ref()), (Command::Open, &b"shell:true\0"[..]));
    let window = if open.header.arg1 == 0 { Vec::new() } else { ADBDS_WINDOW.to_le_bytes().to_vec() };
    core.receive(message(Command::Okay, 70, id.0, &window), T0);
    assert_eq!(events(core), [Event::Opened { id }]);
    id
}

#[test]
fn a_handset_without_authentication_is_online_at_its_first_answer() {
    let mut core = Connection::new(Waits::default(), T0);
    let hello = core.next_transmit(T0).unwrap();
    assert_eq!((hello.header.arg0, hello.header.arg1), (VERSION_SKIP_CHECKSUM, 1 << 20));
    assert_ne!(hello.header.checksum, 0, "the handset may be of the oldest version");
    core.receive(message(Command::Connect, VERSION_CHECKSUM, 4096, b"device::"), T0);
    assert!(matches!(events(&mut core)[..], [Event::Online(_)]));
    assert_eq!(core.framing(), Framing { payload_max: 4096, checksums: Checksums::Verified });
}

#[test]
fn each_key_is_tried_then_the_public_key_is_offered_for_minutes() {
    let mut core = Connection::new(Waits::default(), T0);
    sent(&mut core);
    let token = |n: u8| message(Command::Auth, 1, 0, &[n; 20]);
    core.receive(token(1), T0);
    assert_eq!(events(&mut core), [Event::Sign { token: [1; 20], attempt: 0 }]);
    core.answer_auth(AuthAnswer::Signature(Bytes::from_static(&[9; 256])), T0);
    assert_eq!(sent_short(&mut core), [(Command::Auth, 2, 0, 256)]);
    core.receive(token(2), T0);
    assert_eq!(events(&mut core), [Event::Sign { token: [2; 20], attempt: 1 }]);
    core.answer_auth(AuthAnswer::PublicKey("QAAA me@here".to_owned()), T0);
    assert_eq!(sent(&mut core)[0].payload.as_ref(), b"QAAA me@here\0");
    assert_eq!(events(&mut core), [Event::AuthorisationWanted]);
    core.advance(at(1799));
    assert_eq!(deadline(&mut core).unwrap().at, at(1800));
    core.receive(message(Command::Connect, VERSION_SKIP_CHECKSUM, 4096, b"device::"), at(1799));
    assert!(matches!(events(&mut core)[..], [Event::Online(_)]));
    assert_eq!(deadline(&mut core), None);
}

#[test]
fn a_handset_that_goes_on_asking_refuses() {
    let mut core = Connection::new(Waits::default(), T0);
    sent(&mut core);
    for _ in 0..100 {
        core.receive(message(Command::Auth, 1, 0, &[1; 20]), T0);
        core.answer_auth(AuthAnswer::PublicKey("key".to_owned()), T0);
    }
    assert!(matches!(events(&mut core).last(), Some(Event::Lost(Fault::Unauthorised { .. }))));
}

#[test]
fn what_an_earlier_connection_left_is_skipped() {
    let mut core = Connection::new(Waits::default(), T0);
    for command in [Command::Write, Command::Okay, Command::Close, Command::Open, Command::Sync] {
        core.receive(message(command, 1, 1, b"old"), T0);
    }
    assert_eq!(events(&mut core), []);
    core.receive(message(Command::Connect, VERSION_SKIP_CHECKSUM, 4096, b"device::"), T0);
    assert!(matches!(events(&mut core)[..], [Event::Online(_)]));
}

#[test]
fn an_answer_to_an_earlier_connection_is_told_from_the_one_that_is_meant() {
    let hello =
        |payload_max| message(Command::Connect, VERSION_SKIP_CHECKSUM, payload_max, b"device::features=shell_v2");
    let mut core = online_with("shell_v2", 4096);
    let id = core.open("shell:true", T0).unwrap();
    core.receive(hello(4096), T0);
    assert_eq!(events(&mut core), [], "the first CNXN was left from before");
    core.receive(message(Command::Okay, 70, id.0, b""), T0);
    assert_eq!(events(&mut core), [Event::Opened { id }]);
    core.receive(hello(4096), T0);
    assert_eq!(events(&mut core).last(), Some(&Event::Lost(Fault::Restarted)), "adbd was started anew");

    let mut core = online_with("shell_v2", 4096);
    core.receive(hello(1 << 20), T0);
    assert_eq!(events(&mut core), [Event::Lost(Fault::Restarted)], "what was agreed does not hold");
    let mut core = online_with("shell_v2", 4096);
    core.receive(message(Command::Auth, 1, 0, &[1; 20]), T0);
    assert_eq!(events(&mut core), [Event::Lost(Fault::Restarted)], "it has not let this host in");
}

#[test]
fn one_write_is_on_its_way_and_filled_to_the_maximum() {
    let mut core = online_with("", 4096);
    let id = opened(&mut core);
    for _ in 0..5 {
        core.send(id, Bytes::from_static(&[1; 1000])).unwrap();
    }
    assert_eq!(sent_short(&mut core), [(Command::Write, id.0, 70, 4096)]);
    core.receive(message(Command::Okay, 70, id.0, b""), T0);
    assert_eq!(sent_short(&mut core), [(Command::Write, id.0, 70, 904)]);
}

#[test]
fn delayed_acknowledgement_keeps_a_window_on_its_way() {
    let mut core = online_with("delayed_ack", 4096);
    let id = core.open("sync:", T0).unwrap();
    assert_eq!(sent(&mut core)[0].header.arg1, WINDOW);
    core.receive(message(Command::Okay, 70, id.0, &10_000_u32.to_le_bytes()), T0);
    core.send(id, Bytes::from(vec![1; 20_000])).unwrap();
    assert_eq!(sent_short(&mut core), [(Command::Write, id.0, 70, 4096); 2]);
    core.receive(message(Command::Okay, 70, id.0, &4096_u32.to_le_bytes()), T0);
    assert_eq!(sent_short(&mut core), [(Command::Write, id.0, 70, 4096)]);
    core.receive(message(Command::Okay, 70, id.0, &8193_u32.to_le_bytes()), T0);
    let lie = Violation::Acknowledged { seen: 8193, sent: 8192 };
    assert_eq!(events(&mut core).last(), Some(&Event::Closed { id, reason: EndReason::Violation(lie) }));
    assert_eq!(sent_short(&mut core), [(Command::Close, id.0, 70, 0)]);
}

#[test]
fn a_window_of_its_own_is_told_and_is_the_most_that_goes_out() {
    let mut core = Connection::new(Waits::default(), T0).with_window(8192);
    sent(&mut core);
    core.receive(message(Command::Connect, VERSION_SKIP_CHECKSUM, 4096, b"device::features=delayed_ack"), T0);
    events(&mut core);
    let id = core.open("sync:", T0).unwrap();
    assert_eq!(sent(&mut core)[0].header.arg1, 8192);
    core.receive(message(Command::Okay, 70, id.0, &(32_u32 << 20).to_le_bytes()), T0);
    core.send(id, Bytes::from(vec![1; 20_000])).unwrap();
    assert_eq!(sent_short(&mut core), [(Command::Write, id.0, 70, 4096); 2]);
    core.receive(message(Command::Write, 70, id.0, &[2; 2048]), T0);
    core.consumed(id, 2047);
    assert_eq!(sent_short(&mut core), []);
    core.consumed(id, 1);
    assert_eq!(sent(&mut core)[0].payload.as_ref(), 2048_u32.to_le_bytes());
}

#[test]
fn nothing_is_acknowledged_before_it_was_consumed() {
    let mut core = online();
    let id = opened(&mut core);
    core.receive(message(Command::Write, 70, id.0, b"data"), T0);
    assert_eq!(events(&mut core), [Event::Data { id, bytes: Bytes::from_static(b"data") }]);
    assert_eq!(sent_short(&mut core), []);
    core.consumed(id, 4);
    assert_eq!(sent_short(&mut core), [(Command::Okay, id.0, 70, 0)]);
    core.consumed(id, 4);
    assert_eq!(sent_short(&mut core), [], "what was not received is not acknowledged");
}

#[test]
fn delayed_acknowledgements_are_few_and_come_long_before_the_window_is_full() {
    let mut core = online_with("delayed_ack", 64 << 10);
    let id = opened(&mut core);
    let chunk = vec![1; 64 << 10];
    let mut acknowledged = Vec::new();
    for came in 1..=WINDOW / (64 << 10) {
        core.receive(message(Command::Write, 70, id.0, &chunk), T0);
        assert_eq!(sent_short(&mut core), [], "chunk {came} was not consumed");
        core.consumed(id, chunk.len());
        acknowledged.extend(sent(&mut core).into_iter().map(|okay| (came, okay.payload.as_ref().to_vec())));
    }
    let quarter = (WINDOW / 4).to_le_bytes().to_vec();
    assert_eq!(acknowledged, [16, 32, 48, 64].map(|came| (came, quarter.clone())));
}

#[test]
fn no_stream_has_more_on_its_way_than_another_may_wait_for() {
    let mut core = online_with("delayed_ack", 1 << 20);
    let id = core.open("sync:", T0).unwrap();
    core.receive(message(Command::Okay, 70, id.0, &(32_u32 << 20).to_le_bytes()), T0);
    let mut on_the_way = 0;
    sent(&mut core);
    while core.send(id, Bytes::from(vec![1; 1 << 20])).is_ok() {
        on_the_way += sent(&mut core).iter().map(|message| message.payload.len()).sum::<usize>();
    }
    assert_eq!(on_the_way, 4 << 20);
}

#[test]
fn a_handset_that_does_not_wait_for_okay_loses_the_stream_only() {
    let mut core = online();
    let id = opened(&mut core);
    core.receive(message(Command::Write, 70, id.0, b"one"), T0);
    core.receive(message(Command::Write, 70, id.0, b"two"), T0);
    let overrun = Violation::Overrun { seen: 6, allowed: 3 };
    assert_eq!(events(&mut core)[1..], [Event::Closed { id, reason: EndReason::Violation(overrun) }]);
    opened_again(&mut core);
}

fn opened_again(core: &mut Connection) {
    sent(core);
    opened(core);
}

#[test]
fn streams_send_in_turn_and_answers_go_first() {
    let mut core = online_with("delayed_ack", 4096);
    let ids: Vec<_> = (0..3).map(|_| opened(&mut core)).collect();
    for id in &ids {
        core.send(*id, Bytes::from(vec![1; 8192])).unwrap();
    }
    let window = WINDOW as usize;
    for part in vec![1; window].chunks(4096) {
        core.receive(message(Command::Write, 70, ids[2].0, part), T0);
    }
    core.consumed(ids[2], window);
    let order: Vec<_> = sent_short(&mut core).into_iter().map(|(command, id, ..)| (command, id)).collect();
    let turns = [0, 1, 2, 0, 1, 2].map(|n: usize| (Command::Write, ids[n].0));
    assert_eq!(order[0], (Command::Okay, ids[2].0));
    assert_eq!(order[1..], turns);
}

#[test]
fn a_full_stream_gives_the_bytes_back_and_says_when_there_is_room() {
    let mut core = online();
    let id = opened(&mut core);
    let chunk = Bytes::from(vec![1; 1 << 20]);
    core.send(id, chunk.clone()).unwrap();
    core.send(id, chunk.clone()).unwrap();
    assert_eq!(core.send(id, chunk.clone()), Err(chunk.clone()));
    assert_eq!(events(&mut core), []);
    assert_eq!(sent(&mut core).len(), 1);
    assert_eq!(events(&mut core), [Event::Writable { id }]);
    core.send(id, chunk).unwrap();
}

#[test]
fn a_refused_service_and_a_late_answer_to_an_abandoned_open() {
    let mut core = online();
    let refused = core.open("nonsense:", T0).unwrap();
    core.receive(message(Command::Close, 0, refused.0, b""), T0);
    assert_eq!(events(&mut core), [Event::Closed { id: refused, reason: EndReason::Refused }]);
    let abandoned = core.open("shell:sleep", T0).unwrap();
    core.close(abandoned, T0);
    sent(&mut core);
    core.receive(message(Command::Okay, 71, abandoned.0, b""), T0);
    assert_eq!(sent_short(&mut core), [(Command::Close, abandoned.0, 71, 0)], "the handset must not keep it open");
}

#[test]
fn the_handset_opens_streams_up_to_a_limit() {
    let mut core = online();
    for remote in 1..=INCOMING_MAX as u32 {
        core.receive(message(Command::Open, remote, 0, b"tcp:5000\0"), T0);
    }
    let asked = events(&mut core);
    assert_eq!(asked.len(), INCOMING_MAX);
    let Event::Incoming { id, service } = &asked[0] else { panic!("{asked:?}") };
    assert_eq!(service, "tcp:5000");
    core.receive(message(Command::Open, 999, 0, b"tcp:5000\0"), T0);
    assert_eq!(sent_short(&mut core), [(Command::Close, 0, 999, 0)]);
    core.accept(*id);
    assert_eq!(sent_short(&mut core), [(Command::Okay, id.0, 1, 0)]);
    core.receive(message(Command::Write, 1, id.0, b"hello"), T0);
    assert_eq!(events(&mut core), [Event::Data { id: *id, bytes: Bytes::from_static(b"hello") }]);
    core.close(*id, T0);
    core.receive(message(Command::Open, 1000, 0, b"tcp:5000\0"), T0);
    assert!(matches!(events(&mut core)[..], [Event::Closed { .. }, Event::Incoming { .. }]));
}

#[test]
fn an_unplug_ends_every_stream_once_and_the_connection_last() {
    let mut core = online();
    let ids = [opened(&mut core), opened(&mut core)];
    core.fail(Fault::Ended);
    core.fail(Fault::ByUs);
    let lost = || EndReason::Lost(Fault::Ended);
    let expected = [
        Event::Closed { id: ids[0], reason: lost() },
        Event::Closed { id: ids[1], reason: lost() },
        Event::Lost(Fault::Ended),
    ];
    assert_eq!(events(&mut core), expected);
    core.receive(message(Command::Okay, 70, ids[0].0, b""), T0);
    assert_eq!(core.open("shell:", T0), Err(OpenRefused::NotOnline));
    assert_eq!((events(&mut core), sent(&mut core)), (vec![], vec![]));
}

#[test]
fn every_wait_has_a_deadline() {
    let mut core = Connection::new(Waits::default(), T0);
    assert_eq!(deadline(&mut core).unwrap().why, "the handset's answer to CNXN");
    core.advance(at(10));
    assert!(matches!(events(&mut core)[..], [Event::Lost(Fault::Timeout { .. })]));

    let mut core = online();
    let asked = core.open("shell:", T0).unwrap();
    assert_eq!(deadline(&mut core).unwrap().why, "the handset's answer to OPEN");
    core.advance(at(15));
    let why = "the handset's answer to OPEN";
    assert_eq!(events(&mut core), [Event::Closed { id: asked, reason: EndReason::Timeout { why } }]);
    sent(&mut core);

    let stalled = opened(&mut core);
    core.send(stalled, Bytes::from_static(b"x")).unwrap();
    assert_eq!(deadline(&mut core), None, "nothing is on its way yet");
    sent(&mut core);
    core.receive(message(Command::Open, 5, 0, b"tcp:1"), T0);
    assert!(matches!(events(&mut core)[..], [Event::Incoming { .. }]));
    core.advance(at(120));
    assert_eq!(events(&mut core).len(), 2);
    assert_eq!(deadline(&mut core), None);
}

#[test]
fn each_wrong_field_of_the_greeting_is_named() {
    let greet = |message: Message| {
        let mut core = Connection::new(Waits::default(), T0);
        core.receive(message, T0);
        match events(&mut core).pop() {
            Some(Event::Lost(fault)) => fault,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(greet(message(Command::Connect, 1, 4096, b"device::")), Fault::Version { seen: 1 });
    assert_eq!(greet(message(Command::Connect, VERSION_CHECKSUM, 10, b"device::")), Fault::PayloadMax { seen: 10 });
    assert_eq!(greet(message(Command::Auth, 1, 0, b"short")), Fault::Auth { kind: 1, len: 5 });
    assert_eq!(greet(message(Command::Auth, 2, 0, &[0; 20])), Fault::Auth { kind: 2, len: 20 });
    assert_eq!(greet(message(Command::Tls, 0, 0, b"")), Fault::WantsTls);
    let mut core = online();
    core.receive(message(Command::Connect, VERSION_CHECKSUM, 4096, b"device::"), T0);
    assert_eq!(events(&mut core), [Event::Lost(Fault::Restarted)]);
}

#[test]
fn a_flood_of_openings_ends_the_connection() {
    let mut core = online();
    for remote in 1..5000 {
        core.receive(message(Command::Open, remote, 0, b"x"), T0);
    }
    assert!(matches!(events(&mut core).last(), Some(Event::Lost(Fault::Flood { .. }))));
}

#[test]
fn services_that_fit_in_no_message_are_refused() {
    let mut core = online_with("", 4096);
    assert_eq!(core.open("", T0), Err(OpenRefused::Service { len: 0, max: 4095 }));
    assert!(core.open(&"x".repeat(4095), T0).is_ok());
    assert_eq!(core.open(&"x".repeat(4096), T0), Err(OpenRefused::Service { len: 4096, max: 4095 }));
    assert_eq!(core.framing().payload_max.max(PAYLOAD_MAX), PAYLOAD_MAX);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]
    #[test]
    fn operations(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        crate::adb::connection::operations::replay(&bytes);
    }
}

#[test]
fn streams_share_the_way_by_bytes_whatever_the_size_of_their_pieces() {
    for features in ["shell_v2", "shell_v2,delayed_ack"] {
        let mut core = online_with(features, 1 << 20);
        let (person, rollout) = (opened(&mut core), opened(&mut core));
        let mut moved = BTreeMap::from([(person, 0_usize), (rollout, 0)]);
        while moved.values().sum::<usize>() < 64 << 20 {
            for (id, piece) in [(person, 1 << 20), (rollout, 5000)] {
                while core.send(id, Bytes::from(vec![0; piece])).is_ok() {}
            }
            let write = core.next_transmit(T0).expect("both have something to say");
            let (id, len) = (StreamId(write.header.arg0), write.payload.len());
            *moved.get_mut(&id).unwrap() += len;
            let counted = if features.contains("delayed_ack") {
                u32::try_from(len).unwrap().to_le_bytes().to_vec()
            } else {
                Vec::new()
            };
            core.receive(message(Command::Okay, 70, id.0, &counted), T0);
            events(&mut core);
        }
        let apart = moved[&person].abs_diff(moved[&rollout]);
        assert!(apart <= 1 << 20, "{features}: {moved:?}");
    }
}
