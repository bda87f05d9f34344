//! Brings an APK into the rack's store ([`super::store`]): one download for the whole rack, over HTTP or HTTPS, through the proxies of
//! the environment (`HTTP_PROXY`, `HTTPS_PROXY`, `NO_PROXY`), or from a file.
//!
//! A connection that breaks in the middle is resumed by a range, as long as the server says that it is still the same file.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use reqwest::header::{CONTENT_RANGE, ETAG, HeaderMap, HeaderValue, IF_RANGE, LAST_MODIFIED, RANGE};
use reqwest::{StatusCode, Url};
use tokio::fs::File;
use tokio::io::AsyncReadExt;
use tokio::time::{Instant, sleep, timeout};
use tracing::warn;

use super::store::{ApkStore, Part, STORE_LEN_MAX, StoreError};
use super::{ApkSource, StoredApk};

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
/// A connection that broke is taken up again so often, after this long, twice this long, and so on.
const RESUMES_MAX: u32 = 5;
const RESUME_AFTER: Duration = Duration::from_millis(500);
/// In so long a time at least so many bytes must come: 4 KiB a second, a tenth of a bad line over mobile radio.
const PACE_WINDOW: Duration = Duration::from_secs(60);
const PACE_LEN_MIN: u64 = 240 * 1024;
/// What is read from a local file at once.
const COPY_LEN: usize = 256 * 1024;

/// Where APKs are kept and from where they may come.
#[derive(Clone, Debug)]
pub struct Fetcher {
    store: ApkStore,
    client: reqwest::Client,
    sources: Vec<String>,
    under_way: Arc<Mutex<BTreeMap<ApkSource, Slot>>>,
}

