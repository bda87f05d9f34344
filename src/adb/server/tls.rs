//! TLS 1.3 between a desk and the rack: a certificate that is known by its SHA-256, and by nothing else.
//!
//! Names and dates in it mean nothing: a rack has no name that others could vouch for, and a Raspberry Pi no clock that runs while it is
//! off. The owner of a token has the certificate's digest in it.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::tokens::Sha256Digest;
use crate::tls::{self, PemError, Pinned, provider};

/// Key and certificate in the state directory, where none are configured.
const FILE: &str = "adb-server.pem";
/// The name in a certificate that farmhand makes, and the one that its clients ask for.
const NAME: &str = "farmhand";

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file can't be read, or holds no key or certificate.
    #[error(transparent)]
    File(#[from] PemError),
    /// It can't be made.
    #[error("it can't be made: {0}")]
    Unmade(#[from] rcgen::Error),
    /// Key and certificate do not go together, or are of no kind that TLS knows.
    #[error("key and certificate can't be used: {0}")]
    Unusable(#[from] rustls::Error),
}

/// A certificate with its key.
#[derive(Debug)]
pub struct Certificate {
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
}

impl Certificate {
    /// That of the state directory, which is made if there is none.
    ///
    /// # Errors
    /// Why there is none.
    pub fn of_state(state: &Path) -> Result<Self, CertificateError> {
        let file = state.join(FILE);
        if !file.exists() {
            make(state, &file)?;
        }
        Self::of_files(&file, &file)
    }

    /// A certificate, with those that vouch for it behind it, and its key, as PEM.
    ///
    /// # Errors
    /// Which file is wrong, and how.
    pub fn of_files(certificate: &Path, key: &Path) -> Result<Self, CertificateError> {
        Ok(Self { chain: tls::certificates(certificate)?, key: tls::private_key(key)? })
    }

    /// By which it is known.
    #[must_use]
    pub fn digest(&self) -> Sha256Digest {
        self.chain.first().map(tls::digest).unwrap_or_default()
    }

    /// What takes connections in with it.
    ///
    /// # Errors
    /// The key is not the certificate's.
    pub fn acceptor(self) -> Result<TlsAcceptor, CertificateError> {
        let config = rustls::ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&rustls::version::TLS13])?
            .with_no_client_auth()
            .with_single_cert(self.chain, self.key)?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

/// Written whole or not at all, for this user alone.
fn make(state: &Path, file: &Path) -> Result<(), CertificateError> {
    let key = rcgen::KeyPair::generate()?;
    let certificate = rcgen::CertificateParams::new(vec![NAME.to_owned()])?.self_signed(&key)?;
    let written = || {
        let mut fresh = tempfile::NamedTempFile::new_in(state)?;
        fresh.write_all(key.serialize_pem().as_bytes())?;
        fresh.write_all(certificate.pem().as_bytes())?;
        fresh.as_file().sync_all()?;
        fresh.persist(file)?;
        std::io::Result::Ok(())
    };
    written().map_err(|error| PemError { file: file.to_owned(), reason: error.to_string() }.into())
}

/// What connects to the one server that has this certificate.
///
/// # Errors
/// This program's TLS can't be used.
pub(super) fn connector(certificate: Sha256Digest) -> Result<TlsConnector, rustls::Error> {
    let verifier = Arc::new(Pinned::new(vec![certificate]));
    let config = rustls::ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(TlsConnector::from(Arc::new(config)))
}

/// The name that is asked for.
pub(super) fn server_name() -> ServerName<'static> {
    // It is one.
    ServerName::try_from(NAME).unwrap_or(ServerName::IpAddress(std::net::Ipv4Addr::LOCALHOST.into()))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_certificate_is_made_once_for_its_owner_alone_and_found_again() {
        let dir = tempfile::tempdir().unwrap();
        let made = Certificate::of_state(dir.path()).unwrap();
        let file = dir.path().join(FILE);
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing else is left there");
        let found = Certificate::of_state(dir.path()).unwrap();
        assert_eq!(found.digest(), made.digest());
        found.acceptor().unwrap();
        let other = Certificate::of_state(tempfile::tempdir().unwrap().path()).unwrap();
        assert_ne!(other.digest(), made.digest());
    }

    #[test]
    fn a_file_that_is_none_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let made = Certificate::of_state(dir.path()).unwrap();
        let (good, bad) = (dir.path().join(FILE), dir.path().join("bad.pem"));
        std::fs::write(&bad, "no PEM").unwrap();
        let wrong = |certificate: &Path, key: &Path| Certificate::of_files(certificate, key).unwrap_err().to_string();
        assert!(wrong(&bad, &good).contains("bad.pem: there is no certificate in it"), "{}", wrong(&bad, &good));
        assert!(wrong(&good, &bad).contains("bad.pem: "), "{}", wrong(&good, &bad));
        assert!(wrong(&dir.path().join("none"), &good).contains("none: "));
        // The key of another certificate.
        let other = tempfile::tempdir().unwrap();
        Certificate::of_state(other.path()).unwrap();
        let mixed = Certificate::of_files(&good, &other.path().join(FILE)).unwrap();
        assert_eq!(mixed.digest(), made.digest());
        assert!(matches!(mixed.acceptor(), Err(CertificateError::Unusable(_))));
    }
}
