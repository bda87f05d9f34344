//! `farmhand phone A1 screenshot`: what is on its screen, as a PNG.

use std::fs::OpenOptions;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use clap::Args;

use super::link::{Link, Said};
use super::progress::Progress;
use crate::cli::Ending;
use crate::cli::failure::Failure;
use crate::phone::tools::wire::Work;

/// So many pictures of one phone get a name of their own in a folder.
const NAMES_MAX: u32 = 10_000;

#[derive(Debug, Args)]
pub(super) struct Screenshot {
    /// The file; `-` is standard output. By default a new one in this folder, named after the phone
    file: Option<PathBuf>,
}

impl Screenshot {
    pub(super) fn carry_out(self, link: &mut Link) -> Result<Ending, Failure> {
        link.ask(Work::Screenshot, &[])?;
        let progress = Progress::endless("the phone packs its screen");
        let mut picture = Vec::new();
        loop {
            match link.next()? {
                Said::Output(bytes) => {
                    picture.extend_from_slice(&bytes);
                    progress.at(picture.len() as u64);
                }
                Said::Answer(_) => break,
                Said::Errors(_) | Said::Progress(_) => {}
            }
        }
        drop(progress);
        if self.file.as_deref() == Some(Path::new("-")) {
            io::stdout().lock().write_all(&picture).map_err(Failure::Runtime)?;
            return Ok(Ending::Status(0));
        }
        let path = match self.file {
            Some(path) => std::fs::write(&path, &picture).map(|()| path.clone()).map_err(|error| failed(&path, &error)),
            None => write_new(link.phone(), &picture),
        }?;
        Ok(Ending::Text(format!("{}\n", path.display())))
    }
}

/// Writes a file of a name that is not there yet.
fn write_new(phone: &str, picture: &[u8]) -> Result<PathBuf, Failure> {
    let plain = |c: char| if c.is_ascii_alphanumeric() || "-_.".contains(c) { c } else { '_' };
    let phone: String = phone.chars().map(plain).collect();
    for n in 1..NAMES_MAX {
        let path = PathBuf::from(if n == 1 { format!("{phone}.png") } else { format!("{phone}-{n}.png") });
        let created = OpenOptions::new().write(true).create_new(true).open(&path);
        match created.and_then(|mut file| file.write_all(picture)) {
            Ok(()) => return Ok(path),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(failed(&path, &error)),
        }
    }
    let path = PathBuf::from(format!("{phone}.png"));
    Err(Failure::File { path, reason: format!("there are {NAMES_MAX} pictures already: name a file") })
}

fn failed(path: &Path, error: &io::Error) -> Failure {
    Failure::File { path: path.to_owned(), reason: error.to_string() }
}
