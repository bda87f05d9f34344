//! Google's adb in the guest: 29 as Debian 12 has it, 34 as Debian 13.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::check::{Failure, until};

/// From the start of a server until it has its phones, in emulation.
const UP_MAX: Duration = Duration::from_secs(60);

/// What a server sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Buses {
    One(usize),
    All,
}

/// A running server; it is killed when this is dropped.
pub(crate) struct Adb {
    pub(crate) name: &'static str,
    program: &'static str,
    port: &'static str,
    server: Child,
}

impl Adb {
    /// Starts `adb29` or `adb34`, and waits until it answers for the phone with this serial.
    pub(crate) fn start(name: &'static str, buses: Buses, serial: &str) -> Result<Self, Failure> {
        let (program, port) = if name == "adb29" { ("/bin/adb29", "5038") } else { ("/bin/adb34", "5039") };
        let buses = match buses {
            Buses::One(bus) => bus.to_string(),
            Buses::All => "all".to_owned(),
        };
        let mut server = Command::new("unshare");
        server.args(["-m", "/adb-server", program, port, &buses]);
        let server = server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        let adb = Self { name, program, port, server };
        until(&format!("{name} has {serial}"), UP_MAX, || {
            let output = adb.command(serial, &["shell", "true"]).output()?;
            if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into()) }
        })?;
        Ok(adb)
    }

    /// Its command line, to be run.
    pub(crate) fn command(&self, serial: &str, words: &[&str]) -> Command {
        let mut command = Command::new(self.program);
        command.args(["-P", self.port, "-s", serial]).args(words).stdin(Stdio::null());
        command
    }

    /// Its command line up to the phone, as words for a shell.
    pub(crate) fn words(&self) -> String {
        format!("{} -P {}", self.program, self.port)
    }

    /// As the race is told of it.
    pub(crate) fn contender(&self, serial: &str) -> String {
        format!("{}={},{},{serial},{}", self.name, self.program, self.port, self.server.id())
    }
}

impl Drop for Adb {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}
