//! What every use of TLS here shares: one provider of cryptography, PEM files that are named where they are wrong, and certificates that
//! are known by their SHA-256.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};
use sha2::{Digest as _, Sha256};

/// A SHA-256.
pub type Digest = [u8; 32];

/// A PEM file that can't be read, or does not hold what it should.
#[derive(Debug, thiserror::Error)]
#[error("{}: {reason}", file.display())]
pub struct PemError {
    /// The file.
    pub file: PathBuf,
    /// What is wrong with it.
    pub reason: String,
}

/// All certificates of a PEM file, at least one.
///
/// # Errors
/// The file can't be read, holds none, or one that is damaged.
pub fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, PemError> {
    let failed = |reason| PemError { file: file.to_owned(), reason };
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let certificates = read.map_err(|error| failed(error.to_string()))?;
    if certificates.is_empty() {
        return Err(failed("there is no certificate in it".to_owned()));
    }
    Ok(certificates)
}

/// The first key of a PEM file.
///
/// # Errors
/// The file can't be read, or holds none.
pub fn private_key(file: &Path) -> Result<PrivateKeyDer<'static>, PemError> {
    PrivateKeyDer::from_pem_file(file).map_err(|error| PemError { file: file.to_owned(), reason: error.to_string() })
}

/// By which a certificate is known.
#[must_use]
pub fn digest(certificate: &CertificateDer<'_>) -> Digest {
    Sha256::digest(certificate).into()
}

/// The cryptography of all of farmhand's TLS.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Takes the certificates that have one of these SHA-256, and no other. Names and dates in them mean nothing.
#[derive(Debug)]
pub struct Pinned {
    digests: Vec<Digest>,
    provider: Arc<CryptoProvider>,
}

impl Pinned {
    /// By these digests.
    #[must_use]
    pub fn new(digests: Vec<Digest>) -> Self {
        Self { digests, provider: provider() }
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let seen = digest(certificate);
        if self.digests.contains(&seen) {
            return Ok(ServerCertVerified::assertion());
        }
        let hex = base16ct::lower::encode_string;
        let expected = match self.digests.as_slice() {
            [one] => format!("not {}", hex(one)),
            several => format!("none of the {} that are known", several.len()),
        };
        Err(rustls::Error::General(format!("its certificate is {}, and {expected}", hex(&seen))))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
