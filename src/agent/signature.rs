//! Verifies APK Signature Scheme v2, v3 and v3.1 over the whole content of an APK.
//!
//! For each scheme that is there, and each of its signers: the strongest signature that we know verifies over the signed
//! data with the signer's public key; that key is the one in its first certificate; digests and signatures list the same
//! algorithms; and the digest of the content is the signed one. Attributes that name a newer scheme are obeyed: if it was
//! stripped, the APK is refused. The first version's JAR signature does not cover the whole file and is never enough.
//!
//! The proof of rotation of v3 is not judged here: the phone does, and the owner pins the certificates that may sign.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

use base16ct::lower::encode_string as hex;
use p256::pkcs8::DecodePublicKey;
use rsa::signature::Verifier;
use rsa::signature::hazmat::PrehashVerifier;
use sha2::{Digest, Sha256, Sha512};
use x509_cert::der::{Decode, Encode};

use super::signing_block::{self, BlockError, Signer, SigningBlock, ZipEnd};

/// Content is digested in chunks of this many bytes; the format says so.
const CHUNK_LEN: usize = 1024 * 1024;
/// In v2: the APK was also signed by the scheme of this number.
const STRIPPING_PROTECTION_ATTRIBUTE: u32 = 0xbeef_f00d;
/// In v3: from this SDK on v3.1 holds the signer.
const ROTATION_MIN_SDK_ATTRIBUTE: u32 = 0x559f_8b02;
/// The highest SDK number that signers write: every version to come.
const SDK_MAX: u32 = i32::MAX.cast_unsigned();

/// Who signed an APK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signers {
    /// SHA-256 of the certificate that the newest Android takes as the signer, in lower-case hex.
    pub newest: String,
    /// SHA-256 of every certificate that some Android takes as the signer, in lower-case hex, the oldest scheme first.
    pub all: Vec<String>,
    /// Whether scheme v2 is there: Android 7 and 8 know no newer one.
    pub v2: Presence,
}

/// Whether a scheme is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It is there, and valid.
    Valid,
    /// It is not there.
    Absent,
}

/// Why the signature of an APK is not believed.
#[derive(Debug, thiserror::Error)]
pub enum SignatureError {
    /// It is no whole APK, or has no signing block, or a malformed one.
    #[error(transparent)]
    Block(#[from] BlockError),
    /// There is a signing block without a scheme that covers the whole file.
    #[error("it is signed by none of the schemes v2, v3 and v3.1")]
    NoScheme,
    /// Only the JAR signature of old is there.
    #[error(
        "it is signed by scheme v1 only, which does not cover the whole file; sign it with `apksigner`, v2 or newer"
    )]
    OnlyV1,
    /// A newer scheme was taken away.
    #[error("its {present} signature says that {missing} is there too, and it is not: it was stripped")]
    Stripped {
        /// The scheme that says so.
        present: &'static str,
        /// The one that is gone.
        missing: &'static str,
    },
    /// No signature of an algorithm that we verify.
    #[error("its {scheme} signer uses only signature algorithms that farmhand does not verify ({seen})")]
    Algorithms {
        /// The scheme.
        scheme: &'static str,
        /// Their ids.
        seen: String,
    },
    /// A signer does not hold together.
    #[error("its {scheme} signature is not valid: {what}")]
    Invalid {
        /// The scheme.
        scheme: &'static str,
        /// What is wrong.
        what: &'static str,
    },
    /// The file could not be read.
    #[error("it could not be read: {0}")]
    Read(#[from] io::Error),
}

