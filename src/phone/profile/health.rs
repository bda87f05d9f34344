//! How an app fares: whether it works, and what Android's dropbox tells of its crashes.

use std::time::Duration;

use jiff::civil::DateTime;

use crate::config::{ClassName, HealthSign};
use crate::rack::ids::PackageName;

/// How the dropbox begins what it prints.
const HEADING: &str = "Drop box contents:";
/// The tags of an app's faults, without the word before: `data_app_crash`, `system_app_anr`.
const FAULTS: [(&str, &str); 3] =
    [("crash", "crashed"), ("native_crash", "crashed in native code"), ("anr", "did not answer")];

/// The line that shows whether an app works.
#[must_use]
pub fn question(sign: &HealthSign, package: &PackageName) -> String {
    match sign {
        HealthSign::Process(name) => format!("pidof {}; echo \"pidof $?\"", name.whole(package)),
        HealthSign::Service(class) => format!("dumpsys activity services '{package}/{}'", class.as_str()),
    }
}

/// Whether it works, by the answer to [`question`]; `None` if that does not tell.
#[must_use]
pub fn works(sign: &HealthSign, answer: &str, package: &PackageName) -> Option<bool> {
    match sign {
        HealthSign::Process(_) => is_running(answer),
        HealthSign::Service(class) => is_served(answer, package, class),
    }
}

/// Whether there is such a service of the phone's first user, with a process: a record of the list, and its line `app=ProcessRecord{…}`.
fn is_served(answer: &str, package: &PackageName, class: &ClassName) -> Option<bool> {
    const HEADING: &str = "ACTIVITY MANAGER SERVICES";
    let (_, list) = answer.split_once(HEADING)?;
    let short = class.as_str().strip_prefix(package.as_str()).filter(|rest| rest.starts_with('.'));
    let component = format!("{package}/{}", short.unwrap_or(class.as_str()));
    let mut is_ours = false;
    for line in list.lines().map(str::trim) {
        if let Some(record) = line.strip_prefix("* ServiceRecord{") {
            let has = |wanted: &str| record.split_whitespace().any(|word| word.trim_end_matches('}') == wanted);
            is_ours = has(&component) && has("u0");
        } else if is_ours && line.starts_with("app=ProcessRecord{") {
            return Some(true);
        }
    }
    Some(false)
}

/// `None` where there is no `pidof`.
fn is_running(answer: &str) -> Option<bool> {
    let (told, code) = answer.trim_end().rsplit_once("pidof ")?;
    let is_pid = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit());
    match code {
        "0" => Some(told.split_whitespace().any(is_pid)),
        "1" if told.trim().is_empty() => Some(false),
        _ => None,
    }
}

/// The faults of an app within a time before the phone's own now, the newest last, in the output of
/// `date '+%Y-%m-%d %H:%M:%S'; dumpsys dropbox`; `None` if that does not tell.
#[must_use]
pub fn faults(answer: &str, package: &PackageName, within: Duration) -> Option<Vec<String>> {
    let (date, dropbox) = answer.trim_start().split_once('\n')?;
    let now: DateTime = date.trim().parse().ok()?;
    if !dropbox.contains(HEADING) {
        return None;
    }
    let mut faults = Vec::new();
    let mut lines = dropbox.lines().peekable();
    while let Some(line) = lines.next() {
        let Some((at, tag)) = entry(line) else { continue };
        let Some(what) = fault_of(tag) else { continue };
        let told = lines.next_if(|next| next.starts_with(' ')).unwrap_or_default();
        let age = now.duration_since(at).as_secs();
        // An entry from the future is one from before the clock was set, or from right now.
        // Both ends stand there in whole seconds.
        let is_recent = age.unsigned_abs() <= within.as_secs() + 1 && age >= -60;
        if is_recent && is_of(told, package) {
            faults.push(format!("it {what} at {at} by its clock"));
        }
    }
    Some(faults)
}

/// `2026-11-27 13:00:01 data_app_crash (text, 1042 bytes)`.
fn entry(line: &str) -> Option<(DateTime, &str)> {
    let mut words = line.splitn(4, ' ');
    let (day, time, tag) = (words.next()?, words.next()?, words.next()?);
    Some((format!("{day} {time}").parse().ok()?, tag))
}

fn fault_of(tag: &str) -> Option<&'static str> {
    let (_, kind) = tag.split_once("_app_")?;
    FAULTS.iter().find(|(known, _)| *known == kind).map(|(_, what)| *what)
}

