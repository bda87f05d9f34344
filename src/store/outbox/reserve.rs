//! Room that is kept for the day on which the disk is full: removing what the central server has taken needs some, too.
//!
//! Without it a full disk would keep the outbox from being emptied, and so what is stored from the central server.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FallocateFlags, fallocate};
use tokio::time::Instant;

/// The file within the state directory.
const FILE: &str = "outbox.reserve";
/// Beyond what the journal usually holds until it is written into the file, in bytes.
const BYTES: u64 = 8 << 20;
/// Between two attempts to have it again.
const AGAIN_AFTER: Duration = Duration::from_secs(5);

/// A file that only takes room.
#[derive(Debug)]
pub(super) struct Reserve {
    path: PathBuf,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nobody has looked yet.
    Unknown,
    /// It is there, or this disk cannot keep room for anybody.
    Held,
    /// It was given up for what must be removed, and is not tried again before this.
    Spent { again_at: Instant },
}

impl Reserve {
    pub(super) fn new(dir: &Path) -> Self {
        Self { path: dir.join(FILE), state: State::Unknown }
    }

    /// Whether something may be stored: what is left when it is spent is for removing only.
    pub(super) fn lets_store(&self) -> bool {
        !matches!(self.state, State::Spent { .. })
    }

    /// Whether it is time to have it again.
    pub(super) fn is_wanted(&self) -> bool {
        match self.state {
            State::Unknown => true,
            State::Held => false,
            State::Spent { again_at } => again_at <= Instant::now(),
        }
    }

    /// Takes the room, if the disk has as much.
    pub(super) fn take(&mut self) {
        let is_there = std::fs::metadata(&self.path).is_ok_and(|meta| meta.len() >= BYTES);
        let took = if is_there { Ok(()) } else { self.allocate() };
        match took {
            Ok(()) => {
                if !self.lets_store() {
                    tracing::info!("the disk has room again: notices are stored");
                }
                self.state = State::Held;
            }
            Err(why) if why.kind() == std::io::ErrorKind::StorageFull => self.give_up(),
            Err(why) => {
                tracing::debug!("no room can be kept in {}: {why}", self.path.display());
                self.state = State::Held;
            }
        }
    }

    fn allocate(&self) -> std::io::Result<()> {
        let file = File::create(&self.path)?;
        Ok(fallocate(file, FallocateFlags::empty(), 0, BYTES)?)
    }

    /// Gives the room to what must be removed.
    pub(super) fn give_up(&mut self) {
        if self.lets_store() {
            tracing::error!(
                "the disk of {} is full: nothing more is stored, and nothing is acknowledged that the central server does not have",
                self.path.display()
            );
        }
        if let Err(why) = std::fs::remove_file(&self.path) {
            tracing::debug!("{} cannot be given up: {why}", self.path.display());
        }
        self.state = State::Spent { again_at: Instant::now() + AGAIN_AFTER };
    }
}
