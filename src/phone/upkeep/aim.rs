//! One thing that shall be so on a phone: the question that shows it, the command that makes it so, and what an answer means.
//!
//! The formats are those of AOSP's `dumpsys package`, `dumpsys deviceidle`, `settings`, `am` and `appops`. An answer in another form is
//! no answer: what cannot be read is not set.

use serde::Deserialize;

use crate::config::{ClassName, HealthSign, Permission, SettingName, SettingValue, SettingsTable, Start};
use crate::phone::profile::health;
use crate::rack::ids::PackageName;

/// The longest piece of a phone's own words that is repeated to people, in characters.
const QUOTED_MAX: usize = 120;
/// An app that was just started has its process after this.
const START_TAKES: &str = "sleep 2; ";

/// One thing that shall be so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Aim {
    /// The agent has a permission.
    Permission(Permission),
    /// One of Android's settings has a value.
    Setting(SettingName, SettingValue),
    /// The agent is on doze's whitelist.
    DozeWhitelist,
    /// The agent is in this standby bucket or a better one.
    Bucket(Bucket),
    /// An operation of the agent is in a mode.
    AppOp {
        /// As `appops` is told it.
        op: String,
        /// As `appops` answers with it.
        told_as: String,
        /// What it shall be.
        mode: AppOpMode,
    },
    /// The agent works.
    Running {
        /// How it is started.
        start: Start,
        /// What shows that it works.
        sign: HealthSign,
    },
    /// Only a hand can do it; nothing shows whether somebody did.
    Hand(String),
}

/// An app standby bucket, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Bucket {
    /// In use.
    Active,
    /// In use on most days.
    WorkingSet,
    /// In use now and then.
    Frequent,
}

impl Bucket {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::WorkingSet => "working_set",
            Self::Frequent => "frequent",
        }
    }

    /// `UsageStatsManager.STANDBY_BUCKET_*`; a lower one is better, and 5 is that of the exempted.
    const fn number(self) -> u32 {
        match self {
            Self::Active => 10,
            Self::WorkingSet => 20,
            Self::Frequent => 30,
        }
    }
}

/// The mode of an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AppOpMode {
    /// It may be done.
    Allow,
    /// It is not done, and nobody is told.
    Ignore,
}

impl AppOpMode {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Allow => "allow",
            Self::Ignore => "ignore",
        }
    }
}

/// What an answer shows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// It is so.
    AsWanted,
    /// It is not so; what it is instead, as a clause.
    Otherwise(String),
    /// This phone has no such thing; why, as a clause.
    NotHere(String),
    /// The answer does not tell; what it was, as a clause.
    Unread(String),
}

impl Aim {
    /// Whether it is about the agent, which must be installed for it.
    #[must_use]
    pub const fn is_of_agent(&self) -> bool {
        !matches!(self, Self::Setting(..))
    }

    /// What shows whether it is so.
    #[must_use]
    pub fn question(&self, agent: &PackageName) -> Option<String> {
        Some(match self {
            Self::Permission(_) => package_question(agent),
            Self::Setting(name, _) => format!("settings get {} '{}'", name.table.as_str(), name.key()),
            Self::DozeWhitelist => "dumpsys deviceidle whitelist".to_owned(),
            Self::Bucket(_) => format!("am get-standby-bucket {agent}"),
            Self::AppOp { op, .. } => format!("appops get {agent} {op}"),
            Self::Running { sign, .. } => health::question(sign, agent),
            Self::Hand(_) => return None,
        })
    }

    /// What shows whether it is so right after [`Self::command`].
    #[must_use]
    pub fn question_after(&self, agent: &PackageName) -> Option<String> {
        let question = self.question(agent)?;
        let wait = if matches!(self, Self::Running { .. }) { START_TAKES } else { "" };
        Some(format!("{wait}{question}"))
    }

