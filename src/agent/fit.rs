//! Whether an APK can be installed on a phone: a pure function of the two, asked before the first byte goes to the phone.

use std::collections::BTreeSet;
use std::ops::RangeInclusive;

use super::CheckedApk;
use super::signing_block::{SDK_MAX, Scheme};
use crate::rack::ids::VersionCode;
pub use crate::rack::strategy::Downgrade;

/// What an APK asks of a phone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirements {
    /// The Android versions (SDK numbers) that it is for.
    pub sdks: RangeInclusive<u32>,
    /// The ABIs that it has native code for; empty if it has none.
    pub abis: BTreeSet<String>,
    /// Whom the phone takes as its signer: the first entry whose versions hold the phone's. The newest scheme first.
    pub signers: Vec<SdkSigner>,
}

impl Requirements {
    /// Those of an APK for every Android that knows scheme v2, without native code, signed by one certificate (its SHA-256 in
    /// lower-case hex).
    #[must_use]
    pub fn signed_by(certificate: String) -> Self {
        let sdks = Scheme::V2.since()..=SDK_MAX;
        let signer = SdkSigner { sdks: sdks.clone(), certificates: vec![certificate], ancestors: Vec::new() };
        Self { sdks, abis: BTreeSet::new(), signers: vec![signer] }
    }
}

/// Whom some Android versions take as the signer of an APK.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SdkSigner {
    /// The Android versions (SDK numbers).
    pub sdks: RangeInclusive<u32>,
    /// SHA-256 of the certificates, in lower-case hex: one, or several in v2.
    pub certificates: Vec<String>,
    /// The certificates before it, the oldest first.
    pub ancestors: Vec<Ancestor>,
}

/// A certificate that signed earlier versions of the app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ancestor {
    /// Its SHA-256, in lower-case hex.
    pub certificate: String,
    /// What it is still good for.
    pub trust: Trust,
}

/// What a certificate of the past is still good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// An app that it signed is updated by its successors.
    Updates,
    /// Its successors have nothing to do with it.
    Nothing,
}

/// What is known of the phone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Handset {
    /// `ro.build.version.sdk`.
    pub sdk: Option<u32>,
    /// `ro.product.cpu.abilist`, the best first; empty where it was not read.
    pub abis: Vec<String>,
    /// The same package as it is on the phone.
    pub installed: Option<InstalledPackage>,
}

/// A package on a phone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstalledPackage {
    /// Its version.
    pub version_code: VersionCode,
    /// SHA-256 of its signing certificate in lower-case hex, where it was read.
    pub signer_sha256: Option<String>,
}

/// Why an APK does not fit a phone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Misfit {
    /// Nobody knows yet.
    #[error("its Android version is not known yet")]
    SdkUnknown,
    /// The phone's Android is too old.
    #[error("its Android (SDK {phone}) is older than the APK needs (SDK {needed})")]
    SdkTooOld {
        /// Of the phone.
        phone: u32,
        /// Of the APK.
        needed: u32,
    },
    /// The phone's Android is too new.
    #[error("its Android (SDK {phone}) is newer than the APK allows (SDK {allowed})")]
    SdkTooNew {
        /// Of the phone.
        phone: u32,
        /// Of the APK.
        allowed: u32,
    },
    /// The phone's Android knows none of the APK's signatures.
    #[error("its Android (SDK {phone}) knows none of the signature schemes of the APK")]
    NoSignature {
        /// Of the phone.
        phone: u32,
    },
    /// The native code is for other processors.
    #[error("its processor runs {}, and the APK has native code for {} only", phone.join(", "), apk.join(", "))]
    Abi {
        /// Of the phone.
        phone: Vec<String>,
        /// Of the APK.
        apk: Vec<String>,
    },
    /// The app on the phone was signed by another key.
    #[error("it has the app signed by {installed}, and Android does not let {apk} update it")]
    Signer {
        /// Of the phone.
        installed: String,
        /// Of the APK, as this phone sees it.
        apk: String,
    },
    /// The phone has a newer version.
    #[error("it has version {installed}, and {apk} would be a downgrade")]
    Downgrade {
        /// Of the phone.
        installed: VersionCode,
        /// Of the APK.
        apk: VersionCode,
    },
}

/// Whether the APK can be installed on the phone.
///
/// # Errors
/// The first reason why not.
pub fn fits(apk: &CheckedApk, phone: &Handset, downgrade: Downgrade) -> Result<(), Misfit> {
    let needs = &apk.requirements;
    let sdk = phone.sdk.ok_or(Misfit::SdkUnknown)?;
    if sdk < *needs.sdks.start() {
        return Err(Misfit::SdkTooOld { phone: sdk, needed: *needs.sdks.start() });
    }
    if sdk > *needs.sdks.end() {
        return Err(Misfit::SdkTooNew { phone: sdk, allowed: *needs.sdks.end() });
    }
    // Without native code, or without a word of the phone on its processor, there is nothing to compare.
    let runs = |abi: &String| needs.abis.contains(abi);
    if !needs.abis.is_empty() && !phone.abis.is_empty() && !phone.abis.iter().any(runs) {
        return Err(Misfit::Abi { phone: phone.abis.clone(), apk: needs.abis.iter().cloned().collect() });
    }
    let signer = needs.signers.iter().find(|signer| signer.sdks.contains(&sdk));
    let Some(signer) = signer else { return Err(Misfit::NoSignature { phone: sdk }) };
    let Some(installed) = &phone.installed else { return Ok(()) };
    if let Some(known) = &installed.signer_sha256 {
        let updates = |past: &Ancestor| past.trust == Trust::Updates && past.certificate == *known;
        if !signer.certificates.contains(known) && !signer.ancestors.iter().any(updates) {
            return Err(Misfit::Signer { installed: known.clone(), apk: signer.certificates.join(", ") });
        }
    }
    if installed.version_code > apk.version_code && downgrade == Downgrade::Refused {
        return Err(Misfit::Downgrade { installed: installed.version_code, apk: apk.version_code });
    }
    Ok(())
}
