//! What the owner wants to be so on each phone, beside the agent's version: `[agent]` permissions, settings, exemption and start.
//!
//! Whatever is in here becomes part of a command line on a phone, within single quotes: the types hold nothing that could end them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use crate::rack::ids::PackageName;

/// The longest value of a setting, in characters.
const VALUE_MAX: usize = 200;
/// The longest name of a permission, a setting or a class, in characters.
const NAME_MAX: usize = 200;

/// What the owner wants to be so on each phone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Upkeep {
    /// What the agent shall be allowed to do.
    pub permissions: BTreeSet<Permission>,
    /// Android's settings.
    pub settings: BTreeMap<SettingName, SettingValue>,
    /// Whether the phone may put the agent to sleep to save power.
    pub battery: BatteryUse,
    /// How the agent is started where it does not run; `None` leaves that to the phone.
    pub start: Option<Start>,
    /// What shows that the agent works; the gate `agent` of rollouts goes by it, too.
    pub health: HealthSign,
    /// Between two looks at a phone, before jitter; an hour by default.
    pub every: Duration,
}

impl Default for Upkeep {
    fn default() -> Self {
        Self {
            permissions: BTreeSet::new(),
            settings: BTreeMap::new(),
            battery: BatteryUse::default(),
            start: None,
            health: HealthSign::default(),
            every: Duration::from_secs(3600),
        }
    }
}

impl Upkeep {
    /// Whether nothing is wanted.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        let Self { permissions, settings, battery, start, health: _, every: _ } = self;
        permissions.is_empty() && settings.is_empty() && *battery == BatteryUse::AsPhoneDecides && start.is_none()
    }
}

/// Whether the phone may put the agent to sleep to save power.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BatteryUse {
    /// It may.
    #[default]
    AsPhoneDecides,
    /// It may not, as far as it lets itself be told so: by the recipe for any Android and those for its ROM.
    Exempt,
}

/// A permission, by its whole name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Permission(String);

impl Permission {
    /// A permission by its name; Android's own may lack the `android.permission.` in front.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        let fits = is_name(name, |letter| letter.is_ascii_alphanumeric() || "_.".contains(letter));
        let whole =
            |name: &str| if name.contains('.') { name.to_owned() } else { format!("android.permission.{name}") };
        fits.then(|| Self(whole(name)))
    }

    /// Its whole name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A table of Android's settings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SettingsTable {
    /// Of the whole phone.
    Global,
    /// Of its user, out of apps' reach.
    Secure,
    /// Of its user.
    System,
}

impl SettingsTable {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Global, Self::Secure, Self::System];

    /// The word for it in the configuration and in Android.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Global => "global",
            Self::Secure => "secure",
            Self::System => "system",
        }
    }
}

/// One of Android's settings.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SettingName {
    /// Where it stands.
    pub table: SettingsTable,
    key: String,
}

impl SettingName {
    /// The setting of this name: letters, digits, `_`, `.`, `-` and `:`, at most 200 of them.
    #[must_use]
    pub fn new(table: SettingsTable, key: &str) -> Option<Self> {
        let fits = is_name(key, |letter| letter.is_ascii_alphanumeric() || "_.-:".contains(letter));
        fits.then(|| Self { table, key: key.to_owned() })
    }

    /// Its name within its table.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.key
    }
}

impl fmt::Display for SettingName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.table.as_str(), self.key)
    }
}

/// What a setting shall be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SettingValue(String);

impl SettingValue {
    /// A value: one line of at most 200 characters without single quotes and without white space at its ends.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let length_fits = (1..=VALUE_MAX).contains(&text.chars().count());
        let fits = length_fits && text.trim() == text && !text.contains(|c: char| c == '\'' || c.is_control());
        fits.then(|| Self(text.to_owned()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// How the agent is started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Start {
    /// As by a tap on its icon.
    Launcher,
    /// By an activity of this class, which may begin with a dot for the agent's own package.
    Activity(ClassName),
    /// By a service of this class.
    Service(ClassName),
    /// By a broadcast to a receiver of this class.
    Broadcast(ClassName),
}

impl Start {
    /// Reads `launcher`, `activity:CLASS`, `service:CLASS` or `broadcast:CLASS`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let Some((kind, class)) = text.split_once(':') else { return (text == "launcher").then_some(Self::Launcher) };
        let class = ClassName::new(class)?;
        Some(match kind {
            "activity" => Self::Activity(class),
            "service" => Self::Service(class),
            "broadcast" => Self::Broadcast(class),
            _ => return None,
        })
    }
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Launcher => f.write_str("launcher"),
            Self::Activity(class) => write!(f, "activity:{}", class.as_str()),
            Self::Service(class) => write!(f, "service:{}", class.as_str()),
            Self::Broadcast(class) => write!(f, "broadcast:{}", class.as_str()),
        }
    }
}

