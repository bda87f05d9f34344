//! The signature algorithms of the APK schemes: what each id stands for, and whether a signature of it holds.
//!
//! The ids are those of Android's published text, <https://source.android.com/docs/security/features/apksigning/v2>, and of its
//! fs-verity variants, which Android 9 brought.

use p256::pkcs8::DecodePublicKey;
use rsa::signature::Verifier;
use rsa::signature::hazmat::PrehashVerifier;
use sha2::{Digest, Sha256, Sha512};
use x509_cert::certificate::{CertificateInner, Raw};
use x509_cert::der::{Decode, Encode};

/// How the content of an APK is digested. The order is Android's preference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum ContentDigest {
    /// SHA-256 over chunks of 1 MiB.
    ChunkedSha256,
    /// A tree of SHA-256 over pages of 4 KiB, as fs-verity builds it.
    VeritySha256,
    /// SHA-512 over chunks of 1 MiB.
    ChunkedSha512,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hash {
    Sha256,
    Sha512,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Key {
    RsaPss,
    RsaPkcs1,
    Ecdsa,
    Dsa,
}

/// One signature algorithm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Algorithm {
    key: Key,
    hash: Hash,
    /// How content is digested for it.
    pub(super) digest: ContentDigest,
    /// The first Android version (SDK number) that knows it.
    pub(super) since: u32,
}

impl Algorithm {
    /// By its id in the signing block; `None` for one that Android does not know.
    pub(super) fn of(id: u32) -> Option<Self> {
        use ContentDigest::{ChunkedSha256, ChunkedSha512, VeritySha256};
        let (key, hash, digest, since) = match id {
            0x0101 => (Key::RsaPss, Hash::Sha256, ChunkedSha256, 24),
            0x0102 => (Key::RsaPss, Hash::Sha512, ChunkedSha512, 24),
            0x0103 => (Key::RsaPkcs1, Hash::Sha256, ChunkedSha256, 24),
            0x0104 => (Key::RsaPkcs1, Hash::Sha512, ChunkedSha512, 24),
            0x0201 => (Key::Ecdsa, Hash::Sha256, ChunkedSha256, 24),
            0x0202 => (Key::Ecdsa, Hash::Sha512, ChunkedSha512, 24),
            0x0301 => (Key::Dsa, Hash::Sha256, ChunkedSha256, 24),
            0x0421 => (Key::RsaPkcs1, Hash::Sha256, VeritySha256, 28),
            0x0423 => (Key::Ecdsa, Hash::Sha256, VeritySha256, 28),
            0x0425 => (Key::Dsa, Hash::Sha256, VeritySha256, 28),
            _ => return None,
        };
        Some(Self { key, hash, digest, since })
    }

    /// Whether the holder of the key (SubjectPublicKeyInfo in DER) has signed the message.
    pub(super) fn verifies(self, key: &[u8], message: &[u8], signature: &[u8]) -> bool {
        let holds = match (self.key, self.hash) {
            (Key::RsaPkcs1, Hash::Sha256) => rsa_pkcs1::<Sha256>(key, message, signature),
            (Key::RsaPkcs1, Hash::Sha512) => rsa_pkcs1::<Sha512>(key, message, signature),
            (Key::RsaPss, Hash::Sha256) => rsa_pss::<Sha256>(key, message, signature),
            (Key::RsaPss, Hash::Sha512) => rsa_pss::<Sha512>(key, message, signature),
            (Key::Ecdsa, Hash::Sha256) => ecdsa(key, &Sha256::digest(message), signature),
            (Key::Ecdsa, Hash::Sha512) => ecdsa(key, &Sha512::digest(message), signature),
            (Key::Dsa, _) => dsa(key, &Sha256::digest(message), signature),
        };
        holds.unwrap_or(false)
    }
}

/// `None`, here and below, if key or signature are malformed.
fn rsa_pkcs1<D>(key: &[u8], message: &[u8], signature: &[u8]) -> Option<bool>
where
    D: Digest + x509_cert::der::oid::AssociatedOid,
{
    let key = rsa::PublicKey::from_public_key_der(key).ok()?;
    let signature = rsa::pkcs1v15::Signature::try_from(signature).ok()?;
    Some(rsa::pkcs1v15::VerifyingKey::<D>::new(key).verify(message, &signature).is_ok())
}

/// The salt is as long as the digest.
fn rsa_pss<D>(key: &[u8], message: &[u8], signature: &[u8]) -> Option<bool>
where
    D: Digest + sha2::digest::FixedOutputReset,
{
    let key = rsa::PublicKey::from_public_key_der(key).ok()?;
    let signature = rsa::pss::Signature::try_from(signature).ok()?;
    Some(rsa::pss::VerifyingKey::<D>::new(key).verify(message, &signature).is_ok())
}

/// On the curve of the key, P-256, P-384 or P-521.
fn ecdsa(key: &[u8], digest: &[u8], signature: &[u8]) -> Option<bool> {
    if let Ok(key) = p256::ecdsa::VerifyingKey::from_public_key_der(key) {
        let signature = p256::ecdsa::Signature::from_der(signature).ok()?;
        return Some(key.verify_prehash(digest, &signature).is_ok());
    }
    if let Ok(key) = p384::ecdsa::VerifyingKey::from_public_key_der(key) {
        let signature = p384::ecdsa::Signature::from_der(signature).ok()?;
        return Some(key.verify_prehash(digest, &signature).is_ok());
    }
    let key = p521::ecdsa::VerifyingKey::from_public_key_der(key).ok()?;
    let signature = p521::ecdsa::Signature::from_der(signature).ok()?;
    Some(key.verify_prehash(digest, &signature).is_ok())
}

fn dsa(key: &[u8], digest: &[u8], signature: &[u8]) -> Option<bool> {
    let key = dsa::VerifyingKey::from_public_key_der(key).ok()?;
    let signature = dsa::Signature::from_der(signature).ok()?;
    Some(key.verify_prehash(digest, &signature).is_ok())
}

/// SubjectPublicKeyInfo of a certificate, in DER; `None` if it is no certificate. Serial numbers that newer rules forbid are
/// taken: the debug keys of old build tools have them.
pub(super) fn certified_key(certificate: &[u8]) -> Option<Vec<u8>> {
    let certificate = CertificateInner::<Raw>::from_der(certificate).ok()?;
    certificate.tbs_certificate().subject_public_key_info().to_der().ok()
}
