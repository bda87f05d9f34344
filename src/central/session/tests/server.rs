use prost::Message;

use super::*;
use crate::config::{self, Allowance, MinuteOfDay, PolicyGroup};

#[test]
fn an_upgrade_is_acknowledged_and_told_app_by_app() {
    let mut line = Line::registered();
    let app = |name: &str, ver_number| DeviceAppUpgradeMessage {
        ver_number,
        version: format!("v{ver_number}"),
        package_name: name.to_owned(),
        package_url: format!("http://c/{name}.apk"),
    };
    let notice = UpgradeDeviceAppNoticeMessage { app_infos: vec![app("a", 2), app("b", 3)], ..Default::default() };
    let id = line.serve(EnumMsgType::UpgradeDeviceAppNotice, &notice, 0);
    let acknowledgement = line.sent().remove(0);
    assert_eq!((acknowledgement.code, acknowledgement.reference), (1002, id));
    let upgrade = |name: &str, version: u64| {
        LineEvent::UpgradeNotice(UpgradeNotice {
            message_id: id,
            package: PackageName::new(name),
            version_code: VersionCode(version),
            version_name: format!("v{version}"),
            url: format!("http://c/{name}.apk"),
        })
    };
    assert_eq!(line.events(), [upgrade("a", 2), upgrade("b", 3)]);
}

#[test]
fn an_upgrade_that_makes_no_sense_is_refused_whole() {
    let mut line = Line::registered();
    let app = DeviceAppUpgradeMessage { ver_number: -1, ..Default::default() };
    for apps in [vec![], vec![app], vec![DeviceAppUpgradeMessage::default(); 65]] {
        let notice = UpgradeDeviceAppNoticeMessage { app_infos: apps, ..Default::default() };
        let id = line.serve(EnumMsgType::UpgradeDeviceAppNotice, &notice, 0);
        assert_eq!(line.refused(id).0, EnumErrorCode::InvalidParam);
    }
    let id = line.serve_bytes(1094, b"\xff\xff\xff", 0);
    assert_eq!(line.refused(id).0, EnumErrorCode::InvalidParam, "content that is no protobuf");
    assert_eq!(line.events(), []);
    assert!(!line.disconnects());
}

#[test]
fn a_failed_upgrade_is_answered_with_the_notices_code_and_id() {
    let mut line = Line::registered();
    let task = TaskName { message_id: 99, task_type: 1094, ..TaskName::default() };
    let result = Err("the APK is signed by another key".to_owned());
    line.command(LineCommand::TaskEnded { task, result });
    let sent = line.sent().remove(0);
    assert_eq!((sent.code, sent.reference), (1025, 99));
    let result = TaskResultNoticeMessage::decode(&sent.body[..]).unwrap();
    assert_eq!((result.success, result.task_id, result.task_type), (false, 0, 1094));
    assert!(result.err_msg.contains("another key"));
}

fn failed(message_id: i64) -> LineCommand {
    let task = TaskName { message_id, task_type: 1094, ..TaskName::default() };
    LineCommand::TaskEnded { task, result: Err("no".to_owned()) }
}

#[test]
fn a_failure_is_told_once_the_server_has_acknowledged_what_followed_it() {
    let mut line = Line::registered();
    line.command(failed(5));
    let report = line.sent().remove(0).id;
    assert_eq!(line.events(), [], "written is not taken");
    line.command(failed(5));
    assert_eq!(line.codes(), [0; 0], "it is on its way");
    line.serve_bytes(1002, &[], report);
    assert_eq!(line.events(), [LineEvent::EndTold { message_id: 5 }]);

    line.command(failed(6));
    line.pass(HEARTBEAT);
    line.command(LineCommand::Presence(Presence::Answered));
    line.command(failed(7));
    let beat = line.sent().into_iter().find(|sent| sent.code == 1001).unwrap().id;
    line.events();
    line.serve_bytes(1002, &[], beat);
    let told = [LineEvent::HeartbeatAcknowledged, LineEvent::EndTold { message_id: 6 }];
    assert_eq!(line.events(), told, "the heartbeat came after 6 and before 7");
}

