//! A phone's files, kept in memory.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::device::{Entry, Errno, FileSystem, Stat};
use crate::limits;

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const TYPE_MASK: u32 = 0o170_000;
const PERMISSIONS: u32 = 0o777;

/// Files and folders in memory, up to a number of bytes.
///
/// Only files below one of the writable folders can be written, as a shell user of a phone can write `/data/local/tmp` and
/// `/sdcard` but not `/system`.
#[derive(Debug)]
pub struct MemoryFiles {
    capacity_bytes: u64,
    writable: Vec<String>,
    nodes: Mutex<Nodes>,
}

#[derive(Debug, Default)]
struct Nodes {
    by_path: BTreeMap<String, Node>,
    used_bytes: u64,
    next_inode: u64,
}

#[derive(Debug)]
struct Node {
    stat: Stat,
    /// `None`: a folder.
    content: Option<Bytes>,
}

/// What one more file or folder costs, so that empty ones are not free.
const NODE_BYTES: u64 = 4096;

impl MemoryFiles {
    /// An empty file system of `capacity_bytes`, with the folders `writable` in it.
    #[must_use]
    pub fn new(capacity_bytes: u64, writable: &[&str]) -> Self {
        let files = Self {
            capacity_bytes,
            writable: writable.iter().map(|&folder| folder.to_owned()).collect(),
            nodes: Mutex::default(),
        };
        let mut nodes = files.lock();
        nodes.make_folder("/", 0);
        for folder in writable {
            nodes.make_folders(folder, 0);
        }
        drop(nodes);
        files
    }

    /// Removes a file.
    ///
    /// # Errors
    /// As the kernel would.
    pub fn remove(&self, path: &str) -> Result<(), Errno> {
        let path = normal(path)?;
        let mut nodes = self.lock();
        let size = match nodes.by_path.get(&path) {
            None => return Err(Errno::NotFound),
            Some(Node { content: None, .. }) => return Err(Errno::IsDirectory),
            Some(Node { content: Some(content), .. }) => content.len() as u64,
        };
        self.check_place(&path)?;
        nodes.by_path.remove(&path);
        nodes.used_bytes -= size + NODE_BYTES;
        Ok(())
    }

    fn check_place(&self, path: &str) -> Result<(), Errno> {
        let inside = |folder: &String| path.strip_prefix(folder.as_str()).is_some_and(|rest| rest.starts_with('/'));
        if self.writable.iter().any(inside) { Ok(()) } else { Err(Errno::PermissionDenied) }
    }

    fn lock(&self) -> MutexGuard<'_, Nodes> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Nodes {
    fn make_folder(&mut self, path: &str, mtime: i64) {
        self.next_inode += 1;
        self.used_bytes += NODE_BYTES;
        let stat = Stat { mode: DIRECTORY | 0o771, size: 4096, mtime, inode: self.next_inode };
        self.by_path.insert(path.to_owned(), Node { stat, content: None });
    }

    fn make_folders(&mut self, path: &str, mtime: i64) {
        let ends = path.match_indices('/').map(|(at, _)| at).skip(1).chain([path.len()]);
        for end in ends {
            let folder = path.get(..end).unwrap_or_default();
            if !self.by_path.contains_key(folder) {
                self.make_folder(folder, mtime);
            }
        }
    }

    /// The folders that lead to `path` are folders, or not there yet.
    fn check_parents(&self, path: &str) -> Result<(), Errno> {
        let parents = path.match_indices('/').skip(1).filter_map(|(at, _)| path.get(..at));
        let file_in_the_way = |parent| self.by_path.get(parent).is_some_and(|node: &Node| node.content.is_some());
        if parents.into_iter().any(file_in_the_way) { Err(Errno::NotDirectory) } else { Ok(()) }
    }
}

impl FileSystem for MemoryFiles {
    fn stat(&self, path: &str) -> Result<Stat, Errno> {
        let path = normal(path)?;
        self.lock().by_path.get(&path).map(|node| node.stat).ok_or(Errno::NotFound)
    }

    fn list(&self, path: &str) -> Result<Vec<Entry>, Errno> {
        let path = normal(path)?;
        let nodes = self.lock();
        match nodes.by_path.get(&path) {
            None => return Err(Errno::NotFound),
            Some(Node { content: Some(_), .. }) => return Err(Errno::NotDirectory),
            Some(_) => {}
        }
        let prefix = if path == "/" { path } else { path + "/" };
        let below = nodes.by_path.range(prefix.clone()..).take_while(|(path, _)| path.starts_with(&prefix));
        let names = below.filter_map(|(path, node)| Some((path.strip_prefix(&prefix)?, node)));
        let direct = names.filter(|(name, _)| !name.is_empty() && !name.contains('/'));
        Ok(direct.map(|(name, node)| Entry { name: name.to_owned(), stat: node.stat }).collect())
    }

