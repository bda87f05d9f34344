//! What Android's own tools print, read: properties, battery, storage, screen, packages, IMEI, network.
//!
//! Every reader takes the whole text and gives `None` where the text does not say: a reading is never invented. The formats are
//! those of AOSP's `getprop`, `dumpsys` and `service`, which makers extend but seldom change.

pub mod health;
mod readings;
pub mod sessions;

pub use readings::{battery, current_milliamps, screen_density, screen_size, screen_state, storage, uptime};

use super::Sim;
use crate::rack::ids::{PackageName, VersionCode};
use crate::rack::snapshot::InstalledAgent;

/// The value of a property in the output of `getprop`: lines of `[key]: [value]`.
#[must_use]
pub fn property<'a>(getprop: &'a str, key: &str) -> Option<&'a str> {
    getprop.lines().find_map(|line| {
        let (name, value) = line.trim_end().strip_prefix('[')?.split_once("]: [")?;
        (name == key).then(|| value.strip_suffix(']').unwrap_or(value)).filter(|value| !value.is_empty())
    })
}

/// The instruction sets that its apps may have native code for, the best first: `ro.product.cpu.abilist`.
#[must_use]
pub fn abis(getprop: &str) -> Vec<String> {
    let list = property(getprop, "ro.product.cpu.abilist").unwrap_or_default();
    list.split(',').map(str::trim).filter(|abi| !abi.is_empty()).map(str::to_owned).collect()
}

/// Why an install over ADB waits for somebody at the screen, where the ROM's own properties say that it does.
#[must_use]
pub fn asks_its_user(getprop: &str) -> Option<&'static str> {
    let is = |key| property(getprop, key).is_some();
    let miui = is("ro.miui.ui.version.name") || is("ro.mi.os.version.name");
    // The switch itself is kept there by the ROM's security app.
    if miui && property(getprop, "persist.security.adbinstall") != Some("1") {
        return Some("\"Install via USB\" is off in the developer options of its MIUI or HyperOS");
    }
    let color = is("ro.build.version.opporom") || is("ro.build.version.oplusrom");
    color.then_some("its ColorOS has each install over USB confirmed on the screen")
}

/// Why an install over ADB may wait for somebody at the screen, in the last two lines of `settings get global package_verifier_enable` and
/// `settings get global verifier_verify_adb_installs`: the owner, or the phone's maker, has switched the verifier on for them.
#[must_use]
pub fn verifier_asks(answer: &str) -> Option<&'static str> {
    let mut told = answer.lines().rev().map(str::trim).filter(|line| !line.is_empty());
    let (over_adb, at_all) = (told.next()?, told.next()?);
    (over_adb == "1" && at_all == "1")
        .then_some("its app verifier looks at installs over USB, and may ask on the screen (\"Verify apps over USB\")")
}

/// The package as installed, in the output of `dumpsys package <package>`; `None` if it is not installed.
///
/// A system app that was updated is listed a second time under `Hidden system packages:`; the first block is the one that runs.
#[must_use]
pub fn package(dumpsys: &str, package: &PackageName) -> Option<InstalledAgent> {
    let head = format!("Package [{package}]");
    let block = dumpsys.lines().skip_while(|line| !line.trim_start().starts_with(&head)).skip(1);
    let mut code = None;
    let mut name = None;
    for line in block.take_while(|line| !line.trim_start().starts_with("Package [")) {
        let line = line.trim();
        if let Some(rest) = line.strip_prefix("versionCode=") {
            let digits = rest.split_whitespace().next().unwrap_or_default();
            code = code.or_else(|| digits.parse().ok());
        } else if let Some(rest) = line.strip_prefix("versionName=") {
            name = name.or_else(|| Some(rest.to_owned()));
        }
    }
    let version_name = name.unwrap_or_default();
    Some(InstalledAgent { package: package.clone(), version_code: VersionCode(code?), version_name })
}

/// The IMEI in the output of `service call iphonesubinfo 1 …`: a parcel as a hex dump whose words hold UTF-16.
///
/// The first word is the exception code (0), the second the length in UTF-16 units, then two units a word, low half first.
#[must_use]
pub fn imei(parcel: &str) -> Option<String> {
    let mut words = parcel.lines().flat_map(parcel_words);
    if words.next()? != 0 {
        return None;
    }
    let length = usize::try_from(words.next()?).ok().filter(|length| (14..=17).contains(length))?;
    let units = words.flat_map(|word| [word & 0xffff, word >> 16]);
    let text: String = units.take(length).filter_map(char::from_u32).collect();
    is_imei(&text).then_some(text)
}

/// The words of one line of a parcel's dump: `0x00000010: 00340035 00310032 '5.4.2.1.'`, or all on the line of `Result: Parcel(`.
fn parcel_words(line: &str) -> impl Iterator<Item = u32> + '_ {
    let line = line.trim().trim_start_matches("Result: Parcel(");
    let words = match line.split_once(": ") {
        Some((offset, words)) if offset.starts_with("0x") => words,
        _ => line,
    };
    let hex = words.split('\'').next().unwrap_or_default();
    hex.split_whitespace().filter(|word| word.len() == 8).map_while(|word| u32::from_str_radix(word, 16).ok())
}

