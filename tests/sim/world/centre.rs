//! The central server, as it is and as it may become: away, silent, refusing, forcing phones off line, talking nonsense.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use farmhand::central::catalogue::{self, Kind};
use farmhand::central::envelope::{Body, Envelope, View};
use farmhand::central::proto::{
    AccountForceOfflineNoticeMessage, DeviceAppUpgradeMessage, DeviceAuthReqMessage, DeviceAuthRspMessage,
    EnumErrorCode, EnumMsgType, EnumPhoneAction, ErrorMessage, PhoneActionTaskMessage, TaskResultNoticeMessage,
    UpgradeDeviceAppNoticeMessage,
};
use farmhand::config::Ack;
use farmhand::rack::ids::PhoneId;
use prost::Message as _;

use super::agents::number_of;
use super::chance::Chance;
use super::input::{Arrival, Input};
use super::outbox::ack_of;
use super::stage::Stage;

/// What may be on its way to the centre when a connection ends, or a daemon.
const DOUBLES_MAX: u64 = 64;
/// Beside a notice that is refused.
const ON_THEIR_WAY_MAX: u64 = DOUBLES_MAX - 1;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    Up,
    /// Nothing listens at its address.
    Down,
    /// Connections stand, and nothing is answered.
    Silent,
    /// Not even the connection is answered.
    Black,
    /// Every device is refused.
    Refusing,
}

/// Which notices the centre answers by an Error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refuses {
    None,
    /// Some, three times of four: they may be overtaken by what was on its way then.
    Some,
    /// Whatever a connection brings for the first time: as it refuses all alike, none may overtake.
    FirstSeen,
}

#[derive(Debug)]
pub(super) struct Centre {
    pub(super) mood: Mood,
    peers: BTreeMap<(PhoneId, u32), Peer>,
    last_id: i64,
    /// The connection may end over the report of a failure, before anybody has read it.
    pub(super) loses_reports: bool,
    /// The notices of its own whose failure it knows.
    pub(super) failures: BTreeSet<i64>,
    /// The acts on handsets that it has asked for.
    asked: BTreeSet<i64>,
    /// The numbered notices of agents that it has, and the highest of each device.
    notices: BTreeSet<u64>,
    /// Which notices it answers by an Error.
    pub(super) refuses: Refuses,
    chance: Chance,
    /// How many others of the device were taken since a registration first had it refused, which one that was, by number.
    refused: BTreeMap<u64, Overtaken>,
    /// How its lines expect it to show what it has taken, and whether it acknowledges notices.
    ack: Ack,
    acknowledges: bool,
    highest: BTreeMap<String, u64>,
}

#[derive(Debug, Default)]
struct Peer {
    credential: Option<String>,
    registrations: u32,
    /// Notices that it brought a second time since its last registration.
    doubles: u64,
    run: u32,
    /// The numbers that it brought.
    seen: BTreeSet<u64>,
    /// It was not read once, and is not read any more.
    is_deaf: bool,
}

impl Refuses {
    /// A centre that acknowledges in a way that its lines do not expect has several on their way before it shows that it refuses.
    fn of(seed: u64, ack: Ack) -> Self {
        match seed % 4 {
            0 => Self::Some,
            2 if ack != Ack::Barrier => Self::FirstSeen,
            _ => Self::None,
        }
    }
}

/// What went past a notice that was refused.
#[derive(Clone, Debug)]
struct Overtaken {
    /// The number of the connection, and how many registrations it had brought.
    registration: (u32, u32),
    credential: String,
    by: u64,
}

/// What a phone's line said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    Heartbeat {
        credential: String,
    },
    Failure,
    /// The end of an act that nobody asked for.
    Unasked {
        message_id: i64,
    },
    /// A notice that comes after one that was said later.
    Overtaken {
        number: u64,
    },
    /// More notices came a second time by one registration than may be on their way at once.
    Doubled {
        doubles: u64,
    },
    Unreadable,
    WithoutToken {
        code: i32,
    },
    Other,
}

