//! Requests as adb 29.0.6 and 34.0.5 send them.

use proptest::prelude::*;

use super::*;

fn host(text: &str) -> Host {
    match Request::parse(text.as_bytes()) {
        Ok(Request::Host(host)) => host,
        other => panic!("{text}: {other:?}"),
    }
}

fn why(text: &str) -> String {
    Request::parse(text.as_bytes()).unwrap_err().to_string()
}

fn named(name: &str) -> Target {
    Target::Named(name.to_owned())
}

#[test]
fn a_head_is_four_hex_digits() {
    assert_eq!(text_len(*b"000c"), Ok(12));
    assert_eq!(text_len(*b"000C"), Ok(12));
    assert_eq!(text_len(*b"ffff"), Ok(0xffff));
    assert_eq!(text_len(*b"0000"), Err(RequestError::Empty));
    for head in [*b"zzzz", *b"00 c", *b"+00c", *b"0x0c", *b"\xff\0\n1"] {
        assert!(matches!(text_len(head), Err(RequestError::Head(_))), "{head:?}");
    }
    assert_eq!(Request::emit("host:version"), b"000chost:version");
}

proptest! {
    #[test]
    fn a_question_about_a_phone_is_read_as_it_was_meant(serial in "[A-Za-z0-9._-]{1,30}(:[0-9]{1,5})?", id: u64) {
        for target in [Target::Any, Target::Of(Scope::Usb), Target::Of(Scope::Tcp), named(&serial), Target::Id(id)] {
            prop_assert_eq!(host(&about(&target, "get-serialno")), Host::About(target, Question::Serial));
        }
    }
}

#[test]
fn whom_a_question_is_about_stands_before_it() {
    let state = |target| Host::About(target, Question::State);
    assert_eq!(host("host:get-state"), state(Target::Any));
    assert_eq!(host("host-usb:get-state"), state(Target::Of(Scope::Usb)));
    assert_eq!(host("host-local:get-state"), state(Target::Of(Scope::Tcp)));
    assert_eq!(host("host-transport-id:7:get-state"), state(Target::Id(7)));
    assert_eq!(host("host-serial:R5CW:get-state"), state(named("R5CW")));
    assert_eq!(host("host-serial:127.0.0.1:6555:get-state"), state(named("127.0.0.1:6555")));
    assert_eq!(host("host-serial:[::1]:6555:get-state"), state(named("[::1]:6555")));
    assert_eq!(host("host-serial:usb:1-2.3:get-state"), state(named("usb:1-2.3")));
    assert_eq!(why("host-transport-id:x:get-state"), "invalid transport id");
    assert_eq!(why("host-serial:x"), "unknown host service");
}

#[test]
fn a_connection_is_bound_by_each_form_that_clients_use() {
    let bound = |target, reply| Host::Transport(target, reply);
    assert_eq!(host("host:transport:A1"), bound(named("A1"), TransportReply::Plain));
    assert_eq!(host("host:transport-any"), bound(Target::Any, TransportReply::Plain));
    assert_eq!(host("host:transport-usb"), bound(Target::Of(Scope::Usb), TransportReply::Plain));
    assert_eq!(host("host:transport-id:3"), bound(Target::Id(3), TransportReply::Plain));
    assert_eq!(host("host:tport:any"), bound(Target::Any, TransportReply::WithId));
    assert_eq!(host("host:tport:serial:127.0.0.1:6555"), bound(named("127.0.0.1:6555"), TransportReply::WithId));
    assert_eq!(host("host:tport:local"), bound(Target::Of(Scope::Tcp), TransportReply::WithId));
    assert_eq!(why("host:transport-id:x"), "invalid transport id");
}

#[test]
fn a_forward_names_both_ends() {
    let forward = |target, rebind| Host::Forward { target, rebind, local: "tcp:0".into(), remote: "tcp:7".into() };
    assert_eq!(host("host:forward:tcp:0;tcp:7"), forward(Target::Any, Rebind::Allowed));
    assert_eq!(host("host-serial:a:1:forward:norebind:tcp:0;tcp:7"), forward(named("a:1"), Rebind::Refused));
    assert_eq!(host("host:killforward:tcp:0"), Host::KillForward { local: "tcp:0".into() });
    assert_eq!(why("host:forward:tcp:15001"), "bad forward: tcp:15001");
    assert_eq!(why("host-serial:A1:forward:tcp:15001"), "bad forward: tcp:15001");
    assert_eq!(why("host:killforward:"), "bad killforward: ");
}

#[test]
fn a_wait_names_a_place_and_states() {
    let device = Awaited::State(DeviceState::Device);
    assert_eq!(host("host:wait-for-any-device"), Host::WaitFor(WaitFor { target: Target::Any, states: vec![device] }));
    let both = WaitFor { target: Target::Of(Scope::Usb), states: vec![device, Awaited::Never] };
    assert_eq!(host("host:wait-for-usb-device-recovery"), Host::WaitFor(both));
    let gone = WaitFor { target: named("A1"), states: vec![Awaited::Disconnect] };
    assert_eq!(host("host-serial:A1:wait-for-usb-disconnect"), Host::WaitFor(gone));
    assert_eq!(why("host:wait-for-any"), "short wait-for-: any");
    assert_eq!(why("host:wait-for-foo-device"), "bad wait-for- transport: foo-device");
    assert_eq!(why("host:wait-for-any-foo"), "bad wait-for- state: any-foo");
}

#[test]
fn all_else_is_for_the_phone_byte_by_byte() {
    for text in ["shell:ls", "abb_exec:package\0install\0-S\u{0}5", "host", "host:", "reverse:list-forward", "sync:"] {
        assert_eq!(Request::parse(text.as_bytes()), Ok(Request::Service(text.to_owned())));
    }
    assert_eq!(Request::parse(b"shell:\xff"), Err(RequestError::Text));
    for text in ["host:nonsense", "host:track-app", "host:server-status", "host-usb:"] {
        assert_eq!(why(text), "unknown host service", "{text}");
    }
}

proptest! {
    #[test]
    fn any_bytes_are_a_request_or_an_error(bytes: Vec<u8>, text in "(host|host-serial:|host:|host-usb:)[ -~]{0,40}") {
        fuzz_request(&bytes);
        fuzz_request(&Request::emit(&text));
    }

    #[test]
    fn a_serial_with_colons_is_found_whole(serial in "[a-zA-Z0-9.:]{0,20}[a-z0-9]") {
        let about = Host::About(named(&serial), Question::Serial);
        prop_assert_eq!(host(&format!("host-serial:{serial}:get-serialno")), about);
    }
}
