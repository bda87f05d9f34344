//! What is carried stays as it was, but for the fields of the envelope that are each side's own.

use farmhand::central::proto::{EnumMsgType as Type, TransportMessage};

use super::capture::{Capture, Frame};
use super::rig::{MESSAGES, SOON, any, hears, missed, relayed, talk, tells_and_hears, within};
use super::yard::Yard;
use super::{Place, unwritten};
use crate::check::{Miss, miss, until};

/// Its points.
pub(super) const POINTS: &[&str] = &["relay.bytes_as_they_were", "relay.references_mapped"];

/// The Id of the agent's odd message: in two bytes more than it needs.
const ODD_ID: [u8; 4] = [0x08, 0xcd, 0x80, 0x00];
/// MsgType 1024 in one byte more than it needs, and a field that nobody knows.
const ODD_TYPE: [u8; 9] = [0x18, 0x80, 0x88, 0x00, 0x7a, 0x03, b'o', b'd', b'd'];

pub(super) async fn look(point: &str, place: &Place) -> Result<String, Miss> {
    match point {
        "relay.bytes_as_they_were" => bytes(place).await,
        "relay.references_mapped" => references(place).await,
        other => unwritten(other),
    }
}

/// A content with fields in no order, an unknown field and a varint that is longer than it must be.
fn odd_content() -> Vec<u8> {
    let body = [&b"\xa2\x1f\x05whole"[..], b"\x0a\x06wxid_a", b"\x20\x81\x80\x80\x00", b"\x12\x00"].concat();
    let url = b"another.example/Jubo.JuLiao.IM.Wx.Proto.FriendTalkNoticeMessage";
    let length = |bytes: &[u8]| u8::try_from(bytes.len()).unwrap_or(u8::MAX);
    // The value before the type URL.
    let any = [&[0x12, length(&body)][..], &body, &[0x0a, length(url)], url].concat();
    [&[0x22, length(&any)][..], &any].concat()
}

/// Content, the order of fields, unknown fields and odd varints are the same on both sides.
async fn bytes(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, relayed(place, "")).await?;
    yard.registered("A1").await?;
    let mut agent = yard.agent("A1").await?;
    let token = [&[0x12, u8::try_from(agent.token().len()).unwrap_or(0)][..], agent.token().as_bytes()].concat();
    let kept = [&odd_content()[..], &ODD_TYPE].concat();
    within("a frame that is taken", agent.send_bytes([&kept[..], &token, &ODD_ID].concat())).await?;
    within("its acknowledgement", agent.acknowledged(77)).await?;
    let capture = Capture::of(place);
    let frames = capture.said(Type::FriendTalkNotice);
    let [Frame { raw, message }] = &frames[..] else {
        return Err(miss("one notice at the centre", format!("{frames:?}")));
    };
    if !raw.windows(kept.len()).any(|window| window == kept) {
        return Err(miss("the agent's bytes", format!("{raw:02x?}")));
    }
    if message.access_token == agent.token() || raw.windows(ODD_ID.len()).any(|window| window == ODD_ID) {
        return Err(miss("the centre's token and an Id of the line", format!("{message:?}")));
    }
    yard.stop(format!("{} bytes the same, AccessToken and Id the line's own", kept.len())).await
}

/// The answers of an agent name the centre's own messages, whatever else has gone by the line.
async fn references(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, relayed(place, "").config(MESSAGES)).await?;
    yard.registered("A1").await?;
    let mut agent = yard.agent("A1").await?;
    for text in ["moves", "the", "numbers", "on"] {
        tells_and_hears(&mut agent, text).await?;
    }
    let capture = Capture::of(place);
    let mut told = Vec::new();
    for text in ["one", "two"] {
        let task = yard.asks_for("A1", Type::TalkToFriendTask, talk(text)).await?;
        let given = hears(&mut agent, Type::TalkToFriendTask).await?;
        if given.content != talk(text) {
            return Err(miss("the content of the task", format!("{given:?}")));
        }
        within("an acknowledgement", agent.take(&given)).await?;
        let result = farmhand::central::proto::TalkToFriendTaskResultNoticeMessage::default();
        let content = any("TalkToFriendTaskResultNoticeMessage", &result);
        within("a result", agent.send(Type::TalkToFriendTaskResultNotice as i32, content, given.id)).await?;
        let named = |code: Type| {
            let said = capture.said(code);
            said.iter().any(|Frame { message: TransportMessage { ref_message_id, .. }, .. }| *ref_message_id == task)
        };
        until(SOON, "acknowledgement and result of the task", async || {
            let both = (named(Type::MsgReceivedAck), named(Type::TalkToFriendTaskResultNotice));
            if both == (true, true) { Ok(()) } else { Err(format!("of {task}: {both:?}")) }
        })
        .await?;
        told.push(format!("{task} as {}", given.id));
    }
    let device = yard.device("A1").map_err(missed("the centre's record"))?;
    if !device.errors.is_empty() {
        return Err(miss("no Error", format!("{:?}", device.errors)));
    }
    yard.stop(format!("the agent saw {}, and the centre its own numbers in the answers", told.join(", "))).await
}
