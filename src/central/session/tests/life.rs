use prost::Message;

use super::*;

#[test]
fn a_phone_registers_and_tells_what_it_is() {
    let mut line = Line::new();
    assert_eq!(line.session.deadline(), None, "a closed line waits for nothing");
    line.open();
    assert!(line.outputs.contains(&Output::Connect));

    line.session.connected(line.now);
    let auth = line.sent().remove(0);
    assert_eq!((auth.code, auth.token.as_str(), auth.reference), (1010, "", 0));
    let request = DeviceAuthReqMessage::decode(&auth.body[..]).unwrap();
    assert_eq!((request.auth_type, request.credential.as_str()), (1, IMEI), "AuthType DeviceCode");

    line.serve_auth(auth.id);
    let info = line.sent().remove(0);
    assert_eq!((info.id, info.code, info.token.as_str()), (auth.id + 1, 2027, "token"));
    let body = PostDeviceInfoNoticeMessage::decode(&info.body[..]).unwrap();
    assert_eq!((body.phone_brand.as_str(), body.os_ver_number, body.imei.as_str()), ("acme", 33, IMEI));
    assert_eq!((body.app_infos[0].ver_number, body.app_infos[0].version.as_str()), (7, "0.7"));
    assert_eq!(line.told().0, LineState::Registered);
}

#[test]
fn a_response_with_no_reference_is_taken_too() {
    let mut line = Line::new();
    line.open();
    line.session.connected(line.now);
    line.serve_auth(0);
    assert_eq!(line.told().0, LineState::Registered);
}

#[test]
fn the_response_to_another_request_is_left_aside() {
    let mut line = Line::new();
    line.open();
    line.session.connected(line.now);
    line.serve_auth(4711);
    assert_eq!(line.told().0, LineState::Connecting);
}

#[test]
fn a_heartbeat_is_sent_only_after_the_phone_answered() {
    let mut line = Line::registered();
    line.pass(HEARTBEAT - Duration::from_millis(1));
    assert_eq!(line.events(), []);
    line.pass(Duration::from_millis(1));
    assert_eq!(line.events(), [LineEvent::HeartbeatDue]);
    assert_eq!(line.codes(), [0; 0], "not before the answer");

    line.command(LineCommand::Presence(Presence::Answered));
    let beat = line.sent().remove(0);
    assert_eq!(beat.code, 1001);
    assert_eq!(HeartBeatMessage::decode(&beat.body[..]).unwrap().imei, IMEI);
    line.command(LineCommand::Presence(Presence::Answered));
    assert_eq!(line.codes(), [0; 0], "one answer, one heartbeat");

    line.serve_bytes(1002, &[], beat.id);
    assert_eq!(line.events(), [LineEvent::HeartbeatAcknowledged]);
    for _ in 0..100 {
        line.beat();
    }
}

#[test]
fn a_silent_phone_ends_its_line_until_it_is_opened_again() {
    let mut line = Line::registered();
    line.pass(HEARTBEAT);
    line.command(LineCommand::Presence(Presence::Silent));
    assert!(line.disconnects());
    let (state, why) = line.told();
    assert_eq!((state, why.contains("does not answer")), (LineState::Closed, true), "{why}");
    line.pass(HEARTBEAT * 100);
    assert_eq!(line.codes(), [0; 0]);
    line.open();
    assert!(line.outputs.contains(&Output::Connect));
}

#[test]
fn a_phone_of_which_nothing_is_known_in_time_is_not_kept_alive() {
    let mut line = Line::registered();
    line.pass(HEARTBEAT + Duration::from_secs(15));
    let (state, why) = line.told();
    assert_eq!((state, why.contains("15 s")), (LineState::Closed, true), "{why}");
    assert_eq!(line.codes(), [0; 0]);
}

#[test]
fn three_unanswered_heartbeats_end_the_connection() {
    let mut line = Line::registered();
    for _ in 0..3 {
        line.pass(HEARTBEAT);
        line.command(LineCommand::Presence(Presence::Answered));
    }
    assert_eq!(line.codes(), [1001, 1001, 1001]);
    line.pass(HEARTBEAT);
    assert!(line.disconnects());
    let (state, why) = line.told();
    assert_eq!((state, why.contains("3 heartbeats")), (LineState::Waiting, true), "{why}");
}

