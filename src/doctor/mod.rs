//! What on this host keeps farmhand from its phones, and the command that mends it.
//!
//! ```text
//!     /proc, /sys, udev's rules ──▶ evidence (shell) ──▶ examine (core) ──▶ findings, each with a code and help
//! ```
//!
//! Nothing is changed, and nobody is asked: it works without a daemon. As root it sees the open files of all programs, else only
//! those of its own user, and says so where that matters.

mod evidence;

use std::fmt;

pub use evidence::{Evidence, Listener, Program};

/// Where adb's clients look for their server.
const ADB_PORT: u16 = 5037;
/// How much of usbfs's memory farmhand takes at most, in percent ([`crate::usb`] says why).
const USB_MEMORY_SHARE: u64 = 75;
/// What one phone's two directions use when nothing holds them back, in KiB.
const PHONE_KIBIBYTES: u64 = 512;

/// Something that keeps farmhand from its phones, or slows it down.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, miette::Diagnostic)]
pub enum Finding {
    /// A program has the devices of phones open.
    #[error("{program} has {} open: {}", phones(nodes.len()), nodes.join(", "))]
    #[diagnostic(
        code("doctor.phones_held"),
        help(
            "only one program can have a phone's interface. `{command}` ends it; `farmhand phone … detach` lets it have one phone"
        )
    )]
    PhonesHeld {
        /// Which program.
        program: Program,
        /// The nodes, such as `/dev/bus/usb/001/004`.
        nodes: Vec<String>,
        /// What ends it.
        command: String,
    },
    /// Somebody else listens where adb's clients look for their server.
    #[error("{} listens on port {port}, where adb's clients look for their server", named(program.as_ref()))]
    #[diagnostic(
        code("doctor.adb_port"),
        help(
            "they work through it and not through farmhand. `{command}` ends it; then `[adb_server] listen = \"127.0.0.1:{port}\"` can take its place"
        )
    )]
    AdbPort {
        /// Which program, where that can be seen.
        program: Option<Program>,
        /// The port.
        port: u16,
        /// What ends it.
        command: String,
    },
    /// No rule of udev lets farmhand's user open phones.
    #[error("udev has no rule 70-farmhand.rules: phones belong to root alone")]
    #[diagnostic(
        code("doctor.udev_rule"),
        severity(Warning),
        help(
            "install -m 644 udev/70-farmhand.rules /etc/udev/rules.d/ && udevadm control --reload && udevadm trigger --subsystem-match=usb"
        )
    )]
    NoUdevRule,
    /// All transfers of the rack share too little memory.
    #[error("{mebibytes} MiB for all USB transfers of this host make those of {} small", phones(*count))]
    #[diagnostic(
        code("doctor.usb_memory"),
        severity(Advice),
        help(
            "usbcore.usbfs_memory_mb={wanted} on the kernel's command line; until the next start: echo {wanted} > /sys/module/usbcore/parameters/usbfs_memory_mb"
        )
    )]
    UsbMemory {
        /// What there is.
        mebibytes: u64,
        /// Phones on the bus.
        count: usize,
        /// What would do, in MiB.
        wanted: u64,
    },
    /// The open files of other users' programs cannot be seen.
    #[error("the open files of {} cannot be seen", programs(*count))]
    #[diagnostic(
        code("doctor.not_root"),
        severity(Advice),
        help("as root it is seen whether one of them has a phone open")
    )]
    NotRoot {
        /// How many programs.
        count: usize,
    },
}

fn phones(count: usize) -> String {
    if count == 1 { "1 phone".to_owned() } else { format!("{count} phones") }
}

fn programs(count: usize) -> String {
    if count == 1 { "1 program of another user".to_owned() } else { format!("{count} programs of other users") }
}

fn named(program: Option<&Program>) -> String {
    program.map_or_else(|| "a program of another user".to_owned(), ToString::to_string)
}

impl fmt::Display for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (process {})", self.name, self.pid)
    }
}

/// What the evidence comes to, the worst first.
#[must_use]
pub fn examine(evidence: &Evidence) -> Vec<Finding> {
    let mut findings = Vec::new();
    let foreign = |program: &&Program| program.name != "farmhand";
    for program in evidence.programs.iter().filter(foreign) {
        let held: Vec<String> = program.nodes.iter().filter(|node| evidence.phones.contains(*node)).cloned().collect();
        if !held.is_empty() {
            let command = ending(program, &evidence.listeners);
            findings.push(Finding::PhonesHeld { program: program.clone(), nodes: held, command });
        }
    }
    for listener in evidence.listeners.iter().filter(|listener| listener.port == ADB_PORT) {
        let program = evidence.programs.iter().find(|program| program.sockets.contains(&listener.inode));
        let is_known = program.is_some_and(|program| {
            let held =
                |finding: &Finding| matches!(finding, Finding::PhonesHeld { program: known, .. } if known == program);
            program.name == "farmhand" || findings.iter().any(held)
        });
        let is_told = findings.iter().any(|finding| matches!(finding, Finding::AdbPort { .. }));
        if !is_known && !is_told {
            let command =
                program.map_or_else(|| "adb kill-server".to_owned(), |program| ending(program, &evidence.listeners));
            findings.push(Finding::AdbPort { program: program.cloned(), port: ADB_PORT, command });
        }
    }
    if evidence.has_usb && !evidence.has_udev_rule {
        findings.push(Finding::NoUdevRule);
    }
    findings.extend(memory(evidence));
    if evidence.unseen > 0 && !evidence.phones.is_empty() {
        findings.push(Finding::NotRoot { count: evidence.unseen });
    }
    findings
}

