//! What the relay's core allocates for each frame that it carries: notices of an agent, each acknowledged by the centre and to the agent.

use std::hint::black_box;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use farmhand::central::envelope::{Body, Envelope, View};
use farmhand::central::frame::HEADER;
use farmhand::central::proto::{DeviceAuthReqMessage, DeviceAuthRspMessage, EnumMsgType};
use farmhand::central::relay::Relay;
use farmhand::central::session::{Output, Session, Settings};
use farmhand::clock::Moment;
use farmhand::config::Ack;
use farmhand::rack::event::{DeviceInfo, LineCommand};
use prost::Message as _;

use crate::allocations;

const TOKEN: &str = "0123456789abcdef0123456789abcdef";
const IMEI: &str = "490154203237518";
const WARM_UP: usize = 10_000;
const FRAMES: usize = 100_000;
const NOW: Moment = Moment::from_start(Duration::from_secs(1000));

pub(crate) fn allocs_per_frame() -> f64 {
    let mut relay = registered();
    let notice = payload(EnumMsgType::FriendTalkNotice, 7, &[0x2a; 200], 0);
    let mut answer = BytesMut::new();
    for _ in 0..WARM_UP {
        carry(&mut relay, &notice, &mut answer);
    }
    let before = allocations();
    for _ in 0..FRAMES {
        carry(&mut relay, &notice, &mut answer);
    }
    let made = allocations() - before;
    assert_eq!(relay.waiting(), 0, "each was acknowledged");
    made as f64 / FRAMES as f64
}

/// One notice up, its acknowledgement down, and that of the agent behind it.
fn carry(relay: &mut Relay, notice: &Bytes, answer: &mut BytesMut) {
    relay.agent_says(1, notice, NOW);
    let sent = sent(relay).expect("it goes up");
    answer.clear();
    let code = EnumMsgType::MsgReceivedAck as i32;
    Envelope { msg_type: code, ref_message_id: sent, ..Envelope::default() }.encode(answer);
    relay.receive(answer, NOW);
    while relay.poll().is_some() {}
    black_box(relay.next_for_agent(1, NOW).expect("it is acknowledged"));
}

/// The Id of what the line sends.
fn sent(relay: &mut Relay) -> Option<i64> {
    let mut id = None;
    while let Some(output) = relay.poll() {
        if let Output::Transmit(frame) = output {
            id = Some(View::parse(frame.get(HEADER..)?).ok()?.id);
        }
    }
    id
}

/// A line that is registered, and an agent on it.
fn registered() -> Relay {
    let session = Session::new(Settings::new(Duration::from_secs(3600)), 1);
    let mut relay = Relay::new(session, Ack::Each, 1);
    let device = Box::new(DeviceInfo::default());
    relay.command(LineCommand::Open { credential: IMEI.to_owned(), device, pause: Duration::ZERO }, NOW);
    relay.connected(NOW);
    let response = DeviceAuthRspMessage { access_token: TOKEN.to_owned(), ..Default::default() };
    relay.receive(&payload(EnumMsgType::DeviceAuthRsp, 1, &response.encode_to_vec(), 0), NOW);
    relay.agent_connected(1, TOKEN.to_owned(), NOW);
    let request = DeviceAuthReqMessage { auth_type: 1, credential: IMEI.to_owned() };
    relay.agent_says(1, &payload(EnumMsgType::DeviceAuthReq, 1, &request.encode_to_vec(), 0), NOW);
    while relay.poll().is_some() {}
    while relay.next_for_agent(1, NOW).is_some() {}
    relay
}

fn payload(code: EnumMsgType, id: i64, value: &[u8], reference: i64) -> Bytes {
    let type_name = "Jubo.JuLiao.IM.Wx.Proto.FriendTalkNoticeMessage";
    let type_name = if code == EnumMsgType::FriendTalkNotice { type_name } else { "" };
    let body = Some(Body { type_name, value });
    let mut bytes = BytesMut::new();
    Envelope { id, access_token: TOKEN, msg_type: code as i32, body, ref_message_id: reference }.encode(&mut bytes);
    bytes.freeze()
}
