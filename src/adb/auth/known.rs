//! The other side of ADB's authentication: the keys of those who are let in, by their public halves.

use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rsa::{BoxedUint, Pkcs1v15Sign, PublicKey};
use sha1::Sha1;

use super::{KEY_BITS, KeyError, MODULUS_LEN, MODULUS_WORDS, at};

/// Android's form: words, n0inv, the modulus, R² mod n, the exponent.
const KEY_LEN: usize = 4 + 4 + MODULUS_LEN + MODULUS_LEN + 4;
/// The longest name of a key's owner, in characters.
const OWNER_MAX: usize = 64;

/// Keys that are let in.
#[derive(Debug, Default)]
pub struct KnownKeys(Vec<KnownKey>);

#[derive(Debug)]
struct KnownKey {
    key: PublicKey,
    owner: String,
}

impl KnownKeys {
    /// Reads files in the format of Google's `adbkey.pub` and of a phone's `adb_keys`: a key a line, with the name of its owner.
    ///
    /// # Errors
    /// A file cannot be read, has no key, or a line is none.
    pub fn load<'p>(files: impl IntoIterator<Item = &'p Path>) -> Result<Self, KeyError> {
        let mut keys = Vec::new();
        for file in files {
            let text = fs::read_to_string(file).map_err(at(file))?;
            let bad = |why: &'static str| KeyError::NotAPublicKey { path: file.to_owned(), why };
            let before = keys.len();
            for line in text.lines().filter(|line| !line.trim().is_empty()) {
                keys.push(parse(line).map_err(bad)?);
            }
            if keys.len() == before {
                return Err(bad("it is empty"));
            }
        }
        Ok(Self(keys))
    }

    /// The name of whoever has signed this token; none if it was nobody who is let in.
    #[must_use]
    pub fn signer(&self, token: &[u8; 20], signature: &[u8]) -> Option<&str> {
        let signed = |known: &&KnownKey| known.key.verify(Pkcs1v15Sign::new::<Sha1>(), token, signature).is_ok();
        self.0.iter().find(signed).map(|known| known.owner.as_str())
    }
}

fn parse(line: &str) -> Result<KnownKey, &'static str> {
    let (key, owner) = line.trim().split_once(' ').unwrap_or((line.trim(), ""));
    let binary = BASE64_STANDARD.decode(key).map_err(|_| "its beginning is no base64")?;
    let binary: &[u8; KEY_LEN] = binary.as_slice().try_into().map_err(|_| "it is not 524 bytes long")?;
    let (words, rest) = binary.split_first_chunk::<4>().ok_or("it is too short")?;
    let (_, rest) = rest.split_first_chunk::<4>().ok_or("it is too short")?;
    let (modulus, rest) = rest.split_first_chunk::<MODULUS_LEN>().ok_or("it is too short")?;
    let exponent = rest.last_chunk::<4>().ok_or("it is too short")?;
    let is_whole =
        modulus.first().is_some_and(|byte| byte & 1 == 1) && modulus.last().is_some_and(|byte| *byte >= 0x80);
    if u32::from_le_bytes(*words) != MODULUS_WORDS || !is_whole {
        return Err("it is no key of 2048 bits");
    }
    let bits = u32::try_from(KEY_BITS).unwrap_or(u32::MAX);
    let modulus = BoxedUint::from_le_slice(modulus, bits).map_err(|_| "it is no key of 2048 bits")?;
    let exponent = BoxedUint::from(u32::from_le_bytes(*exponent));
    let key = PublicKey::new(modulus, exponent).map_err(|_| "RSA allows no such modulus or exponent")?;
    Ok(KnownKey { key, owner: owner_in(owner) })
}

/// Whether a line is a public key. One that is lets nobody in who has signed nothing.
pub(super) fn fuzz_public_key(line: &str) -> bool {
    let Ok(known) = parse(line) else { return false };
    assert!(
        !known.owner.is_empty() && known.owner.chars().count() <= OWNER_MAX && !known.owner.contains(char::is_control)
    );
    let known = KnownKeys(vec![known]);
    assert_eq!(known.signer(&[7; 20], &[7; MODULUS_LEN]), None);
    true
}

/// What is told of a key's owner: as others wrote it, so without what could disturb a terminal.
pub(crate) fn owner_in(text: &str) -> String {
    let owner: String = text.chars().filter(|c| !c.is_control()).take(OWNER_MAX).collect();
    let owner = owner.trim();
    if owner.is_empty() { "somebody with a key without a name".to_owned() } else { owner.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::adb::auth::KeyRing;

    #[test]
    fn only_who_has_the_private_half_is_let_in_under_the_name_of_the_key() {
        let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/firmware-tools/handset/tests/keys");
        let ring = KeyRing::load_or_create(Path::new(dir)).unwrap();
        let public = ring.public_key_text().unwrap();
        let here = tempfile::tempdir().unwrap();
        let file = here.path().join("mara.pub");
        let key = public.split(' ').next().unwrap();
        fs::write(&file, format!("\n{key} mara@\x1b[31mdesk\n")).unwrap();
        let known = KnownKeys::load([file.as_path()]).unwrap();
        let token = [7; 20];
        let signature = ring.sign(0, &token).unwrap();
        assert_eq!(known.signer(&token, &signature), Some("mara@[31mdesk"));
        assert_eq!(known.signer(&[8; 20], &signature), None, "another token");
        assert_eq!(known.signer(&token, &signature[1..]), None);
        assert_eq!(known.signer(&token, &[]), None);
        assert_eq!(KnownKeys::default().signer(&token, &signature), None);
    }

    #[test]
    fn what_is_no_public_key_is_told_with_its_file() {
        let here = tempfile::tempdir().unwrap();
        let file = here.path().join("x.pub");
        let even = BASE64_STANDARD.encode([[64, 0, 0, 0].as_slice(), &[0; KEY_LEN - 4]].concat());
        for (text, why) in
            [("", "it is empty"), ("-----BEGIN", "no base64"), ("AAAA me", "524 bytes"), (even.as_str(), "2048 bits")]
        {
            fs::write(&file, text).unwrap();
            let error = KnownKeys::load([file.as_path()]).unwrap_err().to_string();
            assert!(error.contains("x.pub") && error.contains(why), "{error}");
        }
        assert!(KnownKeys::load([here.path().join("none").as_path()]).is_err());
    }
}
