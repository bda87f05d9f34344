//! Where keys are kept, and whose they are: files of the state directory belong to its owner, whoever wrote them.
//!
//! A person imports as root what a daemon under another user shall read. That user may do with the directory what he likes, so that
//! root follows none of his links: a file is made anew under a name of its own, and the folder is held open while it is written to.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use nix::unistd::{Uid, User, geteuid};

use super::{IMPORTED_DIR, KEY_FILE, KeyError, at};

/// Who else may read a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Readers {
    /// Nobody but its owner.
    Owner,
    /// Everybody who reaches it.
    All,
}

/// Whom a state directory belongs to: the daemon's user.
#[derive(Debug)]
pub(super) struct Holder {
    uid: u32,
    gid: u32,
}

impl Holder {
    pub(super) fn of(dir: &Path) -> Result<Self, KeyError> {
        let metadata = fs::metadata(dir).map_err(at(dir))?;
        Ok(Self { uid: metadata.uid(), gid: metadata.gid() })
    }

    fn name(&self) -> Option<String> {
        Some(user(self.uid)?.name)
    }

    /// `user@host`, as a handset shows it to its user.
    pub(super) fn label(&self) -> String {
        let host = sysinfo::System::host_name();
        format!("{}@{}", self.name().as_deref().unwrap_or("farmhand"), host.as_deref().unwrap_or("localhost"))
    }

    /// The key of Google's adb that the daemon finds: its home is this process's, if it runs as the same user.
    pub(super) fn google_key(&self) -> Option<PathBuf> {
        if geteuid().as_raw() == self.uid { google_key() } else { google_key_of(&self.name()?) }
    }

    /// Whether the daemon's user may read the file, as far as its mode says.
    pub(super) fn check_readable(&self, path: &Path) -> Result<(), KeyError> {
        let metadata = fs::metadata(path).map_err(at(path))?;
        let bit = if metadata.uid() == self.uid {
            0o400
        } else if metadata.gid() == self.gid {
            0o040
        } else {
            0o004
        };
        if self.uid == 0 || metadata.mode() & bit != 0 {
            return Ok(());
        }
        let user = self.name().unwrap_or_else(|| self.uid.to_string());
        Err(KeyError::Foreign { path: path.to_owned(), user })
    }

    /// Opens a folder in the state directory, or makes it.
    pub(super) fn folder(&self, path: &Path) -> Result<Folder, KeyError> {
        let made = match DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
            Err(error) => return Err(at(path)(error)),
        };
        let flags = (OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW).bits();
        let opened = OpenOptions::new().read(true).custom_flags(flags).open(path).map_err(at(path))?;
        if made {
            self.take(&opened).map_err(at(path))?;
        }
        Ok(Folder(opened))
    }

    /// Writes a file, new or in the place of another one.
    pub(super) fn write(&self, path: &Path, text: &str, readers: Readers) -> io::Result<()> {
        // Under another name first: a key cut short by a power cut would be refused for ever.
        let mut new = path.as_os_str().to_owned();
        new.push(".new");
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mode = if readers == Readers::Owner { 0o600 } else { 0o644 };
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new)?;
        let written = file
            .write_all(text.as_bytes())
            .and_then(|()| self.take(&file))
            .and_then(|()| file.sync_all())
            .and_then(|()| fs::rename(&new, path));
        written.inspect_err(|_| drop(fs::remove_file(&new)))
    }

    /// Gives the daemon's user what this process made.
    fn take(&self, made: &File) -> io::Result<()> {
        if made.metadata()?.uid() == self.uid {
            return Ok(());
        }
        fchown(made, Some(self.uid), Some(self.gid))
    }
}

/// A folder that is held open, so that nobody puts another one in its place.
#[derive(Debug)]
pub(super) struct Folder(File);

impl Folder {
    /// The path of a file in it, as long as it is held.
    pub(super) fn file(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd())).join(name)
    }
}

/// The files of imported keys, in the order of their names.
pub(super) fn imported(dir: &Path) -> Result<Vec<PathBuf>, KeyError> {
    let folder = dir.join(IMPORTED_DIR);
    let entries = match fs::read_dir(&folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(at(&folder))?,
    };
    let is_key =
        |path: &PathBuf| path.is_file() && path.file_name().is_some_and(|name| is_key_name(&name.to_string_lossy()));
    let mut files: Vec<_> = entries.flatten().map(|entry| entry.path()).filter(is_key).collect();
    files.sort_unstable();
    Ok(files)
}

/// Whether a file of this name is taken for a private key.
pub(super) fn is_key_name(name: &str) -> bool {
    !name.is_empty()
        && !name.starts_with('.')
        && !name.contains('/')
        && !name.ends_with(".pub")
        && !name.ends_with(".new")
}

/// The key of Google's adb, if this user has one.
#[must_use]
pub fn google_key() -> Option<PathBuf> {
    in_home(&PathBuf::from(std::env::var_os("HOME")?))
}

/// The key of Google's adb, if the user of this name has one.
#[must_use]
pub fn google_key_of(user: &str) -> Option<PathBuf> {
    in_home(&User::from_name(user).ok()??.dir)
}

fn in_home(home: &Path) -> Option<PathBuf> {
    let path = home.join(".android").join(KEY_FILE);
    path.is_file().then_some(path)
}

fn user(uid: u32) -> Option<User> {
    User::from_uid(Uid::from_raw(uid)).ok().flatten()
}
