//! What the rack answers by itself, and what it warns of.

use super::*;
use crate::config::{self, Allowance, PeopleGroup, PolicyGroup};
use crate::rack::event::{Act, Asked};
use crate::rack::snapshot::Storage;

fn action(action: EnumPhoneAction, imei: &str) -> PhoneActionTaskMessage {
    PhoneActionTaskMessage {
        we_chat_id: "wx".to_owned(),
        imei: imei.to_owned(),
        action: action as i32,
        task_id: 77,
        ..Default::default()
    }
}

#[test]
fn the_state_of_a_phone_is_answered_from_what_was_read() {
    let mut line = Line::registered();
    let storage = Storage { free_bytes: 7 << 30, total_bytes: 64 << 30 };
    line.command(LineCommand::Condition(Condition { storage: Some(storage), ..condition(84) }));
    let task = PhoneStateTaskMessage { we_chat_id: "wx".to_owned(), imei: IMEI.to_owned() };
    let id = line.serve(EnumMsgType::PhoneStateTask, &task, 0);
    let sent = line.sent();
    assert_eq!(sent.iter().map(|s| (s.code, s.reference)).collect::<Vec<_>>(), [(1002, id), (1257, id)]);
    let told = PhoneStateTaskResultNoticeMessage::decode(&sent[1].body[..]).unwrap();
    let expected = PhoneStateTaskResultNoticeMessage {
        we_chat_id: "wx".to_owned(),
        imei: IMEI.to_owned(),
        battery_level: 84,
        charging_state: 1,
        net_type: "wifi".to_owned(),
        sdcard_free: 7 << 30,
        sdcard_total: 64 << 30,
    };
    assert_eq!(told, expected);
}

#[test]
fn a_state_that_was_not_read_is_not_invented() {
    let mut line = Line::registered();
    let id = line.serve_bytes(1256, b"", 0);
    let (code, why) = line.refused(id);
    assert_eq!(code, EnumErrorCode::InternalError);
    assert!(why.contains("does not tell of its battery"), "{why}");
}

#[test]
fn a_task_for_another_phone_is_a_wrong_parameter() {
    let mut line = Line::registered();
    line.command(LineCommand::Condition(condition(84)));
    let state = PhoneStateTaskMessage { imei: "another".to_owned(), ..Default::default() };
    let id = line.serve(EnumMsgType::PhoneStateTask, &state, 0);
    let (code, why) = line.refused(id);
    assert!(code == EnumErrorCode::InvalidParam && why.contains("another") && why.contains(IMEI), "{why}");
    let id = line.serve(EnumMsgType::PhoneActionTask, &action(EnumPhoneAction::Reboot, "another"), 0);
    assert_eq!(line.refused(id).0, EnumErrorCode::InvalidParam);
    assert_eq!(line.events(), []);
    let id = line.serve_bytes(1256, b"\xff\xff", 0);
    assert_eq!(line.refused(id).0, EnumErrorCode::InvalidParam, "content that is no protobuf");
}

#[test]
fn a_restart_is_acknowledged_and_its_end_told_with_the_tasks_own_names() {
    let mut line = Line::registered();
    for (wanted, act) in [(EnumPhoneAction::Reboot, Act::Restart), (EnumPhoneAction::RestartSelf, Act::RestartAgent)] {
        let id = line.serve(EnumMsgType::PhoneActionTask, &action(wanted, IMEI), 0);
        assert_eq!(line.sent().iter().map(|s| (s.code, s.reference)).collect::<Vec<_>>(), [(1002, id)]);
        let task = TaskName { message_id: id, task_type: 1223, task_id: 77, wechat_id: "wx".to_owned() };
        assert_eq!(line.events(), [LineEvent::Asked(Asked { act, task: task.clone() })]);

        line.command(LineCommand::TaskEnded { task, result: Ok(()) });
        let sent = line.sent().remove(0);
        let told = TaskResultNoticeMessage::decode(&sent.body[..]).unwrap();
        assert_eq!((sent.code, sent.reference), (1025, id));
        assert_eq!((told.success, told.code(), told.task_id, told.task_type), (true, EnumErrorCode::Success, 77, 1223));
        assert_eq!((told.we_chat_id.as_str(), told.err_msg.as_str()), ("wx", ""));
    }
}