#[test]
fn a_report_is_taken_by_a_server_that_refuses_it_and_not_by_one_that_has_forgotten_the_line() {
    let mut line = Line::registered();
    line.command(failed(5));
    let report = line.sent().remove(0).id;
    let no_right = ErrorMessage { error_code: EnumErrorCode::NoRight as i32, error_msg: String::new() };
    line.serve(EnumMsgType::Error, &no_right, report);
    assert_eq!(line.events(), []);
    let wrong = ErrorMessage { error_code: EnumErrorCode::InvalidParam as i32, error_msg: String::new() };
    line.serve(EnumMsgType::Error, &wrong, report);
    assert_eq!(line.events(), [LineEvent::EndTold { message_id: 5 }]);
}

#[test]
fn a_report_that_was_written_and_not_taken_goes_to_the_next_registration() {
    let mut line = Line::registered();
    line.command(failed(5));
    let first = line.sent().remove(0).id;
    line.session.closed("reset by peer", line.now);
    line.command(failed(5));
    assert_eq!(line.codes(), [0; 0], "nobody is there to hear it");
    line.pass(Duration::from_secs(2));
    line.session.connected(line.now);
    line.serve_auth(0);
    line.events();
    line.serve_bytes(1002, &[], first);
    assert_eq!(line.events(), [], "what the other connection was told is not known here");
    line.command(failed(5));
    assert_eq!(line.codes(), [1010, 2027, 1025]);
}

#[test]
fn tasks_that_act_on_people_are_refused_by_the_policy() {
    let mut line = Line::registered();
    let id = line.serve_bytes(1070, b"", 0);
    let (code, why) = line.refused(id);
    assert_eq!(code, EnumErrorCode::NoRight);
    assert!(why.contains("TalkToFriendTask") && why.contains("people.messages"), "{why}");
}

#[test]
fn what_was_asked_for_is_written_down_before_it_is_answered() {
    let mut line = Line::registered();
    line.serve_bytes(1016, b"", 0);
    let judged = Output::Judged(Judged { who: Who::Centre, msg_type: 1016, refused: None });
    assert_eq!(line.outputs[0], judged);
    assert!(line.outputs.len() > 1);
    line.outputs.clear();
    line.beat();
    assert!(!line.outputs.iter().any(|output| matches!(output, Output::Judged(_))), "words of the session are no news");
}

#[test]
fn what_cannot_be_written_down_has_no_consequences() {
    let mut line = Line::registered();
    line.server_id += 1;
    let envelope = Envelope { id: 7, access_token: "", msg_type: 1016, body: None, ref_message_id: 0 };
    line.session.receive(&envelope.frame().unwrap()[HEADER..], line.now);
    assert!(matches!(line.session.poll(), Some(Output::Judged(_))));
    line.session.unrecorded("the disk is full", line.now);
    assert_eq!(line.codes(), [0; 0]);
    assert!(line.disconnects());
    let (state, why) = line.told();
    assert!(state == LineState::Waiting && why.contains("the disk is full"), "{why}");
}

#[test]
fn quiet_hours_and_rates_are_the_owners() {
    let mut line = Line::registered();
    let mut policy = config::Policy::default();
    let hours = "22:00-07:00".parse().ok();
    policy.allowed.insert(PolicyGroup::Unknown, Allowance { quiet_hours: hours, ..Allowance::default() });
    line.session.change_policy(policy);
    line.session.clock_shows(MinuteOfDay::new(23, 0).unwrap());
    let id = line.serve_bytes(4711, b"", 0);
    assert!(line.refused(id).1.contains("rest during 22:00-07:00"));
    line.session.clock_shows(MinuteOfDay::new(9, 0).unwrap());
    for _ in 0..30 {
        let id = line.serve_bytes(4711, b"", 0);
        assert_eq!(line.refused(id).0, EnumErrorCode::TargetNotOnline, "it passed, and there is no agent");
    }
    let id = line.serve_bytes(4711, b"", 0);
    let (code, why) = line.refused(id);
    assert!(code == EnumErrorCode::NoRight && why.contains("30 a minute, 30 at once"), "{why}");
}

