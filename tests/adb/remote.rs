//! Google's adb on a desk, through `farmhand adb-server connect` and TLS, on a virtual phone of the real daemon.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use farmhand::rack::access::{AdbDoors, TokenDone};
use farmhand::rack::snapshot::PhoneView;
use farmhand::store::promise::AuditRecord;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpSocket, TcpStream};
use tokio::process::{Child, Command};

use crate::google::noise;
use crate::one_phone::{OnePhone, PATIENCE};
use crate::server::{clients, ok, said};

/// The real daemon, which serves the owners of tokens, and its one phone.
struct Stage {
    dir: TempDir,
    rack: OnePhone,
    doors: AdbDoors,
}

impl Stage {
    async fn set() -> Self {
        Self::with("[adb_server]\nlisten = \"0.0.0.0:0\"\n").await
    }

    /// With these further lines of farmhand.toml.
    async fn with(lines: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let rack = OnePhone::start(dir.path(), &dir.path().join("state"), lines).await;
        let doors = rack.daemon.ask(&["adb-server", "show", "--json"]).await.unwrap();
        rack.until_ready().await;
        Self { dir, rack, doors }
    }

    /// Where it listens, as a desk on this machine reaches it.
    fn address(&self) -> String {
        format!("127.0.0.1:{}", self.doors.listen.unwrap().port())
    }

    fn path(&self, name: &str) -> String {
        self.dir.path().join(name).display().to_string()
    }

    /// A token in a file of its owner, and its id.
    async fn token(&self, owner: &str, role: &str) -> (PathBuf, String) {
        let done: TokenDone =
            self.rack.daemon.ask(&["tokens", "add", owner, "--role", role, "--for", "1h", "--json"]).await.unwrap();
        let id = done.records[0].id.clone();
        let file = self.dir.path().join(format!("{id}.token"));
        self.write_token(&file, &done.token.unwrap());
        (file, id)
    }

    fn write_token(&self, file: &Path, text: &str) {
        std::fs::write(file, text).unwrap();
        std::fs::set_permissions(file, std::fs::Permissions::from_mode(0o600)).unwrap();
    }

    fn connecting(&self, token: &Path, more: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_farmhand"));
        command.args(["adb-server", "connect", &self.address(), "--token-file"]).arg(token);
        if !more.contains(&"--listen") {
            command.args(["--listen", "127.0.0.1:0"]);
        }
        command.args(more).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        command
    }

    /// A desk at which this token is used.
    async fn desk(&self, token: &Path) -> FarDesk {
        let mut child = self.connecting(token, &[]).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let line = tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap().unwrap_or_default();
        let port = line.split(" at 127.0.0.1:").nth(1).and_then(|rest| rest.split(',').next()).unwrap_or_default();
        assert!(port.parse::<u16>().is_ok(), "{line:?}");
        FarDesk { port: port.to_owned(), home: self.dir.path().to_owned(), _child: child }
    }

    /// How an attempt ends that is in vain.
    async fn in_vain(&self, token: &Path, more: &[&str]) -> (String, i32) {
        let ended = tokio::time::timeout(PATIENCE, self.connecting(token, more).output()).await;
        let (out, err, code) = said(&ended.unwrap().unwrap());
        assert_eq!(out, "", "{err}");
        (err, code)
    }

    async fn audit(&self) -> Vec<AuditRecord> {
        self.rack.daemon.ask(&["audit", "--json"]).await.unwrap()
    }
}

/// `farmhand adb-server connect` that is connected.
struct FarDesk {
    port: String,
    home: PathBuf,
    _child: Child,
}

fn client(adb: &Path, port: &str, home: &Path, words: &[&str]) -> Command {
    let mut command = Command::new(adb);
    command.env("ANDROID_ADB_SERVER_PORT", port).env("HOME", home).args(words);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    command
}

impl FarDesk {
    fn command(&self, adb: &Path, words: &[&str]) -> Command {
        client(adb, &self.port, &self.home, words)
    }