/// An IMEI has 15 digits, an MEID 14 hexadecimal ones, an IMEI with software version 16 or 17.
fn is_imei(text: &str) -> bool {
    (14..=17).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_hexdigit())
        && text.bytes().any(|byte| byte != b'0')
}

/// The answer of `settings get secure android_id`: up to 16 hexadecimal digits. It changes only with a factory reset.
#[must_use]
pub fn android_id(answer: &str) -> Option<String> {
    let id = answer.trim();
    let sane = (8..=16).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    sane.then(|| id.to_ascii_lowercase())
}

/// `wifi`, `mobile` or `none`, from the output of `dumpsys connectivity`.
#[must_use]
pub fn network(dumpsys: &str) -> &'static str {
    let default = dumpsys.lines().find_map(|line| line.trim().strip_prefix("Active default network:")).map(str::trim);
    let Some(number) = default.filter(|number| !number.is_empty() && *number != "none") else { return "none" };
    let agents = dumpsys.lines().filter(|line| line.contains("NetworkAgentInfo"));
    let is_default = |line: &&str| {
        [format!("network{{{number}}}"), format!("- {number}]")].iter().any(|mark| line.contains(mark.as_str()))
    };
    match agents.filter(is_default).map(str::to_ascii_uppercase).next() {
        Some(line) if line.contains("WIFI") => "wifi",
        Some(line) if line.contains("MOBILE") || line.contains("CELLULAR") => "mobile",
        _ => "none",
    }
}

/// Any bytes, as if a phone had answered each question with them.
pub fn fuzz_profile(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let _ = (property(&text, "ro.product.model"), imei(&text), android_id(&text), network(&text));
    let _ = (abis(&text), asks_its_user(&text), verifier_asks(&text));
    let _ = package(&text, &PackageName::new("org.example.agent"));
    let _ = (battery(&text), current_milliamps(&text, "Samsung"), current_milliamps(&text, "Google"));
    let _ = (storage(&text), uptime(&text), screen_size(&text), screen_density(&text), screen_state(&text));
    let _ = sessions::open(&text);
    let agent = PackageName::new("org.example.agent");
    let _ = health::faults(&text, &agent, std::time::Duration::from_secs(600));
    let _ = (sims(&text), sims(&format!("Row: {text}")));
    super::upkeep::aim::fuzz_answer(&text);
}

/// The SIM cards that are in their slots, in the answer of `content query --uri content://telephony/siminfo`: a line for each card
/// that the phone ever had, `Row: 0 _id=1, icc_id=…, sim_id=0, …`. A card that was taken out has -1 as `sim_id`.
#[must_use]
pub fn sims(answer: &str) -> Vec<Sim> {
    let mut sims: Vec<(u8, Sim)> = answer.lines().filter_map(sim).collect();
    sims.sort_by_key(|(slot, _)| *slot);
    sims.dedup_by_key(|(slot, _)| *slot);
    sims.into_iter().map(|(_, sim)| sim).collect()
}