#[test]
fn what_only_an_agent_can_do_to_the_phone_is_refused_honestly() {
    let mut line = Line::registered();
    let id = line.serve(EnumMsgType::PhoneActionTask, &action(EnumPhoneAction::CleanAppCache, ""), 0);
    let (code, why) = line.refused(id);
    assert!(code == EnumErrorCode::TargetNotOnline && why.contains("no agent is connected"), "{why}");
    assert_eq!(line.events(), []);
}

#[test]
fn a_picture_of_the_screen_has_nowhere_to_go() {
    let mut line = Line::registered();
    let task = ScreenShotTaskMessage { we_chat_id: "wx".to_owned(), task_id: 5, ..Default::default() };
    let id = line.serve(EnumMsgType::ScreenShotTask, &task, 0);
    assert_eq!(line.refused(id).0, EnumErrorCode::NoRight, "a screen shows other people's words");

    let mut policy = config::Policy::default();
    policy.allowed.insert(PolicyGroup::People(PeopleGroup::Read), Allowance::default());
    line.session.change_policy(policy);
    let id = line.serve(EnumMsgType::ScreenShotTask, &task, 0);
    let sent = line.sent();
    assert_eq!(sent.iter().map(|s| (s.code, s.reference)).collect::<Vec<_>>(), [(1002, id), (1283, id)]);
    let told = ScreenShotTaskResultNoticeMessage::decode(&sent[1].body[..]).unwrap();
    assert_eq!((told.success, told.err_msg.as_str()), (false, "uploads are not configured on this rack"));
    assert_eq!((told.task_id, told.we_chat_id.as_str(), told.url.as_str()), (5, "wx", ""));
}

/// The levels of the warnings that were sent since the last look.
fn warned(line: &mut Line) -> Vec<i32> {
    let sent = line.sent();
    let warnings = sent.iter().filter(|sent| sent.code == 1053);
    warnings.map(|sent| PhoneStateWarningNoticeMessage::decode(&sent.body[..]).unwrap().battery_level).collect()
}

#[test]
fn a_low_battery_is_warned_of_once_and_not_at_each_reading() {
    let mut line = Line::registered();
    for level in [84, 19, 18, 20, 19] {
        line.command(LineCommand::Condition(condition(level)));
    }
    assert_eq!(warned(&mut line), [19]);
    line.beat();
    assert_eq!(warned(&mut line), [0; 0]);
    line.command(LineCommand::Condition(condition(25)));
    line.command(LineCommand::Condition(condition(12)));
    assert_eq!(warned(&mut line), [12]);
}

#[test]
fn a_warning_that_may_be_lost_with_the_registration_goes_to_the_next_one() {
    let mut line = Line::registered();
    line.command(LineCommand::Condition(condition(9)));
    assert_eq!(warned(&mut line), [9]);
    line.session.closed("reset by peer", line.now);
    line.command(LineCommand::Condition(condition(8)));
    assert_eq!(warned(&mut line), [0; 0], "nobody is there to hear it");
    line.pass(Duration::from_secs(2));
    line.session.connected(line.now);
    line.serve_auth(0);
    assert_eq!(warned(&mut line), [8]);
    // The heartbeat's acknowledgement shows that it was taken.
    line.beat();
    line.session.closed("reset by peer", line.now);
    line.pass(Duration::from_secs(2));
    line.session.connected(line.now);
    line.serve_auth(0);
    assert_eq!(warned(&mut line), [0; 0]);
}

#[test]
fn a_warning_names_a_battery_only_where_it_was_read() {
    let mut line = Line::registered();
    let storage = Some(Storage { free_bytes: 1, total_bytes: 64 << 30 });
    line.command(LineCommand::Condition(Condition { battery: None, storage }));
    assert_eq!(line.codes(), [0; 0]);
    line.command(LineCommand::Condition(Condition { storage, ..condition(84) }));
    assert_eq!(warned(&mut line), [84]);
}