impl Centre {
    pub(super) fn new(seed: u64) -> Self {
        let ack = ack_of(seed);
        Self {
            mood: Mood::Up,
            peers: BTreeMap::new(),
            last_id: 0,
            loses_reports: true,
            failures: BTreeSet::new(),
            asked: BTreeSet::new(),
            notices: BTreeSet::new(),
            refuses: Refuses::of(seed, ack),
            chance: Chance::new(seed ^ 0xce47),
            refused: BTreeMap::new(),
            ack,
            acknowledges: ack == Ack::Each || seed.is_multiple_of(2),
            highest: BTreeMap::new(),
        }
    }

    pub(super) fn ack(&self) -> Ack {
        self.ack
    }

    pub(super) fn connect(&mut self, stage: &mut Stage, run: u32, phone: &PhoneId, link: u32) {
        let arrival = match self.mood {
            Mood::Black => return,
            Mood::Down => Arrival::Refused,
            Mood::Up | Mood::Silent | Mood::Refusing => {
                self.peers.insert((phone.clone(), link), Peer { run, ..Peer::default() });
                Arrival::Connected
            }
        };
        answer(stage, run, phone, link, arrival);
    }

    pub(super) fn left(&mut self, phone: &PhoneId, link: u32) {
        self.peers.remove(&(phone.clone(), link));
    }

    /// It changes; whoever is connected to a server that goes away learns it.
    pub(super) fn becomes(&mut self, stage: &mut Stage, mood: Mood) {
        self.mood = mood;
        if mood == Mood::Down {
            for ((phone, link), peer) in std::mem::take(&mut self.peers) {
                answer(stage, peer.run, &phone, link, Arrival::Closed);
            }
        }
    }

    pub(super) fn receive(&mut self, stage: &mut Stage, phone: &PhoneId, link: u32, frame: &Bytes) -> Heard {
        let Some(Ok(view)) = frame.get(4..).map(View::parse) else { return Heard::Unreadable };
        let Ok(code) = EnumMsgType::try_from(view.msg_type) else { return Heard::Unreadable };
        let Some(peer) = self.peers.get_mut(&(phone.clone(), link)) else { return Heard::Other };
        if code != EnumMsgType::DeviceAuthReq && code != EnumMsgType::Error && view.access_token.is_empty() {
            return Heard::WithoutToken { code: view.msg_type };
        }
        if code == EnumMsgType::TaskResultNotice {
            return self.hear_failure(stage, phone, link, &view);
        }
        let number = number_of(view.body()).filter(|_| code == EnumMsgType::FriendTalkNotice);
        let answers = !matches!(self.mood, Mood::Silent | Mood::Black);
        // What refuses all alike reads no more once it is silent: what it took then would have overtaken.
        peer.is_deaf |= self.refuses == Refuses::FirstSeen && !answers;
        if peer.is_deaf {
            return Heard::Other;
        }
        if let (Some(number), Some(credential)) = (number, &peer.credential) {
            let first = peer.seen.insert(number);
            let chosen = match self.refuses {
                Refuses::None => false,
                Refuses::Some => number.is_multiple_of(16) && !self.chance.one_in(4),
                Refuses::FirstSeen => first,
            };
            if chosen && answers {
                let begins =
                    Overtaken { registration: (link, peer.registrations), credential: credential.clone(), by: 0 };
                let overtaken = self.refused.entry(number).or_insert_with(|| begins.clone());
                if overtaken.registration != begins.registration || overtaken.credential != begins.credential {
                    *overtaken = begins;
                }
                let refusal = ErrorMessage { error_code: EnumErrorCode::InternalError as i32, ..Default::default() };
                self.say(stage, phone, link, EnumMsgType::Error, &refusal, view.id);
                return Heard::Other;
            }
        }
        let heard = match (code, &peer.credential) {
            (EnumMsgType::FriendTalkNotice, Some(credential)) => match number {
                None => Heard::Unreadable,
                Some(number) if self.notices.insert(number) => {
                    let highest = self.highest.entry(credential.clone()).or_default();
                    let before = std::mem::replace(highest, number.max(*highest));
                    let may_be_overtaken_by = match self.refuses {
                        Refuses::FirstSeen => 0,
                        Refuses::None | Refuses::Some => ON_THEIR_WAY_MAX,
                    };
                    let was_refused = self.refused.remove(&number);
                    self.refused.values_mut().filter(|other| other.credential == *credential).for_each(|o| o.by += 1);
                    if before > number && was_refused.is_none_or(|overtaken| overtaken.by > may_be_overtaken_by) {
                        Heard::Overtaken { number }
                    } else {
                        Heard::Other
                    }
                }
                Some(_) => {
                    peer.doubles += 1;
                    if peer.doubles > DOUBLES_MAX { Heard::Doubled { doubles: peer.doubles } } else { Heard::Other }
                }
            },
            (EnumMsgType::HeartBeatReq, Some(credential)) => Heard::Heartbeat { credential: credential.clone() },
            _ => Heard::Other,
        };
        self.answer(stage, phone, link, code, &view);
        heard
    }

