//! The key of the outbox, and what it seals: XChaCha20-Poly1305 with a random nonce for each block.
//!
//! It comes from systemd's credentials where there is one (`LoadCredentialEncrypted=farmhand-outbox`), else from a file of the state
//! directory that only this user can read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use chacha20poly1305::{XChaCha20Poly1305, XNonce};

/// The name of the credential, within `$CREDENTIALS_DIRECTORY`.
const CREDENTIAL: &str = "farmhand-outbox";
/// The file within the state directory.
const FILE: &str = "outbox.key";
const KEY_LEN: usize = 32;
const NONCE_LEN: usize = 24;

/// Seals and opens blocks.
pub(super) struct Key(XChaCha20Poly1305);

/// Why there is no key.
#[derive(Debug, thiserror::Error)]
pub(super) enum KeyError {
    #[error("the key of the outbox {}: {reason}", file.display())]
    Unusable { file: PathBuf, reason: io::Error },
    #[error("the key of the outbox {} has {len} bytes, and a key has {KEY_LEN}", file.display())]
    Length { file: PathBuf, len: usize },
    #[error("the key of the outbox {} may be read by others (mode {mode:o}, expected 600)", file.display())]
    Open { file: PathBuf, mode: u32 },
}

impl Key {
    /// The key of this host: that of `credentials`, else that of the state directory, which is made if there is none.
    pub(super) fn of_host(state: &Path, credentials: Option<&Path>) -> Result<Self, KeyError> {
        if let Some(file) = credentials.map(|dir| dir.join(CREDENTIAL)).filter(|file| file.exists()) {
            return read(&file);
        }
        let file = state.join(FILE);
        let unusable = |reason| KeyError::Unusable { file: file.clone(), reason };
        match fs::metadata(&file) {
            Ok(meta) if meta.permissions().mode() & 0o077 != 0 => {
                Err(KeyError::Open { file, mode: meta.permissions().mode() & 0o777 })
            }
            Ok(_) => read(&file),
            Err(why) if why.kind() == io::ErrorKind::NotFound => {
                make(state, &file).map_err(unusable)?;
                read(&file)
            }
            Err(why) => Err(unusable(why)),
        }
    }

    fn new(bytes: [u8; KEY_LEN]) -> Self {
        Self(XChaCha20Poly1305::new(&bytes.into()))
    }

    /// The sealed bytes, with their nonce before them; `about` is not in them, and must be the same when they are opened.
    pub(super) fn seal(&self, plain: &[u8], about: &[u8]) -> Vec<u8> {
        let nonce: [u8; NONCE_LEN] = rand::random();
        // It fails only beyond 256 GiB, which no block has.
        let sealed = self.0.encrypt(&XNonce::from(nonce), Payload { msg: plain, aad: about }).unwrap_or_default();
        [&nonce[..], &sealed].concat()
    }

    /// What was sealed with this key about the same; `None` if that is not so.
    pub(super) fn open(&self, sealed: &[u8], about: &[u8]) -> Option<Vec<u8>> {
        let (nonce, sealed) = sealed.split_first_chunk::<NONCE_LEN>()?;
        self.0.decrypt(&XNonce::from(*nonce), Payload { msg: sealed, aad: about }).ok()
    }
}

fn read(file: &Path) -> Result<Key, KeyError> {
    let unusable = |reason| KeyError::Unusable { file: file.to_owned(), reason };
    let mut bytes = Vec::with_capacity(KEY_LEN);
    let most = KEY_LEN as u64 + 1;
    File::open(file).map_err(unusable)?.take(most).read_to_end(&mut bytes).map_err(unusable)?;
    let len = bytes.len();
    bytes.try_into().map(Key::new).map_err(|_| KeyError::Length { file: file.to_owned(), len })
}

/// A file that has no whole key was never there: it is made under another name.
fn make(state: &Path, file: &Path) -> io::Result<()> {
    let begun = file.with_extension("key.begun");
    let _ = fs::remove_file(&begun);
    let mut new = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&begun)?;
    new.write_all(&rand::random::<[u8; KEY_LEN]>())?;
    new.sync_all()?;
    fs::rename(&begun, file)?;
    File::open(state)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_sealed_is_opened_with_the_same_key_about_the_same_only() {
        let key = Key::new([7; KEY_LEN]);
        let sealed = key.seal(b"a word", b"A1 0");
        assert!(!sealed.windows(6).any(|window| window == b"a word"));
        assert_eq!(key.open(&sealed, b"A1 0").as_deref(), Some(&b"a word"[..]));
        assert_eq!(key.open(&sealed, b"A2 0"), None);
        assert_eq!(Key::new([8; KEY_LEN]).open(&sealed, b"A1 0"), None);
        let mut broken = sealed.clone();
        broken[30] ^= 1;
        assert_eq!(key.open(&broken, b"A1 0"), None);
        assert_eq!(key.open(&sealed[..10], b"A1 0"), None);
        assert_ne!(key.seal(b"a word", b"A1 0"), sealed, "no nonce is used twice");
    }

    #[test]
    fn a_key_is_made_once_and_a_credential_counts_before_it() {
        let (state, credentials) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let of = |credentials| Key::of_host(state.path(), credentials);
        let sealed = of(None).unwrap().seal(b"x", b"");
        assert!(of(Some(credentials.path())).unwrap().open(&sealed, b"").is_some(), "the same again");
        fs::write(credentials.path().join(CREDENTIAL), [1; KEY_LEN]).unwrap();
        assert!(of(Some(credentials.path())).unwrap().open(&sealed, b"").is_none());
        fs::write(credentials.path().join(CREDENTIAL), [1; 5]).unwrap();
        assert!(matches!(of(Some(credentials.path())), Err(KeyError::Length { len: 5, .. })));
    }

    #[test]
    fn a_key_that_others_can_read_is_none() {
        let state = tempfile::tempdir().unwrap();
        Key::of_host(state.path(), None).unwrap();
        fs::set_permissions(state.path().join(FILE), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(Key::of_host(state.path(), None), Err(KeyError::Open { mode: 0o644, .. })));
    }
}
