//! What the owner wants to be so on a phone, seen to on the virtual one, whose Android keeps what it is told, and whose ROM may forget it.

use std::sync::Arc;
use std::time::Duration;

use farmhand::adb::driver::{Adb, ConnectOptions, connect};
use farmhand::adb::tcp::TcpTransport;
use farmhand::config::{
    BatteryUse, ClassName, HealthSign, Permission, SettingName, SettingValue, SettingsTable, Start, Upkeep,
};
use farmhand::phone::actor::upkeep::look;
use farmhand::phone::upkeep::{AimResult, Report};
use farmhand::rack::ids::PackageName;
use farmhand::rack::snapshot::{PhoneView, SettingState};
use firmware_tools::check::until;
use firmware_tools::phone::{Fault, PhoneSpec, VirtualPhone};
use firmware_tools::rack::test_apks;

use crate::adbd::KEYS;
use crate::one_phone::OnePhone;

/// It asks for the camera, and for the internet, which it has by its install.
const TRIAL: &str = "org.example.trial";

async fn online(phone: &VirtualPhone) -> Adb {
    let transport = TcpTransport::connect(phone.address()).await.unwrap();
    connect(transport, Arc::clone(&KEYS), ConnectOptions::default()).await.unwrap()
}

fn phone(brand: &str, sdk: u32) -> VirtualPhone {
    let packages = vec![test_apks().join("trial-1.apk")];
    let spec = PhoneSpec { brand: brand.to_owned(), sdk, packages, ..PhoneSpec::new("A1", "R5CW2355X") };
    VirtualPhone::start(PhoneSpec { reboot_away_s: 0.0, boot_s: 0.0, ..spec }).unwrap()
}

fn wanted() -> Upkeep {
    let setting = SettingName::new(SettingsTable::Global, "stay_on_while_plugged_in").unwrap();
    Upkeep {
        permissions: ["CAMERA", "INTERNET", "SEND_SMS"].iter().filter_map(|name| Permission::new(name)).collect(),
        settings: [(setting, SettingValue::new("7").unwrap())].into(),
        battery: BatteryUse::Exempt,
        start: Some(Start::Launcher),
        ..Upkeep::default()
    }
}

async fn looked(adb: &Adb) -> Report {
    look(adb, &wanted(), &PackageName::new(TRIAL)).await
}

/// What was set, by name.
fn set(report: &Report) -> Vec<&str> {
    let set = report.results.iter().filter(|(_, result)| matches!(result, AimResult::Set { .. }));
    set.map(|(name, _)| name.as_str()).collect()
}

fn result<'r>(report: &'r Report, name: &str) -> &'r AimResult {
    let found = report.results.iter().find(|(known, _)| known == name);
    assert!(found.is_some(), "{name} is not in {report:?}");
    &found.unwrap().1
}

async fn restarted(phone: &VirtualPhone) {
    let before = phone.state().reboots;
    phone.reboot();
    while phone.state().reboots == before || !phone.state().booted {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_fresh_phone_is_set_up_and_keeps_it_over_a_restart() {
    let phone = phone("google", 34);
    let report = looked(&online(&phone).await).await;
    assert_eq!(
        set(&report),
        ["permission CAMERA", "setting global stay_on_while_plugged_in", "doze whitelist", "no hibernation"],
        "{report:?}"
    );
    assert_eq!(*result(&report, "permission INTERNET"), AimResult::Kept);
    let why = "the agent does not ask for it".to_owned();
    assert_eq!(*result(&report, "permission SEND_SMS"), AimResult::NotHere { why });
    restarted(&phone).await;
    let report = looked(&online(&phone).await).await;
    assert_eq!(set(&report), [""; 0], "{report:?}");
    assert!(
        !report
            .results
            .iter()
            .any(|(_, result)| matches!(result, AimResult::Refused { .. } | AimResult::Unread { .. }))
    );
}

#[tokio::test]
async fn what_a_rom_forgets_over_a_restart_is_set_again() {
    let phone = phone("Xiaomi", 34);
    let report = looked(&online(&phone).await).await;
    assert_eq!(report.recipes, ["any Android", "MIUI and HyperOS"]);
    assert!(set(&report).contains(&"autostart"), "{report:?}");
    phone.set_fault(Fault::ForgetsExemptions);
    restarted(&phone).await;
    let report = looked(&online(&phone).await).await;
    assert_eq!(
        set(&report),
        ["doze whitelist", "standby bucket", "no hibernation", "autostart", "running"],
        "{report:?}"
    );
    let report = looked(&online(&phone).await).await;
    assert_eq!(set(&report), [""; 0], "{report:?}");
}

#[tokio::test]
async fn an_agent_whose_service_is_gone_does_not_work_though_it_has_a_process() {
    let phone = phone("google", 34);
    let adb = online(&phone).await;
    let sync = || ClassName::new(".Sync").unwrap();
    let wanted =
        Upkeep { start: Some(Start::Service(sync())), health: HealthSign::Service(sync()), ..Upkeep::default() };
    let agent = PackageName::new(TRIAL);
    let running = async || look(&adb, &wanted, &agent).await.results.remove(0).1;
    assert_eq!(running().await, AimResult::Set { was: "it does not run".to_owned() });
    assert_eq!(running().await, AimResult::Kept);
    adb.shell(&format!("am force-stop {TRIAL}")).await.unwrap();
    adb.shell(&format!("monkey -p {TRIAL} -c android.intent.category.LAUNCHER 1")).await.unwrap();
    assert_eq!(running().await, AimResult::Set { was: "it does not run".to_owned() });
}

#[tokio::test]
async fn an_old_android_is_not_asked_what_it_does_not_know() {
    let report = looked(&online(&phone("google", 24)).await).await;
    assert_eq!(set(&report), ["permission CAMERA", "setting global stay_on_while_plugged_in", "doze whitelist"]);
    assert!(!report.results.iter().any(|(name, _)| name == "standby bucket"), "{report:?}");
}

/// The daemon by itself: soon after the phone is ready.
#[tokio::test]
async fn the_daemon_sees_to_a_phone_that_is_ready_and_says_what_came_of_it() {
    let dir = tempfile::tempdir().unwrap();
    let lines = "[agent]\npackage = 'org.example.agent'\n[agent.settings.global]\nstay_on_while_plugged_in = 7\n";
    let rig = OnePhone::start(dir.path(), &dir.path().join("state"), lines).await;
    rig.until_ready().await;
    let seen = until(Duration::from_secs(60), "it was looked after", async || {
        let phone: PhoneView =
            rig.daemon.ask(&["phone", "A1", "show", "--json"]).await.map_err(|error| error.to_string())?;
        let states: Vec<SettingState> = phone.upkeep.settings.iter().map(|setting| setting.state).collect();
        if states == [SettingState::Set] { Ok(()) } else { Err(format!("{:?}", phone.upkeep)) }
    });
    seen.await.unwrap();
}
