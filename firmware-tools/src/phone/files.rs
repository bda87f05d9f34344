//! A phone's files, with whatever is wrong with its storage.

use std::time::Duration;

use bytes::Bytes;
use handset::{Entry, Errno, FileSystem, MemoryFiles, NewNode, RefusedPath, Stat};
use tokio::sync::watch;

use super::faults::Faults;

/// See the module.
pub(super) struct PhoneFiles {
    pub(super) memory: MemoryFiles,
    faults: watch::Receiver<Faults>,
}

impl PhoneFiles {
    pub(super) fn new(memory: MemoryFiles, faults: watch::Receiver<Faults>) -> Self {
        Self { memory, faults }
    }
}

impl FileSystem for PhoneFiles {
    fn stat(&self, path: &str) -> Result<Stat, Errno> {
        self.memory.stat(path)
    }

    fn lstat(&self, path: &str) -> Result<Stat, Errno> {
        self.memory.lstat(path)
    }

    fn list(&self, path: &str) -> Result<Vec<Entry>, Errno> {
        self.memory.list(path)
    }

    fn read(&self, path: &str) -> Result<Bytes, Errno> {
        self.memory.read(path)
    }

    fn writable(&self, path: &str) -> Result<(), RefusedPath> {
        self.memory.writable(path)
    }

    fn write(&self, path: &str, mode: u32, mtime: i64, node: NewNode) -> Result<(), Errno> {
        if self.faults.borrow().full_disk {
            return Err(Errno::NoSpace);
        }
        self.memory.write(path, mode, mtime, node)
    }

    fn free_bytes(&self) -> u64 {
        if self.faults.borrow().full_disk { 0 } else { self.memory.free_bytes() }
    }

    fn time_for(&self, bytes: u64) -> Duration {
        let kib_per_s = self.faults.borrow().disk_kib_per_s;
        kib_per_s.map_or(Duration::ZERO, |speed| Duration::from_secs_f64(bytes as f64 / 1024.0 / speed.max(1) as f64))
    }
}
