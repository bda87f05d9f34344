//! This host's keys for ADB: a handset lets in who signs its token with a key that its user once allowed.
//!
//! The signature is RSA, PKCS#1 v1.5, over the 20 bytes of the token *as if they were a SHA-1 digest*: the token is not hashed.
//! The public key travels in Android's own binary form, in base64.
//!
//! Invariant: a private key is readable by its owner only (`tests::a_new_key_is_kept_private`).

mod known;

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rsa::pkcs1::DecodeRsaPrivateKey as _;
use rsa::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, LineEnding};
use rsa::traits::PublicKeyParts as _;
use rsa::{Pkcs1v15Sign, PrivateKey};
use sha1::Sha1;

pub use known::KnownKeys;
pub(crate) use known::owner_in;

/// The only size that handsets take, in bits.
const KEY_BITS: usize = 2048;
/// Its modulus in bytes, and in the 32-bit words of Android's form.
const MODULUS_LEN: usize = KEY_BITS / 8;
const MODULUS_WORDS: u32 = 64;

/// The file of the host's own key.
const KEY_FILE: &str = "adbkey";

/// Where further keys are, one a file, in the order of their names.
const IMPORTED_DIR: &str = "adbkeys";

/// Why there is no usable key.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The file system said no.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The file is no private key.
    #[error("{path} is not an RSA private key in PEM (PKCS#8 or PKCS#1): {why}")]
    NotAKey {
        /// The file.
        path: PathBuf,
        /// What the parser said.
        why: String,
    },
    /// The file has a line that is no public key.
    #[error("{path} has a line that is no public key of adb's: {why}")]
    NotAPublicKey {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// Handsets take no other size.
    #[error("{path} is an RSA key of {bits} bits, handsets take {KEY_BITS} bits with the exponent 65537 only")]
    Size {
        /// The file.
        path: PathBuf,
        /// Its size.
        bits: u32,
    },
    /// A name that is no file's name, or is taken.
    #[error("a key named {name:?} can't be kept: {why}")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// No key could be made.
    #[error("no RSA key could be made: {0}")]
    Generate(rsa::Error),
}

/// The keys that are tried on a handset, in order; the first one is offered to its user.
#[derive(Debug)]
pub struct KeyRing {
    keys: Vec<Key>,
    owner: String,
}

#[derive(Debug)]
struct Key {
    private: PrivateKey,
    path: PathBuf,
}

impl KeyRing {
    /// Loads `dir/adbkey`, or makes it, with its public half beside it (`adbkey.pub`). Making one takes seconds on a small host:
    /// call it off the async threads.
    ///
    /// # Errors
    /// What is wrong with the files.
    pub fn load_or_create(dir: &Path) -> Result<Self, KeyError> {
        let path = dir.join(KEY_FILE);
        let mut ring = Self { keys: Vec::new(), owner: owner() };
        if !path.exists() {
            create(dir, &path, &ring.owner)?;
        }
        ring.add_file(&path)?;
        Ok(ring)
    }

    /// This host's own key and all that were imported into `dir`, and that of Google's adb for this user: phones that know it let
    /// farmhand in at once. An imported key that can't be used is left out, with a warning.
    ///
    /// # Errors
    /// What is wrong with this host's own key.
    pub fn of_host(dir: &Path) -> Result<Self, KeyError> {
        let mut ring = Self::load_or_create(dir)?;
        for path in imported(dir).into_iter().chain(google_key()) {
            if let Err(error) = ring.add_file(&path) {
                tracing::warn!("an ADB key is left out: {error}");
            }
        }
        Ok(ring)
    }

    /// Keeps a copy of a key in `dir`, under the file's name unless another one is given, and gives where it is.
    ///
    /// # Errors
    /// It is no key that handsets take, there is one of this name, or it can't be written.
    pub fn import(dir: &Path, file: &Path, name: Option<&str>) -> Result<KeyInfo, KeyError> {
        let mut ring = Self { keys: Vec::new(), owner: owner() };
        ring.add_file(file)?;
        let name = name.map_or_else(|| file.file_name().unwrap_or_default().to_string_lossy(), Into::into);
        let refused = |why| KeyError::Name { name: name.clone().into_owned(), why };
        if name.is_empty() || name.starts_with('.') || name.contains('/') {
            return Err(refused("it is no plain file name"));
        }
        let to = dir.join(IMPORTED_DIR).join(name.as_ref());
        if to.exists() {
            return Err(refused("there is one of this name already"));
        }
        let pem = fs::read_to_string(file).map_err(at(file))?;
        fs::create_dir_all(dir.join(IMPORTED_DIR)).map_err(at(&dir.join(IMPORTED_DIR)))?;
        write_private(&to, &pem)?;
        ring.keys.iter_mut().for_each(|key| key.path.clone_from(&to));
        ring.infos().pop().ok_or_else(|| refused("it is empty"))
    }

