//! What keeps apps from running: doze's whitelist, standby buckets, and the operations of `appops`.

use std::collections::{BTreeMap, BTreeSet};

use handset::Output;

use super::android::Android;
use super::pm::thrown;

/// Doze came with Android 6.
const FIRST_SDK_WITH_DOZE: u32 = 23;
/// Standby buckets came with Android 9.
const FIRST_SDK_WITH_BUCKETS: u32 = 28;
/// The bucket of those on doze's whitelist.
const EXEMPTED: u32 = 5;
const ACTIVE: u32 = 10;
/// The bucket of an app that nobody has ever used.
const NEVER: u32 = 50;
const MODES: [&str; 5] = ["allow", "ignore", "deny", "default", "foreground"];

/// Operations that hosts ask for, the first SDK that has them, and their mode where nobody has set one.
const OPS: [(&str, u32, &str); 8] = [
    ("CAMERA", 21, "allow"),
    ("POST_NOTIFICATION", 19, "allow"),
    ("READ_SMS", 19, "allow"),
    ("SYSTEM_ALERT_WINDOW", 19, "default"),
    ("WAKE_LOCK", 19, "allow"),
    ("RUN_IN_BACKGROUND", 24, "allow"),
    ("RUN_ANY_IN_BACKGROUND", 28, "allow"),
    ("AUTO_REVOKE_PERMISSIONS_IF_UNUSED", 30, "default"),
];

/// MIUI's own operations have no names, and what nobody has set has no mode that it would tell.
const MIUI_OPS: std::ops::RangeInclusive<u32> = 10_001..=10_055;

/// What was set, by package.
#[derive(Debug, Default)]
pub(super) struct Saving {
    whitelist: BTreeSet<String>,
    buckets: BTreeMap<String, u32>,
    ops: BTreeMap<(String, String), String>,
}

impl Saving {
    /// An app is gone, and with it what was set for it.
    pub(super) fn forget(&mut self, package: &str) {
        self.whitelist.remove(package);
        self.buckets.remove(package);
        self.ops.retain(|(of, _), _| of != package);
    }
}

/// Whether it runs MIUI.
pub(super) fn is_miui(android: &Android) -> bool {
    ["xiaomi", "redmi", "poco"].contains(&android.spec.brand.to_lowercase().as_str())
}

/// `dumpsys deviceidle whitelist [+package | -package | =package]…`; `None` where there is no doze.
pub(super) fn whitelist(android: &Android, words: &[&str]) -> Option<Output> {
    if android.spec.sdk < FIRST_SDK_WITH_DOZE {
        return None;
    }
    let mut state = android.state();
    let uid = |name: &str, state: &super::android::State| state.packages.get(name).map(|installed| installed.uid(0));
    let mut text = String::new();
    for word in words {
        let Some((sign, package)) = word.split_at_checked(1).filter(|(sign, _)| ["+", "-", "="].contains(sign)) else {
            return Some(Output::success(format!("{text}Package must be prefixed with +, -, or =: {word}\n")));
        };
        let known = uid(package, &state).is_some();
        text += &match sign {
            "+" if known => {
                state.saving.whitelist.insert(package.to_owned());
                format!("Added: {package}\n")
            }
            "+" => format!("Unknown package: {package}\n"),
            "-" if state.saving.whitelist.remove(package) => format!("Removed: {package}\n"),
            "-" => String::new(),
            _ => format!("{}\n", state.saving.whitelist.contains(package)),
        };
    }
    if words.is_empty() {
        text = "system-excidle,com.android.shell,2000\nsystem,com.android.providers.downloads,10009\n".to_owned();
        for package in &state.saving.whitelist {
            text += &format!("user,{package},{}\n", uid(package, &state).unwrap_or_default());
        }
    }
    Some(Output::success(text))
}