#[test]
fn a_late_acknowledgement_clears_the_earlier_ones() {
    let mut line = Line::registered();
    for _ in 0..2 {
        line.pass(HEARTBEAT);
        line.command(LineCommand::Presence(Presence::Answered));
    }
    let second = line.sent()[1].id;
    line.serve_bytes(1002, &[], second);
    for _ in 0..2 {
        line.pass(HEARTBEAT);
        line.command(LineCommand::Presence(Presence::Answered));
    }
    assert_eq!(line.codes(), [1001, 1001]);
    assert!(!line.disconnects());
}

#[test]
fn a_server_that_accepts_and_never_answers_is_left() {
    let mut line = Line::new();
    line.open();
    line.session.connected(line.now);
    assert_eq!(line.session.deadline().unwrap().why, "the central server's answer to DeviceAuthReq");
    line.pass(Duration::from_secs(10));
    assert!(line.disconnects());
    let (state, why) = line.told();
    assert_eq!((state, why.contains("did not answer DeviceAuthReq within 10 s")), (LineState::Waiting, true), "{why}");
}

#[test]
fn a_refused_device_waits_for_minutes_and_is_named() {
    let mut line = Line::new();
    line.open();
    line.session.connected(line.now);
    let request = line.sent()[0].id;
    let error = ErrorMessage { error_code: 1001, error_msg: "no such device".to_owned() };
    line.serve(EnumMsgType::Error, &error, request);
    let (state, why) = line.told();
    assert_eq!(state, LineState::Waiting);
    assert!(why.contains(IMEI) && why.contains("NoRight") && why.contains("no such device"), "{why}");
    line.outputs.clear();
    line.pass(Duration::from_secs(299));
    assert!(!line.outputs.contains(&Output::Connect));
    line.pass(Duration::from_secs(302));
    assert!(line.outputs.contains(&Output::Connect));
}

#[test]
fn another_holder_of_the_credential_is_not_fought() {
    let mut line = Line::registered();
    for minutes in [5, 10, 20] {
        line.serve(EnumMsgType::AccountForceOfflineNotice, &forced_offline(1), 0);
        assert!(line.disconnects());
        let events = line.events();
        assert!(
            matches!(&events[..], [LineEvent::ForcedOffline { why }, LineEvent::State { state: LineState::Waiting, .. }]
            if why.contains("another holder")),
            "{events:?}"
        );
        line.outputs.clear();
        line.command(LineCommand::Close { why: "unplugged".to_owned() });
        line.open();
        assert!(!line.outputs.contains(&Output::Connect), "a replugged phone waits as well");
        line.pass(Duration::from_secs(60 * minutes - 1));
        assert!(!line.outputs.contains(&Output::Connect));
        line.pass(Duration::from_secs(1));
        assert!(line.outputs.contains(&Output::Connect), "after {minutes} minutes");
        line.session.connected(line.now);
        line.serve_auth(0);
        line.outputs.clear();
    }
}

#[test]
fn a_bar_is_on_the_credential_and_not_on_the_phone() {
    let mut line = Line::registered();
    line.serve(EnumMsgType::AccountForceOfflineNotice, &forced_offline(1), 0);
    line.command(LineCommand::Close { why: "unplugged".to_owned() });
    line.outputs.clear();
    line.command(LineCommand::Open {
        credential: "of-its-own".to_owned(),
        device: Box::new(device()),
        pause: Duration::ZERO,
    });
    assert!(line.outputs.contains(&Output::Connect), "nobody else holds this one");
}

fn forced_offline(reason: i32) -> AccountForceOfflineNoticeMessage {
    AccountForceOfflineNoticeMessage { reason, ..Default::default() }
}

#[test]
fn a_server_that_lost_the_session_is_told_again_who_the_phone_is() {
    let mut line = Line::registered();
    line.beat();
    line.serve(EnumMsgType::AccountForceOfflineNotice, &forced_offline(0), 0);
    let auth = line.sent().remove(0);
    assert_eq!((auth.code, auth.token.as_str()), (1010, ""), "on the same connection, without the old token");
    assert!(!line.disconnects());
    assert!(line.events().iter().any(|event| matches!(event, LineEvent::ForcedOffline { .. })), "a person hears of it");
    line.serve_auth(auth.id);
    assert_eq!(line.told().0, LineState::Registered);

    line.serve(EnumMsgType::AccountForceOfflineNotice, &forced_offline(0), 0);
    assert!(line.disconnects(), "lost at once: not in a hot loop");
}

