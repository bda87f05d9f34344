//! Installs of the test APKs.

use super::*;

fn apk(name: &str) -> Bytes {
    Bytes::from(std::fs::read(format!("{}/apks/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap())
}

fn on(sdk: u32) -> Place {
    Place { sdk, free_bytes: u64::MAX }
}

fn install_all(packages: &mut Packages, names: &[&str], options: &InstallOptions) -> Result<u64, String> {
    let contents: Vec<_> = names.iter().map(|name| apk(name)).collect();
    packages.install(&contents, on(34), options).map(|installed| installed.apk.version_code)
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
    packages.uninstall("org.example.agent").unwrap();
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
    let usual = InstallOptions::default();
    let why = packages.install(&content, on(23), &usual).unwrap_err();
    assert!(why.ends_with("Requires newer sdk version #24 (current version is #23)"), "{why}");
    let why = packages.install(&content, Place { sdk: 34, free_bytes: 100 }, &usual).unwrap_err();
    assert_eq!(why, "INSTALL_FAILED_INSUFFICIENT_STORAGE");
    packages.install(&content, on(26), &usual).unwrap();
    let why = packages.install(&content, on(26), &usual).unwrap_err();
    assert!(why.starts_with("INSTALL_FAILED_ALREADY_EXISTS"), "{why}");
    packages.install(&content, on(26), &InstallOptions { replace: true, ..usual }).unwrap();
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
