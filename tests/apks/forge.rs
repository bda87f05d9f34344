//! Makes APKs as no signer does: with the content of a good one, and any schemes in its signing block, truly signed by a test key.
//!
//! It shares no code with the verifier, so that the two check each other.

use std::ops::Range;
use std::path::{Path, PathBuf};

use rsa::pkcs8::{DecodePrivateKey, EncodePublicKey};
use rsa::signature::{RandomizedSigner, SignatureEncoding, Signer};
use sha2::{Digest, Sha256, Sha512};
use x509_cert::der::{DecodePem, Encode};

pub(crate) const V2: u32 = 0x7109_871a;
pub(crate) const V3: u32 = 0xf053_68c0;
pub(crate) const V31: u32 = 0x1b93_ad61;
pub(crate) const PADDING: u32 = 0x4272_6577;
pub(crate) const STRIPPING_PROTECTION: u32 = 0xbeef_f00d;
pub(crate) const ROTATION_MIN_SDK: u32 = 0x559f_8b02;
pub(crate) const PROOF_OF_ROTATION: u32 = 0x3ba0_6f8c;
pub(crate) const SDK_MAX: u32 = 0x7fff_ffff;

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("firmware-tools/apks")
}

/// A checked-in APK by its path below firmware-tools/apks, without extension.
pub(crate) fn read(name: &str) -> Vec<u8> {
    let path = folder().join(format!("{name}.apk"));
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
}

/// The bytes of the signing block within an APK whose end record has no comment.
pub(crate) fn block_of(apk: &[u8]) -> Range<usize> {
    let directory = u32_at(apk, apk.len() - 6) as usize;
    let size = usize::try_from(u64_at(apk, directory - 24)).unwrap();
    directory - size - 8..directory
}

/// The pairs of its signing block: id, and where the value lies.
pub(crate) fn pairs_of(apk: &[u8]) -> Vec<(u32, Range<usize>)> {
    let block = block_of(apk);
    let (mut at, mut pairs) = (block.start + 8, Vec::new());
    while at < block.end - 24 {
        let length = usize::try_from(u64_at(apk, at)).unwrap();
        pairs.push((u32_at(apk, at + 8), at + 12..at + 8 + length));
        at += 8 + length;
    }
    pairs
}

/// The same APK with other pairs.
pub(crate) fn with_pairs(apk: &[u8], pairs: &[(u32, Vec<u8>)]) -> Vec<u8> {
    let block = block_of(apk);
    let pair = |(id, value): &(u32, Vec<u8>)| {
        [&(value.len() as u64 + 4).to_le_bytes(), id.to_le_bytes().as_slice(), value].concat()
    };
    let pairs: Vec<u8> = pairs.iter().flat_map(pair).collect();
    let size = (pairs.len() as u64 + 24).to_le_bytes();
    let new = [size.as_slice(), &pairs, &size, b"APK Sig Block 42"].concat();
    let mut whole = [&apk[..block.start], &new, &apk[block.end..]].concat();
    let directory = u32::try_from(block.start + new.len()).unwrap();
    let record = whole.len() - 22;
    whole[record + 16..record + 20].copy_from_slice(&directory.to_le_bytes());
    whole
}

/// Its pairs, to be changed and given to [`with_pairs`].
pub(crate) fn taken_pairs(apk: &[u8]) -> Vec<(u32, Vec<u8>)> {
    pairs_of(apk).into_iter().map(|(id, value)| (id, apk[value].to_vec())).collect()
}

pub(crate) fn prefixed(bytes: &[u8]) -> Vec<u8> {
    [&u32::try_from(bytes.len()).unwrap().to_le_bytes(), bytes].concat()
}

fn item(id: u32, bytes: &[u8]) -> Vec<u8> {
    prefixed(&[id.to_le_bytes().as_slice(), bytes].concat())
}

fn pem(name: &str) -> String {
    std::fs::read_to_string(folder().join("keys").join(name)).unwrap()
}

/// A test certificate in DER.
pub(crate) fn certificate(name: &str) -> Vec<u8> {
    let pem = pem(&format!("{name}.x509.pem"));
    x509_cert::Certificate::from_pem(pem).unwrap().to_der().unwrap()
}

fn rsa_key(name: &str) -> rsa::PrivateKey {
    rsa::PrivateKey::from_pkcs8_pem(&pem(&format!("{name}.pk8.pem"))).unwrap()
}

/// What the holder of an RSA test key signs by an algorithm; of unknown ones, something.
pub(crate) fn sign(key: &str, algorithm: u32, message: &[u8]) -> Vec<u8> {
    let key = rsa_key(key);
    let mut rng = rand::rng();
    match algorithm {
        0x0101 => rsa::pss::SigningKey::<Sha256>::new(key).sign_with_rng(&mut rng, message).to_vec(),
        0x0102 => rsa::pss::SigningKey::<Sha512>::new(key).sign_with_rng(&mut rng, message).to_vec(),
        0x0104 => rsa::pkcs1v15::SigningKey::<Sha512>::new(key).sign(message).to_vec(),
        _ => rsa::pkcs1v15::SigningKey::<Sha256>::new(key).sign(message).to_vec(),
    }
}

