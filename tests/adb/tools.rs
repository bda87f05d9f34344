//! The command line, the tool server and Google's adbd: `farmhand phone A1 …` as a person types it.

use std::fs;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::{Output, Stdio};
use std::sync::Arc;

use bytes::BytesMut;
use farmhand::adb::online::{OnlinePhones, Seat};
use farmhand::clock::{Moment, UnixMillis};
use farmhand::phone::tools::wire::Frame as _;
use farmhand::phone::tools::{ToolServer, wire};
use farmhand::rack::ids::{Endpoint, PhoneId, SlotName};
use farmhand::rack::lease::{HOLD, Lease, LeaseEvent, Tool};
use farmhand::rack::snapshot::PhoneView;
use farmhand::rack::{Event, Rack};
use nix::mount::{MsFlags, mount};
use nix::pty::openpty;
use nix::sched::{CloneFlags, unshare};
use rustix::termios::{Winsize, tcsetwinsize};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixListener;
use tokio::process::Command;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::adbd::{Adbd, with_adbd};
use crate::google::noise;

/// A state directory with a tool server, behind which A1 is online, A2 is not, and A3 is held by mara.
struct Desk {
    dir: TempDir,
    told: mpsc::Receiver<Event>,
    seat: Option<Seat>,
    cancel: CancellationToken,
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.cancel.cancel();
    }
}

impl Desk {
    async fn with(adbd: &Adbd) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let endpoint: Endpoint = "tcp:127.0.0.1:5555".parse().unwrap();
        let settings = (&farmhand::config::observing()).into();
        let mut snapshot = Rack::new(settings, UnixMillis(0), Moment::START).snapshot(Moment::START);
        for (slot, endpoint) in [("A1", Some(&endpoint)), ("A2", None), ("A3", Some(&endpoint))] {
            let mut phone = PhoneView::unknown(PhoneId::new(format!("serial-{slot}")));
            phone.slot = Some(SlotName::new(slot));
            phone.endpoint = endpoint.cloned();
            phone.why = "unplugged".to_owned();
            if slot == "A3" {
                phone.leases.push(hold(&phone.id, "mara"));
            }
            snapshot.phones.push(phone);
        }
        let (sender, snapshots) = watch::channel(Arc::new(snapshot));
        let online = OnlinePhones::default();
        let (events, told) = mpsc::channel(16);
        let seat = Some(online.sit(endpoint, adbd.connect().await));
        let cancel = CancellationToken::new();
        let listener = UnixListener::bind(dir.path().join(wire::SOCKET)).unwrap();
        let (server, ended) = (ToolServer { snapshots, online, events }, cancel.clone());
        tokio::spawn(async move {
            server.serve(listener, ended).await;
            drop(sender);
        });
        Self { dir, told, seat, cancel }
    }

    fn command(&self, phone: &str, words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_farmhand"));
        command.arg("--state").arg(self.dir.path()).args(["phone", phone]).args(words);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    /// What a command says, and its exit code.
    async fn run(&self, words: &[&str]) -> (String, String, i32) {
        said(&self.command("A1", words).output().await.unwrap())
    }

    fn file(&self, name: &str, content: &[u8]) -> String {
        let path = self.dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        path.display().to_string()
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }
}

fn hold(phone: &PhoneId, who: &str) -> Lease {
    let (since, until) = (UnixMillis(0), UnixMillis(i64::MAX));
    let reason = "battery".to_owned();
    Lease { phone: phone.clone(), id: HOLD, tool: Tool::Hold, who: who.to_owned(), reason, since, until }
}

fn said(output: &Output) -> (String, String, i32) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr), output.status.code().unwrap_or(-1))
}

