//! What the server has taken, by its own capture of every frame.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Read as _;
use std::path::Path;

use farmhand::central::proto::{EnumMsgType as Type, FriendTalkNoticeMessage, TransportMessage};
use firmware_tools::rack_file::CentralAck;
use prost::Message as _;

use crate::site::credential;
use crate::{SECRET, Size};

/// All phones.
pub(crate) struct Ledger {
    capture: File,
    /// Of a frame that is not whole yet.
    rest: Vec<u8>,
    ack: CentralAck,
    notices: u64,
    phones: BTreeMap<String, Account>,
    /// By session, which has a token of its own: what was answered by an Error, as such a server does with whatever a session brings for the first time.
    refused: BTreeSet<(String, u64)>,
}

/// What was taken of one phone.
#[derive(Default)]
struct Account {
    taken: BTreeSet<u64>,
    doubles: u64,
    reordered: u64,
}

/// What came of all of them.
#[derive(Debug)]
pub(crate) struct Sum {
    pub(crate) missing: u64,
    pub(crate) reordered: u64,
    pub(crate) doubles: u64,
    pub(crate) doubles_of_one_phone: u64,
}

impl Ledger {
    pub(crate) fn open(capture: &Path, ack: CentralAck, size: Size) -> Self {
        let phones = (0..size.phones).map(|phone| (credential(phone), Account::default())).collect();
        let capture = File::open(capture).unwrap();
        Self { capture, rest: Vec::new(), ack, notices: size.notices, phones, refused: BTreeSet::new() }
    }

    /// Reads on; how many different notices were taken.
    pub(crate) fn read(&mut self) -> u64 {
        self.capture.read_to_end(&mut self.rest).unwrap();
        let rest = std::mem::take(&mut self.rest);
        let mut bytes = &rest[..];
        while let Some((length, after)) = bytes.split_first_chunk() {
            let length = usize::try_from(u32::from_be_bytes(*length)).unwrap();
            let Some(frame) = after.get(..length) else { break };
            self.note(&TransportMessage::decode(frame).unwrap());
            bytes = &after[length..];
        }
        self.rest = bytes.to_vec();
        self.phones.values().map(|account| account.taken.len() as u64).sum()
    }

    fn note(&mut self, message: &TransportMessage) {
        if message.msg_type != Type::FriendTalkNotice as i32 {
            return;
        }
        let content = message.content.as_ref().expect("it has a body");
        let notice = FriendTalkNoticeMessage::decode(&content.value[..]).unwrap();
        let text = String::from_utf8(notice.content).unwrap();
        let number = text.strip_prefix(SECRET).and_then(|rest| rest.trim().parse().ok()).expect("it is whole");
        assert!(number < self.notices);
        if self.ack == CentralAck::Error && self.refused.insert((message.access_token.clone(), number)) {
            return;
        }
        let account = self.phones.get_mut(&notice.we_chat_id).expect("a phone of this site");
        let overtakes = account.taken.last().is_some_and(|last| *last > number);
        if !account.taken.insert(number) {
            account.doubles += 1;
        } else if overtakes {
            account.reordered += 1;
        }
    }

    /// Whether so many different notices were taken.
    ///
    /// # Errors
    /// Fewer were.
    pub(crate) fn has(&mut self, wanted: u64) -> Result<(), String> {
        let seen = self.read();
        if seen >= wanted { Ok(()) } else { Err(format!("{seen} are")) }
    }

    pub(crate) fn sum(&mut self) -> Sum {
        let taken = self.read();
        let accounts = || self.phones.values();
        Sum {
            missing: self.notices * self.phones.len() as u64 - taken,
            reordered: accounts().map(|account| account.reordered).sum(),
            doubles: accounts().map(|account| account.doubles).sum(),
            doubles_of_one_phone: accounts().map(|account| account.doubles).max().unwrap_or(0),
        }
    }
}
