//! Which phone takes which APK.

use super::fit::{Ancestor, Downgrade, Handset, InstalledPackage, Misfit, Requirements, SdkSigner, Trust, fits};
use super::{Build, CheckedApk};
use crate::rack::ids::{PackageName, VersionCode};

/// Version 5, for Android 9 to 14, native for 64-bit ARM; signed by A up to Android 12, by B from 13 on.
fn apk() -> CheckedApk {
    let signer =
        |sdks, certificate: &str, ancestors| SdkSigner { sdks, certificates: vec![certificate.to_owned()], ancestors };
    let past = Ancestor { certificate: "A".into(), trust: Trust::Updates };
    let lost = Ancestor { certificate: "Z".into(), trust: Trust::Nothing };
    CheckedApk {
        path: "/state/apks/5.apk".into(),
        package: PackageName::new("org.example.agent"),
        version_code: VersionCode(5),
        version_name: "5.0".into(),
        signer_sha256: "B".into(),
        size: 4096,
        sha256: "55".repeat(32),
        build: Build::Release,
        requirements: Requirements {
            sdks: 28..=34,
            abis: ["arm64-v8a".to_owned()].into(),
            signers: vec![signer(33..=34, "B", vec![lost, past]), signer(28..=32, "A", Vec::new())],
        },
    }
}

fn phone(sdk: u32) -> Handset {
    Handset { sdk: Some(sdk), abis: vec!["arm64-v8a".into(), "armeabi-v7a".into()], installed: None }
}

fn with_app(sdk: u32, version: u64, signer: &str) -> Handset {
    let installed = InstalledPackage { version_code: VersionCode(version), signer_sha256: Some(signer.into()) };
    Handset { installed: Some(installed), ..phone(sdk) }
}

fn why_not(phone: &Handset) -> String {
    fits(&apk(), phone, Downgrade::Refused).unwrap_err().to_string()
}

#[test]
fn a_phone_of_the_right_android_and_processor_takes_it() {
    for sdk in 28..=34 {
        fits(&apk(), &phone(sdk), Downgrade::Refused).unwrap();
    }
    assert_eq!(why_not(&phone(27)), "its Android (SDK 27) is older than the APK needs (SDK 28)");
    assert_eq!(why_not(&phone(35)), "its Android (SDK 35) is newer than the APK allows (SDK 34)");
    assert_eq!(why_not(&Handset::default()), "its Android version is not known yet");
    let old = Handset { abis: vec!["armeabi-v7a".into(), "armeabi".into()], ..phone(30) };
    assert_eq!(
        why_not(&old),
        "its processor runs armeabi-v7a, armeabi, and the APK has native code for arm64-v8a only"
    );
}

#[test]
fn what_is_not_there_is_not_compared() {
    fits(&apk(), &Handset { abis: Vec::new(), ..phone(30) }, Downgrade::Refused).unwrap();
    let mut portable = apk();
    portable.requirements.abis.clear();
    fits(&portable, &Handset { abis: vec!["x86".into()], ..phone(30) }, Downgrade::Refused).unwrap();
    let unread = InstalledPackage { version_code: VersionCode(4), signer_sha256: None };
    fits(&apk(), &Handset { installed: Some(unread), ..phone(30) }, Downgrade::Refused).unwrap();
}

#[test]
fn an_app_of_another_key_is_not_updated() {
    fits(&apk(), &with_app(30, 4, "A"), Downgrade::Refused).unwrap();
    fits(&apk(), &with_app(33, 4, "B"), Downgrade::Refused).unwrap();
    fits(&apk(), &with_app(33, 4, "A"), Downgrade::Refused).unwrap();
    let refused = "it has the app signed by B, and Android does not let A update it";
    assert_eq!(why_not(&with_app(30, 4, "B")), refused, "the older Android does not see the rotation");
    let no_longer_trusted = "it has the app signed by Z, and Android does not let B update it";
    assert_eq!(why_not(&with_app(34, 4, "Z")), no_longer_trusted);
}

#[test]
fn an_android_that_knows_none_of_the_schemes_is_told_so() {
    let mut v3_only = apk();
    v3_only.requirements.sdks = 21..=34;
    let refused = fits(&v3_only, &phone(26), Downgrade::Refused).unwrap_err();
    assert_eq!(refused, Misfit::NoSignature { phone: 26 });
}

#[test]
fn a_downgrade_is_only_done_when_asked_for() {
    assert_eq!(why_not(&with_app(30, 6, "A")), "it has version 6, and 5 would be a downgrade");
    fits(&apk(), &with_app(30, 6, "A"), Downgrade::Allowed).unwrap();
    fits(&apk(), &with_app(30, 5, "A"), Downgrade::Refused).unwrap();
}