#[test]
fn a_command_has_its_output_its_errors_its_input_and_its_status() {
    with_adbd(async |adbd| {
        let desk = Desk::with(&adbd).await;
        let (out, err, code) = desk.run(&["shell", "echo out; echo err >&2; exit 42"]).await;
        assert_eq!((out.as_str(), err.as_str(), code), ("out\n", "err\n", 42));
        assert_eq!(desk.run(&["shell", "ls", "-d", "/etc"]).await.0, "/etc\n", "a word with a hyphen is the phone's");

        let mut cat = desk.command("A1", &["shell", "wc -c"]).stdin(Stdio::piped()).spawn().unwrap();
        let mut input = cat.stdin.take().unwrap();
        input.write_all(&noise(3 << 20)).await.unwrap();
        drop(input);
        assert_eq!(said(&cat.wait_with_output().await.unwrap()).0.trim(), (3 << 20).to_string());
    });
}

#[test]
fn a_command_that_is_ended_here_ends_on_the_phone() {
    with_adbd(async |adbd| {
        let desk = Desk::with(&adbd).await;
        let marker = desk.path("ended");
        let script =
            format!("trap 'echo > {marker}; exit' HUP PIPE TERM; echo ready; while :; do echo x; sleep 0.02; done");
        let mut child = desk.command("A1", &["shell", &script]).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("ready"));
        let id = nix::unistd::Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap());
        // As Ctrl-C does, but that a shell has what it starts in the background ignore SIGINT.
        nix::sys::signal::kill(id, nix::sys::signal::Signal::SIGTERM).unwrap();
        child.wait().await.unwrap();
        while !Path::new(&marker).exists() {
            tokio::task::yield_now().await;
        }
    });
}