    /// What it says to a frame that it has heard.
    fn answer(&mut self, stage: &mut Stage, phone: &PhoneId, link: u32, code: EnumMsgType, view: &View<'_>) {
        match (self.mood, code) {
            (Mood::Silent | Mood::Black, _) | (_, EnumMsgType::MsgReceivedAck | EnumMsgType::Error) => {}
            (Mood::Refusing, EnumMsgType::DeviceAuthReq) => {
                let refusal =
                    ErrorMessage { error_code: EnumErrorCode::NoRight as i32, error_msg: "who are you?".to_owned() };
                self.say(stage, phone, link, EnumMsgType::Error, &refusal, view.id);
            }
            (_, EnumMsgType::DeviceAuthReq) => {
                let request = DeviceAuthReqMessage::decode(view.body()).unwrap_or_default();
                if let Some(peer) = self.peers.get_mut(&(phone.clone(), link)) {
                    peer.credential = Some(request.credential);
                    peer.registrations += 1;
                    peer.doubles = 0;
                }
                let response = DeviceAuthRspMessage { access_token: "token".to_owned(), ..Default::default() };
                self.say(stage, phone, link, EnumMsgType::DeviceAuthRsp, &response, view.id);
            }
            // The document lets a centre be silent when all is well.
            _ if !self.acknowledges && is_notice(view.msg_type) => {}
            _ => self.say_raw(stage, phone, link, EnumMsgType::MsgReceivedAck as i32, None, view.id),
        }
    }

    /// Whether it has the notice of this number.
    pub(super) fn has_notice(&self, number: u64) -> bool {
        self.notices.contains(&number)
    }

    /// A third of the reports is lost with the connection; half of the others is acknowledged at once, half by what follows.
    fn hear_failure(&mut self, stage: &mut Stage, phone: &PhoneId, link: u32, report: &View<'_>) -> Heard {
        if self.loses_reports && stage.chance.one_in(3) {
            if let Some(peer) = self.peers.remove(&(phone.clone(), link)) {
                answer(stage, peer.run, phone, link, Arrival::Closed);
            }
            return Heard::Other;
        }
        let told = TaskResultNoticeMessage::decode(report.body()).unwrap_or_default();
        let is_of_an_act = told.task_type == EnumMsgType::PhoneActionTask as i32;
        if is_of_an_act && !self.asked.contains(&report.ref_message_id) {
            return Heard::Unasked { message_id: report.ref_message_id };
        }
        self.failures.insert(report.ref_message_id);
        // A silent server reads all the same.
        if !matches!(self.mood, Mood::Silent | Mood::Black) && stage.chance.one_in(2) {
            self.say_raw(stage, phone, link, EnumMsgType::MsgReceivedAck as i32, None, report.id);
        }
        Heard::Failure
    }

