//! `farmhand phone A1 identify`: which of them is it?

use clap::Args;

use super::link::Link;
use crate::cli::Ending;
use crate::cli::failure::Failure;
use crate::phone::tools::wire::{Answer, Work};

#[derive(Debug, Args)]
pub(super) struct Identify {}

impl Identify {
    pub(super) fn carry_out(self, link: &mut Link) -> Result<Ending, Failure> {
        let answer = link.have(Work::Identify)?;
        let Answer::Shown { screen, vibration } = answer else { return Err(link.misunderstood(&answer)) };
        let how = match (screen, vibration) {
            (true, true) => "has lit its screen and vibrated",
            (true, false) => "has lit its screen; it can't vibrate",
            (false, _) => "has vibrated; its screen could not be lit",
        };
        Ok(Ending::Text(format!("{} {how}\n", link.phone())))
    }
}
