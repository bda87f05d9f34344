//! The policy: which messages of the centre may reach a phone or be answered by the rack.
//!
//! ```text
//!     code, content ──▶ Policy::judge (group: allowed at all?) ──▶ Gate::judge (quiet hours? too many?) ──▶ Judgement
//! ```
//!
//! What a phone sends goes up untouched and is no matter of this module. What the centre sends is judged by group; nothing that
//! acts on people passes until the owner allows its group by name. A [`Gate`] is that of one phone: it also counts.
//!
//! Invariant: under the default policy exactly 1002, 1003, 1011, 1013, 1015, 1016, 1094, 1096, 1097, 1099, 1100, 1256 pass, and 1223
//! by its Action (`the_default_policy_lets_exactly_these_pass`).
//! Invariant: [`Group::Stop`] always passes; [`Group::Server`] and [`Group::Desktop`] never do.

mod explain;
mod gate;

use prost::Message as _;

pub use self::explain::Explanation;
pub(in crate::central) use self::gate::HandMoved;
pub use self::gate::{Gate, Now};
use super::catalogue::{Entry, Group, Kind, Path, PeopleGroup, lookup};
use super::proto::{EnumMsgType, EnumPhoneAction, PhoneActionTaskMessage};
use crate::config::{self, PolicyGroup, QuietHours, Rate};

/// Which groups the owner of the rack allows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    rules: config::Policy,
}

impl From<config::Policy> for Policy {
    fn from(rules: config::Policy) -> Self {
        Self { rules }
    }
}

impl Policy {
    /// Judges a message that the centre sends to a phone by its code and, where an inner field decides, its content.
    #[must_use]
    pub fn judge(&self, code: i32, content: &[u8]) -> Verdict {
        match group_for(code, content) {
            Some(group) => self.by_group(group),
            None => Verdict::Refuse(Refusal::WrongDirection),
        }
    }

    fn by_group(&self, group: Group) -> Verdict {
        let allowed = match (group, owners_group(group)) {
            (_, Some(owners)) => self.rules.allowed.contains_key(&owners),
            (Group::Session | Group::Stop, None) => true,
            (_, None) => false,
        };
        if allowed { Verdict::Pass } else { Verdict::Refuse(Refusal::Group(group)) }
    }
}

/// What the policy says of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It may pass.
    Pass,
    /// It is answered with Error NoRight.
    Refuse(Refusal),
}

/// Why a message may not pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The owner has not allowed this group.
    Group(Group),
    /// The centre never sends this to a phone.
    WrongDirection,
    /// Not at this time of the day.
    Quiet(Group, QuietHours),
    /// This phone had as many as it may have.
    TooMany(Group, Rate),
}

/// The group that decides about a message of the centre; `None` if the centre never sends it to a phone.
fn group_for(code: i32, content: &[u8]) -> Option<Group> {
    match lookup(code) {
        None => Some(Group::Unknown),
        Some(entry) => goes_down(entry).then(|| group_of(entry, content)),
    }
}

/// The group by the name that the owner can allow it by.
fn owners_group(group: Group) -> Option<PolicyGroup> {
    match group {
        Group::Device => Some(PolicyGroup::Device),
        Group::People(people) => Some(PolicyGroup::People(people)),
        Group::Unknown => Some(PolicyGroup::Unknown),
        Group::Session | Group::Server | Group::Desktop | Group::Stop | Group::Result | Group::PeopleUp => None,
    }
}

/// Of the session's own messages, requests are the phone's to send; results and notices of a phone only go up.
fn goes_down(entry: &Entry) -> bool {
    match entry.path {
        Path::Made => entry.kind != Kind::Request,
        Path::CarriedDown | Path::Rack => true,
        Path::CarriedUp | Path::Refused => false,
    }
}

/// The group of the entry, or that of the act inside: `PhoneActionTask` is in three groups.
fn group_of(entry: &Entry, content: &[u8]) -> Group {
    if entry.code != EnumMsgType::PhoneActionTask as i32 {
        return entry.group;
    }
    match PhoneActionTaskMessage::decode(content) {
        Ok(task) => action_group(task.action()),
        Err(_) => entry.group,
    }
}

