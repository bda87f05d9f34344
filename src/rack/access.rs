//! Who may come in from other machines: tokens, their roles, and what operators ask about them. The secret itself is kept nowhere.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::ids::SlotName;
use crate::clock::UnixMillis;

/// The most tokens of one rack: each person's, and each machine's that tests on it.
pub const TOKENS_MAX: usize = 1024;
/// The longest name of a token's owner, in bytes.
pub const OWNER_MAX: usize = 64;
/// The longest time of a token that ends, in seconds: ten years.
pub const LASTS_MAX_S: u64 = 3660 * 24 * 3600;

/// What the owner of a token may do with the rack's phones.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// See which phones are here, and how they are.
    View,
    /// Work on phones that nobody else holds.
    Use,
    /// The same as a user of the rack's host.
    Admin,
}

impl Role {
    /// All of them, the lesser first.
    pub const ALL: [Self; 3] = [Self::View, Self::Use, Self::Admin];

    /// Its word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::View => "view",
            Self::Use => "use",
            Self::Admin => "admin",
        }
    }
}

/// One token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// By which it is listed and revoked: 8 hex digits.
    pub id: String,
    /// Whose it is: the user of leases and of the audit.
    pub owner: String,
    /// What he may do.
    pub role: Role,
    /// SHA-256 of its secret, in lower-case hex. The secret has 256 bits of chance, so that nothing slower is needed.
    #[serde(skip)]
    pub secret_sha256: String,
    /// When it was made.
    #[serde(rename = "created_unix_ms")]
    pub created: UnixMillis,
    /// From when on it counts no more; never, if there is none.
    #[serde(rename = "expires_unix_ms")]
    pub expires: Option<UnixMillis>,
}

impl TokenRecord {
    /// Whether it counts at `now`.
    #[must_use]
    pub fn is_valid(&self, now: UnixMillis) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

/// All tokens that were not revoked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenBook(BTreeMap<String, TokenRecord>);

impl TokenBook {
    /// A book of these.
    pub fn new(records: impl IntoIterator<Item = TokenRecord>) -> Self {
        Self(records.into_iter().map(|record| (record.id.clone(), record)).collect())
    }

    /// Each one, by its id.
    pub fn records(&self) -> impl Iterator<Item = &TokenRecord> {
        self.0.values()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The one of this id.
    #[must_use]
    pub fn find(&self, id: &str) -> Option<&TokenRecord> {
        self.0.get(id)
    }

    /// Adds one, or puts it in place of another one of its id.
    pub fn insert(&mut self, record: TokenRecord) {
        self.0.insert(record.id.clone(), record);
    }

    /// Takes one out.
    pub fn remove(&mut self, id: &str) -> Option<TokenRecord> {
        self.0.remove(id)
    }
}

/// A token that somebody is to get.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenWish {
    /// Whose it will be.
    pub owner: String,
    /// What he may do.
    pub role: Role,
    /// For how long, in seconds; for ever if absent.
    pub lasts_s: Option<u64>,
}

impl TokenWish {
    /// Whether there can be such a token.
    ///
    /// # Errors
    /// What is wrong, as a sentence.
    pub fn check(&self) -> Result<(), String> {
        let is_name =
            !self.owner.trim().is_empty() && self.owner.len() <= OWNER_MAX && !self.owner.chars().any(char::is_control);
        if !is_name {
            return Err(format!(
                "the owner's name has 1 to {OWNER_MAX} bytes and no control characters: others read it"
            ));
        }
        match self.lasts_s {
            Some(seconds) if !(1..=LASTS_MAX_S).contains(&seconds) => {
                Err("a token that ends lasts from 1 s to 10 years".to_owned())
            }
            _ => Ok(()),
        }
    }
}

/// What is asked about tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TokenOrder {
    /// Make one.
    Add(TokenWish),
    /// Have the one of this id, or all of this owner, count no more.
    Revoke(String),
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenDone {
    /// What was done, as a sentence.
    pub what: String,
    /// The token's text, shown this once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<String>,
    /// The tokens it was done to.
    pub records: Vec<TokenRecord>,
}

/// Where programs that use adb find the phones.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdbDoors {
    /// The Unix socket.
    pub socket: PathBuf,
    /// The adb server's address; none if it listens at no port.
    pub listen: Option<SocketAddr>,
    /// SHA-256 of its certificate, in lower-case hex, where it speaks TLS: on every address but the loopback's.
    pub fingerprint: Option<String>,
    /// The port of each slot, at which device-side ADB is spoken.
    pub slots: BTreeMap<SlotName, SocketAddr>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_has_an_owner_whom_others_can_read_and_an_end_that_comes() {
        let wish =
            |owner: &str, lasts_s| TokenWish { owner: owner.to_owned(), role: Role::Use, lasts_s }.check().is_ok();
        assert!(wish("mara", None) && wish("ci runner 7", Some(1)) && wish("mara", Some(LASTS_MAX_S)));
        for owner in ["", " ", "a\nb", "\x1b[2J", &"x".repeat(65)] {
            assert!(!wish(owner, None), "{owner:?}");
        }
        assert!(!wish("mara", Some(0)) && !wish("mara", Some(LASTS_MAX_S + 1)));
    }

    #[test]
    fn a_list_of_tokens_tells_nothing_of_their_secrets() {
        let record = TokenRecord {
            id: "00c0ffee".to_owned(),
            owner: "mara".to_owned(),
            role: Role::Use,
            secret_sha256: "5ec2e7".to_owned(),
            created: UnixMillis(1),
            expires: Some(UnixMillis(2)),
        };
        let told = serde_json::to_string(&record).unwrap();
        assert_eq!(told, r#"{"id":"00c0ffee","owner":"mara","role":"use","created_unix_ms":1,"expires_unix_ms":2}"#);
        assert!(record.is_valid(UnixMillis(1)) && !record.is_valid(UnixMillis(2)));
    }
}