    /// What makes it so.
    #[must_use]
    pub fn command(&self, agent: &PackageName, sdk: u32) -> Option<String> {
        Some(match self {
            Self::Permission(permission) => format!("pm grant {agent} {}", permission.as_str()),
            Self::Setting(name, value) => {
                format!("settings put {} '{}' '{}'", name.table.as_str(), name.key(), value.as_str())
            }
            Self::DozeWhitelist => format!("dumpsys deviceidle whitelist +{agent}"),
            Self::Bucket(bucket) => format!("am set-standby-bucket {agent} {}", bucket.as_str()),
            Self::AppOp { op, mode, .. } => format!("appops set {agent} {op} {}", mode.as_str()),
            Self::Running { start, .. } => start_command(start, agent, sdk),
            Self::Hand(_) => return None,
        })
    }

    /// What the answer to [`Self::question`] shows.
    #[must_use]
    pub fn judge(&self, answer: &str, agent: &PackageName, sdk: u32) -> Found {
        match self {
            Self::Permission(permission) => permission_found(answer, agent, permission, sdk),
            Self::Setting(_, value) => setting_found(answer, value),
            Self::DozeWhitelist => whitelist_found(answer, agent),
            Self::Bucket(bucket) => bucket_found(answer, *bucket),
            Self::AppOp { told_as, mode, .. } => app_op_found(answer, told_as, *mode),
            Self::Running { sign, .. } => match health::works(sign, answer, agent) {
                Some(true) => Found::AsWanted,
                Some(false) => Found::Otherwise("it does not run".to_owned()),
                None if answer.contains("not found") => Found::NotHere("it has no pidof".to_owned()),
                None => unread(answer),
            },
            Self::Hand(what) => Found::NotHere(what.clone()),
        }
    }
}

/// What shows which permissions the agent has, and whether it is installed at all.
#[must_use]
pub fn package_question(agent: &PackageName) -> String {
    format!("dumpsys package {agent}")
}

/// What starts the agent on an Android of this SDK.
#[must_use]
pub fn start_command(start: &Start, agent: &PackageName, sdk: u32) -> String {
    /// Android 8 starts no service of an app in the background without it being in the foreground.
    const SDK_WITH_FOREGROUND: u32 = 26;
    match start {
        Start::Launcher => format!("monkey -p {agent} -c android.intent.category.LAUNCHER 1"),
        Start::Activity(class) => format!("am start -n '{agent}/{}'", class.as_str()),
        Start::Service(class) if sdk >= SDK_WITH_FOREGROUND => {
            format!("am start-foreground-service -n '{agent}/{}'", class.as_str())
        }
        Start::Service(class) => format!("am startservice -n '{agent}/{}'", class.as_str()),
        Start::Broadcast(class) => {
            format!("am broadcast --include-stopped-packages -n '{agent}/{}'", class.as_str())
        }
    }
}

/// Looks for the permission in the agent's own block, whose lines of other users than the owner do not count.
fn permission_found(answer: &str, agent: &PackageName, permission: &Permission, sdk: u32) -> Found {
    /// Before, whoever installs an app grants it all that it asks for.
    const SDK_WITH_GRANTS: u32 = 23;
    if sdk < SDK_WITH_GRANTS {
        return Found::NotHere("this Android grants all by the install".to_owned());
    }
    let head = format!("Package [{agent}]");
    let block = answer.lines().map(str::trim).skip_while(|line| !line.starts_with(&head)).skip(1);
    let (mut asked, mut of_owner) = (false, true);
    for line in block.take_while(|line| !line.starts_with("Package [")) {
        if let Some(user) = line.strip_prefix("User ") {
            of_owner = user.starts_with("0:");
        }
        let Some(rest) = line.strip_prefix(permission.as_str()) else { continue };
        if of_owner && rest.starts_with(": granted=true") {
            return Found::AsWanted;
        }
        asked |= rest.is_empty() || rest.starts_with([':', ',']);
    }
    if asked {
        return Found::Otherwise("it is not granted".to_owned());
    }
    Found::NotHere("the agent does not ask for it".to_owned())
}

