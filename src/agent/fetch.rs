//! Brings an APK into the state directory: one download for the whole rack, under the name of its content.
//!
//! A download goes to a file of its own, is counted and hashed while it comes, synced, and only then renamed to
//! `<sha256>.apk`; a crash leaves a `.part` that the next start removes.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use base16ct::lower::encode_string as hex;
use reqwest::Url;
use sha2::{Digest, Sha256};
use tokio::fs::File;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};
use tracing::warn;

use super::ApkSource;

/// The largest APK that is taken, in bytes.
pub const APK_LEN_MAX: u64 = 512 * 1024 * 1024;
/// A server that does not take the connection in that time is away.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// A server that sends nothing for so long has stalled.
const STALL_MAX: Duration = Duration::from_secs(30);
/// A whole download; a server that trickles is given up.
const TOTAL_MAX: Duration = Duration::from_secs(30 * 60);
/// Redirects that are followed, each only to an allowed host.
const REDIRECTS_MAX: usize = 5;
/// What is read from a local file at once.
const COPY_LEN: usize = 256 * 1024;

/// Where APKs are kept and from where they may come.
#[derive(Clone, Debug)]
pub struct Fetcher {
    dir: PathBuf,
    client: reqwest::Client,
    sources: Vec<String>,
}

/// Why an APK could not be had.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// It is no address of a file on an HTTP server.
    #[error("`{url}` is no http or https address")]
    Address {
        /// What was given.
        url: String,
    },
    /// The owner has not allowed that host.
    #[error("{host} is not among [rollout] sources ({})", allowed.join(", "))]
    Source {
        /// The host.
        host: String,
        /// What is allowed.
        allowed: Vec<String>,
    },
    /// The server answered, but not with the file.
    #[error("{url} answered {status}")]
    Status {
        /// The address.
        url: String,
        /// What the server said.
        status: reqwest::StatusCode,
    },
    /// It is too large.
    #[error("{from} is larger than {APK_LEN_MAX} bytes, the largest APK that is taken")]
    TooLarge {
        /// Where it comes from.
        from: String,
    },
    /// The server announced more than came.
    #[error("{url} was cut short: {seen} of {expected} bytes came")]
    CutShort {
        /// The address.
        url: String,
        /// What was announced.
        expected: u64,
        /// What came.
        seen: u64,
    },
    /// Nothing came for a while, or not all in time.
    #[error("{url} {what}")]
    Slow {
        /// The address.
        url: String,
        /// What did not happen.
        what: String,
    },
    /// The connection failed.
    #[error("{url} could not be fetched: {what}")]
    Network {
        /// The address.
        url: String,
        /// What went wrong, from the outside in.
        what: String,
    },
    /// The state directory or the local file failed.
    #[error("{}: {source}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Whom TLS trusts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trust {
    /// The system's CA certificates.
    System,
    /// Nobody: every https address fails.
    Nobody,
}

fn build_client(sources: &[String], trust: Trust) -> Result<reqwest::Client, FetchError> {
    let allowed = sources.to_vec();
    let policy = reqwest::redirect::Policy::custom(move |attempt| {
        if attempt.previous().len() > REDIRECTS_MAX {
            return attempt.error(format!("more than {REDIRECTS_MAX} redirects"));
        }
        match allow(attempt.url(), &allowed) {
            Ok(()) => attempt.follow(),
            Err(refused) => attempt.error(refused),
        }
    });
    let builder = reqwest::Client::builder()
        .connect_timeout(CONNECT_MAX)
        .redirect(policy)
        .user_agent(concat!("farmhand/", env!("CARGO_PKG_VERSION")));
    let builder = match trust {
        Trust::System => builder,
        Trust::Nobody => builder.tls_certs_only([]),
    };
    builder.build().map_err(|error| FetchError::Network { url: "https://".to_owned(), what: causes(&error) })
}

