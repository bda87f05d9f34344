//! A pass over a phone that keeps what it is told, refuses it, or talks nonsense.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::config::{Permission, SettingName, SettingValue, SettingsTable, Start};

const AGENT: &str = "org.example.agent";

/// As much of a phone as a pass sees.
#[derive(Clone, Debug, Default)]
struct Phone {
    /// `ro.product.manufacturer`, and the property of its ROM.
    rom: String,
    sdk: u32,
    installed: bool,
    granted: BTreeSet<String>,
    settings: BTreeMap<String, String>,
    whitelisted: bool,
    bucket: u32,
    ops: BTreeMap<String, String>,
    runs: bool,
    /// Commands that begin so are not carried out, and are answered with this.
    refuses: BTreeMap<&'static str, &'static str>,
    ran: Vec<String>,
}

impl Phone {
    fn new() -> Self {
        Self { sdk: 34, installed: true, bucket: 40, ..Self::default() }
    }

    fn of(rom: &str) -> Self {
        Self { rom: rom.to_owned(), ..Self::new() }
    }

    fn run(&mut self, line: &str) -> Result<String, String> {
        self.ran.push(line.to_owned());
        if let Some((_, said)) = self.refuses.iter().find(|(head, _)| line.starts_with(**head)) {
            return Ok((*said).to_owned());
        }
        let words: Vec<String> = line.split(' ').map(|word| word.replace('\'', "")).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        Ok(match words[..] {
            ["getprop"] => format!("[ro.build.version.sdk]: [{}]\n{}", self.sdk, self.rom),
            ["dumpsys", "package", _] => self.dump(),
            ["settings", "get", table, key] => {
                self.settings.get(&format!("{table} {key}")).cloned().unwrap_or_else(|| "null".to_owned())
            }
            ["settings", "put", table, key, value] => {
                self.settings.insert(format!("{table} {key}"), value.to_owned());
                String::new()
            }
            ["pm", "grant", _, permission] => {
                self.granted.insert(permission.to_owned());
                String::new()
            }
            ["dumpsys", "deviceidle", "whitelist"] => {
                let user = if self.whitelisted { format!("user,{AGENT},10100\n") } else { String::new() };
                format!("system,com.android.phone,1001\n{user}")
            }
            ["dumpsys", "deviceidle", "whitelist", _] => {
                (self.whitelisted, self.bucket) = (true, 5);
                format!("Added: {AGENT}")
            }
            ["am", "get-standby-bucket", _] => self.bucket.to_string(),
            ["am", "set-standby-bucket", _, "active"] => {
                self.bucket = self.bucket.min(10);
                String::new()
            }
            ["appops", "get", _, op] => match self.ops.get(op) {
                Some(mode) => format!("{}: {mode}", if op == "10008" { "MIUIOP(10008)" } else { op }),
                None => "No operations.".to_owned(),
            },
            ["appops", "set", _, op, mode] => {
                self.ops.insert(op.to_owned(), mode.to_owned());
                String::new()
            }
            ["pidof", ..] | ["sleep", "2;", "pidof", ..] => {
                if self.runs {
                    "4711\npidof 0".to_owned()
                } else {
                    "pidof 1".to_owned()
                }
            }
            ["monkey", ..] => {
                self.runs = true;
                "Events injected: 1".to_owned()
            }
            _ => return Err(format!("it knows no `{line}`")),
        })
    }

    fn dump(&self) -> String {
        if !self.installed {
            return format!("Unable to find package: {AGENT}");
        }
        let granted = |name: &str| format!("        {name}: granted={}\n", self.granted.contains(name));
        let of_user = ["android.permission.CAMERA", "android.permission.READ_SMS"];
        format!(
            "Packages:\n  Package [{AGENT}] (a1):\n    versionCode=1 minSdk=24\n    requested permissions:\n      {}\n    User 0: \
             installed=true\n      runtime permissions:\n{}",
            of_user.join("\n      "),
            of_user.map(granted).concat()
        )
    }

    /// A pass, and the commands that set something.
    fn pass(&mut self, wanted: &Upkeep) -> (Report, Vec<String>) {
        self.ran.clear();
        let agent = PackageName::new(AGENT);
        let mut pass = Pass::new(wanted, &agent);
        while let Some(line) = pass.next() {
            let answer = self.run(line);
            pass.answer(answer);
        }
        let sets = |line: &&String| {
            ["pm grant", "settings put", "am set", "appops set", "monkey"].iter().any(|head| line.starts_with(head))
                || line.contains(" +")
        };
        (pass.report(), self.ran.iter().filter(sets).cloned().collect())
    }
}

