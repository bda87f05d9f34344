//! One device's conversation as a core: a message in, what to answer and what was seen out. No socket, no clock.

use farmhand::central::catalogue::{self, Group};
use farmhand::central::proto;
use farmhand::central::proto::EnumMsgType as Type;
use prost::Message;
use prost_types::Any;

use super::record::{AppRecord, DeviceInfoRecord, ErrorRecord, TaskResultRecord};
use crate::rack_file::{Allow, CentralFault};

/// One device on one connection.
#[derive(Debug)]
pub(super) struct Session {
    /// Makes this session's token differ from all others.
    number: u64,
    device: Option<Device>,
    next_id: i64,
}

#[derive(Debug)]
struct Device {
    imei: String,
    token: String,
}

/// What follows from one message.
#[derive(Debug, Default)]
pub(super) struct Step {
    pub(super) answer: Option<proto::TransportMessage>,
    pub(super) seen: Option<Seen>,
}

/// What was learnt of the device.
#[derive(Debug, PartialEq)]
pub(super) enum Seen {
    Registered {
        imei: String,
    },
    Refused,
    Heartbeat,
    DeviceInfo(DeviceInfoRecord),
    TaskResult(TaskResultRecord),
    Error(ErrorRecord),
    Acknowledged {
        ref_message_id: i64,
    },
    Other {
        code: i32,
    },
    /// A body that its own type does not allow; the reason is in the answer.
    BadBody,
}

/// An upgrade of one app: `UpgradeDeviceAppNotice`.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Upgrade {
    /// `PackageName`
    pub package: String,
    /// `VerNumber`
    pub version_code: i32,
    /// `Version`
    pub version_name: String,
    /// `PackageUrl`
    pub url: String,
}

const NO_RIGHT: i32 = proto::EnumErrorCode::NoRight as i32;
const INVALID_PARAM: i32 = proto::EnumErrorCode::InvalidParam as i32;
/// A number that the catalogue does not have.
const UNKNOWN_CODE: i32 = 4242;

impl Session {
    pub(super) fn new(number: u64) -> Self {
        Self { number, device: None, next_id: 1 }
    }

    pub(super) fn imei(&self) -> Option<&str> {
        self.device.as_ref().map(|device| device.imei.as_str())
    }

    /// Takes one message of the device.
    pub(super) fn receive(&mut self, message: &proto::TransportMessage, fault: Option<CentralFault>) -> Step {
        if message.msg_type == Type::DeviceAuthReq as i32 {
            return self.authenticate(message, fault);
        }
        match &self.device {
            None => refuse(message, "authenticate first"),
            Some(device) if device.token != message.access_token => {
                let why = format!("the access token `{}` was not given to {}", message.access_token, device.imei);
                refuse(message, &why)
            }
            Some(_) => registered(message),
        }
    }

    fn authenticate(&mut self, message: &proto::TransportMessage, fault: Option<CentralFault>) -> Step {
        let request: proto::DeviceAuthReqMessage = match body(message) {
            Ok(request) => request,
            Err(step) => return *step,
        };
        if fault == Some(CentralFault::RefusesAuth) {
            return refuse(message, &format!("device {} is not welcome here", request.credential));
        }
        if request.credential.is_empty() {
            return refuse(message, "DeviceAuthReq has an empty Credential");
        }
        let token = format!("{}.{}", request.credential, self.number);
        self.device = Some(Device { imei: request.credential.clone(), token: token.clone() });
        let response = proto::DeviceAuthRspMessage { access_token: token, ..Default::default() };
        Step {
            answer: Some(answer(message, Type::DeviceAuthRsp, Some(any("DeviceAuthRspMessage", &response)))),
            seen: Some(Seen::Registered { imei: request.credential }),
        }
    }

    /// The message that carries `content` as this server's own, with the `Id` by which it will be answered.
    pub(super) fn originate(&mut self, code: i32, content: Option<Any>) -> proto::TransportMessage {
        let id = self.next_id;
        self.next_id += 1;
        proto::TransportMessage { id, msg_type: code, content, ..Default::default() }
    }