    fn read(&self, path: &str) -> Result<Bytes, Errno> {
        let path = normal(path)?;
        match self.lock().by_path.get(&path) {
            None => Err(Errno::NotFound),
            Some(node) => node.content.clone().ok_or(Errno::IsDirectory),
        }
    }

    fn writable(&self, path: &str) -> Result<(), Errno> {
        let path = normal(path)?;
        let nodes = self.lock();
        if nodes.by_path.get(&path).is_some_and(|node| node.content.is_none()) {
            return Err(Errno::IsDirectory);
        }
        self.check_place(&path)?;
        nodes.check_parents(&path)
    }

    fn write(&self, path: &str, mode: u32, mtime: i64, content: Bytes) -> Result<(), Errno> {
        self.writable(path)?;
        let path = normal(path)?;
        let mut nodes = self.lock();
        let replaced = nodes.by_path.get(&path).and_then(|node| node.content.as_ref());
        let freed = replaced.map_or(0, |old| old.len() as u64 + NODE_BYTES);
        let size = content.len() as u64;
        // Each folder on the way may be new.
        let wanted = size + NODE_BYTES * path.matches('/').count() as u64;
        if nodes.used_bytes - freed + wanted > self.capacity_bytes {
            return Err(Errno::NoSpace);
        }
        if let Some((parent, _)) = path.rsplit_once('/').filter(|(parent, _)| !parent.is_empty()) {
            nodes.make_folders(parent, mtime);
        }
        nodes.next_inode += 1;
        nodes.used_bytes = nodes.used_bytes - freed + size + NODE_BYTES;
        let stat = Stat { mode: REGULAR | mode & PERMISSIONS, size, mtime, inode: nodes.next_inode };
        nodes.by_path.insert(path, Node { stat, content: Some(content) });
        Ok(())
    }

    fn free_bytes(&self) -> u64 {
        self.capacity_bytes.saturating_sub(self.lock().used_bytes)
    }
}

impl Stat {
    /// Whether this is a folder.
    #[must_use]
    pub fn is_directory(&self) -> bool {
        self.mode & TYPE_MASK == DIRECTORY
    }
}

/// The path without doubled slashes, `.`, `..` and a slash at its end; relative ones start at the root, as for adbd.
fn normal(path: &str) -> Result<String, Errno> {
    if path.len() > limits::PATH_BYTES_MAX {
        return Err(Errno::NameTooLong);
    }
    if path.is_empty() {
        return Err(Errno::NotFound);
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            name => parts.push(name),
        }
    }
    Ok(format!("/{}", parts.join("/")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files() -> MemoryFiles {
        MemoryFiles::new(1 << 20, &["/data/local/tmp", "/sdcard"])
    }

    #[test]
    fn what_is_written_reads_back_and_is_listed() {
        let files = files();
        files.write("/sdcard/a/b.txt", 0o644, 7, Bytes::from_static(b"hello")).unwrap();
        assert_eq!(files.read("//sdcard/./a/../a/b.txt").unwrap(), "hello");
        let names: Vec<_> = files.list("/sdcard").unwrap().into_iter().map(|entry| entry.name).collect();
        assert_eq!(names, ["a"]);
        assert!(files.stat("/sdcard/a").unwrap().is_directory());
        assert_eq!(files.stat("/sdcard/a/b.txt").unwrap().mode, 0o100_644);
        let names: Vec<_> = files.list("/").unwrap().into_iter().map(|entry| entry.name).collect();
        assert_eq!(names, ["data", "sdcard"]);
    }

    #[test]
    fn what_the_kernel_refuses_is_refused() {
        let files = files();
        let write = |path: &str, bytes: usize| files.write(path, 0o644, 0, Bytes::from(vec![0; bytes]));
        assert_eq!(write("/system/x", 1), Err(Errno::PermissionDenied));
        assert_eq!(write("/sdcard/../system/x", 1), Err(Errno::PermissionDenied));
        assert_eq!(write("/sdcard", 1), Err(Errno::IsDirectory));
        assert_eq!(write("/sdcard/big", 2 << 20), Err(Errno::NoSpace));
        write("/sdcard/file", 1).unwrap();
        assert_eq!(write("/sdcard/file/below", 1), Err(Errno::NotDirectory));
        assert_eq!(files.read("/nothing"), Err(Errno::NotFound));
        assert_eq!(files.list("/sdcard/file"), Err(Errno::NotDirectory));
        assert_eq!(files.stat(&"x".repeat(2000)), Err(Errno::NameTooLong));
    }

    #[test]
    fn a_file_replaced_or_removed_gives_its_room_back() {
        let files = files();
        let before = files.free_bytes();
        for _ in 0..100 {
            files.write("/sdcard/file", 0o644, 0, Bytes::from(vec![0; 100_000])).unwrap();
        }
        files.remove("/sdcard/file").unwrap();
        assert_eq!(files.free_bytes(), before);
        assert_eq!(files.remove("/sdcard/file"), Err(Errno::NotFound));
    }
}
