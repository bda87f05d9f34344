//! The agent's APK: fetched once, checked before any phone sees it.
//!
//! ```text
//!     PackageUrl ── fetch ──▶ a file of ours ── check ──▶ CheckedApk ── fits? ──▶ phones
//!     a file     ── copy  ──▶                  whole ZIP, manifest,      SDK, ABI,
//!                                              signature v2, v3, v3.1,   installed signer
//!                                              signer, package, version  and version
//! ```
//!
//! Invariant: only a file that passed the check of this process has a [`CheckedApk`].

#[cfg(feature = "daemon")]
mod algorithm;
#[cfg(feature = "daemon")]
pub mod apk;
#[cfg(feature = "daemon")]
pub mod archive;
#[cfg(test)]
mod archive_tests;
#[cfg(feature = "daemon")]
mod content;
#[cfg(feature = "daemon")]
pub mod fetch;
#[cfg(test)]
mod fetch_tests;
pub mod fit;
#[cfg(test)]
mod fit_tests;
pub mod lineage;
pub mod manifest;
#[cfg(test)]
mod manifest_tests;
mod reader;
#[cfg(feature = "daemon")]
pub mod signature;
pub mod signing_block;
#[cfg(feature = "daemon")]
pub mod store;
#[cfg(test)]
mod store_tests;
#[cfg(test)]
mod tests;
pub mod zip;

use std::fmt;
use std::path::PathBuf;

use crate::rack::ids::{PackageName, VersionCode};

/// Where an APK comes from.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ApkSource {
    /// `PackageUrl` of the server's notice.
    Url(String),
    /// A file on the rack's host, named by the operator.
    File(PathBuf),
}

impl fmt::Display for ApkSource {
    /// Without what lets its bearer in: user and password, and a query, which may be a signature. It is shown on every surface.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(url) => f.write_str(&without_secrets(url)),
            Self::File(path) => path.display().fmt(f),
        }
    }
}

fn without_secrets(url: &str) -> String {
    let url = url.split(['?', '#']).next().unwrap_or_default();
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority.rsplit('@').next().unwrap_or_default();
    format!("{scheme}://{host}{path}")
}

/// An APK in the rack's store, which has the name of its content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredApk {
    /// The file, within the state directory.
    pub path: PathBuf,
    /// Bytes of the file.
    pub size: u64,
    /// SHA-256 of the file, in lower-case hex.
    pub sha256: String,
}

/// An APK that was read whole, is signed over all of its bytes, and is what was expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedApk {
    /// The file, within the state directory.
    pub path: PathBuf,
    /// The package that its manifest names.
    pub package: PackageName,
    /// `versionCode`, with `versionCodeMajor` above it where there is one.
    pub version_code: VersionCode,
    /// `versionName`.
    pub version_name: String,
    /// SHA-256 of the signing certificate that the newest Android takes, in lower-case hex.
    pub signer_sha256: String,
    /// Bytes of the file.
    pub size: u64,
    /// SHA-256 of the file, in lower-case hex.
    pub sha256: String,
    /// Whether it is a build for developers.
    pub build: Build,
    /// What it asks of a phone; [`fit::fits`] compares.
    pub requirements: fit::Requirements,
}

/// For whom an APK was built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Build {
    /// For users.
    Release,
    /// For developers: anybody with ADB on the phone can run code as the app and read its data.
    Debuggable,
}
