//! This host's keys for ADB: a handset lets in who signs its token with a key that its user once allowed.
//!
//! The signature is RSA, PKCS#1 v1.5, over the 20 bytes of the token *as if they were a SHA-1 digest*: the token is not hashed.
//! The public key travels in Android's own binary form, in base64.
//!
//! Invariant: a private key is readable by its owner only (`tests::a_new_key_is_kept_private`).

mod keep;
mod known;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use rsa::pkcs1::DecodeRsaPrivateKey as _;
use rsa::pkcs8::{DecodePrivateKey as _, EncodePrivateKey as _, LineEnding};
use rsa::traits::PublicKeyParts as _;
use rsa::{Pkcs1v15Sign, PrivateKey};
use sha1::Sha1;

use keep::{Holder, Readers, imported, is_key_name};
pub use keep::{google_key, google_key_of};
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
    /// The daemon has not made its key yet.
    #[error("there is no key in {dir} yet: the daemon makes it at its first start")]
    NoneYet {
        /// The state directory.
        dir: PathBuf,
    },
    /// A key that only somebody else may read.
    #[error("{path} can't be read by {user}, whom the state directory belongs to: chown {user} {path}")]
    Foreign {
        /// The file.
        path: PathBuf,
        /// The user that the daemon runs as.
        user: String,
    },
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
        if !path.try_exists().map_err(at(&path))? {
            fs::create_dir_all(dir).map_err(at(dir))?;
            create(&Holder::of(dir)?, &path)?;
        }
        Self::load(dir)
    }

    /// Loads `dir/adbkey`.
    ///
    /// # Errors
    /// There is none, or what is wrong with the file.
    pub fn load(dir: &Path) -> Result<Self, KeyError> {
        let path = dir.join(KEY_FILE);
        if !path.try_exists().map_err(at(&path))? {
            return Err(KeyError::NoneYet { dir: dir.to_owned() });
        }
        let mut ring = Self { keys: Vec::new(), owner: Holder::of(dir)?.label() };
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
        let imported = imported(dir).unwrap_or_else(|error| {
            tracing::warn!("the imported ADB keys are left out: {error}");
            Vec::new()
        });
        for path in imported.into_iter().chain(google_key()) {
            if let Err(error) = ring.add_file(&path) {
                tracing::warn!("an ADB key is left out: {error}");
            }
        }
        Ok(ring)
    }

    /// Every file from which the daemon whose state is in `dir` takes a key, in the order in which it tries them. Makes none.
    ///
    /// # Errors
    /// The directory can't be looked into.
    pub fn candidates(dir: &Path) -> Result<Vec<Candidate>, KeyError> {
        let holder = Holder::of(dir)?;
        let own = dir.join(KEY_FILE);
        let own = own.try_exists().map_err(at(&own))?.then_some(own);
        let paths = own.into_iter().chain(imported(dir)?).chain(holder.google_key());
        let label = holder.label();
        let candidate = |path: PathBuf| {
            let folder = path.parent().map_or(Ok(()), |folder| holder.check_readable(folder));
            let key = folder.and_then(|()| holder.check_readable(&path)).and_then(|()| Key::read(&path));
            Candidate { key: key.map(|key| key.info(&label)), path }
        };
        Ok(paths.map(candidate).collect())
    }

    /// Keeps a copy of a key in `dir`, under the file's name unless another one is given, and gives where it is. The copy belongs to
    /// the owner of `dir`, so that a daemon under another user than the caller reads it.
    ///
    /// # Errors
    /// It is no key that handsets take, there is one of this name, or it can't be written.
    pub fn import(dir: &Path, file: &Path, name: Option<&str>) -> Result<KeyInfo, KeyError> {
        let (key, pem) = Key::read_with_text(file)?;
        let name = name.map_or_else(|| file.file_name().unwrap_or_default().to_string_lossy(), Into::into);
        let refused = |why| KeyError::Name { name: name.clone().into_owned(), why };
        if !is_key_name(&name) {
            return Err(refused("it is no plain file name, or one that is passed over"));
        }
        fs::create_dir_all(dir).map_err(at(dir))?;
        let holder = Holder::of(dir)?;
        let folder = dir.join(IMPORTED_DIR);
        let to = folder.join(name.as_ref());
        let inside = holder.folder(&folder)?;
        if inside.file(name.as_ref()).try_exists().map_err(at(&to))? {
            return Err(refused("there is one of this name already; --name gives it another one"));
        }
        holder.write(&inside.file(name.as_ref()), &pem, Readers::Owner).map_err(at(&to))?;
        Ok(Key { path: to, ..key }.info(&holder.label()))
    }

    /// What there is to tell of each key, in the order in which they are tried.
    #[must_use]
    pub fn infos(&self) -> Vec<KeyInfo> {
        self.keys.iter().map(|key| key.info(&self.owner)).collect()
    }

    /// Adds a key that is tried too, such as the one of Google's adb at `~/.android/adbkey`.
    ///
    /// # Errors
    /// What is wrong with the file.
    pub fn add_file(&mut self, path: &Path) -> Result<(), KeyError> {
        warn_of_readers(path);
        self.keys.push(Key::read(path)?);
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

impl Key {
    fn read(path: &Path) -> Result<Self, KeyError> {
        Self::read_with_text(path).map(|(key, _)| key)
    }

    fn read_with_text(path: &Path) -> Result<(Self, String), KeyError> {
        let pem = fs::read_to_string(path).map_err(at(path))?;
        let private = parse(&pem).map_err(|why| KeyError::NotAKey { path: path.to_owned(), why })?;
        if !is_for_handsets(&private) {
            return Err(KeyError::Size { path: path.to_owned(), bits: private.n().as_ref().bit_width() });
        }
        Ok((Self { private, path: path.to_owned() }, pem))
    }

    fn info(&self, owner: &str) -> KeyInfo {
        KeyInfo {
            path: self.path.clone(),
            fingerprint: fingerprint(&self.private),
            public: public_key_text(&self.private, owner),
        }
    }
}

/// A file from which the daemon takes a key.
#[derive(Debug)]
pub struct Candidate {
    /// The file.
    pub path: PathBuf,
    /// The key, or why the daemon leaves it out.
    pub key: Result<KeyInfo, KeyError>,
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

fn is_for_handsets(key: &PrivateKey) -> bool {
    key.n().as_ref().bit_width() as usize == KEY_BITS && exponent(key) == Some(65537)
}

/// Reads any text as a file with a private key and as one with public keys; what a fuzzer calls.
///
/// # Panics
/// When the public half of a key that is used is not known again, or a key's owner could disturb a terminal.
pub fn fuzz_key_files(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    if let Ok(key) = parse(text)
        && is_for_handsets(&key)
    {
        assert!(known::fuzz_public_key(&public_key_text(&key, "me@here")));
    }
    for line in text.lines() {
        known::fuzz_public_key(line);
    }
}

fn create(holder: &Holder, path: &Path) -> Result<(), KeyError> {
    let private = PrivateKey::new(&mut rand::rng(), KEY_BITS).map_err(KeyError::Generate)?;
    let pem = private
        .to_pkcs8_pem(LineEnding::LF)
        .map_err(|error| KeyError::NotAKey { path: path.to_owned(), why: error.to_string() })?;
    holder.write(path, &pem, Readers::Owner).map_err(at(path))?;
    let public = path.with_extension("pub");
    let text = public_key_text(&private, &holder.label()) + "\n";
    holder.write(&public, &text, Readers::All).map_err(at(&public))?;
    tracing::info!(file = %path.display(), "made this host's key for ADB");
    Ok(())
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> KeyError + use<> {
    let path = path.to_owned();
    move |source| KeyError::Io { path, source }
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
