//! The outbox: notices of agents that the central server does not have yet, sealed, in a file of its own.
//!
//! ```text
//!     line ─┐ Ask: restore, write, load      ┌──────────────────────────────┐
//!     line ─┼──────────────────────────────▶ │ thread `outbox`: one group,  │──▶ outbox.db (WAL, synchronous=FULL, secure_delete)
//!     line ─┘ ◀── Answer, once on the disk   │ one transaction, one fsync   │
//!                                            └──────────────────────────────┘
//! ```
//!
//! What a line stores at once is one sealed block of [`BLOCK_NOTICES_MAX`] notices at most, and one row. Each owner (what a phone is
//! registered as) counts its notices from 0 and never uses a number again; how far the centre has taken them is a number in the owner's
//! row, and a block goes when that number has passed it. So a phone's order is that of its numbers, and nothing is written for each
//! notice.
//!
//! The file is not `promises.db`: whoever floods this one keeps no rollout waiting for its fsync, `secure_delete`, which writes all that
//! is removed once more, concerns nothing else, and a damaged one is put aside without a rollout being lost.
//!
//! Invariant: what was answered by Ok is on the disk, whole (`what_was_written_is_there_after_a_restart`).
//! Invariant: neither a word of a notice nor what it is about stands in the file in the clear (`nothing_of_a_notice_can_be_read`).
//! Invariant: a file that cannot be trusted is put aside and a new one begun (`a_damaged_file_is_put_aside_and_a_new_one_begun`).

#[cfg(feature = "daemon")]
mod accounts;
#[cfg(feature = "daemon")]
mod block;
#[cfg(feature = "daemon")]
mod file;
#[cfg(feature = "daemon")]
mod key;
#[cfg(feature = "daemon")]
mod reserve;
#[cfg(test)]
mod tests;
#[cfg(feature = "daemon")]
mod writer;

use bytes::Bytes;

#[cfg(feature = "daemon")]
pub use self::writer::{Limits, Outbox};

/// Notices of one block, and of one write.
pub const BLOCK_NOTICES_MAX: usize = 64;
/// Bytes of one block, beyond which no further notice is put into it.
pub const BLOCK_BYTES_MAX: usize = 256 << 10;

/// One notice, as it is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// Its code.
    pub msg_type: i32,
    /// Which message of the centre it answers; 0 if none.
    pub reference: i64,
    /// The envelope as the agent sent it.
    pub envelope: Bytes,
}

/// What a line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Whose notices these are: what the phone is registered as.
    pub owner: String,
    /// What is wanted.
    pub ask: Ask,
}

/// What a line wants of the outbox of one owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ask {
    /// How it stands.
    Restore,
    /// Write all of this, or nothing.
    Write(Write),
    /// The next notices from this number on.
    Load {
        /// The number.
        from: u64,
    },
}

/// What a line wants to be written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Write {
    /// The centre has taken everything below this number.
    pub taken: u64,
    /// The number of the first of `store`.
    pub first: u64,
    /// Notices to be kept until they are taken.
    pub store: Vec<Notice>,
    /// Notices that the centre has refused for good: they are kept aside.
    pub refused: Vec<Notice>,
}

/// An answer, and whose notices it is about; boxed, since a queue of them is made for each line.
pub type Reply = Box<(String, Answer)>;

/// What an outbox says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// To [`Ask::Restore`].
    Restored(Result<Standing, String>),
    /// To [`Ask::Write`].
    Written(Written),
    /// To [`Ask::Load`].
    Loaded(Result<Loaded, String>),
}

/// What became of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// All of it is on the disk.
    All(Standing),
    /// All but `store`, for which there is no room.
    ButNoRoom(Standing),
    /// Nothing is.
    Nothing {
        /// Why, as a sentence.
        why: String,
    },
}

/// The next notices of an owner.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loaded {
    /// The number that was asked from.
    pub from: u64,
    /// All below this number that is still there is among `notices`.
    pub end: u64,
    /// With their numbers, which rise.
    pub notices: Vec<(u64, Notice)>,
}

/// How an owner's outbox stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Everything below this number is taken.
    pub taken: u64,
    /// The next notice has this number.
    pub next: u64,
    /// So many bytes of the file are this owner's.
    pub bytes: u64,
    /// Notices that are kept aside since the centre has refused them.
    pub refused: u64,
    /// Notices that grew too old and were removed, since the daemon started.
    pub expired: u64,
    /// Notices that could no longer be read and were put aside, since the daemon started.
    pub unreadable: u64,
}