#[test]
fn what_needs_an_agent_is_refused_honestly() {
    let mut line = Line::registered();
    for code in [1096, 1099, 1100] {
        let id = line.serve_bytes(code, b"", 0);
        let (code, why) = line.refused(id);
        assert_eq!(code, EnumErrorCode::TargetNotOnline);
        assert!(why.contains("no agent is connected"), "{why}");
    }
}

#[test]
fn unknown_codes_are_refused_and_counted() {
    let mut line = Line::registered();
    for code in [4711, 4711, -5] {
        let id = line.serve_bytes(code, b"", 0);
        assert_eq!(line.refused(id).0, EnumErrorCode::NoRight);
    }
    assert_eq!(line.session.counters().unknown, BTreeMap::from([(-5, 1), (4711, 2)]));
    for code in 5000..6000 {
        line.serve_bytes(code, b"", 0);
    }
    assert_eq!(line.session.counters().unknown.len(), UNKNOWN_CODES_MAX);
    assert_eq!(line.session.counters().refused, 1003);
}

#[test]
fn what_only_a_phone_sends_is_refused() {
    let mut line = Line::registered();
    for code in [1001, 1010, 2027, 1020, 1025, 1012, 3056] {
        let id = line.serve_bytes(code, b"", 0);
        assert_eq!(line.refused(id).0, EnumErrorCode::NoRight, "{code}");
    }
}

#[test]
fn a_redirect_is_not_followed() {
    let mut line = Line::registered();
    let id = line.serve(EnumMsgType::RedirectNotice, &RedirectNoticeMessage::default(), 0);
    assert_eq!(line.refused(id).0, EnumErrorCode::NoRight);
}

#[test]
fn the_device_is_told_again_when_asked_for_and_when_it_changed() {
    let mut line = Line::registered();
    let id = line.serve_bytes(1016, b"", 0);
    let sent = line.sent();
    assert_eq!((sent[0].code, sent[0].reference, sent[1].code), (1002, id, 2027));
    line.command(LineCommand::Device(Box::new(device())));
    assert_eq!(line.codes(), [0; 0], "nothing changed");
    line.command(LineCommand::Device(Box::new(DeviceInfo { network: "none".to_owned(), ..device() })));
    assert_eq!(line.codes(), [2027]);
}

#[test]
fn a_version_that_fits_no_number_of_theirs_is_not_told() {
    let mut line = Line::registered();
    let mut device = device();
    device.apps[0].version_code = VersionCode(1 << 40);
    line.command(LineCommand::Device(Box::new(device)));
    let info = PostDeviceInfoNoticeMessage::decode(&line.sent()[0].body[..]).unwrap();
    assert_eq!(info.app_infos, []);
}

#[test]
fn a_deleted_device_is_unregistered() {
    let mut line = Line::registered();
    let another = PostDeleteDeviceNoticeMessage { imei: "another".to_owned() };
    let id = line.serve(EnumMsgType::PostDeleteDeviceNotice, &another, 0);
    assert_eq!(line.refused(id).0, EnumErrorCode::InvalidParam);

    let ours = PostDeleteDeviceNoticeMessage { imei: IMEI.to_owned() };
    let id = line.serve(EnumMsgType::PostDeleteDeviceNotice, &ours, 0);
    let acknowledgement = line.sent().remove(0);
    assert_eq!((acknowledgement.code, acknowledgement.reference), (1002, id));
    assert_eq!(line.told().0, LineState::Closed);
    assert_eq!(line.session.deadline(), None);
}
