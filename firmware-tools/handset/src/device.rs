//! What a phone is to its adbd: something that runs commands, holds files and can restart.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::net::{TcpListener, TcpStream};

use crate::Console;

/// A phone. One value serves all connections.
pub trait Device: Send + Sync + 'static {
    /// The phone's files.
    type Files: FileSystem;

    /// Runs a command to its end. Dropped when the host closes the stream.
    fn run(&self, command: Command<'_>, console: &mut Console<'_>) -> impl Future<Output = Output> + Send;

    /// The files that push and pull see.
    fn files(&self) -> &Self::Files;

    /// Restarts; the connection is expected to end soon after.
    ///
    /// # Errors
    /// Why it does not, in adbd's words.
    fn reboot(&self, target: RebootTarget<'_>) -> Result<(), String>;

    /// What adbd answers when it is to run otherwise, and whether it restarts for it. As a phone that was sold to a user.
    fn adbd(&self, wanted: Adbd) -> AdbdAnswer {
        match wanted {
            Adbd::Root => AdbdAnswer::stays("adbd cannot run as root in production builds\n"),
            Adbd::NoRoot => AdbdAnswer::stays("adbd not running as root\n"),
            Adbd::Tcp { port: port @ ..=0 } => AdbdAnswer::stays(format!("invalid port {port}\n")),
            Adbd::Tcp { port } => AdbdAnswer::restarts(format!("restarting in TCP mode port: {port}\n")),
            Adbd::Usb => AdbdAnswer::restarts("restarting in USB mode\n"),
        }
    }

    /// Lets the system's folders be written to, and what is said about it. As a phone that was sold to a user.
    fn remount(&self) -> String {
        "Not running as root. Try \"adb root\" first.\n".to_owned()
    }

    /// Listens on a TCP port of the phone, for a reverse tunnel; with port 0 on any.
    fn listen(&self, port: u16) -> impl Future<Output = io::Result<TcpListener>> + Send {
        TcpListener::bind((Ipv4Addr::LOCALHOST, port))
    }

    /// Connects to a TCP port of the phone.
    fn connect(&self, port: u16) -> impl Future<Output = io::Result<TcpStream>> + Send {
        TcpStream::connect((Ipv4Addr::LOCALHOST, port))
    }

    /// A reverse tunnel is kept from now on, or no more: whoever connects to it comes to the host.
    fn tunnel(&self, _change: TunnelChange<'_>) {}
}

/// How adbd is to run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adbd {
    /// `root:`
    Root,
    /// `unroot:`
    NoRoot,
    /// `tcpip:`
    Tcp {
        /// Where it listens: any number that was asked for.
        port: i32,
    },
    /// `usb:`
    Usb,
}

/// What adbd says to that.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdbdAnswer {
    /// A sentence for a person.
    pub sentence: String,
    /// What happens after it was said.
    pub then: AdbdThen,
}

/// What adbd does after it answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AdbdThen {
    /// It goes on.
    Stay,
    /// It starts again: the connection ends.
    Restart,
}

impl AdbdAnswer {
    /// Says so and goes on.
    #[must_use]
    pub fn stays(sentence: impl Into<String>) -> Self {
        Self { sentence: sentence.into(), then: AdbdThen::Stay }
    }

    /// Says so and ends the connection.
    #[must_use]
    pub fn restarts(sentence: impl Into<String>) -> Self {
        Self { sentence: sentence.into(), then: AdbdThen::Restart }
    }
}

/// What becomes of a reverse tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TunnelChange<'a> {
    /// Whoever connects to `address` comes to `remote` at the host.
    Kept {
        /// The endpoint on the phone, as it was asked for, such as `tcp:7001`.
        local: &'a str,
        /// Where that is.
        address: SocketAddr,
        /// The endpoint at the host, such as `tcp:7100`.
        remote: &'a str,
    },
    /// The host took it back, or is gone.
    Released {
        /// The endpoint on the phone.
        local: &'a str,
    },
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
    /// Elsewhere: `bootloader`, `recovery`, `sideload`. Into the last one only root may send a phone.
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
    /// EIO.
    #[error("I/O error")]
    Io = 5,
    /// EACCES.
    #[error("Permission denied")]
    PermissionDenied = 13,
    /// EEXIST.
    #[error("File exists")]
    Exists = 17,
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
    /// EROFS.
    #[error("Read-only file system")]
    ReadOnly = 30,
    /// ENAMETOOLONG.
    #[error("File name too long")]
    NameTooLong = 36,
    /// ELOOP.
    #[error("Too many symbolic links encountered")]
    Loop = 40,
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