fn sim(row: &str) -> Option<(u8, Sim)> {
    let columns = row.trim().strip_prefix("Row: ")?.split_once(' ')?.1;
    let column = |name: &str| {
        let value = columns.split(", ").find_map(|column| column.strip_prefix(name)?.strip_prefix('='))?;
        Some(value.trim()).filter(|value| *value != "NULL")
    };
    let digits = |name: &str| {
        let fits = |text: &&str| {
            let digits = text.strip_prefix('+').unwrap_or(text);
            (1..=20).contains(&digits.len()) && digits.bytes().all(|byte| byte.is_ascii_digit())
        };
        column(name).filter(fits).unwrap_or_default().to_owned()
    };
    let slot = column("sim_id")?.parse().ok()?;
    Some((slot, Sim { imsi: digits("imsi"), number: digits("number") }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_android_id_is_hexadecimal_or_none() {
        assert_eq!(android_id("9774D56D682E549c\r\n").as_deref(), Some("9774d56d682e549c"));
        for none in ["null", "", "1234567", "12345678901234567", "/system/bin/sh: settings: not found"] {
            assert_eq!(android_id(none), None, "{none}");
        }
    }

    #[test]
    fn the_cards_in_their_slots_are_told_and_those_of_former_days_are_not() {
        let text = "Row: 0 _id=1, icc_id=8949, sim_id=-1, display_name=Old, number=+4917000, imsi=262010000000001\n\
                    Row: 1 _id=2, icc_id=8950, sim_id=1, display_name=Two, of them, number=NULL, imsi=262020000000002\n\
                    Row: 2 _id=3, icc_id=8951, sim_id=0, display_name=One, number=+49171234567, imsi=NULL\n";
        let told: Vec<(String, String)> = sims(text).into_iter().map(|sim| (sim.imsi, sim.number)).collect();
        let told: Vec<(&str, &str)> = told.iter().map(|(imsi, number)| (imsi.as_str(), number.as_str())).collect();
        assert_eq!(told, [("", "+49171234567"), ("262020000000002", "")]);
        for none in ["No result found.\n", "", "Error while accessing provider:telephony", "Row: 0 sim_id=x"] {
            assert_eq!(sims(none), [], "{none}");
        }
    }

    #[test]
    fn a_property_is_found_by_its_whole_name() {
        let text = "[ro.product.model]: [Pixel 7]\n[ro.product.model.x]: [no]\n[gsm.sim]: []\r\n[a]: [x]\r\n";
        assert_eq!(property(text, "ro.product.model"), Some("Pixel 7"));
        assert_eq!(property(text, "gsm.sim"), None);
        assert_eq!(property(text, "a"), Some("x"));
        assert_eq!(property(text, "ro.product"), None);
    }

    #[test]
    fn the_abis_stand_in_the_phones_own_order() {
        assert_eq!(
            abis("[ro.product.cpu.abilist]: [arm64-v8a,armeabi-v7a, armeabi]"),
            ["arm64-v8a", "armeabi-v7a", "armeabi"]
        );
        assert!(abis("[ro.product.cpu.abi]: [arm64-v8a]").is_empty(), "one of them is not all of them");
    }

    #[test]
    fn a_rom_that_asks_its_user_is_known_by_its_properties() {
        let miui = "[ro.miui.ui.version.name]: [V140]\n[persist.security.adbinstall]: [0]\n";
        assert!(asks_its_user(miui).unwrap().contains("Install via USB"));
        assert_eq!(asks_its_user(&miui.replace("[0]", "[1]")), None, "its owner has allowed it");
        assert!(asks_its_user("[ro.build.version.oplusrom]: [V13]").unwrap().contains("ColorOS"));
        assert_eq!(asks_its_user("[persist.security.adbinstall]: [0]"), None, "no MIUI");
    }

    #[test]
    fn a_verifier_asks_only_where_both_settings_say_so() {
        let df = "Filesystem 1K-blocks Used Available Use% Mounted on\n/dev/block/dm-1 9 7 1 3% /data\n";
        assert!(verifier_asks(&format!("{df}1\n1\n")).unwrap().contains("Verify apps over USB"));
        for told in ["1\n0\n", "0\n1\n", "null\nnull\n", "1\nnull\n", "", "1\n"] {
            assert_eq!(verifier_asks(&format!("{df}{told}")), None, "{told}");
        }
    }

    #[test]
    fn the_running_block_of_an_updated_system_app_counts() {
        let text = "Packages:\n  Package [org.example.agent] (a1b2):\n    userId=10123\n    versionCode=2 minSdk=24 targetSdk=33\n    versionName=2.0\n\nHidden system packages:\n  Package [org.example.agent] (c3d4):\n    versionCode=1 minSdk=24 targetSdk=33\n    versionName=1.0\n";
        let read = package(text, &PackageName::new("org.example.agent")).unwrap();
        assert_eq!((read.version_code, read.version_name.as_str()), (VersionCode(2), "2.0"));
        assert_eq!(package(text, &PackageName::new("org.example")), None);
        assert_eq!(
            package("Unable to find package: org.example.agent\n", &PackageName::new("org.example.agent")),
            None
        );
    }

    #[test]
    fn an_imei_comes_out_of_the_parcel_or_not_at_all() {
        let text = "Result: Parcel(\n  0x00000000: 00000000 0000000f 00390034 00310030 '........4.9.0.1.'\n  0x00000010: 00340035 00300032 00320033 00370033 '5.4.2.0.3.2.3.7.'\n  0x00000020: 00310035 00000038                   '5.1.8...        ')\n";
        assert_eq!(imei(text).as_deref(), Some("490154203237518"));
        let denied = "Result: Parcel(ffffffff 00000046 00720065 00690073 'e.r.s.i.')\n";
        assert_eq!(imei(denied), None);
        assert_eq!(imei("service: Service iphonesubinfo does not exist\n"), None);
        assert_eq!(imei("Result: Parcel(00000000 0000000f 00300030 00300030)"), None);
    }

    #[test]
    fn the_active_network_is_named_by_its_kind() {
        let wifi = "NetworkProviders for: x\nActive default network: 101\nCurrent Networks:\n  NetworkAgentInfo{network{100}  handle{1} ni{MOBILE[LTE] CONNECTED}}\n  NetworkAgentInfo{network{101}  handle{2} ni{WIFI CONNECTED extra: }}\n";
        assert_eq!(network(wifi), "wifi");
        assert_eq!(network(&wifi.replace(": 101", ": 100")), "mobile");
        assert_eq!(network("Active default network: none\n"), "none");
        assert_eq!(network(""), "none");
    }

    proptest! {
        #[test]
        fn no_text_makes_a_reader_panic(text in "(?s).{0,400}") {
            fuzz_profile(text.as_bytes());
        }
    }
}
