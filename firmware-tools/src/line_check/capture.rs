//! What a central server has captured: every frame of both directions, in order.

use std::path::PathBuf;

use farmhand::central::proto::{EnumMsgType, FriendTalkNoticeMessage, TransportMessage};
use prost::Message;

use crate::check::points::Place;

/// A capture that is read anew at each look.
#[derive(Clone, Debug)]
pub(super) struct Capture(PathBuf);

/// One frame.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    /// As it was on the wire, without its length.
    pub(super) raw: Vec<u8>,
    pub(super) message: TransportMessage,
}

impl Frame {
    /// Whether a device has sent it: the server names no token.
    pub(super) fn is_up(&self) -> bool {
        !self.message.access_token.is_empty()
    }

    /// Its content.
    ///
    /// # Errors
    /// It is of another type.
    pub(super) fn body<M: Message + Default>(&self) -> Result<M, String> {
        let content = self.message.content.as_ref().map(|content| content.value.as_slice()).unwrap_or_default();
        M::decode(content).map_err(|error| error.to_string())
    }
}

impl Capture {
    /// The one of a point's rack.
    pub(super) fn of(place: &Place) -> Self {
        Self(place.dir.join("capture"))
    }

    /// The line of the rack file for it.
    pub(super) fn key(&self) -> String {
        format!("capture = \"{}\"", self.0.display())
    }

    /// What has been captured; a frame that is being written is left out.
    pub(super) fn frames(&self) -> Vec<Frame> {
        let bytes = std::fs::read(&self.0).unwrap_or_default();
        let (mut frames, mut rest) = (Vec::new(), &bytes[..]);
        while let Some((length, after)) = rest.split_first_chunk() {
            let length = usize::try_from(u32::from_be_bytes(*length)).unwrap_or(usize::MAX);
            let Some((raw, behind)) = after.split_at_checked(length) else { break };
            if let Ok(message) = TransportMessage::decode(raw) {
                frames.push(Frame { raw: raw.to_vec(), message });
            }
            rest = behind;
        }
        frames
    }

    /// What devices have said of this type.
    pub(super) fn said(&self, code: EnumMsgType) -> Vec<Frame> {
        self.frames().into_iter().filter(|frame| frame.is_up() && frame.message.msg_type == code as i32).collect()
    }

    /// The texts of the agents' notices, in the order in which they came.
    pub(super) fn texts(&self) -> Vec<String> {
        let notices = self.said(EnumMsgType::FriendTalkNotice);
        let bodies = notices.iter().filter_map(|frame| frame.body::<FriendTalkNoticeMessage>().ok());
        bodies.map(|notice| String::from_utf8_lossy(&notice.content).into_owned()).collect()
    }
}
