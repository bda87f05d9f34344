//! `farmhand phone A1 install app.apk`: an app, or a base and its splits, on one phone.

use std::fs::File;
use std::os::fd::AsFd as _;
use std::path::PathBuf;

use clap::Args;

use super::link::Link;
use super::progress::Progress;
use crate::adb::services::install::InstallFlag;
use crate::cli::Ending;
use crate::cli::failure::Failure;
use crate::phone::tools::wire::{FILES_MAX, Work};

#[derive(Debug, Args)]
pub(super) struct Install {
    /// The APK; of an app in several APKs all of them
    #[arg(required = true, value_name = "APK", num_args = 1..=FILES_MAX)]
    apks: Vec<PathBuf>,
    /// Let it replace a newer version, where the phone allows that
    #[arg(short, long)]
    downgrade: bool,
    /// Let it be an app that is marked as a test
    #[arg(short, long)]
    test_only: bool,
    /// Grant it all its permissions
    #[arg(short, long)]
    grant: bool,
    /// For this user of the phone only
    #[arg(short, long, value_name = "NUMBER")]
    user: Option<u32>,
}

impl Install {
    pub(super) fn carry_out(self, link: &mut Link) -> Result<Ending, Failure> {
        let (mut files, mut total) = (Vec::new(), 0);
        for path in &self.apks {
            let failed = |reason: String| Failure::File { path: path.clone(), reason };
            let file = File::open(path).map_err(|error| failed(error.to_string()))?;
            let metadata = file.metadata().map_err(|error| failed(error.to_string()))?;
            if !metadata.is_file() {
                return Err(failed("it is no file".to_owned()));
            }
            total += metadata.len();
            files.push(file);
        }
        let name = |path: &PathBuf| path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let names: Vec<String> = self.apks.iter().map(name).collect();
        let progress = Progress::of(total, names.first().map_or("", String::as_str));
        let work = Work::Install { names, flags: self.flags(), user: self.user };
        let open: Vec<_> = files.iter().map(|file| file.as_fd()).collect();
        link.ask(work, &open)?;
        link.answer(|bytes| {
            progress.at(bytes);
            if bytes == total {
                progress.waits("the phone installs it");
            }
        })?;
        Ok(Ending::Text(format!("installed on {}\n", link.phone())))
    }

    fn flags(&self) -> Vec<InstallFlag> {
        let given = [
            (self.downgrade, InstallFlag::Downgrade),
            (self.test_only, InstallFlag::TestOnly),
            (self.grant, InstallFlag::GrantPermissions),
        ];
        given.into_iter().filter_map(|(given, flag)| given.then_some(flag)).collect()
    }
}