    async fn run(&self, adb: &Path, words: &[&str]) -> (String, String, i32) {
        let ended = tokio::time::timeout(PATIENCE, self.command(adb, words).output()).await;
        assert!(ended.is_ok(), "{words:?} does not end");
        said(&ended.unwrap().unwrap())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn googles_adb_works_on_a_rack_elsewhere_by_a_token() {
    let clients = tokio::task::spawn_blocking(clients).await.unwrap();
    let mut stage = Stage::set().await;
    let (token, id) = stage.token("mara", "use").await;
    let desk = stage.desk(&token).await;
    let content = noise((5 << 20) + 17);
    std::fs::write(stage.path("here"), &content).unwrap();
    for (number, adb) in clients.iter().enumerate() {
        assert_eq!(desk.run(adb, &["devices"]).await, ok("List of devices attached\nR5CW2355X\tdevice\n\n"));
        assert_eq!(desk.run(adb, &["-s", "A1", "shell", "echo hello"]).await, ok("hello\n"));
        assert_eq!(desk.run(adb, &["get-state"]).await, ok("device\n"));
        let there = format!("/data/local/tmp/there{number}");
        let (out, err, code) = desk.run(adb, &["push", &stage.path("here"), &there]).await;
        assert_eq!(code, 0, "{out} {err}");
        let back = stage.path(&format!("back{number}"));
        let (out, err, code) = desk.run(adb, &["pull", &there, &back]).await;
        assert_eq!(code, 0, "{out} {err}");
        assert!(std::fs::read(&back).unwrap() == content);
        // What would listen on the rack's host, or lead there, is the admin's.
        let (_, err, code) = desk.run(adb, &["reverse", "tcp:7000", "tcp:22"]).await;
        assert!(code == 1 && err.contains("not enough for tunnels to the rack's host: role admin is"), "{err}");
        let (_, err, _) = desk.run(adb, &["kill-server"]).await;
        assert!(number == 0 || err.contains("`farmhand adb-server connect` runs"), "{err}");
    }
    let shown = stage.rack.daemon.tell(&["status"]).await.unwrap();
    let fingerprint = stage.doors.fingerprint.clone().unwrap();
    assert!(shown.contains("by TLS for the owners of tokens") && shown.contains(&fingerprint), "{shown}");
    let shown = stage.rack.daemon.tell(&["adb-server", "show"]).await.unwrap();
    assert!(shown.contains(&format!("sha256 {fingerprint}")), "{shown}");
    let listed = stage.rack.daemon.tell(&["tokens", "list"]).await.unwrap();
    assert!(listed.contains(&id) && listed.contains("mara"), "{listed}");
    assert!(stage.audit().await.iter().any(|line| line.who == "mara" && line.target == "R5CW2355X"));
    stage.rack.daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_only_look_is_refused_all_else_with_a_sentence() {
    let clients = tokio::task::spawn_blocking(clients).await.unwrap();
    let mut stage = Stage::set().await;
    let (token, _) = stage.token("wall", "view").await;
    let desk = stage.desk(&token).await;
    std::fs::write(stage.path("here"), b"content").unwrap();
    let why = "a token of role view is not enough for work on phones: role use is";
    for adb in &clients {
        assert_eq!(desk.run(adb, &["devices"]).await, ok("List of devices attached\nR5CW2355X\tdevice\n\n"));
        assert_eq!(desk.run(adb, &["wait-for-device"]).await, ok(""));
        assert_eq!(desk.run(adb, &["get-state"]).await, ok("device\n"));
        for words in [vec!["shell", "echo hello"], vec!["exec-out", "true"], vec!["push", &stage.path("here"), "/data"]]
        {
            let (out, err, code) = desk.run(adb, &words).await;
            assert!(code != 0 && (err.contains(why) || out.contains(why)), "{words:?}: {code} {out} {err}");
        }
    }
    let worked = stage.audit().await.into_iter().filter(|line| line.who == "wall").count();
    assert_eq!(worked, 0, "it has done nothing");
    stage.rack.daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_is_revoked_cuts_its_owner_off_and_guessers_are_slowed_and_stand_in_the_audit() {
    let clients = tokio::task::spawn_blocking(clients).await.unwrap();
    let mut stage = Stage::set().await;
    let (token, id) = stage.token("mara", "use").await;
    let (other, _) = stage.token("jon", "use").await;
    let desk = stage.desk(&token).await;
    let mut tracker = desk.command(&clients[1], &["track-devices"]).spawn().unwrap();
    let mut lines = BufReader::new(tracker.stdout.take().unwrap()).lines();
    assert_eq!(lines.next_line().await.unwrap().as_deref(), Some("0011R5CW2355X\tdevice"));
    let told = stage.rack.daemon.tell(&["tokens", "revoke", &id]).await.unwrap();
    assert_eq!(told, format!("the token {id} of mara counts no more\n"));
    let end = tokio::time::timeout(PATIENCE, async { while lines.next_line().await.unwrap().is_some() {} });
    end.await.expect("the tracker is cut off");

    let why = "this token is not known here, or was revoked";
    for _ in 0..3 {
        let (err, code) = stage.in_vain(&token, &[]).await;
        assert!(code == 1 && err.contains("remote.refused") && err.contains(why), "{err}");
    }
    // Then nothing from this address is looked at for a while.
    let (_, err, code) = desk.run(&clients[1], &["devices"]).await;
    assert!(code == 1 && err.contains("too many wrong tokens came from your address"), "{err}");
    let (err, _) = stage.in_vain(&other, &[]).await;
    assert!(err.contains("too many wrong tokens came from your address"), "{err}");
    let told: Vec<String> = stage
        .audit()
        .await
        .into_iter()
        .filter(|line| line.who == "somebody at 127.0.0.1" && line.target == "adb server")
        .map(|line| line.what)
        .collect();
    assert_eq!(told.len(), 3, "{told:?}");
    assert_eq!(told[0], format!("a token was refused, 3 in a row: {why}"));
    stage.rack.daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_token_is_told_to_nobody_but_the_rack_that_it_names() {
    let mut stage = Stage::set().await;
    let (token, _) = stage.token("mara", "use").await;
    let fingerprint = stage.doors.fingerprint.clone().unwrap();
    let (err, code) = stage.in_vain(&token, &["--fingerprint", &"0".repeat(64)]).await;
    assert!(code == 1 && err.contains("remote.certificate"), "{err}");
    let words: String = err.split_whitespace().filter(|word| *word != "│").collect();
    assert!(words.contains(&fingerprint), "what it has instead is said: {err}");
    // Another rack's certificate, as the token has it.
    let text = std::fs::read_to_string(&token).unwrap();
    let stale = stage.dir.path().join("stale");
    stage.write_token(&stale, &text.replace(&fingerprint, &"0".repeat(64)));
    let (err, code) = stage.in_vain(&stale, &[]).await;
    assert!(code == 1 && err.contains("remote.certificate"), "{err}");
    assert!(stage.audit().await.iter().all(|line| line.target != "adb server"), "no token was said");
    // Whoever gives the fingerprint by hand comes in with it.
    let given = fingerprint.as_bytes().chunks(2).map(|pair| String::from_utf8_lossy(pair).to_uppercase());
    let given = given.collect::<Vec<_>>().join(":");
    let mut child = stage.connecting(&stale, &["--fingerprint", &given]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    assert!(lines.next_line().await.unwrap().is_some_and(|line| line.starts_with("adb works on the phones of")));

    std::fs::set_permissions(&token, std::fs::Permissions::from_mode(0o644)).unwrap();
    let (err, code) = stage.in_vain(&token, &[]).await;
    assert!(code == 1 && err.contains("remote.token_file") && err.contains("chmod 600"), "{err}");
    let (err, code) = stage.in_vain(&stale, &["--listen", "0.0.0.0:5037"]).await;
    assert!(code == 2 && err.contains("cli.usage"), "{err}");
    stage.rack.daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_tls_and_a_token_nothing_is_answered_and_silent_ones_shut_nobody_out() {
    let clients = tokio::task::spawn_blocking(clients).await.unwrap();
    let mut stage = Stage::set().await;
    let address: std::net::SocketAddr = stage.address().parse().unwrap();
    let mut plain = TcpStream::connect(address).await.unwrap();
    plain.write_all(b"000chost:version").await.unwrap();
    let mut answer = Vec::new();
    // An alert of TLS, or a reset, is all that comes.
    let _ = tokio::time::timeout(PATIENCE, plain.read_to_end(&mut answer)).await.unwrap();
    let has = |word: &[u8]| answer.windows(word.len()).any(|window| window == word);
    assert!(!has(b"OKAY") && !has(b"R5CW2355X"), "{answer:?}");

    // From another address, which has 32 places for those who say nothing.
    let mut silent = Vec::new();
    for _ in 0..64 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        silent.push(socket.connect(address).await.unwrap());
    }
    for mut socket in silent.split_off(32) {
        let _ = tokio::time::timeout(PATIENCE, socket.read_u8()).await.expect("it is closed at once");
    }
    let (token, _) = stage.token("mara", "use").await;
    let desk = stage.desk(&token).await;
    assert_eq!(desk.run(&clients[0], &["shell", "echo hello"]).await, ok("hello\n"));
    // The others are left, too: the deadline is the daemon's.
    for mut socket in silent {
        let _ = tokio::time::timeout(PATIENCE, socket.read_u8()).await.expect("it is left in time");
    }
    stage.rack.daemon.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_daemon_that_is_killed_in_the_middle_of_a_use_leaves_its_beginning_in_the_audit_and_no_lease() {
    let clients = tokio::task::spawn_blocking(clients).await.unwrap();
    let mut stage = Stage::with("[adb_server]\nlisten = \"127.0.0.1:0\"\n").await;
    let adb = |stage: &Stage, words: &[&str]| {
        let port = stage.doors.listen.unwrap().port().to_string();
        client(&clients[1], &port, stage.dir.path(), words)
    };
    let mut use_of_it = adb(&stage, &["shell", "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    // What the phone has heard is in the audit; the lease is shown before.
    use_of_it.stdin.as_mut().unwrap().write_all(b"hello\n").await.unwrap();
    let mut echo = [0; 6];
    let heard = tokio::time::timeout(PATIENCE, use_of_it.stdout.as_mut().unwrap().read_exact(&mut echo)).await;
    heard.expect("the phone answers in time").unwrap();
    stage.rack.daemon.kill().await.unwrap();
    let _ = tokio::time::timeout(PATIENCE, use_of_it.wait()).await.expect("adb sees its server die");

    stage.rack.daemon.start_again().await.unwrap();
    stage.doors = stage.rack.daemon.ask(&["adb-server", "show", "--json"]).await.unwrap();
    stage.rack.until_ready().await;
    let phones: Vec<PhoneView> = stage.rack.daemon.ask(&["phones", "--json"]).await.unwrap();
    assert!(phones[0].leases.is_empty(), "nobody uses it any more: {:?}", phones[0].leases);
    let me = nix::unistd::User::from_uid(nix::unistd::getuid()).unwrap().unwrap().name;
    let mine = async |stage: &Stage| -> Vec<String> {
        let lines = stage.audit().await;
        lines.into_iter().filter(|line| line.who == me && line.target == "R5CW2355X").map(|line| line.what).collect()
    };
    assert_eq!(mine(&stage).await, ["begins to work on it with adb: shell"]);
    // The phone is anybody's again.
    let output = adb(&stage, &["shell", "echo hello"]).output().await.unwrap();
    assert_eq!(said(&output), ok("hello\n"));
    assert_eq!(mine(&stage).await[0], "begins to work on it with adb: shell");
    assert_eq!(mine(&stage).await.len(), 2);
    stage.rack.daemon.stop().await;
}