fn action_group(action: EnumPhoneAction) -> Group {
    match action {
        EnumPhoneAction::Reboot | EnumPhoneAction::RestartSelf | EnumPhoneAction::CleanAppCache => Group::Device,
        EnumPhoneAction::UploadLog | EnumPhoneAction::UploadFile => Group::People(PeopleGroup::Read),
        EnumPhoneAction::PhoneCall => Group::People(PeopleGroup::Calls),
        EnumPhoneAction::None
        | EnumPhoneAction::CleanWxCache
        | EnumPhoneAction::CleanFileUrlCache
        | EnumPhoneAction::RestartWx => Group::People(PeopleGroup::Account),
    }
}

#[cfg(test)]
mod tests {
    use super::super::catalogue::entries;
    use super::*;

    fn passing(policy: &Policy) -> Vec<i32> {
        entries().iter().map(|e| e.code).filter(|code| policy.judge(*code, &[]) == Verdict::Pass).collect()
    }

    fn allowing(groups: &[PolicyGroup]) -> Policy {
        let allowed = groups.iter().map(|group| (*group, config::Allowance::default())).collect();
        config::Policy { allowed, quiet_hours: None }.into()
    }

    fn phone_action(action: i32) -> Vec<u8> {
        PhoneActionTaskMessage { action, ..Default::default() }.encode_to_vec()
    }

    #[test]
    fn the_default_policy_lets_exactly_these_pass() {
        let without_1223 = [1002, 1003, 1011, 1013, 1015, 1016, 1094, 1096, 1097, 1099, 1100, 1256];
        assert_eq!(passing(&Policy::default()), without_1223);
    }

    #[test]
    fn an_act_on_the_phone_is_judged_by_its_action() {
        let passing: Vec<i32> =
            (0..12).filter(|action| Policy::default().judge(1223, &phone_action(*action)) == Verdict::Pass).collect();
        assert_eq!(passing, [1, 4, 10], "Reboot, CleanAppCache, RestartSelf");
    }

    #[test]
    fn an_action_that_nobody_knows_is_the_accounts() {
        let refused = Verdict::Refuse(Refusal::Group(Group::People(PeopleGroup::Account)));
        assert_eq!(Policy::default().judge(1223, &phone_action(77)), refused);
        assert_eq!(Policy::default().judge(1223, &[0xff, 0xff]), refused, "and so is one that does not decode");
    }

    #[test]
    fn a_group_is_allowed_by_name_and_alone() {
        let policy = allowing(&[PolicyGroup::People(PeopleGroup::Money)]);
        assert_eq!(policy.judge(1217, &[]), Verdict::Pass, "SendLuckyMoneyTask");
        assert_eq!(
            policy.judge(1070, &[]),
            Verdict::Refuse(Refusal::Group(Group::People(PeopleGroup::Messages))),
            "TalkToFriendTask"
        );
    }

    #[test]
    fn stopping_an_act_is_never_refused_and_the_desktops_words_always_are() {
        let nothing = allowing(&[]);
        let everything = allowing(&PolicyGroup::ALL);
        for code in [1096, 1099, 1100] {
            assert_eq!(nothing.judge(code, &[]), Verdict::Pass);
        }
        assert_ne!(nothing.judge(1094, &[]), Verdict::Pass, "the owner may refuse the device group");
        for code in entries().iter().map(|e| e.code).filter(|code| *code >= 3000 || *code == 1012 || *code == 1093) {
            assert_ne!(everything.judge(code, &[]), Verdict::Pass, "{code}");
        }
        assert_eq!(everything.judge(4711, &[]), Verdict::Pass);
    }

    #[test]
    fn a_code_that_nobody_knows_is_refused() {
        assert_eq!(Policy::default().judge(4711, &[]), Verdict::Refuse(Refusal::Group(Group::Unknown)));
        assert_eq!(Policy::default().judge(-1, &[]), Verdict::Refuse(Refusal::Group(Group::Unknown)));
        assert_eq!(Policy::default().judge(0, &[]), Verdict::Refuse(Refusal::Group(Group::Unknown)));
    }
}