/// `am get-standby-bucket [package]` and `am set-standby-bucket package bucket`; `None` where there are none.
pub(super) fn bucket(android: &Android, command: &str, words: &[&str]) -> Option<Output> {
    if android.spec.sdk < FIRST_SDK_WITH_BUCKETS {
        return None;
    }
    let mut state = android.state();
    let missing = |verb: &str, name: &str| {
        let why = format!("Cannot {verb} standby bucket for non existent package ({name})");
        thrown(command, &format!("java.lang.IllegalArgumentException: {why}"))
    };
    let of = |state: &super::android::State, name: &str| {
        let set = state.saving.buckets.get(name).copied();
        let used = || if state.apps.runs(name) { ACTIVE } else { NEVER };
        if state.saving.whitelist.contains(name) { EXEMPTED } else { set.unwrap_or_else(used) }
    };
    Some(match (command, words) {
        ("get-standby-bucket", []) => {
            let line = |name: &String| format!("{name}: {}\n", of(&state, name));
            Output::success(state.packages.iter().map(|installed| line(&installed.apk.package)).collect::<String>())
        }
        ("get-standby-bucket", [name]) if state.packages.get(name).is_none() => missing("get", name),
        ("get-standby-bucket", [name]) => Output::success(format!("{}\n", of(&state, name))),
        ("set-standby-bucket", [name, bucket]) => match bucket_number(bucket) {
            None => Output::failure(255, format!("Error: Unknown bucket: {bucket}\n")),
            Some(_) if state.packages.get(name).is_none() => missing("set", name),
            Some(number) => {
                state.saving.buckets.insert((*name).to_owned(), number);
                Output::default()
            }
        },
        _ => Output::failure(255, "Error: Argument expected\n"),
    })
}

/// A bucket is known by its first letters.
fn bucket_number(word: &str) -> Option<u32> {
    match word.get(..2) {
        Some("ac") => Some(ACTIVE),
        Some("wo") => Some(20),
        Some("fr") => Some(30),
        Some("ra") => Some(40),
        Some("re") => Some(45),
        Some("ne") => Some(NEVER),
        _ => word.parse().ok(),
    }
}

/// `appops get [--user id] package [op]` and `appops set [--user id] package op mode`.
pub(super) fn app_ops(android: &Android, words: &[&str]) -> Output {
    let words: Vec<&str> = match words {
        [command, "--user", _, rest @ ..] => std::iter::once(*command).chain(rest.iter().copied()).collect(),
        words => words.to_vec(),
    };
    let [command @ ("get" | "set"), rest @ ..] = &words[..] else {
        return Output::failure(255, "AppOps service (appops) commands:\n  help\n");
    };
    let [name, rest @ ..] = rest else { return Output::failure(255, "Error: Package name not specified.\n") };
    let mut state = android.state();
    if state.packages.get(name).is_none() {
        return Output::failure(255, format!("Error: No UID for {name} in user 0\n"));
    }
    let op = rest.first().map(|op| (*op, operation(android, op)));
    let key = |op: &str| ((*name).to_owned(), op.to_owned());
    match (*command, op, rest) {
        (_, Some((op, None)), _) => Output::failure(255, format!("Error: Unknown operation string: {op}\n")),
        ("get", Some((op, Some(default))), [_]) => match (state.saving.ops.get(&key(op)), default) {
            (Some(mode), _) => Output::success(format!("{}: {mode}\n", told_as(op))),
            (None, "") => Output::success("No operations.\n"),
            (None, default) => Output::success(format!("No operations.\nDefault mode: {default}\n")),
        },
        ("get", None, _) => {
            let of_app = state.saving.ops.iter().filter(|((of, _), _)| of == name);
            let text: String = of_app.map(|((_, op), mode)| format!("{}: {mode}\n", told_as(op))).collect();
            Output::success(if text.is_empty() { "No operations.\n".to_owned() } else { text })
        }
        ("set", Some((op, Some(_))), [_, mode]) if MODES.contains(mode) => {
            match *mode {
                "default" => drop(state.saving.ops.remove(&key(op))),
                mode => drop(state.saving.ops.insert(key(op), mode.to_owned())),
            }
            Output::default()
        }
        ("set", Some(_), [_, mode]) => Output::failure(255, format!("Error: Mode {mode} is not valid\n")),
        ("set", Some(_), _) => Output::failure(255, "Error: Mode not specified.\n"),
        _ => Output::failure(255, "Error: Operation not specified.\n"),
    }
}

/// The mode of an operation where nobody has set one, empty where none is told; `None` if there is no such operation.
fn operation(android: &Android, op: &str) -> Option<&'static str> {
    let known = OPS.iter().find(|(name, first, _)| *name == op && android.spec.sdk >= *first);
    let of_miui = || op.parse::<u32>().is_ok_and(|number| MIUI_OPS.contains(&number)) && is_miui(android);
    known.map(|(_, _, mode)| *mode).or_else(|| of_miui().then_some(""))
}

fn told_as(op: &str) -> String {
    if op.starts_with(|letter: char| letter.is_ascii_digit()) { format!("MIUIOP({op})") } else { op.to_owned() }
}
