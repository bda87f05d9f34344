//! A phone's files, kept in memory.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;

use crate::device::{Content, Entry, Errno, FileSystem, NewNode, RefusedPath, Stat};
use crate::limits;

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const LINK: u32 = 0o120_000;
const TYPE_MASK: u32 = 0o170_000;
const PERMISSIONS: u32 = 0o777;

/// Files and folders in memory, up to a number of bytes.
///
/// Only files below one of the writable folders can be written, as a shell user of a phone can write `/data/local/tmp` and
/// `/sdcard` but not `/system`.
#[derive(Debug)]
pub struct MemoryFiles {
    capacity_bytes: u64,
    writable: Mutex<Vec<String>>,
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
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Folder,
    /// In the pieces in which it came; in one piece once it was read.
    File(Content),
    Link(String),
}

impl Node {
    fn is_folder(&self) -> bool {
        matches!(self.kind, Kind::Folder)
    }
}

/// What one more file or folder costs, so that empty ones are not free.
const NODE_BYTES: u64 = 4096;

/// The longest name of a file or folder, in bytes (Linux: `NAME_MAX`).
const NAME_BYTES_MAX: usize = 255;

/// Links that are followed one after the other at most (Linux: `MAXSYMLINKS`).
const LINKS_MAX: usize = 40;

