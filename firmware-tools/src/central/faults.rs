//! What a server that something is wrong with does instead of its answer, or after it.

use std::time::Duration;

use bytes::Bytes;
use farmhand::central::proto::{
    AccountForceOfflineNoticeMessage, EnumForceOfflineReason, EnumMsgType as Type, RedirectNoticeMessage,
    TransportMessage,
};
use prost::Message as _;

use super::session::{Session, any};
use crate::rack_file::CentralFault;

/// Between two messages that a slow reader reads.
pub(super) const SLOWLY: Duration = Duration::from_secs(1);
/// What no message of a device has as its Id.
const WRONG_BY: i64 = 1_000_000_000;

/// One thing that it does.
#[derive(Debug, PartialEq)]
pub(super) enum Move {
    Send(TransportMessage),
    /// A frame that is no message.
    Frame(Bytes),
    /// Bytes that are no frame.
    Raw(Bytes),
    ByteByByte(TransportMessage),
    End(String),
}

/// What it does about a message, to which `answer` would be the answer; `registered` if the device has registered by it.
pub(super) fn moves(
    fault: CentralFault,
    answer: Option<TransportMessage>,
    registered: bool,
    session: &mut Session,
) -> Vec<Move> {
    let sends = |answer: Option<TransportMessage>| answer.map(Move::Send).into_iter().collect::<Vec<_>>();
    match (fault, answer) {
        (CentralFault::GarbageFrame, _) => vec![Move::Frame(Bytes::from_static(&[0xff; 32]))],
        (CentralFault::HugeLength, _) => vec![Move::Raw(Bytes::copy_from_slice(&i32::MAX.to_be_bytes()))],
        (CentralFault::UnknownCode, Some(answer)) => vec![Move::Send(answer), Move::Send(session.originate_unknown())],
        (CentralFault::ByteByByte, Some(answer)) => vec![Move::ByteByByte(answer)],
        (CentralFault::ClosesMidFrame, Some(answer)) => {
            let mut bytes = Bytes::from(wire(&answer));
            bytes.truncate(bytes.len() / 2 + 1);
            vec![Move::Raw(bytes), Move::End("it closes in the middle of a frame".to_owned())]
        }
        (CentralFault::WrongReference, Some(answer)) if !registered => {
            vec![Move::Send(TransportMessage { ref_message_id: answer.ref_message_id + WRONG_BY, ..answer })]
        }
        (CentralFault::ForcesOffline, answer) if registered => {
            let reason = EnumForceOfflineReason::FuckedByOtherAuthorizer as i32;
            let notice = AccountForceOfflineNoticeMessage { reason, ..Default::default() };
            let content = any("AccountForceOfflineNoticeMessage", &notice);
            let notice = session.originate(Type::AccountForceOfflineNotice as i32, Some(content));
            sends(answer).into_iter().chain([Move::Send(notice)]).collect()
        }
        (CentralFault::Redirects, answer) if registered => {
            let notice =
                RedirectNoticeMessage { server_url: "192.0.2.1".to_owned(), server_port: 9, ..Default::default() };
            let notice = session.originate(Type::RedirectNotice as i32, Some(any("RedirectNoticeMessage", &notice)));
            sends(answer).into_iter().chain([Move::Send(notice)]).collect()
        }
        (_, answer) => sends(answer),
    }
}

/// A message as it is on the wire.
pub(super) fn wire(message: &TransportMessage) -> Vec<u8> {
    let frame = message.encode_to_vec();
    let length = u32::try_from(frame.len()).unwrap_or(u32::MAX);
    [&length.to_be_bytes()[..], &frame].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer() -> TransportMessage {
        TransportMessage { msg_type: 1002, ref_message_id: 7, ..Default::default() }
    }

    #[test]
    fn a_frame_that_is_cut_has_begun_and_not_ended() {
        let moves = moves(CentralFault::ClosesMidFrame, Some(answer()), false, &mut Session::new(1));
        let [Move::Raw(bytes), Move::End(_)] = &moves[..] else { panic!("{moves:?}") };
        assert!(bytes.len() > 4 && bytes.len() < wire(&answer()).len());
    }

    #[test]
    fn each_fault_does_what_it_says() {
        let mut session = Session::new(1);
        let mut after = |fault, registered| moves(fault, Some(answer()), registered, &mut session);
        let Move::Send(wrong) = &after(CentralFault::WrongReference, false)[0] else { panic!("it answers") };
        assert_eq!(wrong.ref_message_id, 7 + WRONG_BY);
        for (fault, code) in [(CentralFault::ForcesOffline, 1013), (CentralFault::Redirects, 1015)] {
            let codes: Vec<_> = after(fault, true)
                .iter()
                .map(|next| if let Move::Send(message) = next { message.msg_type } else { 0 })
                .collect();
            assert_eq!(codes, [1002, code]);
            assert_eq!(after(fault, false), [Move::Send(answer())]);
        }
        assert_eq!(after(CentralFault::ReadsSlowly, true), [Move::Send(answer())]);
        assert_eq!(after(CentralFault::ByteByByte, true), [Move::ByteByByte(answer())]);
    }
}