    /// What there is to tell of each key, in the order in which they are tried.
    #[must_use]
    pub fn infos(&self) -> Vec<KeyInfo> {
        let info = |key: &Key| KeyInfo {
            path: key.path.clone(),
            fingerprint: fingerprint(&key.private),
            public: public_key_text(&key.private, &self.owner),
        };
        self.keys.iter().map(info).collect()
    }

    /// Adds a key that is tried too, such as the one of Google's adb at `~/.android/adbkey`.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn add_file(&mut self, path: &Path) -> Result<(), KeyError> {
        warn_of_readers(path);
        let pem = fs::read_to_string(path).map_err(|source| KeyError::Io { path: path.to_owned(), source })?;
        let private = parse(&pem).map_err(|why| KeyError::NotAKey { path: path.to_owned(), why })?;
        let bits = private.n().as_ref().bit_width();
        if bits as usize != KEY_BITS || exponent(&private) != Some(65537) {
            return Err(KeyError::Size { path: path.to_owned(), bits });
        }
        self.keys.push(Key { private, path: path.to_owned() });
        Ok(())
    }

    /// The files that the keys came from, in the order in which they are tried.
    pub fn files(&self) -> impl Iterator<Item = &Path> {
        self.keys.iter().map(|key| key.path.as_path())
    }

    /// Signs a token by the key with this index; none if there are fewer keys.
    #[must_use]
    pub fn sign(&self, index: usize, token: &[u8; 20]) -> Option<Vec<u8>> {
        let key = self.keys.get(index)?;
        // Blinded by fresh randomness. The token has a digest's length, so that the only failure left is a broken key, which
        // counts as one that the handset refused.
        key.private.sign_with_rng(&mut rand::rng(), Pkcs1v15Sign::new::<Sha1>(), token).ok()
    }

    /// The first key's public half in Android's text form: base64, a space, `user@host`.
    #[must_use]
    pub fn public_key_text(&self) -> Option<String> {
        self.keys.first().map(|key| public_key_text(&key.private, &self.owner))
    }
}

/// What may be told of a key.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct KeyInfo {
    /// Its file.
    pub path: PathBuf,
    /// As a handset shows it when it asks its user: MD5 over the binary form, as pairs of hexadecimal digits.
    pub fingerprint: String,
    /// The public half in Android's text form.
    pub public: String,
}

/// The files of imported keys.
fn imported(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir.join(IMPORTED_DIR)).into_iter().flatten().flatten();
    let is_key = |path: &PathBuf| path.is_file() && path.extension().is_none_or(|extension| extension != "pub");
    let mut files: Vec<_> = entries.map(|entry| entry.path()).filter(is_key).collect();
    files.sort_unstable();
    files
}

/// The key of Google's adb, if this user has one.
#[must_use]
pub fn google_key() -> Option<PathBuf> {
    let path = PathBuf::from(std::env::var_os("HOME")?).join(".android").join(KEY_FILE);
    path.is_file().then_some(path)
}

fn fingerprint(key: &PrivateKey) -> String {
    use md5::Digest as _;
    let digest = md5::Md5::digest(android_form(key));
    digest.iter().map(|byte| format!("{byte:02X}")).collect::<Vec<_>>().join(":")
}

/// Who can read the private key can be this host to every handset that allows it.
fn warn_of_readers(path: &Path) {
    use std::os::unix::fs::PermissionsExt as _;
    let mode = fs::metadata(path).map_or(0, |metadata| metadata.permissions().mode());
    if let Some(warning) = readers(path, mode) {
        tracing::warn!("{warning}");
    }
}

fn readers(path: &Path, mode: u32) -> Option<String> {
    let file = path.display();
    let others = mode & 0o077;
    (others != 0).then(|| {
        format!("the private ADB key {file} is open to other users (mode {:04o}): chmod 600 {file}", mode & 0o7777)
    })
}

fn parse(pem: &str) -> Result<PrivateKey, String> {
    if pem.contains("BEGIN RSA PRIVATE KEY") {
        return PrivateKey::from_pkcs1_pem(pem).map_err(|error| error.to_string());
    }
    PrivateKey::from_pkcs8_pem(pem).map_err(|error| error.to_string())
}

