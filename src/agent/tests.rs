//! Stories of the check, on the test APKs of firmware-tools/apks and on what becomes of them when bytes change.
#![cfg(feature = "daemon")]

use std::path::{Path, PathBuf};

use proptest::prelude::*;
use rsa::pkcs8::DecodePrivateKey;
use rsa::signature::{SignatureEncoding, Signer};
use sha2::{Digest, Sha256};

use super::apk::{ApkRefusal, Expectation, check};
use super::signature::{SignatureError, verify};
use super::signing_block::{self, BlockError, SigningBlock, ZipEnd};
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
        installed: None,
    }
}

fn refused(name: &str, expected: &Expectation) -> ApkRefusal {
    let refusal = check(&apks().join(name), expected).unwrap_err();
    assert!(refusal.to_string().contains(name), "the file is named: {refusal}");
    refusal
}

/// Verifies bytes that lie in no file of ours.
fn verify_bytes(bytes: &[u8]) -> Result<super::signature::Signers, SignatureError> {
    let mut file = tempfile::tempfile().unwrap();
    std::io::Write::write_all(&mut file, bytes).unwrap();
    verify(&file)
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

/// The bytes of a signing block that no signature covers: the padding and its id, which Android's own verifier skips too.
fn padding_of(apk: &[u8]) -> Vec<usize> {
    let block = block_of(apk);
    let (mut at, end) = (block.start + 8, block.end - 24);
    let mut padding = Vec::new();
    while at < end {
        let length = usize::try_from(u64::from_le_bytes(apk[at..at + 8].try_into().unwrap())).unwrap();
        if apk[at + 8..at + 12] == 0x4272_6577_u32.to_le_bytes() {
            padding.extend(at + 8..at + 8 + length);
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
    assert!(matches!(verify_bytes(&apk), Err(SignatureError::Stripped { present: "v2", missing: "v3" })));
}

fn prefixed(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_le_bytes(), bytes].concat()
}

fn item(id: u32, bytes: &[u8]) -> Vec<u8> {
    prefixed(&[id.to_le_bytes().to_vec(), bytes.to_vec()].concat())
}

/// What a forger with key A could make: one signer of v3 shape over these digests, all of it signed.
struct Forge {
    algorithm: u32,
    digest: Vec<u8>,
    attributes: Vec<(u32, Vec<u8>)>,
    sdks: (u32, u32),
    certificate: &'static str,
}

fn pem(name: &str) -> String {
    std::fs::read_to_string(apks().join("keys").join(name)).unwrap()
}

impl Forge {
    fn signer(&self) -> Vec<u8> {
        let certificate = x509_cert::Certificate::load_pem_chain(pem(self.certificate).as_bytes()).unwrap().remove(0);
        let certificate = x509_cert::der::Encode::to_der(&certificate).unwrap();
        let sdks = [self.sdks.0.to_le_bytes(), self.sdks.1.to_le_bytes()].concat();
        let attributes: Vec<u8> = self.attributes.iter().flat_map(|(id, value)| item(*id, value)).collect();
        let signed = [
            prefixed(&item(self.algorithm, &prefixed(&self.digest))),
            prefixed(&prefixed(&certificate)),
            sdks.clone(),
            prefixed(&attributes),
        ]
        .concat();
        let key = rsa::PrivateKey::from_pkcs8_pem(&pem("a.pk8.pem")).unwrap();
        let public = rsa::pkcs8::EncodePublicKey::to_public_key_der(&key.to_public_key()).unwrap();
        let signature = match self.algorithm {
            0x0101 => rsa::signature::RandomizedSigner::sign_with_rng(
                &rsa::pss::SigningKey::<Sha256>::new(key),
                &mut rand::rng(),
                &signed,
            )
            .to_vec(),
            _ => rsa::pkcs1v15::SigningKey::<Sha256>::new(key).sign(&signed).to_vec(),
        };
        let signatures = item(self.algorithm, &prefixed(&signature));
        [prefixed(&signed), sdks, prefixed(&signatures), prefixed(public.as_bytes())].concat()
    }
}

/// An APK with the content of agent-2.apk and these schemes in its signing block.
fn with_schemes(schemes: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let apk = agent_2();
    let block = block_of(&apk);
    let pairs: Vec<u8> = schemes
        .iter()
        .flat_map(|(id, signer)| {
            let value = prefixed(&prefixed(signer));
            [&(value.len() as u64 + 4).to_le_bytes(), id.to_le_bytes().as_slice(), &value].concat()
        })
        .collect();
    let size = (pairs.len() as u64 + 24).to_le_bytes();
    let new_block = [size.as_slice(), &pairs, &size, b"APK Sig Block 42"].concat();
    let mut whole = [&apk[..block.start], &new_block, &apk[block.end..]].concat();
    let directory_at = u32::try_from(block.start + new_block.len()).unwrap();
    let record = whole.len() - 22;
    whole[record + 16..record + 20].copy_from_slice(&directory_at.to_le_bytes());
    whole
}

/// The signed digest of the content of agent-2.apk.
fn content_digest() -> Vec<u8> {
    let apk = agent_2();
    let bytes = &apk[block_of(&apk)];
    SigningBlock::parse(bytes).unwrap().v3.unwrap()[0].digests[0].1.to_vec()
}

fn forge() -> Forge {
    Forge {
        algorithm: 0x0103,
        digest: content_digest(),
        attributes: Vec::new(),
        sdks: (24, u32::MAX),
        certificate: "a.x509.pem",
    }
}

const V3: u32 = 0xf053_68c0;
const V31: u32 = 0x1b93_ad61;

#[test]
fn a_rotated_key_is_held_by_v3_1_and_missed_when_it_was_stripped() {
    let rotation = vec![(0x559f_8b02, 33_u32.to_le_bytes().to_vec())];
    let v3 = Forge { attributes: rotation, sdks: (24, 32), ..forge() }.signer();
    let v31 = Forge { sdks: (33, u32::MAX), ..forge() }.signer();
    let both = verify_bytes(&with_schemes(&[(V3, v3.clone()), (V31, v31)])).unwrap();
    assert_eq!((both.newest.as_str(), both.all.len()), (KEY_A, 1));
    let stripped = verify_bytes(&with_schemes(&[(V3, v3.clone())]));
    assert!(matches!(stripped, Err(SignatureError::Stripped { present: "v3", missing: "v3.1" })), "{stripped:?}");
    let other_sdk = Forge { sdks: (34, u32::MAX), ..forge() }.signer();
    assert!(verify_bytes(&with_schemes(&[(V3, v3), (V31, other_sdk)])).is_err());
}

#[test]
fn a_pss_signature_is_verified_too() {
    let pss = Forge { algorithm: 0x0101, ..forge() }.signer();
    assert_eq!(verify_bytes(&with_schemes(&[(V3, pss)])).unwrap().newest, KEY_A);
}

#[test]
fn a_forged_signer_is_refused_by_what_does_not_hold() {
    let why = |forge: &Forge| verify_bytes(&with_schemes(&[(V3, forge.signer())])).unwrap_err().to_string();
    let other_content = Forge { digest: vec![7; 32], ..forge() };
    assert!(why(&other_content).ends_with("some bytes of the APK were changed"));
    let borrowed_certificate = Forge { certificate: "b.x509.pem", ..forge() };
    assert!(why(&borrowed_certificate).ends_with("the key is not the one in its certificate"));
    let unknown_algorithm = Forge { algorithm: 0x0301, ..forge() };
    assert!(why(&unknown_algorithm).contains("does not verify (0x0301)"));
    assert!(matches!(verify_bytes(&with_schemes(&[(0x1234, forge().signer())])), Err(SignatureError::NoScheme)));
    let only_old = Forge { sdks: (24, 32), ..forge() };
    assert!(why(&only_old).ends_with("it does not hold for the newest Android versions"));
    let twice = with_schemes(&[(V3, forge().signer()), (V3, forge().signer())]);
    assert!(verify_bytes(&twice).unwrap_err().to_string().ends_with("it holds one scheme twice"));
}

#[test]
fn what_is_malformed_is_named_by_field() {
    let apk = agent_2();
    let mut block = apk[block_of(&apk)].to_vec();
    block[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
    assert_eq!(
        SigningBlock::parse(&block).unwrap_err(),
        BlockError::Short { field: "a pair", offset: 8, wanted: u64::MAX, left: block.len() - 40 }
    );
    assert_eq!(
        SigningBlock::parse(b""),
        Err(BlockError::Short { field: "size of the signing block", offset: 0, wanted: 8, left: 0 })
    );
    assert_eq!(ZipEnd::find(b"PK", 2), Err(BlockError::NoEnd));
}

proptest! {
    #[test]
    fn any_bytes_are_parsed_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..600)) {
        signing_block::fuzz_apk_signing_block(&bytes);
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

/// Debian's apksigner as the judge. It starts a Java machine for each APK, so the places are few.
#[test]
fn apksigner_gives_the_same_verdicts() {
    let dir = tempfile::tempdir().unwrap();
    let ours = |bytes: &[u8]| {
        let file = dir.path().join("ours.apk");
        std::fs::write(&file, bytes).unwrap();
        let any = Expectation { signers: Vec::new(), ..expected() };
        let judged = check(&file, &any);
        judged.is_ok() || matches!(judged, Err(ApkRefusal::OtherPackage { .. }))
    };
    let judge = |bytes: &[u8]| {
        let file = dir.path().join("judged.apk");
        std::fs::write(&file, bytes).unwrap();
        let output = std::process::Command::new("apksigner").arg("verify").arg(&file).output();
        let output = output.expect("apksigner, of Debian's package apksigner");
        output.status.success()
    };
    let good = agent_2();
    assert!(judge(&good));
    for name in ["agent-2-unsigned.apk", "agent-2-truncated.apk", "agent-2-other-key.apk", "other-package-1.apk"] {
        let bytes = std::fs::read(apks().join(name)).unwrap();
        assert_eq!(judge(&bytes), ours(&bytes), "{name}");
    }
    let pss = with_schemes(&[(V3, Forge { algorithm: 0x0101, ..forge() }.signer())]);
    assert_eq!(judge(&pss), ours(&pss), "v3 alone, PSS");
    let block = block_of(&good);
    let within_block = block.clone().step_by(block.len() / 5);
    for at in (0..good.len()).step_by(good.len() / 5).chain(within_block) {
        let mut bad = good.clone();
        bad[at] ^= 0x20;
        assert_eq!(judge(&bad), ours(&bad), "byte {at} flipped, block {block:?}");
    }
}
