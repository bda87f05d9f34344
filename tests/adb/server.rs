//! Google's own clients against farmhand's adb server, behind which Google's adbd is the phone.

use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};
use std::sync::Arc;

use farmhand::adb::connection::Waits;
use farmhand::adb::driver::Adb;
use farmhand::adb::online::{OnlinePhones, Seat};
use farmhand::adb::server::uses::UseRecord;
use farmhand::adb::server::{AdbServer, AuditEntry};
use farmhand::clock::{Moment, UnixMillis};
use farmhand::rack::ids::{Endpoint, PhoneId, SlotName};
use farmhand::rack::lease::{HOLD, Lease, LeaseEvent, Tool};
use farmhand::rack::snapshot::{PhoneState, PhoneView};
use farmhand::rack::{Event, Rack, Snapshot};
use firmware_tools::ports;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::process::Command;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::adbd::{Adbd, LISTENS_WITHIN, START_ADBD, with_adbd};
use crate::google::noise;
use crate::phone::{Phone, modern, online};

/// Both of Google's clients, which are of the versions that the tests speak of.
pub(crate) fn clients() -> [PathBuf; 2] {
    static CHECKED: std::sync::LazyLock<[PathBuf; 2]> = std::sync::LazyLock::new(|| {
        let clients = [PathBuf::from("/usr/bin/adb"), START_ADBD.with_file_name("start-adb")];
        for (client, version) in clients.iter().zip(["29", "34"]) {
            let output = std::process::Command::new(client).arg("version").env("HOME", "/nowhere").output().unwrap();
            let said = String::from_utf8_lossy(&output.stdout);
            let is_it = said.lines().any(|line| line.starts_with(&format!("Version {version}.")));
            assert!(is_it, "{} is not adb {version}: {said}", client.display());
        }
        clients
    });
    CHECKED.clone()
}

/// farmhand's adb server, behind which A1 is online.
pub(crate) struct Desk {
    pub(crate) dir: TempDir,
    pub(crate) port: u16,
    pub(crate) slot_port: u16,
    pub(crate) server: AdbServer,
    pub(crate) told: mpsc::Receiver<Event>,
    pub(crate) records: mpsc::UnboundedReceiver<UseRecord>,
    /// What the audit's disk says.
    pub(crate) disk: watch::Sender<Result<(), String>>,
    pub(crate) snapshots: watch::Sender<Arc<Snapshot>>,
    pub(crate) online: OnlinePhones,
    pub(crate) seat: Option<Seat>,
    pub(crate) cancel: CancellationToken,
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

pub(crate) fn endpoint() -> Endpoint {
    "tcp:127.0.0.1:5555".parse().unwrap()
}

impl Desk {
    pub(crate) async fn with(adbd: &Adbd) -> Self {
        Self::of(adbd.connect().await).await
    }

    async fn of(adb: Adb) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let settings = (&farmhand::config::observing()).into();
        let mut snapshot = Rack::new(settings, UnixMillis(0), Moment::START).snapshot(Moment::START);
        let mut phone = PhoneView::unknown(PhoneId::new("R5CW2355X"));
        phone.slot = Some(SlotName::new("A1"));
        phone.endpoint = Some(endpoint());
        phone.state = PhoneState::Ready;
        snapshot.phones.push(phone);
        let (snapshots, receiver) = watch::channel(Arc::new(snapshot));
        let online = OnlinePhones::default();
        let seat = Some(online.sit(endpoint(), adb));
        let ((events, told), (uses, entries)) = (mpsc::channel(64), mpsc::channel(64));
        let (disk, verdict) = watch::channel(Ok(()));
        let records = audit(entries, verdict);
        let cancel = CancellationToken::new();
        let server = AdbServer::start(receiver, online.clone(), events, uses, &cancel);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(server.clone().serve_tcp(listener, cancel.clone()));
        let slot = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let slot_port = slot.local_addr().unwrap().port();
        tokio::spawn(server.clone().serve_slot(SlotName::new("A1"), slot, None, cancel.clone()));
        let socket = UnixListener::bind(dir.path().join("adb.sock")).unwrap();
        tokio::spawn(server.clone().serve_unix(socket, cancel.clone()));
        Self { dir, port, slot_port, server, told, records, disk, snapshots, online, seat, cancel }
    }

