//! `[policy]`: what the central server may have phones do, how often, and when.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// What the owner of the rack allows the central server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    /// Each group that is allowed, and how much of it.
    pub allowed: BTreeMap<PolicyGroup, Allowance>,
    /// When nothing that acts on people passes, whatever its group's own hours are.
    pub quiet_hours: Option<QuietHours>,
}

impl Default for Policy {
    /// The centre may see to the handsets, and to nothing else.
    fn default() -> Self {
        Self { allowed: BTreeMap::from([(PolicyGroup::Device, Allowance::default())]), quiet_hours: None }
    }
}

impl Policy {
    /// The hours in which this group is refused, of its own and of all.
    pub fn quiet_hours_of(&self, group: PolicyGroup) -> impl Iterator<Item = QuietHours> {
        let of_all = self.quiet_hours.filter(|_| matches!(group, PolicyGroup::People(_) | PolicyGroup::Unknown));
        let own = self.allowed.get(&group).and_then(|allowance| allowance.quiet_hours);
        [of_all, own].into_iter().flatten()
    }
}

/// How much of a group passes to one phone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Allowance {
    /// How often.
    pub rate: Rate,
    /// When not at all.
    pub quiet_hours: Option<QuietHours>,
}

/// How often something passes: `burst` at once, then `per_minute`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rate {
    /// So many a minute in the long run.
    pub per_minute: NonZeroU32,
    /// So many at once.
    pub burst: NonZeroU32,
}

impl Default for Rate {
    /// More than a person at a desk asks for, and less than a program that has gone wild.
    fn default() -> Self {
        let thirty = NonZeroU32::MIN.saturating_add(29);
        Self { per_minute: thirty, burst: thirty }
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} a minute, {} at once", self.per_minute, self.burst)
    }
}

/// A minute of the day by the rack's own clock, from 0 to 1439.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct MinuteOfDay(u16);

impl MinuteOfDay {
    /// `None` for what no clock shows.
    #[must_use]
    pub const fn new(hour: u8, minute: u8) -> Option<Self> {
        if hour < 24 && minute < 60 { Some(Self(hour as u16 * 60 + minute as u16)) } else { None }
    }
}

/// Hours of each day, `22:00-07:00`: from the first time on, until right before the second; over midnight where that is earlier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct QuietHours {
    from: MinuteOfDay,
    until: MinuteOfDay,
}

impl QuietHours {
    /// Whether it is quiet at this time of the day.
    #[must_use]
    pub fn contain(self, now: MinuteOfDay) -> bool {
        if self.from < self.until { self.from <= now && now < self.until } else { self.from <= now || now < self.until }
    }
}

impl FromStr for QuietHours {
    type Err = NoHours;

    fn from_str(text: &str) -> Result<Self, NoHours> {
        let time = |text: &str| {
            let (hour, minute) = text.trim().split_once(':')?;
            let digits = |text: &str| text.len() <= 2 && text.bytes().all(|byte| byte.is_ascii_digit());
            if !digits(hour) || minute.len() != 2 || !digits(minute) {
                return None;
            }
            MinuteOfDay::new(hour.parse().ok()?, minute.parse().ok()?)
        };
        let (from, until) = text.split_once('-').ok_or(NoHours)?;
        match (time(from), time(until)) {
            (Some(from), Some(until)) if from != until => Ok(Self { from, until }),
            _ => Err(NoHours),
        }
    }
}

impl TryFrom<String> for QuietHours {
    type Error = NoHours;

    fn try_from(text: String) -> Result<Self, NoHours> {
        text.parse()
    }
}

impl From<QuietHours> for String {
    fn from(hours: QuietHours) -> Self {
        hours.to_string()
    }
}

impl fmt::Display for QuietHours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, until) = (self.from.0, self.until.0);
        write!(f, "{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, until / 60, until % 60)
    }
}

/// A text names no hours of the day.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("hours of the day are written as 22:00-07:00")]
pub struct NoHours;

/// A group of messages that the owner can allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "&'static str")]
pub enum PolicyGroup {
    /// About the handset itself.
    Device,
    /// It acts on people.
    People(PeopleGroup),
    /// A code that the catalogue does not have.
    Unknown,
}

