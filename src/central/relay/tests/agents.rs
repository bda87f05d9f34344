use super::*;
use crate::config::{FromCentral, MinuteOfDay};

#[test]
fn the_agent_speaks_as_if_to_the_centre() {
    let mut stage = Stage::new(Ack::Auto);
    stage.open(IMEI);
    stage.register();
    stage.relay.agent_connected(1, TOKEN.to_owned(), stage.now);
    stage.agent_reads = Some(1);
    stage.forget();
    let request = stage.authenticate(1, IMEI);
    let response = stage.down().remove(0);
    assert_eq!((response.code, response.reference, response.id), (1011, request, FIRST_ID));
    let response = DeviceAuthRspMessage::decode(&response.body[..]).unwrap();
    assert_eq!(response.access_token, TOKEN, "and not the centre's");
    let heartbeat = stage.agent_says(1001, &[], 0);
    assert_eq!(stage.down_codes(), [(1002, heartbeat)]);
    assert_eq!(stage.up_codes(), [0; 0], "both end here");
    assert_eq!(stage.events(), [LineEvent::AgentThere]);
}

#[test]
fn another_phones_identity_is_refused() {
    for (auth_type, credential) in [(1, "350000000000001"), (1, ""), (2, IMEI), (3, IMEI), (9, IMEI)] {
        let mut stage = Stage::new(Ack::Auto);
        stage.open(IMEI);
        stage.register();
        stage.forget();
        stage.relay.agent_connected(1, TOKEN.to_owned(), stage.now);
        let request = DeviceAuthReqMessage { auth_type, credential: credential.to_owned() };
        let id = stage.say(1, 1010, &request.encode_to_vec(), 0, "");
        let refused = stage.down().remove(0);
        assert_eq!((refused.error().0, refused.reference), (EnumErrorCode::NoRight, id), "{auth_type} {credential}");
        assert_eq!(stage.ended, [1]);
        assert!(matches!(&stage.judged[..], [Judged { who: Who::Agent, msg_type: 1010, refused: Some(_) }]));
        stage.say(1, 1024, b"\x0a\x01x", 0, TOKEN);
        assert_eq!(stage.up_codes(), [0; 0]);
    }
}

#[test]
fn nobody_speaks_before_authentication_or_with_another_token() {
    let mut stage = Stage::with_agent(Ack::Auto);
    let said = stage.say(1, 1024, b"\x0a\x01x", 0, "made up");
    let refused = stage.down().remove(0);
    assert_eq!((refused.error().0, refused.reference), (EnumErrorCode::NoRight, said));

    stage.relay.agent_connected(2, "another".to_owned(), stage.now);
    stage.agent_reads = Some(2);
    let said = stage.say(2, 1024, b"\x0a\x01x", 0, "another");
    let refused = stage.down().remove(0);
    assert_eq!((refused.error().0, refused.reference), (EnumErrorCode::NoRight, said));
    assert_eq!(stage.up_codes(), [0; 0]);
    stage.pass_s(11);
    assert_eq!(stage.ended, [2], "whoever does not say who it is ends; the agent stays");
}

#[test]
fn a_new_connection_of_the_agent_takes_the_place_of_the_old_one() {
    let mut stage = Stage::with_agent(Ack::Auto);
    let before = stage.agent_says(1024, b"\x0a\x01x", 0);
    stage.agent_enters(2);
    assert_eq!(stage.ended, [1]);
    assert_eq!(stage.down().iter().map(|seen| seen.code).collect::<Vec<_>>(), [1011]);
    stage.pass_s(3);
    assert_eq!(stage.down_codes(), [], "{before} was said by another connection");
    let after = stage.agent_says(1024, b"\x0a\x01y", 0);
    stage.pass_s(3);
    assert_eq!(stage.down_codes(), [(1002, after)]);
}

#[test]
fn a_third_connection_makes_the_second_leave() {
    let mut stage = Stage::with_agent(Ack::Auto);
    for connection in 2..5 {
        stage.relay.agent_connected(connection, "t".to_owned(), stage.now);
        stage.drain();
    }
    assert_eq!(stage.ended, [2, 3]);
    assert!(stage.relay.wants_agent(1) && stage.relay.wants_agent(4));
}

