//! Apps in several APKs, installed by a session on the virtual phone, whose package manager reads real APKs.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

use farmhand::adb::driver::{Adb, ConnectOptions, connect};
use farmhand::adb::services::install::{Apk, InstallOptions};
use farmhand::adb::tcp::TcpTransport;
use farmhand::phone::InstallFailureClass;
use firmware_tools::phone::{AdbGeneration, Fault, PhoneSpec, VirtualPhone};
use tokio::sync::watch;

use crate::adbd::KEYS;

/// By the fastest way that each offers: abb_exec, `exec:cmd`, or push and pm.
const GENERATIONS: [(AdbGeneration, &[&str], &[&str]); 3] = [
    (AdbGeneration::Modern, &["abb_exec", "cmd"], &[]),
    (AdbGeneration::Middle, &["cmd"], &["abb_exec"]),
    (AdbGeneration::Old, &[], &["abb_exec", "cmd"]),
];

async fn online(adb: AdbGeneration, offered: &[&str], missing: &[&str]) -> (VirtualPhone, Adb) {
    let phone = VirtualPhone::start(PhoneSpec { adb, ..PhoneSpec::new("A1", "R5CW2355X") }).unwrap();
    let transport = TcpTransport::connect(phone.address()).await.unwrap();
    let adb = connect(transport, Arc::clone(&KEYS), ConnectOptions::default()).await.unwrap();
    assert!(offered.iter().all(|feature| adb.banner().offers(feature)), "{:?}", adb.banner());
    assert!(!missing.iter().any(|feature| adb.banner().offers(feature)), "{:?}", adb.banner());
    (phone, adb)
}

fn apks(names: &[&str]) -> Vec<Apk> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("firmware-tools/apks");
    names.iter().map(|name| Apk::new(*name, File::open(folder.join(name)).unwrap()).unwrap()).collect()
}

async fn shell(adb: &Adb, line: &str) -> String {
    adb.shell(line).await.unwrap().text()
}

/// The session of this number is open no more, and one was: numbers are given in turn.
async fn was_abandoned(adb: &Adb, session: u64) {
    let commit = adb.shell(&format!("pm install-commit {session}")).await.unwrap();
    let said = String::from_utf8_lossy(&[commit.stdout, commit.stderr].concat()).into_owned();
    assert!(said.contains(&format!("Caller has no access to session {session}")), "{said}");
    let next = shell(adb, "pm install-create").await;
    assert_eq!(next.trim_end(), format!("Success: created install session [{}]", session + 1));
}

/// The first number that the virtual phone gives a session.
const FIRST: u64 = 1_000_001;

#[tokio::test]
async fn an_app_of_several_apks_is_installed_whole_by_each_way() {
    for (generation, offered, missing) in GENERATIONS {
        let (phone, adb) = online(generation, offered, missing).await;
        let apks = apks(&["agent-2.apk", "agent-2-split-en.apk"]);
        let total = ["agent-2.apk", "agent-2-split-en.apk"]
            .map(|name| format!("{}/firmware-tools/apks/{name}", env!("CARGO_MANIFEST_DIR")))
            .map(|path| std::fs::metadata(path).unwrap().len());
        let (progress, seen) = watch::channel(0);
        let options = InstallOptions { progress: Some(progress), ..InstallOptions::default() };
        adb.install_apks(&apks, &options).await.unwrap();
        assert_eq!(*seen.borrow(), total.iter().sum::<u64>(), "{generation:?}");
        assert_eq!(phone.state().installs, 1, "{generation:?}: one install of both");
        assert_eq!(phone.state().packages["org.example.agent"].0, 2, "{generation:?}");
        let paths = shell(&adb, "pm path org.example.agent").await;
        assert_eq!(paths.lines().count(), 2, "{generation:?}: {paths}");
        assert!(paths.contains("/base.apk") && paths.contains("/split_config.en.apk"), "{generation:?}: {paths}");
        assert_eq!(shell(&adb, "ls /data/local/tmp").await, "", "{generation:?}: nothing pushed is left");
    }
}

#[tokio::test]
async fn a_part_that_does_not_fit_installs_nothing_and_says_why() {
    for (generation, offered, missing) in GENERATIONS {
        let (phone, adb) = online(generation, offered, missing).await;
        let apks = apks(&["agent-2.apk", "agent-2-split-fr-other-key.apk"]);
        let failure = adb.install_apks(&apks, &InstallOptions::default()).await.unwrap_err();
        assert_eq!(failure.class, InstallFailureClass::Permanent, "{generation:?}: {failure:?}");
        assert_eq!(failure.reason.as_deref(), Some("INSTALL_FAILED_INVALID_APK"), "{generation:?}");
        assert!(failure.why.contains("signatures are inconsistent"), "{generation:?}: {}", failure.why);
        assert!(phone.state().packages.is_empty(), "{generation:?}: all or none");
        was_abandoned(&adb, FIRST).await;
        assert_eq!(shell(&adb, "ls /data/local/tmp").await, "", "{generation:?}: nothing pushed is left");
    }
}

#[tokio::test]
async fn a_session_that_could_not_be_filled_is_abandoned() {
    for (generation, offered, missing) in GENERATIONS {
        let (phone, adb) = online(generation, offered, missing).await;
        phone.set_fault(Fault::FullDisk);
        let apks = apks(&["agent-2.apk", "agent-2-split-en.apk"]);
        let failure = adb.install_apks(&apks, &InstallOptions::default()).await.unwrap_err();
        assert_eq!(failure.class, InstallFailureClass::Transient, "{generation:?}: {failure:?}");
        assert!(failure.why.contains("space"), "{generation:?}: {}", failure.why);
        assert!(phone.state().packages.is_empty());
        phone.clear_faults();
        was_abandoned(&adb, FIRST).await;
        adb.install_apks(&apks, &InstallOptions::default()).await.unwrap();
        assert_eq!(phone.state().packages.len(), 1, "{generation:?}: the next one is not in its way");
    }
}
