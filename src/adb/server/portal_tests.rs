use proptest::prelude::*;

use super::*;

fn message(command: Command, arg0: u32, arg1: u32, payload: &'static [u8]) -> Message {
    Message::new(command, arg0, arg1, Bytes::from_static(payload), Checksums::Skipped)
}

fn connected() -> Portal {
    let mut portal = Portal::new(&Banner::default());
    portal.receive(message(Command::Connect, VERSION_SKIP_CHECKSUM, 4096, b"host::")).unwrap();
    portal
}

fn sent(order: Option<Order>) -> (Command, u32, u32) {
    match order {
        Some(Order::Send(message)) => (message.header.command, message.header.arg0, message.header.arg1),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_client_is_greeted_as_by_the_phone_with_what_both_can() {
    let phone = Banner::parse(b"device::ro.product.name=oriole;features=shell_v2,delayed_ack,cmd");
    let mut portal = Portal::new(&phone);
    let greeting = message(Command::Connect, VERSION_CHECKSUM, 256 << 10, b"host::");
    let Ok(Some(Order::Send(answer))) = portal.receive(greeting.clone()) else { panic!("no answer") };
    assert_eq!((answer.header.arg0, answer.header.arg1), (VERSION_CHECKSUM, 256 << 10));
    let banner = Banner::parse(&answer.payload);
    assert_eq!((banner.product.as_deref(), banner.features), (Some("oriole"), vec!["shell_v2".into(), "cmd".into()]));
    assert_eq!(portal.framing().checksums, Checksums::Verified);
    assert_eq!(portal.receive(greeting), Err(PortalError::Unexpected(Command::Connect)));
}

#[test]
fn where_keys_are_demanded_nothing_is_opened_before_one_has_signed() {
    let mut portal = Portal::guarded(&Banner::default());
    let greeting = message(Command::Connect, VERSION_SKIP_CHECKSUM, 4096, b"host::");
    let signature = message(Command::Auth, SIGNATURE, 0, b"sig");
    assert_eq!(portal.receive(signature.clone()), Err(PortalError::NotConnected(Command::Auth)));
    assert_eq!(portal.receive(greeting), Ok(Some(Order::Challenge)));
    assert_eq!(portal.receive(signature.clone()), Err(PortalError::Unexpected(Command::Auth)), "of what?");
    assert_eq!(sent(portal.challenge([7; 20])), (Command::Auth, TOKEN, 0));
    let open = portal.receive(message(Command::Open, 9, 0, b"shell:\0"));
    assert_eq!(open, Err(PortalError::NotConnected(Command::Open)));
    let check = Order::Check { signature: Bytes::from_static(b"sig") };
    assert_eq!(portal.receive(signature.clone()), Ok(Some(check)));
    assert!(portal.receive(signature.clone()).is_err(), "a token is answered once");
    portal.challenge([8; 20]);
    let key = message(Command::Auth, PUBLIC_KEY, 0, b"QAAA mara@desk");
    assert_eq!(portal.receive(key), Ok(Some(Order::Unknown { key: Bytes::from_static(b"QAAA mara@desk") })));
    portal.receive(signature.clone()).unwrap();
    assert_eq!(sent(portal.admit()), (Command::Connect, VERSION_SKIP_CHECKSUM, 4096));
    assert!(portal.is_connected());
    assert_eq!(portal.receive(signature), Err(PortalError::Unexpected(Command::Auth)));
    assert_eq!(portal.admit(), None, "once");
}

#[test]
fn nobody_tries_keys_for_ever() {
    let mut portal = Portal::guarded(&Banner::default());
    portal.receive(message(Command::Connect, VERSION_SKIP_CHECKSUM, 4096, b"host::")).unwrap();
    let mut tried = 0;
    loop {
        portal.challenge([7; 20]);
        match portal.receive(message(Command::Auth, SIGNATURE, 0, b"sig")) {
            Ok(_) => tried += 1,
            Err(error) => break assert_eq!((error, tried), (PortalError::NotKnown, SIGNATURES_MAX)),
        }
    }
}

#[test]
fn a_stream_is_opened_talked_on_and_closed_by_either_side() {
    let mut portal = connected();
    let open = Order::Open { stream: 1, service: "shell:ls".to_owned() };
    assert_eq!(portal.receive(message(Command::Open, 9, 0, b"shell:ls\0")), Ok(Some(open)));
    assert_eq!(sent(portal.opened(1)), (Command::Okay, 1, 9));
    let give = Order::Give { stream: 1, bytes: Bytes::from_static(b"in") };
    assert_eq!(portal.receive(message(Command::Write, 9, 1, b"in")), Ok(Some(give)));
    assert_eq!(portal.receive(message(Command::Write, 9, 1, b"more")), Err(PortalError::Flood(1)));
    assert_eq!(sent(portal.taken(1)), (Command::Okay, 1, 9));
    assert_eq!(sent(portal.said(1, Bytes::from_static(b"out"))), (Command::Write, 1, 9));
    assert_eq!(portal.receive(message(Command::Okay, 9, 1, b"")), Ok(Some(Order::Continue { stream: 1 })));
    assert_eq!(sent(portal.ended(1)), (Command::Close, 1, 9));
    assert_eq!(portal.receive(message(Command::Close, 9, 1, b"")), Ok(None), "it has ended once");
    portal.receive(message(Command::Open, 10, 0, b"x:\0")).unwrap();
    assert_eq!(sent(portal.ended(2)), (Command::Close, 0, 10), "refused");
}

#[test]
fn a_close_of_the_client_is_answered_as_phones_answer_it() {
    let mut portal = connected();
    portal.receive(message(Command::Open, 9, 0, b"sync:\0")).unwrap();
    portal.opened(1);
    let answer = Some(message(Command::Close, 1, 9, b""));
    let end = Order::End { stream: 1, answer };
    assert_eq!(portal.receive(message(Command::Close, 9, 1, b"")), Ok(Some(end)));
    assert_eq!(portal.ended(1), None, "it has ended once");
}

#[test]
fn a_phone_reaches_the_clients_host_if_it_lets_it() {
    let mut portal = connected();
    let (stream, order) = portal.offer("tcp:5000").unwrap();
    assert_eq!(sent(Some(order)), (Command::Open, stream, 0));
    assert_eq!(portal.receive(message(Command::Okay, 7, stream, b"")), Ok(Some(Order::Begin { stream })));
    assert_eq!(sent(portal.said(stream, Bytes::from_static(b"x"))), (Command::Write, stream, 7));
    let (refused, _) = portal.offer("tcp:5000").unwrap();
    assert_eq!(
        portal.receive(message(Command::Close, 0, refused, b"")),
        Ok(Some(Order::End { stream: refused, answer: None }))
    );
}

#[test]
fn what_makes_no_sense_ends_the_connection_or_is_refused() {
    let mut portal = Portal::new(&Banner::default());
    let early = portal.receive(message(Command::Open, 1, 0, b"shell:\0"));
    assert_eq!(early, Err(PortalError::NotConnected(Command::Open)));
    assert!(portal.receive(message(Command::Connect, VERSION_SKIP_CHECKSUM, 16, b"")).is_err());
    let mut portal = connected();
    assert_eq!(sent(portal.receive(message(Command::Open, 3, 0, b"\xff")).unwrap()), (Command::Close, 0, 3));
    for theirs in 1..=u32::try_from(STREAMS_MAX).unwrap() {
        portal.receive(message(Command::Open, theirs, 0, b"x:\0")).unwrap();
    }
    assert_eq!(sent(portal.receive(message(Command::Open, 99, 0, b"x:\0")).unwrap()), (Command::Close, 0, 99));
    assert_eq!(portal.receive(message(Command::Write, 1, 12345, b"x")), Ok(None));
}

proptest! {
    #[test]
    fn nothing_breaks_it(bytes: Vec<u8>) {
        fuzz_portal(&bytes);
    }
}
