//! What farmhand says of APKs that are truly signed, and of those that only seem so.

use std::io::Write;

use farmhand::agent::signature::{SignatureError, Signatures, verify};
use sha2::{Digest, Sha256};

use crate::corpus::{corpus, wrong_digest_in_v3_1};
use crate::forge::{Forge, SDK_MAX, V2, V3, V31, certificate, read, scheme, taken_pairs, with_pairs};

fn verify_bytes(bytes: &[u8]) -> Result<Signatures, SignatureError> {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(bytes).unwrap();
    verify(&file, 24)
}

fn fingerprint(key: &str) -> String {
    Sha256::digest(certificate(key)).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Who signed it for a phone of some Android version, and who before.
fn signer_for(apk: &Signatures, sdk: u32) -> (Vec<String>, Vec<String>) {
    let signer = apk.by_sdk.iter().find(|signer| signer.sdks.contains(&sdk)).unwrap();
    (signer.certificates.clone(), signer.ancestors.iter().map(|past| past.certificate.clone()).collect())
}

#[test]
fn every_way_to_sign_is_verified() {
    for name in [
        "v2",
        "v3",
        "v1-v2-v3",
        "rsa4096",
        "ec256",
        "ec384",
        "ec521",
        "dsa2048",
        "verity-a",
        "verity-ec256",
        "verity-dsa2048",
        "v2-two-signers",
        "rotated",
        "rotated-twice",
        "rotated-ec-dsa",
        "rotated-at-28",
        "rotated-at-34",
        "rotated-in-development",
    ] {
        verify_bytes(&read(&format!("schemes/{name}"))).unwrap_or_else(|error| panic!("{name}: {error}"));
    }
    let v1 = verify_bytes(&read("schemes/v1")).unwrap_err();
    assert!(v1.to_string().starts_with("it is signed by scheme v1 only"), "{v1}");
}

#[test]
fn each_phone_is_told_its_own_signer() {
    let [a, b, ec] = ["a", "b", "ec256"].map(fingerprint);
    let rotated = verify_bytes(&read("schemes/rotated")).unwrap();
    assert_eq!(signer_for(&rotated, 24), (vec![a.clone()], vec![]), "by v2");
    assert_eq!(signer_for(&rotated, 32), (vec![a.clone()], vec![]), "by v3");
    assert_eq!(signer_for(&rotated, 33), (vec![b.clone()], vec![a.clone()]), "by v3.1");
    assert_eq!(rotated.newest(), b);
    let twice = verify_bytes(&read("schemes/rotated-twice")).unwrap();
    assert_eq!(signer_for(&twice, 35), (vec![ec], vec![a.clone(), b.clone()]));
    let two = verify_bytes(&read("schemes/v2-two-signers")).unwrap();
    assert_eq!(signer_for(&two, 30), (vec![a, b], vec![]));
}

#[test]
fn what_does_not_hold_is_said() {
    let apk = read("schemes/v1-v2-v3");
    let all = Some((24, SDK_MAX));
    let good = Forge::new(&apk, all);
    let why = |forge: Forge| verify_bytes(&with_pairs(&apk, &[(V3, scheme(&[forge]))])).unwrap_err().to_string();
    let other_content = Forge { digests: vec![(0x0103, vec![7; 32])], ..good.clone() };
    assert_eq!(why(other_content), "its content is not what was signed (v3): some bytes of the APK were changed");
    let borrowed = Forge { certificate: "b", ..good.clone() };
    assert!(why(borrowed).ends_with("the key is not the one in its certificate"));
    let unknown = why(Forge::by(&apk, &[0x0999], all));
    assert_eq!(unknown, "its v3 signer has no signature that Android of SDK 24 knows (0x0999)");
    let only_old = why(Forge::new(&apk, Some((24, 32))));
    assert!(only_old.ends_with("do not reach from the APK's lowest Android version to the newest"), "{only_old}");
    let none = verify_bytes(&with_pairs(&apk, &[(0x1234, scheme(&[good]))])).unwrap_err();
    assert!(matches!(none, SignatureError::NoScheme), "{none}");
}

#[test]
fn a_scheme_that_was_taken_away_is_missed() {
    let rotated = read("schemes/rotated");
    let without = |id: u32| {
        let kept: Vec<_> = taken_pairs(&rotated).into_iter().filter(|(other, _)| *other != id).collect();
        verify_bytes(&with_pairs(&rotated, &kept)).unwrap_err().to_string()
    };
    assert_eq!(without(V31), "its v3 signature says that v3.1 is there too, and it is not: it was stripped");
    assert_eq!(without(V3), "its v3.1 signature is not valid: it stands alone, without a v3 signature");
    let plain = read("schemes/v1-v2-v3");
    let v2_only: Vec<_> = taken_pairs(&plain).into_iter().filter(|(id, _)| *id == V2).collect();
    let why = verify_bytes(&with_pairs(&plain, &v2_only)).unwrap_err().to_string();
    assert_eq!(why, "its v2 signature says that v3 is there too, and it is not: it was stripped");
}

#[test]
fn a_wrong_digest_in_v3_1_is_seen() {
    let wrong = verify_bytes(&wrong_digest_in_v3_1()).unwrap_err();
    assert_eq!(wrong.to_string(), "its content is not what was signed (v3.1): some bytes of the APK were changed");
}

#[test]
fn no_sample_breaks_the_whole_check() {
    let dir = tempfile::tempdir().unwrap();
    let expected = farmhand::agent::apk::Expectation {
        package: farmhand::rack::ids::PackageName::new("org.example.agent"),
        signers: vec![fingerprint("a"), fingerprint("b")],
        version_code: None,
        version_name: None,
        installed: None,
    };
    for sample in corpus() {
        let file = dir.path().join("sample.apk");
        std::fs::write(&file, &sample.bytes).unwrap();
        match farmhand::agent::apk::check(&file, &expected) {
            Ok(checked) => assert!(!checked.requirements.signers.is_empty(), "{}", sample.name),
            Err(refusal) => assert!(refusal.to_string().contains("sample.apk is refused: "), "{refusal}"),
        }
    }
}
