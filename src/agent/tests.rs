//! Stories of the check, on the test APKs of firmware-tools/apks and on what becomes of them when bytes change.
#![cfg(feature = "daemon")]

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use sha2::{Digest, Sha256};

use super::apk::{ApkRefusal, Expectation, check};
use super::manifest;
use super::reader::Short;
use super::signature::{SignatureError, Signatures, verify};
use super::signing_block::{self, BlockError, Scheme, SigningBlock};
use super::zip::{self, ZipEnd, ZipError};
use crate::rack::ids::{PackageName, VersionCode};

/// SHA-256 of the certificate of key A, as `apksigner verify --print-certs` prints it.
const KEY_A: &str = "1f3459901dc294cd0daefe7eb300273362911beaeb3884637ed22e65d83aaba6";
const KEY_B: &str = "aedc91c85a9f2a8f4ef8b8798f446d3370112f48de93495010fe6e9a5068a401";

fn apks() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("firmware-tools/apks")
}

fn expected() -> Expectation {
    Expectation {
        package: PackageName::new("org.example.agent"),
        signers: vec![KEY_A.into()],
        version_code: None,
        version_name: None,
        installed: None,
    }
}

fn refused(name: &str, expected: &Expectation) -> ApkRefusal {
    let refusal = check(&apks().join(name), expected).unwrap_err();
    assert!(refusal.to_string().contains(name), "the file is named: {refusal}");
    refusal
}

/// Verifies bytes that lie in no file of ours.
fn verify_bytes(bytes: &[u8]) -> Result<Signatures, SignatureError> {
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, bytes).unwrap();
    verify(&file, 24)
}

/// Whether bytes pass the whole check; the manifest is only read if the signature holds.
fn passes(bytes: &[u8]) -> bool {
    verify_bytes(bytes).is_ok() && {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), bytes).unwrap();
        check(file.path(), &expected()).is_ok()
    }
}

fn agent_2() -> Vec<u8> {
    std::fs::read(apks().join("agent-2.apk")).unwrap()
}

/// The bytes of the signing block within an APK.
fn block_of(apk: &[u8]) -> std::ops::Range<usize> {
    let end = ZipEnd::find(apk, apk.len() as u64).unwrap();
    let at = usize::try_from(end.central_directory.start).unwrap();
    let range = signing_block::block_range(&apk[at - 24..at], at as u64).unwrap();
    usize::try_from(range.start).unwrap()..at
}

#[test]
fn a_good_apk_passes_with_what_it_is() {
    let apk = check(&apks().join("agent-2.apk"), &expected()).unwrap();
    assert_eq!(
        (apk.package.as_str(), apk.version_code, apk.version_name.as_str()),
        ("org.example.agent", VersionCode(2), "2.0")
    );
    assert_eq!(apk.signer_sha256, KEY_A);
    assert_eq!(apk.size, agent_2().len() as u64);
    let sha256 = Sha256::digest(agent_2());
    assert_eq!(apk.sha256, base16ct::lower::encode_string(&sha256));
}

#[test]
fn each_kind_of_bad_apk_is_refused_with_its_own_sentence() {
    let cut = refused("agent-2-truncated.apk", &expected());
    assert!(cut.to_string().ends_with("it was cut short or is another kind of file"), "{cut}");
    let unsigned = refused("agent-2-unsigned.apk", &expected());
    assert!(unsigned.to_string().ends_with("it has no APK Signing Block"), "{unsigned}");
    let other_key = refused("agent-2-other-key.apk", &expected());
    assert!(matches!(&other_key, ApkRefusal::OtherKey { seen, .. } if seen == KEY_B), "{other_key}");
    let other_package = refused("other-package-1.apk", &expected());
    assert!(other_package.to_string().ends_with("it is org.example.other, and org.example.agent was expected"));
    let announced = Expectation { version_code: Some(VersionCode(3)), ..expected() };
    assert!(refused("agent-2.apk", &announced).to_string().ends_with("it is version 2, and 3 was announced"));
    let installed = Expectation { installed: Some(VersionCode(2)), ..expected() };
    assert!(refused("agent-1.apk", &installed).to_string().ends_with("it is version 1, a downgrade from version 2"));
    assert!(matches!(refused("no-such.apk", &expected()), ApkRefusal::Unreadable { .. }));
}