/// Verifies every scheme of the APK.
///
/// # Errors
/// [`SignatureError`] with the first thing that does not hold.
pub fn verify(file: &File) -> Result<Signers, SignatureError> {
    let file_len = file.metadata()?.len();
    let end = read_end(file, file_len)?;
    let range = match read_block_range(file, &end) {
        Err(SignatureError::Block(BlockError::NoBlock)) if has_v1(file, &end)? => return Err(SignatureError::OnlyV1),
        other => other?,
    };
    let block_bytes = read(file, &range)?;
    let block = SigningBlock::parse(&block_bytes)?;
    let mut digests = Digests::new(file, &end, range.start);
    let mut all = Vec::new();
    for (scheme, signers) in [("v2", &block.v2), ("v3", &block.v3), ("v3.1", &block.v31)] {
        for signer in signers.iter().flatten() {
            let certificate = verify_signer(scheme, signer, &mut digests)?;
            if !all.contains(&certificate) {
                all.push(certificate);
            }
        }
    }
    refuse_stripped(&block)?;
    let newest = [&block.v31, &block.v3, &block.v2].into_iter().flatten().next().and_then(|signers| signers.first());
    let newest = newest.and_then(|signer| signer.certificates.first()).ok_or(SignatureError::NoScheme)?;
    let v2 = if block.v2.is_some() { Presence::Valid } else { Presence::Absent };
    Ok(Signers { newest: hex(&Sha256::digest(newest)), all, v2 })
}

fn read_end(file: &File, file_len: u64) -> Result<ZipEnd, SignatureError> {
    const TAIL_LEN: u64 = signing_block::EOCD_LEN_MAX as u64 + 20;
    let tail = read(file, &(file_len.saturating_sub(TAIL_LEN)..file_len))?;
    Ok(ZipEnd::find(&tail, file_len)?)
}

fn read_block_range(file: &File, end: &ZipEnd) -> Result<Range<u64>, SignatureError> {
    let at = end.central_directory.start;
    let footer_at = at.checked_sub(signing_block::FOOTER_LEN).ok_or(BlockError::NoBlock)?;
    let footer = read(file, &(footer_at..at))?;
    Ok(signing_block::block_range(&footer, at)?)
}

/// Whether the archive lists a JAR signature. Only for the sentence: such an APK is refused either way.
fn has_v1(file: &File, end: &ZipEnd) -> io::Result<bool> {
    const LOOKED_AT_MAX: u64 = 16 * 1024 * 1024;
    let range = &end.central_directory;
    let names = read(file, &(range.start..range.end.min(range.start + LOOKED_AT_MAX)))?;
    let holds = |part: &[u8]| names.windows(part.len()).any(|window| window == part);
    Ok(holds(b"META-INF/") && holds(b".SF"))
}

fn read(file: &File, range: &Range<u64>) -> io::Result<Vec<u8>> {
    let len = usize::try_from(range.end.saturating_sub(range.start)).map_err(io::Error::other)?;
    let mut bytes = vec![0; len];
    file.read_exact_at(&mut bytes, range.start)?;
    Ok(bytes)
}

/// Returns the SHA-256 of the signer's certificate.
fn verify_signer(
    scheme: &'static str,
    signer: &Signer<'_>,
    digests: &mut Digests<'_>,
) -> Result<String, SignatureError> {
    let invalid = |what| SignatureError::Invalid { scheme, what };
    let known = |(id, signature): &(u32, _)| Algorithm::of(*id).map(|algorithm| (algorithm, *id, *signature));
    let strongest = signer.signatures.iter().filter_map(known).max_by_key(|(algorithm, ..)| algorithm.hash);
    let Some((algorithm, id, signature)) = strongest else {
        let seen: Vec<String> = signer.signatures.iter().map(|(id, _)| format!("{id:#06x}")).collect();
        return Err(SignatureError::Algorithms { scheme, seen: seen.join(", ") });
    };
    if !algorithm.verifies(signer.public_key, signer.signed_data, signature) {
        return Err(invalid("the signature does not match the signed data"));
    }
    let ids = |items: &[(u32, &[u8])]| items.iter().map(|(id, _)| *id).collect::<Vec<_>>();
    if ids(&signer.digests) != ids(&signer.signatures) {
        return Err(invalid("its digests and its signatures list different algorithms"));
    }
    let certificate = *signer.certificates.first().ok_or_else(|| invalid("it has no certificate"))?;
    if certified_key(certificate).as_deref() != Some(signer.public_key) {
        return Err(invalid("the key is not the one in its certificate"));
    }
    let signed = signer.digests.iter().find(|(other, _)| *other == id).map(|(_, digest)| *digest);
    if signed != Some(digests.of(algorithm.hash)?) {
        return Err(invalid("the content is not what was signed: some bytes of the APK were changed"));
    }
    Ok(hex(&Sha256::digest(certificate)))
}

