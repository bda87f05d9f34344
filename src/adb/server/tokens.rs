//! Who is let in from other machines: what a token is, whom it lets in, and how those are slowed who guess.
//!
//! ```text
//!   address ──▶ Gate::enter: so many at once ──▶ TLS ──▶ `farmhand:token:ID-SECRET` ──▶ Gate::check ──▶ OKAY, or FAIL and why
//! ```
//!
//! Invariant: after [`FREE`] wrong tokens an address is not listened to until its wait is over, however many connections it has
//! (`tests`).

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::clock::{Moment, UnixMillis};
use crate::rack::access::{TokenBook, TokenRecord};

/// What stands before a token's text, so that it is known where it lies around.
const PREFIX: &str = "farmhand1";
/// The request by which a client says its token.
const REQUEST: &str = "farmhand:token:";

/// SHA-256 of something.
pub type Sha256Digest = [u8; 32];

/// A token as its owner has it: `farmhand1-ID-SECRET-CERTIFICATE`, the last three in hex.
#[derive(Clone, PartialEq, Eq)]
pub struct Token {
    /// By which it is known.
    pub id: String,
    /// 32 bytes of chance.
    pub secret: [u8; 32],
    /// SHA-256 of the server's certificate: nobody else is told the secret.
    pub certificate: Sha256Digest,
}

/// Its secret stands in no log.
impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Token {
    /// Reads a token's text.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut words = text.trim().split('-');
        let (prefix, id, secret, certificate) = (words.next()?, words.next()?, words.next()?, words.next()?);
        let is_id = id.len() == 8 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
        if prefix != PREFIX || !is_id || words.next().is_some() {
            return None;
        }
        Some(Self { id: id.to_owned(), secret: parse_digest(secret)?, certificate: parse_digest(certificate)? })
    }

    /// Its text.
    #[must_use]
    pub fn emit(&self) -> String {
        let hex = base16ct::lower::encode_string;
        format!("{PREFIX}-{}-{}-{}", self.id, hex(&self.secret), hex(&self.certificate))
    }

    /// What its owner says to the server.
    #[must_use]
    pub fn request(&self) -> String {
        format!("{REQUEST}{}-{}", self.id, base16ct::lower::encode_string(&self.secret))
    }

    /// What is kept of its secret.
    #[must_use]
    pub fn secret_sha256(&self) -> String {
        base16ct::lower::encode_string(&Sha256::digest(self.secret))
    }
}

/// Reads a digest in hex, also with colons between its bytes, as openssl prints it.
#[must_use]
pub fn parse_digest(text: &str) -> Option<Sha256Digest> {
    let mut digest = [0; 32];
    let plain: String = text.trim().chars().filter(|mark| *mark != ':').collect();
    (base16ct::mixed::decode(&plain, &mut digest).ok()?.len() == 32).then_some(digest)
}

/// Why somebody is not let in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// He says something else first.
    #[error("this server is farmhand's, for the owners of tokens: `farmhand adb-server connect` speaks with it")]
    NotSaid,
    /// There is none of that name and secret.
    #[error("this token is not known here, or was revoked")]
    Unknown,
    /// Its time is over.
    #[error("this token's time is over: `farmhand tokens add` on the rack's host makes another one")]
    Expired,
    /// Too many wrong ones came from there: it was not looked at.
    #[error("too many wrong tokens came from your address: try again in {} s", .0.as_secs() + 1)]
    Slowed(Duration),
}

/// Whose token the request is about.
fn check<'b>(book: &'b TokenBook, request: &[u8], now: UnixMillis) -> Result<&'b TokenRecord, TokenError> {
    let text = std::str::from_utf8(request).map_err(|_| TokenError::NotSaid)?;
    let said = text.strip_prefix(REQUEST).ok_or(TokenError::NotSaid)?;
    let (id, secret) = said.split_once('-').ok_or(TokenError::Unknown)?;
    let record = book.find(id).ok_or(TokenError::Unknown)?;
    let secret = base16ct::mixed::decode_vec(secret).map_err(|_| TokenError::Unknown)?;
    let said = base16ct::lower::encode_string(&Sha256::digest(&secret));
    // How long it takes tells nothing of where they differ.
    if !bool::from(said.as_bytes().ct_eq(record.secret_sha256.as_bytes())) {
        return Err(TokenError::Unknown);
    }
    if record.is_valid(now) { Ok(record) } else { Err(TokenError::Expired) }
}