/// A file's bytes, in the pieces in which they came.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Content {
    pieces: Vec<Bytes>,
    bytes: u64,
}

impl Content {
    /// Pieces smaller than this are copied together, so that none keeps a large buffer alive.
    const PIECE_BYTES_MIN: usize = 16 * 1024;

    /// Bytes in all.
    #[must_use]
    pub fn len(&self) -> u64 {
        self.bytes
    }

    /// Whether there is nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes == 0
    }

    /// Adds bytes at the end.
    pub fn push(&mut self, piece: Bytes) {
        self.bytes += piece.len() as u64;
        match self.pieces.pop() {
            Some(last) if last.len() < Self::PIECE_BYTES_MIN => {
                let mut together = BytesMut::from(last);
                together.extend_from_slice(&piece);
                self.pieces.push(together.freeze());
            }
            last => {
                self.pieces.extend(last);
                self.pieces.push(piece);
            }
        }
    }

    /// All bytes in one piece.
    #[must_use]
    pub fn joined(mut self) -> Bytes {
        match self.pieces.len() {
            0 => Bytes::new(),
            1 => self.pieces.pop().unwrap_or_default(),
            _ => self.pieces.concat().into(),
        }
    }

    /// The pieces, one after the other.
    pub fn pieces(&self) -> impl Iterator<Item = &Bytes> {
        self.pieces.iter()
    }
}

impl From<Bytes> for Content {
    fn from(bytes: Bytes) -> Self {
        Self { bytes: bytes.len() as u64, pieces: vec![bytes] }
    }
}

/// What a new node is to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NewNode {
    /// A file with these bytes.
    File(Content),
    /// A symbolic link to this path.
    Link(String),
}

/// The files of a phone. Paths are absolute; files are handed over whole.
pub trait FileSystem: Send + Sync {
    /// What is at `path`, links followed.
    ///
    /// # Errors
    /// As the kernel would.
    fn stat(&self, path: &str) -> Result<Stat, Errno>;

    /// What is at `path`: of a link, the link itself.
    ///
    /// # Errors
    /// As the kernel would.
    fn lstat(&self, path: &str) -> Result<Stat, Errno>;

    /// What is in the folder at `path`, with `.` and `..`.
    ///
    /// # Errors
    /// As the kernel would.
    fn list(&self, path: &str) -> Result<Vec<Entry>, Errno>;

    /// The content of the file at `path`.
    ///
    /// # Errors
    /// As the kernel would.
    fn read(&self, path: &str) -> Result<Bytes, Errno>;

    /// Whether a file may be made at `path`: asked before its content comes.
    ///
    /// # Errors
    /// As the kernel would when the file is opened.
    fn writable(&self, path: &str) -> Result<(), RefusedPath>;

    /// Makes or replaces what is at `path`, and the folders that lead to it.
    ///
    /// # Errors
    /// As the kernel would.
    fn write(&self, path: &str, mode: u32, mtime: i64, node: NewNode) -> Result<(), Errno>;

    /// Bytes that can still be written.
    fn free_bytes(&self) -> u64;

    /// How long the storage needs for so many bytes.
    fn time_for(&self, _bytes: u64) -> Duration {
        Duration::ZERO
    }
}

/// Why nothing can be made at a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefusedPath {
    /// The folders that lead to it can't be made.
    #[error("secure_mkdirs failed: {0}")]
    Folders(Errno),
    /// It can't be made itself.
    #[error("couldn't create file: {0}")]
    Itself(Errno),
}
