//! What an APK says of itself in its binary `AndroidManifest.xml`.

use apk_info_axml::{ARSC, AXML};

use super::Build;
use crate::rack::ids::{PackageName, VersionCode};

/// The largest manifest that is read; those of the largest apps have 1 MiB.
pub const MANIFEST_LEN_MAX: u64 = 8 * 1024 * 1024;
/// The largest table of resources that is read, and only where the manifest refers to it.
pub const RESOURCES_LEN_MAX: u64 = 64 * 1024 * 1024;

/// The parts of a manifest that matter before an install.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// `package`.
    pub package: PackageName,
    /// `versionCode`, with `versionCodeMajor` above it where there is one.
    pub version_code: VersionCode,
    /// `versionName`; empty if there is none.
    pub version_name: String,
    /// `minSdkVersion`: 1 if there is none, or only the name of a preview.
    pub min_sdk: u32,
    /// `maxSdkVersion`.
    pub max_sdk: Option<u32>,
    /// `debuggable`.
    pub build: Build,
}

/// Why a manifest is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManifestError {
    /// It is no binary XML.
    #[error("it is no binary XML ({0})")]
    Format(String),
    /// It does not say what every APK says.
    #[error("it has no {0}")]
    Missing(&'static str),
    /// A number is none.
    #[error("its {name} is `{seen}`, not a number")]
    Number {
        /// The attribute.
        name: &'static str,
        /// What stands there.
        seen: String,
    },
    /// It is only a part of an app.
    #[error("it is the split `{0}` of an app, which can't be installed alone")]
    Split(String),
}

/// Whether something must be looked up in the table of resources, whose reading costs.
#[must_use]
pub fn needs_resources(manifest: &[u8]) -> bool {
    let Ok(axml) = AXML::new(&mut &*manifest, None) else { return false };
    ["versionCode", "versionCodeMajor", "versionName"].iter().any(|name| {
        let value = axml.get_attribute_value("manifest", name, None);
        value.is_some_and(|value| value.starts_with('@'))
    })
}

/// Reads a manifest, with the table of resources (`resources.arsc`) if there is one.
///
/// # Errors
/// [`ManifestError`] with the first thing that is not understood.
pub fn parse(manifest: &[u8], resources: Option<&[u8]>) -> Result<Manifest, ManifestError> {
    let resources = resources.and_then(|mut bytes| ARSC::new(&mut bytes).ok());
    let axml = AXML::new(&mut &*manifest, resources.as_ref());
    let axml = axml.map_err(|error| ManifestError::Format(error.to_string()))?;
    let attribute = |tag, name| axml.get_attribute_value(tag, name, resources.as_ref());
    if let Some(split) = attribute("manifest", "split") {
        return Err(ManifestError::Split(split));
    }
    let package = attribute("manifest", "package").filter(|package| !package.is_empty());
    let code = number(attribute("manifest", "versionCode"), "versionCode")?;
    let major = number(attribute("manifest", "versionCodeMajor"), "versionCodeMajor")?.unwrap_or(0);
    let code = code.ok_or(ManifestError::Missing("versionCode"))?;
    // An APK may name several; the strictest counts.
    let sdks = |name| axml.get_root_attribute_values("uses-sdk", name).filter_map(parsed);
    Ok(Manifest {
        package: PackageName::new(package.ok_or(ManifestError::Missing("package"))?),
        version_code: VersionCode((u64::from(major) << 32) | u64::from(code)),
        version_name: attribute("manifest", "versionName").unwrap_or_default(),
        min_sdk: sdks("minSdkVersion").max().unwrap_or(1),
        max_sdk: sdks("maxSdkVersion").min(),
        build: match attribute("application", "debuggable").as_deref() {
            None | Some("false" | "0" | "0x0") => Build::Release,
            Some(_) => Build::Debuggable,
        },
    })
}

fn number(text: Option<String>, name: &'static str) -> Result<Option<u32>, ManifestError> {
    let Some(seen) = text else { return Ok(None) };
    match parsed(&seen) {
        Some(number) => Ok(Some(number)),
        None => Err(ManifestError::Number { name, seen }),
    }
}

/// As the manifest's compiler wrote it: decimal or hexadecimal.
fn parsed(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

/// What the fuzz target calls: any bytes as a manifest, and as a table of resources beside themselves.
pub fn fuzz_apk_manifest(bytes: &[u8]) {
    if !needs_resources(bytes) {
        drop(parse(bytes, None));
    }
    let (manifest, resources) = bytes.split_at(bytes.len() / 2);
    drop(parse(manifest, Some(resources)));
}