/// The digest that an algorithm signs, for content below 1 MiB: one chunk for each part.
pub(crate) fn content_digest(apk: &[u8], algorithm: u32) -> Vec<u8> {
    fn of<D: Digest>(parts: [&[u8]; 3]) -> Vec<u8> {
        let chunk = |part: &&[u8]| {
            let len = u32::try_from(part.len()).unwrap().to_le_bytes();
            D::new().chain_update([0xa5]).chain_update(len).chain_update(part).finalize().to_vec()
        };
        let chunks: Vec<u8> = parts.iter().flat_map(chunk).collect();
        D::new().chain_update([0x5a, 3, 0, 0, 0]).chain_update(chunks).finalize().to_vec()
    }
    let block = block_of(apk);
    let mut record = apk[apk.len() - 22..].to_vec();
    record[16..20].copy_from_slice(&u32::try_from(block.start).unwrap().to_le_bytes());
    let parts = [&apk[..block.start], &apk[block.end..apk.len() - 22], &record];
    if matches!(algorithm, 0x0102 | 0x0104) { of::<Sha512>(parts) } else { of::<Sha256>(parts) }
}

/// A signer of some scheme over the content of an APK; what it says is signed, true or not.
#[derive(Clone)]
pub(crate) struct Forge {
    pub(crate) key: &'static str,
    pub(crate) certificate: &'static str,
    /// In this order in digests and signatures.
    pub(crate) algorithms: Vec<u32>,
    pub(crate) digests: Vec<(u32, Vec<u8>)>,
    pub(crate) attributes: Vec<(u32, Vec<u8>)>,
    /// `None` in v2.
    pub(crate) sdks: Option<(u32, u32)>,
    /// Beside the signed data, where other than in it.
    pub(crate) outer_sdks: Option<(u32, u32)>,
}

impl Forge {
    /// A good one of key A by RSA with PKCS #1 and SHA-256.
    pub(crate) fn new(apk: &[u8], sdks: Option<(u32, u32)>) -> Self {
        Self::by(apk, &[0x0103], sdks)
    }

    /// A good one by some algorithms.
    pub(crate) fn by(apk: &[u8], algorithms: &[u32], sdks: Option<(u32, u32)>) -> Self {
        Self {
            key: "a",
            certificate: "a",
            algorithms: algorithms.to_vec(),
            digests: algorithms.iter().map(|id| (*id, content_digest(apk, *id))).collect(),
            attributes: Vec::new(),
            sdks,
            outer_sdks: sdks,
        }
    }

    pub(crate) fn attribute(mut self, id: u32, value: &[u8]) -> Self {
        self.attributes.push((id, value.to_vec()));
        self
    }

    pub(crate) fn by_key(mut self, key: &'static str) -> Self {
        (self.key, self.certificate) = (key, key);
        self
    }

    fn signer(&self) -> Vec<u8> {
        let range = |sdks: Option<(u32, u32)>| {
            sdks.map(|(min, max)| [min.to_le_bytes(), max.to_le_bytes()].concat()).unwrap_or_default()
        };
        let digests: Vec<u8> = self.digests.iter().flat_map(|(id, digest)| item(*id, &prefixed(digest))).collect();
        let attributes: Vec<u8> = self.attributes.iter().flat_map(|(id, value)| item(*id, value)).collect();
        let certificates = prefixed(&certificate(self.certificate));
        let signed = [prefixed(&digests), prefixed(&certificates), range(self.sdks), prefixed(&attributes)].concat();
        let signature = |id: &u32| item(*id, &prefixed(&sign(self.key, *id, &signed)));
        let signatures: Vec<u8> = self.algorithms.iter().flat_map(signature).collect();
        let public = rsa_key(self.key).to_public_key().to_public_key_der().unwrap();
        [prefixed(&signed), range(self.outer_sdks), prefixed(&signatures), prefixed(public.as_bytes())].concat()
    }
}

/// The value of a scheme with these signers.
pub(crate) fn scheme(signers: &[Forge]) -> Vec<u8> {
    prefixed(&signers.iter().flat_map(|signer| prefixed(&signer.signer())).collect::<Vec<_>>())
}

/// A proof of rotation through these RSA test keys, each signing the next by PKCS #1 and SHA-256.
pub(crate) fn lineage(keys: &[&str]) -> Vec<u8> {
    lineage_with_flags(keys, 23)
}

/// The same, with what a phone still grants to each certificate.
pub(crate) fn lineage_with_flags(keys: &[&str], flags: u32) -> Vec<u8> {
    let mut proof = 1_u32.to_le_bytes().to_vec();
    for (at, key) in keys.iter().enumerate() {
        let parent = at.checked_sub(1).map(|before| keys[before]);
        let parent_algorithm: u32 = if parent.is_some() { 0x0103 } else { 0 };
        let signed = [prefixed(&certificate(key)), parent_algorithm.to_le_bytes().to_vec()].concat();
        let signature = parent.map(|parent| sign(parent, 0x0103, &signed)).unwrap_or_default();
        let algorithm: u32 = if at + 1 < keys.len() { 0x0103 } else { 0 };
        let tail = [flags.to_le_bytes(), algorithm.to_le_bytes()].concat();
        proof.extend(prefixed(&[prefixed(&signed), tail, prefixed(&signature)].concat()));
    }
    proof
}