/// Held while a source is fetched; what came last, and when.
type Slot = Arc<tokio::sync::Mutex<Option<(Instant, StoredApk)>>>;

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
    /// A range was asked for, and the server sent another one.
    #[error("{url} was asked for the bytes from {from} on, and sent {said}")]
    OtherRange {
        /// The address.
        url: String,
        /// What was asked for.
        from: u64,
        /// What the server said.
        said: String,
    },
    /// It could not be kept.
    #[error(transparent)]
    Store(#[from] StoreError),
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
    /// The local file failed.
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
    /// [`FetchError::Store`] if the directory can't be made, [`FetchError::Network`] if TLS can't be set up.
    pub fn new(dir: PathBuf, sources: Vec<String>) -> Result<Self, FetchError> {
        let store = ApkStore::open(dir, STORE_LEN_MAX)?;
        // The first to install a provider for the process wins; another part of farmhand installs the same one.
        drop(rustls::crypto::ring::default_provider().install_default());
        let client = build_client(&sources, Trust::System).or_else(|why| {
            // A host without CA certificates can still fetch by http, whose files are judged by their signature all the same.
            warn!("https addresses cannot be fetched, since TLS has nothing to trust: {why} (Debian: ca-certificates)");
            build_client(&sources, Trust::Nobody)
        })?;
        Ok(Self { store, client, sources, under_way: Arc::default() })
    }

    /// Where it keeps APKs.
    #[must_use]
    pub fn store(&self) -> &ApkStore {
        &self.store
    }

    /// Brings the APK here, pinned. If one with `sha256` is here already, that one; who asks for what is on its way gets what
    /// comes.
    ///
    /// # Errors
    /// [`FetchError`]; nothing is left behind then.
    pub async fn fetch(&self, source: &ApkSource, sha256: Option<&str>) -> Result<StoredApk, FetchError> {
        if let Some(kept) = sha256.and_then(|sha256| self.store.find(sha256)) {
            return Ok(kept);
        }
        let asked = Instant::now();
        let slot = self.slot(source);
        // Whoever holds it is bounded by the deadline of a whole download.
        let mut last = slot.lock().await;
        if let Some((ended, fetched)) = last.as_ref()
            && *ended >= asked
            && let Some(kept) = self.store.find(&fetched.sha256)
        {
            return Ok(kept);
        }
        let fetched = match source {
            ApkSource::Url(url) => {
                let shown = source.to_string();
                let slow = || FetchError::Slow {
                    url: shown.clone(),
                    what: format!("took longer than {} s", TOTAL_MAX.as_secs()),
                };
                let whole = timeout(TOTAL_MAX, self.download(url, &shown)).await;
                whole.unwrap_or_else(|_| Err(slow()))
            }
            ApkSource::File(file) => self.copy(file).await,
        }?;
        *last = Some((Instant::now(), fetched.clone()));
        Ok(fetched)
    }

    /// The place where those who want the same source wait for each other. Those of which nobody waits are dropped.
    fn slot(&self, source: &ApkSource) -> Slot {
        let mut slots = self.under_way.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        slots.retain(|other, slot| other == source || Arc::strong_count(slot) > 1);
        Arc::clone(slots.entry(source.clone()).or_default())
    }

    async fn download(&self, address: &str, shown: &str) -> Result<StoredApk, FetchError> {
        let url = Url::parse(address).map_err(|_| FetchError::Address { url: shown.to_owned() })?;
        allow(&url, &self.sources)?;
        let mut transfer = Transfer { url, shown: shown.to_owned(), part: None, expected: None, validator: None };
        let mut resumed = 0;
        loop {
            match transfer.go_on(&self.client, &self.store).await {
                Ok(()) => break,
                // What broke in the middle is taken up again; the server must be able to say that it is still the same file.
                Err(Broken::InTheMiddle(why)) if transfer.validator.is_some() && resumed < RESUMES_MAX => {
                    resumed += 1;
                    let have = transfer.part.as_ref().map_or(0, |part| part.len);
                    warn!("{why}; it is resumed at byte {have}, attempt {resumed} of {RESUMES_MAX}");
                    sleep(RESUME_AFTER * resumed).await;
                }
                Err(Broken::InTheMiddle(why) | Broken::ForGood(why)) => return Err(why),
            }
        }
        match transfer.part {
            Some(part) => Ok(part.keep().await?),
            None => Err(FetchError::CutShort { url: transfer.shown, expected: 0, seen: 0 }),
        }
    }

    async fn copy(&self, file: &Path) -> Result<StoredApk, FetchError> {
        let failed = |source| FetchError::File { file: file.to_owned(), source };
        let mut from = File::open(file).await.map_err(failed)?;
        let len = from.metadata().await.map_err(failed)?.len();
        let too_large = || FetchError::TooLarge { from: file.display().to_string() };
        if len > APK_LEN_MAX {
            return Err(too_large());
        }
        let mut part = self.store.part(Some(len))?;
        let mut buffer = vec![0; COPY_LEN];
        loop {
            let len = from.read(&mut buffer).await.map_err(failed)?;
            let Some(read) = buffer.get(..len).filter(|read| !read.is_empty()) else { return Ok(part.keep().await?) };
            part.write(read).await?;
            if part.len > APK_LEN_MAX {
                return Err(too_large());
            }
        }
    }
}

/// Why a transfer stopped.
enum Broken {
    /// Some bytes came, and more might.
    InTheMiddle(FetchError),
    /// Asking again would change nothing.
    ForGood(FetchError),
}

impl<E: Into<FetchError>> From<E> for Broken {
    fn from(error: E) -> Self {
        Self::ForGood(error.into())
    }
}

/// A download, over as many connections as it takes.
struct Transfer {
    url: Url,
    shown: String,
    part: Option<Part>,
    /// Bytes of the whole file, once the server has said so.
    expected: Option<u64>,
    /// What the server calls this state of the file: a strong ETag, or the time of its last change.
    validator: Option<HeaderValue>,
}