fn create(dir: &Path, path: &Path, owner: &str) -> Result<(), KeyError> {
    let private = PrivateKey::new(&mut rand::rng(), KEY_BITS).map_err(KeyError::Generate)?;
    let pem = private
        .to_pkcs8_pem(LineEnding::LF)
        .map_err(|error| KeyError::NotAKey { path: path.to_owned(), why: error.to_string() })?;
    fs::create_dir_all(dir).map_err(at(dir))?;
    write_private(path, &pem)?;
    let public = path.with_extension("pub");
    fs::write(&public, public_key_text(&private, owner) + "\n").map_err(at(&public))?;
    tracing::info!(file = %path.display(), "made this host's key for ADB");
    Ok(())
}

/// Writes a file that only its owner reads.
fn write_private(path: &Path, pem: &str) -> Result<(), KeyError> {
    // Under another name first: a key cut short by a power cut would be refused for ever.
    let new = path.with_extension("new");
    let written =
        fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&new).and_then(|mut file| {
            file.write_all(pem.as_bytes())?;
            file.sync_all()
        });
    written.and_then(|()| fs::rename(&new, path)).map_err(at(path))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> KeyError + use<> {
    let path = path.to_owned();
    move |source| KeyError::Io { path, source }
}

/// `user@host`, as a handset shows it to its user.
fn owner() -> String {
    let host = sysinfo::System::host_name();
    let user = nix::unistd::User::from_uid(nix::unistd::getuid()).ok().flatten().map(|user| user.name);
    format!("{}@{}", user.as_deref().unwrap_or("farmhand"), host.as_deref().unwrap_or("localhost"))
}

fn exponent(key: &PrivateKey) -> Option<u64> {
    let bytes = key.e().to_be_bytes();
    bytes.iter().try_fold(0_u64, |value, byte| Some(value.checked_mul(256)? | u64::from(*byte)))
}

fn public_key_text(key: &PrivateKey, owner: &str) -> String {
    format!("{} {owner}", BASE64_STANDARD.encode(android_form(key)))
}

/// Android's binary form: u32 number of words, u32 -1/n mod 2^32, modulus, R^2 mod n with R = 2^2048, u32 exponent; all
/// little-endian.
fn android_form(key: &PrivateKey) -> Vec<u8> {
    let modulus = little_endian(&key.n().as_ref().to_le_bytes());
    let lowest = u32::from_le_bytes([modulus[0], modulus[1], modulus[2], modulus[3]]);
    let mut form = Vec::with_capacity(3 * 4 + 2 * MODULUS_LEN);
    form.extend_from_slice(&MODULUS_WORDS.to_le_bytes());
    form.extend_from_slice(&inverse(lowest).wrapping_neg().to_le_bytes());
    form.extend_from_slice(&modulus);
    form.extend_from_slice(&r_squared(&modulus));
    form.extend_from_slice(&u32::try_from(exponent(key).unwrap_or_default()).unwrap_or_default().to_le_bytes());
    form
}

fn little_endian(bytes: &[u8]) -> [u8; MODULUS_LEN] {
    let mut number = [0; MODULUS_LEN];
    for (to, from) in number.iter_mut().zip(bytes) {
        *to = *from;
    }
    number
}

/// 1/n mod 2^32 of an odd n, by Newton: each step doubles the right bits, n itself has three.
fn inverse(n: u32) -> u32 {
    (0..4).fold(n, |x, _| x.wrapping_mul(2_u32.wrapping_sub(n.wrapping_mul(x))))
}

/// 2^4096 mod n, by doubling 1.
fn r_squared(modulus: &[u8; MODULUS_LEN]) -> [u8; MODULUS_LEN] {
    let mut value = [0; MODULUS_LEN];
    value[0] = 1;
    for _ in 0..2 * KEY_BITS {
        let carry = double(&mut value);
        if carry || value.iter().rev().ge(modulus.iter().rev()) {
            subtract(&mut value, modulus);
        }
    }
    value
}

fn double(value: &mut [u8; MODULUS_LEN]) -> bool {
    let mut carry = 0;
    for byte in value {
        let next = *byte >> 7;
        *byte = *byte << 1 | carry;
        carry = next;
    }
    carry != 0
}

fn subtract(value: &mut [u8; MODULUS_LEN], other: &[u8; MODULUS_LEN]) {
    let mut borrow = false;
    for (byte, less) in value.iter_mut().zip(other) {
        let (first, one) = byte.overflowing_sub(*less);
        let (second, two) = first.overflowing_sub(u8::from(borrow));
        *byte = second;
        borrow = one || two;
    }
}

#[cfg(test)]
mod tests;
