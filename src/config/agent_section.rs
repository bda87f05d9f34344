//! Reads `[agent]`.

use std::path::Path;

use toml::de::DeValue;

use super::Agent;
use super::problem::Problem;
use super::read::{DAY_S, value, values};
use super::section::{Section, Unfit, Value};
use super::upkeep::{BatteryUse, HealthSign, Permission, SettingName, SettingValue, SettingsTable, Start, Upkeep};
use super::value::{file, list, made, seconds, sha256, switch};
use crate::rack::ids::PackageName;

/// More than any app asks for.
const PERMISSIONS_MAX: usize = 64;
/// Each is a question to each phone.
const SETTINGS_MAX: usize = 64;
/// A look wakes each phone.
const CHECK_MIN_S: u32 = 60;

pub(super) fn agent(mut table: Section<'_, '_>, base: &Path) -> Option<Agent> {
    let apk = table.optional("apk", file(base));
    let package_expected = "an Android package name in quotes such as \"org.example.agent\"";
    let package = table.required("package", "\"org.example.agent\"", made(package_expected, package_name));
    let signers = table.optional("signers", list(sha256));
    let upkeep = upkeep(&mut table);
    table.finish();
    Some(Agent { apk: value(apk), package: value(package)?, signers: values(signers).unwrap_or_default(), upkeep })
}

fn upkeep(table: &mut Section<'_, '_>) -> Upkeep {
    let permission = made("a permission in quotes such as \"READ_SMS\"", Permission::new);
    let permissions = table.optional("permissions", list(permission));
    if let Some(many) = permissions.as_ref().filter(|permissions| permissions.value.len() > PERMISSIONS_MAX) {
        let what = format!("`permissions` in [agent] names {}", many.value.len());
        let help = format!("name at most {PERMISSIONS_MAX}");
        table.complain(Problem::new("config.bad_value", many.at.clone(), what, help));
    }
    let battery = table.optional("battery_exempt", switch(BatteryUse::Exempt, BatteryUse::AsPhoneDecides));
    let start = "\"launcher\", or \"activity:.CLASS\", \"service:.CLASS\" or \"broadcast:.CLASS\" of the agent";
    let start = table.optional("start", made(start, Start::parse));
    let health = "\"process\", \"process:NAME\", or \"service:.CLASS\" of the agent";
    let health = table.optional("health", made(health, HealthSign::parse));
    let every = table.optional("check_s", seconds(CHECK_MIN_S..=DAY_S));
    let mut upkeep = Upkeep {
        permissions: values(permissions).unwrap_or_default().into_iter().collect(),
        battery: value(battery).unwrap_or_default(),
        start: value(start),
        health: value(health).unwrap_or_default(),
        ..Upkeep::default()
    };
    upkeep.every = value(every).unwrap_or(upkeep.every);
    if let Some(settings) = table.child("settings") {
        upkeep.settings = settings_of(settings);
    }
    upkeep
}

/// `[agent.settings.global]`, `.secure` and `.system`.
fn settings_of(mut table: Section<'_, '_>) -> std::collections::BTreeMap<SettingName, SettingValue> {
    let mut settings = std::collections::BTreeMap::new();
    for of in SettingsTable::ALL {
        let Some(keys) = table.child(of.as_str()) else { continue };
        keys.refuse_keys(
            |key| SettingName::new(of, key).is_some(),
            "a setting's name has letters, digits, `_`, `.`, `-` and `:`",
        );
        let named = keys.owners(setting_value);
        settings.extend(named.into_iter().filter_map(|(key, value)| Some((SettingName::new(of, &key)?, value))));
    }
    if settings.len() > SETTINGS_MAX {
        let what = format!("[agent.settings] names {} of them", settings.len());
        table.complain(Problem::new("config.bad_value", table.at(), what, format!("name at most {SETTINGS_MAX}")));
    }
    table.finish();
    settings
}

/// A number or a text; Android keeps texts.
fn setting_value(value: &Value<'_>) -> Result<SettingValue, Unfit> {
    let text = match value.get_ref() {
        DeValue::Integer(typed) => {
            i64::from_str_radix(typed.as_str(), typed.radix()).ok().map(|number| number.to_string())
        }
        DeValue::Float(typed) => Some(typed.as_str().to_owned()),
        DeValue::String(text) => Some(text.as_ref().to_owned()),
        _ => None,
    };
    text.and_then(|text| SettingValue::new(&text)).ok_or_else(|| Unfit {
        at: value.span(),
        expected: "a number, or a text of one line without single quotes".to_owned(),
    })
}

/// Android wants at least two parts, each beginning with a letter.
fn package_name(text: &str) -> Option<PackageName> {
    let part_fits = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic())
            && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    (text.contains('.') && text.split('.').all(part_fits)).then(|| PackageName::new(text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Agent, parse};

    const PACKAGE: &str = "[agent]\npackage = \"org.example.agent\"\n";

    fn read(lines: &str) -> Result<Agent, Vec<String>> {
        let read = parse("farmhand.toml", &format!("{PACKAGE}{lines}"), Path::new("/etc/farmhand"), "rack");
        match read {
            Ok(loaded) => Ok(loaded.config.agent.unwrap()),
            Err(invalid) => Err(invalid.problems.into_iter().map(|problem| problem.to_string()).collect()),
        }
    }

    #[test]
    fn by_itself_nothing_is_changed_on_a_phone() {
        assert!(read("").unwrap().upkeep.is_nothing());
        assert!(read("battery_exempt = false\ncheck_s = 60").unwrap().upkeep.is_nothing());
    }

    #[test]
    fn what_is_wanted_is_read() {
        let lines = "permissions = [\"READ_SMS\"]\nbattery_exempt = true\nstart = \"service:.Sync\"\nhealth = \"service:.Sync\"\n\
                     check_s = 600\n\
                     [agent.settings.global]\nstay_on_while_plugged_in = 7\nname = \"A 1\"\n\
                     [agent.settings.system]\nfont_scale = 1.5\n";
        let upkeep = read(lines).unwrap().upkeep;
        assert_eq!((upkeep.permissions.len(), upkeep.battery, upkeep.every.as_secs()), (1, BatteryUse::Exempt, 600));
        assert_eq!(upkeep.start.unwrap().to_string(), "service:.Sync");
        assert_eq!(upkeep.health.to_string(), "service:.Sync");
        let settings: Vec<String> =
            upkeep.settings.iter().map(|(name, value)| format!("{name}={}", value.as_str())).collect();
        assert_eq!(settings, ["global name=A 1", "global stay_on_while_plugged_in=7", "system font_scale=1.5"]);
    }

    #[test]
    fn what_could_not_stand_in_a_command_is_refused() {
        for (lines, told) in [
            ("permissions = [\"A B\"]", "`permissions` in [agent] must be a permission in quotes such as \"READ_SMS\""),
            ("start = \"tap\"", "`start` in [agent] must be \"launcher\", or "),
            ("health = \"pulse\"", "`health` in [agent] must be \"process\", "),
            ("check_s = 1", "`check_s` in [agent] must be whole seconds from 60 to 86400"),
            ("[agent.settings.global]\n\"a b\" = 1", "[agent.settings.global] has no key `a b`"),
            ("[agent.settings.global]\na = \"it's\"", "`a` in [agent.settings.global] must be a number, or a text of"),
            ("[agent.settings.local]\na = 1", "there is no section [agent.settings.local]"),
        ] {
            let found = read(lines).unwrap_err();
            assert!(found.len() == 1 && found[0].starts_with(told), "{lines}: {found:?}");
        }
    }
}