impl Fetcher {
    /// A fetcher that keeps APKs in `dir`, making it and removing what a crash has left. An empty list of `sources` allows
    /// every host.
    ///
    /// # Errors
    /// [`FetchError::File`] if the directory can't be made, [`FetchError::Network`] if TLS can't be set up.
    pub fn new(dir: PathBuf, sources: Vec<String>) -> Result<Self, FetchError> {
        make_clean(&dir).map_err(|source| FetchError::File { file: dir.clone(), source })?;
        // The first to install a provider for the process wins; another part of farmhand installs the same one.
        drop(rustls::crypto::ring::default_provider().install_default());
        let client = build_client(&sources, Trust::System).or_else(|why| {
            // A host without CA certificates can still fetch by http, whose files are judged by their signature all the same.
            warn!("https addresses cannot be fetched, since TLS has nothing to trust: {why} (Debian: ca-certificates)");
            build_client(&sources, Trust::Nobody)
        })?;
        Ok(Self { dir, client, sources })
    }

    /// Brings the APK here and returns its file. If a file with `sha256` is here already, that one.
    ///
    /// # Errors
    /// [`FetchError`]; nothing is left behind then.
    pub async fn fetch(&self, source: &ApkSource, sha256: Option<&str>) -> Result<PathBuf, FetchError> {
        if let Some(kept) = sha256.map(|sha256| self.place(sha256)).filter(|kept| kept.is_file()) {
            return Ok(kept);
        }
        let part = Part::create(&self.dir).await?;
        match source {
            ApkSource::Url(url) => {
                let shown = source.to_string();
                let whole = timeout(TOTAL_MAX, self.download(url, &shown, part)).await;
                let too_slow = || FetchError::Slow {
                    url: shown.clone(),
                    what: format!("took longer than {} s", TOTAL_MAX.as_secs()),
                };
                whole.unwrap_or_else(|_| Err(too_slow()))
            }
            ApkSource::File(file) => self.copy(file, part).await,
        }
    }

    /// Removes an APK that was fetched and is not wanted after all: one that was refused.
    ///
    /// # Errors
    /// [`FetchError::File`] if it can't be removed.
    pub fn discard(&self, kept: &Path) -> Result<(), FetchError> {
        let failed = |source| FetchError::File { file: kept.to_owned(), source };
        if kept.parent() != Some(self.dir.as_path()) {
            return Err(failed(io::Error::other("it is not among the fetched APKs")));
        }
        std::fs::remove_file(kept).map_err(failed)
    }

    /// Removes every APK whose SHA-256 is not in the set: at a start, those of rollouts that are over.
    ///
    /// # Errors
    /// [`FetchError::File`] if the directory can't be read or a file not removed.
    pub fn keep_only(&self, wanted: &BTreeSet<String>) -> Result<(), FetchError> {
        let unwanted = |path: &Path| {
            let name = path.file_stem().map(|name| name.to_string_lossy().into_owned());
            path.extension().is_some_and(|extension| extension == "apk")
                && name.is_some_and(|name| !wanted.contains(&name))
        };
        remove_if(&self.dir, unwanted).map_err(|source| FetchError::File { file: self.dir.clone(), source })
    }

    fn place(&self, sha256: &str) -> PathBuf {
        self.dir.join(format!("{sha256}.apk"))
    }

