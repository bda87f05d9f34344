use super::*;
use crate::central::relay::up::{FRAMES_MAX, SENT_MAX};

const TALK: i32 = 1024;

#[test]
fn a_notice_is_acknowledged_once_the_centre_has_taken_it() {
    for ack in [Ack::Auto, Ack::Each] {
        let mut stage = Stage::with_agent(ack);
        let said = stage.agent_says(TALK, b"\x0a\x01x", 0);
        let carried = stage.up().remove(0);
        assert_eq!(
            (carried.code, carried.token.as_str(), carried.body.as_slice()),
            (TALK, "of the centre", &b"\x0a\x01x"[..])
        );
        assert_eq!(stage.down_codes(), [], "written is not taken");
        stage.centre_says(1002, &[], carried.id);
        assert_eq!(stage.down_codes(), [(1002, said)]);
    }
}

#[test]
fn a_centre_that_is_silent_on_success_shows_what_it_has_by_its_next_heartbeat() {
    let mut stage = Stage::with_agent(Ack::Auto);
    stage.centre_answers_heartbeats = false;
    let said = [stage.agent_says(TALK, b"\x0a\x01a", 0), stage.agent_says(TALK, b"\x0a\x01b", 0)];
    stage.pass_s(1);
    let beat = stage.up.iter().find(|seen| seen.code == 1001).expect("a heartbeat asks at once").id;
    let later = stage.agent_says(TALK, b"\x0a\x01c", 0);
    assert_eq!(stage.down_codes(), []);
    stage.centre_says(1002, &[], beat);
    assert_eq!(stage.down_codes(), said.map(|said| (1002, said)), "and not what came after it");
    stage.centre_answers_heartbeats = true;
    stage.pass_s(3);
    assert_eq!(stage.down_codes(), [(1002, later)]);
    assert_eq!(stage.relay.waiting(), 0);
}

#[test]
fn in_each_a_heartbeat_shows_nothing_and_a_notice_that_is_left_ends_the_registration() {
    let mut stage = Stage::with_agent(Ack::Each);
    stage.agent_says(TALK, b"\x0a\x01a", 0);
    stage.pass_s(179);
    assert_eq!((stage.down_codes(), stage.relay.waiting()), (vec![], 1));
    stage.events();
    stage.pass_s(2);
    let told = stage.events();
    let ended =
        told.iter().any(|event| matches!(event, LineEvent::State { why, .. } if why.contains("unacknowledged")));
    assert!(ended, "{told:?}");
}

#[test]
fn auto_becomes_each_with_the_first_acknowledgement_and_is_forgotten_with_the_registration() {
    let mut stage = Stage::with_agent(Ack::Auto);
    stage.agent_says(TALK, b"\x0a\x01a", 0);
    let first = stage.up().remove(0).id;
    stage.centre_says(1002, &[], first);
    stage.agent_says(TALK, b"\x0a\x01b", 0);
    stage.down();
    stage.pass_s(61);
    assert_eq!(stage.down_codes(), [], "it acknowledges each, and has not acknowledged this");
    stage.centre_hangs_up();
    stage.register();
    stage.pass_s(3);
    assert_eq!(stage.down().len(), 1, "another server may do otherwise");
}

#[test]
fn what_the_centre_may_not_have_goes_to_its_next_registration_in_order() {
    let mut stage = Stage::with_agent(Ack::Barrier);
    stage.centre_answers_heartbeats = false;
    let text = |n: u8| vec![0x0a, 1, b'a' + n];
    for n in 0..2 {
        stage.agent_says(TALK, &text(n), 0);
    }
    stage.centre_hangs_up();
    assert_eq!(stage.relay.carried().maybe_twice, 2);
    for n in 2..4 {
        stage.agent_says(TALK, &text(n), 0);
    }
    stage.up();
    stage.register();
    let bodies: Vec<_> = stage.up().into_iter().filter(|seen| seen.code == TALK).map(|seen| seen.body).collect();
    assert_eq!(bodies, (0..4).map(text).collect::<Vec<_>>());
    assert!(stage.ended.is_empty(), "the agent has not noticed");
}

#[test]
fn at_most_so_many_are_on_their_way() {
    let mut stage = Stage::with_agent(Ack::Barrier);
    stage.centre_answers_heartbeats = false;
    for _ in 0..SENT_MAX + 10 {
        stage.agent_says(TALK, b"\x0a\x01x", 0);
    }
    assert_eq!(stage.up().len(), SENT_MAX);
    let beat = (stage.relay.barrier(), stage.pass_s(2)).0.expect("a heartbeat asks");
    assert!(beat.at <= stage.now);
    stage.centre_hangs_up();
    assert_eq!(stage.relay.carried().maybe_twice, SENT_MAX as u64);
}

