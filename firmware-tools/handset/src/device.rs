//! What a phone is to its adbd: something that runs commands, holds files and can restart.

use bytes::Bytes;

use crate::Stdin;

/// A phone. One value serves all connections.
pub trait Device: Send + Sync + 'static {
    /// The phone's files.
    type Files: FileSystem;

    /// Runs a command to its end. Dropped when the host closes the stream.
    fn run(&self, command: Command<'_>, stdin: &mut Stdin<'_>) -> impl Future<Output = Output> + Send;

    /// The files that push and pull see.
    fn files(&self) -> &Self::Files;

    /// Restarts; the connection is expected to end soon after.
    fn reboot(&self, target: RebootTarget<'_>);
}

/// How a command was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    /// One line for the shell, by `shell:` or `exec:`.
    Line(&'a str),
    /// A system service and its arguments, by `abb:` or `abb_exec:`; never empty.
    Service(&'a [&'a str]),
}

/// Where a restart leads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RebootTarget<'a> {
    /// Back into Android.
    Android,
    /// Elsewhere: `bootloader`, `recovery`, `sideload`.
    Other(&'a str),
}

/// What a command did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Output {
    /// Standard output.
    pub stdout: Vec<u8>,
    /// Standard error.
    pub stderr: Vec<u8>,
    /// Exit code, 0 for success.
    pub code: u8,
}

impl Output {
    /// Success with this on standard output.
    #[must_use]
    pub fn success(stdout: impl Into<Vec<u8>>) -> Self {
        Self { stdout: stdout.into(), stderr: Vec::new(), code: 0 }
    }

    /// Failure with this on standard error.
    #[must_use]
    pub fn failure(code: u8, stderr: impl Into<Vec<u8>>) -> Self {
        Self { stdout: Vec::new(), stderr: stderr.into(), code }
    }
}

/// Why a file operation failed, as the kernel numbers it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Errno {
    /// ENOENT.
    #[error("No such file or directory")]
    NotFound = 2,
    /// EACCES.
    #[error("Permission denied")]
    PermissionDenied = 13,
    /// ENOTDIR.
    #[error("Not a directory")]
    NotDirectory = 20,
    /// EISDIR.
    #[error("Is a directory")]
    IsDirectory = 21,
    /// EINVAL.
    #[error("Invalid argument")]
    Invalid = 22,
    /// ENOSPC.
    #[error("No space left on device")]
    NoSpace = 28,
    /// ENAMETOOLONG.
    #[error("File name too long")]
    NameTooLong = 36,
}

/// What is known of a file or folder.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stat {
    /// Type and permissions, as in `st_mode`.
    pub mode: u32,
    /// Bytes.
    pub size: u64,
    /// Seconds since 1970 of the last change.
    pub mtime: i64,
    /// A number that no other file has.
    pub inode: u64,
}

/// A name in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The name, without the path.
    pub name: String,
    /// What is known of it.
    pub stat: Stat,
}

/// The files of a phone. Paths are absolute; files are handed over whole.
pub trait FileSystem: Send + Sync {
    /// What is at `path`.
    ///
    /// # Errors
    /// As the kernel would.
    fn stat(&self, path: &str) -> Result<Stat, Errno>;

    /// What is in the folder at `path`, without `.` and `..`.
    ///
    /// # Errors
    /// As the kernel would.
    fn list(&self, path: &str) -> Result<Vec<Entry>, Errno>;

    /// The content of the file at `path`.
    ///
    /// # Errors
    /// As the kernel would.
    fn read(&self, path: &str) -> Result<Bytes, Errno>;

    /// Whether a file may be written at `path`: asked before its content comes.
    ///
    /// # Errors
    /// As the kernel would when the file is opened.
    fn writable(&self, path: &str) -> Result<(), Errno>;

    /// Makes or replaces the file at `path`, and the folders that lead to it.
    ///
    /// # Errors
    /// As the kernel would.
    fn write(&self, path: &str, mode: u32, mtime: i64, content: Bytes) -> Result<(), Errno>;

    /// Bytes that can still be written.
    fn free_bytes(&self) -> u64;
}
