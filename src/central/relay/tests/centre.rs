//! A centre of any list of operations: it reads when it likes, and loses with a connection what it has not read.

use std::collections::BTreeSet;

use super::*;

/// What notices of such lists are.
pub(super) const TALK: i32 = 1024;

/// The notice of this number.
pub(super) fn body(number: u64) -> Vec<u8> {
    [&b"\x0a\x08"[..], &number.to_be_bytes()].concat()
}

/// The number of a notice.
pub(super) fn number_of(body: &[u8]) -> u64 {
    u64::from_be_bytes(body[2..].try_into().unwrap())
}

/// What it does about the notices that it reads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Mood {
    Takes,
    /// It refuses some that it has not refused before.
    RefusesSome,
}

/// See the module.
#[derive(Debug)]
pub(super) struct Centre {
    acknowledges_each: bool,
    /// What has come by this connection and was not read.
    unread: Vec<Seen>,
    /// Numbers of notices, in the order in which each was first taken.
    pub(super) taken: Vec<u64>,
    /// Notices that were taken once more.
    pub(super) doubles: usize,
    /// Notices that were refused for their number, once each.
    pub(super) refused: BTreeSet<u64>,
    /// What this connection has brought, where it refuses whatever one brings for the first time.
    first_seen: Option<BTreeSet<u64>>,
}

impl Centre {
    pub(super) fn new(acknowledges_each: bool) -> Self {
        Self {
            acknowledges_each,
            unread: Vec::new(),
            taken: Vec::new(),
            doubles: 0,
            refused: BTreeSet::new(),
            first_seen: None,
        }
    }

    /// One that refuses whatever a connection brings for the first time.
    pub(super) fn refusing_first(acknowledges_each: bool) -> Self {
        Self { first_seen: Some(BTreeSet::new()), ..Self::new(acknowledges_each) }
    }

    pub(super) fn refuses_first(&self) -> bool {
        self.first_seen.is_some()
    }

    /// The connection is gone, and with it what was not read.
    pub(super) fn forgets(&mut self) {
        self.unread.clear();
        self.first_seen.iter_mut().for_each(BTreeSet::clear);
    }

    pub(super) fn hangs_up(&mut self, stage: &mut Stage) {
        self.forgets();
        stage.centre_hangs_up();
    }

    /// Lets the line in, if it wants to be connected.
    pub(super) fn comes(&mut self, stage: &mut Stage) {
        if !std::mem::take(&mut stage.connects) {
            return;
        }
        self.forgets();
        stage.relay.connected(stage.now);
        stage.drain();
        let response = DeviceAuthRspMessage { access_token: "c".to_owned(), ..Default::default() };
        stage.centre_says(1011, &response.encode_to_vec(), 0);
    }

    /// What has come since the last look.
    pub(super) fn gather(&mut self, stage: &mut Stage) -> &[Seen] {
        self.unread.append(&mut stage.up);
        &self.unread
    }

    /// It reads all that has come, in order, and answers.
    pub(super) fn reads(&mut self, stage: &mut Stage, mood: Mood) {
        self.gather(stage);
        for seen in std::mem::take(&mut self.unread) {
            if stage.relay.session().registration().is_none() {
                return;
            }
            match seen.code {
                TALK => self.reads_notice(stage, &seen, mood),
                1001 => {
                    stage.centre_says(1002, &[], seen.id);
                }
                _ => {}
            }
        }
    }

    fn reads_notice(&mut self, stage: &mut Stage, seen: &Seen, mood: Mood) {
        let number = number_of(&seen.body);
        if self.first_seen.as_mut().is_some_and(|before| before.insert(number)) {
            return stage.centre_refuses(seen.id, EnumErrorCode::InternalError);
        }
        if mood == Mood::RefusesSome && number.is_multiple_of(7) && self.refused.insert(number) {
            return stage.centre_refuses(seen.id, EnumErrorCode::InternalError);
        }
        if self.taken.contains(&number) {
            self.doubles += 1;
        } else {
            self.taken.push(number);
        }
        if self.acknowledges_each {
            stage.centre_says(1002, &[], seen.id);
        }
    }
}