impl Transfer {
    /// Asks for what is missing, and takes it.
    async fn go_on(&mut self, client: &reqwest::Client, store: &ApkStore) -> Result<(), Broken> {
        let have = self.part.as_ref().map_or(0, |part| part.len);
        let mut request = client.get(self.url.clone());
        if let Some(validator) = self.validator.as_ref().filter(|_| have > 0) {
            request = request.header(RANGE, format!("bytes={have}-")).header(IF_RANGE, validator.clone());
        }
        let network = |error: reqwest::Error| {
            let error = FetchError::Network { url: self.shown.clone(), what: causes(&error.without_url()) };
            if have > 0 { Broken::InTheMiddle(error) } else { Broken::ForGood(error) }
        };
        let answer = timeout(STALL_MAX, request.send()).await.map_err(|_| self.slow("did not answer", STALL_MAX))?;
        let mut response = answer.map_err(network)?;
        self.begin(&response, have, store).await?;
        let mut pace = Pace::new();
        loop {
            let chunk = timeout(STALL_MAX, response.chunk()).await;
            let chunk = chunk.map_err(|_| Broken::InTheMiddle(self.slow("sent nothing for", STALL_MAX)))?;
            let Some(part) = self.part.as_mut() else { return Ok(()) };
            match (chunk, self.expected) {
                (Ok(Some(chunk)), _) => {
                    part.write(&chunk).await?;
                    if part.len > APK_LEN_MAX {
                        return Err(FetchError::TooLarge { from: self.shown.clone() }.into());
                    }
                    if let Some(seen) = pace.trickles(chunk.len()) {
                        return Err(self.slow(&format!("trickles: {seen} bytes in"), PACE_WINDOW).into());
                    }
                }
                (Ok(None), None) => return Ok(()),
                (Ok(None), Some(expected)) if part.len == expected => return Ok(()),
                (Ok(None) | Err(_), Some(expected)) => {
                    let seen = part.len;
                    return Err(Broken::InTheMiddle(FetchError::CutShort { url: self.shown.clone(), expected, seen }));
                }
                (Err(error), None) => {
                    let what = causes(&error.without_url());
                    return Err(Broken::InTheMiddle(FetchError::Network { url: self.shown.clone(), what }));
                }
            }
        }
    }

    /// Takes the head of an answer: the whole file, or what was missing of it.
    async fn begin(&mut self, response: &reqwest::Response, have: u64, store: &ApkStore) -> Result<(), Broken> {
        let status = response.status();
        if status == StatusCode::PARTIAL_CONTENT && have > 0 {
            let said = response.headers().get(CONTENT_RANGE).and_then(|range| range.to_str().ok()).unwrap_or("nothing");
            if content_range(said) != self.expected.map(|len| (have, len)) {
                let said = said.to_owned();
                return Err(FetchError::OtherRange { url: self.shown.clone(), from: have, said }.into());
            }
            return Ok(());
        }
        if status != StatusCode::OK {
            return Err(FetchError::Status { url: self.shown.clone(), status }.into());
        }
        // The whole file, for the first time or because it is another one than before.
        self.expected = response.content_length();
        if self.expected.is_some_and(|length| length > APK_LEN_MAX) {
            return Err(FetchError::TooLarge { from: self.shown.clone() }.into());
        }
        self.validator = validator(response.headers()).filter(|_| self.expected.is_some());
        match self.part.as_mut() {
            Some(part) => part.clear().await?,
            None => self.part = Some(store.part(self.expected)?),
        }
        Ok(())
    }

    fn slow(&self, what: &str, time: Duration) -> FetchError {
        FetchError::Slow { url: self.shown.clone(), what: format!("{what} {} s", time.as_secs()) }
    }
}

/// What can be asked for again: a weak ETag is no name of bytes.
fn validator(headers: &HeaderMap) -> Option<HeaderValue> {
    let strong = headers.get(ETAG).filter(|tag| !tag.as_bytes().starts_with(b"W/"));
    strong.or_else(|| headers.get(LAST_MODIFIED)).cloned()
}

/// From where and of how many, in `bytes 5-9/10`; only a range to the end is what was asked for.
fn content_range(text: &str) -> Option<(u64, u64)> {
    let (range, len) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (from, last) = range.split_once('-')?;
    let (from, last, len): (u64, u64, u64) = (from.parse().ok()?, last.parse().ok()?, len.parse().ok()?);
    (last.checked_add(1)? == len).then_some((from, len))
}

/// How much comes in a window of time.
struct Pace {
    since: Instant,
    seen: u64,
}

impl Pace {
    fn new() -> Self {
        Self { since: Instant::now(), seen: 0 }
    }

    /// Counts; how little came, if a window ended with too little.
    fn trickles(&mut self, len: usize) -> Option<u64> {
        self.seen += len as u64;
        if self.since.elapsed() < PACE_WINDOW {
            return None;
        }
        let seen = std::mem::replace(self, Self::new()).seen;
        (seen < PACE_LEN_MIN).then_some(seen)
    }
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