/// SubjectPublicKeyInfo of a certificate, in DER.
fn certified_key(certificate: &[u8]) -> Option<Vec<u8>> {
    let certificate = x509_cert::Certificate::from_der(certificate).ok()?;
    certificate.tbs_certificate().subject_public_key_info().to_der().ok()
}

/// An older scheme that says that a newer one was there holds only together with it; together they reach to every version.
fn refuse_stripped(block: &SigningBlock<'_>) -> Result<(), SignatureError> {
    let attribute = |signer: &Signer<'_>, wanted| {
        let value = signer.attributes.iter().find(|(id, _)| *id == wanted).map(|(_, value)| *value)?;
        value.first_chunk::<4>().map(|bytes| u32::from_le_bytes(*bytes))
    };
    let v2_says_v3 =
        block.v2.iter().flatten().any(|signer| attribute(signer, STRIPPING_PROTECTION_ATTRIBUTE) == Some(3));
    if v2_says_v3 && block.v3.is_none() {
        return Err(SignatureError::Stripped { present: "v2", missing: "v3" });
    }
    let rotated = |sdk: u32| {
        let lowest = |signer: &Signer<'_>| signer.sdks.as_ref().map(|sdks| *sdks.start());
        block.v31.iter().flatten().filter_map(lowest).min() == Some(sdk)
    };
    let mut said = block.v3.iter().flatten().filter_map(|signer| attribute(signer, ROTATION_MIN_SDK_ATTRIBUTE));
    if said.any(|sdk| !rotated(sdk)) {
        return Err(SignatureError::Stripped { present: "v3", missing: "v3.1" });
    }
    let newer = || block.v3.iter().chain(&block.v31).flatten();
    let last = newer().filter_map(|signer| signer.sdks.as_ref()).map(|sdks| *sdks.end()).max();
    if last.is_some_and(|last| last < SDK_MAX) {
        return Err(SignatureError::Invalid { scheme: "v3", what: "it does not hold for the newest Android versions" });
    }
    Ok(())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Hash {
    Sha256,
    Sha512,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Padding {
    Pss,
    Pkcs1,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    Rsa(Padding),
    Ecdsa,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Algorithm {
    key: Key,
    hash: Hash,
}

impl Algorithm {
    /// By its id in the signing block. DSA and the fs-verity variants are not verified here.
    fn of(id: u32) -> Option<Self> {
        let (key, hash) = match id {
            0x0101 => (Key::Rsa(Padding::Pss), Hash::Sha256),
            0x0102 => (Key::Rsa(Padding::Pss), Hash::Sha512),
            0x0103 => (Key::Rsa(Padding::Pkcs1), Hash::Sha256),
            0x0104 => (Key::Rsa(Padding::Pkcs1), Hash::Sha512),
            0x0201 => (Key::Ecdsa, Hash::Sha256),
            0x0202 => (Key::Ecdsa, Hash::Sha512),
            _ => return None,
        };
        Some(Self { key, hash })
    }

    fn verifies(self, public_key: &[u8], message: &[u8], signature: &[u8]) -> bool {
        match (self.key, self.hash) {
            (Key::Rsa(padding), hash) => verifies_rsa(padding, hash, public_key, message, signature).unwrap_or(false),
            (Key::Ecdsa, Hash::Sha256) => verifies_ecdsa(public_key, &Sha256::digest(message), signature),
            (Key::Ecdsa, Hash::Sha512) => verifies_ecdsa(public_key, &Sha512::digest(message), signature),
        }
    }
}

/// `None` if key or signature are malformed.
fn verifies_rsa(padding: Padding, hash: Hash, key: &[u8], message: &[u8], signature: &[u8]) -> Option<bool> {
    let key = rsa::PublicKey::from_public_key_der(key).ok()?;
    Some(match padding {
        Padding::Pkcs1 => {
            let signature = rsa::pkcs1v15::Signature::try_from(signature).ok()?;
            match hash {
                Hash::Sha256 => rsa::pkcs1v15::VerifyingKey::<Sha256>::new(key).verify(message, &signature).is_ok(),
                Hash::Sha512 => rsa::pkcs1v15::VerifyingKey::<Sha512>::new(key).verify(message, &signature).is_ok(),
            }
        }
        Padding::Pss => {
            let signature = rsa::pss::Signature::try_from(signature).ok()?;
            match hash {
                Hash::Sha256 => rsa::pss::VerifyingKey::<Sha256>::new(key).verify(message, &signature).is_ok(),
                Hash::Sha512 => rsa::pss::VerifyingKey::<Sha512>::new(key).verify(message, &signature).is_ok(),
            }
        }
    })
}

/// On the curve of the key, P-256 or P-384.
fn verifies_ecdsa(key: &[u8], digest: &[u8], signature: &[u8]) -> bool {
    if let Ok(key) = p256::ecdsa::VerifyingKey::from_public_key_der(key) {
        return p256::ecdsa::Signature::from_der(signature).is_ok_and(|it| key.verify_prehash(digest, &it).is_ok());
    }
    if let Ok(key) = p384::ecdsa::VerifyingKey::from_public_key_der(key) {
        return p384::ecdsa::Signature::from_der(signature).is_ok_and(|it| key.verify_prehash(digest, &it).is_ok());
    }
    false
}

/// Digests of the content, each made when it is first asked for.
struct Digests<'a> {
    file: &'a File,
    /// ZIP entries and central directory.
    parts: [Range<u64>; 2],
    /// The end record as it was signed.
    end: Vec<u8>,
    made: BTreeMap<Hash, Vec<u8>>,
}

impl<'a> Digests<'a> {
    fn new(file: &'a File, end: &ZipEnd, block_at: u64) -> Self {
        // A ZIP without ZIP64 is below 4 GiB; a larger offset could not be in the record and fails the digest.
        let record = end.signed_record(u32::try_from(block_at).unwrap_or(u32::MAX));
        Self { file, parts: [0..block_at, end.central_directory.clone()], end: record, made: BTreeMap::new() }
    }

    fn of(&mut self, hash: Hash) -> io::Result<&[u8]> {
        if !self.made.contains_key(&hash) {
            let digest = match hash {
                Hash::Sha256 => self.chunked::<Sha256>()?,
                Hash::Sha512 => self.chunked::<Sha512>()?,
            };
            self.made.insert(hash, digest);
        }
        Ok(self.made.get(&hash).map_or(&[], Vec::as_slice))
    }

    /// The digest of the digests of all chunks; no chunk reaches from one part into the next.
    fn chunked<D: Digest>(&self) -> io::Result<Vec<u8>> {
        let mut count = 0_u32;
        let mut chunks = Vec::new();
        let mut add = |chunk: &[u8]| {
            let len = u32::try_from(chunk.len()).unwrap_or(u32::MAX);
            chunks.extend_from_slice(
                &D::new().chain_update([0xa5]).chain_update(len.to_le_bytes()).chain_update(chunk).finalize(),
            );
            count = count.saturating_add(1);
        };
        let mut buffer = vec![0; CHUNK_LEN];
        for part in &self.parts {
            let mut at = part.start;
            while at < part.end {
                let len = usize::try_from(part.end - at).map_or(CHUNK_LEN, |left| left.min(CHUNK_LEN));
                let chunk = &mut buffer[..len];
                self.file.read_exact_at(chunk, at)?;
                add(chunk);
                at += len as u64;
            }
        }
        self.end.chunks(CHUNK_LEN).for_each(&mut add);
        Ok(D::new().chain_update([0x5a]).chain_update(count.to_le_bytes()).chain_update(chunks).finalize().to_vec())
    }
}
