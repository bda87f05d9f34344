//! The policy: which messages of the centre may reach a phone or be answered by the rack.
//!
//! What a phone sends goes up untouched and is no matter of this module. What the centre sends is judged by group; nothing that
//! acts on people passes until the owner allows its group by name.
//!
//! Invariant: under the default policy exactly 1002, 1003, 1011, 1013, 1015, 1016, 1094, 1096, 1097, 1099, 1100, 1256 pass, and 1223
//! by its Action (`the_default_policy_lets_exactly_these_pass`).
//! Invariant: [`Group::Stop`] always passes; [`Group::Server`] and [`Group::Desktop`] never do.

use std::collections::BTreeSet;

use prost::Message as _;

use super::catalogue::{Entry, Group, Kind, Path, PeopleGroup, lookup};
use super::proto::{EnumMsgType, EnumPhoneAction, PhoneActionTaskMessage};

/// What the owner of the rack allows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    people: BTreeSet<PeopleGroup>,
    device: DeviceTasks,
    unknown: UnknownCodes,
}

/// Whether the centre may see to the handsets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeviceTasks {
    /// It may.
    #[default]
    Allowed,
    /// It may not.
    Refused,
}

/// What becomes of codes that the catalogue does not have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum UnknownCodes {
    /// They are refused and counted.
    #[default]
    Refused,
    /// They are carried to the agent.
    Allowed,
}

impl Policy {
    /// A policy that allows these groups of tasks that act on people.
    #[must_use]
    pub fn new(people: BTreeSet<PeopleGroup>, device: DeviceTasks, unknown: UnknownCodes) -> Self {
        Self { people, device, unknown }
    }

    /// Judges a message that the centre sends to a phone by its code and, where an inner field decides, its content.
    #[must_use]
    pub fn judge(&self, code: i32, content: &[u8]) -> Verdict {
        let Some(entry) = lookup(code) else {
            return self.by_group(Group::Unknown);
        };
        if !goes_down(entry) {
            return Verdict::Refuse(Refusal::WrongDirection);
        }
        self.by_group(group_of(entry, content))
    }

    fn by_group(&self, group: Group) -> Verdict {
        let allowed = match group {
            Group::Session | Group::Stop => true,
            Group::Device => self.device == DeviceTasks::Allowed,
            Group::People(people) => self.people.contains(&people),
            Group::Unknown => self.unknown == UnknownCodes::Allowed,
            Group::Server | Group::Desktop | Group::Result | Group::PeopleUp => false,
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
        let policy = Policy::new(BTreeSet::from([PeopleGroup::Money]), DeviceTasks::default(), UnknownCodes::default());
        assert_eq!(policy.judge(1217, &[]), Verdict::Pass, "SendLuckyMoneyTask");
        assert_eq!(
            policy.judge(1070, &[]),
            Verdict::Refuse(Refusal::Group(Group::People(PeopleGroup::Messages))),
            "TalkToFriendTask"
        );
    }

    #[test]
    fn stopping_an_act_is_never_refused_and_the_desktops_words_always_are() {
        let nothing = Policy::new(BTreeSet::new(), DeviceTasks::Refused, UnknownCodes::Refused);
        let everything = Policy::new(
            entries()
                .iter()
                .filter_map(|e| if let Group::People(group) = e.group { Some(group) } else { None })
                .collect(),
            DeviceTasks::Allowed,
            UnknownCodes::Allowed,
        );
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
