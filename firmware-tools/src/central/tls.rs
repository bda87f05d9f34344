//! TLS for the reference server, and an authority of the bench that makes certificates of every kind, good and bad.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio_rustls::TlsAcceptor;

/// How a reference server speaks TLS; each is a PEM file.
#[derive(Clone, Debug)]
pub struct ServerTls {
    /// Its certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Who must have signed the certificates of its clients; without it none is asked for.
    pub clients_of: Option<PathBuf>,
}

/// An authority that nobody knows but those who are told of it.
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// The files of [`Authority::issue`].
#[derive(Clone, Debug)]
pub struct Issued {
    /// The certificate.
    pub cert: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// From the connection to the end of the handshake.
const HANDSHAKE_MAX: std::time::Duration = std::time::Duration::from_secs(10);

impl Authority {
    /// A new one, which calls itself so.
    ///
    /// # Errors
    /// There is no randomness.
    pub fn new(name: &str) -> io::Result<Self> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let made = || CertifiedIssuer::self_signed(params, KeyPair::generate()?);
        Ok(Self { issuer: made().map_err(io::Error::other)? })
    }

    /// Writes its certificate.
    ///
    /// # Errors
    /// The file can't be written.
    pub fn write(&self, file: &Path) -> io::Result<()> {
        std::fs::write(file, self.issuer.pem())
    }

    /// Makes a certificate for `names` (hosts or addresses) and writes it to `dir`, `stem`.crt, with its key beside it.
    ///
    /// # Errors
    /// A file can't be written, or a name can't stand in a certificate.
    pub fn issue(&self, names: &[&str], dir: &Path, stem: &str) -> io::Result<Issued> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        self.issue_by(CertificateParams::new(names).map_err(io::Error::other)?, dir, stem)
    }

    /// As [`Self::issue`], of a certificate that is over since 2000.
    ///
    /// # Errors
    /// As there.
    pub fn issue_expired(&self, names: &[&str], dir: &Path, stem: &str) -> io::Result<Issued> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).map_err(io::Error::other)?;
        params.not_before = rcgen::date_time_ymd(1999, 1, 1);
        params.not_after = rcgen::date_time_ymd(2000, 1, 1);
        self.issue_by(params, dir, stem)
    }

    fn issue_by(&self, mut params: CertificateParams, dir: &Path, stem: &str) -> io::Result<Issued> {
        params.distinguished_name.push(DnType::CommonName, stem);
        let key = KeyPair::generate().map_err(io::Error::other)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(io::Error::other)?;
        let issued = Issued { cert: dir.join(format!("{stem}.crt")), key: dir.join(format!("{stem}.key")) };
        std::fs::write(&issued.cert, certificate.pem())?;
        std::fs::write(&issued.key, key.serialize_pem())?;
        Ok(issued)
    }
}

impl ServerTls {
    /// In `dir`, what a server at `names` and its clients need, as `ca.pem`, `server.crt`, `client.crt` and their keys; made once, and
    /// found again.
    ///
    /// # Errors
    /// A file can't be written.
    pub fn in_dir(dir: &Path, names: &[&str]) -> io::Result<Self> {
        let ca = dir.join("ca.pem");
        let server = Issued { cert: dir.join("server.crt"), key: dir.join("server.key") };
        if !ca.exists() {
            std::fs::create_dir_all(dir)?;
            let authority = Authority::new("an authority of rackbench")?;
            authority.issue(names, dir, "server")?;
            authority.issue(&["rack"], dir, "client")?;
            // The last one: what was begun and not ended is made anew.
            authority.write(&ca)?;
        }
        Ok(Self { cert: server.cert, key: server.key, clients_of: None })
    }

    pub(crate) fn acceptor(&self) -> io::Result<TlsAcceptor> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?;
        let builder = match &self.clients_of {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add_parsable_certificates(certificates(authority)?);
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
                builder.with_client_cert_verifier(verifier.map_err(io::Error::other)?)
            }
        };
        let key = PrivateKeyDer::from_pem_file(&self.key).map_err(io::Error::other)?;
        let config = builder.with_single_cert(certificates(&self.cert)?, key).map_err(io::Error::other)?;
        Ok(TlsAcceptor::from(Arc::new(config)))
    }
}

fn certificates(file: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let read = CertificateDer::pem_file_iter(file).and_then(Iterator::collect);
    read.map_err(io::Error::other)
}

/// What a connection is, whether it is encrypted or not.
pub(crate) trait Pipe: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send {}

impl<P: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send> Pipe for P {}

/// The connection as the protocol sees it.
pub(crate) async fn shake_hands(
    stream: tokio::net::TcpStream,
    acceptor: Option<TlsAcceptor>,
) -> io::Result<Box<dyn Pipe>> {
    match acceptor {
        None => Ok(Box::new(stream)),
        Some(acceptor) => Ok(Box::new(tokio::time::timeout(HANDSHAKE_MAX, acceptor.accept(stream)).await??)),
    }
}
