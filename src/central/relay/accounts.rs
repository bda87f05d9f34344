//! What the centre believes of the accounts on a phone by the agent's word: to be said again to a new registration, and to be taken back
//! when the agent is gone.
//!
//! Of all that an agent sends, only `WeChatId` of two notices is looked at, and only here.

use bytes::Bytes;

use crate::central::envelope::View;
use crate::central::proto::EnumMsgType;
use crate::central::wire::{Reader, Value};

/// Accounts of one phone; a phone has one or two.
const ACCOUNTS_MAX: usize = 16;
/// The longest `WeChatId` that is remembered, in bytes.
const ID_LEN_MAX: usize = 128;
/// The longest notice that is kept to be said again, in bytes.
const NOTICE_LEN_MAX: usize = 16 << 10;

/// The field of `WeChatId` in the bodies of 1020 and 1021.
const WECHAT_ID: u32 = 1;

/// What an agent has said that a new registration must hear again.
#[derive(Debug, Default)]
pub(super) struct Accounts {
    /// The last `PostDeviceInfoNotice`.
    device: Option<Bytes>,
    /// By `WeChatId`, those that came first, first; with the last `WeChatOnlineNotice` if it is not too long.
    online: Vec<(String, Option<Bytes>)>,
}

impl Accounts {
    /// The agent sends this.
    pub(super) fn note(&mut self, view: &View<'_>, envelope: &Bytes) {
        let kept = || (envelope.len() <= NOTICE_LEN_MAX).then(|| envelope.clone());
        match EnumMsgType::try_from(view.msg_type) {
            Ok(EnumMsgType::PostDeviceInfoNotice) => self.device = kept(),
            Ok(EnumMsgType::WeChatOnlineNotice) => {
                let Some(id) = wechat_id(view.body()) else { return };
                let room = self.online.len() < ACCOUNTS_MAX;
                match self.online.iter_mut().find(|(online, _)| online == id) {
                    Some((_, notice)) => *notice = kept(),
                    None if room => self.online.push((id.to_owned(), kept())),
                    None => tracing::warn!("more than {ACCOUNTS_MAX} accounts on one phone: one is not remembered"),
                }
            }
            Ok(EnumMsgType::WeChatOfflineNotice) => {
                let gone = wechat_id(view.body());
                self.online.retain(|(online, _)| Some(online.as_str()) != gone);
            }
            _ => {}
        }
    }

    /// Whether the agent has told of the phone.
    pub(super) fn tells_of_phone(&self) -> bool {
        self.device.is_some()
    }

    /// Whether the agent has said anything that must be taken back when it is gone.
    pub(super) fn is_empty(&self) -> bool {
        self.device.is_none() && self.online.is_empty()
    }

    /// What a new registration must hear again.
    pub(super) fn notices(&self) -> impl Iterator<Item = &Bytes> {
        self.device.iter().chain(self.online.iter().filter_map(|(_, notice)| notice.as_ref()))
    }

    /// The agent is gone, and with it all that it has said: the `WeChatId`s that are no longer online.
    pub(super) fn take(&mut self) -> Vec<String> {
        std::mem::take(self).online.into_iter().map(|(id, _)| id).collect()
    }
}

/// `WeChatId` of a notice that has one as its first field.
fn wechat_id(body: &[u8]) -> Option<&str> {
    let mut reader = Reader::new(body);
    let mut id = None;
    while let Some(field) = reader.field().ok()? {
        if let (WECHAT_ID, Value::Bytes(bytes)) = (field.number, field.value) {
            id = std::str::from_utf8(bytes).ok();
        }
    }
    id.filter(|id| !id.is_empty() && id.len() <= ID_LEN_MAX)
}
