//! Clients that are slow, deaf, endless or many. The clock is the test's own.

use tokio::io::{DuplexStream, duplex};
use tokio::time::Instant;

use super::*;
use crate::clock::{Moment, UnixMillis};
use crate::rack::Rack;
use crate::rack::snapshot::PhoneState;

/// A server of `phones` phones that are not there.
fn server(phones: usize) -> (AdbServer, impl Sized) {
    let settings = (&crate::config::observing()).into();
    let mut snapshot = Rack::new(settings, UnixMillis(0), Moment::START).snapshot(Moment::START);
    for number in 0..phones {
        let mut phone = PhoneView::unknown(PhoneId::new(format!("R5CW{number:06}")));
        phone.endpoint = Some(format!("tcp:127.0.0.1:{}", 1000 + number).parse().unwrap());
        phone.state = PhoneState::Ready;
        snapshot.phones.push(phone);
    }
    let (snapshots, receiver) = watch::channel(Arc::new(snapshot));
    let ((events, inbox), (records, kept)) = (mpsc::channel(64), mpsc::channel(64));
    let cancel = CancellationToken::new();
    let server = AdbServer::start(receiver, OnlinePhones::default(), events, records, &cancel);
    (server, (snapshots, inbox, kept, cancel.drop_guard()))
}

/// A conversation with the server, through which `room` bytes fit at once; how it ended, and when.
fn converse(server: &AdbServer, room: usize) -> (DuplexStream, tokio::task::JoinHandle<(io::Result<()>, Duration)>) {
    let (client, end) = duplex(room);
    let (reader, writer) = tokio::io::split(end);
    let server = server.clone();
    let talk = tokio::spawn(async move {
        let began = Instant::now();
        let ended = server.converse(&Client::User("mara".to_owned()), Box::new(reader), Box::new(writer)).await;
        (ended, began.elapsed())
    });
    (client, talk)
}

async fn answer(mut client: DuplexStream) -> String {
    let mut heard = Vec::new();
    client.read_to_end(&mut heard).await.unwrap();
    String::from_utf8(heard).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_request_that_comes_byte_by_byte_must_be_whole_in_time() {
    let (server, _model) = server(0);
    let (mut client, talk) = converse(&server, 64);
    let mut sent = 0;
    for byte in b"000chost:version" {
        if client.write_all(&[*byte]).await.is_err() {
            break;
        }
        sent += 1;
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
    assert!(sent < 16, "it was cut off");
    let (ended, lasted) = talk.await.unwrap();
    assert!(ended.is_ok() && lasted == REQUEST_MAX, "{ended:?} after {lasted:?}");
    assert_eq!(answer(client).await, "", "half a request has no answer");
}

#[tokio::test(start_paused = true)]
async fn whoever_says_nothing_or_half_is_left_in_time() {
    let (server, _model) = server(0);
    for said in [&b""[..], b"0", b"000c", b"000chost:versio", b"ffffhost:devices"] {
        let (mut client, talk) = converse(&server, 64);
        client.write_all(said).await.unwrap();
        assert_eq!(talk.await.unwrap().1, REQUEST_MAX, "{said:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn whoever_does_not_read_its_answer_is_left_in_time() {
    let (server, _model) = server(200);
    let (mut client, talk) = converse(&server, 64);
    client.write_all(b"0011host:devices-long").await.unwrap();
    assert!(answer(client).await.starts_with("FAIL"), "there is no such list");
    assert!(talk.await.unwrap().0.is_ok());
    let (mut client, talk) = converse(&server, 64);
    client.write_all(b"000ehost:devices-l").await.unwrap();
    let (ended, lasted) = talk.await.unwrap();
    assert_eq!((ended.unwrap_err().kind(), lasted), (io::ErrorKind::TimedOut, ANSWER_MAX));
    drop(client);
    // A tracker that never reads waits for the same.
    let (mut client, talk) = converse(&server, 64);
    client.write_all(b"0014host:track-devices-l").await.unwrap();
    assert_eq!(talk.await.unwrap().1, ANSWER_MAX);
}

#[tokio::test(start_paused = true)]
async fn a_gigabyte_that_is_no_request_is_answered_once_and_left() {
    let (server, _model) = server(0);
    let (client, talk) = converse(&server, 1 << 20);
    let (mut from, mut to) = tokio::io::split(client);
    let flood = tokio::spawn(async move {
        let chunk = vec![b'z'; 1 << 20];
        let mut sent = 0_u64;
        while sent < 1 << 30 && to.write_all(&chunk).await.is_ok() {
            sent += chunk.len() as u64;
            // A network gives the server a turn.
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        sent
    });
    let mut heard = String::new();
    from.read_to_string(&mut heard).await.unwrap();
    assert_eq!(heard, answer_of("a request begins with its length in four hex digits, not with \"zzzz\""));
    assert!(talk.await.unwrap().1 < REQUEST_MAX);
    assert!(flood.await.unwrap() < 1 << 30, "it was cut off in the middle");
}

fn answer_of(why: &str) -> String {
    String::from_utf8(answer::fail(why)).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_service_of_a_megabyte_is_read_no_further_than_its_length_says() {
    let (server, _model) = server(0);
    let (mut client, talk) = converse(&server, 2 << 20);
    let service = [b"ffffshell:".as_slice(), &vec![b'x'; 1 << 20]].concat();
    client.write_all(&service).await.unwrap();
    assert_eq!(answer(client).await, answer_of("device offline (no transport)"));
    assert!(talk.await.unwrap().0.is_ok());
}

#[tokio::test(start_paused = true)]
async fn names_with_control_characters_find_nobody_and_break_no_answer() {
    let (server, _model) = server(2);
    for name in ["\x1b[2J", "a\nb\tdevice", "a\0b", "\u{202e}A1", "000cOKAY", "A1;reboot"] {
        for request in [format!("host-serial:{name}:get-state"), format!("host:transport:{name}")] {
            let (mut client, _talk) = converse(&server, 4096);
            client.write_all(&answer::text(&request)).await.unwrap();
            assert_eq!(answer(client).await, answer_of(&format!("device '{name}' not found")), "{request:?}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn ten_thousand_conversations_at_once_are_all_answered_or_ended() {
    let (server, _model) = server(1);
    let mut talks = Vec::new();
    for number in 0..10_000 {
        let (mut client, talk) = converse(&server, 64);
        // Every other one says nothing.
        if number % 2 == 0 {
            client.write_all(b"000chost:version").await.unwrap();
        }
        talks.push((client, talk));
    }
    for (number, (client, talk)) in talks.into_iter().enumerate() {
        if number % 2 == 0 {
            assert_eq!(answer(client).await, "OKAY00040029");
        } else {
            assert_eq!(talk.await.unwrap().1, REQUEST_MAX);
        }
    }
}
