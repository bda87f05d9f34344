//! TLS to the central server as the owner wants it, and its errors in words that say what to do.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{AlertDescription, CertificateError, ClientConfig, Error, RootCertStore};
use tokio_rustls::TlsConnector;

use crate::config::{CentralTls, Pin, Trust};
use crate::reason;
use crate::tls::{self, Digest, PemError, Pinned};

/// Why TLS can't be spoken as the owner wants it.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum TlsError {
    /// A file that the owner named can't be read, or is of another kind.
    #[error("[central.tls] {key}: {reason}")]
    #[diagnostic(code("tls.file"), help("it is a PEM file, and the daemon's user must be able to read it"))]
    File {
        /// The key that names it.
        key: &'static str,
        /// What is wrong with it.
        reason: PemError,
    },
    /// No certificate of a file can be an authority's.
    #[error("[central.tls] ca: no certificate in {} can vouch for others", file.display())]
    #[diagnostic(
        code("tls.authority"),
        help("it needs the certificate of the authority; a server's own certificate is named by `pin`")
    )]
    NoAuthority {
        /// The file.
        file: PathBuf,
    },
    /// The host trusts nobody.
    #[error("this host has no certificates of authorities that it trusts{}", because(reasons))]
    #[diagnostic(
        code("tls.no_roots"),
        help(
            "install them (`apt install ca-certificates`), or name the central server's own by `ca` or `pin` in [central.tls]"
        )
    )]
    NoRoots {
        /// What the system said, if it said something.
        reasons: Vec<String>,
    },
    /// Certificate and key of the rack do not go together.
    #[error("[central.tls] cert and key can't be used: {reason}")]
    #[diagnostic(code("tls.key"), help("the key must be the one that the certificate was made for"))]
    Key {
        /// What is wrong.
        reason: Error,
    },
    /// A server's name can't stand in a certificate.
    #[error("[central] the name of the server {server} can't stand in a certificate")]
    #[diagnostic(code("tls.name"), help("write a host's name of letters, digits, `-` and `.`, or its IP address"))]
    Name {
        /// As the owner wrote it.
        server: String,
    },
    /// This program's TLS can't be used.
    #[error("TLS can't be used: {0}")]
    #[diagnostic(code("tls.unusable"))]
    Unusable(Error),
}

fn because(reasons: &[String]) -> String {
    if reasons.is_empty() { String::new() } else { format!(": {}", reasons.join("; ")) }
}

/// What all lines connect with.
///
/// # Errors
/// Which file is wrong, and how.
pub(super) fn connector(wanted: &CentralTls) -> Result<TlsConnector, TlsError> {
    let builder = ClientConfig::builder_with_provider(tls::provider()).with_safe_default_protocol_versions();
    let builder = builder.map_err(TlsError::Unusable)?;
    let trusting = match &wanted.trust {
        Trust::System => builder.with_root_certificates(roots_of_host()?),
        Trust::Authorities(file) => builder.with_root_certificates(roots_of(file)?),
        Trust::Pinned(pins) => {
            let pinned = Arc::new(Pinned::new(digests(pins)?));
            builder.dangerous().with_custom_certificate_verifier(pinned)
        }
    };
    let config = match &wanted.client {
        None => trusting.with_no_client_auth(),
        Some(files) => {
            let chain = certificates("cert", &files.cert)?;
            let key = tls::private_key(&files.key).map_err(|reason| TlsError::File { key: "key", reason })?;
            trusting.with_client_auth_cert(chain, key).map_err(|reason| TlsError::Key { reason })?
        }
    };
    Ok(TlsConnector::from(Arc::new(config)))
}

fn certificates(key: &'static str, file: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    tls::certificates(file).map_err(|reason| TlsError::File { key, reason })
}

fn roots_of_host() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    let mut roots = RootCertStore::empty();
    // A host's collection may hold one that is too old to be read; the others count.
    let (usable, _unusable) = roots.add_parsable_certificates(found.certs);
    if usable == 0 {
        let reasons = found.errors.iter().map(ToString::to_string).collect();
        return Err(TlsError::NoRoots { reasons });
    }
    Ok(roots)
}

fn roots_of(file: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    let (usable, _unusable) = roots.add_parsable_certificates(certificates("ca", file)?);
    if usable == 0 { Err(TlsError::NoAuthority { file: file.to_owned() }) } else { Ok(roots) }
}

