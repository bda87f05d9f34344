//! The state directory: where the daemon keeps what it has promised, and who holds it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// The name of the file that is locked; it holds the pid of the daemon that holds the lock.
const LOCK_FILE: &str = "farmhand.lock";

/// A state directory that this process holds; given back when it is dropped, and by the kernel when the process dies.
#[derive(Debug)]
pub struct StateDir {
    dir: PathBuf,
    _lock: Flock<File>,
}

/// Why a state directory can't be used.
#[derive(Debug, thiserror::Error, miette::Diagnostic)]
pub enum StateDirError {
    /// Another farmhand runs on it.
    #[error("the state directory {} is held by another farmhand (pid {})", dir.display(), holder.as_deref().unwrap_or("unknown"))]
    #[diagnostic(
        code("state.held"),
        help("stop that one first (`systemctl stop farmhand`), or give this one a directory of its own: --state DIR")
    )]
    Held {
        /// The directory.
        dir: PathBuf,
        /// The pid that the holder wrote.
        holder: Option<String>,
    },
    /// It can't be made, opened or locked.
    #[error("the state directory {} can't be used", dir.display())]
    #[diagnostic(code("state.unusable"), help("farmhand must be able to write there; choose another with --state DIR"))]
    Unusable {
        /// The directory.
        dir: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl StateDir {
    /// Takes `dir` for this process, making it (for this user alone) if it is not there.
    ///
    /// # Errors
    /// [`StateDirError::Held`] while another process holds it, [`StateDirError::Unusable`] if the system refuses.
    pub fn lock(dir: &Path) -> Result<Self, StateDirError> {
        let unusable = |source| StateDirError::Unusable { dir: dir.to_owned(), source };
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(unusable)?;
        // Not truncated: until the lock is ours the pid in it belongs to the holder.
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(dir.join(LOCK_FILE))
            .map_err(unusable)?;
        let mut lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((mut file, Errno::EWOULDBLOCK)) => {
                return Err(StateDirError::Held { dir: dir.to_owned(), holder: read_pid(&mut file) });
            }
            Err((_, errno)) => return Err(unusable(errno.into())),
        };
        lock.set_len(0).and_then(|()| lock.rewind()).map_err(unusable)?;
        writeln!(lock, "{}", std::process::id()).map_err(unusable)?;
        Ok(Self { dir: dir.to_owned(), _lock: lock })
    }

    /// The directory.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.dir
    }
}

fn read_pid(file: &mut File) -> Option<String> {
    const PID_LEN_MAX: u64 = 20;
    let mut text = String::new();
    file.take(PID_LEN_MAX).read_to_string(&mut text).ok()?;
    let pid = text.trim();
    (!pid.is_empty()).then(|| pid.to_owned())
}