impl PolicyGroup {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::Device,
        Self::People(PeopleGroup::Messages),
        Self::People(PeopleGroup::Friends),
        Self::People(PeopleGroup::Groups),
        Self::People(PeopleGroup::Moments),
        Self::People(PeopleGroup::Money),
        Self::People(PeopleGroup::Upkeep),
        Self::People(PeopleGroup::Read),
        Self::People(PeopleGroup::Sms),
        Self::People(PeopleGroup::Calls),
        Self::People(PeopleGroup::Account),
        Self::Unknown,
    ];

    /// Its name in the configuration and in sentences.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::People(group) => group.name(),
            Self::Unknown => "unknown",
        }
    }
}

impl From<PolicyGroup> for &'static str {
    fn from(group: PolicyGroup) -> Self {
        group.name()
    }
}

impl TryFrom<String> for PolicyGroup {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|group| group.name() == name)
            .ok_or_else(|| format!("no policy group is called {name}"))
    }
}

/// The groups of tasks that act on people, each allowed by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum PeopleGroup {
    /// Says, forwards, revokes.
    Messages,
    /// Adds, describes, removes friends.
    Friends,
    /// Changes chat rooms and who is in them.
    Groups,
    /// Publishes, likes, comments.
    Moments,
    /// Moves money or looks into the wallet.
    Money,
    /// Account upkeep.
    Upkeep,
    /// Collects other people's data.
    Read,
    /// Sends and reads short messages of the phone.
    Sms,
    /// Makes calls and reads their log.
    Calls,
    /// Log-out, settings, keys, location.
    Account,
}

impl PeopleGroup {
    /// Its name in the configuration and in sentences.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Messages => "people.messages",
            Self::Friends => "people.friends",
            Self::Groups => "people.groups",
            Self::Moments => "people.moments",
            Self::Money => "people.money",
            Self::Upkeep => "people.upkeep",
            Self::Read => "people.read",
            Self::Sms => "people.sms",
            Self::Calls => "people.calls",
            Self::Account => "people.account",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(hour: u8, minute: u8) -> MinuteOfDay {
        MinuteOfDay::new(hour, minute).unwrap()
    }

    #[test]
    fn hours_may_go_over_midnight() {
        let night: QuietHours = "22:00-7:30".parse().unwrap();
        assert!(night.contain(at(22, 0)) && night.contain(at(0, 0)) && night.contain(at(7, 29)));
        assert!(!night.contain(at(7, 30)) && !night.contain(at(21, 59)));
        let noon: QuietHours = "12:00-13:00".parse().unwrap();
        assert!(noon.contain(at(12, 59)) && !noon.contain(at(13, 0)) && !noon.contain(at(0, 0)));
        for text in ["", "22-7", "22:00", "24:00-01:00", "22:60-23:00", "22:00-22:00", "+2:00-03:00", "22:0-23:00"] {
            assert_eq!(text.parse::<QuietHours>(), Err(NoHours), "{text}");
        }
    }

    proptest! {
        #[test]
        fn hours_are_read_as_they_are_written(from in (0..24u8, 0..60u8), until in (0..24u8, 0..60u8), text in ".{0,20}") {
            let (from, until) = (at(from.0, from.1), at(until.0, until.1));
            prop_assume!(from != until);
            let hours = QuietHours { from, until };
            prop_assert_eq!(hours.to_string().parse(), Ok(hours));
            prop_assert!(hours.contain(from) && !hours.contain(until));
            let _ = text.parse::<QuietHours>();
        }
    }

    #[test]
    fn a_policy_goes_over_the_api_and_back() {
        let mut policy = Policy { quiet_hours: "22:00-07:00".parse().ok(), ..Policy::default() };
        for group in PolicyGroup::ALL {
            policy.allowed.insert(group, Allowance { quiet_hours: "1:00-2:00".parse().ok(), ..Allowance::default() });
        }
        let json = serde_json::to_string(&policy).unwrap();
        assert!(json.contains("\"people.money\":{\"rate\":{\"per_minute\":30"), "{json}");
        assert_eq!(serde_json::from_str::<Policy>(&json).unwrap(), policy);
    }
}
