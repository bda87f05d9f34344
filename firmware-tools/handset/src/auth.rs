//! Which hosts a phone lets in: tokens, signatures and public keys.
//!
//! The host signs a random token with each of its keys; if the phone knows none of them, it is offered a public key and the
//! phone's user is asked.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Buf;
use rsa::{BoxedUint, Pkcs1v15Sign, PublicKey};
use sha1::Sha1;

use crate::limits;

/// Bytes of the token that a host signs: the size of a SHA-1 digest, which it takes the place of.
pub const TOKEN_BYTES: usize = 20;

/// Bytes of a modulus: RSA-2048 is the only size.
const MODULUS_BYTES: usize = 256;
const MODULUS_BITS: u32 = 2048;

/// Modulus words, n0inv, modulus, R² mod n, exponent.
const KEY_BYTES: usize = 4 + 4 + MODULUS_BYTES + MODULUS_BYTES + 4;

/// Bytes of a public key in base64 with `user@host` behind it, at most.
const KEY_TEXT_BYTES_MAX: usize = 4096;

/// Does a phone ask for keys?
#[derive(Clone, Debug)]
pub enum Authorisation {
    /// Whoever connects is let in, as with `ro.adb.secure=0`.
    Off,
    /// Only who holds a key of this store.
    Keys(Arc<KeyStore>),
}

/// What the phone's user does with the key of an unknown host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnknownKey {
    /// "Always allow from this computer", after that long.
    AcceptAfter(Duration),
    /// Nothing: the question stays on the screen.
    Ignore,
}

/// The keys that a phone knows, as in `/data/misc/adb/adb_keys`, shared by all its connections.
#[derive(Debug)]
pub struct KeyStore {
    known: Mutex<VecDeque<AndroidPublicKey>>,
    unknown: UnknownKey,
}

impl KeyStore {
    /// A store that knows `known`.
    #[must_use]
    pub fn new(known: impl IntoIterator<Item = AndroidPublicKey>, unknown: UnknownKey) -> Arc<Self> {
        Arc::new(Self { known: Mutex::new(known.into_iter().collect()), unknown })
    }

    /// What the user does with an unknown key.
    #[must_use]
    pub fn unknown(&self) -> UnknownKey {
        self.unknown
    }

    /// Adds a key; the oldest goes when there are too many.
    pub fn allow(&self, key: AndroidPublicKey) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if !known.contains(&key) {
            known.push_back(key);
        }
        if known.len() > limits::KEYS_MAX {
            known.pop_front();
        }
    }

    /// How many keys are known.
    #[must_use]
    pub fn count(&self) -> usize {
        self.known.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    pub(crate) fn signed_by_one(&self, token: &[u8; TOKEN_BYTES], signature: &[u8]) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.iter().any(|key| key.signed(token, signature))
    }
}

/// A text that is no public key of Android's.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no Android public key: {0}")]
pub struct BadKey(&'static str);

/// An RSA-2048 public key in Android's own form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AndroidPublicKey {
    key: PublicKey,
}

impl AndroidPublicKey {
    /// Reads what hosts send and keep in `adbkey.pub`: base64, then perhaps ` user@host` and a NUL.
    ///
    /// # Errors
    /// Says which part is wrong.
    pub fn parse(text: &[u8]) -> Result<Self, BadKey> {
        if text.len() > KEY_TEXT_BYTES_MAX {
            return Err(BadKey("longer than 4096 bytes"));
        }
        let encoded = text.split(|&byte| byte == b' ' || byte == 0 || byte == b'\n').next().unwrap_or_default();
        let binary = BASE64_STANDARD.decode(encoded).map_err(|_| BadKey("not base64"))?;
        if binary.len() != KEY_BYTES {
            return Err(BadKey("not 524 bytes long"));
        }
        let mut rest = &binary[..];
        if rest.get_u32_le() as usize != MODULUS_BYTES / 4 {
            return Err(BadKey("the modulus is not 64 words long"));
        }
        rest.advance(4); // n0inv, which speeds up Montgomery multiplication on the phone
        let modulus = rest.copy_to_bytes(MODULUS_BYTES);
        rest.advance(MODULUS_BYTES); // R² mod n, the same
        let exponent = rest.get_u32_le();
        if modulus[0] & 1 == 0 || modulus[MODULUS_BYTES - 1] == 0 {
            return Err(BadKey("the modulus is even or too short"));
        }
        let modulus = BoxedUint::from_le_slice(&modulus, MODULUS_BITS)
            .map_err(|_| BadKey("the modulus is not 2048 bits long"))?;
        let key = PublicKey::new(modulus, BoxedUint::from(exponent))
            .map_err(|_| BadKey("RSA allows no such modulus or exponent"))?;
        Ok(Self { key })
    }

    /// Whether this key signed the token, taken for a SHA-1 digest.
    #[must_use]
    pub fn signed(&self, token: &[u8; TOKEN_BYTES], signature: &[u8]) -> bool {
        self.key.verify(Pkcs1v15Sign::new::<Sha1>(), token, signature).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const KEY: &[u8] = include_bytes!("../tests/keys/adbkey.pub");

    #[test]
    fn the_key_that_googles_adb_makes_is_read_with_and_without_its_name() {
        let named = AndroidPublicKey::parse(KEY).unwrap();
        let bare = AndroidPublicKey::parse(KEY.split(|&byte| byte == b' ').next().unwrap()).unwrap();
        assert_eq!(named, bare);
    }

    #[test]
    fn what_is_no_key_is_said() {
        let why = |text: &[u8]| AndroidPublicKey::parse(text).unwrap_err().0;
        assert_eq!(why(b""), "not 524 bytes long");
        assert_eq!(why(b"*"), "not base64");
        assert_eq!(why(&[b'A'; 5000]), "longer than 4096 bytes");
        let zeros = BASE64_STANDARD.encode([0; KEY_BYTES]);
        assert_eq!(why(zeros.as_bytes()), "the modulus is not 64 words long");
    }

    #[test]
    fn the_oldest_key_is_forgotten_when_there_are_too_many() {
        let store = KeyStore::new([], UnknownKey::Ignore);
        for number in 0..=limits::KEYS_MAX as u8 {
            let mut low = [0xa1; MODULUS_BYTES - 1];
            low[1] = number;
            store.allow(AndroidPublicKey::parse(&key_of(&low, 0xff, 0x10001)).unwrap());
        }
        assert_eq!(store.count(), limits::KEYS_MAX);
    }

    fn key_of(low: &[u8], high: u8, exponent: u32) -> Vec<u8> {
        let mut binary = 64_u32.to_le_bytes().to_vec();
        binary.extend_from_slice(&[0; 4]);
        binary.extend_from_slice(low);
        binary.push(high);
        binary.extend_from_slice(&[0; MODULUS_BYTES]);
        binary.extend_from_slice(&exponent.to_le_bytes());
        BASE64_STANDARD.encode(binary).into_bytes()
    }

    proptest! {
        #[test]
        fn noise_is_no_key(text in prop::collection::vec(any::<u8>(), 0..800)) {
            let _ = AndroidPublicKey::parse(&text);
        }

        #[test]
        fn a_key_of_noise_signs_nothing(
            low in prop::collection::vec(any::<u8>(), MODULUS_BYTES - 1),
            high: u8,
            exponent: u32,
            signature in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            if let Ok(key) = AndroidPublicKey::parse(&key_of(&low, high, exponent)) {
                prop_assert!(!key.signed(&[7; TOKEN_BYTES], &signature));
            }
        }
    }
}