#[test]
fn a_task_that_the_agent_did_not_acknowledge_is_answered_by_an_error_and_not_given_again() {
    let mut stage = Stage::with_agent(Ack::Auto);
    let tasks = [0; 3].map(|_| stage.centre_says(1070, b"\x0a\x01x", 0));
    let given: Vec<i64> = stage.down().iter().map(|seen| seen.id).collect();
    stage.agent_says(1002, &[], given[0]);
    stage.agent_says(1025, b"\x08\x01", given[1]);
    stage.up();
    stage.relay.agent_closed(1, "it closed its connection", stage.now);
    stage.drain();
    let refused = stage.up();
    assert_eq!(refused.iter().map(|seen| (seen.code, seen.reference)).collect::<Vec<_>>(), [(1003, tasks[2])]);
    assert_eq!(refused[0].error().0, EnumErrorCode::TargetNotOnline);

    let late = stage.centre_says(1070, b"\x0a\x01x", 0);
    let refused = stage.up().remove(0);
    assert_eq!((refused.error().0, refused.reference), (EnumErrorCode::TargetNotOnline, late));
    stage.agent_enters(2);
    assert_eq!(stage.down().iter().map(|seen| seen.code).collect::<Vec<_>>(), [1011], "nothing was kept for it");
    stage.agent_says(1025, b"\x08\x01", given[0]);
    let told = stage.up().remove(0);
    assert_eq!((told.code, told.reference), (1025, tasks[0]), "it still tells what came of what it took");
}

#[test]
fn an_agent_that_is_back_soon_was_never_gone() {
    let mut stage = Stage::with_agent(Ack::Auto);
    stage.agent_says(1020, &online("wxid_a"), 0);
    stage.pass_s(3);
    stage.up();
    stage.relay.agent_closed(1, "it closed its connection", stage.now);
    stage.pass_s(19);
    stage.agent_enters(2);
    stage.pass_s(60);
    assert_eq!(stage.up_codes(), [0; 0]);
}

#[test]
fn an_agent_that_dies_takes_its_accounts_off_line_and_the_rack_speaks_again() {
    let mut stage = Stage::with_agent(Ack::Auto);
    stage.agent_says(2027, b"\x0a\x01p", 0);
    for account in ["wxid_a", "wxid_b", "wxid_c", "wxid_b"] {
        stage.agent_says(1020, &online(account), 0);
    }
    let offline = WeChatOfflineNoticeMessage { we_chat_id: "wxid_a".to_owned(), ..Default::default() };
    stage.agent_says(1021, &offline.encode_to_vec(), 0);
    stage.pass_s(3);
    stage.forget();
    stage.relay.agent_closed(1, "it closed its connection", stage.now);
    stage.drain();
    assert!(matches!(&stage.events()[..], [LineEvent::AgentLeft { why }] if why == "it closed its connection"));
    stage.pass_s(21);
    let told = stage.up();
    assert_eq!(told.iter().map(|seen| seen.code).collect::<Vec<_>>(), [2027, 1021, 1021]);
    let info = PostDeviceInfoNoticeMessage::decode(&told[0].body[..]).unwrap();
    assert_eq!(info.phone_brand, "acme", "the rack's own word");
    let gone = told[1..].iter().map(|seen| WeChatOfflineNoticeMessage::decode(&seen.body[..]).unwrap());
    let gone: Vec<_> = gone.map(|gone| (gone.we_chat_id, gone.imei)).collect();
    assert_eq!(gone, [("wxid_b", IMEI), ("wxid_c", IMEI)].map(|(id, imei)| (id.to_owned(), imei.to_owned())));
    assert!(told.iter().all(|seen| seen.token == "of the centre"));
}

#[test]
fn a_new_registration_hears_what_the_agent_has_said_of_the_phone_and_of_its_accounts() {
    let mut stage = Stage::with_agent(Ack::Auto);
    stage.agent_says(2027, b"\x0a\x01p", 0);
    stage.agent_says(1020, &online("wxid_a"), 0);
    stage.pass_s(3);
    stage.centre_hangs_up();
    stage.forget();
    stage.register();
    let told = stage.up();
    assert_eq!(told.iter().map(|seen| seen.code).collect::<Vec<_>>(), [1010, 2027, 1020]);
    assert_eq!((&told[1].body[..], told[2].body.clone()), (&b"\x0a\x01p"[..], online("wxid_a")));
    assert!(stage.down().is_empty() && stage.ended.is_empty(), "the agent does not notice");
}

