//! `rackbench apk app.apk`: what a package manager knows of an APK by its bytes, a line each, for the USB testbed's own.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::path::PathBuf;

use miette::{IntoDiagnostic as _, Result, miette};

use super::say;
use crate::phone::apk_facts;

/// How much is read at once.
const CHUNK_LEN: usize = 1 << 20;

/// What Android knows of an APK by its bytes: package, version, split, signer
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    /// The APK
    file: PathBuf,
    /// Write the file first, from so many bytes of the standard input
    #[arg(long, value_name = "BYTES")]
    from_stdin: Option<u64>,
}

impl Args {
    pub(super) fn run(self) -> Result<()> {
        if let Some(size) = self.from_stdin {
            self.receive(size)?;
        }
        let content = fs::read(&self.file).into_diagnostic()?;
        match apk_facts(content.into()) {
            Ok(facts) => say(format_args!("{}", facts.trim_end())),
            Err(reason) => {
                say(format_args!("{reason}"))?;
                Err(miette!("{}: {reason}", self.file.display()))
            }
        }
    }

    /// Takes exactly so many bytes: behind them the host waits for the answer, and ends nothing.
    fn receive(&self, size: u64) -> Result<()> {
        let mut file = File::create(&self.file).into_diagnostic()?;
        let (mut stdin, mut chunk, mut left) = (std::io::stdin().lock(), vec![0; CHUNK_LEN], size);
        while left > 0 {
            let room = usize::try_from(left).unwrap_or(CHUNK_LEN).min(CHUNK_LEN);
            let read = stdin.read(chunk.get_mut(..room).unwrap_or_default()).into_diagnostic()?;
            if read == 0 {
                return Err(miette!("{left} of {size} bytes did not come"));
            }
            file.write_all(chunk.get(..read).unwrap_or_default()).into_diagnostic()?;
            left -= read as u64;
        }
        Ok(())
    }
}