    async fn download(&self, address: &str, shown: &str, mut part: Part) -> Result<PathBuf, FetchError> {
        let url = Url::parse(address).map_err(|_| FetchError::Address { url: shown.to_owned() })?;
        allow(&url, &self.sources)?;
        let network =
            |error: reqwest::Error| FetchError::Network { url: shown.to_owned(), what: causes(&error.without_url()) };
        let stalled =
            |_| FetchError::Slow { url: shown.to_owned(), what: format!("sent nothing for {} s", STALL_MAX.as_secs()) };
        let answer = self.client.get(url).send();
        let mut response = timeout_at(Instant::now() + STALL_MAX, answer).await.map_err(stalled)?.map_err(network)?;
        if !response.status().is_success() {
            return Err(FetchError::Status { url: shown.to_owned(), status: response.status() });
        }
        let expected = response.content_length();
        let too_large = || FetchError::TooLarge { from: shown.to_owned() };
        if expected.is_some_and(|length| length > APK_LEN_MAX) {
            return Err(too_large());
        }
        loop {
            let chunk = timeout(STALL_MAX, response.chunk()).await.map_err(stalled)?;
            match (chunk, expected) {
                (Ok(Some(chunk)), _) => part.write(&chunk).await?,
                (Ok(None), _) => break,
                (Err(_), Some(expected)) if part.len < expected => {
                    return Err(FetchError::CutShort { url: shown.to_owned(), expected, seen: part.len });
                }
                (Err(error), _) => return Err(network(error)),
            }
            if part.len > APK_LEN_MAX {
                return Err(too_large());
            }
        }
        self.keep(part).await
    }

    async fn copy(&self, file: &Path, mut part: Part) -> Result<PathBuf, FetchError> {
        let failed = |source| FetchError::File { file: file.to_owned(), source };
        let mut from = File::open(file).await.map_err(failed)?;
        let mut buffer = vec![0; COPY_LEN];
        loop {
            let len = from.read(&mut buffer).await.map_err(failed)?;
            if len == 0 {
                return self.keep(part).await;
            }
            part.write(&buffer[..len]).await?;
            if part.len > APK_LEN_MAX {
                return Err(FetchError::TooLarge { from: file.display().to_string() });
            }
        }
    }

    /// Syncs the file and gives it the name of its content, all at once.
    async fn keep(&self, part: Part) -> Result<PathBuf, FetchError> {
        let place = self.place(&hex(&part.hasher.finalize()));
        let failed = |source| FetchError::File { file: place.clone(), source };
        part.file.sync_all().await.map_err(failed)?;
        tokio::fs::rename(part.path.to_path_buf(), &place).await.map_err(failed)?;
        Ok(place)
    }
}

/// A download that has not ended: its file is removed unless it is renamed before.
struct Part {
    path: tempfile::TempPath,
    file: File,
    hasher: Sha256,
    len: u64,
}

impl Part {
    async fn create(dir: &Path) -> Result<Self, FetchError> {
        let failed = |source| FetchError::File { file: dir.to_owned(), source };
        let named = tempfile::Builder::new().suffix(PART_SUFFIX).tempfile_in(dir).map_err(failed)?;
        let (file, path) = named.into_parts();
        Ok(Self { path, file: File::from_std(file), hasher: Sha256::new(), len: 0 })
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), FetchError> {
        self.hasher.update(bytes);
        self.len += bytes.len() as u64;
        let path = self.path.to_path_buf();
        let written = self.file.write_all(bytes).await;
        written.map_err(|source| FetchError::File { file: path, source })
    }
}

const PART_SUFFIX: &str = ".part";

fn make_clean(dir: &Path) -> io::Result<()> {
    std::fs::create_dir_all(dir)?;
    remove_if(dir, |path| path.to_string_lossy().ends_with(PART_SUFFIX))
}

fn remove_if(dir: &Path, unwanted: impl Fn(&Path) -> bool) -> io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if unwanted(&path) {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// Whether an address may be asked.
fn allow(url: &Url, sources: &[String]) -> Result<(), FetchError> {
    let Some(host) = url.host_str().filter(|_| matches!(url.scheme(), "http" | "https")) else {
        return Err(FetchError::Address { url: ApkSource::Url(url.to_string()).to_string() });
    };
    if sources.is_empty() || sources.iter().any(|allowed| allowed.eq_ignore_ascii_case(host)) {
        return Ok(());
    }
    Err(FetchError::Source { host: host.to_owned(), allowed: sources.to_vec() })
}

/// An error with what caused it: reqwest's own sentence says little.
fn causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text += &format!(": {inner}");
        cause = inner.source();
    }
    text
}
