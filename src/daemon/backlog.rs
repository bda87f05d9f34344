//! Words for the rollouts that find their mailbox full: kept in order, without what is out of date, until there is room.
//!
//! The rollouts take nothing while their next step is being committed, which with a full disk may last for hours; the model never
//! waits. So that neither is true at the other's expense, what the model has to say waits here, and is bounded by what there is to
//! know: the last word about each phone, the results that were asked for, and notices up to [`NOTICES_MAX`]. The notice beyond is
//! refused towards the server, which may say it again.
//!
//! Invariant: no word is lost without an answer (`what_finds_no_room_waits_in_order`, `a_notice_too_many_is_answered`).

use std::collections::VecDeque;

use tokio::sync::mpsc;
use tracing::{error, warn};

use crate::rack::Event;
use crate::rack::event::{RolloutCommand, RolloutEvent};
use crate::rack::ids::PhoneId;

/// Notices of the server that may wait: one for each phone of a big rack.
const NOTICES_MAX: usize = 1024;

/// The way to the rollouts.
pub(super) struct Backlog {
    mailbox: mpsc::Sender<RolloutCommand>,
    waiting: VecDeque<RolloutCommand>,
}

impl Backlog {
    pub(super) fn new(mailbox: mpsc::Sender<RolloutCommand>) -> Self {
        Self { mailbox, waiting: VecDeque::new() }
    }

    /// Says a word, now or once there is room; what the model must hear if it cannot be said at all.
    pub(super) fn send(&mut self, command: RolloutCommand) -> Option<Event> {
        let refused = if self.waiting.is_empty() {
            match self.mailbox.try_send(command) {
                Ok(()) => return None,
                Err(mpsc::error::TrySendError::Full(command)) => {
                    warn!("the rollouts take no more words for now: the next ones wait");
                    merge(&mut self.waiting, command)
                }
                Err(mpsc::error::TrySendError::Closed(command)) => Err(command),
            }
        } else {
            merge(&mut self.waiting, command)
        };
        self.flush();
        refuse(refused.err()?)
    }

