//! How the server answers notices: the protocol document allows an acknowledgement for each, and silence when all is well.

use std::collections::{BTreeSet, VecDeque};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use farmhand::central::catalogue::{self, Kind};
use farmhand::central::proto::{EnumErrorCode, EnumMsgType as Type, TransportMessage};
use tokio::time::{Instant, sleep_until};

use super::session;
use crate::rack_file::{CentralAck, CentralFault};

/// Between a notice and its late acknowledgement.
const LATE: Duration = Duration::from_secs(2);

/// What one connection's notices get.
#[derive(Debug)]
pub(super) struct Acknowledge {
    how: CentralAck,
    late: VecDeque<(Instant, TransportMessage)>,
    /// Hashes of the contents that were answered by an Error.
    refused: BTreeSet<u64>,
}

impl Acknowledge {
    pub(super) fn new(how: CentralAck) -> Self {
        Self { how, late: VecDeque::new(), refused: BTreeSet::new() }
    }

    /// What is sent now of the `answer` to `message`; all that is no acknowledgement of a notice is.
    pub(super) fn answer(
        &mut self,
        message: &TransportMessage,
        answer: TransportMessage,
        fault: Option<CentralFault>,
    ) -> Option<TransportMessage> {
        if answer.msg_type != Type::MsgReceivedAck as i32 || !is_notice(message.msg_type) {
            return Some(answer);
        }
        if fault == Some(CentralFault::RefusesNotices) {
            return Some(session::error_answer(message, EnumErrorCode::InvalidParam as i32, "it is not wanted"));
        }
        match self.how {
            CentralAck::Each => Some(answer),
            CentralAck::Silent => None,
            CentralAck::Late => {
                self.late.push_back((Instant::now() + LATE, answer));
                None
            }
            CentralAck::Error => {
                let mut hash = DefaultHasher::new();
                message.content.as_ref().map(|content| &content.value).hash(&mut hash);
                if self.refused.insert(hash.finish()) {
                    let code = EnumErrorCode::InternalError as i32;
                    return Some(session::error_answer(message, code, "try it again"));
                }
                Some(answer)
            }
        }
    }

    /// The next late acknowledgement, once its time has come. Cancel-safe.
    pub(super) async fn due(&mut self) -> TransportMessage {
        match self.late.front() {
            Some((at, _)) => sleep_until(*at).await,
            None => std::future::pending().await,
        }
        self.late.pop_front().map(|(_, answer)| answer).unwrap_or_default()
    }
}

fn is_notice(code: i32) -> bool {
    catalogue::lookup(code).is_none_or(|entry| matches!(entry.kind, Kind::Notice | Kind::Result))
}