/// 0 MiB is the kernel's word for no limit.
fn memory(evidence: &Evidence) -> Option<Finding> {
    let mebibytes = evidence.usb_memory_mebibytes.filter(|mebibytes| *mebibytes > 0)?;
    let count = evidence.phones.len();
    let needed = PHONE_KIBIBYTES * u64::try_from(count).ok()?;
    if mebibytes.saturating_mul(1024 * USB_MEMORY_SHARE) / 100 >= needed {
        return None;
    }
    let wanted = (needed * 100 / USB_MEMORY_SHARE).div_ceil(1024).next_power_of_two().max(64);
    Some(Finding::UsbMemory { mebibytes, count, wanted })
}

/// The command that ends a program: adb's servers end by adb's own word.
fn ending(program: &Program, listeners: &[Listener]) -> String {
    if program.name != "adb" {
        return format!("kill {}", program.pid);
    }
    let mut ports =
        listeners.iter().filter(|listener| program.sockets.contains(&listener.inode)).map(|listener| listener.port);
    match ports.next() {
        Some(ADB_PORT) => "adb kill-server".to_owned(),
        Some(port) => format!("adb -P {port} kill-server"),
        None => format!("kill {}", program.pid),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn adb(nodes: &[&str], sockets: &[u64]) -> Program {
        let nodes = nodes.iter().map(|node| (*node).to_owned()).collect();
        Program { pid: 77, name: "adb".to_owned(), nodes, sockets: sockets.to_vec() }
    }

    fn host() -> Evidence {
        let phones = ["/dev/bus/usb/001/004", "/dev/bus/usb/001/005"].map(str::to_owned).into();
        Evidence { phones, has_usb: true, has_udev_rule: true, usb_memory_mebibytes: Some(16), ..Evidence::default() }
    }

    #[test]
    fn a_foreign_server_that_holds_phones_is_told_once_with_the_command_that_ends_it() {
        let mut evidence = host();
        evidence.programs = vec![adb(&["/dev/bus/usb/001/004", "/dev/bus/usb/001/009"], &[3])];
        evidence.listeners = vec![Listener { port: 5037, inode: 3 }];
        let findings = examine(&evidence);
        let [Finding::PhonesHeld { nodes, command, .. }] = &findings[..] else { panic!("{findings:?}") };
        assert_eq!((nodes.as_slice(), command.as_str()), (&["/dev/bus/usb/001/004".to_owned()][..], "adb kill-server"));
        evidence.listeners = vec![Listener { port: 5038, inode: 3 }];
        assert!(
            matches!(&examine(&evidence)[..], [Finding::PhonesHeld { command, .. }] if command == "adb -P 5038 kill-server")
        );
        evidence.listeners.clear();
        assert!(matches!(&examine(&evidence)[..], [Finding::PhonesHeld { command, .. }] if command == "kill 77"));
    }

    #[test]
    fn farmhand_is_no_stranger_to_itself() {
        let mut evidence = host();
        let ours = Program { name: "farmhand".to_owned(), ..adb(&["/dev/bus/usb/001/004"], &[3]) };
        evidence.programs = vec![ours];
        evidence.listeners = vec![Listener { port: 5037, inode: 3 }];
        assert_eq!(examine(&evidence), []);
    }

    #[test]
    fn whoever_listens_for_adbs_clients_is_told_also_where_only_root_could_see_who() {
        let mut evidence = host();
        evidence.listeners = vec![Listener { port: 5037, inode: 3 }, Listener { port: 5037, inode: 4 }];
        evidence.unseen = 9;
        let findings = examine(&evidence);
        assert!(
            matches!(&findings[..], [Finding::AdbPort { program: None, .. }, Finding::NotRoot { count: 9 }]),
            "{findings:?}"
        );
        evidence.programs = vec![adb(&[], &[4])];
        evidence.listeners.remove(0);
        assert!(matches!(&examine(&evidence)[..], [Finding::AdbPort { program: Some(_), .. }, _]));
    }

    #[test]
    fn little_memory_for_many_phones_and_a_missing_rule_are_told() {
        let mut evidence = host();
        evidence.has_udev_rule = false;
        evidence.phones = (0..25).map(|number| format!("/dev/bus/usb/001/{number:03}")).collect();
        let findings = examine(&evidence);
        assert!(
            matches!(&findings[..], [Finding::NoUdevRule, Finding::UsbMemory { count: 25, wanted: 64, .. }]),
            "{findings:?}"
        );
        evidence.usb_memory_mebibytes = Some(0);
        assert_eq!(examine(&evidence), [Finding::NoUdevRule], "0 is no limit");
        evidence.has_usb = false;
        assert_eq!(examine(&evidence), []);
    }
}
