//! The rack's APKs in the state directory, each under the name of its content, `<sha256>.apk`.
//!
//! A file comes as a [`Part`], is counted and hashed on its way, synced, and only then gets its name; a crash leaves a `.part` that
//! the next start removes. APKs that a rollout needs are pinned. The others stay, so that a second rollout of the same version needs
//! no download, until room is wanted: then the one that was used longest ago goes first.
//!
//! Invariant: all kept files together are never larger than the budget, and a pinned one is never removed
//! (`room_is_made_by_what_was_used_longest_ago`).

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::SystemTime;

use base16ct::lower::encode_string as hex;
use sha2::{Digest, Sha256};
use tokio::fs::File;
use tokio::io::AsyncWriteExt;

use super::StoredApk;

/// What all APKs together may take, in bytes: four of the largest.
pub const STORE_LEN_MAX: u64 = 2 * 1024 * 1024 * 1024;
/// Room that is made at once for a file of unknown length, and left free on the disk for what must be promised meanwhile.
const STEP: u64 = 16 * 1024 * 1024;
const PART_SUFFIX: &str = ".part";

/// Why an APK could not be kept.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// What is pinned leaves no room.
    #[error(
        "no room for {wanted} bytes among the APKs in {}: rollouts that are not over keep {pinned} of {budget} bytes",
        dir.display()
    )]
    Budget {
        /// The store.
        dir: PathBuf,
        /// What was to be kept.
        wanted: u64,
        /// What can't be removed.
        pinned: u64,
        /// What all of them may take.
        budget: u64,
    },
    /// The disk is full.
    #[error("the disk of {} is full: an APK of {wanted} bytes or more has no room on it", dir.display())]
    DiskFull {
        /// The store.
        dir: PathBuf,
        /// What was to be kept, as far as is known.
        wanted: u64,
    },
    /// The directory or a file failed.
    #[error("{}: {source}", file.display())]
    File {
        /// The file.
        file: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Keeps APKs by their content.
#[derive(Clone, Debug)]
pub struct ApkStore {
    dir: PathBuf,
    budget: u64,
    pinned: Arc<Mutex<BTreeSet<String>>>,
}

/// A file of the store.
struct Kept {
    path: PathBuf,
    sha256: String,
    len: u64,
    used: SystemTime,
}

impl ApkStore {
    /// A store in `dir` of at most `budget` bytes; makes the directory, and removes what a crash has left.
    ///
    /// # Errors
    /// [`StoreError::File`] if the directory can't be made or read.
    pub fn open(dir: PathBuf, budget: u64) -> Result<Self, StoreError> {
        let store = Self { dir, budget, pinned: Arc::default() };
        store.make_clean().map_err(|source| store.failed(source))?;
        Ok(store)
    }

    /// The APK of that content, if it is here; it counts as used now, and is pinned.
    #[must_use]
    pub fn find(&self, sha256: &str) -> Option<StoredApk> {
        let path = self.place(sha256);
        let file = std::fs::File::options().append(true).open(&path).ok()?;
        // Without it only the order of removal is another one.
        drop(file.set_modified(SystemTime::now()));
        self.pins().insert(sha256.to_owned());
        Some(StoredApk { path, size: file.metadata().ok()?.len(), sha256: sha256.to_owned() })
    }

    /// Pins these and no others.
    ///
    /// # Errors
    /// [`StoreError`] if what is now too much can't be removed.
    pub fn pin_only(&self, wanted: &BTreeSet<String>) -> Result<(), StoreError> {
        self.pins().clone_from(wanted);
        self.make_room(0)
    }

    /// Removes an APK that is not wanted after all.
    ///
    /// # Errors
    /// [`StoreError::File`] if it is none of the store's, or can't be removed.
    pub fn discard(&self, kept: &Path) -> Result<(), StoreError> {
        let failed = |source| StoreError::File { file: kept.to_owned(), source };
        if kept.parent() != Some(self.dir.as_path()) {
            return Err(failed(io::Error::other("it is not among the fetched APKs")));
        }
        if let Some(name) = kept.file_stem() {
            self.pins().remove(&*name.to_string_lossy());
        }
        std::fs::remove_file(kept).map_err(failed)
    }

    /// A file to fill, of at most `expected` bytes if that is known.
    pub(super) fn part(&self, expected: Option<u64>) -> Result<Part, StoreError> {
        self.make_room(expected.unwrap_or(STEP))?;
        let named = tempfile::Builder::new().suffix(PART_SUFFIX).tempfile_in(&self.dir);
        let (file, path) = named.map_err(|source| self.failed(source))?.into_parts();
        let room = expected.unwrap_or(STEP);
        Ok(Part { store: self.clone(), path, file: File::from_std(file), hasher: Sha256::new(), len: 0, room })
    }

    /// Removes what is not pinned, the longest unused first, until the budget and the disk have room for so many bytes.
    fn make_room(&self, len: u64) -> Result<(), StoreError> {
        let kept = self.kept().map_err(|source| self.failed(source))?;
        let pinned = self.pins().clone();
        let (stay, mut go): (Vec<_>, Vec<_>) = kept.into_iter().partition(|kept| pinned.contains(&kept.sha256));
        go.sort_by_key(|kept| std::cmp::Reverse(kept.used));
        let stay: u64 = stay.iter().map(|kept| kept.len).sum();
        let mut all = stay + go.iter().map(|kept| kept.len).sum::<u64>();
        loop {
            let fits = all.saturating_add(len) <= self.budget;
            let disk = len == 0 || self.free()? >= len.saturating_add(STEP.min(len));
            if fits && disk {
                return Ok(());
            }
            let Some(oldest) = go.pop() else {
                let dir = self.dir.clone();
                return Err(if fits {
                    StoreError::DiskFull { dir, wanted: len }
                } else {
                    StoreError::Budget { dir, wanted: len, pinned: stay, budget: self.budget }
                });
            };
            let failed = |source| StoreError::File { file: oldest.path.clone(), source };
            std::fs::remove_file(&oldest.path).map_err(failed)?;
            tracing::info!(sha256 = oldest.sha256, "an APK that no rollout needs is removed to make room");
            all -= oldest.len;
        }
    }

    /// Bytes that the disk has left for farmhand.
    fn free(&self) -> Result<u64, StoreError> {
        let disk = nix::sys::statvfs::statvfs(&self.dir).map_err(|errno| self.failed(errno.into()))?;
        Ok(disk.blocks_available().saturating_mul(disk.fragment_size()))
    }

    fn kept(&self) -> io::Result<Vec<Kept>> {
        let mut kept = Vec::new();
        for entry in std::fs::read_dir(&self.dir)? {
            let entry = entry?;
            let (path, about) = (entry.path(), entry.metadata()?);
            if path.extension().is_some_and(|extension| extension == "apk") {
                let sha256 = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
                kept.push(Kept { sha256, len: about.len(), used: about.modified()?, path });
            }
        }
        Ok(kept)
    }

    fn make_clean(&self) -> io::Result<()> {
        std::fs::create_dir_all(&self.dir)?;
        for entry in std::fs::read_dir(&self.dir)? {
            let path = entry?.path();
            if path.to_string_lossy().ends_with(PART_SUFFIX) {
                std::fs::remove_file(&path)?;
            }
        }
        Ok(())
    }

    fn place(&self, sha256: &str) -> PathBuf {
        self.dir.join(format!("{sha256}.apk"))
    }

    fn failed(&self, source: io::Error) -> StoreError {
        StoreError::File { file: self.dir.clone(), source }
    }

    fn pins(&self) -> MutexGuard<'_, BTreeSet<String>> {
        self.pinned.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// An APK on its way into the store: its file is removed unless it is kept.
pub(super) struct Part {
    store: ApkStore,
    path: tempfile::TempPath,
    file: File,
    hasher: Sha256,
    /// Bytes that came.
    pub(super) len: u64,
    /// Bytes for which there is room.
    room: u64,
}

impl Part {
    pub(super) async fn write(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        self.hasher.update(bytes);
        self.len += bytes.len() as u64;
        if self.len > self.room {
            self.room = self.len + STEP;
            self.store.make_room(self.room)?;
        }
        // A write is only handed over to a thread: what became of it shows at the flush.
        let written = match self.file.write_all(bytes).await {
            Ok(()) => self.file.flush().await,
            failed => failed,
        };
        written.map_err(|source| self.failed(source))
    }

    /// Begins anew.
    pub(super) async fn clear(&mut self) -> Result<(), StoreError> {
        (self.len, self.hasher) = (0, Sha256::new());
        self.file.set_len(0).await.map_err(|source| self.failed(source))?;
        let rewound = tokio::io::AsyncSeekExt::rewind(&mut self.file).await;
        rewound.map(|_| ()).map_err(|source| self.failed(source))
    }

    /// Syncs the file and gives it the name of its content, all at once; it is pinned.
    pub(super) async fn keep(self) -> Result<StoredApk, StoreError> {
        self.file.sync_all().await.map_err(|source| self.failed(source))?;
        let sha256 = hex(&self.hasher.finalize());
        let path = self.store.place(&sha256);
        self.store.pins().insert(sha256.clone());
        let renamed = tokio::fs::rename(self.path.to_path_buf(), &path).await;
        renamed.map_err(|source| StoreError::File { file: path.clone(), source })?;
        Ok(StoredApk { path, size: self.len, sha256 })
    }

    fn failed(&self, source: io::Error) -> StoreError {
        match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                StoreError::DiskFull { dir: self.store.dir.clone(), wanted: self.len }
            }
            _ => StoreError::File { file: self.path.to_path_buf(), source },
        }
    }
}