/// What shows that the agent works.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HealthSign {
    /// It has this process.
    Process(ProcessName),
    /// This service of it is there, and has a process.
    Service(ClassName),
}

impl Default for HealthSign {
    fn default() -> Self {
        Self::Process(ProcessName::default())
    }
}

impl HealthSign {
    /// Reads `process`, `process:NAME` or `service:CLASS`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        match text.split_once(':') {
            None => (text == "process").then(Self::default),
            Some(("process", name)) => ProcessName::new(name).map(Self::Process),
            Some(("service", class)) => ClassName::new(class).map(Self::Service),
            Some(_) => None,
        }
    }
}

impl fmt::Display for HealthSign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process(ProcessName(None)) => f.write_str("process"),
            Self::Process(ProcessName(Some(name))) => write!(f, "process:{name}"),
            Self::Service(class) => write!(f, "service:{}", class.as_str()),
        }
    }
}

/// A process of the agent; by itself the one that is called as its package.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProcessName(Option<String>);

impl ProcessName {
    /// A process by its name, as `android:process` of a manifest has it: letters, digits, `_`, `.` and `:`, at most 200 of them.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        let fits = is_name(name, |letter| letter.is_ascii_alphanumeric() || "_.:".contains(letter));
        fits.then(|| Self(Some(name.to_owned())))
    }

    /// Its whole name; one that begins with a colon begins with the package's name.
    #[must_use]
    pub fn whole(&self, package: &PackageName) -> String {
        match &self.0 {
            None => package.to_string(),
            Some(name) if name.starts_with(':') => format!("{package}{name}"),
            Some(name) => name.clone(),
        }
    }
}

/// A class of the agent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassName(String);

impl ClassName {
    /// A class by its name: letters, digits, `_`, `.` and `$`, at most 200 of them.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        let fits = is_name(name, |letter| letter.is_ascii_alphanumeric() || "_.$".contains(letter));
        fits.then(|| Self(name.to_owned()))
    }

    /// Its name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

fn is_name(text: &str, fits: impl Fn(char) -> bool) -> bool {
    (1..=NAME_MAX).contains(&text.len()) && text.chars().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_permission_is_one_of_androids_own() {
        let whole = |name| Permission::new(name).map(|permission| permission.as_str().to_owned());
        assert_eq!(whole("READ_SMS").unwrap(), "android.permission.READ_SMS");
        assert_eq!(whole("com.example.DO").unwrap(), "com.example.DO");
        for bad in ["", "A B", "A'; reboot '", "A\n", "$(id)"] {
            assert_eq!(whole(bad), None, "{bad}");
        }
    }

    #[test]
    fn nothing_ends_its_quotes() {
        assert_eq!(SettingValue::new("it's"), None);
        assert_eq!(SettingValue::new("a\nb"), None);
        assert_eq!(SettingValue::new(" 7"), None, "Android's answer could not be told from it");
        assert_eq!(SettingValue::new("7; reboot $(x)").unwrap().as_str(), "7; reboot $(x)");
        assert_eq!(SettingName::new(SettingsTable::Global, "a b"), None);
        assert_eq!(ClassName::new(".Main'"), None);
    }

    #[test]
    fn a_start_is_written_as_it_is_read() {
        for text in ["launcher", "activity:.Main", "service:org.example.Sync$Inner", "broadcast:.Boot"] {
            assert_eq!(Start::parse(text).unwrap().to_string(), text);
        }
        for bad in ["", "tap", "activity:", "activity:a b", "provider:.X"] {
            assert_eq!(Start::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_sign_of_health_is_written_as_it_is_read() {
        for text in ["process", "process::sync", "process:org.example.sync", "service:.Sync"] {
            assert_eq!(HealthSign::parse(text).unwrap().to_string(), text);
        }
        for bad in ["", "pulse", "process:", "process:a b", "service:", "service:.Sync'"] {
            assert_eq!(HealthSign::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_process_with_a_colon_is_one_of_the_agents_own() {
        let whole = |name: Option<&str>| {
            name.map_or_else(ProcessName::default, |name| ProcessName::new(name).unwrap())
                .whole(&PackageName::new("org.example.agent"))
        };
        assert_eq!(whole(None), "org.example.agent");
        assert_eq!(whole(Some(":sync")), "org.example.agent:sync");
        assert_eq!(whole(Some("org.example.sync")), "org.example.sync");
    }
}
