//! `farmhand phone A1 reboot`: the phone starts anew.

use clap::{Args, ValueEnum};

use super::link::Link;
use crate::adb::services::RebootTarget;
use crate::cli::Ending;
use crate::cli::failure::Failure;
use crate::phone::tools::wire::Work;

#[derive(Debug, Args)]
pub(super) struct Reboot {
    /// To where
    #[arg(value_enum, default_value_t = Target::System)]
    target: Target,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Target {
    /// Android
    System,
    /// The bootloader
    Bootloader,
    /// The recovery system
    Recovery,
    /// The recovery system, waiting for a package to be sideloaded
    Sideload,
}

impl Reboot {
    pub(super) fn carry_out(self, link: &mut Link) -> Result<Ending, Failure> {
        let target = match self.target {
            Target::System => RebootTarget::System,
            Target::Bootloader => RebootTarget::Bootloader,
            Target::Recovery => RebootTarget::Recovery,
            Target::Sideload => RebootTarget::Sideload,
        };
        link.have(Work::Reboot { target })?;
        Ok(Ending::Text(format!("{} restarts\n", link.phone())))
    }
}
