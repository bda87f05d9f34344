//! How a phone stands to what the owner wants to be so on it.

use serde::{Deserialize, Serialize};

use crate::clock::UnixMillis;

/// How a phone stands to what the owner wants to be so on it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct UpkeepView {
    /// When it was last looked at.
    pub looked: Option<UnixMillis>,
    /// The recipes of its ROM that are used.
    pub recipes: Vec<String>,
    /// Each thing that is wanted, in order.
    pub settings: Vec<SettingView>,
}

impl UpkeepView {
    /// Whether nothing was ever looked at.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// One thing that is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SettingView {
    /// What people and metrics call it: `permission READ_SMS`.
    pub name: String,
    /// What became of it last.
    pub state: SettingState,
    /// Why, as a clause; empty where it was as wanted.
    pub why: String,
    /// How often it was otherwise after it had been as wanted, since the daemon started.
    pub drifts: u32,
    /// How many of these times a restart of the phone lay between.
    pub lost_by_restart: u32,
    /// Restarts of the phone after which it was still as wanted.
    pub restarts_outlived: u32,
}

/// What became of one thing that is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SettingState {
    /// It was as wanted.
    Kept,
    /// It was otherwise, and was set.
    Set,
    /// It stays otherwise although it was set.
    Refused,
    /// It could not be read, so that it was not set.
    Unread,
    /// This phone has no such thing.
    NotHere,
    /// Only a hand on the phone can do it.
    Hand,
}

impl SettingState {
    /// All of them.
    pub const ALL: [Self; 6] = [Self::Kept, Self::Set, Self::Refused, Self::Unread, Self::NotHere, Self::Hand];

    /// The word for it in JSON, in tables and in labels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Set => "set",
            Self::Refused => "refused",
            Self::Unread => "unread",
            Self::NotHere => "not_here",
            Self::Hand => "hand",
        }
    }
}