    fn command(&self, adb: &Path, words: &[&str]) -> Command {
        let mut command = Command::new(adb);
        command.env("ANDROID_ADB_SERVER_PORT", self.port.to_string()).env("HOME", self.dir.path()).args(words);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    pub(crate) async fn run(&self, adb: &Path, words: &[&str]) -> (String, String, i32) {
        said(&self.command(adb, words).output().await.unwrap())
    }

    pub(crate) fn file(&self, name: &str, content: &[u8]) -> String {
        let path = self.dir.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, content).unwrap();
        path.display().to_string()
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// What the server answers to these bytes, until it hangs up.
    async fn ask(&self, requests: &[&[u8]]) -> Vec<u8> {
        let mut socket = TcpStream::connect(("127.0.0.1", self.port)).await.unwrap();
        for request in requests {
            socket.write_all(request).await.unwrap();
        }
        socket.shutdown().await.unwrap();
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer).await.unwrap();
        answer
    }
}

/// The audit: a line counts when the disk says so.
fn audit(
    mut entries: mpsc::Receiver<AuditEntry>,
    disk: watch::Receiver<Result<(), String>>,
) -> mpsc::UnboundedReceiver<UseRecord> {
    let (records, kept) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        while let Some(entry) = entries.recv().await {
            let verdict = disk.borrow().clone();
            if verdict.is_ok() {
                let _ = records.send(entry.record);
            }
            if let Some(waiting) = entry.kept {
                waiting.send_replace(Some(verdict));
            }
        }
    });
    kept
}

pub(crate) fn said(output: &Output) -> (String, String, i32) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr), output.status.code().unwrap_or(-1))
}

pub(crate) fn ok(out: &str) -> (String, String, i32) {
    (out.to_owned(), String::new(), 0)
}

fn me() -> String {
    nix::unistd::User::from_uid(nix::unistd::getuid()).unwrap().unwrap().name
}

#[test]
fn the_first_commands_that_a_person_tries_work() {
    with_adbd(async |adbd| {
        let desk = Desk::with(&adbd).await;
        for adb in clients() {
            assert_eq!(desk.run(&adb, &["devices"]).await, ok("List of devices attached\nR5CW2355X\tdevice\n\n"));
            let (long, _, _) = desk.run(&adb, &["devices", "-l"]).await;
            assert_eq!(long, "List of devices attached\nR5CW2355X              device slot:A1 transport_id:1\n\n");
            assert_eq!(desk.run(&adb, &["shell", "echo", "hello"]).await, ok("hello\n"));
            let (out, err, code) = desk.run(&adb, &["shell", "echo out; echo err >&2; exit 42"]).await;
            assert_eq!((out.as_str(), err.as_str(), code), ("out\n", "err\n", 42));
            assert_eq!(desk.run(&adb, &["exec-out", "printf 'a\\nb'"]).await, ok("a\nb"));
            for words in [["-s", "A1"], ["-s", "R5CW2355X"], ["-s", "127.0.0.1:5555"], ["-t", "1"]] {
                assert_eq!(desk.run(&adb, &[words[0], words[1], "get-state"]).await, ok("device\n"), "{words:?}");
            }
            assert_eq!(desk.run(&adb, &["-e", "get-serialno"]).await, ok("R5CW2355X\n"));
            assert_eq!(desk.run(&adb, &["get-devpath"]).await, ok("unknown\n"));
            assert_eq!(desk.run(&adb, &["wait-for-device", "shell", "echo here"]).await, ok("here\n"));
            let (features, _, _) = desk.run(&adb, &["features"]).await;
            assert!(features.lines().any(|feature| feature == "shell_v2"), "{features}");
        }
    });
}

#[test]
fn the_socket_serves_as_the_port_does() {
    with_adbd(async |adbd| {
        let desk = Desk::with(&adbd).await;
        let socket = format!("localfilesystem:{}", desk.path("adb.sock"));
        for adb in clients() {
            assert_eq!(desk.run(&adb, &["-L", &socket, "shell", "echo hello"]).await, ok("hello\n"));
        }
    });
}

