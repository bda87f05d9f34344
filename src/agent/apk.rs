//! The check that every APK passes before any phone sees it.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use base16ct::lower::encode_string as hex;
use sha2::{Digest, Sha256};

use super::CheckedApk;
use super::signature::{self, Presence, SignatureError};
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
    /// It is cut short, unsigned, tampered with or malformed.
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
    /// Phones that it is for know none of its signatures.
    #[error("{} is refused: it is for Android SDK {min_sdk} on, which knows no scheme newer than v2, and it has no v2 signature", file.display())]
    #[diagnostic(code("apk.signature"), help("sign it with `apksigner` again, v2 and v3"))]
    NoV2 {
        /// The file.
        file: PathBuf,
        /// Its `minSdkVersion`.
        min_sdk: u32,
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

/// Reads the whole file and judges it: signature, signer, manifest, package, version. Blocks; run it on a thread for such work.
///
/// # Errors
/// [`ApkRefusal`] with the first thing that is not as expected.
pub fn check(path: &Path, expected: &Expectation) -> Result<CheckedApk, ApkRefusal> {
    let file = || path.to_owned();
    let unreadable = |source| ApkRefusal::Unreadable { file: file(), source };
    let apk = File::open(path).map_err(unreadable)?;
    let signers = signature::verify(&apk).map_err(|source| ApkRefusal::Signature { file: file(), source })?;
    // Every certificate that some Android takes as the signer must be one of the owner's.
    if let Some(seen) =
        signers.all.iter().find(|signer| !expected.signers.is_empty() && !expected.signers.contains(signer))
    {
        return Err(ApkRefusal::OtherKey { file: file(), seen: seen.clone() });
    }
    let manifest = read_manifest(path).map_err(|what| ApkRefusal::Manifest { file: file(), what })?;
    let seen = manifest.version_code;
    if signers.v2 == Presence::Absent && manifest.min_sdk < SDK_WITH_V3 {
        return Err(ApkRefusal::NoV2 { file: file(), min_sdk: manifest.min_sdk });
    }
    if manifest.package != expected.package {
        let (seen, expected) = (manifest.package, expected.package.clone());
        return Err(ApkRefusal::OtherPackage { file: file(), seen, expected });
    }
    if let Some(expected) = expected.version_code.filter(|expected| *expected != seen) {
        return Err(ApkRefusal::OtherVersion { file: file(), seen, expected });
    }
    if let Some(installed) = expected.installed.filter(|installed| *installed > seen) {
        return Err(ApkRefusal::Downgrade { file: file(), seen, installed });
    }
    let (size, sha256) = digest(&apk).map_err(unreadable)?;
    Ok(CheckedApk {
        path: file(),
        package: manifest.package,
        version_code: seen,
        version_name: manifest.version_name,
        signer_sha256: signers.newest,
        size,
        sha256,
    })
}

/// Android 9 is the first that knows scheme v3.
const SDK_WITH_V3: u32 = 28;

struct Manifest {
    package: PackageName,
    version_code: VersionCode,
    version_name: String,
    min_sdk: u32,
}

fn read_manifest(path: &Path) -> Result<Manifest, String> {
    let apk = apk_info::Apk::new(path).map_err(|error| error.to_string())?;
    // Bundles of APKs (XAPK and its like) hold no manifest of their own; `pm install` takes none of them.
    if !apk.namelist().any(|name| name == "AndroidManifest.xml") {
        return Err("it holds no AndroidManifest.xml, so it is no APK".into());
    }
    let package = apk.get_package_name().ok_or("it names no package")?;
    let number = |name: &str| apk.get_attribute_value("manifest", name).map(|text| (text.parse::<u32>(), text));
    let code = match number("versionCode") {
        Some((Ok(code), _)) => code,
        Some((Err(_), text)) => return Err(format!("its versionCode is `{text}`, not a number")),
        None => return Err("it has no versionCode".into()),
    };
    let major = match number("versionCodeMajor") {
        Some((Ok(major), _)) => major,
        Some((Err(_), text)) => return Err(format!("its versionCodeMajor is `{text}`, not a number")),
        None => 0,
    };
    Ok(Manifest {
        package: PackageName::new(package),
        version_code: VersionCode((u64::from(major) << 32) | u64::from(code)),
        version_name: apk.get_version_name().unwrap_or_default(),
        // Absent, or a preview's code name, means the lowest: the cautious reading.
        min_sdk: apk.get_min_sdk_version().and_then(|text| text.parse().ok()).unwrap_or(1),
    })
}

/// Length and SHA-256 of the whole file.
fn digest(file: &File) -> io::Result<(u64, String)> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0; 1024 * 1024];
    let (mut size, mut file) = (0, file);
    io::Seek::rewind(&mut file)?;
    loop {
        let len = file.read(&mut buffer)?;
        if len == 0 {
            return Ok((size, hex(&hasher.finalize())));
        }
        hasher.update(&buffer[..len]);
        size += len as u64;
    }
}