/// So many wrong tokens cost nothing: somebody has mistaken the file.
pub const FREE: u32 = 3;
/// What the first one after them costs; each further one costs twice as much.
const WAIT_MIN: Duration = Duration::from_secs(5);
/// What one costs at most.
const WAIT_MAX: Duration = Duration::from_secs(60);
/// After so long without a wrong one all is forgotten.
const FORGOTTEN_AFTER: Duration = Duration::from_secs(1800);
/// So many addresses are remembered; the one that was quiet longest is forgotten first.
const ADDRESSES_MAX: usize = 4096;
/// The most connections at once of one address that have not said a token yet, so that none shuts others out.
const GREETING_MAX_EACH: usize = 32;
/// The same of all addresses.
pub const GREETING_MAX: usize = 256;

/// Whoever has not said a token yet, and how long each address must wait that has said wrong ones.
#[derive(Debug, Default)]
pub struct Gate {
    greeting: BTreeMap<IpAddr, usize>,
    wrong: BTreeMap<IpAddr, Wrong>,
}

#[derive(Clone, Copy, Debug)]
struct Wrong {
    count: u32,
    last: Moment,
    /// Until then nothing is listened to.
    until: Moment,
}

/// A wrong token, for the audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Why it is refused.
    pub why: TokenError,
    /// How many wrong ones have come from there in a row, where that stands in the audit: of many it is every doubling.
    pub told: Option<u32>,
}

impl Gate {
    /// Whether one more connection from there may begin; each that may is given back by [`Gate::leave`].
    #[must_use]
    pub fn enter(&mut self, from: IpAddr) -> bool {
        let from = neighbourhood(from);
        let each = self.greeting.get(&from).copied().unwrap_or(0);
        if each >= GREETING_MAX_EACH || self.greeting.values().sum::<usize>() >= GREETING_MAX {
            return false;
        }
        self.greeting.insert(from, each + 1);
        true
    }

    /// It has said its token, or is gone.
    pub fn leave(&mut self, from: IpAddr) {
        let from = neighbourhood(from);
        if let Some(each) = self.greeting.get_mut(&from) {
            *each -= 1;
            if *each == 0 {
                self.greeting.remove(&from);
            }
        }
    }

    /// Whose token `request` says.
    ///
    /// # Errors
    /// Why he is not let in.
    pub fn check(
        &mut self,
        book: &TokenBook,
        from: IpAddr,
        request: &[u8],
        (now, wall): (Moment, UnixMillis),
    ) -> Result<TokenRecord, Refused> {
        let from = neighbourhood(from);
        if let Some(known) = self.wrong.get(&from).filter(|known| now < known.until) {
            return Err(Refused { why: TokenError::Slowed(known.until.since(now)), told: None });
        }
        match check(book, request, wall) {
            Ok(record) => {
                self.wrong.remove(&from);
                Ok(record.clone())
            }
            Err(why) => {
                let count = self.note_wrong(from, now);
                Err(Refused { why, told: (count <= FREE || count.is_power_of_two()).then_some(count) })
            }
        }
    }

    fn note_wrong(&mut self, from: IpAddr, now: Moment) -> u32 {
        self.wrong.retain(|_, known| now.since(known.last) < FORGOTTEN_AFTER);
        if self.wrong.len() >= ADDRESSES_MAX
            && !self.wrong.contains_key(&from)
            && let Some(oldest) = self.wrong.iter().min_by_key(|(_, known)| known.last).map(|(address, _)| *address)
        {
            self.wrong.remove(&oldest);
        }
        let known = self.wrong.entry(from).or_insert(Wrong { count: 0, last: now, until: now });
        known.count = known.count.saturating_add(1);
        known.last = now;
        if known.count >= FREE {
            let doublings = (known.count - FREE).min(16);
            known.until = now + (WAIT_MIN * (1 << doublings)).min(WAIT_MAX);
        }
        known.count
    }
}

/// Whoever has one address of IPv6 has a whole /64 of them.
fn neighbourhood(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        v4 @ IpAddr::V4(_) => v4,
    }
}

/// What the fuzzer calls: any text is a token or none, and a token is read as it was written.
///
/// # Panics
/// When a token that was read is written otherwise.
pub fn fuzz_token(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Some(token) = Token::parse(&text) {
        assert_eq!(Token::parse(&token.emit()).as_ref(), Some(&token));
    }
    let book = TokenBook::default();
    assert!(check(&book, bytes, UnixMillis(0)).is_err(), "an empty book lets nobody in");
}

#[cfg(test)]
#[path = "tokens_tests.rs"]
mod tests;
