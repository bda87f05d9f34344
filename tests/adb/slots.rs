//! Google's own adb servers, to which a slot's port is a phone at a TCP address.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use farmhand::adb::auth::KnownKeys;
use farmhand::clock::UnixMillis;
use farmhand::rack::Event;
use farmhand::rack::ids::SlotName;
use farmhand::rack::lease::{HOLD, Lease, LeaseEvent, Tool};
use firmware_tools::ports;
use tokio::process::{Child, Command};

use crate::adbd::{LISTENS_WITHIN, with_adbd};
use crate::google::noise;
use crate::server::{Desk, clients, echo, echoes, endpoint, ok, said};

/// A server of Google's, and its client.
struct Google<'a> {
    adb: &'a Path,
    port: String,
    home: &'a Path,
    serial: String,
    _server: Child,
}

impl<'a> Google<'a> {
    /// Connects it to a slot's port.
    async fn connected(adb: &'a Path, port: u16, desk: &'a Desk) -> Self {
        let google = Self::started(adb, port, desk.dir.path(), desk.slot_port).await;
        let said = google.adb(&["connect", &google.serial]).await;
        assert_eq!(said, ok(&format!("connected to {}\n", google.serial)));
        google
    }

    /// A server whose keys are in `home`.
    async fn started(adb: &'a Path, port: u16, home: &'a Path, slot_port: u16) -> Self {
        let listen = format!("tcp:{port}");
        let mut server = Command::new(adb);
        server.args(["-L", &listen, "server", "nodaemon"]).env("HOME", home).kill_on_drop(true);
        let server = server.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let serial = format!("127.0.0.1:{slot_port}");
        let google = Self { adb, port: port.to_string(), home, serial, _server: server };
        ports::listener(port, LISTENS_WITHIN).await.unwrap();
        google
    }

    async fn adb(&self, words: &[&str]) -> (String, String, i32) {
        let mut command = Command::new(self.adb);
        command.args(["-P", &self.port]).args(words).env("HOME", self.home).stdin(Stdio::null()).kill_on_drop(true);
        said(&command.output().await.unwrap())
    }

    /// On the phone in the slot: Google's server finds the adbd behind it, too.
    async fn on_phone(&self, words: &[&str]) -> (String, String, i32) {
        let words: Vec<&str> = ["-s", &self.serial].into_iter().chain(words.iter().copied()).collect();
        self.adb(&words).await
    }
}

#[test]
fn googles_server_works_with_a_slot_as_with_a_phone() {
    with_adbd(async |adbd| {
        let desk = Desk::with(&adbd).await;
        let echo_port = echo().await;
        let content = noise((5 << 20) + 13);
        let file = desk.file("large", &content);
        for (port, adb) in (5201..).zip(&clients()) {
            let google = Google::connected(adb, port, &desk).await;
            let (out, err, code) = google.on_phone(&["shell", "echo out; echo err >&2; exit 42"]).await;
            assert_eq!((out.as_str(), err.as_str(), code), ("out\n", "err\n", 42));
            let (there, back) = (desk.path(&format!("there{port}")), desk.path(&format!("back{port}")));
            let (_, err, code) = google.on_phone(&["push", &file, &there]).await;
            assert_eq!(code, 0, "{err}");
            let (_, err, code) = google.on_phone(&["pull", &there, &back]).await;
            assert_eq!(code, 0, "{err}");
            assert!(std::fs::read(&back).unwrap() == content);
            let (tunnel, err, code) = google.on_phone(&["reverse", "tcp:0", &format!("tcp:{echo_port}")]).await;
            assert_eq!(code, 0, "{err}");
            echoes(tunnel.trim().parse().unwrap()).await;
            let (forward, err, code) = google.on_phone(&["forward", "tcp:0", &format!("tcp:{echo_port}")]).await;
            assert_eq!(code, 0, "{err}");
            echoes(forward.trim().parse().unwrap()).await;
        }
    });
}