    /// A message of a type that nobody knows.
    pub(super) fn originate_unknown(&mut self) -> proto::TransportMessage {
        self.originate(UNKNOWN_CODE, None)
    }
}

/// Whether this server may send a message of this type.
pub(super) fn may_send(code: i32, allow: Allow) -> bool {
    let group = catalogue::lookup(code).map_or(Group::Unknown, |entry| entry.group);
    match group {
        Group::Device | Group::Stop | Group::Session => true,
        _ => allow == Allow::People,
    }
}

/// The content of `UpgradeDeviceAppNotice` for one device.
pub(super) fn upgrade_content(imei: &str, upgrade: &Upgrade) -> Any {
    let app = proto::DeviceAppUpgradeMessage {
        ver_number: upgrade.version_code,
        version: upgrade.version_name.clone(),
        package_name: upgrade.package.clone(),
        package_url: upgrade.url.clone(),
    };
    let notice =
        proto::UpgradeDeviceAppNoticeMessage { imei: imei.to_owned(), app_infos: vec![app], ..Default::default() };
    any("UpgradeDeviceAppNoticeMessage", &notice)
}

/// A message of a device whose token is right.
fn registered(message: &proto::TransportMessage) -> Step {
    let seen = match Type::try_from(message.msg_type) {
        Ok(Type::HeartBeatReq) => Ok(Seen::Heartbeat),
        Ok(Type::PostDeviceInfoNotice) => body(message).map(device_info),
        Ok(Type::TaskResultNotice) => body(message).map(|result| task_result(message.ref_message_id, result)),
        Ok(Type::MsgReceivedAck) => {
            return Step { answer: None, seen: Some(Seen::Acknowledged { ref_message_id: message.ref_message_id }) };
        }
        Ok(Type::Error) => {
            return match body(message) {
                Ok(error) => Step { answer: None, seen: Some(error_seen(message.ref_message_id, error)) },
                Err(step) => Step { answer: None, ..*step },
            };
        }
        _ => Ok(Seen::Other { code: message.msg_type }),
    };
    match seen {
        Ok(seen) => Step { answer: Some(answer(message, Type::MsgReceivedAck, None)), seen: Some(seen) },
        Err(step) => *step,
    }
}

fn device_info(notice: proto::PostDeviceInfoNoticeMessage) -> Seen {
    Seen::DeviceInfo(DeviceInfoRecord {
        brand: notice.phone_brand,
        model: notice.phone_model,
        sdk: notice.os_ver_number,
        imei: notice.imei,
        network: notice.net_type,
        apps: notice
            .app_infos
            .into_iter()
            .map(|app| AppRecord { package: app.package_name, version_code: app.ver_number, version_name: app.version })
            .collect(),
    })
}

fn task_result(ref_message_id: i64, result: proto::TaskResultNoticeMessage) -> Seen {
    Seen::TaskResult(TaskResultRecord {
        ref_message_id,
        success: result.success,
        task_type: result.task_type,
        error: result.err_msg,
    })
}

fn error_seen(ref_message_id: i64, error: proto::ErrorMessage) -> Seen {
    Seen::Error(ErrorRecord { ref_message_id, code: error.error_code, message: error.error_msg })
}

/// The body of a message, or the step that says why there is none. An empty type URL and any prefix are taken.
fn body<M: Message + Default>(message: &proto::TransportMessage) -> Result<M, Box<Step>> {
    let bytes = message.content.as_ref().map(|content| content.value.as_slice()).unwrap_or_default();
    M::decode(bytes).map_err(|error| {
        Box::new(Step {
            answer: Some(error_answer(message, INVALID_PARAM, &format!("the Content does not decode: {error}"))),
            seen: Some(Seen::BadBody),
        })
    })
}

fn refuse(message: &proto::TransportMessage, why: &str) -> Step {
    Step { answer: Some(error_answer(message, NO_RIGHT, why)), seen: Some(Seen::Refused) }
}

