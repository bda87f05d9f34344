//! What is seen of the host: its programs, its ports, its phones on USB. Whatever cannot be read counts as not seen.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

/// The most programs that are looked at: far above what a rack's host runs.
const PROGRAMS_MAX: usize = 65_536;
/// Where udev looks for rules.
const RULES: [&str; 4] = ["etc/udev/rules.d", "run/udev/rules.d", "usr/lib/udev/rules.d", "lib/udev/rules.d"];
/// How the kernel's table of sockets writes the state of one that listens.
const LISTENS: &str = "0A";

/// What was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    /// Programs that have USB devices or sockets open.
    pub programs: Vec<Program>,
    /// Programs whose open files cannot be seen.
    pub unseen: usize,
    /// TCP ports of this host on which somebody listens.
    pub listeners: Vec<Listener>,
    /// The nodes of devices with an ADB interface, such as `/dev/bus/usb/001/004`.
    pub phones: BTreeSet<String>,
    /// This host has USB.
    pub has_usb: bool,
    /// `70-farmhand.rules` is where udev looks.
    pub has_udev_rule: bool,
    /// `usbcore.usbfs_memory_mb`, in MiB.
    pub usb_memory_mebibytes: Option<u64>,
}

/// A running program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Program {
    /// Its process number.
    pub pid: u32,
    /// Its short name, as the kernel has it.
    pub name: String,
    /// The nodes of USB devices that it has open.
    pub nodes: Vec<String>,
    /// The inodes of its sockets.
    pub sockets: Vec<u64>,
}

/// A socket that listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listener {
    /// Its port.
    pub port: u16,
    /// By which its program is found.
    pub inode: u64,
}

impl Evidence {
    /// Looks at the host whose file system is at `root`: `/`, but for tests.
    #[must_use]
    pub fn of_host(root: &Path) -> Self {
        let mut evidence = Self { phones: phones(root), ..Self::default() };
        for entry in entries(&root.join("proc")).take(PROGRAMS_MAX) {
            let Some(pid) = name_of(&entry).parse().ok() else { continue };
            match program(&entry, pid) {
                Seen::Program(program) => evidence.programs.push(program),
                Seen::Nothing => {}
                Seen::Refused => evidence.unseen += 1,
            }
        }
        for table in ["proc/net/tcp", "proc/net/tcp6"] {
            let text = fs::read_to_string(root.join(table)).unwrap_or_default();
            evidence.listeners.extend(text.lines().filter_map(listener));
        }
        evidence.has_usb = root.join("sys/bus/usb/devices").is_dir();
        evidence.has_udev_rule = RULES.iter().any(|folder| root.join(folder).join("70-farmhand.rules").exists());
        let memory = fs::read_to_string(root.join("sys/module/usbcore/parameters/usbfs_memory_mb"));
        evidence.usb_memory_mebibytes = memory.ok().and_then(|text| text.trim().parse().ok());
        evidence
    }
}

enum Seen {
    Program(Program),
    Nothing,
    Refused,
}

fn program(folder: &Path, pid: u32) -> Seen {
    let files = match fs::read_dir(folder.join("fd")) {
        Ok(files) => files,
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => return Seen::Refused,
        // It has just ended.
        Err(_) => return Seen::Nothing,
    };
    let (mut nodes, mut sockets) = (Vec::new(), Vec::new());
    for file in files.flatten() {
        let Ok(target) = fs::read_link(file.path()) else { continue };
        let target = target.to_string_lossy();
        if let Some(inode) = target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']')) {
            sockets.extend(inode.parse::<u64>());
        } else if target.starts_with("/dev/bus/usb/") && !nodes.iter().any(|node| *node == target) {
            nodes.push(target.into_owned());
        }
    }
    if nodes.is_empty() && sockets.is_empty() {
        return Seen::Nothing;
    }
    nodes.sort();
    let name = fs::read_to_string(folder.join("comm")).unwrap_or_default().trim().to_owned();
    Seen::Program(Program { pid, name, nodes, sockets })
}

