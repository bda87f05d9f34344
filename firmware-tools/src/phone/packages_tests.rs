//! Installs of the test APKs.

use super::super::users::Kind;
use super::*;

fn apk(name: &str) -> Bytes {
    Bytes::from(std::fs::read(format!("{}/apks/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap())
}

/// A phone with its owner alone.
fn on(users: &Users, sdk: u32) -> Place<'_> {
    Place { sdk, debuggable: false, free_bytes: u64::MAX, users }
}

fn install_all(packages: &mut Packages, names: &[&str], options: &InstallOptions) -> Result<u64, String> {
    let contents: Vec<_> = names.iter().map(|name| apk(name)).collect();
    packages.install(&contents, on(&Users::default(), 34), options).map(|installed| installed.apk.version_code)
}

fn install(packages: &mut Packages, name: &str) -> Result<u64, String> {
    install_all(packages, &[name], &InstallOptions::default())
}

#[test]
fn an_upgrade_goes_and_a_downgrade_does_not() {
    let mut packages = Packages::default();
    assert_eq!(install(&mut packages, "agent-1.apk"), Ok(1));
    let app_id = packages.get("org.example.agent").unwrap().app_id;
    assert_eq!(install(&mut packages, "agent-3.apk"), Ok(3));
    assert_eq!(install(&mut packages, "agent-3.apk"), Ok(3));
    assert_eq!(packages.get("org.example.agent").unwrap().app_id, app_id);
    let refused = "INSTALL_FAILED_VERSION_DOWNGRADE: Downgrade detected: Update version code 2 is older than current 3";
    assert_eq!(install(&mut packages, "agent-2.apk").unwrap_err(), refused);
    let downgrade = InstallOptions { downgrade: true, ..InstallOptions::default() };
    assert_eq!(install_all(&mut packages, &["agent-2.apk"], &downgrade).unwrap_err(), refused, "it is not debuggable");
    packages.uninstall("org.example.agent", Whose::All).unwrap();
    assert_eq!(install(&mut packages, "agent-2.apk"), Ok(2));
}

#[test]
fn another_key_no_key_and_half_an_apk_are_refused() {
    let mut packages = Packages::default();
    install(&mut packages, "agent-1.apk").unwrap();
    install(&mut packages, "other-package-1.apk").unwrap();
    let why = |packages: &mut Packages, name| install(packages, name).unwrap_err();
    assert_eq!(
        why(&mut packages, "agent-2-other-key.apk"),
        "INSTALL_FAILED_UPDATE_INCOMPATIBLE: Existing package org.example.agent signatures do not match newer version; \
         ignoring!"
    );
    assert!(why(&mut packages, "agent-2-unsigned.apk").starts_with("INSTALL_PARSE_FAILED_NO_CERTIFICATES: "));
    assert!(why(&mut packages, "agent-2-truncated.apk").starts_with("INSTALL_PARSE_FAILED_NOT_APK: "));
    let names: Vec<_> = packages.iter().map(|installed| installed.apk.package.as_str()).collect();
    assert_eq!(names, ["org.example.agent", "org.example.other"]);
    assert_eq!(packages.get("org.example.agent").unwrap().apk.version_code, 1);
}

#[test]
fn the_phone_counts_too() {
    let mut packages = Packages::default();
    let content = [apk("agent-1.apk")];
    let (usual, users) = (InstallOptions::default(), Users::default());
    let why = packages.install(&content, on(&users, 23), &usual).unwrap_err();
    assert!(why.ends_with("Requires newer sdk version #24 (current version is #23)"), "{why}");
    let why = packages.install(&content, Place { free_bytes: 100, ..on(&users, 34) }, &usual).unwrap_err();
    assert_eq!(why, "INSTALL_FAILED_INSUFFICIENT_STORAGE");
    packages.install(&content, on(&users, 26), &usual).unwrap();
    let why = packages.install(&content, on(&users, 26), &usual).unwrap_err();
    assert!(why.starts_with("INSTALL_FAILED_ALREADY_EXISTS"), "{why}");
    packages.install(&content, on(&users, 26), &InstallOptions { replace: true, ..usual }).unwrap();
}

#[test]
fn splits_come_with_their_base_or_to_it() {
    let usual = InstallOptions::default();
    let mut packages = Packages::default();
    let why = |packages: &mut Packages, names: &[&str]| install_all(packages, names, &usual).unwrap_err();
    let split = "agent-2-split-en.apk";
    assert_eq!(why(&mut packages, &[split]), "INSTALL_FAILED_INVALID_APK: Full install must include a base package");
    assert!(why(&mut packages, &["agent-2.apk", "agent-2.apk"]).ends_with("Split null was defined multiple times"));
    assert!(why(&mut packages, &["agent-1.apk", split]).ends_with("version code 2 inconsistent with 1"));
    assert!(why(&mut packages, &["other-package-1.apk", split]).contains("inconsistent with org.example.other"));
    assert!(
        why(&mut packages, &["agent-2.apk", "agent-2-split-fr-other-key.apk"]).ends_with("signatures are inconsistent")
    );

    assert_eq!(install_all(&mut packages, &["agent-2.apk", split], &usual), Ok(2));
    let files: Vec<_> = packages.get("org.example.agent").unwrap().apk_paths().collect();
    assert!(files[0].ends_with("/base.apk") && files[1].ends_with("/split_config.en.apk"), "{files:?}");

    install_all(&mut packages, &["agent-2.apk"], &usual).unwrap();
    assert!(packages.get("org.example.agent").unwrap().splits.is_empty());
    let to_it = InstallOptions { inherit: Some("org.example.agent".to_owned()), ..usual };
    assert_eq!(install_all(&mut packages, &[split], &to_it), Ok(2));
    assert_eq!(packages.get("org.example.agent").unwrap().splits.len(), 1);
}

#[test]
fn each_user_has_apps_and_grants_of_its_own() {
    let mut users = Users::default();
    let guest = users.create("Guest", Kind::Full).unwrap();
    let mut packages = Packages::default();
    let mut install = |name: &str, whose, grant| {
        let options = InstallOptions { whose, grant, test_only: true, ..InstallOptions::default() };
        packages.install(&[apk(name)], on(&users, 34), &options).map(|installed| installed.users.clone()).unwrap()
    };
    let (camera, microphone) = ("android.permission.CAMERA".to_owned(), "android.permission.RECORD_AUDIO".to_owned());
    let all = BTreeSet::from([camera, microphone]);
    assert_eq!(install("trial-1.apk", Whose::One(guest), true), BTreeMap::from([(guest, all.clone())]));
    // Who has it keeps what was granted, and nobody else gets it.
    assert_eq!(install("trial-2.apk", Whose::One(guest), false), BTreeMap::from([(guest, all.clone())]));
    assert_eq!(install("trial-2.apk", Whose::All, false), BTreeMap::from([(0, BTreeSet::new()), (guest, all)]));

    let trial = "org.example.trial";
    assert_eq!(packages.get(trial).unwrap().uid(guest), 1_010_100);
    packages.uninstall(trial, Whose::One(guest)).unwrap();
    assert_eq!(packages.uninstall(trial, Whose::One(guest)).unwrap_err(), "not installed for 10");
    assert!(packages.get(trial).unwrap().is_for(Whose::One(0)));
    packages.uninstall(trial, Whose::One(0)).unwrap();
    assert_eq!(packages.get(trial), None, "nobody has it");
}

#[test]
fn with_a_user_goes_what_only_it_had() {
    let mut users = Users::default();
    let guest = users.create("Guest", Kind::Full).unwrap();
    let mut packages = Packages::default();
    for (name, whose) in [("agent-1.apk", Whose::All), ("other-package-1.apk", Whose::One(guest))] {
        let options = InstallOptions { whose, ..InstallOptions::default() };
        packages.install(&[apk(name)], on(&users, 34), &options).unwrap();
    }
    packages.forget_user(guest);
    let names: Vec<_> = packages.iter().map(|installed| installed.apk.package.as_str()).collect();
    assert_eq!(names, ["org.example.agent"]);
}
