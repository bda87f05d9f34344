//! What a phone tells of itself in CNXN, and what it hears of the host.

use std::collections::BTreeSet;

use crate::limits;
use crate::wire::{VERSION_CHECKED, VERSION_UNCHECKED};

/// An ability that both ends must have before either uses it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Feature(String);

impl Feature {
    /// `shell,v2` with separate standard error and exit code.
    pub const SHELL_V2: &'static str = "shell_v2";
    /// The host may run `cmd` instead of `pm`.
    pub const CMD: &'static str = "cmd";
    /// STA2 and LST2 in the sync service.
    pub const STAT_V2: &'static str = "stat_v2";
    /// LIS2 in the sync service.
    pub const LS_V2: &'static str = "ls_v2";
    /// Pushing into a folder that does not exist makes it.
    pub const FIXED_PUSH_MKDIR: &'static str = "fixed_push_mkdir";
    /// `abb:`: a command of a system service without a process.
    pub const ABB: &'static str = "abb";
    /// `abb_exec:`: the same without the shell protocol.
    pub const ABB_EXEC: &'static str = "abb_exec";
    /// SND2 and RCV2 in the sync service.
    pub const SENDRECV_V2: &'static str = "sendrecv_v2";
    /// The same with lz4; brotli and zstd are not offered.
    pub const SENDRECV_V2_LZ4: &'static str = "sendrecv_v2_lz4";
    /// A push that writes nothing.
    pub const SENDRECV_V2_DRY_RUN_SEND: &'static str = "sendrecv_v2_dry_run_send";
    /// A pushed symbolic link gets its time.
    pub const FIXED_PUSH_SYMLINK_TIMESTAMP: &'static str = "fixed_push_symlink_timestamp";
    /// A window of bytes instead of one WRTE at a time.
    pub const DELAYED_ACK: &'static str = "delayed_ack";
}

/// What answers a host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Android.
    #[default]
    Android,
    /// The recovery system at its menu.
    Recovery,
    /// The recovery system, which waits for `adb sideload`.
    Sideload,
    /// The recovery system after Android failed to start several times.
    Rescue,
}

impl Mode {
    /// The first word of the banner.
    const fn word(self) -> &'static str {
        match self {
            Self::Android => "device",
            Self::Recovery => "recovery",
            Self::Sideload => "sideload",
            Self::Rescue => "rescue",
        }
    }
}

/// Which phone to be: protocol version, sizes, features, names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// What answers; all but Android refuses every service.
    pub mode: Mode,
    /// [`VERSION_CHECKED`] or [`VERSION_UNCHECKED`].
    pub version: u32,
    /// Bytes of a payload at most; at most [`limits::PAYLOAD_BYTES_MAX`] counts.
    pub payload_bytes_max: u32,
    /// `ro.product.name` and `ro.product.device`.
    pub product: String,
    /// `ro.product.model`.
    pub model: String,
    /// The features offered, such as [`Feature::SHELL_V2`].
    pub features: Vec<String>,
}

impl Profile {
    /// A phone with Android 14 or so: all that this crate can, but delayed_ack.
    #[must_use]
    pub fn modern(product: impl Into<String>, model: impl Into<String>) -> Self {
        let features = [
            Feature::SHELL_V2,
            Feature::CMD,
            Feature::STAT_V2,
            Feature::LS_V2,
            Feature::FIXED_PUSH_MKDIR,
            Feature::ABB,
            Feature::ABB_EXEC,
            Feature::FIXED_PUSH_SYMLINK_TIMESTAMP,
            Feature::SENDRECV_V2,
            Feature::SENDRECV_V2_LZ4,
            Feature::SENDRECV_V2_DRY_RUN_SEND,
        ];
        Self {
            mode: Mode::Android,
            version: VERSION_UNCHECKED,
            payload_bytes_max: limits::PAYLOAD_BYTES_MAX,
            product: product.into(),
            model: model.into(),
            features: features.map(str::to_owned).to_vec(),
        }
    }

    /// A phone with Android 6 or before: payloads of 4 KiB, sums checked, no features at all.
    #[must_use]
    pub fn old(product: impl Into<String>, model: impl Into<String>) -> Self {
        Self {
            mode: Mode::Android,
            version: VERSION_CHECKED,
            payload_bytes_max: 4096,
            product: product.into(),
            model: model.into(),
            features: Vec::new(),
        }
    }

    /// The same phone with one more feature.
    #[must_use]
    pub fn with(mut self, feature: &str) -> Self {
        self.features.push(feature.to_owned());
        self
    }

    /// The same phone, not as Android.
    #[must_use]
    pub fn in_mode(mut self, mode: Mode) -> Self {
        self.mode = mode;
        self
    }

    pub(crate) fn offers(&self, feature: &str) -> bool {
        self.features.iter().any(|offered| offered == feature)
    }

    pub(crate) fn banner(&self) -> String {
        let Self { product, model, mode, .. } = self;
        let word = mode.word();
        let names = format!("ro.product.name={product};ro.product.model={model};ro.product.device={product};");
        if self.features.is_empty() {
            return format!("{word}::{names}");
        }
        format!("{word}::{names}features={}", self.features.join(","))
    }

    pub(crate) fn payload_bytes_max(&self) -> u32 {
        self.payload_bytes_max.min(limits::PAYLOAD_BYTES_MAX)
    }

    /// The features that both ends have.
    pub(crate) fn common_features(&self, host_banner: &[u8]) -> BTreeSet<String> {
        let text = String::from_utf8_lossy(host_banner);
        let properties = text.splitn(3, ':').nth(2).unwrap_or_default();
        let offered = properties.split(';').find_map(|property| property.strip_prefix("features=")).unwrap_or_default();
        // A NUL after the last feature makes it another one, as it does for adbd.
        offered.split(',').filter(|name| self.features.iter().any(|ours| ours == name)).map(str::to_owned).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_common_features_count() {
        let phone = Profile::modern("p", "m").with(Feature::DELAYED_ACK);
        let common = phone.common_features(b"host::features=shell_v2,devraw,delayed_ack");
        assert_eq!(common.into_iter().collect::<Vec<_>>(), ["delayed_ack", "shell_v2"]);
        assert!(Profile::old("p", "m").common_features(b"host::features=shell_v2").is_empty());
        assert!(phone.common_features(b"").is_empty());
        assert!(phone.common_features(b"host::\xff;features").is_empty());
    }

    #[test]
    fn a_nul_after_the_last_feature_spoils_it() {
        let phone = Profile::modern("p", "m").with(Feature::DELAYED_ACK);
        let common = phone.common_features(b"host::features=shell_v2,delayed_ack\0");
        assert_eq!(common.into_iter().collect::<Vec<_>>(), ["shell_v2"]);
    }

    #[test]
    fn an_old_phone_names_no_features() {
        assert_eq!(
            Profile::old("hammerhead", "Nexus 5").banner(),
            "device::ro.product.name=hammerhead;ro.product.model=Nexus 5;ro.product.device=hammerhead;"
        );
    }

    #[test]
    fn what_is_not_android_says_so_first() {
        let banner = Profile::modern("p", "m").in_mode(Mode::Sideload).banner();
        assert!(banner.starts_with("sideload::ro.product.name=p;"), "{banner}");
    }
}
