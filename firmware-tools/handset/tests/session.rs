//! A host of a few lines talks to a handset: what each message is answered with.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test ends by a panic")]

mod host;

use std::time::Duration;

use bytes::Bytes;
use handset::wire::{Command, Message, VERSION_CHECKED, VERSION_UNCHECKED};
use handset::{Authorisation, Feature, KeyStore, Mode, Profile, UnknownKey};
use proptest::prelude::*;

use host::{Host, key_pair};

#[tokio::test]
async fn a_host_connects_and_runs_a_command() {
    let mut host = Host::connected(Profile::modern("caiman", "Pixel 9 Pro"), "host::features=shell_v2,cmd").await;
    assert_eq!(host.stream_to("shell,v2,raw:echo hello").await.unwrap(), b"\x01\x06\0\0\0hello\n\x03\x01\0\0\0\0");
    assert_eq!(host.stream_to("shell:echo hello\0").await.unwrap(), b"hello\n");
    assert_eq!(host.stream_to("shell,v2:false").await.unwrap(), b"\x02\x03\0\0\0no\n\x03\x01\0\0\0\x01");
    assert_eq!(host.stream_to("abb_exec:echo\0a\0b").await.unwrap(), b"a|b");
}

#[tokio::test]
async fn the_banner_says_who_the_phone_is() {
    let (mut host, _) = Host::new(Profile::modern("caiman", "Pixel 9 Pro"), Authorisation::Off);
    host.say(Message::new(Command::CNXN, VERSION_UNCHECKED, 1 << 20, "host::")).await;
    let answer = host.hear().await.unwrap();
    assert_eq!((answer.command, answer.arg0, answer.arg1), (Command::CNXN, VERSION_UNCHECKED, 1 << 20));
    let banner = "device::ro.product.name=caiman;ro.product.model=Pixel 9 Pro;ro.product.device=caiman;\
                  features=shell_v2,cmd,stat_v2,ls_v2,fixed_push_mkdir,abb,abb_exec,\
                  fixed_push_symlink_timestamp,sendrecv_v2,sendrecv_v2_lz4,sendrecv_v2_dry_run_send";
    assert_eq!(answer.payload, banner);
}

#[tokio::test]
async fn what_is_not_android_greets_and_serves_nothing() {
    let profile = Profile::modern("p", "m").in_mode(Mode::Sideload);
    let (mut host, _) = Host::new(profile, Authorisation::Off);
    host.say(Message::new(Command::CNXN, VERSION_UNCHECKED, 1 << 20, "host::")).await;
    assert!(host.hear().await.unwrap().payload.starts_with(b"sideload::"));
    assert_eq!(host.stream_to("shell:echo hello").await, None);
}

#[tokio::test]
async fn an_old_phone_sends_small_payloads_and_checks_sums() {
    let (mut host, ended) = Host::new(Profile::old("hammerhead", "Nexus 5"), Authorisation::Off);
    host.say(Message::new(Command::CNXN, VERSION_UNCHECKED, 1 << 20, "host::features=shell_v2")).await;
    let answer = host.hear().await.unwrap();
    assert_eq!((answer.arg0, answer.arg1), (VERSION_CHECKED, 4096));

    host.say(Message::new(Command::OPEN, 9, 0, "shell:zeros 10000")).await;
    let local = host.hear().await.unwrap().arg0;
    for expected in [4096, 4096, 1808] {
        assert_eq!(host.hear().await.unwrap().payload.len(), expected);
        host.say(Message::new(Command::OKAY, 9, local, "")).await;
    }
    assert_eq!(host.hear().await.unwrap().command, Command::CLSE);

    host.say_without_sum(Message::new(Command::OPEN, 10, 0, "shell:echo")).await;
    assert!(host.hear().await.is_none());
    assert!(ended.await.unwrap().unwrap_err().to_string().contains("reading"));
}

#[tokio::test(start_paused = true)]
async fn without_an_okay_nothing_more_is_sent() {
    let mut host = Host::connected(Profile::old("p", "m"), "host::").await;
    host.say(Message::new(Command::OPEN, 9, 0, "shell:zeros 5000")).await;
    let local = host.hear().await.unwrap().arg0;
    assert_eq!(host.hear().await.unwrap().payload.len(), 4096);
    assert!(host.silent_for(Duration::from_secs(60)).await);
    host.say(Message::new(Command::OKAY, 9, local, "")).await;
    assert_eq!(host.hear().await.unwrap().payload.len(), 904);
}