#[test]
fn a_silent_agent_ends_and_so_does_one_that_talks_nonsense() {
    let mut stage = Stage::with_agent(Ack::Auto);
    stage.pass_s(179);
    stage.agent_says(1001, &[], 0);
    stage.pass_s(179);
    assert!(stage.ended.is_empty());
    stage.pass_s(2);
    assert_eq!(stage.ended, [1]);

    let mut stage = Stage::with_agent(Ack::Auto);
    stage.relay.agent_says(1, &Bytes::from_static(b"\xff\xff\xff"), stage.now);
    stage.drain();
    let (code, why) = stage.down().remove(0).error();
    assert!(code == EnumErrorCode::InvalidParam && why.contains("no TransportMessage"), "{why}");
    assert_eq!(stage.ended, [1]);
    assert!(stage.relay.session().registration().is_some(), "the centre has no part in it");
}

#[test]
fn policy_is_asked_before_presence_and_the_rack_answers_where_no_agent_does() {
    let mut stage = Stage::with_agent(Ack::Auto);
    stage.relay.change_policy(Policy::default());
    stage.relay.clock_shows(MinuteOfDay::default());
    for code in [1070, 4711, 3056, 1282] {
        stage.centre_says(code, b"\x08\x01", 0);
        assert_eq!(stage.up().remove(0).error().0, EnumErrorCode::NoRight, "{code}");
    }
    assert_eq!(stage.down_codes(), []);
    for code in [1016, 1096, 1099, 1100, 1256] {
        stage.centre_says(code, b"", 0);
        assert_eq!(stage.down().remove(0).code, code, "the agent's, while it is there");
    }
    stage.relay.agent_closed(1, "gone", stage.now);
    stage.drain();
    stage.up();
    stage.centre_says(1016, b"", 0);
    assert_eq!(stage.up_codes(), [1002, 2027]);
    stage.centre_says(1096, b"", 0);
    assert_eq!(stage.up().remove(0).error().0, EnumErrorCode::TargetNotOnline);
}

#[test]
fn a_line_that_is_closed_lets_nobody_in_and_another_identity_forgets() {
    let mut stage = Stage::with_agent(Ack::Auto);
    stage.centre_hangs_up();
    stage.agent_says(1024, b"\x0a\x01x", 0);
    stage.command(LineCommand::Close { why: "unplugged".to_owned() });
    assert_eq!((stage.ended.clone(), stage.relay.deadline()), (vec![1], None));
    stage.relay.agent_connected(2, TOKEN.to_owned(), stage.now);
    stage.drain();
    assert_eq!(stage.ended, [1, 2]);
    assert_eq!(stage.relay.waiting(), 1);
    stage.open("350000000000001");
    assert_eq!((stage.relay.waiting(), stage.relay.carried().forgotten), (0, 1));
}

#[test]
fn an_upgrade_notice_is_the_agents_where_the_owner_wants_that_and_it_speaks() {
    let settings = Settings { upgrades: FromCentral::Forward, ..Settings::new(Duration::from_secs(60)) };
    let mut stage = Stage::of(settings, Ack::Each);
    stage.open(IMEI);
    stage.register();
    stage.forget();
    let app =
        DeviceAppUpgradeMessage { ver_number: 9, package_name: "org.example.agent".to_owned(), ..Default::default() };
    let notice = UpgradeDeviceAppNoticeMessage { app_infos: vec![app], ..Default::default() }.encode_to_vec();
    let id = stage.centre_says(1094, &notice, 0);
    let refused = stage.up().remove(0);
    assert_eq!((refused.error().0, refused.reference), (EnumErrorCode::TargetNotOnline, id), "no agent is there");

    stage.agent_enters(1);
    stage.forget();
    let id = stage.centre_says(1094, &notice, 0);
    let given = stage.down().remove(0);
    assert_eq!((given.code, &given.body), (1094, &notice), "as it came");
    assert!(stage.up().is_empty() && stage.events().is_empty(), "the rack says and does nothing by itself");
    stage.agent_says(1002, &[], given.id);
    let acknowledged = stage.up().remove(0);
    assert_eq!((acknowledged.code, acknowledged.reference), (1002, id));
}
