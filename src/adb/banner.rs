//! The banner of CNXN: what a peer says of itself.
//!
//! `device::ro.product.name=x;ro.product.model=y;ro.product.device=z;features=a,b`

use std::fmt;

/// What farmhand can do, told in its own banner: only what it really speaks, since handsets act on it.
pub const HOST_FEATURES: &[&str] =
    &["shell_v2", "cmd", "stat_v2", "ls_v2", "fixed_push_mkdir", "apex", "abb", "abb_exec", "delayed_ack"];

/// How many characters of a banner's value are kept.
const VALUE_CHARS_MAX: usize = 256;

/// How many features are kept.
const FEATURES_MAX: usize = 256;

/// What kind of peer answers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum PeerKind {
    /// Android runs.
    #[default]
    Device,
    /// The recovery system.
    Recovery,
    /// The recovery system waits for `adb sideload`.
    Sideload,
    /// The rescue party asks for help.
    Rescue,
    /// The bootloader.
    Bootloader,
    /// Something else, by its own word.
    Other(String),
}

impl fmt::Display for PeerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Device => "device",
            Self::Recovery => "recovery",
            Self::Sideload => "sideload",
            Self::Rescue => "rescue",
            Self::Bootloader => "bootloader",
            Self::Other(word) => word,
        })
    }
}

/// What a handset says of itself in CNXN.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Banner {
    /// What answers.
    pub kind: PeerKind,
    /// `ro.product.name`.
    pub product: Option<String>,
    /// `ro.product.model`.
    pub model: Option<String>,
    /// `ro.product.device`.
    pub device: Option<String>,
    /// What it can do, such as `shell_v2`, in its own order.
    pub features: Vec<String>,
}

impl Banner {
    /// Reads a banner. Any bytes give one: what can't be understood is left out.
    #[must_use]
    pub fn parse(payload: &[u8]) -> Self {
        let text = String::from_utf8_lossy(payload);
        let text = text.trim_end_matches('\0');
        let mut parts = text.splitn(3, ':');
        let kind = parts.next().unwrap_or_default();
        let properties = parts.nth(1).unwrap_or_default();
        let mut banner = Self { kind: parse_kind(kind), ..Self::default() };
        for (key, value) in properties.split(';').filter_map(|property| property.split_once('=')) {
            match key {
                "ro.product.name" => banner.product = text_value(value),
                "ro.product.model" => banner.model = text_value(value),
                "ro.product.device" => banner.device = text_value(value),
                "features" => {
                    banner.features = value.split(',').filter_map(text_value).take(FEATURES_MAX).collect();
                }
                _ => {}
            }
        }
        banner
    }

    /// Whether it offers a feature.
    #[must_use]
    pub fn offers(&self, feature: &str) -> bool {
        self.features.iter().any(|offered| offered == feature)
    }
}

fn parse_kind(word: &str) -> PeerKind {
    match word {
        "device" => PeerKind::Device,
        "recovery" => PeerKind::Recovery,
        "sideload" => PeerKind::Sideload,
        "rescue" => PeerKind::Rescue,
        "bootloader" => PeerKind::Bootloader,
        other => PeerKind::Other(text_value(other).unwrap_or_default()),
    }
}

/// Without control characters, so that it can be shown anywhere.
fn text_value(value: &str) -> Option<String> {
    let clean: String = value.chars().filter(|c| !c.is_control()).take(VALUE_CHARS_MAX).collect();
    (!clean.is_empty()).then_some(clean)
}

/// Reads any bytes as a banner; what a fuzzer calls.
///
/// # Panics
/// When something of it could not be shown, or would be too much.
pub fn fuzz_banner(bytes: &[u8]) {
    let banner = Banner::parse(bytes);
    let kind = match &banner.kind {
        PeerKind::Other(word) => Some(word),
        _ => None,
    };
    let texts =
        [&banner.product, &banner.model, &banner.device].into_iter().flatten().chain(&banner.features).chain(kind);
    for text in texts {
        assert!(text.chars().count() <= VALUE_CHARS_MAX && !text.contains(char::is_control), "{text:?}");
    }
    assert!(banner.features.len() <= FEATURES_MAX);
}

/// farmhand's own banner. No NUL follows: adbd would take it for a part of the last feature, and refuse every OPEN that carries a
/// window.
#[must_use]
pub fn host_banner() -> String {
    format!("host::features={}", HOST_FEATURES.join(","))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_phones_banner_is_read() {
        let banner = Banner::parse(
            b"device::ro.product.name=oriole;ro.product.model=Pixel 6;ro.product.device=oriole;features=shell_v2,cmd\0",
        );
        assert_eq!(banner.kind, PeerKind::Device);
        assert_eq!(banner.product.as_deref(), Some("oriole"));
        assert_eq!(banner.model.as_deref(), Some("Pixel 6"));
        assert!(banner.offers("cmd") && banner.offers("shell_v2") && !banner.offers("abb"));
    }

    #[test]
    fn an_old_phones_banner_without_features_is_read() {
        assert_eq!(Banner::parse(b"recovery::\0"), Banner { kind: PeerKind::Recovery, ..Banner::default() });
        assert_eq!(Banner::parse(b"").kind, PeerKind::Other(String::new()));
    }

    #[test]
    fn the_hosts_banner_ends_without_a_nul() {
        assert!(host_banner().starts_with("host::features=shell_v2,"));
        assert!(host_banner().ends_with("delayed_ack"));
    }

    proptest! {
        #[test]
        fn any_bytes_give_a_banner_that_can_be_shown(bytes: Vec<u8>) {
            let banner = Banner::parse(&bytes);
            prop_assert!(banner.model.is_none_or(|model| model.chars().all(|c| !c.is_control())));
        }
    }
}