#[test]
fn a_shell_on_a_terminal_knows_its_size_and_each_new_one() {
    with_adbd(async |adbd| {
        let desk = Desk::with(&adbd).await;
        let terminal = openpty(None, None).unwrap();
        let resize = |ws_row, ws_col| {
            tcsetwinsize(&terminal.master, Winsize { ws_row, ws_col, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        };
        resize(30, 100);
        // The kernel tells a new size to those whose terminal it is.
        let mut command = Command::new("setsid");
        command.args(["--ctty", env!("CARGO_BIN_EXE_farmhand"), "--state"]).arg(desk.dir.path());
        command.args(["phone", "A1", "shell"]).env("TERM", "dumb").kill_on_drop(true);
        let end = || Stdio::from(terminal.slave.try_clone().unwrap());
        let mut shell = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let mut keys = fs::File::from(terminal.master.try_clone().unwrap());
        let says = fs::File::from(terminal.master.try_clone().unwrap());
        let mut lines = BufReader::new(tokio::fs::File::from_std(says)).lines();
        let mut is = async |size: &str| {
            // What is told on the way is not there yet.
            loop {
                keys.write_all(b"echo size $(stty size)\n").unwrap();
                let told = loop {
                    let line = lines.next_line().await.unwrap().unwrap();
                    // What was typed comes back as well.
                    if let Some((_, told)) =
                        line.trim_end().rsplit_once("size ").filter(|(_, told)| !told.contains('$'))
                    {
                        break told.to_owned();
                    }
                };
                if told == size {
                    return;
                }
            }
        };
        is("30 100").await;
        resize(50, 120);
        is("50 120").await;
        let mut keys = fs::File::from(terminal.master.try_clone().unwrap());
        keys.write_all(b"exit 9\n").unwrap();
        assert_eq!(shell.wait().await.unwrap().code(), Some(9));
    });
}

#[test]
fn where_nothing_can_be_written_a_push_says_so_in_a_sentence() {
    let system = tempfile::tempdir().unwrap();
    let place = system.path().to_owned();
    // adbd sees what this thread sees, and so does nobody else.
    unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace can be made: run as root");
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    mount(Some("tmpfs"), &place, Some("tmpfs"), MsFlags::MS_RDONLY, none).unwrap();
    with_adbd(async move |adbd| {
        let desk = Desk::with(&adbd).await;
        let file = desk.file("file", b"x");
        for to in ["x", "folder/x"] {
            let (_, err, code) = desk.run(&["push", &file, &place.join(to).display().to_string()]).await;
            let err: String = err.replace('│', " ").split_whitespace().collect::<Vec<_>>().join(" ");
            assert_eq!(code, 4, "{err}");
            assert!(err.contains("this part of the phone can only be read: nothing can be written there"), "{err}");
            assert!(err.contains("put it below /data/local/tmp or /sdcard"), "{err}");
        }
    });
}

/// Told again and again, adbd answers nobody else.
#[test]
fn the_end_of_the_input_is_told_once() {
    let state = tempfile::tempdir().unwrap();
    let listener = std::os::unix::net::UnixListener::bind(state.path().join(wire::SOCKET)).unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_farmhand"));
    command.arg("--state").arg(state.path()).args(["phone", "A1", "shell", "true"]).stdin(Stdio::null());
    let mut child = command.spawn().unwrap();
    let (mut socket, _) = listener.accept().unwrap();
    let (mut seen, mut chunk) = (BytesMut::new(), [0; 4096]);
    loop {
        match wire::take_frame(&mut seen).unwrap() {
            Some(wire::Up::EndOfInput) => break,
            Some(_) => {}
            None => {
                let len = socket.read(&mut chunk).unwrap();
                assert!(len > 0, "it hung up");
                seen.extend_from_slice(&chunk[..len]);
            }
        }
    }
    let (kind, payload) = wire::Down::Done(wire::Answer::Exit { status: Some(0) }).emit();
    socket.write_all(&[&wire::head(kind, payload.len())[..], &payload].concat()).unwrap();
    let mut rest = seen.to_vec();
    socket.read_to_end(&mut rest).unwrap();
    assert_eq!(rest, b"");
    assert!(child.wait().unwrap().success());
}

#[test]
fn a_phone_is_its_users_while_a_command_is_at_work_on_it() {
    with_adbd(async |adbd| {
        let mut desk = Desk::with(&adbd).await;
        let mut cat = desk.command("A1", &["shell", "cat"]).stdin(Stdio::piped()).spawn().unwrap();
        let input = cat.stdin.take().unwrap();
        let Some(Event::Lease { event: LeaseEvent::Taken(lease), ask: None }) = desk.told.recv().await else {
            panic!("no lease was taken");
        };
        assert_eq!((lease.phone.as_str(), lease.tool), ("serial-A1", Tool::Shell));
        let me = nix::unistd::User::from_uid(nix::unistd::getuid()).unwrap().unwrap();
        assert_eq!(lease.who, me.name);
        drop(input);
        let ended = desk.told.recv().await;
        let Some(Event::Lease { event: LeaseEvent::Ended { id, .. }, .. }) = ended else { panic!("{ended:?}") };
        assert_eq!(id, lease.id);
        assert!(cat.wait().await.unwrap().success());
    });
}

#[test]
fn a_phone_that_somebody_else_holds_is_left_alone() {
    with_adbd(async |adbd| {
        let desk = Desk::with(&adbd).await;
        let held = said(&desk.command("A3", &["shell", "true"]).output().await.unwrap());
        assert_eq!(held.2, 4);
        assert!(held.1.contains("lease.held") && held.1.contains("mara holds it: battery"), "{}", held.1);
    });
}

#[test]
fn a_restart_is_left_to_the_model_which_waits_for_the_phone() {
    with_adbd(async |adbd| {
        let mut desk = Desk::with(&adbd).await;
        let (_, err, code) = desk.run(&["reboot"]).await;
        assert_eq!(code, 0, "{err}");
        let told = desk.told.recv().await;
        assert!(matches!(&told, Some(Event::Restart { phone }) if phone.as_str() == "serial-A1"), "{told:?}");
    });
}

#[test]
fn files_and_folders_go_and_come_back() {
    with_adbd(async |adbd| {
        let desk = Desk::with(&adbd).await;
        let (small, large) = (noise(4321), noise((3 << 20) + 17));
        desk.file("here/small", &small);
        desk.file("here/sub/empty", b"");
        desk.file("here/sub/large", &large);
        let (out, err, code) = desk.run(&["push", &desk.path("here"), &desk.path("there")]).await;
        assert_eq!(code, 0, "{err}");
        assert!(out.starts_with("pushed 3 files, 3.2 MB in "), "{out}");
        let same = |folder: &str| {
            assert!(fs::read(desk.path(&format!("{folder}/small"))).unwrap() == small);
            assert!(fs::read(desk.path(&format!("{folder}/sub/large"))).unwrap() == large);
            assert_eq!(fs::read(desk.path(&format!("{folder}/sub/empty"))).unwrap(), b"");
        };
        same("there");
        // Into a folder that is there it goes under its name, in both directions.
        assert_eq!(desk.run(&["push", &desk.path("here"), &desk.path("there")]).await.2, 0);
        same("there/here");
        fs::create_dir(desk.path("back")).unwrap();
        let (out, err, code) = desk.run(&["pull", &desk.path("there/here"), &desk.path("back")]).await;
        assert_eq!(code, 0, "{err}");
        assert!(out.starts_with("pulled 3 files"), "{out}");
        same("back/here");
        let left: Vec<_> = fs::read_dir(desk.path("back/here")).unwrap().collect();
        assert_eq!(left.len(), 2, "nothing half is left: {left:?}");

        let output = desk.command("A1", &["pull", &desk.path("there/sub/large"), "-"]).output().await.unwrap();
        assert!(output.stdout == large, "to standard output");
        let mut push = desk.command("A1", &["push", "-", &desk.path("piped")]).stdin(Stdio::piped()).spawn().unwrap();
        let mut input = push.stdin.take().unwrap();
        input.write_all(&large).await.unwrap();
        drop(input);
        assert!(push.wait().await.unwrap().success());
        assert!(fs::read(desk.path("piped")).unwrap() == large, "from standard input");
    });
}

#[test]
fn what_can_not_be_is_told_with_a_code_and_leaves_nothing_half() {
    with_adbd(async |adbd| {
        let desk = Desk::with(&adbd).await;
        let (_, err, code) = desk.run(&["pull", "/nothing/here", &desk.path("got")]).await;
        assert_eq!(code, 4);
        assert!(err.contains("phone.pull") && err.contains("No such file"), "{err}");
        assert_eq!(fs::read_dir(desk.dir.path()).unwrap().count(), 1, "only the socket is there");

        let file = desk.file("file", b"x");
        let (_, err, code) = desk.run(&["push", &file, &format!("{file}/below")]).await;
        assert_eq!(code, 4);
        assert!(err.contains("phone.push") && err.contains("irectory"), "{err}");
        let (_, err, code) = desk.run(&["push", "/no/such/file", "/tmp/x"]).await;
        assert_eq!(code, 1);
        assert!(err.contains("cli.file"), "{err}");

        let offline = said(&desk.command("A2", &["shell", "true"]).output().await.unwrap());
        assert_eq!(offline.2, 4);
        assert!(offline.1.contains("phone.offline") && offline.1.contains("unplugged"), "{}", offline.1);
        let unknown = said(&desk.command("A11", &["shell", "true"]).output().await.unwrap());
        assert!(unknown.1.contains("did you mean `A1`?"), "{}", unknown.1);
        let (_, err, code) = desk.run(&["screenshot"]).await;
        assert_eq!(code, 4);
        assert!(err.contains("phone.screenshot") && err.contains("not found"), "{err}");
        let (_, err, code) = desk.run(&["install", &file]).await;
        assert_eq!(code, 4);
        assert!(err.contains("install."), "{err}");
    });
}

#[test]
fn a_phone_that_leaves_ends_what_is_done_on_it_with_the_reason() {
    with_adbd(async |mut adbd| {
        let desk = Desk::with(&adbd).await;
        let mut child = desk.command("A1", &["shell", "echo ready; sleep 1000"]).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("ready"));
        adbd.kill();
        let (_, err, code) = said(&child.wait_with_output().await.unwrap());
        assert_eq!(code, 4);
        assert!(err.contains("phone.shell") && err.contains("connection ended"), "{err}");
    });
}

#[test]
fn a_seat_that_is_left_ends_the_connection_whoever_works_on_it() {
    with_adbd(async |adbd| {
        let mut desk = Desk::with(&adbd).await;
        let mut child = desk.command("A1", &["shell", "echo ready; sleep 1000"]).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("ready"));
        desk.seat = None;
        assert_eq!(child.wait().await.unwrap().code(), Some(4));
        assert!(desk.run(&["shell", "true"]).await.1.contains("phone.offline"));
    });
}