#[test]
fn what_can_not_be_is_said_as_google_says_it() {
    with_adbd(async |adbd| {
        let desk = Desk::with(&adbd).await;
        for adb in clients() {
            let failed = async |words: &[&str], why: &str| {
                let (out, err, code) = desk.run(&adb, words).await;
                assert!(code == 1 && err.contains(why), "{words:?}: {code} {out} {err}");
            };
            failed(&["-s", "nope", "shell", "true"], "device 'nope' not found").await;
            failed(&["-d", "shell", "true"], "no devices found").await;
            failed(&["-t", "99", "get-state"], "no device with transport id '99'").await;
            failed(&["forward", "--remove", "tcp:1"], "listener 'tcp:1' not found").await;
            let (_, err, _) = desk.run(&adb, &["kill-server"]).await;
            // adb 29 says nothing of it.
            assert!(adb.ends_with("adb") && err.is_empty() || err.contains("systemctl stop farmhand"), "{err}");
            failed(&["disconnect", "1.2.3.4:5"], "no such device '1.2.3.4:5'").await;
            let (out, _, _) = desk.run(&adb, &["connect", "10.1.2.3:5555"]).await;
            assert!(out.starts_with("failed to connect to '10.1.2.3:5555': farmhand takes phones"), "{out}");
            let (out, _, _) = desk.run(&adb, &["connect", "127.0.0.1:5555"]).await;
            assert_eq!(out, "already connected to 127.0.0.1:5555\n");
        }
    });
}

#[test]
fn files_trees_and_input_go_through_whole() {
    with_adbd(async |adbd| {
        let desk = Desk::with(&adbd).await;
        let (small, large) = (noise(4321), noise((9 << 20) + 17));
        desk.file("here/small", &small);
        desk.file("here/sub/large", &large);
        for (index, adb) in clients().iter().enumerate() {
            let (there, back) = (desk.path(&format!("there{index}")), desk.path(&format!("back{index}")));
            let (out, err, code) = desk.run(adb, &["push", &desk.path("here"), &there]).await;
            assert_eq!(code, 0, "{out} {err}");
            let (out, err, code) = desk.run(adb, &["pull", &there, &back]).await;
            assert_eq!(code, 0, "{out} {err}");
            assert!(std::fs::read(format!("{back}/small")).unwrap() == small);
            assert!(std::fs::read(format!("{back}/sub/large")).unwrap() == large);
            let mut wc = desk.command(adb, &["shell", "wc -c"]).stdin(Stdio::piped()).spawn().unwrap();
            let mut input = wc.stdin.take().unwrap();
            input.write_all(&large).await.unwrap();
            drop(input);
            assert_eq!(said(&wc.wait_with_output().await.unwrap()).0.trim(), large.len().to_string());
        }
    });
}

/// A port where what is said comes back.
pub(crate) async fn echo() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut reader, mut writer) = socket.split();
                let _ = tokio::io::copy(&mut reader, &mut writer).await;
            });
        }
    });
    port
}

/// Whether what is said to `port` comes back.
pub(crate) async fn echoes(port: u16) {
    let mut socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    socket.write_all(b"ping").await.unwrap();
    let mut back = [0; 4];
    socket.read_exact(&mut back).await.unwrap();
    assert_eq!(&back, b"ping");
}

#[test]
fn forwards_and_tunnels_carry_bytes_both_ways() {
    with_adbd(async |adbd| {
        let desk = Desk::with(&adbd).await;
        let echo_port = echo().await;
        let to_echo = format!("tcp:{echo_port}");
        for adb in clients() {
            let (port, err, code) = desk.run(&adb, &["forward", "tcp:0", &to_echo]).await;
            assert_eq!(code, 0, "{err}");
            let port: u16 = port.trim().parse().unwrap();
            echoes(port).await;
            let local = format!("tcp:{port}");
            let list = desk.run(&adb, &["forward", "--list"]).await.0;
            assert_eq!(list.trim(), format!("R5CW2355X {local} {to_echo}"));
            let (_, err, code) = desk.run(&adb, &["forward", "--no-rebind", &local, "tcp:1"]).await;
            assert!(code == 1 && err.contains("cannot rebind existing socket"), "{err}");
            assert_eq!(desk.run(&adb, &["forward", "--remove", &local]).await, ok(""));
            assert_eq!(desk.run(&adb, &["forward", "--remove-all"]).await, ok(""));
            assert_eq!(desk.run(&adb, &["forward", "--list"]).await.0.trim(), "");

            let (port, err, code) = desk.run(&adb, &["reverse", "tcp:0", &to_echo]).await;
            assert_eq!(code, 0, "{err}");
            echoes(port.trim().parse().unwrap()).await;
            assert_eq!(desk.run(&adb, &["reverse", "--remove-all"]).await, ok(""));
            let (_, err, code) = desk.run(&adb, &["reverse", "tcp:0", "localfilesystem:/run/x"]).await;
            assert!(code == 1 && err.contains("farmhand opens no file"), "{err}");
        }
    });
}

