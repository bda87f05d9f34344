//! `farmhand phone A1 push f d`: files and folders to the phone.

use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use bytes::Bytes;
use clap::{Args, ValueEnum};

use super::link::{Link, frame};
use super::progress::Progress;
use crate::adb::services::sync::Compression;
use crate::cli::Ending;
use crate::cli::failure::Failure;
use crate::phone::tools::wire::{Answer, InlineFile, RemotePath, SMALL_FILE_MAX, Up, Work};

/// Small files are sent when so many bytes of them are gathered.
const GATHERED_LEN: usize = 256 << 10;
/// How much of standard input goes at once, in bytes.
const INPUT_LEN: usize = 256 << 10;
/// So deep a tree is taken for one that goes in circles.
const DEPTH_MAX: usize = 64;

#[derive(Debug, Args)]
pub(super) struct Push {
    /// Whether files are compressed on their way; `auto` looks at each
    #[arg(short = 'z', long, value_enum, default_value_t = Way::Auto)]
    compression: Way,
    /// Only send: the phone throws all of it away, and what is told is how fast the way to it is
    #[arg(short = 'n', long)]
    dry_run: bool,
    /// Files and folders of this host; `-` is standard input
    #[arg(required = true, value_name = "FROM")]
    from: Vec<PathBuf>,
    /// Where on the phone: a folder that is there (or ends in `/`), or the new name
    #[arg(value_name = "TO")]
    to: String,
}

/// Whether files are compressed on their way.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(super) enum Way {
    Auto,
    Lz4,
    None,
}

impl From<Way> for Compression {
    fn from(way: Way) -> Self {
        match way {
            Way::Auto => Self::Auto,
            Way::Lz4 => Self::Lz4,
            Way::None => Self::None,
        }
    }
}

/// What goes: first the small files back to back, then the large ones one by one.
#[derive(Default)]
struct Plan {
    small: Vec<(PathBuf, String, Metadata)>,
    large: Vec<(PathBuf, String, Metadata)>,
    bytes: u64,
    left_out: Vec<PathBuf>,
}

impl Push {
    pub(super) fn carry_out(self, link: &mut Link) -> Result<Ending, Failure> {
        let begun = Instant::now();
        let into_folder = self.from.len() > 1 || self.to.ends_with('/') || is_folder(link, &self.to)?;
        if let [from] = self.from.as_slice()
            && from == Path::new("-")
        {
            return self.push_input(link, into_folder);
        }
        let mut plan = Plan::default();
        for from in &self.from {
            let to = if into_folder { join(&self.to, &name_of(from)?) } else { self.to.clone() };
            plan.add(from, to, 0)?;
        }
        if self.dry_run {
            // The queue for small files knows no dry run.
            plan.large.append(&mut plan.small);
        }
        let what = self.from.first().map(|path| path.display().to_string()).unwrap_or_default();
        let progress = Progress::of(plan.bytes, &what);
        let mut sent = push_small(link, &plan.small, &progress)?;
        for (from, to, metadata) in &plan.large {
            let file = File::open(from).map_err(|error| failed(from, &error))?;
            let work =
                Work::Push { to: remote(to, metadata), compression: self.compression.into(), dry_run: self.dry_run };
            link.ask(work, &[file.as_fd()])?;
            link.answer(|bytes| progress.at(sent + bytes))?;
            sent += metadata.len();
        }
        drop(progress);
        Ok(Ending::Text(plan.tell(if self.dry_run { "sent, and kept nothing of," } else { "pushed" }, begun)))
    }

    fn push_input(self, link: &mut Link, into_folder: bool) -> Result<Ending, Failure> {
        if into_folder {
            let what = format!("standard input has no name, and {} is a folder", self.to);
            return Err(Failure::Usage { what, help: "give the name of the file on the phone" });
        }
        let to = RemotePath { path: self.to, mode: 0o644, mtime_s: now_s() };
        link.ask(Work::Push { to, compression: Compression::None, dry_run: self.dry_run }, &[])?;
        let progress = Progress::endless("standard input");
        let (mut chunk, mut sent) = (vec![0; INPUT_LEN], 0);
        loop {
            let len = io::stdin().read(&mut chunk).map_err(|error| failed(Path::new("-"), &error))?;
            if len == 0 {
                break;
            }
            link.send(&Up::Input(Bytes::copy_from_slice(chunk.get(..len).unwrap_or_default())))?;
            sent += len as u64;
            progress.at(sent);
        }
        link.send(&Up::EndOfInput)?;
        link.answer(|_| {})?;
        Ok(Ending::Status(0))
    }
}

