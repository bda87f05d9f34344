//! The catalogue: what is known of each of the protocol's 220 message types.
//!
//! It is made when farmhand is built, from the descriptors of proto/ and proto/catalogue.tsv; the build ends if they disagree.

pub use crate::config::PeopleGroup;

/// What is known of one message type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its number in `EnumMsgType`.
    pub code: i32,
    /// Its name in `EnumMsgType`; misspelt where the protocol's own is.
    pub name: &'static str,
    /// The full name of the message in its Content; `None` where it has none, or none is known.
    pub body: Option<&'static str>,
    /// What it is in a conversation.
    pub kind: Kind,
    /// Which policy group decides about it.
    pub group: Group,
    /// How it gets through farmhand.
    pub path: Path,
}

/// What a message is in a conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// It keeps a connection going: an acknowledgement, an error.
    Session,
    /// It tells something; it is acknowledged.
    Notice,
    /// It asks for a response.
    Request,
    /// It answers a request.
    Response,
    /// The centre wants something done; it is acknowledged, and answered by a result later.
    Task,
    /// It answers a task.
    Result,
}

/// Which part of the policy decides about a message that the centre sends to a phone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Group {
    /// It ends at farmhand and is made anew on the other side.
    Session,
    /// A word between servers.
    Server,
    /// Between the centre and its desktop clients.
    Desktop,
    /// About the handset itself: allowed unless the owner refuses.
    Device,
    /// It stops an act: never refused.
    Stop,
    /// It answers a task; it only goes up.
    Result,
    /// A phone tells of its account; it only goes up.
    PeopleUp,
    /// It acts on people: refused until the owner allows it by name.
    People(PeopleGroup),
    /// A code that the catalogue does not have: refused until the owner allows them.
    Unknown,
}

impl Group {
    /// Its name in the configuration and in sentences.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Server => "server",
            Self::Desktop => "desktop",
            Self::Device => "device",
            Self::Stop => "stop",
            Self::Result => "result",
            Self::PeopleUp => "people.up",
            Self::People(group) => group.name(),
            Self::Unknown => "unknown",
        }
    }
}

/// How a message gets through farmhand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Path {
    /// It ends at farmhand, which makes its own on the other side.
    Made,
    /// From the phone to the centre, untouched.
    CarriedUp,
    /// From the centre to the phone, if the policy allows it.
    CarriedDown,
    /// The rack can answer it with no agent; some of it is an agent's while one is there.
    Rack,
    /// Never on a phone's line.
    Refused,
}

static ENTRIES: &[Entry] = include!(concat!(env!("OUT_DIR"), "/catalogue.rs"));

/// Every entry, by rising code.
#[must_use]
pub fn entries() -> &'static [Entry] {
    ENTRIES
}

/// What is known of `code`; `None` if the protocol has no such message type.
#[must_use]
pub fn lookup(code: i32) -> Option<&'static Entry> {
    let at = ENTRIES.binary_search_by_key(&code, |entry| entry.code).ok()?;
    ENTRIES.get(at)
}

/// `1094 UpgradeDeviceAppNotice`, or the number alone where there is no name: for sentences.
#[must_use]
pub fn describe(code: i32) -> String {
    match lookup(code) {
        Some(entry) => format!("{code} {}", entry.name),
        None => format!("{code} (unknown)"),
    }
}