/// Whether the first line of an entry is of a process of the app: `Process: org.example.agent:sync/PID: 4711/…`.
fn is_of(told: &str, package: &PackageName) -> bool {
    let Some((_, rest)) = told.split_once("Process: ") else { return false };
    rest.strip_prefix(package.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with(['/', ':', ' ']))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ANSWER: &str = "2026-11-27 13:10:00\nDrop box contents: 4 entries\nMax entries: 1000\n\n\
        2026-11-27 12:00:01 data_app_crash (text, 1042 bytes)\n    Process: org.example.agent/PID: 4711/Flags: 0x28c8be44\n\
        2026-11-27 13:05:01 data_app_crash (text, 1042 bytes)\n    Process: org.example.agent2/PID: 4712/Flags: 0x28c8be44\n\
        2026-11-27 13:06:01 data_app_anr (compressed text, 1042 bytes)\n    Process: org.example.agent:sync/PID: 4713/Flags\n\
        2026-11-27 13:07:01 system_app_strictmode (text, 1042 bytes)\n    Process: org.example.agent/PID: 4714/Flags\n";

    fn seen(answer: &str, minutes: u64) -> Option<Vec<String>> {
        faults(answer, &PackageName::new("org.example.agent"), Duration::from_secs(minutes * 60))
    }

    #[test]
    fn only_the_apps_own_faults_within_the_time_count() {
        assert_eq!(seen(ANSWER, 10).unwrap(), ["it did not answer at 2026-11-27T13:06:01 by its clock"]);
        assert_eq!(seen(ANSWER, 120).unwrap().len(), 2);
        assert_eq!(seen(ANSWER, 1).unwrap(), [""; 0]);
    }

    #[test]
    fn an_answer_that_does_not_tell_is_none() {
        for text in [
            "",
            "2026-11-27 13:10:00\n",
            "2026-11-27 13:10:00\nCan't find service: dropbox\n",
            "sh: date: not found\nDrop box contents: 0 entries",
        ] {
            assert_eq!(seen(text, 10), None, "{text}");
        }
        assert_eq!(
            seen("2026-11-27 13:10:00\n(No entries found.)\nDrop box contents: 0 entries\n", 10),
            Some(Vec::new())
        );
    }

    #[test]
    fn an_app_runs_if_it_has_a_process() {
        assert_eq!(is_running("4711 4712\npidof 0\n"), Some(true));
        assert_eq!(is_running("pidof 1\n"), Some(false));
        assert_eq!(is_running("/system/bin/sh: pidof: not found\npidof 127\n"), None);
        assert_eq!(is_running(""), None);
    }

    #[test]
    fn a_service_works_if_it_has_a_process() {
        let list = "ACTIVITY MANAGER SERVICES (dumpsys activity services)\n  User 0 active services:\n  \
            * ServiceRecord{41b2dd18 u0 org.example.agent/.Sync c:com.caller}\n    intent={cmp=org.example.agent/.Sync}\n    \
            processName=org.example.agent\n    app=ProcessRecord{416e19e8 3209:org.example.agent/u0a72}\n  \
            * ServiceRecord{41b2dd19 u0 org.example.agent/.Push}\n    processName=org.example.agent:push\n  \
            * ServiceRecord{41b2dd20 u10 org.example.agent/.Work}\n    app=ProcessRecord{416e19e9 3210:org.example.agent/u10a72}\n";
        let of = |class: &str, answer: &str| {
            let sign = HealthSign::Service(ClassName::new(class).unwrap());
            works(&sign, answer, &PackageName::new("org.example.agent"))
        };
        assert_eq!((of(".Sync", list), of("org.example.agent.Sync", list)), (Some(true), Some(true)));
        assert_eq!((of(".Push", list), of(".Work", list), of(".Syn", list)), (Some(false), Some(false), Some(false)));
        let none = "ACTIVITY MANAGER SERVICES (dumpsys activity services)\n  (nothing)\n";
        assert_eq!((of(".Sync", none), of(".Sync", "Can't find service: activity")), (Some(false), None));
    }

    proptest! {
        #[test]
        fn no_text_makes_a_reader_panic(text in "(?s).{0,300}") {
            let _ = (seen(&text, 10), seen(&format!("2026-11-27 13:10:00\nDrop box contents:\n{text}"), 10), is_running(&text));
        }
    }
}
