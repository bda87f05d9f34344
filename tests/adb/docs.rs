//! docs/adb-server.md, block by block: what a reader types is run as it stands, on a rack of the name `rack` with one phone, in a network and
//! with folders of its own. Each block of TOML is what the daemon runs with from then on. At the end come the commands of its sentences.
//!
//! scrcpy needs a screen: in its place stands a script that has adb do what scrcpy has it do before its first picture. Its tunnel begins at a
//! port of the phone, since a virtual phone has no abstract sockets.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use firmware_tools::check::until;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use crate::one_phone::{OnePhone, PATIENCE};

const DOCUMENT: &str = include_str!("../../docs/adb-server.md");
const STATE: &str = "/var/lib/farmhand";

const SCRCPY: &str = "#!/bin/sh -e
# A server to the phone, a tunnel, the start of the program, as scrcpy's own.
forward= serial=
while [ $# -gt 0 ]; do
  case $1 in
    --force-adb-forward) forward=1 ;;
    -s) serial=$2; shift ;;
    *) echo \"scrcpy knows no $1\" >&2; exit 1 ;;
  esac
  shift
done
echo server > scrcpy-server
adb -s \"$serial\" push scrcpy-server /data/local/tmp/scrcpy-server.jar
if [ \"$forward\" ]; then
  adb -s \"$serial\" forward tcp:27183 localabstract:scrcpy
  adb forward --list | grep 'tcp:27183 localabstract:scrcpy'
  adb -s \"$serial\" forward --remove tcp:27183
else
  adb -s \"$serial\" reverse tcp:27184 tcp:27183
  adb -s \"$serial\" reverse --remove tcp:27184
fi
adb -s \"$serial\" shell cat /data/local/tmp/scrcpy-server.jar | grep server
";

/// A command of a sentence: what is typed for it, since sentences leave out what does not matter there, and what it says.
struct Mentioned {
    command: &'static str,
    typed: &'static str,
    /// Any, if none: what it says is all that is promised.
    code: Option<i32>,
    says: &'static str,
}

const fn mentioned(command: &'static str, typed: &'static str, code: Option<i32>, says: &'static str) -> Mentioned {
    Mentioned { command, typed, code, says }
}

/// In the order in which they are typed, at an adb server of the loopback's 5037.
const SENTENCES: &[Mentioned] = &[
    mentioned("adb kill-server", "adb kill-server", None, ""),
    mentioned("farmhand adb-server show", "farmhand adb-server show", Some(0), "127.0.0.1:5037"),
    mentioned("farmhand status", "farmhand status", Some(0), "127.0.0.1:5037"),
    mentioned("farmhand tokens revoke mara", "farmhand tokens revoke mara", Some(0), "counts no more"),
    mentioned("adb devices", "adb devices", Some(0), "R5CW2355X"),
    mentioned("adb devices -l", "adb devices -l", Some(0), "slot:A1"),
    mentioned("adb forward", "adb forward tcp:0 tcp:7", Some(0), ""),
    mentioned("adb reverse", "adb reverse tcp:7100 tcp:7100", Some(0), ""),
    mentioned("adb reverse --remove-all", "adb reverse --remove-all", Some(0), ""),
    mentioned("adb connect", "adb connect 10.0.0.9:5555", Some(0), "[[slot]]"),
    mentioned("adb pair", "adb pair 127.0.0.1:1 123456", None, ""),
    mentioned("adb attach", "adb attach", Some(1), ""),
    mentioned("adb pull", "adb pull /data/local/tmp/scrcpy-server.jar pulled", Some(0), "pulled"),
    mentioned("adb root", "adb root", None, "root"),
    mentioned("farmhand phone A1 hold", "farmhand phone A1 hold --for 1m --reason battery", Some(0), ""),
    mentioned("farmhand phone", "farmhand phone A1 shell getprop ro.serialno", Some(0), "R5CW2355X"),
    mentioned("farmhand audit A1 --since 2h", "farmhand audit A1 --since 2h", Some(0), "begins to work on it with adb"),
    mentioned("farmhand doctor", "farmhand doctor", None, ""),
    mentioned("adb reconnect", "adb reconnect", Some(0), "reconnecting R5CW2355X"),
    mentioned("farmhand phone A1 detach", "farmhand phone A1 detach", Some(0), "is free for another program"),
];

/// The commands between the document's backquotes.
fn sentences(document: &str) -> BTreeSet<String> {
    let text: Vec<&str> = document.lines().filter(|line| !line.starts_with("    ")).collect();
    let text = text.join(" ");
    let spans = text.split('`').skip(1).step_by(2).map(|span| span.split_whitespace().collect::<Vec<_>>().join(" "));
    let is_command = |span: &String| ["adb ", "farmhand ", "make "].iter().any(|program| span.starts_with(program));
    spans.filter(is_command).collect()
}

/// A block of the document: the lines that are indented.
#[derive(Debug, PartialEq, Eq)]
enum Block {
    Config(String),
    Json(String),
    Commands(Vec<String>),
}

fn blocks(document: &str) -> Vec<Block> {
    let mut blocks = Vec::new();
    let mut lines: Vec<String> = Vec::new();
    for line in document.lines().chain([""]) {
        if let Some(line) = line.strip_prefix("    ") {
            lines.push(line.to_owned());
            continue;
        }
        let block = std::mem::take(&mut lines);
        match block.first().and_then(|first| first.chars().next()) {
            None => {}
            Some('[') => blocks.push(Block::Config(block.join("\n") + "\n")),
            Some('{') => blocks.push(Block::Json(block.join("\n"))),
            Some(_) => blocks.push(Block::Commands(block)),
        }
    }
    blocks
}

/// The reader's machine, which is the rack's, too.
struct Reader {
    dir: PathBuf,
    rack: OnePhone,
    /// What runs until Ctrl-C.
    running: Vec<Child>,
    /// What the shell has been told to export.
    exported: Vec<String>,
}

impl Reader {
    async fn start(dir: &Path) -> Self {
        let rack = OnePhone::start(dir, Path::new(STATE), "").await;
        rack.until_ready().await;
        Self { dir: dir.to_owned(), rack, running: Vec::new(), exported: Vec::new() }
    }

    /// The daemon runs with these lines, and nothing of what went before.
    async fn configure(&mut self, lines: &str) {
        for mut child in self.running.drain(..) {
            child.kill().await.unwrap();
        }
        self.exported.clear();
        // The desk's own adb server, which `adb connect` has started.
        self.shell("adb kill-server >/dev/null 2>&1 || true").await;
        self.rack.configure(lines).await;
    }

    async fn type_in(&mut self, line: &str) {
        if line.starts_with("export ") {
            self.exported.push(line.to_owned());
            return;
        }
        let port = match line.split_whitespace().collect::<Vec<_>>().as_slice() {
            ["ssh", "-N", "-L", tunnel, "rack"] => tunnel.split(':').next().unwrap().to_owned(),
            ["farmhand", "adb-server", "connect", ..] => "5037".to_owned(),
            _ => return self.shell(line).await,
        };
        let child = self.command(line).spawn().unwrap();
        self.running.push(child);
        let address = format!("127.0.0.1:{port}");
        let listens = until(PATIENCE, line, async || TcpStream::connect(&address).map_err(|error| error.to_string()));
        listens.await.unwrap();
    }

    async fn shell(&self, line: &str) {
        let output = tokio::time::timeout(PATIENCE, self.command(line).output()).await;
        assert!(output.is_ok(), "`{line}` does not end");
        let output = output.unwrap().unwrap();
        let said = [output.stdout.as_slice(), output.stderr.as_slice()].map(String::from_utf8_lossy).concat();
        assert!(output.status.success(), "`{line}`: {} {said}", output.status);
        // A phone that is not there fails no `adb devices`.
        assert!(!line.contains("adb devices") || said.contains("R5CW2355X"), "`{line}`: {said}");
        assert!(!line.contains("getprop") || said.trim().len() > 2, "`{line}`: {said}");
    }

    async fn type_sentence(&self, row: &Mentioned) {
        let output = tokio::time::timeout(PATIENCE, self.command(row.typed).output()).await;
        assert!(output.is_ok(), "`{}` does not end", row.typed);
        let output = output.unwrap().unwrap();
        let said = [output.stdout.as_slice(), output.stderr.as_slice()].map(String::from_utf8_lossy).concat();
        assert!(row.code.is_none() || output.status.code() == row.code, "`{}`: {} {said}", row.typed, output.status);
        assert!(said.contains(row.says), "`{}`: {said}", row.typed);
    }

    fn command(&self, line: &str) -> Command {
        let path = format!("{}:{}", self.dir.join("bin").display(), std::env::var("PATH").unwrap());
        let mut command = Command::new("bash");
        let exec = if line.contains('=') || line.contains("||") || line.contains('>') { "" } else { "exec " };
        command.arg("-ec").arg(format!("{}\n{exec}{line}", self.exported.join("\n")));
        command.current_dir(&self.dir).env("HOME", &self.dir).env("PATH", path).env_remove("ADB_SERVER_SOCKET");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }
}

/// sshd, until it is dropped.
struct Sshd(std::process::Child);

impl Drop for Sshd {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts sshd, which lets in whoever has the key that the reader's ssh has.
fn start_sshd(dir: &Path) -> Sshd {
    let run = |program: &str, words: &[&str]| {
        let output = std::process::Command::new(program).args(words).output().unwrap();
        assert!(output.status.success(), "{program} {words:?}: {output:?}");
    };
    let path = |name: &str| dir.join(name).display().to_string();
    for key in ["host_key", "reader_key"] {
        run("ssh-keygen", &["-q", "-t", "ed25519", "-N", "", "-f", &path(key)]);
    }
    fs::copy(path("reader_key.pub"), path("authorized_keys")).unwrap();
    fs::create_dir_all("/run/sshd").unwrap();
    let config = format!(
        "ListenAddress 127.0.0.1:2222\nHostKey {}\nAuthorizedKeysFile {}\nPidFile none\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n",
        path("host_key"),
        path("authorized_keys")
    );
    fs::write(path("sshd_config"), config).unwrap();
    let user = nix::unistd::User::from_uid(nix::unistd::getuid()).unwrap().unwrap().name;
    let config = format!(
        "Host rack\n  HostName 127.0.0.1\n  Port 2222\n  User {user}\n  IdentityFile {}\n  StrictHostKeyChecking no\n  UserKnownHostsFile {}\n",
        path("reader_key"),
        path("known_hosts")
    );
    fs::write(path("ssh_config"), config).unwrap();
    script(&dir.join("bin/ssh"), &format!("#!/bin/sh\nexec /usr/bin/ssh -F {} \"$@\"\n", path("ssh_config")));
    let log = fs::File::create(path("sshd.log")).unwrap();
    let mut sshd = std::process::Command::new("/usr/sbin/sshd");
    sshd.args(["-D", "-e", "-f", &path("sshd_config")]).stdin(Stdio::null()).stderr(log);
    Sshd(sshd.spawn().expect("sshd is installed: firmware-tools/setup-tests.sh"))
}

fn script(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// The network of this thread. Whatever else is in it ends with it, however the test has ended: sessions of sshd, and the adb server, which
/// goes into the background by itself.
struct Network;

impl Drop for Network {
    fn drop(&mut self) {
        let network = |process: &Path| fs::read_link(process.join("ns/net")).ok();
        let own = network(Path::new("/proc/thread-self"));
        // The machine's own is nothing to clear.
        if own.is_none() || own == network(Path::new("/proc/self")) {
            return;
        }
        let me = std::process::id().to_string();
        for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
            let name = process.file_name().to_string_lossy().into_owned();
            let Ok(number) = name.parse() else { continue };
            if name != me && network(&process.path()) == own {
                // It may have ended meanwhile.
                let _ = kill(Pid::from_raw(number), Signal::SIGKILL);
            }
        }
    }
}

/// A network whose one host is called `rack`, too, and a /var/lib that nothing was ever written to.
fn move_in(dir: &Path) -> Network {
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWNS).expect("namespaces can be made: run as root");
    let up = std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap();
    assert!(up.success(), "the loopback interface is up");
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    let hosts = dir.join("hosts");
    fs::write(&hosts, "127.0.0.1 localhost rack\n").unwrap();
    mount(Some(&hosts), "/etc/hosts", none, MsFlags::MS_BIND, none).unwrap();
    for place in ["/var/lib", "/run"] {
        mount(Some("tmpfs"), place, Some("tmpfs"), MsFlags::empty(), none).unwrap();
    }
    Network
}

async fn read(dir: &Path) {
    fs::create_dir_all(dir.join("bin")).unwrap();
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_farmhand"), dir.join("bin/farmhand")).unwrap();
    script(&dir.join("bin/scrcpy"), SCRCPY);
    let _sshd = start_sshd(dir);
    let mut reader = Reader::start(dir).await;
    reader.shell("adb keygen mara").await;
    for block in blocks(DOCUMENT) {
        match block {
            Block::Config(lines) => reader.configure(&lines).await,
            Block::Json(text) => drop(serde_json::from_str::<serde_json::Value>(&text).unwrap()),
            Block::Commands(lines) => {
                for line in lines {
                    reader.type_in(&line).await;
                }
            }
        }
    }
    reader.configure("[adb_server]\nlisten = \"127.0.0.1:5037\"\n").await;
    for row in SENTENCES {
        reader.type_sentence(row).await;
    }
    reader.rack.daemon.stop().await;
}

#[test]
fn each_command_of_a_sentence_is_typed_as_well() {
    let typed: Vec<String> = blocks(DOCUMENT)
        .into_iter()
        .flat_map(|block| if let Block::Commands(lines) = block { lines } else { Vec::new() })
        .collect();
    let makefile = include_str!("../../Makefile");
    let rows: BTreeSet<&str> = SENTENCES.iter().map(|row| row.command).collect();
    let seen = sentences(DOCUMENT);
    for command in &seen {
        let is_known = match command.strip_prefix("make ") {
            Some(target) => makefile.contains(&format!("\n{target}:")),
            None => rows.contains(command.as_str()) || typed.iter().any(|line| line.starts_with(command.as_str())),
        };
        assert!(is_known, "`{command}` is typed nowhere");
    }
    for row in SENTENCES {
        assert!(row.typed.starts_with(row.command), "{}", row.typed);
        assert!(seen.contains(row.command), "`{}` stands in no sentence any more", row.command);
    }
}

#[test]
fn whatever_the_document_has_one_type_works() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    let thread = std::thread::spawn(move || {
        let _network = move_in(&path);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            tokio::time::timeout(Duration::from_secs(180), read(&path)).await.expect("all of it is typed in time");
        });
    });
    if let Err(panic) = thread.join() {
        std::panic::resume_unwind(panic);
    }
}

#[test]
fn each_block_is_taken_for_what_it_is() {
    let seen = blocks("text\n\n    [a]\n    b = 1\n\ntext\n    adb x\n    adb y\n\n    {\"a\": 1}\n");
    let commands = vec!["adb x".to_owned(), "adb y".to_owned()];
    let expected =
        [Block::Config("[a]\nb = 1\n".to_owned()), Block::Commands(commands), Block::Json("{\"a\": 1}".to_owned())];
    assert_eq!(seen, expected);
    let known = blocks(DOCUMENT);
    assert!(known.iter().filter(|block| matches!(block, Block::Commands(_))).count() >= 7, "{known:?}");
}
