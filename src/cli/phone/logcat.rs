//! `farmhand phone A1 logcat …`: the phone's log as it is written, until Ctrl-C.

use clap::Args;

use super::link::Link;
use super::shell::{Input, run};
use crate::adb::services::shell::ShellMode;
use crate::cli::Ending;
use crate::cli::failure::Failure;

#[derive(Debug, Args)]
pub(super) struct Logcat {
    /// Arguments of the phone's own logcat, such as `-d` or `*:W`
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

impl Logcat {
    pub(super) fn carry_out(self, link: &mut Link) -> Result<Ending, Failure> {
        let quoted = self.arguments.iter().map(|argument| format!(" {}", quote(argument)));
        run(link, format!("logcat{}", quoted.collect::<String>()), ShellMode::Raw, Input::None)
    }
}

/// One word for the phone's shell, whatever is in it.
fn quote(argument: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_=./:,".contains(c);
    if !argument.is_empty() && argument.chars().all(plain) {
        return argument.to_owned();
    }
    format!("'{}'", argument.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_stays_one() {
        assert_eq!(quote("-d"), "-d");
        assert_eq!(quote("*:W"), "'*:W'");
        assert_eq!(quote("it's"), r"'it'\''s'");
        assert_eq!(quote(""), "''");
    }
}