#[tokio::test(start_paused = true)]
async fn with_delayed_ack_a_window_of_bytes_is_under_way() {
    let profile = Profile::modern("p", "m").with(Feature::DELAYED_ACK);
    let mut host = Host::connected(profile, "host::features=shell_v2,delayed_ack").await;
    host.say(Message::new(Command::OPEN, 9, 1000, "exec:zeros 1051076")).await;
    let opened = host.hear().await.unwrap();
    assert_eq!((opened.command, &opened.payload[..]), (Command::OKAY, &(32_u32 << 20).to_le_bytes()[..]));
    assert_eq!(
        host.hear().await.unwrap().payload.len(),
        1 << 20,
        "as long as a byte of the window is left, a whole message"
    );
    assert!(host.silent_for(Duration::from_secs(60)).await);
    host.say(Message::new(Command::OKAY, 9, opened.arg0, (1_u32 << 20).to_le_bytes().to_vec())).await;
    assert_eq!(host.hear().await.unwrap().payload.len(), 2500);
    assert_eq!(host.hear().await.unwrap().command, Command::CLSE);
}

#[tokio::test]
async fn what_the_command_reads_is_acknowledged_by_its_bytes() {
    let profile = Profile::modern("p", "m").with(Feature::DELAYED_ACK);
    let mut host = Host::connected(profile, "host::features=delayed_ack").await;
    host.say(Message::new(Command::OPEN, 9, 1 << 20, "exec:count 7")).await;
    let local = host.hear().await.unwrap().arg0;
    host.say(Message::new(Command::WRTE, 9, local, "1234")).await;
    let okay = host.hear().await.unwrap();
    assert_eq!((okay.command, &okay.payload[..]), (Command::OKAY, &4_u32.to_le_bytes()[..]));
    host.say(Message::new(Command::WRTE, 9, local, "567")).await;
    assert_eq!(host.hear().await.unwrap().command, Command::OKAY);
    assert_eq!(host.hear().await.unwrap().payload, "7 bytes");
}

#[tokio::test]
async fn what_fits_into_a_sockets_buffer_is_acknowledged_before_it_is_read() {
    let mut host = Host::connected(Profile::modern("p", "m"), "host::").await;
    host.say(Message::new(Command::OPEN, 9, 0, "exec:hang")).await;
    let local = host.hear().await.unwrap().arg0;
    for _ in 0..3 {
        host.say(Message::new(Command::WRTE, 9, local, vec![0; 70_000])).await;
        assert_eq!(host.hear().await.unwrap().command, Command::OKAY);
    }
    host.say(Message::new(Command::WRTE, 9, local, vec![0; 70_000])).await;
    assert_eq!(host.stream_to("shell:echo others go on").await.unwrap(), b"others go on\n");
}

#[tokio::test]
async fn a_host_that_sends_more_than_the_window_loses_the_stream_only() {
    let mut host = Host::connected(Profile::modern("p", "m"), "host::").await;
    host.say(Message::new(Command::OPEN, 9, 0, "exec:hang")).await;
    let local = host.hear().await.unwrap().arg0;
    for _ in 0..=32 {
        host.say(Message::new(Command::WRTE, 9, local, vec![0; 1 << 20])).await;
    }
    let refused = host.hear().await.unwrap();
    assert_eq!((refused.command, refused.arg0, refused.arg1), (Command::CLSE, local, 9));
    assert_eq!(host.stream_to("shell:echo still here").await.unwrap(), b"still here\n");
}

#[tokio::test]
async fn what_cannot_be_opened_is_refused() {
    let delayed = Profile::modern("p", "m").with(Feature::DELAYED_ACK);
    let mut host = Host::connected(delayed, "host::features=delayed_ack").await;
    for (window, service) in [(0, "shell:"), (1000, "tcp:80"), (1000, "")] {
        host.say(Message::new(Command::OPEN, 9, window, service)).await;
        let refused = host.hear().await.unwrap();
        assert_eq!((refused.command, refused.arg0, refused.arg1), (Command::CLSE, 0, 9), "{window} {service}");
    }
    for id in 1..=1024 {
        host.say(Message::new(Command::OPEN, id, 1000, "shell:hang")).await;
        assert_eq!(host.hear().await.unwrap().command, Command::OKAY);
    }
    host.say(Message::new(Command::OPEN, 1025, 1000, "shell:hang")).await;
    assert_eq!(host.hear().await.unwrap().command, Command::CLSE);
    host.say(Message::new(Command::OPEN, 0, 1000, "shell:echo")).await;
    host.say(Message::new(Command::WRTE, 7, 5, "of another host")).await;
    assert!(host.silent_for(Duration::from_millis(20)).await, "nobody can be told");
}

