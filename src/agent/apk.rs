//! The check that every APK passes before any phone sees it.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use base16ct::lower::encode_string as hex;
use sha2::{Digest, Sha256};

use super::archive::{Archive, ArchiveError};
use super::fit::Requirements;
use super::manifest::{self, Manifest};
use super::signature::{self, SignatureError};
use super::signing_block::{BlockError, SDK_MAX};
use super::{Build, CheckedApk, StoredApk};
use crate::rack::ids::{PackageName, VersionCode};

/// What an APK must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expectation {
    /// Its package.
    pub package: PackageName,
    /// SHA-256 of the certificates that may have signed it, in lower-case hex; empty means any.
    pub signers: Vec<String>,
    /// Its version, where it was announced.
    pub version_code: Option<VersionCode>,
    /// The name of that version, where it was announced.
    pub version_name: Option<String>,
    /// The version that the phones have, below which it would be a downgrade.
    pub installed: Option<VersionCode>,
}

/// Why no phone sees an APK.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum ApkRefusal {
    /// It can't be read.
    #[error("{} can't be read: {source}", file.display())]
    #[diagnostic(
        code("apk.unreadable"),
        help("farmhand runs as its own user: that user must be able to read the file")
    )]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It is no whole archive, or one that Android would not take, or that would fill a phone.
    #[error("{} is refused: {source}", file.display())]
    #[diagnostic(code("apk.archive"), help("fetch or build it again"))]
    Archive {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        source: ArchiveError,
    },
    /// No signature covers it.
    #[error("{} is refused: {source}", file.display())]
    #[diagnostic(code("apk.unsigned"), help("sign it with `apksigner`, v2 or newer"))]
    Unsigned {
        /// The file.
        file: PathBuf,
        /// What is missing.
        source: SignatureError,
    },
    /// Its signature does not hold: it was tampered with, or is malformed.
    #[error("{} is refused: {source}", file.display())]
    #[diagnostic(code("apk.signature"), help("`apksigner verify --verbose FILE` shows more; fetch or build it again"))]
    Signature {
        /// The file.
        file: PathBuf,
        /// What does not hold.
        source: SignatureError,
    },
    /// Its manifest can't be read.
    #[error("{} is refused: its manifest can't be read: {what}", file.display())]
    #[diagnostic(code("apk.manifest"))]
    Manifest {
        /// The file.
        file: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// Another key signed it.
    #[error("{} is refused: it is signed by {seen}, which [agent] signers does not list", file.display())]
    #[diagnostic(code("apk.signer"), help("if that key is yours, add it to [agent] signers"))]
    OtherKey {
        /// The file.
        file: PathBuf,
        /// SHA-256 of the certificate.
        seen: String,
    },
    /// It is another app.
    #[error("{} is refused: it is {seen}, and {expected} was expected", file.display())]
    #[diagnostic(code("apk.package"))]
    OtherPackage {
        /// The file.
        file: PathBuf,
        /// What it is.
        seen: PackageName,
        /// What it should be.
        expected: PackageName,
    },
    /// It is not the version that was announced.
    #[error("{} is refused: it is version {seen}, and {expected} was announced", file.display())]
    #[diagnostic(code("apk.version"))]
    OtherVersion {
        /// The file.
        file: PathBuf,
        /// What it is.
        seen: VersionCode,
        /// What it should be.
        expected: VersionCode,
    },
    /// Its version has another name than the one that was announced.
    #[error("{} is refused: it calls its version `{seen}`, and `{expected}` was announced", file.display())]
    #[diagnostic(code("apk.version"))]
    OtherVersionName {
        /// The file.
        file: PathBuf,
        /// What it is.
        seen: String,
        /// What it should be.
        expected: String,
    },
    /// It is older than what the phones have.
    #[error("{} is refused: it is version {seen}, a downgrade from version {installed}", file.display())]
    #[diagnostic(code("apk.downgrade"))]
    Downgrade {
        /// The file.
        file: PathBuf,
        /// What it is.
        seen: VersionCode,
        /// What the phones have.
        installed: VersionCode,
    },
}

/// Reads the whole file and judges it: archive, manifest, signature, signer, package, version. Blocks, and uses every processor;
/// run it on a thread for such work.
///
/// # Errors
/// [`ApkRefusal`] with the first thing that is not as expected.
pub fn check(path: &Path, expected: &Expectation) -> Result<CheckedApk, ApkRefusal> {
    let unreadable = |source| ApkRefusal::Unreadable { file: path.to_owned(), source };
    let apk = File::open(path).map_err(unreadable)?;
    let (checked, digest) = std::thread::scope(|scope| {
        let digest = std::thread::Builder::new().name("apk-sha256".into()).spawn_scoped(scope, || sha256(&apk));
        let checked = judge(path, &apk, expected);
        (checked, digest.and_then(|thread| thread.join().unwrap_or_else(|_| Err(io::Error::other("no digest")))))
    });
    let checked = checked?;
    Ok(CheckedApk { sha256: digest.map_err(unreadable)?, ..checked })
}

