//! `farmhand phone A1 pull f d`: files and folders from the phone.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::fd::AsFd as _;
use std::path::{Path, PathBuf};
use std::time::Instant;

use clap::Args;

use super::link::{Link, Said};
use super::progress::Progress;
use super::push::{Way, told};
use crate::adb::services::sync::{FileStat, FolderEntry};
use crate::cli::Ending;
use crate::cli::failure::Failure;
use crate::phone::tools::wire::{Answer, Work, parse_entries};

/// So deep a tree is taken for one that goes in circles.
const DEPTH_MAX: usize = 64;

#[derive(Debug, Args)]
pub(super) struct Pull {
    /// Whether the phone compresses files on their way; `auto` is `none`, since nobody has looked at them
    #[arg(short = 'z', long, value_enum, default_value_t = Way::Auto)]
    compression: Way,
    /// A file or a folder of the phone
    #[arg(value_name = "FROM")]
    from: String,
    /// Where on this host: a folder that is there, or the new name; `-` is standard output
    #[arg(value_name = "TO", default_value = ".")]
    to: PathBuf,
}

#[derive(Default)]
struct Plan {
    files: Vec<(String, PathBuf, u64)>,
    folders: Vec<PathBuf>,
    left_out: Vec<String>,
}

impl Pull {
    pub(super) fn carry_out(self, link: &mut Link) -> Result<Ending, Failure> {
        let begun = Instant::now();
        if self.to == Path::new("-") {
            return self.print(link);
        }
        let stat = stat(link, &self.from)?;
        let name = self.from.trim_end_matches('/').rsplit('/').next().unwrap_or_default();
        let to = if self.to.is_dir() && !name.is_empty() { self.to.join(name) } else { self.to.clone() };
        let mut plan = Plan::default();
        plan.add(link, &self.from, to, stat, 0)?;
        for folder in &plan.folders {
            fs::create_dir_all(folder).map_err(|error| failed(folder, &error))?;
        }
        let total = plan.files.iter().map(|(.., size)| size).sum();
        let progress = Progress::of(total, &self.from);
        let mut came = 0;
        for (from, to, _) in &plan.files {
            came += self.pull_file(link, from, to, |bytes| progress.at(came + bytes))?;
        }
        drop(progress);
        let mut text = told("pulled", plan.files.len(), came, begun);
        for path in &plan.left_out {
            text += &format!("left out {path}: it is neither file nor folder\n");
        }
        Ok(Ending::Text(text))
    }

    /// Under another name until it is whole: half a file is never taken for one.
    fn pull_file(&self, link: &mut Link, from: &str, to: &Path, progress: impl FnMut(u64)) -> Result<u64, Failure> {
        let (path, file) = part_of(to)?;
        let work = Work::Pull { path: from.to_owned(), compression: self.compression.into() };
        let pulled = link.ask(work, &[file.as_fd()]).and_then(|()| link.answer(progress));
        let whole = match pulled {
            Ok(Answer::Bytes { len }) => fs::rename(&path, to).map(|()| len).map_err(|error| failed(to, &error)),
            Ok(answer) => Err(link.misunderstood(&answer)),
            Err(failure) => Err(failure),
        };
        if whole.is_err() {
            // What is said is why there is no file.
            let _ = fs::remove_file(&path);
        }
        whole
    }

    fn print(self, link: &mut Link) -> Result<Ending, Failure> {
        link.ask(Work::Pull { path: self.from, compression: self.compression.into() }, &[])?;
        let mut out = io::stdout().lock();
        loop {
            match link.next()? {
                Said::Output(bytes) => match out.write_all(&bytes) {
                    Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(Ending::Status(0)),
                    written => written.map_err(Failure::Runtime)?,
                },
                Said::Answer(_) => return out.flush().map(|()| Ending::Status(0)).map_err(Failure::Runtime),
                Said::Errors(_) | Said::Progress(_) => {}
            }
        }
    }
}

impl Plan {
    fn add(
        &mut self,
        link: &mut Link,
        from: &str,
        to: PathBuf,
        stat: Option<FileStat>,
        depth: usize,
    ) -> Result<(), Failure> {
        match stat {
            Some(stat) if stat.is_folder() && depth < DEPTH_MAX => {
                self.folders.push(to.clone());
                for entry in entries(link, from)? {
                    let below = format!("{}/{}", from.trim_end_matches('/'), entry.name);
                    self.add(link, &below, to.join(&entry.name), entry.stat, depth + 1)?;
                }
            }
            Some(stat) if stat.is_file() => self.files.push((from.to_owned(), to, stat.size)),
            // What was named is asked for, whatever it is: the phone says why it can't be read.
            _ if depth == 0 => self.files.push((from.to_owned(), to, 0)),
            _ => self.left_out.push(from.to_owned()),
        }
        Ok(())
    }
}

fn stat(link: &mut Link, path: &str) -> Result<Option<FileStat>, Failure> {
    match link.have(Work::Stat { path: path.to_owned() })? {
        Answer::Stat { stat } => Ok(stat),
        answer => Err(link.misunderstood(&answer)),
    }
}

fn entries(link: &mut Link, path: &str) -> Result<Vec<FolderEntry>, Failure> {
    link.ask(Work::List { path: path.to_owned() }, &[])?;
    let mut all = Vec::new();
    loop {
        match link.next()? {
            Said::Output(bytes) => all.extend(parse_entries(&bytes).map_err(|error| link.broken_off(error))?),
            Said::Answer(_) => return Ok(all),
            Said::Errors(_) | Said::Progress(_) => {}
        }
    }
}

/// A new file beside `to`, for what comes.
fn part_of(to: &Path) -> Result<(PathBuf, File), Failure> {
    let name = to.file_name().unwrap_or_default().to_string_lossy();
    let path = to.with_file_name(format!(".{name}.{}.part", std::process::id()));
    let file = OpenOptions::new().write(true).create(true).truncate(true).open(&path);
    file.map(|file| (path, file)).map_err(|error| failed(to, &error))
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::File { path: path.to_owned(), reason: error.to_string() }
}