#[test]
fn bytes_that_are_no_envelope_end_the_connection_with_an_error_first() {
    let mut line = Line::registered();
    line.session.receive(b"\x08", line.now);
    line.drain();
    let end: Vec<_> = line.outputs.iter().map(|o| matches!(o, Output::Transmit(_))).collect();
    assert_eq!(end, [true, false, false], "Error, then Disconnect, then the state");
    assert_eq!(line.codes(), [1003]);
    assert!(line.told().1.contains("offset 1"));
    assert_eq!(line.session.counters().unreadable, 1);
}

#[test]
fn a_thousand_lines_of_a_restarted_server_do_not_come_at_once() {
    let mut attempts: Vec<Duration> = (0..1000)
        .map(|seed| {
            let mut line = Line { session: Session::new(Settings::new(HEARTBEAT), seed), ..Line::new() };
            line.open();
            line.session.connected(line.now);
            line.serve_auth(0);
            line.now = line.now + HEARTBEAT / 2;
            line.session.closed("the server went away", line.now);
            line.session.deadline().unwrap().at - line.now
        })
        .collect();
    attempts.sort();
    let busiest = attempts.windows(128).map(|w| w[127] - w[0]).min().unwrap();
    assert!(busiest > Duration::from_millis(150), "128 within {busiest:?} would fill a short listen queue");
    assert!(attempts[999] <= Duration::from_secs(2));
}

fn among(servers: &[&str]) -> Line {
    let servers = servers.iter().map(|server| (*server).to_owned()).collect();
    let session = Session::new(Settings { servers, ..Settings::new(HEARTBEAT) }, 42);
    let mut line = Line { session, ..Line::new() };
    line.open();
    line
}

fn registers(line: &mut Line) {
    line.session.connected(line.now);
    line.serve_auth(0);
    assert!(matches!(line.session.state, State::Registered(_)));
}

#[test]
fn servers_are_tried_in_their_order_and_after_a_registration_from_the_first_on() {
    let mut line = among(&["a:1", "b:1", "c:1"]);
    let mut tried = vec![line.session.server()];
    for _ in 0..3 {
        line.session.connect_failed("refused", line.now);
        waits_and_connects_once(&mut line);
        tried.push(line.session.server());
    }
    assert_eq!(tried, [0, 1, 2, 0]);
    line.session.connect_failed("refused", line.now);
    waits_and_connects_once(&mut line);
    registers(&mut line);
    assert_eq!(line.session.server(), 1);
    line.session.closed("reset by peer", line.now);
    assert_eq!(line.session.server(), 0);
}

/// To the moment of the next attempt, and not beyond it.
fn waits_and_connects_once(line: &mut Line) {
    let at = line.session.deadline().unwrap().at;
    line.now = line.now.max(at);
    line.session.advance(line.now);
    line.drain();
    assert!(matches!(line.session.state, State::Connecting { .. }));
}

#[test]
fn a_redirect_is_followed_to_a_listed_server_only() {
    let mut line = among(&["a:1", "b.example:9300"]);
    registers(&mut line);
    line.outputs.clear();
    let redirect = |url: &str, port: i32| RedirectNoticeMessage {
        server_url: url.to_owned(),
        server_port: port,
        ..Default::default()
    };
    let id = line.serve(EnumMsgType::RedirectNotice, &redirect("c.example", 9300), 0);
    assert_eq!(line.refused(id).0, EnumErrorCode::NoRight);
    line.serve(EnumMsgType::RedirectNotice, &redirect("a", 1), 0);
    assert_eq!(line.codes(), [1002], "it is there already");
    line.serve(EnumMsgType::RedirectNotice, &redirect("tcp://b.example/", 9300), 0);
    assert_eq!(line.codes(), [1002]);
    assert!(line.disconnects() && line.told().1.contains("b.example:9300"));
    waits_and_connects_once(&mut line);
    assert_eq!(line.session.server(), 1);
}
