use proptest::prelude::*;

use super::*;
use crate::auth::{AndroidPublicKey, KeyStore, UnknownKey};
use crate::wire::VERSION_UNCHECKED;

const START: Duration = Duration::ZERO;
const HOST_ID: u32 = 7;
const KEY: &[u8] = include_bytes!("../../tests/keys/adbkey.pub");

fn phone(authorisation: Authorisation) -> Connection {
    let profile = Profile::modern("p", "m").with(Feature::DELAYED_ACK);
    Connection::new(profile, authorisation, Box::new(|| [9; TOKEN_BYTES]))
}

fn hello(features: &str) -> Message {
    Message::new(Command::CNXN, VERSION_UNCHECKED, 1 << 20, format!("host::features={features}"))
}

fn sent(core: &mut Connection) -> Vec<(Command, u32, u32, usize)> {
    let messages = std::iter::from_fn(|| core.next_message());
    messages.map(|(message, _)| (message.command, message.arg0, message.arg1, message.payload.len())).collect()
}

/// A phone that is online, and its stream to a shell.
fn open(features: &str, window: u32) -> (Connection, u32) {
    let mut core = phone(Authorisation::Off);
    core.receive(hello(features), START);
    let asked = core.receive(Message::new(Command::OPEN, HOST_ID, window, &b"shell:cat\0"[..]), START);
    let Some(Demand::Open(asked)) = asked else { panic!("{asked:?}") };
    let local = core.accept(&asked).unwrap();
    sent(&mut core);
    while core.next_wake().is_some() {}
    (core, local)
}

#[test]
fn whoever_is_let_in_by_nobody_is_asked_about_and_let_in_when_the_user_says_so() {
    let keys = KeyStore::new([], UnknownKey::AcceptAfter(Duration::from_secs(3)));
    let mut core = phone(Authorisation::Keys(keys));
    core.receive(hello(""), START);
    core.receive(Message::new(Command::AUTH, 2, 0, vec![0; 256]), START);
    assert_eq!(sent(&mut core), [(Command::AUTH, 1, 0, TOKEN_BYTES), (Command::AUTH, 1, 0, TOKEN_BYTES)]);
    assert_eq!(core.deadline(), None);

    core.receive(Message::new(Command::AUTH, 3, 0, KEY), Duration::from_secs(1));
    assert!(AndroidPublicKey::parse(KEY).is_ok());
    assert_eq!(core.deadline(), Some(Duration::from_secs(4)));
    core.advance(Duration::from_millis(3999));
    assert_eq!(sent(&mut core), []);
    core.advance(Duration::from_secs(4));
    assert_eq!(sent(&mut core).first().map(|message| message.0), Some(Command::CNXN));
    assert_eq!(core.deadline(), None);
}

#[test]
fn nothing_is_opened_for_a_host_that_is_not_let_in() {
    let mut core = phone(Authorisation::Keys(KeyStore::new([], UnknownKey::Ignore)));
    core.receive(hello(""), START);
    sent(&mut core);
    assert!(core.receive(Message::new(Command::OPEN, HOST_ID, 0, &b"shell:\0"[..]), START).is_none());
    assert_eq!(sent(&mut core), []);
}

#[test]
fn one_message_at_a_time_is_acknowledged_when_its_bytes_fit_into_the_buffer() {
    let (mut core, local) = open("", 0);
    let large = Bytes::from(vec![1; limits::BUFFER_BYTES as usize]);
    core.receive(Message::new(Command::WRTE, HOST_ID, local, large.clone()), START);
    assert_eq!(sent(&mut core), [(Command::OKAY, local, HOST_ID, 0)]);
    core.receive(Message::new(Command::WRTE, HOST_ID, local, &b"x"[..]), START);
    assert_eq!(sent(&mut core), [], "the buffer is full");
    assert_eq!(core.read(local), Read::Bytes(large));
    assert_eq!(sent(&mut core), [(Command::OKAY, local, HOST_ID, 0)]);
}

#[test]
fn a_host_that_has_more_under_way_than_the_window_loses_its_stream() {
    let (mut core, local) = open("delayed_ack", 1);
    let piece = Bytes::from(vec![0; 1 << 20]);
    for _ in 0..limits::RECEIVE_WINDOW_BYTES >> 20 {
        core.receive(Message::new(Command::WRTE, HOST_ID, local, piece.clone()), START);
    }
    sent(&mut core);
    core.receive(Message::new(Command::WRTE, HOST_ID, local, &b"x"[..]), START);
    assert_eq!(sent(&mut core), [(Command::CLSE, local, HOST_ID, 0)]);
    assert!(std::iter::from_fn(|| core.next_wake()).any(|wake| wake == Wake::Closed(local)));
    assert_eq!(core.read(local), Read::Bytes(piece), "what came can still be read");
}

#[test]
fn two_that_write_have_their_turns() {
    let (mut core, first) = open("delayed_ack", u32::MAX);
    let asked = core.receive(Message::new(Command::OPEN, HOST_ID + 1, u32::MAX, &b"sync:\0"[..]), START);
    let Some(Demand::Open(asked)) = asked else { panic!("{asked:?}") };
    let second = core.accept(&asked).unwrap();
    let mut endless = Bytes::from(vec![0; 64 << 20]);
    while core.write(first, &mut endless) == Write::Sent {}
    assert_eq!(core.write(second, &mut endless), Write::Wait);
    let mut turns = Vec::new();
    for _ in 0..4 {
        core.next_message().unwrap();
        let Some(Wake::Writer(woken)) = core.next_wake() else { panic!("nobody was woken") };
        assert_eq!(core.next_wake(), None);
        assert_eq!(core.write(woken, &mut endless), Write::Sent);
        assert_eq!(core.write(woken, &mut endless), Write::Wait);
        turns.push(woken);
    }
    assert_eq!(turns, [first, second, first, second]);
}

#[test]
fn a_host_that_starts_again_finds_nothing_of_before() {
    let (mut core, local) = open("", 0);
    assert!(matches!(core.receive(hello(""), START), Some(Demand::ForgetTunnels)));
    let told = sent(&mut core);
    assert_eq!(told[0], (Command::CLSE, local, HOST_ID, 0));
    assert_eq!(told[1].0, Command::CNXN);
    assert_eq!(core.read(local), Read::Closed);
}

#[test]
fn a_stream_of_ours_is_written_to_once_the_host_has_answered() {
    let (mut core, _) = open("", 0);
    let local = core.open("tcp:7100").unwrap();
    assert_eq!(sent(&mut core), [(Command::OPEN, local, 0, 9)]);
    let mut bytes = Bytes::from_static(b"hello");
    assert_eq!(core.write(local, &mut bytes), Write::Wait);
    core.receive(Message::new(Command::OKAY, 0, local, Bytes::new()), START);
    assert_eq!(core.write(local, &mut bytes), Write::Wait, "nobody has the number 0");
    core.receive(Message::new(Command::OKAY, 33, local, Bytes::new()), START);
    assert_eq!(core.write(local, &mut bytes), Write::Sent);
    assert_eq!(sent(&mut core), [(Command::WRTE, local, 33, 5)]);
}

proptest! {
    #[test]
    fn whatever_comes_in_whatever_order_breaks_nothing(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        crate::exercise::connection(&bytes);
    }
}
