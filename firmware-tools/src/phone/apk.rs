//! What Android reads of an APK before it installs it.

use std::collections::BTreeSet;
use std::io::Cursor;

use apk_info::{AXML, Signature, ZipEntry};
use bytes::Bytes;

/// What the package manager keeps of an APK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Apk {
    pub(super) package: String,
    /// The name of the split; `None` for a base.
    pub(super) split: Option<String>,
    pub(super) debuggable: bool,
    pub(super) test_only: bool,
    pub(super) version_code: u64,
    pub(super) version_name: String,
    pub(super) min_sdk: u32,
    pub(super) target_sdk: u32,
    /// SHA-256 of the signing certificates, from the newest signature scheme that is there.
    pub(super) signers: BTreeSet<String>,
    /// Permissions that it asks for.
    pub(super) permissions: BTreeSet<String>,
    pub(super) size: u64,
}

/// Why Android would not even look further.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum BadApk {
    /// No ZIP archive, or one without manifest.
    NotApk,
    /// The manifest is no manifest.
    BadManifest,
    /// Neither signature scheme v2 nor v3.
    NoCertificates,
}

impl Apk {
    /// Reads an APK. The signature's presence and its certificates are looked at; what it signs is not computed again.
    pub(super) fn read(content: &Bytes) -> Result<Self, BadApk> {
        let zip = ZipEntry::from_reader(Cursor::new(content.clone())).map_err(|_| BadApk::NotApk)?;
        let (manifest, _) = zip.read("AndroidManifest.xml").map_err(|_| BadApk::NotApk)?;
        let manifest = AXML::new(&mut &manifest[..], None).map_err(|_| BadApk::BadManifest)?;
        let attribute = |tag, name| manifest.get_attribute_value(tag, name, None);
        let number = |tag, name| attribute(tag, name).and_then(|text| text.parse::<u32>().ok());
        let signers = signers(&zip);
        if signers.is_empty() {
            return Err(BadApk::NoCertificates);
        }
        let asked =
            ["uses-permission", "uses-permission-sdk-23"].map(|tag| manifest.get_all_attribute_values(tag, "name"));
        let permissions = asked.into_iter().flatten().map(str::to_owned).collect();
        let min_sdk = number("uses-sdk", "minSdkVersion").unwrap_or(1);
        Ok(Self {
            package: attribute("manifest", "package").ok_or(BadApk::BadManifest)?,
            split: attribute("manifest", "split").filter(|name| !name.is_empty()),
            debuggable: attribute("application", "debuggable").is_some_and(|text| text == "true"),
            test_only: attribute("application", "testOnly").is_some_and(|text| text == "true"),
            version_code: number("manifest", "versionCode").map_or(0, u64::from),
            version_name: attribute("manifest", "versionName").unwrap_or_default(),
            min_sdk,
            target_sdk: number("uses-sdk", "targetSdkVersion").unwrap_or(min_sdk),
            signers,
            permissions,
            size: content.len() as u64,
        })
    }
}

/// What a package manager knows of an APK by its bytes, as `key=value` lines.
///
/// # Errors
/// Android's reason for not taking it.
pub fn facts(content: Bytes) -> Result<String, &'static str> {
    let apk = Apk::read(&content).map_err(|bad| match bad {
        BadApk::NotApk => "INSTALL_PARSE_FAILED_NOT_APK",
        BadApk::BadManifest => "INSTALL_PARSE_FAILED_MANIFEST_MALFORMED",
        BadApk::NoCertificates => "INSTALL_PARSE_FAILED_NO_CERTIFICATES",
    })?;
    let signers = apk.signers.iter().map(String::as_str).collect::<Vec<_>>().join(",");
    Ok(format!(
        "package={}\nsplit={}\nversionCode={}\nversionName={}\nminSdk={}\ntargetSdk={}\nsigners={signers}\n",
        apk.package,
        apk.split.as_deref().unwrap_or_default(),
        apk.version_code,
        apk.version_name.lines().next().unwrap_or_default(),
        apk.min_sdk,
        apk.target_sdk,
    ))
}

fn signers(zip: &ZipEntry) -> BTreeSet<String> {
    let signatures = zip.get_signatures_other().unwrap_or_default();
    let by_scheme = |wanted: fn(&Signature) -> Option<&Vec<apk_info::CertificateInfo>>| {
        let certificates = signatures.iter().find_map(wanted)?;
        Some(certificates.iter().map(|certificate| certificate.sha256_fingerprint.to_lowercase()).collect())
    };
    by_scheme(|signature| match signature {
        Signature::V3(certificates) => Some(certificates),
        _ => None,
    })
    .or_else(|| {
        by_scheme(|signature| match signature {
            Signature::V2(certificates) => Some(certificates),
            _ => None,
        })
    })
    .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str) -> Result<Apk, BadApk> {
        let path = format!("{}/apks/{name}", env!("CARGO_MANIFEST_DIR"));
        Apk::read(&Bytes::from(std::fs::read(path).unwrap()))
    }

    #[test]
    fn a_signed_apk_is_read() {
        let apk = read("agent-2.apk").unwrap();
        assert_eq!(
            (apk.package.as_str(), apk.version_code, apk.version_name.as_str()),
            ("org.example.agent", 2, "2.0")
        );
        assert_eq!((apk.min_sdk, apk.target_sdk), (24, 29));
        let key_a = "1f3459901dc294cd0daefe7eb300273362911beaeb3884637ed22e65d83aaba6";
        assert_eq!(apk.signers.iter().collect::<Vec<_>>(), [key_a]);
        assert_eq!((apk.split, apk.debuggable, apk.test_only), (None, false, false));
        assert_eq!(read("agent-2-split-en.apk").unwrap().split.as_deref(), Some("config.en"));
        assert!(apk.permissions.is_empty());
        let trial = read("trial-1.apk").unwrap();
        assert_eq!((trial.debuggable, trial.test_only), (true, true));
        assert_eq!(
            trial.permissions.iter().collect::<Vec<_>>(),
            ["android.permission.CAMERA", "android.permission.INTERNET", "android.permission.RECORD_AUDIO"]
        );
        assert_ne!(read("agent-2-other-key.apk").unwrap().signers, read("agent-2.apk").unwrap().signers);
    }

    #[test]
    fn its_facts_are_lines() {
        let path = format!("{}/apks/agent-2-split-en.apk", env!("CARGO_MANIFEST_DIR"));
        let told = facts(Bytes::from(std::fs::read(path).unwrap())).unwrap();
        assert_eq!(
            told,
            "package=org.example.agent\nsplit=config.en\nversionCode=2\nversionName=2.0\nminSdk=24\ntargetSdk=29\n\
             signers=1f3459901dc294cd0daefe7eb300273362911beaeb3884637ed22e65d83aaba6\n"
        );
        assert_eq!(facts(Bytes::new()), Err("INSTALL_PARSE_FAILED_NOT_APK"));
    }

    #[test]
    fn what_is_wrong_with_an_apk_is_told() {
        assert_eq!(read("agent-2-unsigned.apk"), Err(BadApk::NoCertificates));
        assert_eq!(read("agent-2-truncated.apk"), Err(BadApk::NotApk));
        assert_eq!(Apk::read(&Bytes::from_static(b"")), Err(BadApk::NotApk));
        assert_eq!(Apk::read(&Bytes::from_static(b"PK\x03\x04")), Err(BadApk::NotApk));
    }
}
