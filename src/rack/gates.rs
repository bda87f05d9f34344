//! The gates between waves: what the phones of a wave must show before the next one begins, and how many of them must.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::ids::VersionCode;

/// What is looked at on each phone that got the version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Gate {
    /// The agent reports the version, and a process of it runs.
    Agent,
    /// Its line to the central server is registered again.
    Line,
    /// The agent has not crashed, and has not failed to answer, since the install.
    Crashes,
    /// Its line has had about as many heartbeats acknowledged since the install as in the same time before.
    Heartbeats,
}

impl Gate {
    /// All of them, in the order in which they are looked at.
    pub const ALL: [Self; 4] = [Self::Agent, Self::Line, Self::Crashes, Self::Heartbeats];

    /// The word for it in the configuration and in sentences.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Agent => "agent",
            Self::Line => "line",
            Self::Crashes => "crashes",
            Self::Heartbeats => "heartbeats",
        }
    }
}

/// So many percent of a wave's phones must pass, 1 to 100.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Least(u8);

impl Least {
    /// Whether `passed` of `total` are enough.
    #[must_use]
    pub fn is_met(self, passed: usize, total: usize) -> bool {
        passed.saturating_mul(100) >= total.saturating_mul(self.0.into())
    }
}

impl fmt::Display for Least {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}%", self.0)
    }
}

/// A text is no threshold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a threshold is a share of the phones from 1% to 100%")]
pub struct NoLeast;

impl FromStr for Least {
    type Err = NoLeast;

    fn from_str(text: &str) -> Result<Self, NoLeast> {
        let digits = text.strip_suffix('%').filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
        let percent = digits.and_then(|digits| digits.parse().ok()).filter(|percent| (1..=100).contains(percent));
        percent.map(Self).ok_or(NoLeast)
    }
}

impl TryFrom<String> for Least {
    type Error = NoLeast;

    fn try_from(text: String) -> Result<Self, NoLeast> {
        text.parse()
    }
}

impl From<Least> for String {
    fn from(least: Least) -> Self {
        least.to_string()
    }
}

/// The thresholds of all gates; a gate without one is not looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Gates {
    /// Of [`Gate::Agent`].
    pub agent: Option<Least>,
    /// Of [`Gate::Line`].
    pub line: Option<Least>,
    /// Of [`Gate::Crashes`].
    pub crashes: Option<Least>,
    /// Of [`Gate::Heartbeats`].
    pub heartbeats: Option<Least>,
}

impl Gates {
    /// Those that are looked at.
    pub fn on(&self) -> impl Iterator<Item = (Gate, Least)> + '_ {
        Gate::ALL.into_iter().filter_map(|gate| Some((gate, self.of(gate)?)))
    }

    const fn of(&self, gate: Gate) -> Option<Least> {
        match gate {
            Gate::Agent => self.agent,
            Gate::Line => self.line,
            Gate::Crashes => self.crashes,
            Gate::Heartbeats => self.heartbeats,
        }
    }
}

/// How a phone fares since an install. What could not be learnt is `None`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// The version that the agent reports.
    pub version: Option<VersionCode>,
    /// Whether a process of the agent runs.
    pub running: Option<bool>,
    /// Its faults since the install, as phrases.
    pub faults: Option<Vec<String>>,
    /// Whether its line is registered; `None` without a central server.
    pub registered: Option<bool>,
    /// Heartbeats that the server has acknowledged; `None` without a central server.
    pub heartbeats: Option<Heartbeats>,
}

/// Heartbeats that the server has acknowledged around an install.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heartbeats {
    /// Before it, in as long a time as has passed since.
    pub before: u32,
    /// Since.
    pub since: u32,
}

/// How a phone stands at a gate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It passes.
    Passes,
    /// It does not, for this reason, as a phrase.
    Fails(String),
    /// That can't be said, for this reason, as a phrase.
    Unknown(String),
}

impl Health {
    /// A phone on which nothing is wrong.
    #[must_use]
    pub const fn well(version: VersionCode) -> Self {
        Self {
            version: Some(version),
            running: Some(true),
            faults: Some(Vec::new()),
            registered: Some(true),
            heartbeats: Some(Heartbeats { before: 0, since: 0 }),
        }
    }

    /// How a phone that shall have `version` stands at a gate.
    #[must_use]
    pub fn at(&self, gate: Gate, version: VersionCode) -> Verdict {
        match gate {
            Gate::Agent => self.agent(version),
            Gate::Line => match self.registered {
                None => Verdict::Unknown("no central server is configured".to_owned()),
                Some(true) => Verdict::Passes,
                Some(false) => Verdict::Fails("its line is not registered".to_owned()),
            },
            Gate::Crashes => match self.faults.as_deref() {
                None => Verdict::Unknown("its dropbox can't be read".to_owned()),
                Some([]) => Verdict::Passes,
                Some([.., last]) => Verdict::Fails(last.clone()),
            },
            Gate::Heartbeats => match self.heartbeats {
                None => Verdict::Unknown("no central server is configured".to_owned()),
                // One may fall on either side of the install.
                Some(Heartbeats { before, since }) if since + 1 >= before => Verdict::Passes,
                Some(Heartbeats { before, since }) => {
                    Verdict::Fails(format!("{since} heartbeats were acknowledged since the install, {before} before"))
                }
            },
        }
    }

    fn agent(&self, wanted: VersionCode) -> Verdict {
        match (self.version, self.running) {
            (None, _) => Verdict::Fails("the agent is not installed".to_owned()),
            (Some(version), _) if version != wanted => Verdict::Fails(format!("the agent reports version {version}")),
            (_, None) => Verdict::Unknown("whether the agent runs can't be seen".to_owned()),
            (_, Some(false)) => Verdict::Fails("the agent does not run".to_owned()),
            (_, Some(true)) => Verdict::Passes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_threshold_is_a_share_and_nothing_else() {
        for text in ["1%", "95%", "100%"] {
            assert_eq!(text.parse::<Least>().unwrap().to_string(), text);
        }
        for text in ["", "%", "0%", "101%", "95", "9.5%", "-1%", "+1%", "most"] {
            assert_eq!(text.parse::<Least>(), Err(NoLeast), "{text}");
        }
        let most: Least = "67%".parse().unwrap();
        assert!(most.is_met(3, 3) && !most.is_met(2, 3) && most.is_met(67, 100) && most.is_met(0, 0));
    }

    #[test]
    fn what_is_not_known_is_no_pass() {
        let unknown = Health { version: Some(VersionCode(2)), ..Health::default() };
        for gate in Gate::ALL {
            assert!(matches!(unknown.at(gate, VersionCode(2)), Verdict::Unknown(_)), "{gate:?}");
        }
        let well = Health { heartbeats: Some(Heartbeats { before: 5, since: 4 }), ..Health::well(VersionCode(2)) };
        assert!(Gate::ALL.iter().all(|gate| well.at(*gate, VersionCode(2)) == Verdict::Passes));
        assert!(matches!(well.at(Gate::Agent, VersionCode(3)), Verdict::Fails(_)));
        assert!(matches!(
            Health { heartbeats: Some(Heartbeats { before: 5, since: 3 }), ..well }
                .at(Gate::Heartbeats, VersionCode(2)),
            Verdict::Fails(_)
        ));
    }
}
