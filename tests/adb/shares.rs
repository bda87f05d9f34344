//! Who gets how much of a phone, and of this host's memory; forwards that listen on a desk elsewhere.

use std::sync::Arc;

use farmhand::adb::server::tokens::Token;
use farmhand::adb::server::{Certificate, Forwarder, TokenDoor};
use farmhand::adb::services::sync::{PushOptions, RemoteFile};
use farmhand::clock::UnixMillis;
use farmhand::rack::access::{Role, TokenBook, TokenRecord};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::process::Command;
use tokio::sync::{mpsc, watch};

use crate::adbd::with_adbd;
use crate::google::noise;
use crate::server::{Desk, clients, echo, echoes, endpoint, ok, said};

/// A connection to the adb server on which this service of the phone is open.
async fn open(mut socket: TcpStream, service: &str) -> TcpStream {
    let request = format!("{:04x}{service}", service.len());
    socket.write_all(format!("0012host:transport-any{request}").as_bytes()).await.unwrap();
    let mut answer = [0; 8];
    socket.read_exact(&mut answer).await.unwrap();
    assert_eq!(&answer, b"OKAYOKAY");
    socket
}

#[test]
fn a_client_that_does_not_read_is_given_no_more_than_its_socket_and_a_window_hold() {
    with_adbd(async |adbd| {
        let mut desk = Desk::with(&adbd).await;
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(64 << 10).unwrap();
        let deaf = socket.connect(([127, 0, 0, 1], desk.port).into()).await.unwrap();
        let deaf = open(deaf, "exec:yes").await;
        // Meanwhile `yes` could have said as much, and far more.
        let (out, err, code) = desk.run(&clients()[1], &["exec-out", "head -c 67108864 /dev/zero"]).await;
        assert_eq!((out.len(), err.as_str(), code), (64 << 20, "", 0));
        drop(deaf);
        // Its end is seen before that of what comes after it.
        assert_eq!(desk.run(&clients()[1], &["exec-out", "true"]).await, ok(""));
        desk.cancel.cancel();
        let end = loop {
            let record = desk.records.recv().await.unwrap();
            if record.what.starts_with("worked on") {
                break record.what;
            }
        };
        // Both streams are one family: what is above the other's is the deaf one's.
        let words: Vec<&str> = end.split_whitespace().collect();
        let from = words.iter().position(|word| *word == "from").unwrap();
        let told: u64 = words[from - 2].parse().unwrap();
        let deaf = told - (64 << 20);
        assert!(deaf < 8 << 20, "{deaf} bytes: {end}");
    });
}

/// A message of the sync service.
fn sync_message(id: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let len = u32::try_from(content.len()).unwrap().to_le_bytes();
    [id.as_slice(), &len, content].concat()
}

#[test]
fn a_push_without_end_and_one_of_farmhands_own_share_a_phone() {
    with_adbd(async |adbd| {
        let desk = Desk::with(&adbd).await;
        // Both push by the same service to the same disk, so that nothing but the turns parts them; what has come there is counted,
        // and not what sockets have taken.
        let persons = desk.path("persons");
        let socket = TcpStream::connect(("127.0.0.1", desk.port)).await.unwrap();
        let mut person = open(socket, "sync:").await;
        person.write_all(&sync_message(b"SEND", format!("{persons},33152").as_bytes())).await.unwrap();
        let piece = sync_message(b"DATA", &vec![0; 64 << 10]);
        let endless = tokio::spawn(async move { while person.write_all(&piece).await.is_ok() {} });
        let moved = || std::fs::metadata(&persons).map_or(0, |file| file.len());
        while moved() < 8 << 20 {
            tokio::task::yield_now().await;
        }
        let content = noise(192 << 20);
        let own_len = content.len() as u64;
        let to = RemoteFile { path: desk.path("installed"), mode: 0o600, mtime_s: 1_700_000_000 };
        let own = desk.online.at(&endpoint()).unwrap();
        let before = moved();
        own.push(content.as_slice(), &to, &PushOptions::default()).await.unwrap();
        let meanwhile = moved() - before;
        assert!(std::fs::read(&to.path).unwrap() == content);
        // farmhand's own is read and sent by this process, and is slower for it.
        assert!(meanwhile > own_len / 2, "the person has {meanwhile} bytes, farmhand's own {own_len}");
        assert!(meanwhile < own_len * 8, "the person has {meanwhile} bytes, farmhand's own {own_len}");
        endless.abort();
    });
}