fn everything() -> Upkeep {
    let setting = SettingName::new(SettingsTable::Global, "stay_on_while_plugged_in").unwrap();
    Upkeep {
        permissions: ["READ_SMS", "CAMERA", "CALL_PHONE"].iter().filter_map(|name| Permission::new(name)).collect(),
        settings: [(setting, SettingValue::new("7").unwrap())].into(),
        battery: BatteryUse::Exempt,
        start: Some(Start::Launcher),
        ..Upkeep::default()
    }
}

fn result<'r>(report: &'r Report, name: &str) -> &'r AimResult {
    let found = report.results.iter().find(|(known, _)| known == name);
    &found.unwrap_or_else(|| panic!("{name} is not among {report:?}")).1
}

#[test]
fn a_fresh_phone_is_set_up_once_and_then_left_alone() {
    let mut phone = Phone::new();
    let wanted = everything();
    let (report, sets) = phone.pass(&wanted);
    assert_eq!(*result(&report, "permission READ_SMS"), AimResult::Set { was: "it is not granted".into() });
    assert_eq!(
        *result(&report, "permission CALL_PHONE"),
        AimResult::NotHere { why: "the agent does not ask for it".into() }
    );
    assert_eq!(*result(&report, "doze whitelist"), AimResult::Set { was: "the agent was not on it".into() });
    assert_eq!(*result(&report, "running"), AimResult::Set { was: "it does not run".into() });
    assert_eq!(report.recipes, ["any Android"]);
    assert_eq!(sets.last().unwrap(), "monkey -p org.example.agent -c android.intent.category.LAUNCHER 1");
    let (report, sets) = phone.pass(&wanted);
    assert!(sets.is_empty(), "{sets:?}");
    assert!(report.set() == 0 && *result(&report, "permission READ_SMS") == AimResult::Kept);
}

#[test]
fn only_what_was_lost_is_set_again() {
    let mut phone = Phone::new();
    phone.pass(&everything());
    phone.granted.remove("android.permission.CAMERA");
    let (report, sets) = phone.pass(&everything());
    assert_eq!(sets, ["pm grant org.example.agent android.permission.CAMERA"]);
    assert_eq!(report.set(), 1);
}

#[test]
fn one_refusal_keeps_no_other_setting() {
    let mut phone = Phone::new();
    let said = "\nException occurred while executing 'grant':\njava.lang.SecurityException: no";
    phone.refuses.insert("pm grant", said);
    let (report, _) = phone.pass(&everything());
    let AimResult::Refused { was, why } = result(&report, "permission READ_SMS") else { panic!("{report:?}") };
    assert_eq!(was, "it is not granted");
    assert_eq!(why, "it is not granted also after it was set; the phone said `java.lang.SecurityException: no`");
    assert!(matches!(result(&report, "setting global stay_on_while_plugged_in"), AimResult::Set { .. }));
}

#[test]
fn what_cannot_be_read_is_not_set() {
    let mut phone = Phone::new();
    phone.refuses.insert("appops get", "Segmentation fault");
    let (report, sets) = phone.pass(&everything());
    let why = "it answered `Segmentation fault`".to_owned();
    assert_eq!(*result(&report, "run in background"), AimResult::Unread { why });
    assert!(!sets.iter().any(|line| line.starts_with("appops")), "{sets:?}");
}

#[test]
fn without_the_agent_only_androids_settings_are_seen_to() {
    let mut phone = Phone { installed: false, ..Phone::new() };
    let (report, sets) = phone.pass(&everything());
    assert_eq!(sets, ["settings put global 'stay_on_while_plugged_in' '7'"]);
    assert_eq!(*result(&report, "running"), AimResult::NotHere { why: "the agent is not installed".into() });
}

