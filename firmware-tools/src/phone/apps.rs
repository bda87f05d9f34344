//! Which apps and services run, and what Android's dropbox tells of their faults: `pidof`, `dumpsys activity services`,
//! `dumpsys dropbox`, `date`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;

use handset::Output;
use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::android::Android;
use super::faults::AppFault;

/// Entries that a phone's dropbox keeps.
const ENTRIES_MAX: usize = 1000;
/// So much of an entry is told without `--print`, in characters.
const TOLD_MAX: usize = 70;
/// Toybox has a `pidof` since Android 6.
const FIRST_SDK_WITH_PIDOF: u32 = 23;
/// Where the numbers of apps' processes begin.
const FIRST_PID: u32 = 4711;

/// The apps that have a process, and the dropbox.
#[derive(Debug, Default)]
pub(super) struct Apps {
    pids: BTreeMap<String, u32>,
    /// Services that were started, as `package/class`; each runs as long as its app does.
    services: BTreeSet<String>,
    started: u32,
    dropbox: VecDeque<Entry>,
}

/// An entry of the dropbox.
#[derive(Debug)]
struct Entry {
    at: String,
    tag: &'static str,
    text: String,
}

impl Apps {
    /// Somebody starts an app, or it starts by itself.
    pub(super) fn start(&mut self, package: &str) {
        let pid = FIRST_PID + self.started;
        self.started += 1;
        self.pids.entry(package.to_owned()).or_insert(pid);
    }

    /// Somebody starts a service, `package/class`, and with it its app.
    pub(super) fn serve(&mut self, component: &str) {
        self.start(component.split('/').next().unwrap_or_default());
        self.services.insert(component.to_owned());
    }

    pub(super) fn stop_all(&mut self) {
        self.pids.clear();
        self.services.clear();
    }

    pub(super) fn runs(&self, package: &str) -> bool {
        self.pids.contains_key(package)
    }

    pub(super) fn stop(&mut self, package: &str) {
        self.pids.remove(package);
        self.services.retain(|component| component.split('/').next() != Some(package));
    }

    /// An app was installed. One that ran is ended for it, and starts again by itself, as an agent does when its package was replaced.
    pub(super) fn installed(&mut self, package: &str, version: u64, fault: Option<AppFault>) {
        let Some(pid) = self.pids.remove(package) else { return };
        let (tag, what) = match fault {
            Some(AppFault::Stops) => return,
            Some(AppFault::Crashes) => ("data_app_crash", "java.lang.IllegalStateException: no session"),
            Some(AppFault::Hangs) => ("data_app_anr", "Subject: Input dispatching timed out"),
            None => return self.start(package),
        };
        // Its first process fails; Android starts it again, since it has a sticky service.
        let text = format!("Process: {package}/PID: {pid}/Flags: 0x28c8be44/Package: {package} v{version}/{what}");
        self.dropbox.push_back(Entry { at: now("%Y-%m-%d %H:%M:%S").unwrap_or_default(), tag, text });
        if self.dropbox.len() > ENTRIES_MAX {
            self.dropbox.pop_front();
        }
        self.start(package);
    }
}

/// `pidof <packages>`.
pub(super) fn pidof(android: &Android, names: &[&str]) -> Option<Output> {
    if android.spec.sdk < FIRST_SDK_WITH_PIDOF {
        return None;
    }
    let state = android.state();
    let runs = |name: &&&str| state.booted && state.packages.get(name).is_some();
    let pids: Vec<String> =
        names.iter().filter(runs).filter_map(|name| state.apps.pids.get(*name)).map(u32::to_string).collect();
    Some(match pids.is_empty() {
        true => Output { code: 1, ..Output::default() },
        false => Output::success(pids.join(" ") + "\n"),
    })
}

/// `dumpsys activity services <package>/<class>`.
pub(super) fn services(android: &Android, component: &str) -> String {
    let heading = "ACTIVITY MANAGER SERVICES (dumpsys activity services)\n";
    let state = android.state();
    let package = component.split('/').next().unwrap_or_default();
    let pid = state.apps.pids.get(package).filter(|_| state.apps.services.contains(component));
    let Some((pid, installed)) = pid.zip(state.packages.get(package)) else { return format!("{heading}  (nothing)\n") };
    let app = installed.uid(0) % 100_000 - 10_000;
    format!(
        "{heading}  User 0 active services:\n  * ServiceRecord{{41b2dd18 u0 {component}}}\n    intent={{cmp={component}}}\n    \
         packageName={package}\n    processName={package}\n    app=ProcessRecord{{416e19e8 {pid}:{package}/u0a{app}}}\n    \
         isForeground=true foregroundId=1\n"
    )
}

/// `dumpsys dropbox`.
pub(super) fn dropbox(android: &Android) -> String {
    let state = android.state();
    let entries = &state.apps.dropbox;
    let mut text = format!("Drop box contents: {} entries\nMax entries: {ENTRIES_MAX}\n", entries.len());
    if entries.is_empty() {
        text.push_str("(No entries found.)\n");
    }
    for Entry { at, tag, text: told } in entries {
        let shown: String = told.chars().take(TOLD_MAX).collect();
        let more = if told.chars().count() > TOLD_MAX { " ..." } else { "" };
        // Writing to a String can't fail.
        let _ = write!(text, "\n{at} {tag} (text, {} bytes)\n    {shown}{more}\n", told.len());
    }
    text
}

/// `date [+FORMAT]`: the phone's clock shows UTC.
pub(super) fn date(words: &[&str]) -> Output {
    let format = words.first().and_then(|word| word.strip_prefix('+')).unwrap_or("%a %b %e %H:%M:%S %Z %Y");
    match now(format) {
        Some(date) => Output::success(date + "\n"),
        None => Output::failure(1, format!("date: bad format '{format}'\n")),
    }
}

fn now(format: &str) -> Option<String> {
    jiff::fmt::strtime::format(format, &Timestamp::now().to_zoned_datetime(TimeZone::UTC)).ok()
}