#[test]
fn who_tracks_the_phones_is_told_when_one_leaves() {
    with_adbd(async |adbd| {
        let mut desk = Desk::with(&adbd).await;
        let mut child = desk.command(&clients()[1], &["track-devices"]).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("0011R5CW2355X\tdevice"));
        desk.seat = None;
        let line = lines.next_line().await.unwrap().unwrap();
        assert!(line.ends_with("R5CW2355X\toffline"), "{line}");
        let (_, err, _) = desk.run(&clients()[1], &["shell", "true"]).await;
        assert!(err.contains("device offline"), "{err}");
        desk.seat = Some(desk.online.sit(endpoint(), adbd.connect().await));
        let line = lines.next_line().await.unwrap().unwrap();
        assert!(line.ends_with("R5CW2355X\tdevice"), "{line}");
    });
}

#[test]
fn a_use_takes_a_lease_and_stands_in_the_audit() {
    with_adbd(async |adbd| {
        let mut desk = Desk::with(&adbd).await;
        assert_eq!(desk.run(&clients()[0], &["shell", "echo secret"]).await, ok("secret\n"));
        let Some(Event::Lease { event: LeaseEvent::Taken(lease), ask: None }) = desk.told.recv().await else {
            panic!("no lease was taken");
        };
        assert_eq!((lease.phone.as_str(), lease.tool, lease.who.as_str()), ("R5CW2355X", Tool::Adb, me().as_str()));
        // Its beginning is there while it goes on, so that whatever kills the daemon leaves a trace.
        let record = desk.records.recv().await.unwrap();
        assert_eq!((record.who, record.phone.as_str()), (me(), "R5CW2355X"));
        assert_eq!(record.what, "begins to work on it with adb: shell");
        desk.cancel.cancel();
        let record = desk.records.recv().await.unwrap();
        assert_eq!((record.who, record.phone.as_str()), (me(), "R5CW2355X"));
        assert!(record.what.contains("shell in 1 stream") && !record.what.contains("secret"), "{}", record.what);
    });
}

#[test]
fn nothing_is_opened_on_a_phone_while_the_audit_can_not_be_written() {
    with_adbd(async |adbd| {
        let mut desk = Desk::with(&adbd).await;
        drop(desk.disk.send_replace(Err("the disk is full".to_owned())));
        let touched = desk.path("touched");
        for adb in clients() {
            let (_, err, code) = desk.run(&adb, &["shell", "touch", &touched]).await;
            assert!(code == 1 && err.contains("farmhand can't write its audit: the disk is full"), "{code} {err}");
            assert!(!Path::new(&touched).exists());
        }
        drop(desk.disk.send_replace(Ok(())));
        assert_eq!(desk.run(&clients()[0], &["shell", "echo hello"]).await, ok("hello\n"));
        let record = desk.records.recv().await.unwrap();
        assert_eq!(record.what, "begins to work on it with adb: shell");
    });
}

#[test]
fn a_phone_that_somebody_else_holds_is_refused_with_his_name() {
    with_adbd(async |adbd| {
        let desk = Desk::with(&adbd).await;
        desk.snapshots.send_modify(|snapshot| {
            let phone = &mut Arc::make_mut(snapshot).phones[0];
            let (since, until) = (UnixMillis(0), UnixMillis(i64::MAX));
            let (phone_id, reason) = (phone.id.clone(), "battery".to_owned());
            phone.leases.push(Lease {
                phone: phone_id,
                id: HOLD,
                tool: Tool::Hold,
                who: "mara".into(),
                reason,
                since,
                until,
            });
        });
        for adb in clients() {
            for words in [vec!["shell", "true"], vec!["forward", "tcp:0", "tcp:1"]] {
                let (_, err, code) = desk.run(&adb, &words).await;
                assert!(code == 1 && err.contains("A1 is taken: mara holds it: battery"), "{err}");
            }
            assert_eq!(desk.run(&adb, &["devices"]).await, ok("List of devices attached\nR5CW2355X\tdevice\n\n"));
        }
    });
}