#[tokio::test]
async fn a_second_cnxn_starts_all_over() {
    let mut host = Host::connected(Profile::modern("p", "m"), "host::").await;
    host.say(Message::new(Command::OPEN, 9, 0, "shell:hang")).await;
    let local = host.hear().await.unwrap().arg0;
    host.say(Message::new(Command::CNXN, VERSION_UNCHECKED, 4096, "host::")).await;
    let closed = host.hear().await.unwrap();
    assert_eq!((closed.command, closed.arg0, closed.arg1), (Command::CLSE, local, 9));
    assert_eq!(host.hear().await.unwrap().command, Command::CNXN);
    host.say(Message::new(Command::OKAY, 9, local, "")).await;
    assert_eq!(host.hear().await.unwrap().command, Command::CLSE, "the stream is gone");
}

#[tokio::test]
async fn a_known_key_opens_the_phone() {
    let (private, public) = key_pair();
    let keys = KeyStore::new([handset::AndroidPublicKey::parse(&public).unwrap()], UnknownKey::Ignore);
    let (mut host, _) = Host::new(Profile::modern("p", "m"), Authorisation::Keys(keys));
    host.say(Message::new(Command::OPEN, 1, 0, "shell:echo too early")).await;
    host.say(Message::new(Command::CNXN, VERSION_UNCHECKED, 1 << 20, "host::")).await;
    let first = host.hear().await.unwrap();
    assert_eq!((first.command, first.arg0, first.payload.len()), (Command::AUTH, 1, 20));

    host.say(Message::new(Command::AUTH, 2, 0, vec![7; 256])).await;
    let second = host.hear().await.unwrap();
    assert_eq!(second.command, Command::AUTH, "a wrong signature gets a new token");
    assert_ne!(first.payload, second.payload);

    host.say(Message::new(Command::AUTH, 2, 0, host::sign(&private, &first.payload))).await;
    let third = host.hear().await.unwrap();
    assert_eq!(third.command, Command::AUTH, "an old token is worth nothing");

    host.say(Message::new(Command::AUTH, 2, 0, host::sign(&private, &third.payload))).await;
    assert_eq!(host.hear().await.unwrap().command, Command::CNXN);
}

#[tokio::test(start_paused = true)]
async fn an_unknown_key_waits_for_the_user_and_is_remembered() {
    let (private, public) = key_pair();
    let keys = KeyStore::new([], UnknownKey::AcceptAfter(Duration::from_secs(5)));
    let phone = host::phone(Profile::modern("p", "m"), Authorisation::Keys(keys.clone()));

    let (mut host, _) = Host::to(&phone);
    host.say(Message::new(Command::CNXN, VERSION_UNCHECKED, 1 << 20, "host::")).await;
    host.hear().await.unwrap();
    host.say(Message::new(Command::AUTH, 3, 0, public)).await;
    assert!(host.silent_for(Duration::from_secs(4)).await);
    assert_eq!(host.hear().await.unwrap().command, Command::CNXN);
    assert_eq!(keys.count(), 1);

    let (mut host, _) = Host::to(&phone);
    host.say(Message::new(Command::CNXN, VERSION_UNCHECKED, 1 << 20, "host::")).await;
    let token = host.hear().await.unwrap();
    host.say(Message::new(Command::AUTH, 2, 0, host::sign(&private, &token.payload))).await;
    assert_eq!(host.hear().await.unwrap().command, Command::CNXN);
}

#[tokio::test(start_paused = true)]
async fn a_user_who_never_answers_leaves_the_host_waiting() {
    let (_, public) = key_pair();
    let (mut host, _) =
        Host::new(Profile::modern("p", "m"), Authorisation::Keys(KeyStore::new([], UnknownKey::Ignore)));
    host.say(Message::new(Command::CNXN, VERSION_UNCHECKED, 1 << 20, "host::")).await;
    host.hear().await.unwrap();
    host.say(Message::new(Command::AUTH, 3, 0, public)).await;
    assert!(host.silent_for(Duration::from_secs(3600)).await);
}

#[tokio::test]
async fn a_shell_without_command_reads_lines() {
    let mut host = Host::connected(Profile::modern("p", "m"), "host::features=shell_v2").await;
    host.say(Message::new(Command::OPEN, 9, 0, "shell,v2,raw:")).await;
    let local = host.hear().await.unwrap().arg0;
    host.say(Message::new(Command::WRTE, 9, local, &b"\0\x0d\0\0\0echo a\nfalse\n\x04\0\0\0\0"[..])).await;
    let output = host.drain(9, local).await;
    assert_eq!(output, b"\x01\x02\0\0\0a\n\x02\x03\0\0\0no\n\x03\x01\0\0\0\x01");
}