/// As [`check`], for a file whose SHA-256 is known: one that the store gave.
///
/// # Errors
/// As [`check`].
pub fn check_stored(stored: &StoredApk, expected: &Expectation) -> Result<CheckedApk, ApkRefusal> {
    let unreadable = |source| ApkRefusal::Unreadable { file: stored.path.clone(), source };
    let apk = File::open(&stored.path).map_err(unreadable)?;
    let checked = judge(&stored.path, &apk, expected)?;
    Ok(CheckedApk { sha256: stored.sha256.clone(), ..checked })
}

/// Everything but the SHA-256 of the whole file.
fn judge(path: &Path, apk: &File, expected: &Expectation) -> Result<CheckedApk, ApkRefusal> {
    let file = || path.to_owned();
    let size = apk.metadata().map_err(|source| ApkRefusal::Unreadable { file: file(), source })?.len();
    let archive = Archive::open(apk).map_err(|source| ApkRefusal::Archive { file: file(), source })?;
    let manifest = read_manifest(&archive).map_err(|what| ApkRefusal::Manifest { file: file(), what })?;
    let signatures = signature::verify(apk, manifest.min_sdk).map_err(|source| refused(path, source))?;
    // Every certificate that some Android takes as the signer must be one of the owner's.
    let pinned = |seen: &str| expected.signers.is_empty() || expected.signers.iter().any(|signer| signer == seen);
    if let Some(seen) = signatures.all().into_iter().find(|seen| !pinned(seen)) {
        return Err(ApkRefusal::OtherKey { file: file(), seen: seen.to_owned() });
    }
    agree(path, &manifest, expected)?;
    if manifest.build == Build::Debuggable {
        let package = &manifest.package;
        tracing::warn!(
            "{package} in {} is a debuggable build: who has ADB on a phone can act as the app",
            path.display()
        );
    }
    Ok(CheckedApk {
        path: file(),
        package: manifest.package,
        version_code: manifest.version_code,
        version_name: manifest.version_name,
        signer_sha256: signatures.newest().to_owned(),
        size,
        sha256: String::new(),
        build: manifest.build,
        requirements: Requirements {
            sdks: manifest.min_sdk..=manifest.max_sdk.unwrap_or(SDK_MAX),
            abis: archive.abis(),
            signers: signatures.by_sdk,
        },
    })
}

/// Whether the APK is what was announced.
fn agree(path: &Path, manifest: &Manifest, expected: &Expectation) -> Result<(), ApkRefusal> {
    let file = || path.to_owned();
    let code = manifest.version_code;
    if manifest.package != expected.package {
        let (seen, expected) = (manifest.package.clone(), expected.package.clone());
        return Err(ApkRefusal::OtherPackage { file: file(), seen, expected });
    }
    if let Some(expected) = expected.version_code.filter(|expected| *expected != code) {
        return Err(ApkRefusal::OtherVersion { file: file(), seen: code, expected });
    }
    if let Some(expected) = expected.version_name.as_ref().filter(|expected| **expected != manifest.version_name) {
        let (seen, expected) = (manifest.version_name.clone(), expected.clone());
        return Err(ApkRefusal::OtherVersionName { file: file(), seen, expected });
    }
    if let Some(installed) = expected.installed.filter(|installed| *installed > code) {
        return Err(ApkRefusal::Downgrade { file: file(), seen: code, installed });
    }
    Ok(())
}

/// What is missing and what is broken are two things to a person.
fn refused(path: &Path, source: SignatureError) -> ApkRefusal {
    let file = path.to_owned();
    match source {
        SignatureError::Archive(source) => ApkRefusal::Archive { file, source },
        SignatureError::Block(BlockError::NoBlock) | SignatureError::NoScheme | SignatureError::OnlyV1 => {
            ApkRefusal::Unsigned { file, source }
        }
        source => ApkRefusal::Signature { file, source },
    }
}

fn read_manifest(archive: &Archive<'_>) -> Result<Manifest, String> {
    const NAME: &str = "AndroidManifest.xml";
    let bytes = archive.unpack(NAME, manifest::MANIFEST_LEN_MAX).map_err(|error| error.to_string())?;
    // Bundles of APKs (XAPK and its like) hold no manifest of their own; `pm install` takes none of them.
    let bytes = bytes.ok_or("it holds no AndroidManifest.xml, so it is no APK")?;
    let resources = if manifest::needs_resources(&bytes) {
        archive.unpack("resources.arsc", manifest::RESOURCES_LEN_MAX).map_err(|error| error.to_string())?
    } else {
        None
    };
    manifest::parse(&bytes, resources.as_deref()).map_err(|error| error.to_string())
}

/// SHA-256 of the whole file, in lower-case hex.
fn sha256(file: &File) -> io::Result<String> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1024 * 1024];
    let mut at = 0;
    loop {
        let len = file.read_at(&mut buffer, at)?;
        let Some(read) = buffer.get(..len).filter(|read| !read.is_empty()) else { return Ok(hex(&hasher.finalize())) };
        hasher.update(read);
        at += len as u64;
    }
}