/// One line of the kernel's table of TCP sockets: `1: 0100007F:13AD 00000000:0000 0A … inode …`.
fn listener(line: &str) -> Option<Listener> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (local, state, inode) = (words.get(1)?, words.get(3)?, words.get(9)?);
    if *state != LISTENS {
        return None;
    }
    let (_, port) = local.rsplit_once(':')?;
    Some(Listener { port: u16::from_str_radix(port, 16).ok()?, inode: inode.parse().ok()? })
}

/// Devices with an interface of class ff, subclass 42, protocol 01.
fn phones(root: &Path) -> BTreeSet<String> {
    let devices = root.join("sys/bus/usb/devices");
    let mut found = BTreeSet::new();
    for interface in entries(&devices) {
        let name = name_of(&interface);
        let Some((device, _)) = name.split_once(':') else { continue };
        let read = |folder: &Path, file: &str| fs::read_to_string(folder.join(file)).unwrap_or_default();
        let says = |file: &str, value: &str| read(&interface, file).trim().eq_ignore_ascii_case(value);
        if says("bInterfaceClass", "ff") && says("bInterfaceSubClass", "42") && says("bInterfaceProtocol", "01") {
            let number = |file: &str| read(&devices.join(device), file).trim().parse::<u16>().ok();
            if let (Some(bus), Some(number)) = (number("busnum"), number("devnum")) {
                found.insert(format!("/dev/bus/usb/{bus:03}/{number:03}"));
            }
        }
    }
    found
}

fn entries(folder: &Path) -> impl Iterator<Item = std::path::PathBuf> {
    fs::read_dir(folder).into_iter().flatten().flatten().map(|entry| entry.path())
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write(root: &Path, path: &str, text: &str) {
        let path = root.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    #[test]
    fn a_host_is_read_from_its_files() {
        let dir = tempfile::tempdir().unwrap();
        let root = dir.path();
        for (file, text) in
            [("bInterfaceClass", "ff\n"), ("bInterfaceSubClass", "42\n"), ("bInterfaceProtocol", "01\n")]
        {
            write(root, &format!("sys/bus/usb/devices/1-2:1.1/{file}"), text);
        }
        write(root, "sys/bus/usb/devices/1-2:1.0/bInterfaceClass", "06\n");
        write(root, "sys/bus/usb/devices/1-2/busnum", "1\n");
        write(root, "sys/bus/usb/devices/1-2/devnum", "4\n");
        write(root, "sys/module/usbcore/parameters/usbfs_memory_mb", "16\n");
        write(root, "usr/lib/udev/rules.d/70-farmhand.rules", "");
        write(root, "proc/77/comm", "adb\n");
        fs::create_dir_all(root.join("proc/77/fd")).unwrap();
        for (number, target) in ["/dev/bus/usb/001/004", "socket:[4711]", "/dev/null"].iter().enumerate() {
            std::os::unix::fs::symlink(target, root.join(format!("proc/77/fd/{number}"))).unwrap();
        }
        let listens =
            "   0: 0100007F:13AD 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4711 1\n";
        let talks =
            "   1: 0100007F:13AD 0100007F:9999 01 00000000:00000000 00:00000000 00000000  1000        0 4712 1\n";
        write(root, "proc/net/tcp", &format!("  sl  local_address …\n{listens}{talks}"));
        let program = Program {
            pid: 77,
            name: "adb".to_owned(),
            nodes: vec!["/dev/bus/usb/001/004".to_owned()],
            sockets: vec![4711],
        };
        let expected = Evidence {
            programs: vec![program],
            unseen: 0,
            listeners: vec![Listener { port: 5037, inode: 4711 }],
            phones: ["/dev/bus/usb/001/004".to_owned()].into(),
            has_usb: true,
            has_udev_rule: true,
            usb_memory_mebibytes: Some(16),
        };
        assert_eq!(Evidence::of_host(root), expected);
        assert_eq!(Evidence::of_host(&root.join("nowhere")), Evidence::default());
    }

    #[test]
    fn what_listens_on_this_host_is_found_with_its_program() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let evidence = Evidence::of_host(Path::new("/"));
        let found = evidence.listeners.iter().find(|known| known.port == port).unwrap();
        let ours = evidence.programs.iter().find(|program| program.sockets.contains(&found.inode)).unwrap();
        assert_eq!(ours.pid, std::process::id());
    }
}