#[tokio::test]
async fn files_are_pushed_listed_and_pulled() {
    let mut host = Host::connected(Profile::modern("p", "m"), "host::").await;
    let mut requests = Vec::new();
    requests.extend_from_slice(b"SEND\x13\0\0\0/sdcard/a.txt,33188");
    requests.extend_from_slice(b"DATA\x05\0\0\0helloDONE\x07\0\0\0");
    requests.extend_from_slice(b"STAT\x0d\0\0\0/sdcard/a.txt");
    requests.extend_from_slice(b"LIST\x07\0\0\0/sdcard");
    requests.extend_from_slice(b"RECV\x0d\0\0\0/sdcard/a.txt");
    requests.extend_from_slice(b"RECV\x04\0\0\0/not");
    requests.extend_from_slice(b"QUIT\0\0\0\0");
    host.say(Message::new(Command::OPEN, 9, 0, "sync:")).await;
    let local = host.hear().await.unwrap().arg0;
    host.say(Message::new(Command::WRTE, 9, local, requests)).await;
    let answers = host.drain(9, local).await;
    let mut expected = Vec::new();
    expected.extend_from_slice(b"OKAY\0\0\0\0");
    expected.extend_from_slice(b"STAT\xb6\x81\0\0\x05\0\0\0\x07\0\0\0");
    for name in [&b"\x01\0\0\0."[..], b"\x02\0\0\0.."] {
        expected.extend_from_slice(&[b"DENT\xfd\x41\0\0\0\x10\0\0\0\0\0\0", name].concat());
    }
    expected.extend_from_slice(b"DENT\xb6\x81\0\0\x05\0\0\0\x07\0\0\0\x05\0\0\0a.txt");
    expected.extend_from_slice(&[b"DONE".as_slice(), &[0; 16]].concat());
    expected.extend_from_slice(b"DATA\x05\0\0\0helloDONE\0\0\0\0");
    expected.extend_from_slice(b"FAIL\x26\0\0\0open failed: No such file or directory");
    assert_eq!(answers.escape_ascii().to_string(), expected.escape_ascii().to_string());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A host that says anything in any order neither kills the phone nor makes it useless for the next host.
    #[test]
    fn a_lying_host_harms_only_itself(
        messages in prop::collection::vec((command(), 0..4_u32, 0..4_u32, payload()), 0..40),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        runtime.block_on(async {
            let phone = host::phone(Profile::modern("p", "m"), Authorisation::Off);
            let (mut liar, _) = Host::to(&phone);
            liar.say(Message::new(Command::CNXN, VERSION_UNCHECKED, 1 << 20, "host::")).await;
            for (command, arg0, arg1, payload) in messages {
                liar.say(Message::new(command, arg0, arg1, payload)).await;
                while !liar.silent_for(Duration::from_millis(1)).await {
                    if liar.hear().await.is_none() { break; }
                }
            }
            let (mut honest, _) = Host::to(&phone);
            honest.say(Message::new(Command::CNXN, VERSION_UNCHECKED, 1 << 20, "host::")).await;
            honest.hear().await.unwrap();
            assert_eq!(honest.stream_to("shell:echo fine").await.unwrap(), b"fine\n");
        });
    }
}

fn command() -> impl Strategy<Value = Command> {
    prop_oneof![
        Just(Command::CNXN),
        Just(Command::AUTH),
        Just(Command::OPEN),
        Just(Command::OKAY),
        Just(Command::WRTE),
        Just(Command::CLSE),
        any::<u32>().prop_map(Command),
    ]
}

fn payload() -> impl Strategy<Value = Bytes> {
    let services = [
        "shell:",
        "shell,v2,raw:",
        "sync:",
        "exec:count 5",
        "shell:hang",
        "reboot:",
        "reverse:x",
        "abb:a\0b",
        "reverse:list-forward",
        "track-jdwp",
        "tcp:1",
        "root:",
        "reconnect",
    ];
    let sync =
        (prop::sample::select(vec!["STAT", "LST2", "LIS2", "SEND", "SND2", "RECV", "DATA", "DONE", "QUIT"]), 0..20_u32)
            .prop_map(|(id, length)| [id.as_bytes(), &length.to_le_bytes(), b"/sdcard/x,33188....."].concat());
    prop_oneof![
        prop::sample::select(services.to_vec()).prop_map(|service| Bytes::from_static(service.as_bytes())),
        sync.prop_map(Bytes::from),
        prop::collection::vec(any::<u8>(), 0..64).prop_map(Bytes::from),
    ]
}