#[test]
fn a_slot_whose_phone_is_held_or_gone_serves_nobody() {
    with_adbd(async |adbd| {
        let mut desk = Desk::with(&adbd).await;
        desk.snapshots.send_modify(|snapshot| {
            let phone = &mut Arc::make_mut(snapshot).phones[0];
            let (since, until, reason) = (UnixMillis(0), UnixMillis(i64::MAX), "battery".to_owned());
            let (id, who) = (phone.id.clone(), "mara".to_owned());
            phone.leases.push(Lease { phone: id, id: HOLD, tool: Tool::Hold, who, reason, since, until });
        });
        let adb = &clients()[1];
        {
            let google = Google::connected(adb, 5201, &desk).await;
            let (_, err, code) = google.on_phone(&["shell", "true"]).await;
            assert!(code == 1 && err.contains("closed"), "{code} {err}");
        }
        let serial = format!("127.0.0.1:{}", desk.slot_port);
        desk.seat = None;
        let socket = tokio::net::TcpStream::connect(&serial).await.unwrap();
        let mut end = [0; 1];
        socket.readable().await.unwrap();
        assert_eq!(socket.try_read(&mut end).unwrap(), 0, "nobody is there");
        desk.seat = Some(desk.online.sit(endpoint(), adbd.connect().await));
    });
}

/// A home with a key of its own.
async fn home_with_key(adb: &Path) -> tempfile::TempDir {
    let home = tempfile::tempdir().unwrap();
    std::fs::create_dir(home.path().join(".android")).unwrap();
    let key = home.path().join(".android/adbkey");
    let made = Command::new(adb).arg("keygen").arg(&key).env("HOME", home.path()).output().await.unwrap();
    assert!(made.status.success() && key.with_extension("pub").exists(), "{:?}", said(&made));
    home
}

#[test]
fn where_keys_are_demanded_only_their_owners_are_let_in_and_others_see_a_phone_that_waits_for_its_user() {
    with_adbd(async |adbd| {
        let mut desk = Desk::with(&adbd).await;
        for (number, adb) in (0..).zip(&clients()) {
            let (friend, stranger) = (home_with_key(adb).await, home_with_key(adb).await);
            let public = friend.path().join(".android/adbkey.pub");
            let known = Arc::new(KnownKeys::load([public.as_path()]).unwrap());
            let listener = tokio::net::TcpListener::bind("0.0.0.0:0").await.unwrap();
            let slot_port = listener.local_addr().unwrap().port();
            let server = desk.server.clone();
            tokio::spawn(server.serve_slot(SlotName::new("A1"), listener, Some(known), desk.cancel.clone()));

            let google = Google::started(adb, 5301 + number, friend.path(), slot_port).await;
            let said = google.adb(&["connect", &google.serial]).await;
            assert_eq!(said, ok(&format!("connected to {}\n", google.serial)));
            assert_eq!(google.on_phone(&["shell", "echo hello"]).await, ok("hello\n"));
            let who = loop {
                if let Event::Lease { event: LeaseEvent::Taken(lease), .. } = desk.told.recv().await.unwrap() {
                    break lease.who;
                }
            };
            let text = std::fs::read_to_string(&public).unwrap();
            assert_eq!(Some(who.as_str()), text.trim().split(' ').nth(1), "the key's owner uses it");

            let google = Google::started(adb, 5311 + number, stranger.path(), slot_port).await;
            let (out, err, _) = google.adb(&["connect", &google.serial]).await;
            assert!(out.contains("failed to authenticate"), "{out} {err}");
            let (devices, _, _) = google.adb(&["devices"]).await;
            assert!(devices.contains(&format!("{}\tunauthorized", google.serial)), "{devices}");
            let (_, err, code) = google.on_phone(&["shell", "true"]).await;
            assert!(code == 1 && err.contains("device unauthorized"), "{code} {err}");
        }
    });
}