/// Owners of tokens for that desk, and where they come in.
async fn serve_by_tls(desk: &Desk, role: Role) -> (String, Token, impl Sized) {
    let certificate = Certificate::of_state(desk.dir.path()).unwrap();
    let token = Token { id: "00c0ffee".to_owned(), secret: [7; 32], certificate: certificate.digest() };
    let record = TokenRecord {
        id: token.id.clone(),
        owner: "mara".to_owned(),
        role,
        secret_sha256: token.secret_sha256(),
        created: UnixMillis(0),
        expires: None,
    };
    let (publish, book) = watch::channel(Arc::new(TokenBook::new([record])));
    let (refused, refusals) = mpsc::channel(4);
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let address = format!("127.0.0.1:{}", listener.local_addr().unwrap().port());
    let (acceptor, door) = (certificate.acceptor().unwrap(), TokenDoor { book, refused });
    tokio::spawn(desk.server.clone().serve_tls(listener, acceptor, door, desk.cancel.clone()));
    (address, token, (publish, refusals))
}

#[test]
fn a_forward_by_a_token_listens_on_the_desk_and_not_on_the_racks_host() {
    with_adbd(async |adbd| {
        let desk = Desk::with(&adbd).await;
        let (address, token, _door) = serve_by_tls(&desk, Role::Use).await;
        let forwarder = Forwarder::open(&address, &token, None).await.unwrap();
        let near = Forwarder::listen(([127, 0, 0, 1], 0).into()).await.unwrap();
        let port = near.local_addr().unwrap().port().to_string();
        tokio::spawn(forwarder.serve(near, desk.cancel.clone()));
        let adb = async |client: &std::path::Path, words: &[&str]| {
            let mut command = Command::new(client);
            command.env("ANDROID_ADB_SERVER_PORT", &port).env("HOME", desk.dir.path()).args(words).kill_on_drop(true);
            said(&command.output().await.unwrap())
        };
        let to_echo = format!("tcp:{}", echo().await);
        for client in &clients() {
            let (local, err, code) = adb(client, &["-s", "A1", "forward", "tcp:0", &to_echo]).await;
            assert_eq!(code, 0, "{err}");
            let local: u16 = local.trim().parse().unwrap();
            echoes(local).await;
            let name = format!("tcp:{local}");
            let list = adb(client, &["forward", "--list"]).await.0;
            assert_eq!(list.trim(), format!("R5CW2355X {name} {to_echo}"));
            assert_eq!(desk.run(client, &["forward", "--list"]).await.0.trim(), "", "the rack's host has none");
            let (_, err, code) = adb(client, &["forward", "--no-rebind", &name, "tcp:1"]).await;
            assert!(code == 1 && err.contains("cannot rebind existing socket"), "{err}");
            assert_eq!(adb(client, &["forward", "--remove", &name]).await, ok(""));
            let (_, err, code) = adb(client, &["forward", "--remove", &name]).await;
            assert!(code == 1 && err.contains(&format!("listener '{name}' not found")), "{err}");
            let (_, err, code) = adb(client, &["-s", "nope", "forward", "tcp:0", "tcp:1"]).await;
            assert!(code == 1 && err.contains("device 'nope' not found"), "{err}");
            assert_eq!(adb(client, &["forward", "tcp:0", &to_echo]).await.2, 0);
            assert_eq!(adb(client, &["forward", "--remove-all"]).await, ok(""));
            assert_eq!(adb(client, &["forward", "--list"]).await.0.trim(), "");
        }
    });
}

#[test]
fn large_files_go_through_tls_whole() {
    with_adbd(async |adbd| {
        let desk = Desk::with(&adbd).await;
        let (address, token, _door) = serve_by_tls(&desk, Role::Use).await;
        let forwarder = Forwarder::open(&address, &token, None).await.unwrap();
        let near = Forwarder::listen(([127, 0, 0, 1], 0).into()).await.unwrap();
        let port = near.local_addr().unwrap().port();
        tokio::spawn(forwarder.serve(near, desk.cancel.clone()));
        let socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let mut socket = open(socket, "exec:head -c 67108864 /dev/zero | tr '\\0' x; echo end").await;
        // A reader that lets everything fill up, and then takes it.
        tokio::task::yield_now().await;
        let mut all = Vec::new();
        socket.read_to_end(&mut all).await.unwrap();
        assert_eq!(all.len(), (64 << 20) + 4);
        assert!(all.ends_with(b"xend\n"));
    });
}