#[test]
fn nonsense_is_answered_with_a_sentence_or_an_end_and_harms_nobody() {
    with_adbd(async |adbd| {
        let desk = Desk::with(&adbd).await;
        let fails = async |requests: &[&[u8]], why: &str| {
            let answer = desk.ask(requests).await;
            assert!(answer.starts_with(b"FAIL"), "{answer:?}");
            assert!(String::from_utf8_lossy(&answer).contains(why), "{answer:?}");
        };
        fails(&[b"zzzz"], "four hex digits").await;
        fails(&[b"0000"], "asks for nothing").await;
        fails(&[b"000dhost:nonsense"], "unknown host service").await;
        fails(&[b"0008shell:ls"], "device offline (no transport)").await;
        fails(&[b"0001\xff"], "UTF-8").await;
        assert_eq!(desk.ask(&[b"00"]).await, b"");
        assert_eq!(desk.ask(&[b"ffffabc"]).await, b"");
        let version = desk.ask(&[b"000chost:version"]).await;
        assert_eq!(version, b"OKAY00040029");
        // A stream that the phone refuses, and one of many bytes that nobody reads.
        assert_eq!(desk.ask(&[b"0012host:transport-any", b"0009nonsense:"]).await, b"OKAYFAIL0006closed");
        let mut deaf = TcpStream::connect(("127.0.0.1", desk.port)).await.unwrap();
        deaf.write_all(b"0012host:transport-any0008exec:yes").await.unwrap();
        assert_eq!(desk.run(&clients()[0], &["shell", "echo alive"]).await, ok("alive\n"));
        drop(deaf);
    });
}

/// Nothing here needs a network of its own, but the path of adb 34 is fetched as in all tests.
#[tokio::test]
async fn an_app_is_installed_whole_and_the_model_is_told() {
    for adb in tokio::task::spawn_blocking(clients).await.unwrap() {
        let phone = Phone::new("Success\n");
        let (connection, _cable) = online(&phone, modern(), Waits::default()).await;
        let mut desk = Desk::of(connection).await;
        let content = noise((3 << 20) + 5);
        let apk = desk.file("app.apk", &content);
        let (out, err, code) = desk.run(&adb, &["install", "-r", &apk]).await;
        assert!(code == 0 && out.contains("Success"), "{out} {err}");
        let (arguments, installed) = phone.installed.lock().unwrap().take().unwrap();
        assert!(installed == content && arguments.contains(&"-r".to_owned()), "{arguments:?}");
        let changed = async {
            loop {
                if let Event::Changed { phone } = desk.told.recv().await.unwrap() {
                    return phone;
                }
            }
        };
        let changed = tokio::time::timeout(std::time::Duration::from_secs(20), changed).await.unwrap();
        assert_eq!(changed.as_str(), "R5CW2355X");
        let (long, _, _) = desk.run(&adb, &["devices", "-l"]).await;
        assert!(long.contains("model:Pixel_9_Pro device:caiman slot:A1 transport_id:1"), "{long}");
    }
}

#[tokio::test]
async fn whoever_only_connects_takes_no_place_from_others_at_the_other_entrance() {
    let phone = Phone::new("");
    let (connection, _cable) = online(&phone, modern(), Waits::default()).await;
    let desk = Desk::of(connection).await;
    let mut silent = Vec::new();
    for _ in 0..600 {
        silent.push(TcpStream::connect(("127.0.0.1", desk.port)).await.unwrap());
    }
    let mut socket = tokio::net::UnixStream::connect(desk.path("adb.sock")).await.unwrap();
    socket.write_all(b"000chost:version").await.unwrap();
    let mut version = Vec::new();
    socket.read_to_end(&mut version).await.unwrap();
    assert_eq!(version, b"OKAY00040029");
    silent.clear();
    assert_eq!(desk.ask(&[b"000chost:version"]).await, b"OKAY00040029");
}

#[test]
fn the_doctor_finds_googles_server_on_its_port_and_says_what_ends_it() {
    with_adbd(async |adbd| {
        let desk = Desk::with(&adbd).await;
        let doctor = async || {
            let mut command = Command::new(env!("CARGO_BIN_EXE_farmhand"));
            let (out, err, code) = said(&command.args(["doctor", "--json"]).output().await.unwrap());
            let findings: Vec<serde_json::Value> = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out} {err}"));
            let port = findings.into_iter().find(|finding| finding["code"] == "doctor.adb_port");
            (port, code)
        };
        assert_eq!(doctor().await.0, None);
        let mut server = desk.command(&clients()[0], &["-P", "5037", "server", "nodaemon"]).spawn().unwrap();
        ports::listener(5037, LISTENS_WITHIN).await.unwrap();
        let (finding, code) = doctor().await;
        let finding = finding.unwrap();
        assert_eq!((finding["severity"].as_str(), code), (Some("error"), 1), "{finding}");
        assert!(finding["what"].as_str().unwrap().starts_with("adb (process "), "{finding}");
        assert!(finding["help"].as_str().unwrap().contains("`adb kill-server` ends it"), "{finding}");
        server.kill().await.unwrap();
        assert_eq!(doctor().await.0, None);
    });
}
