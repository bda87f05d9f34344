//! `[central.tls]`: whom the lines trust, and how they show who they are.

use std::path::Path;

use super::problem::Problem;
use super::section::{Section, Unfit, Value};
use super::value::{file, list, sha256};
use super::{CentralTls, CertificateFiles, Pin, Trust};

/// The section as a whole; without a key it means the host's own authorities.
pub(super) fn tls(mut table: Section<'_, '_>, base: &Path) -> CentralTls {
    let authorities = table.optional("ca", file(base));
    let pins = table.optional("pin", list(|value| pin(value, base)));
    if let (Some(ca), Some(_)) = (&authorities, &pins) {
        let what = "`ca` in [central.tls] would not be used: only the pinned certificates are taken";
        let help = "leave out `ca` or `pin`";
        table.complain(Problem::new("config.contradiction", ca.at.clone(), what, help));
    }
    if let Some(pins) = pins.as_ref().filter(|pins| pins.value.is_empty()) {
        let what = "`pin` in [central.tls] names no certificate, so that none would be taken";
        let help = "write a certificate's file or SHA-256, or leave out `pin`";
        table.complain(Problem::new("config.bad_value", pins.at.clone(), what, help));
    }
    let client = certificate_files(&mut table, "[central.tls]", "without both the rack shows none", base);
    table.finish();
    let trust = match (authorities, pins) {
        (_, Some(pins)) => Trust::Pinned(pins.value.into_iter().map(|pin| pin.value).collect()),
        (Some(authorities), None) => Trust::Authorities(authorities.value),
        (None, None) => Trust::System,
    };
    CentralTls { trust, client }
}

/// `cert` and `key`, which stand together.
pub(super) fn certificate_files(
    table: &mut Section<'_, '_>,
    header: &str,
    without: &str,
    base: &Path,
) -> Option<CertificateFiles> {
    let typed = [table.typed("cert"), table.typed("key")];
    let (cert, key) = (table.optional("cert", file(base)), table.optional("key", file(base)));
    if let [Some(at), None] | [None, Some(at)] = typed {
        let what = format!("{header} names only half of a certificate");
        let help = format!("`cert` and `key` stand together; {without}");
        table.complain(Problem::new("config.contradiction", at, what, help));
    }
    Some(CertificateFiles { cert: cert?.value, key: key?.value })
}

/// What looks like a SHA-256 must be one.
fn pin(value: &Value<'_>, base: &Path) -> Result<Pin, Unfit> {
    let mut digest = [0; 32];
    match sha256(value) {
        Ok(hex) if base16ct::lower::decode(&hex, &mut digest).is_ok() => Ok(Pin::Sha256(digest)),
        Err(unfit) if value.get_ref().as_str().is_some_and(is_meant_as_digest) => Err(unfit),
        _ => file(base)(value).map(Pin::File).map_err(|mut unfit| {
            unfit.expected = "a list of certificates in quotes: each its PEM file or its SHA-256".to_owned();
            unfit
        }),
    }
}

/// Files have shorter names, or other letters.
fn is_meant_as_digest(text: &str) -> bool {
    text.len() >= 40 && text.chars().all(|c| c == ':' || c.is_ascii_hexdigit())
}
