//! What becomes of a message type, and why, for a person.

use serde::Serialize;

use super::{Policy, Refusal, Verdict, action_group, goes_down, owners_group};
use crate::central::catalogue::{self, Entry, Group, Path};
use crate::central::proto::{EnumMsgType, EnumPhoneAction};

/// What happens to a message type, both ways.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// Its number.
    pub code: i32,
    /// Its name, where it has one.
    pub name: Option<&'static str>,
    /// The act inside, where that decides.
    pub act: Option<&'static str>,
    /// The group that decides about it.
    pub group: &'static str,
    /// What happens to it from the centre to a phone, as a sentence.
    pub from_centre: String,
    /// What happens to it from a phone's agent to the centre, as a sentence.
    pub from_phone: String,
}

impl Policy {
    /// Explains the message types that a person calls so, by number or by name in any case; one for each act where the group depends on
    /// what is inside. Empty if the catalogue has no such name.
    #[must_use]
    pub fn explain(&self, what: &str) -> Vec<Explanation> {
        let by_name = || catalogue::entries().iter().find(|entry| entry.name.eq_ignore_ascii_case(what));
        let entry = match what.parse::<i32>() {
            Ok(code) => match catalogue::lookup(code) {
                Some(entry) => entry,
                None => return vec![self.unknown(code)],
            },
            Err(_) => match by_name() {
                Some(entry) => entry,
                None => return Vec::new(),
            },
        };
        if entry.code != EnumMsgType::PhoneActionTask as i32 {
            return vec![self.known(entry, entry.group, None)];
        }
        let actions = (0..=i32::from(u8::MAX)).filter_map(|action| EnumPhoneAction::try_from(action).ok());
        actions.map(|action| self.known(entry, action_group(action), Some(action.as_str_name()))).collect()
    }

    fn unknown(&self, code: i32) -> Explanation {
        Explanation {
            code,
            name: None,
            act: None,
            group: Group::Unknown.name(),
            from_centre: self.down(Group::Unknown, "carried to the phone's agent"),
            from_phone: "carried up untouched, and counted by number".to_owned(),
        }
    }

    fn known(&self, entry: &Entry, group: Group, act: Option<&'static str>) -> Explanation {
        let passes = match entry.path {
            Path::Made => "it ends at farmhand, which makes its own towards the agent",
            Path::Rack if an_agent_answers(entry.code) => {
                "taken in by the rack itself, or carried to the phone's agent while one is connected"
            }
            Path::Rack => "taken in by the rack itself",
            Path::CarriedDown | Path::CarriedUp | Path::Refused => "carried to the phone's agent",
        };
        let down = if goes_down(entry) {
            self.down(group, passes)
        } else {
            "refused with NoRight: nothing that a central server sends to a phone".to_owned()
        };
        let up = match entry.path {
            Path::Made => "it ends at farmhand, which makes its own towards the centre",
            Path::CarriedUp => "carried up untouched",
            Path::CarriedDown | Path::Rack => "carried up untouched, though only a centre sends it",
            Path::Refused => "refused with NoRight: never on a phone's line",
        };
        let (code, name) = (entry.code, Some(entry.name));
        Explanation { code, name, act, group: group.name(), from_centre: down, from_phone: up.to_owned() }
    }

    fn down(&self, group: Group, passes: &str) -> String {
        match self.by_group(group) {
            Verdict::Refuse(refusal) => format!("refused with NoRight: {}", refusal.sentence()),
            Verdict::Pass => match owners_group(group) {
                None => passes.to_owned(),
                Some(owners) => {
                    let rate = self.rules.allowed.get(&owners).map(|allowance| allowance.rate).unwrap_or_default();
                    let quiet: String =
                        self.rules.quiet_hours_of(owners).map(|hours| format!(", not during {hours}")).collect();
                    format!("{passes}; for each phone {rate}{quiet}")
                }
            },
        }
    }
}

/// Of what the rack can answer, what is left to an agent that is connected.
fn an_agent_answers(code: i32) -> bool {
    matches!(
        EnumMsgType::try_from(code),
        Ok(EnumMsgType::TriggerDeviceInfo | EnumMsgType::PhoneStateTask | EnumMsgType::ScreenShotTask)
    )
}

impl Refusal {
    /// Why, as the end of a sentence that begins with the message's name.
    #[must_use]
    pub fn sentence(self) -> String {
        match self {
            Self::Group(Group::Unknown) => "it is not known to this rack".to_owned(),
            Self::Group(group @ (Group::Server | Group::Desktop)) => {
                format!("the group {} is never passed to a phone", group.name())
            }
            Self::Group(group) => format!("the owner of this rack has not allowed {}", group.name()),
            Self::WrongDirection => "nothing that a central server sends to a phone".to_owned(),
            Self::Quiet(group, hours) => format!("the owner of this rack has {} rest during {hours}", group.name()),
            Self::TooMany(group, rate) => {
                format!("the owner of this rack allows of {} for each phone {rate}", group.name())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_type_is_found_by_number_and_by_name() {
        let policy = Policy::default();
        let talk = policy.explain("1070");
        assert_eq!(policy.explain("talktofriendtask"), talk);
        assert_eq!(talk[0].from_centre, "refused with NoRight: the owner of this rack has not allowed people.messages");
        assert_eq!(
            policy.explain("1094")[0].from_centre,
            "taken in by the rack itself; for each phone 30 a minute, 30 at once"
        );
        assert_eq!(policy.explain("4711")[0].from_centre, "refused with NoRight: it is not known to this rack");
        assert_eq!(policy.explain("NoSuchTask"), []);
    }

    #[test]
    fn an_act_on_the_phone_is_explained_action_by_action() {
        let acts = Policy::default().explain("PhoneActionTask");
        let passing = acts.iter().filter(|act| !act.from_centre.starts_with("refused")).count();
        assert_eq!((acts.len(), passing), (10, 3));
    }

    #[test]
    fn what_is_explained_is_what_happens() {
        let policy = Policy::default();
        for entry in catalogue::entries().iter().filter(|entry| entry.code != EnumMsgType::PhoneActionTask as i32) {
            let refused = policy.explain(entry.name)[0].from_centre.starts_with("refused");
            assert_eq!(refused, policy.judge(entry.code, &[]) != Verdict::Pass, "{}", entry.name);
        }
    }
}