    /// The lines that are registered, with what they registered as.
    pub(super) fn registered(&self) -> Vec<(PhoneId, u32, String)> {
        let named = |((phone, link), peer): (&(PhoneId, u32), &Peer)| {
            peer.credential.clone().map(|credential| (phone.clone(), *link, credential))
        };
        self.peers.iter().filter_map(named).collect()
    }

    pub(super) fn force_offline(&mut self, stage: &mut Stage, phone: &PhoneId, link: u32, reason: i32) {
        let notice =
            AccountForceOfflineNoticeMessage { reason, message: "off you go".to_owned(), ..Default::default() };
        self.say(stage, phone, link, EnumMsgType::AccountForceOfflineNotice, &notice, 0);
    }

    pub(super) fn ask_for_upgrade(
        &mut self,
        stage: &mut Stage,
        phone: &PhoneId,
        link: u32,
        package: &str,
        version: u64,
    ) {
        let app = DeviceAppUpgradeMessage {
            ver_number: i32::try_from(version).unwrap_or_default(),
            version: format!("{version}.0"),
            package_name: package.to_owned(),
            package_url: format!("http://centre/agent-{version}.apk"),
        };
        let notice = UpgradeDeviceAppNoticeMessage { app_infos: vec![app], ..Default::default() };
        self.say(stage, phone, link, EnumMsgType::UpgradeDeviceAppNotice, &notice, 0);
    }

    pub(super) fn ask_for_act(&mut self, stage: &mut Stage, phone: &PhoneId, link: u32, action: EnumPhoneAction) {
        let task = PhoneActionTaskMessage { action: action as i32, task_id: 1, ..Default::default() };
        self.say(stage, phone, link, EnumMsgType::PhoneActionTask, &task, 0);
        self.asked.insert(self.last_id);
    }

    /// A code that nobody knows, or one that the rack answers or refuses.
    pub(super) fn say_code(&mut self, stage: &mut Stage, phone: &PhoneId, link: u32, code: i32) {
        self.say_raw(stage, phone, link, code, None, 0);
    }

    pub(super) fn talk_nonsense(&mut self, stage: &mut Stage, phone: &PhoneId, link: u32) {
        let Some(peer) = self.peers.get(&(phone.clone(), link)) else { return };
        let arrival = match stage.chance.below(3) {
            0 => Arrival::BadLength,
            1 => Arrival::Frame(Bytes::from_static(&[0xff; 12])),
            _ => Arrival::Closed,
        };
        answer(stage, peer.run, phone, link, arrival);
    }

    fn say(
        &mut self,
        stage: &mut Stage,
        phone: &PhoneId,
        link: u32,
        code: EnumMsgType,
        body: &impl prost::Message,
        reference: i64,
    ) {
        self.say_raw(stage, phone, link, code as i32, Some(body.encode_to_vec()), reference);
    }

    fn say_raw(
        &mut self,
        stage: &mut Stage,
        phone: &PhoneId,
        link: u32,
        code: i32,
        body: Option<Vec<u8>>,
        reference: i64,
    ) {
        let Some(peer) = self.peers.get(&(phone.clone(), link)) else { return };
        self.last_id += 1;
        let type_name = catalogue::lookup(code).and_then(|entry| entry.body).unwrap_or_default();
        let body = body.as_deref().map(|value| Body { type_name, value });
        let message = Envelope { id: self.last_id, access_token: "", msg_type: code, body, ref_message_id: reference };
        let mut payload = Vec::with_capacity(message.encoded_len());
        message.encode(&mut payload);
        answer(stage, peer.run, phone, link, Arrival::Frame(payload.into()));
    }
}

fn is_notice(code: i32) -> bool {
    catalogue::lookup(code).is_none_or(|entry| matches!(entry.kind, Kind::Notice | Kind::Result))
}

/// What the centre says takes one fixed time, so that its frames keep their order.
fn answer(stage: &mut Stage, run: u32, phone: &PhoneId, link: u32, arrival: Arrival) {
    stage.after(Duration::from_millis(7), Input::FromCentre { run, phone: phone.clone(), link, arrival });
}