#[test]
fn an_agent_that_floods_is_held_back() {
    let mut stage = Stage::with_agent(Ack::Auto);
    stage.centre_hangs_up();
    let mut said = 0;
    while stage.relay.wants_agent(1) {
        stage.agent_says(TALK, b"\x0a\x01x", 0);
        said += 1;
        assert!(said <= FRAMES_MAX);
    }
    assert_eq!((said, stage.relay.waiting()), (FRAMES_MAX, FRAMES_MAX));
    stage.register();
    stage.pass_s(10);
    assert!(stage.relay.wants_agent(1), "the centre has taken some");
    assert_eq!(stage.relay.waiting(), 0);

    let long = [&b"\x0a\x80\x80\x20"[..], &[b'x'; 1 << 19]].concat();
    stage.centre_hangs_up();
    let long_ones = (0..9).take_while(|_| stage.relay.wants_agent(1) && stage.agent_says(TALK, &long, 0) > 0).count();
    assert_eq!(long_ones, 2, "bytes count, too");
}

#[test]
fn an_agent_that_does_not_read_is_not_read_and_ends() {
    let mut stage = Stage::with_agent(Ack::Auto);
    stage.agent_reads = None;
    let mut heartbeats = 0;
    while stage.relay.wants_agent(1) {
        stage.say(1, 1001, &[], 0, TOKEN);
        heartbeats += 1;
        assert!(heartbeats < 1000);
    }
    let task = stage.centre_says(1070, b"\x0a\x01x", 0);
    let (code, why) = stage.up().remove(0).error();
    assert!(code == EnumErrorCode::TargetNotOnline && why.contains("takes nothing"), "{why}");
    assert!(task > 0 && stage.ended.is_empty());
    stage.pass_s(31);
    assert_eq!(stage.ended, [1]);
}

#[test]
fn what_is_carried_stays_as_it_was() {
    let mut stage = Stage::with_agent(Ack::Auto);
    // MsgType in three bytes before all else, a field that nobody knows, Content with another prefix and one more field.
    let odd = |code: &[u8], token: &[u8]| {
        let content = b"\x22\x0d\x0a\x03x/Y\x12\x02\x08\x01\x1a\x02zz";
        [&b"\x18"[..], code, b"\x9a\x06\x02hi", b"\x08\x85\x00", token, content, b"\x3d\x01\x02\x03\x04"].concat()
    };
    let token = [&b"\x12\x0c"[..], TOKEN.as_bytes()].concat();
    let up = odd(b"\x80\x88\x00", &token); // 1024
    stage.relay.agent_says(1, &Bytes::from(up.clone()), stage.now);
    stage.drain();
    let carried = stage.up().remove(0);
    let mut expected = BytesMut::new();
    let address = Address { id: carried.id, access_token: "of the centre", ref_message_id: 0 };
    crate::central::envelope::splice(&up, &address, &mut expected).unwrap();
    assert_eq!(carried.raw.escape_ascii().to_string(), expected.escape_ascii().to_string());
    assert!(
        carried.raw.starts_with(b"\x18\x80\x88\x00\x9a\x06\x02hi")
            && carried.raw.ends_with(b"\x1a\x02zz\x3d\x01\x02\x03\x04")
    );

    let down = odd(b"\xae\x88\x00", b""); // 1070
    stage.relay.receive(&down, stage.now);
    stage.drain();
    let carried = stage.down().remove(0);
    let mut expected = BytesMut::new();
    let address = Address { id: carried.id, access_token: "", ref_message_id: 0 };
    crate::central::envelope::splice(&down, &address, &mut expected).unwrap();
    assert_eq!(carried.raw.escape_ascii().to_string(), expected.escape_ascii().to_string());
    assert!(carried.id >= FIRST_ID);
}

#[test]
fn a_notice_that_the_centre_refuses_goes_again_three_times_and_then_back_to_the_agent() {
    let mut stage = Stage::with_agent(Ack::Auto);
    let said = stage.agent_says(TALK, b"\x0a\x01x", 0);
    for _ in 0..4 {
        assert_eq!(stage.down_codes(), []);
        let sent = stage.up();
        assert_eq!(sent.len(), 1);
        stage.centre_refuses(sent[0].id, EnumErrorCode::InternalError);
    }
    assert_eq!(stage.up().len(), 0);
    assert_eq!(stage.down_codes(), [(1003, said)]);
    assert_eq!((stage.relay.carried().refused, stage.relay.waiting()), (1, 0));
}

