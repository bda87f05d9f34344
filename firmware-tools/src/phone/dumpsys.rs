//! What Android's services print: `dumpsys` and `service call`, in Android's own form.

use std::fmt::Write as _;

use super::android::Android;
use super::battery::Power;
use super::input;
use super::packages::Installed;
use super::permissions::is_from_its_user;
use super::spec::Network;
use super::users::{Users, Whose};

/// Android 13 knows docks.
const SDK_WITH_DOCKS: u32 = 33;

/// Android 14 tells how and by which policy it charges.
const SDK_WITH_POLICY: u32 = 34;

/// Android 12 and later tell of no display in `dumpsys power`.
const LAST_SDK_WITH_DISPLAY: u32 = 30;

/// A battery that is too hot, in tenths of a degree.
const HOT: i32 = 461;

/// `dumpsys battery`.
pub(super) fn battery(android: &Android) -> String {
    let now = android.now();
    let mut reading = android.state().battery.read(now);
    if android.faults.borrow().hot {
        reading.temperature = HOT;
    }
    let usb = reading.power == Power::Usb;
    let status = match (reading.level, reading.power) {
        (100, Power::Usb) => 5,
        (_, Power::Usb) => 2,
        (_, Power::Battery) => 3,
    };
    let (microamperes, microvolts) = if usb { (500_000, 5_000_000) } else { (0, 0) };
    let dock = if android.spec.sdk >= SDK_WITH_DOCKS { "  Dock powered: false\n" } else { "" };
    let policy = if android.spec.sdk >= SDK_WITH_POLICY { "  Charging state: 0\n  Charging policy: 1\n" } else { "" };
    let current = match is_samsung(android) {
        true => format!("  current now: {}\n", reading.current_ua / 1000),
        false => String::new(),
    };
    format!(
        "Current Battery Service state:\n  AC powered: false\n  USB powered: {usb}\n  Wireless powered: false\n{dock}  \
         Max charging current: {microamperes}\n  Max charging voltage: {microvolts}\n  Charge counter: {}\n  \
         status: {status}\n  health: 2\n  present: true\n  level: {}\n  scale: 100\n  voltage: {}\n  temperature: {}\n  \
         technology: Li-ion\n{policy}{current}",
        reading.charge_counter_uah, reading.level, reading.millivolts, reading.temperature,
    )
}

/// Samsung's phones tell the current of their battery, in milliampere.
pub(super) fn is_samsung(android: &Android) -> bool {
    android.spec.brand.eq_ignore_ascii_case("samsung")
}

/// `dumpsys power`: the lines that hosts read. The phone stays awake while it has power, if no key tells it otherwise.
pub(super) fn power(android: &Android) -> String {
    let (awake, display) = match input::is_screen_on(android) {
        true => ("Awake", "ON"),
        false => ("Asleep", "OFF"),
    };
    let now = android.now();
    let powered = android.state().battery.read(now).power == Power::Usb;
    let shown = match android.spec.sdk {
        ..=LAST_SDK_WITH_DISPLAY => format!("\nDisplay Power: state={display}\n"),
        _ => String::new(),
    };
    format!(
        "POWER MANAGER (dumpsys power)\n\nPower Manager State:\n  mDirty=0x0\n  mWakefulness={awake}\n  \
         mWakefulnessChanging=false\n  mIsPowered={powered}\n  mPlugType={plug}\n{shown}",
        plug = if powered { 2 } else { 0 },
    )
}

/// `dumpsys package <name>`: the lines that hosts read.
pub(super) fn package(installed: &Installed, sdk: u32, users: &Users) -> String {
    /// Android 14 tells the app id where it told the user id before.
    const SDK_WITH_APP_ID: u32 = 34;
    let Installed { apk, app_id, number, .. } = installed;
    let name = &apk.package;
    let id = if sdk >= SDK_WITH_APP_ID { "appId" } else { "userId" };
    let path = installed.code_path();
    let mut text = format!("Packages:\n  Package [{name}] ({number:07x}):\n    {id}={app_id}\n");
    // Writing to a String can't fail.
    let _ = write!(
        text,
        "    pkg=Package{{{number:07x} {name}}}\n    codePath={path}\n    resourcePath={path}\n    \
         legacyNativeLibraryDir={path}/lib\n    versionCode={} minSdk={} targetSdk={}\n    versionName={}\n    \
         signatures=PackageSignatures{{{number:07x} version:3, signatures:[{:.8}], past signatures:[]}}\n",
        apk.version_code,
        apk.min_sdk,
        apk.target_sdk,
        apk.version_name,
        apk.signers.first().map_or("", String::as_str),
    );
    let splits: String = installed.splits.keys().map(|name| format!(", {name}")).collect();
    let _ = writeln!(text, "    splits=[base{splits}]");
    let (asked, by_install): (Vec<_>, Vec<_>) = apk.permissions.iter().partition(|name| is_from_its_user(name));
    if !apk.permissions.is_empty() {
        let lines = apk.permissions.iter().map(|permission| format!("      {permission}\n"));
        text.extend(std::iter::once("    requested permissions:\n".to_owned()).chain(lines));
    }
    if !by_install.is_empty() {
        let lines = by_install.iter().map(|permission| format!("      {permission}: granted=true\n"));
        text.extend(std::iter::once("    install permissions:\n".to_owned()).chain(lines));
    }
    for user in users.of(Whose::All) {
        let granted = installed.users.get(&user);
        let _ = writeln!(
            text,
            "    User {user}: installed={} hidden=false suspended=false stopped=true notLaunched=true enabled=0",
            granted.is_some()
        );
        if !asked.is_empty() {
            text.push_str("      runtime permissions:\n");
        }
        for permission in &asked {
            let has = granted.is_some_and(|granted| granted.contains(*permission));
            let flags = if has { " USER_SET " } else { " " };
            let _ = writeln!(text, "        {permission}: granted={has}, flags=[{flags}]");
        }
    }
    text
}