fn setting_found(answer: &str, value: &SettingValue) -> Found {
    let answer = answer.trim();
    let is_failure =
        ["Exception", "not found", "Can't find service", "Invalid"].iter().any(|mark| answer.contains(mark));
    match answer {
        told if told == value.as_str() => Found::AsWanted,
        "null" => Found::Otherwise("it was not set".to_owned()),
        "" => unread(answer),
        _ if is_failure || answer.lines().count() > 1 => unread(answer),
        told => Found::Otherwise(format!("it was {}", quoted(told))),
    }
}

/// Lines of `kind,package,uid`.
fn whitelist_found(answer: &str, agent: &PackageName) -> Found {
    let mut on_it = false;
    for line in answer.lines().map(str::trim).filter(|line| !line.is_empty()) {
        match line.split(',').collect::<Vec<_>>()[..] {
            ["system-excidle" | "system" | "user", package, _uid] => on_it |= package == agent.as_str(),
            _ if line.contains("Can't find service") => return Found::NotHere("it has no doze".to_owned()),
            _ => return unread(line),
        }
    }
    if on_it { Found::AsWanted } else { Found::Otherwise("the agent was not on it".to_owned()) }
}

fn bucket_found(answer: &str, wanted: Bucket) -> Found {
    match answer.trim().parse::<u32>() {
        Ok(number) if number <= wanted.number() => Found::AsWanted,
        Ok(number) => Found::Otherwise(format!("it was {}", bucket_name(number))),
        Err(_) if answer.contains("Unknown command") => Found::NotHere("it has no standby buckets".to_owned()),
        Err(_) => unread(answer),
    }
}

fn bucket_name(number: u32) -> String {
    match number {
        10 => "active".to_owned(),
        20 => "working_set".to_owned(),
        30 => "frequent".to_owned(),
        40 => "rare".to_owned(),
        45 => "restricted".to_owned(),
        50 => "never".to_owned(),
        other => other.to_string(),
    }
}

/// `NAME: mode; time=…`, of the package or, above it, of its uid; else `No operations.`, with the default mode where AOSP knows one.
fn app_op_found(answer: &str, told_as: &str, wanted: AppOpMode) -> Found {
    if answer.contains("Unknown operation") {
        return Found::NotHere("this ROM has no such operation".to_owned());
    }
    let (mut of_uid, mut of_package, mut default) = (None, None, None);
    for line in answer.lines().map(str::trim) {
        let (place, line) = match line.strip_prefix("Uid mode: ") {
            Some(rest) => (&mut of_uid, rest),
            None => (&mut of_package, line),
        };
        match line.split_once(": ") {
            Some((name, rest)) if name == told_as => *place = rest.split([';', ' ']).next(),
            Some(("Default mode", rest)) => default = rest.split_whitespace().next(),
            _ => {}
        }
    }
    match (of_uid, of_package, default) {
        (Some(mode), ..) if mode != "default" && mode != wanted.as_str() => {
            Found::Otherwise(format!("it was {} for all apps of its uid", quoted(mode)))
        }
        (Some(mode), ..) if mode == wanted.as_str() => Found::AsWanted,
        (_, Some(mode), _) | (_, None, Some(mode)) if mode == wanted.as_str() => Found::AsWanted,
        (_, Some(mode), _) | (_, None, Some(mode)) => Found::Otherwise(format!("it was {}", quoted(mode))),
        (_, None, None) if of_uid.is_some() || answer.contains("No operations.") => {
            Found::Otherwise("it was never set".to_owned())
        }
        (_, None, None) => unread(answer),
    }
}

fn unread(answer: &str) -> Found {
    let first = answer.lines().map(str::trim).find(|line| !line.is_empty());
    Found::Unread(
        first.map_or_else(|| "it answered nothing".to_owned(), |line| format!("it answered {}", quoted(line))),
    )
}