impl Plan {
    fn add(&mut self, from: &Path, to: String, depth: usize) -> Result<(), Failure> {
        // Links are followed: what they mean on the phone is another matter.
        let metadata = fs::metadata(from).map_err(|error| failed(from, &error))?;
        if metadata.is_dir() {
            if depth == DEPTH_MAX {
                return Err(Failure::File { path: from.to_owned(), reason: format!("it is {DEPTH_MAX} folders deep") });
            }
            let entries = fs::read_dir(from).and_then(Iterator::collect::<io::Result<Vec<_>>>);
            let mut names: Vec<_> = entries.map_err(|error| failed(from, &error))?;
            names.sort_unstable_by_key(fs::DirEntry::file_name);
            for entry in names {
                self.add(&entry.path(), join(&to, &name_of(&entry.path())?), depth + 1)?;
            }
        } else if !metadata.is_file() {
            self.left_out.push(from.to_owned());
        } else {
            self.bytes += metadata.len();
            let kind = if metadata.len() <= SMALL_FILE_MAX as u64 { &mut self.small } else { &mut self.large };
            kind.push((from.to_owned(), to, metadata));
        }
        Ok(())
    }

    fn tell(&self, done: &str, begun: Instant) -> String {
        let mut text = told(done, self.small.len() + self.large.len(), self.bytes, begun);
        for path in &self.left_out {
            text += &format!("left out {}: it is neither file nor folder\n", path.display());
        }
        text
    }
}

/// `3 files, 12.3 MB in 1.2 s`, with what was done to them.
pub(super) fn told(done: &str, files: usize, bytes: u64, begun: Instant) -> String {
    let seconds = begun.elapsed().as_secs_f64();
    let megabytes = bytes as f64 / 1e6;
    let files = if files == 1 { "1 file".to_owned() } else { format!("{files} files") };
    format!("{done} {files}, {megabytes:.1} MB in {seconds:.2} s: {:.1} MB/s\n", megabytes / seconds)
}

/// Sends small files back to back, and gives how many bytes they had.
fn push_small(link: &mut Link, files: &[(PathBuf, String, Metadata)], progress: &Progress) -> Result<u64, Failure> {
    if let [(from, to, metadata)] = files {
        // One alone needs no queue, and may be handed over open.
        let file = File::open(from).map_err(|error| failed(from, &error))?;
        link.ask(
            Work::Push { to: remote(to, metadata), compression: Compression::None, dry_run: false },
            &[file.as_fd()],
        )?;
        link.answer(|_| {})?;
        return Ok(metadata.len());
    }
    if files.is_empty() {
        return Ok(0);
    }
    link.ask(Work::PushMany, &[])?;
    let (mut gathered, mut total) = (Vec::new(), 0);
    for (from, to, metadata) in files {
        let content = read_small(from)?;
        total += content.len() as u64;
        gathered.extend_from_slice(&frame(&Up::File(InlineFile { to: remote(to, metadata), content })));
        if gathered.len() >= GATHERED_LEN {
            link.send_bytes(&gathered)?;
            gathered.clear();
        }
    }
    gathered.extend_from_slice(&frame(&Up::EndOfInput));
    link.send_bytes(&gathered)?;
    match link.answer(|bytes| progress.at(bytes))? {
        Answer::Files { count } if count == files.len() as u64 => Ok(total),
        answer => Err(link.misunderstood(&answer)),
    }
}

/// A file that was small when it was looked at.
fn read_small(path: &Path) -> Result<Bytes, Failure> {
    let content = fs::read(path).map_err(|error| failed(path, &error))?;
    if content.len() > SMALL_FILE_MAX {
        return Err(Failure::File { path: path.to_owned(), reason: "it grows while it is read".to_owned() });
    }
    Ok(content.into())
}

fn remote(to: &str, metadata: &Metadata) -> RemotePath {
    let mtime_s = u32::try_from(metadata.mtime()).unwrap_or_default();
    RemotePath { path: to.to_owned(), mode: metadata.mode() & 0o777, mtime_s }
}

/// Whether a folder is there on the phone.
pub(super) fn is_folder(link: &mut Link, path: &str) -> Result<bool, Failure> {
    match link.have(Work::Stat { path: path.to_owned() })? {
        Answer::Stat { stat } => Ok(stat.is_some_and(|stat| stat.is_folder())),
        answer => Err(link.misunderstood(&answer)),
    }
}

/// The last part of a path of this host.
fn name_of(path: &Path) -> Result<String, Failure> {
    let name = path.file_name().map(ToOwned::to_owned).or_else(|| {
        // `.` and `a/..` have a name where they really are.
        fs::canonicalize(path).ok()?.file_name().map(ToOwned::to_owned)
    });
    let name = name.and_then(|name| name.into_string().ok());
    name.ok_or_else(|| Failure::File {
        path: path.to_owned(),
        reason: "it has no name that a phone would take".to_owned(),
    })
}

fn join(folder: &str, name: &str) -> String {
    format!("{}/{name}", folder.trim_end_matches('/'))
}

fn now_s() -> u32 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u32::try_from(now.as_secs()).unwrap_or(u32::MAX)
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::File { path: path.to_owned(), reason: error.to_string() }
}