fn digests(pins: &[Pin]) -> Result<Vec<Digest>, TlsError> {
    let mut digests = Vec::new();
    for pin in pins {
        match pin {
            Pin::Sha256(digest) => digests.push(*digest),
            Pin::File(file) => digests.extend(certificates("pin", file)?.iter().map(tls::digest)),
        }
    }
    Ok(digests)
}

/// What stands in the certificate of `server`, which is `host:port`.
///
/// # Errors
/// It can't stand in one.
pub(super) fn name(server: &str) -> Result<ServerName<'static>, TlsError> {
    let host = server.rsplit_once(':').map_or(server, |(host, _)| host);
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    ServerName::try_from(bare.to_owned()).map_err(|_| TlsError::Name { server: server.to_owned() })
}

/// Why a connection ended, or was never made, for a person: the system's words, or what TLS says and what to do about it.
pub(super) fn words(error: &io::Error) -> String {
    match error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        Some(error) => words_of_tls(error),
        None if error.kind() == io::ErrorKind::UnexpectedEof => {
            "it hung up before TLS was agreed on: it may speak none".to_owned()
        }
        None => reason::of(error),
    }
}

fn words_of_tls(error: &Error) -> String {
    match error {
        Error::InvalidCertificate(why) => words_of_certificate(why),
        // What was made of a pinned certificate.
        Error::General(why) => why.clone(),
        Error::InvalidMessage(_) => "it speaks no TLS".to_owned(),
        Error::AlertReceived(AlertDescription::CertificateRequired) => {
            "it wants a certificate of this rack: name one by `cert` and `key` in [central.tls]".to_owned()
        }
        Error::AlertReceived(
            alert @ (AlertDescription::UnknownCA
            | AlertDescription::BadCertificate
            | AlertDescription::UnsupportedCertificate
            | AlertDescription::CertificateRevoked
            | AlertDescription::CertificateExpired
            | AlertDescription::CertificateUnknown
            | AlertDescription::DecryptError
            | AlertDescription::AccessDenied),
        ) => format!("it does not take this rack's certificate ({alert:?})"),
        Error::AlertReceived(alert) => format!("it broke off ({alert:?}): it may want a certificate of this rack"),
        other => other.to_string(),
    }
}

fn words_of_certificate(why: &CertificateError) -> String {
    match why {
        // The second one: by an authority that has the name of one that is trusted, and another key.
        CertificateError::UnknownIssuer | CertificateError::BadSignature => {
            "nobody whom this rack trusts has signed its certificate: name its \
             authority by `ca`, or the certificate itself by `pin`, in [central.tls]"
                .to_owned()
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            let names = if presented.is_empty() { "no name at all".to_owned() } else { presented.join(", ") };
            format!("its certificate is for {names}, and not for {}: write `server` so", expected.to_str())
        }
        CertificateError::ExpiredContext { time, not_after } => {
            format!("its certificate was good until {}, and this host's clock says {}", date(*not_after), date(*time))
        }
        CertificateError::NotValidYetContext { time, not_before } => {
            format!("its certificate is good from {} on, and this host's clock says {}", date(*not_before), date(*time))
        }
        other => format!("its certificate is not taken: {other}"),
    }
}

fn date(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    jiff::Timestamp::from_second(seconds).map_or_else(|_| format!("{seconds} s after 1970"), |time| time.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_host_of_the_address() {
        let said = |server: &str| name(server).map(|name| name.to_str().into_owned()).map_err(|why| why.to_string());
        assert_eq!(said("centre.example:9200").as_deref(), Ok("centre.example"));
        assert_eq!(said("127.0.0.1:9200").as_deref(), Ok("127.0.0.1"));
        assert_eq!(said("[::1]:9200").as_deref(), Ok("::1"));
        let why = said("centre with blanks:9200").unwrap_err();
        assert!(why.contains("centre with blanks:9200"), "{why}");
    }

    #[test]
    fn a_clock_that_is_wrong_is_named() {
        let (time, not_before) = (UnixTime::since_unix_epoch(std::time::Duration::from_secs(0)), UnixTime::now());
        let said = words_of_certificate(&CertificateError::NotValidYetContext { time, not_before });
        assert!(said.contains("this host's clock says 1970-01-01T00:00:00Z"), "{said}");
    }

    #[test]
    fn the_systems_own_errors_stay_as_they_are() {
        assert_eq!(words(&io::Error::from_raw_os_error(110)), "connection timed out");
    }
}