/// Any text, as if a phone had answered each question with it.
pub fn fuzz_answer(answer: &str) {
    let agent = PackageName::new("org.example.agent");
    let app_op = |op: &str, told_as: &str, mode| Aim::AppOp { op: op.to_owned(), told_as: told_as.to_owned(), mode };
    let setting = SettingName::new(SettingsTable::Global, "a").zip(SettingValue::new("1"));
    let aims = [
        Permission::new("READ_SMS").map(Aim::Permission),
        setting.map(|(name, value)| Aim::Setting(name, value)),
        Some(Aim::DozeWhitelist),
        Some(Aim::Bucket(Bucket::Frequent)),
        Some(app_op("RUN_IN_BACKGROUND", "RUN_IN_BACKGROUND", AppOpMode::Allow)),
        Some(app_op("10008", "MIUIOP(10008)", AppOpMode::Ignore)),
        Some(Aim::Running { start: Start::Launcher, sign: HealthSign::default() }),
        ClassName::new(".Sync").map(|class| Aim::Running { start: Start::Launcher, sign: HealthSign::Service(class) }),
    ];
    for aim in aims.into_iter().flatten() {
        let _ = (aim.judge(answer, &agent, 22), aim.judge(answer, &agent, 34));
    }
}

/// A phone's own words, for people.
pub(super) fn quoted(text: &str) -> String {
    let plain = |letter: char| if letter.is_control() { ' ' } else { letter };
    let short: String = text.trim().chars().take(QUOTED_MAX).map(plain).collect();
    let more = if text.trim().chars().count() > QUOTED_MAX { "…" } else { "" };
    format!("`{short}{more}`")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn agent() -> PackageName {
        PackageName::new("org.example.agent")
    }

    fn judged(aim: &Aim, answer: &str) -> Found {
        aim.judge(answer, &agent(), 34)
    }

    fn otherwise(why: &str) -> Found {
        Found::Otherwise(why.to_owned())
    }

    fn app_op(op: &str, told_as: &str, mode: AppOpMode) -> Aim {
        Aim::AppOp { op: op.to_owned(), told_as: told_as.to_owned(), mode }
    }

    #[test]
    fn a_permission_is_granted_to_the_owner_by_the_install_or_not_asked_for() {
        let dump = "Packages:\n  Package [org.example.agent] (a1):\n    requested permissions:\n      \
            android.permission.READ_SMS: restricted=true\n      android.permission.INTERNET\n      android.permission.CAMERA\n    \
            install permissions:\n      android.permission.INTERNET: granted=true\n    User 0: installed=true\n      \
            runtime permissions:\n        android.permission.READ_SMS: granted=false, flags=[ ]\n        \
            android.permission.CAMERA: granted=true, flags=[ USER_SET ]\n    User 10: installed=true\n      runtime permissions:\n        \
            android.permission.READ_SMS: granted=true\n  Package [org.example.agent2] (b2):\n    install permissions:\n      \
            android.permission.SEND_SMS: granted=true\n";
        let of = |name| judged(&Aim::Permission(Permission::new(name).unwrap()), dump);
        assert_eq!((of("INTERNET"), of("CAMERA")), (Found::AsWanted, Found::AsWanted));
        assert_eq!(of("READ_SMS"), otherwise("it is not granted"));
        assert_eq!(of("SEND_SMS"), Found::NotHere("the agent does not ask for it".to_owned()));
        assert_eq!(of("READ"), Found::NotHere("the agent does not ask for it".to_owned()), "a name is a whole name");
    }

    #[test]
    fn a_setting_is_its_whole_answer() {
        let aim = Aim::Setting(
            SettingName::new(SettingsTable::Global, "stay_on_while_plugged_in").unwrap(),
            SettingValue::new("7").unwrap(),
        );
        assert_eq!(judged(&aim, "7\n"), Found::AsWanted);
        assert_eq!(judged(&aim, "0\n"), otherwise("it was `0`"));
        assert_eq!(judged(&aim, "null\n"), otherwise("it was not set"));
        for none in ["", "cmd: Can't find service: settings", "/system/bin/sh: settings: not found", "7\n7"] {
            assert!(matches!(judged(&aim, none), Found::Unread(_)), "{none}");
        }
        assert_eq!(aim.command(&agent(), 34).unwrap(), "settings put global 'stay_on_while_plugged_in' '7'");
    }

    #[test]
    fn the_whitelist_names_the_agent_or_not() {
        let on = "system-excidle,com.android.shell,2000\nsystem,com.android.phone,1001\nuser,org.example.agent,10123\n";
        assert_eq!(judged(&Aim::DozeWhitelist, on), Found::AsWanted);
        assert_eq!(judged(&Aim::DozeWhitelist, &on.replace("agent", "agent2")), otherwise("the agent was not on it"));
        assert_eq!(judged(&Aim::DozeWhitelist, ""), otherwise("the agent was not on it"));
        assert_eq!(
            judged(&Aim::DozeWhitelist, "Can't find service: deviceidle"),
            Found::NotHere("it has no doze".to_owned())
        );
        assert!(matches!(judged(&Aim::DozeWhitelist, "Permission Denial: can't dump"), Found::Unread(_)));
    }

    #[test]
    fn a_better_bucket_is_good_enough() {
        let of = |answer| judged(&Aim::Bucket(Bucket::Active), answer);
        assert_eq!((of("5\n"), of("10\n")), (Found::AsWanted, Found::AsWanted));
        assert_eq!((of("20\n"), of("45")), (otherwise("it was working_set"), otherwise("it was restricted")));
        assert_eq!(of("Unknown command: get-standby-bucket"), Found::NotHere("it has no standby buckets".to_owned()));
        assert!(matches!(of("Exception occurred"), Found::Unread(_)));
    }

    #[test]
    fn the_mode_of_the_uid_stands_above_that_of_the_package() {
        let aim = app_op("RUN_IN_BACKGROUND", "RUN_IN_BACKGROUND", AppOpMode::Allow);
        let of = |answer| judged(&aim, answer);
        assert_eq!(of("RUN_IN_BACKGROUND: allow; time=+1h2m ago"), Found::AsWanted);
        assert_eq!(of("RUN_IN_BACKGROUND: ignore"), otherwise("it was `ignore`"));
        assert_eq!(
            of("Uid mode: RUN_IN_BACKGROUND: ignore\nRUN_IN_BACKGROUND: allow"),
            otherwise("it was `ignore` for all apps of its uid")
        );
        assert_eq!(of("Uid mode: RUN_IN_BACKGROUND: allow\nRUN_IN_BACKGROUND: ignore"), Found::AsWanted);
        assert_eq!(of("No operations.\nDefault mode: allow"), Found::AsWanted);
        assert_eq!(of("No operations.\nDefault mode: ignore"), otherwise("it was `ignore`"));
        assert!(matches!(of("Error: Package org.example.agent not found"), Found::Unread(_)));
    }

    #[test]
    fn a_roms_own_operation_has_another_name_in_its_answer() {
        let aim = app_op("10008", "MIUIOP(10008)", AppOpMode::Allow);
        assert_eq!(
            judged(&aim, "MIUIOP(10008): ignore; time=+1h2m12s ago; rejectTime=+1m33s ago"),
            otherwise("it was `ignore`")
        );
        assert_eq!(judged(&aim, "MIUIOP(10008): allow"), Found::AsWanted);
        assert_eq!(judged(&aim, "No operations."), otherwise("it was never set"));
        let none = Found::NotHere("this ROM has no such operation".to_owned());
        assert_eq!(judged(&aim, "Error: Unknown operation string: 10008"), none);
    }

    #[test]
    fn an_agent_is_started_in_the_way_of_its_owner() {
        let command = |start, sdk| start_command(&start, &agent(), sdk);
        let class = || ClassName::new(".Sync$1").unwrap();
        assert_eq!(command(Start::Launcher, 34), "monkey -p org.example.agent -c android.intent.category.LAUNCHER 1");
        assert_eq!(command(Start::Activity(class()), 34), "am start -n 'org.example.agent/.Sync$1'");
        assert_eq!(command(Start::Service(class()), 26), "am start-foreground-service -n 'org.example.agent/.Sync$1'");
        assert_eq!(command(Start::Service(class()), 25), "am startservice -n 'org.example.agent/.Sync$1'");
    }

    proptest! {
        #[test]
        fn no_answer_makes_a_judge_panic(answer in "(?s).{0,300}") {
            fuzz_answer(&answer);
        }
    }
}