/// `dumpsys package installs`: the sessions that are open, all of them the shell's.
pub(super) fn installs<'a>(sessions: impl Iterator<Item = (u64, Option<&'a str>)>) -> String {
    let mut text = "Active install sessions:\n".to_owned();
    for (session, referrer) in sessions {
        let referrer = referrer.unwrap_or("null");
        // Writing to a String can't fail.
        let _ = write!(
            text,
            "  Session {session}:\n    userId=0 mOriginalInstallerUid=2000 mOriginalInstallerPackageName=com.android.shell \
             installerPackageName=com.android.shell mInstallerUid=2000 stageDir=/data/app/vmdl{session}.tmp\n    mode=1 \
             installFlags=0x12 originatingUri=null referrerUri={referrer} isMultiPackage=false isStaged=false\n\n"
        );
    }
    text + "Historical install sessions:\n"
}

/// `dumpsys connectivity`: which network is the default one, and what it is.
pub(super) fn connectivity(network: Network) -> String {
    let (kind, interface, transport, metered) = match network {
        Network::None => return "Active default network: none\n\nCurrent Networks:\n".to_owned(),
        Network::Wifi => ("WIFI", "wlan0", "WIFI", "NOT_METERED&"),
        Network::Lte => ("MOBILE[LTE]", "rmnet0", "CELLULAR", ""),
    };
    format!(
        "Active default network: 100\n\nCurrent Networks:\n  NetworkAgentInfo{{network{{100}}  handle{{432902426637}}  \
         ni{{{kind} CONNECTED extra: }} Score(Policies : TRANSPORT_PRIMARY&EVER_VALIDATED&IS_VALIDATED ; KeepConnected : 0)  \
         lp{{{{InterfaceName: {interface} LinkAddresses: [ 192.0.2.17/24 ] DnsAddresses: [ /192.0.2.1 ] MTU: 1500 \
         Routes: [ 0.0.0.0/0 -> 192.0.2.1 {interface} ]}}}}  nc{{[ Transports: {transport} Capabilities: \
         {metered}INTERNET&NOT_RESTRICTED&TRUSTED&NOT_VPN&VALIDATED&NOT_ROAMING&FOREGROUND&NOT_CONGESTED&NOT_SUSPENDED]}}  }}\n"
    )
}

/// The answer of `service call` with a string in it, or with none.
pub(super) fn string_parcel(text: Option<&str>) -> String {
    // No exception, then the string: its length in UTF-16 units, these with a zero behind them, padded to four bytes.
    let mut bytes = vec![0; 4];
    match text {
        None => bytes.extend_from_slice(&(-1_i32).to_le_bytes()),
        Some(text) => {
            let units: Vec<u16> = text.encode_utf16().collect();
            bytes.extend_from_slice(&(units.len() as u32).to_le_bytes());
            units.iter().chain([&0]).for_each(|unit| bytes.extend_from_slice(&unit.to_le_bytes()));
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
    }
    parcel(&bytes)
}

/// Bytes as Android's `Parcel` prints them: words of four bytes, then the letters among them.
fn parcel(bytes: &[u8]) -> String {
    const LINE_BYTES: usize = 16;
    let letters = |line: &[u8]| -> String {
        line.iter().map(|&byte| if (b' '..=b'~').contains(&byte) { char::from(byte) } else { '.' }).collect()
    };
    let words = |line: &[u8]| -> String {
        let word = |word: &[u8]| word.iter().rev().map(|byte| format!("{byte:02x}")).collect::<String>();
        line.chunks(4).map(|four| word(four) + " ").collect()
    };
    if bytes.len() <= LINE_BYTES {
        return format!("Result: Parcel({}  '{}')\n", words(bytes), letters(bytes));
    }
    let lines = bytes
        .chunks(LINE_BYTES)
        .enumerate()
        .map(|(number, line)| format!("\n  0x{:08x}: {:36}'{:16}'", number * LINE_BYTES, words(line), letters(line)));
    format!("Result: Parcel({})\n", lines.collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_imei_looks_as_a_real_phone_prints_it() {
        assert_eq!(
            string_parcel(Some("353626072090389")),
            "Result: Parcel(\n  \
             0x00000000: 00000000 0000000f 00350033 00360033 '........3.5.3.6.'\n  \
             0x00000010: 00360032 00370030 00300032 00300039 '2.6.0.7.2.0.9.0.'\n  \
             0x00000020: 00380033 00000039                   '3.8.9...        ')\n"
        );
        assert_eq!(string_parcel(None), "Result: Parcel(00000000 ffffffff   '........')\n");
    }

    #[test]
    fn the_network_is_told_by_the_agent_of_the_default_one() {
        let wifi = connectivity(Network::Wifi);
        assert!(wifi.starts_with("Active default network: 100\n"));
        assert!(wifi.contains("NetworkAgentInfo{network{100}  handle{432902426637}  ni{WIFI CONNECTED extra: }"));
        assert!(connectivity(Network::Lte).contains("ni{MOBILE[LTE] CONNECTED"));
        assert!(connectivity(Network::None).starts_with("Active default network: none\n"));
    }
}