#[test]
fn without_pinned_signers_any_whole_signature_passes() {
    let any = Expectation { signers: Vec::new(), ..expected() };
    assert_eq!(check(&apks().join("agent-2-other-key.apk"), &any).unwrap().signer_sha256, KEY_B);
}

/// The bytes of a signing block that no signature covers: the padding, its id and, since it comes last, its length. Android's own
/// verifier skips them too.
fn padding_of(apk: &[u8]) -> Vec<usize> {
    let block = block_of(apk);
    let (mut at, end) = (block.start + 8, block.end - 24);
    let mut padding = Vec::new();
    while at < end {
        let length = usize::try_from(u64::from_le_bytes(apk[at..at + 8].try_into().unwrap())).unwrap();
        if apk[at + 8..at + 12] == 0x4272_6577_u32.to_le_bytes() {
            padding.extend(at..at + 8 + length);
        }
        at += 8 + length;
    }
    padding
}

#[test]
fn a_flipped_byte_anywhere_is_refused() {
    let good = agent_2();
    let padding = padding_of(&good);
    verify_bytes(&good).unwrap();
    // The block is all structure: more of it than of the rest.
    let block = block_of(&good);
    let sampled = |at: &usize| at.is_multiple_of(61) || (block.contains(at) && at.is_multiple_of(7));
    for at in (0..good.len()).filter(sampled).filter(|at| !padding.contains(at)) {
        let mut bad = good.clone();
        bad[at] ^= 0x20;
        assert!(!passes(&bad), "byte {at} of {} was flipped", good.len());
    }
}

#[test]
fn a_file_cut_anywhere_is_refused() {
    let good = agent_2();
    for len in (0..good.len()).step_by(101).chain([good.len() - 1]) {
        assert!(verify_bytes(&good[..len]).is_err(), "cut to {len} bytes");
    }
    let longer = [good.as_slice(), b"x"].concat();
    assert!(verify_bytes(&longer).is_err());
}

#[test]
fn a_stripped_v3_is_seen_by_what_v2_says() {
    let mut apk = agent_2();
    let block = block_of(&apk);
    let v3 = 0xf053_68c0_u32.to_le_bytes();
    let at = block.start + apk[block].windows(4).position(|bytes| bytes == v3).unwrap();
    apk[at..at + 4].copy_from_slice(&0x4272_6577_u32.to_le_bytes());
    assert!(matches!(verify_bytes(&apk), Err(SignatureError::Stripped { present: Scheme::V2, missing: Scheme::V3 })));
}

#[test]
fn what_is_malformed_is_named_by_field() {
    let apk = agent_2();
    let block = &apk[block_of(&apk)];
    let v3 = SigningBlock::parse(block).unwrap().v3.unwrap();
    assert_eq!(
        signing_block::signers(&v3[..v3.len() - 1], Scheme::V3).unwrap_err(),
        BlockError::Short(Short { field: "signers", offset: 4, wanted: v3.len() as u64 - 4, left: v3.len() - 5 })
    );
    assert_eq!(
        SigningBlock::parse(b"").unwrap_err().to_string(),
        "its signing block is malformed: size of the signing block wants 8 bytes at offset 0, and 0 are left"
    );
    assert_eq!(ZipEnd::find(b"PK", 2), Err(ZipError::NoEnd));
}

proptest! {
    #[test]
    fn any_bytes_are_parsed_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        signing_block::fuzz_apk_signing_block(&bytes);
        zip::fuzz_apk_zip(&bytes);
        manifest::fuzz_apk_manifest(&bytes);
    }

    #[test]
    fn a_changed_block_is_parsed_or_refused(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)) {
        let apk = agent_2();
        let mut block = apk[block_of(&apk)].to_vec();
        for (at, byte) in changes {
            let at = at.index(block.len());
            block[at] = byte;
        }
        signing_block::fuzz_apk_signing_block(&block);
    }
}