pub(super) fn error_answer(message: &proto::TransportMessage, error_code: i32, why: &str) -> proto::TransportMessage {
    let error = proto::ErrorMessage { error_code, error_msg: why.to_owned() };
    answer(message, Type::Error, Some(any("ErrorMessage", &error)))
}

/// Public servers of the protocol answer with `Id` 0; so does this one.
fn answer(message: &proto::TransportMessage, code: Type, content: Option<Any>) -> proto::TransportMessage {
    proto::TransportMessage { msg_type: code as i32, content, ref_message_id: message.id, ..Default::default() }
}

pub(super) fn any<M: Message>(name: &str, message: &M) -> Any {
    Any { type_url: format!("type.googleapis.com/Jubo.JuLiao.IM.Wx.Proto.{name}"), value: message.encode_to_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn says(id: i64, token: &str, code: Type, content: Option<Any>) -> proto::TransportMessage {
        proto::TransportMessage {
            id,
            access_token: token.to_owned(),
            msg_type: code as i32,
            content,
            ref_message_id: 0,
        }
    }

    fn auth(id: i64) -> proto::TransportMessage {
        let request = proto::DeviceAuthReqMessage { auth_type: 1, credential: "350000000000001".to_owned() };
        says(id, "", Type::DeviceAuthReq, Some(any("DeviceAuthReqMessage", &request)))
    }

    fn token(step: &Step) -> String {
        let content = step.answer.as_ref().unwrap().content.as_ref().unwrap();
        proto::DeviceAuthRspMessage::decode(content.value.as_slice()).unwrap().access_token
    }

    #[test]
    fn a_device_gets_a_token_and_its_heartbeat_is_acknowledged() {
        let mut session = Session::new(7);
        let step = session.receive(&auth(1), None);
        assert_eq!(step.seen, Some(Seen::Registered { imei: "350000000000001".to_owned() }));
        let token = token(&step);
        let step = session.receive(&says(2, &token, Type::HeartBeatReq, None), None);
        assert_eq!(step.seen, Some(Seen::Heartbeat));
        let ack = step.answer.unwrap();
        assert_eq!((ack.msg_type, ack.ref_message_id, ack.content), (Type::MsgReceivedAck as i32, 2, None));
    }

    #[test]
    fn a_wrong_token_has_no_right() {
        let mut session = Session::new(7);
        let _ = session.receive(&auth(1), None);
        let step = session.receive(&says(2, "made up", Type::HeartBeatReq, None), None);
        let answer = step.answer.unwrap();
        assert_eq!(answer.msg_type, Type::Error as i32);
        let error = proto::ErrorMessage::decode(answer.content.unwrap().value.as_slice()).unwrap();
        assert_eq!(error.error_code, 1001);
        assert!(error.error_msg.contains("made up"), "{}", error.error_msg);
    }

    #[test]
    fn nobody_speaks_before_authentication() {
        let step = Session::new(1).receive(&says(1, "", Type::HeartBeatReq, None), None);
        assert_eq!(step.seen, Some(Seen::Refused));
        let step = Session::new(1).receive(&auth(1), Some(CentralFault::RefusesAuth));
        assert_eq!(step.seen, Some(Seen::Refused));
    }

    #[test]
    fn a_body_that_is_no_protobuf_is_an_invalid_parameter() {
        let mut session = Session::new(7);
        let token = token(&session.receive(&auth(1), None));
        let garbage = Any { type_url: String::new(), value: vec![0xff; 9] };
        let step = session.receive(&says(2, &token, Type::PostDeviceInfoNotice, Some(garbage)), None);
        assert_eq!(step.seen, Some(Seen::BadBody));
        assert_eq!(step.answer.unwrap().msg_type, Type::Error as i32);
    }

    #[test]
    fn tasks_that_act_on_people_need_a_permission() {
        let upgrade = Type::UpgradeDeviceAppNotice as i32;
        let talk = Type::TalkToFriendTask as i32;
        assert!(may_send(upgrade, Allow::Device));
        assert!(!may_send(talk, Allow::Device) && !may_send(UNKNOWN_CODE, Allow::Device));
        assert!(may_send(talk, Allow::People));
    }
}