#[test]
fn after_an_error_nothing_new_goes_before_what_was_refused_is_settled() {
    let mut stage = Stage::with_agent(Ack::Each);
    let text = |n: u8| vec![0x0a, 1, b'a' + n];
    for n in 0..3 {
        stage.agent_says(TALK, &text(n), 0);
    }
    let sent = stage.up();
    stage.centre_refuses(sent[0].id, EnumErrorCode::InternalError);
    stage.agent_says(TALK, &text(3), 0);
    assert_eq!(stage.up_codes(), [0; 0], "others are on their way");
    // Neither a notice nor a result.
    stage.agent_says(1070, b"\x0a\x01x", 0);
    assert_eq!(stage.up_codes(), [1070], "which nobody takes for later than a notice");
    stage.centre_refuses(sent[2].id, EnumErrorCode::InternalError);
    stage.centre_says(1002, &[], sent[1].id);
    for n in [0, 2, 3] {
        let sent = stage.up();
        assert_eq!(sent.iter().map(|seen| seen.body.clone()).collect::<Vec<_>>(), [text(n)], "each alone");
        stage.centre_says(1002, &[], sent[0].id);
    }
    assert_eq!(stage.up_codes(), [0; 0]);
}

#[test]
fn a_silent_centre_has_several_at_once_again_after_a_heartbeat() {
    let mut stage = Stage::with_agent(Ack::Barrier);
    let text = |n: u8| vec![0x0a, 1, b'a' + n];
    stage.agent_says(TALK, &text(0), 0);
    let refused = stage.up().remove(0).id;
    stage.centre_refuses(refused, EnumErrorCode::InternalError);
    for n in 1..4 {
        stage.agent_says(TALK, &text(n), 0);
    }
    let bodies = |stage: &mut Stage| -> Vec<_> {
        stage.up().into_iter().filter(|seen| seen.code == TALK).map(|seen| seen.body).collect()
    };
    assert_eq!(bodies(&mut stage), [text(0)], "alone");
    stage.pass_s(2);
    assert_eq!(bodies(&mut stage), (1..4).map(text).collect::<Vec<_>>());
}

#[test]
fn what_was_refused_keeps_its_place_when_the_registration_is_lost() {
    let mut stage = Stage::with_agent(Ack::Barrier);
    stage.centre_answers_heartbeats = false;
    let text = |n: u8| vec![0x0a, 1, b'a' + n];
    for n in 0..3 {
        stage.agent_says(TALK, &text(n), 0);
    }
    let first = stage.up().remove(0).id;
    stage.centre_refuses(first, EnumErrorCode::InternalError);
    stage.centre_hangs_up();
    stage.up();
    stage.register();
    let bodies: Vec<_> = stage.up().into_iter().filter(|seen| seen.code == TALK).map(|seen| seen.body).collect();
    assert_eq!(bodies, (0..3).map(text).collect::<Vec<_>>());
}

#[test]
fn results_and_acknowledgements_name_the_centres_own_task() {
    let mut stage = Stage::with_agent(Ack::Auto);
    let task = stage.centre_says(1070, b"\x0a\x01x", 0);
    assert!(stage.judged.contains(&Judged { who: Who::Centre, msg_type: 1070, refused: None }));
    let given = stage.down().remove(0);
    assert_eq!((given.code, given.body.as_slice()), (1070, &b"\x0a\x01x"[..]));
    assert_ne!(given.id, task);
    stage.agent_says(1002, &[], given.id);
    stage.agent_says(1002, &[], given.id);
    stage.agent_says(1025, b"\x08\x01", given.id);
    stage.agent_says(1025, b"\x08\x01", 424_242);
    let told: Vec<_> = stage.up().iter().map(|seen| (seen.code, seen.reference)).collect();
    assert_eq!(
        told,
        [(1002, task), (1025, task), (1025, 0)],
        "the first acknowledgement, and nothing that was never given"
    );
}

#[test]
fn unknown_codes_of_the_phone_go_up_and_are_counted_and_words_of_others_do_not() {
    let mut stage = Stage::with_agent(Ack::Auto);
    for code in [4711, -5, 4711] {
        stage.agent_says(code, b"\x08\x01", 0);
    }
    assert_eq!(stage.up_codes(), [4711, -5, 4711]);
    assert_eq!(stage.relay.carried().unknown, BTreeMap::from([(-5, 1), (4711, 2)]));
    for code in [1012, 3056, 1011, 1013, 1015, 3056] {
        let said = stage.agent_says(code, b"\x08\x01", 0);
        let refused = stage.down().remove(0);
        assert_eq!((refused.error().0, refused.reference), (EnumErrorCode::NoRight, said), "{code}");
    }
    assert_eq!(stage.up_codes(), [0; 0]);
    assert_eq!(stage.judged.iter().filter(|judged| judged.who == Who::Agent).count(), 5, "each once for a connection");
}

#[test]
fn what_cannot_be_written_down_does_not_reach_the_agent() {
    let mut stage = Stage::with_agent(Ack::Auto);
    stage.relay.receive(&envelope(77, 1070, b"\x0a\x01x", 0, ""), stage.now);
    assert!(matches!(stage.relay.poll(), Some(Output::Judged(_))));
    stage.relay.unrecorded("the disk is full", stage.now);
    stage.drain();
    assert_eq!(stage.down_codes(), []);
    assert_eq!(stage.relay.session().registration(), None);
}