impl MemoryFiles {
    /// An empty file system of `capacity_bytes`, with the folders `writable` in it.
    #[must_use]
    pub fn new(capacity_bytes: u64, writable: &[&str]) -> Self {
        let files = Self {
            capacity_bytes,
            writable: Mutex::new(writable.iter().map(|&folder| folder.to_owned()).collect()),
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

    /// From now on files below `folder` can be written, as after a remount.
    pub fn allow(&self, folder: &str) {
        self.lock().make_folders(folder, 0);
        let mut writable = self.places();
        if !writable.iter().any(|there| there == folder) {
            writable.push(folder.to_owned());
        }
    }

    /// From now on files below `folder` can't be written, unless it is below one where they can.
    pub fn forbid(&self, folder: &str) {
        self.places().retain(|there| there != folder);
    }

    /// Removes a file or a link.
    ///
    /// # Errors
    /// As the kernel would.
    pub fn remove(&self, path: &str) -> Result<(), Errno> {
        let path = normal(path)?;
        let mut nodes = self.lock();
        let size = match nodes.by_path.get(&path) {
            None => return Err(Errno::NotFound),
            Some(node) if node.is_folder() => return Err(Errno::IsDirectory),
            Some(node) => node.stat.size,
        };
        self.check_place(&path)?;
        nodes.by_path.remove(&path);
        nodes.used_bytes -= size + NODE_BYTES;
        Ok(())
    }

    /// Removes a folder and all that is in it.
    ///
    /// # Errors
    /// As the kernel would.
    pub fn remove_all(&self, path: &str) -> Result<(), Errno> {
        let path = normal(path)?;
        self.check_place(&path)?;
        let mut nodes = self.lock();
        if !nodes.by_path.contains_key(&path) {
            return Err(Errno::NotFound);
        }
        let below = format!("{path}/");
        let Nodes { by_path, used_bytes, .. } = &mut *nodes;
        by_path.retain(|name, node| {
            let stays = *name != path && !name.starts_with(&below);
            if !stays {
                *used_bytes -= NODE_BYTES + if node.is_folder() { 0 } else { node.stat.size };
            }
            stays
        });
        Ok(())
    }

    /// Makes a folder, and those that lead to it.
    ///
    /// # Errors
    /// As the kernel would.
    pub fn make_folder(&self, path: &str, mtime: i64) -> Result<(), Errno> {
        let path = normal(path)?;
        self.check_place(&path)?;
        let mut nodes = self.lock();
        nodes.check_parents(&path)?;
        nodes.make_folders(&path, mtime);
        Ok(())
    }

    fn check_place(&self, path: &str) -> Result<(), Errno> {
        let inside = |folder: &String| path.strip_prefix(folder.as_str()).is_some_and(|rest| rest.starts_with('/'));
        if self.places().iter().any(inside) { Ok(()) } else { Err(Errno::PermissionDenied) }
    }

    fn places(&self) -> MutexGuard<'_, Vec<String>> {
        self.writable.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, Nodes> {
        self.nodes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Nodes {
    fn make_folder(&mut self, path: &str, mtime: i64) {
        self.next_inode += 1;
        self.used_bytes += NODE_BYTES;
        let stat = Stat { mode: DIRECTORY | 0o775, size: 4096, mtime, inode: self.next_inode };
        self.by_path.insert(path.to_owned(), Node { stat, kind: Kind::Folder });
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
        let in_the_way = |parent| self.by_path.get(parent).is_some_and(|node: &Node| !node.is_folder());
        if parents.into_iter().any(in_the_way) { Err(Errno::NotDirectory) } else { Ok(()) }
    }

    /// What is at `path`, with its path where no link is left.
    fn follow(&self, path: &str) -> Result<(String, &Node), Errno> {
        let mut path = normal(path)?;
        for _ in 0..LINKS_MAX {
            self.check_parents(&path)?;
            let node = self.by_path.get(&path).ok_or(Errno::NotFound)?;
            let Kind::Link(target) = &node.kind else { return Ok((path, node)) };
            let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
            path = normal(&if target.starts_with('/') { target.clone() } else { format!("{folder}/{target}") })?;
        }
        Err(Errno::Loop)
    }
}

impl FileSystem for MemoryFiles {
    fn stat(&self, path: &str) -> Result<Stat, Errno> {
        self.lock().follow(path).map(|(_, node)| node.stat)
    }

    fn lstat(&self, path: &str) -> Result<Stat, Errno> {
        let path = normal(path)?;
        let nodes = self.lock();
        nodes.check_parents(&path)?;
        nodes.by_path.get(&path).map(|node| node.stat).ok_or(Errno::NotFound)
    }

    fn list(&self, path: &str) -> Result<Vec<Entry>, Errno> {
        let nodes = self.lock();
        let (path, folder) = nodes.follow(path)?;
        if !folder.is_folder() {
            return Err(Errno::NotDirectory);
        }
        let parent = path.rsplit_once('/').map(|(parent, _)| if parent.is_empty() { "/" } else { parent });
        let parent = parent.and_then(|parent| nodes.by_path.get(parent)).unwrap_or(folder);
        let itself = [(".", folder), ("..", parent)];
        let prefix = if path == "/" { path } else { path + "/" };
        let below = nodes.by_path.range(prefix.clone()..).take_while(|(path, _)| path.starts_with(&prefix));
        let names = below.filter_map(|(path, node)| Some((path.strip_prefix(&prefix)?, node)));
        let direct = names.filter(|(name, _)| !name.is_empty() && !name.contains('/'));
        Ok(itself
            .into_iter()
            .chain(direct)
            .map(|(name, node)| Entry { name: name.to_owned(), stat: node.stat })
            .collect())
    }

    fn read(&self, path: &str) -> Result<Bytes, Errno> {
        let mut nodes = self.lock();
        let (path, _) = nodes.follow(path)?;
        match nodes.by_path.get_mut(&path).map(|node| &mut node.kind) {
            Some(Kind::File(content)) => {
                let joined = std::mem::take(content).joined();
                *content = Content::from(joined.clone());
                Ok(joined)
            }
            _ => Err(Errno::IsDirectory),
        }
    }

    fn writable(&self, path: &str) -> Result<(), RefusedPath> {
        if path.is_empty() {
            return Err(RefusedPath::Folders(Errno::NotFound));
        }
        let names_a_folder = path.ends_with('/');
        let path = normal(path).map_err(RefusedPath::Itself)?;
        let nodes = self.lock();
        if names_a_folder || nodes.by_path.get(&path).is_some_and(Node::is_folder) {
            return Err(RefusedPath::Itself(Errno::IsDirectory));
        }
        nodes.check_parents(&path).map_err(RefusedPath::Itself)?;
        if path.split('/').any(|name| name.len() > NAME_BYTES_MAX) {
            return Err(RefusedPath::Itself(Errno::NameTooLong));
        }
        let folder = path.rsplit_once('/').map_or("", |(folder, _)| folder);
        let there = folder.is_empty() || nodes.by_path.contains_key(folder);
        let refused = if there { RefusedPath::Itself } else { RefusedPath::Folders };
        self.check_place(&path).map_err(refused)
    }

    fn write(&self, path: &str, mode: u32, mtime: i64, node: NewNode) -> Result<(), Errno> {
        self.writable(path).map_err(|(RefusedPath::Folders(errno) | RefusedPath::Itself(errno))| errno)?;
        let path = normal(path)?;
        let mut nodes = self.lock();
        let freed = nodes.by_path.get(&path).map_or(0, |old| old.stat.size + NODE_BYTES);
        let (mode, size, kind) = match node {
            NewNode::File(content) => (REGULAR | mode & PERMISSIONS, content.len(), Kind::File(content)),
            NewNode::Link(target) => (LINK | 0o777, target.len() as u64, Kind::Link(target)),
        };
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
        let stat = Stat { mode, size, mtime, inode: nodes.next_inode };
        nodes.by_path.insert(path, Node { stat, kind });
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

    fn file(bytes: &'static [u8]) -> NewNode {
        NewNode::File(Content::from(Bytes::from_static(bytes)))
    }

    fn zeros(count: usize) -> NewNode {
        NewNode::File(Content::from(Bytes::from(vec![0; count])))
    }

    fn names(files: &MemoryFiles, path: &str) -> Vec<String> {
        files.list(path).unwrap().into_iter().map(|entry| entry.name).collect()
    }

    #[test]
    fn links_are_followed_or_told() {
        let files = files();
        files.write("/sdcard/a", 0o644, 7, file(b"hello")).unwrap();
        files.write("/sdcard/l", 0, 7, NewNode::Link("a".to_owned())).unwrap();
        files.write("/sdcard/m", 0, 7, NewNode::Link("/sdcard/l".to_owned())).unwrap();
        files.write("/sdcard/loop", 0, 7, NewNode::Link("loop".to_owned())).unwrap();
        assert_eq!(files.read("/sdcard/m").unwrap(), "hello");
        assert_eq!(files.stat("/sdcard/m").unwrap().mode, 0o100_644);
        assert_eq!(files.lstat("/sdcard/l").unwrap().mode, 0o120_777);
        assert_eq!(files.stat("/sdcard/loop"), Err(Errno::Loop));
    }

    #[test]
    fn a_folder_goes_with_all_that_is_in_it() {
        let files = files();
        let before = files.free_bytes();
        files.write("/sdcard/f/a", 0o644, 7, file(b"hello")).unwrap();
        files.write("/sdcard/f/g/b", 0o644, 7, file(b"hello")).unwrap();
        files.make_folder("/sdcard/f/h/i", 7).unwrap();
        files.remove_all("/sdcard/f").unwrap();
        assert_eq!((files.free_bytes(), files.remove_all("/sdcard/f")), (before, Err(Errno::NotFound)));
        assert_eq!(files.remove_all("/sdcard"), Err(Errno::PermissionDenied));
    }

    #[test]
    fn what_is_written_reads_back_and_is_listed() {
        let files = files();
        files.write("/sdcard/a/b.txt", 0o644, 7, file(b"hello")).unwrap();
        assert_eq!(files.read("//sdcard/./a/../a/b.txt").unwrap(), "hello");
        assert_eq!(names(&files, "/sdcard"), [".", "..", "a"]);
        assert!(files.stat("/sdcard/a").unwrap().is_directory());
        assert_eq!(files.stat("/sdcard/a/b.txt").unwrap().mode, 0o100_644);
        assert_eq!(names(&files, "/"), [".", "..", "data", "sdcard"]);
    }

    #[test]
    fn what_the_kernel_refuses_is_refused() {
        let files = files();
        let write = |path: &str, bytes: usize| files.write(path, 0o644, 0, zeros(bytes));
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
            files.write("/sdcard/file", 0o644, 0, zeros(100_000)).unwrap();
        }
        files.remove("/sdcard/file").unwrap();
        assert_eq!(files.free_bytes(), before);
        assert_eq!(files.remove("/sdcard/file"), Err(Errno::NotFound));
    }
}