#[test]
fn a_rom_has_its_own_recipe() {
    let mut phone = Phone::of("[ro.product.manufacturer]: [Xiaomi]\n[ro.miui.ui.version.name]: [V14]\n");
    let (report, sets) = phone.pass(&everything());
    assert_eq!(report.recipes, ["any Android", "MIUI and HyperOS"]);
    assert_eq!(*result(&report, "autostart"), AimResult::Set { was: "it was never set".into() });
    assert!(sets.contains(&"appops set org.example.agent 10008 allow".to_owned()), "{sets:?}");
    assert!(matches!(result(&report, "battery saver"), AimResult::Hand { .. }));
    let without = Upkeep { battery: BatteryUse::AsPhoneDecides, ..everything() };
    assert!(phone.pass(&without).0.recipes.is_empty());
}

#[test]
fn an_old_android_is_asked_only_what_it_knows() {
    let mut phone = Phone { sdk: 22, ..Phone::new() };
    let (report, _) = phone.pass(&everything());
    assert_eq!(report.results.len(), 5, "no recipe of it: {report:?}");
    let why = "this Android grants all by the install".to_owned();
    assert_eq!(*result(&report, "permission READ_SMS"), AimResult::NotHere { why });
}

#[test]
fn of_a_phone_that_does_not_say_what_it_is_nothing_is_set() {
    let mut phone = Phone::new();
    phone.refuses.insert("getprop", "Segmentation fault");
    let (report, sets) = phone.pass(&everything());
    assert!(sets.is_empty(), "{sets:?}");
    let why = "its properties do not tell its SDK".to_owned();
    assert!(report.results.iter().all(|(_, result)| *result == AimResult::Unread { why: why.clone() }), "{report:?}");
}

#[test]
fn a_pass_that_is_given_up_says_what_it_does_not_know() {
    let (wanted, agent) = (everything(), PackageName::new(AGENT));
    let mut phone = Phone::new();
    let mut pass = Pass::new(&wanted, &agent);
    for _ in 0..3 {
        let answer = phone.run(pass.next().unwrap());
        pass.answer(answer);
    }
    pass.give_up("it took too long");
    assert_eq!(pass.next(), None);
    let report = pass.report();
    assert!(!report.results.is_empty());
    let unread = AimResult::Unread { why: "it took too long".into() };
    assert!(report.results.iter().all(|(_, result)| *result == unread), "{report:?}");
}

proptest! {
    /// Whatever was lost comes back by as many commands, and nothing else is touched.
    #[test]
    fn as_much_is_set_as_was_lost(lost in proptest::collection::btree_set(0usize..6, 0..6)) {
        let mut phone = Phone::of("[ro.product.brand]: [POCO]\n[ro.mi.os.version.name]: [OS2]\n");
        phone.pass(&everything());
        for what in &lost {
            match what {
                0 => drop(phone.granted.remove("android.permission.READ_SMS")),
                1 => phone.settings.clear(),
                2 => phone.whitelisted = false,
                3 => drop(phone.ops.remove("10008")),
                4 => phone.runs = false,
                _ => drop(phone.ops.insert("RUN_IN_BACKGROUND".to_owned(), "ignore".to_owned())),
            }
        }
        let (report, sets) = phone.pass(&everything());
        prop_assert_eq!((report.set(), sets.len()), (lost.len(), lost.len()));
        let (report, sets) = phone.pass(&everything());
        prop_assert!(report.set() == 0 && sets.is_empty());
    }

    /// A pass asks a bounded number of times and ends, and sets nothing of which the phone has not said that it is otherwise.
    #[test]
    fn a_pass_ends_whatever_it_hears(answers in proptest::collection::vec(prop_oneof![
        Just(Err("no answer in 10 s".to_owned())),
        "(?s).{0,60}".prop_map(Ok),
        Just(Ok("null".to_owned())),
        Just(Ok("No operations.".to_owned())),
        Just(Ok("40".to_owned())),
        Just(Ok(Phone::new().dump())),
        Just(Ok("pidof 1".to_owned())),
        Just(Ok("[ro.build.version.sdk]: [34]".to_owned())),
    ], 1..40)) {
        let (wanted, agent) = (everything(), PackageName::new(AGENT));
        let mut pass = Pass::new(&wanted, &agent);
        let mut asked = 0;
        while pass.next().is_some() {
            pass.answer(answers[asked % answers.len()].clone());
            asked += 1;
            prop_assert!(asked < 64, "it does not end");
        }
        let silent = answers.iter().all(Result::is_err);
        let report = pass.report();
        prop_assert!(!silent || report.set() == 0);
        let refused = report.results.iter().any(|(_, result)| matches!(result, AimResult::Refused { .. }));
        prop_assert!(!silent || !refused);
    }
}