    /// Ends when there is room for what waits; never if nothing does.
    pub(super) async fn room(&self) {
        if self.waiting.is_empty() || self.mailbox.reserve().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Sends what waits, as far as there is room.
    pub(super) fn flush(&mut self) {
        while let Ok(permit) = self.mailbox.try_reserve() {
            let Some(command) = self.waiting.pop_front() else { return };
            permit.send(command);
        }
    }
}

/// A notice that cannot be taken is a failure that the server hears of. For the rest there is nobody left to hear it.
fn refuse(command: RolloutCommand) -> Option<Event> {
    match command {
        RolloutCommand::Offered { phone, notice } => {
            warn!("an upgrade notice for {phone} is refused: the rollouts take no more words");
            let why =
                "this rack's rollouts are stuck, and too many notices wait for them: say it again later".to_owned();
            Some(Event::Rollout(RolloutEvent::ReportFailure { phone, message_id: notice.message_id, why }))
        }
        other => {
            let of = phone_of(&other).map_or("the clock", PhoneId::as_str);
            error!("the rollouts have ended and do not hear of {of}");
            None
        }
    }
}

/// Puts a word at the end, in place of what it makes out of date.
fn merge(waiting: &mut VecDeque<RolloutCommand>, command: RolloutCommand) -> Result<(), RolloutCommand> {
    let about_phone = |at: &usize| waiting.get(*at).is_some_and(|word| phone_of(word) == phone_of(&command));
    let is_known = |at: &usize| matches!(waiting.get(*at), Some(RolloutCommand::Known { .. }));
    let mut earlier = (0..waiting.len()).rev().filter(|at| about_phone(at) && !is_known(at));
    match &command {
        RolloutCommand::Available { .. } | RolloutCommand::Unavailable { .. } => {
            let (last, before) = (earlier.next(), earlier.next());
            let kind = |at: Option<usize>| at.and_then(|at| waiting.get(at)).map(std::mem::discriminant);
            let same = Some(std::mem::discriminant(&command));
            if kind(last) == same {
                put(waiting, last, command);
            } else if kind(before) == same && kind(last).is_some_and(|_| is_presence(waiting, last)) {
                // Away, back and away again is away: that it was away between must still be heard.
                if let (RolloutCommand::Unavailable { .. }, Some(last)) = (&command, last) {
                    waiting.remove(last);
                    put(waiting, before, command);
                } else {
                    waiting.push_back(command);
                }
            } else {
                waiting.push_back(command);
            }
        }
        RolloutCommand::Offered { notice, .. } => {
            let same = |at: &usize| match waiting.get(*at) {
                Some(RolloutCommand::Offered { notice: known, .. }) => {
                    known.package == notice.package && known.version_code == notice.version_code
                }
                _ => false,
            };
            match earlier.find(same) {
                Some(at) => put(waiting, Some(at), command),
                None if waiting.iter().filter(|word| is_notice(word)).count() >= NOTICES_MAX => return Err(command),
                None => waiting.push_back(command),
            }
        }
        RolloutCommand::Known { .. } => match (0..waiting.len()).find(|at| about_phone(at) && is_known(at)) {
            Some(at) => put(waiting, Some(at), command),
            None => waiting.push_back(command),
        },
        RolloutCommand::ClockSet(_) => match (0..waiting.len()).find(|at| about_phone(at)) {
            Some(at) => put(waiting, Some(at), command),
            None => waiting.push_back(command),
        },
        RolloutCommand::Installed { .. } | RolloutCommand::Looked { .. } | RolloutCommand::FailureTold { .. } => {
            waiting.push_back(command);
        }
    }
    Ok(())
}

fn put(waiting: &mut VecDeque<RolloutCommand>, at: Option<usize>, command: RolloutCommand) {
    if let Some(word) = at.and_then(|at| waiting.get_mut(at)) {
        *word = command;
    }
}

fn is_presence(waiting: &VecDeque<RolloutCommand>, at: Option<usize>) -> bool {
    let word = at.and_then(|at| waiting.get(at));
    matches!(word, Some(RolloutCommand::Available { .. } | RolloutCommand::Unavailable { .. }))
}

fn is_notice(word: &RolloutCommand) -> bool {
    matches!(word, RolloutCommand::Offered { .. })
}

/// Whom it is about; the clock is everyone's.
fn phone_of(command: &RolloutCommand) -> Option<&PhoneId> {
    match command {
        RolloutCommand::Offered { phone, .. }
        | RolloutCommand::Known { phone, .. }
        | RolloutCommand::Available { phone, .. }
        | RolloutCommand::Unavailable { phone, .. }
        | RolloutCommand::Installed { phone, .. }
        | RolloutCommand::Looked { phone, .. }
        | RolloutCommand::FailureTold { phone, .. } => Some(phone),
        RolloutCommand::ClockSet(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rack::event::UpgradeNotice;
    use crate::rack::ids::{PackageName, RolloutId, VersionCode};

    fn phone() -> PhoneId {
        PhoneId::new("P1")
    }

    fn here(version: u64) -> RolloutCommand {
        RolloutCommand::Available { phone: phone(), version_code: Some(VersionCode(version)) }
    }

    fn away(why: &str) -> RolloutCommand {
        RolloutCommand::Unavailable { phone: phone(), why: why.to_owned() }
    }

    fn installed(version: u64) -> RolloutCommand {
        RolloutCommand::Installed { phone: phone(), rollout: RolloutId::new("R1"), result: Ok(VersionCode(version)) }
    }

    fn offered(message_id: i64, version: u64) -> RolloutCommand {
        let package = PackageName::new("org.example.agent");
        let (version_code, version_name, url) = (VersionCode(version), String::new(), String::new());
        let notice = UpgradeNotice { message_id, package, version_code, version_name, url };
        RolloutCommand::Offered { phone: phone(), notice }
    }

    /// What comes out of a mailbox of one after these words.
    fn heard(words: impl IntoIterator<Item = RolloutCommand>) -> Vec<RolloutCommand> {
        let (mailbox, mut inbox) = mpsc::channel(1);
        let mut backlog = Backlog::new(mailbox);
        for word in words {
            assert_eq!(backlog.send(word), None);
        }
        let mut heard = Vec::new();
        while let Ok(word) = inbox.try_recv() {
            heard.push(word);
            backlog.flush();
        }
        heard
    }

    #[test]
    fn what_finds_no_room_waits_in_order() {
        let words = [offered(1, 2), offered(2, 3), away("unplugged"), here(1), installed(2)];
        assert_eq!(heard(words.clone()), words);
    }

    #[test]
    fn the_last_word_about_a_phone_takes_the_place_of_older_ones_and_absence_is_not_forgotten() {
        let first = offered(1, 2);
        let flapping = [away("a"), here(1), away("b"), here(1), away("c"), here(1)];
        let words = std::iter::once(first.clone()).chain(flapping);
        assert_eq!(heard(words), [first.clone(), away("c"), here(1)]);
        let words = [first.clone(), here(1), installed(2), here(2), here(3)];
        assert_eq!(heard(words), [first.clone(), here(1), installed(2), here(3)]);
        assert_eq!(heard([first.clone(), offered(2, 9), offered(3, 9)]), [first, offered(3, 9)]);
    }

    #[test]
    fn a_notice_too_many_is_answered() {
        let (mailbox, _inbox) = mpsc::channel(1);
        let mut backlog = Backlog::new(mailbox);
        for version in 0..=NOTICES_MAX {
            assert_eq!(backlog.send(offered(1, version as u64)), None);
        }
        let answer = backlog.send(offered(77, 1 << 40));
        let is_answer = matches!(answer, Some(Event::Rollout(RolloutEvent::ReportFailure { message_id: 77, .. })));
        assert!(is_answer, "{answer:?}");
        assert_eq!(backlog.send(installed(2)), None, "results were asked for and are always taken");
    }

    #[tokio::test]
    async fn there_is_room_once_a_word_was_taken() {
        let (mailbox, mut inbox) = mpsc::channel(1);
        let mut backlog = Backlog::new(mailbox);
        backlog.send(offered(1, 2));
        backlog.send(installed(2));
        assert_eq!(inbox.recv().await, Some(offered(1, 2)));
        backlog.room().await;
        backlog.flush();
        assert_eq!(inbox.recv().await, Some(installed(2)));
    }
}
