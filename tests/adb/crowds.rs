//! Ten thousand connections at once.

use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream, UnixStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::adbd::with_adbd;
use crate::server::Desk;

const CROWD: u64 = 10_000;
/// What the server takes of them: the places at its port.
const PLACES: u64 = 512;
/// Descriptors of whatever else runs in this process.
const REST: u64 = 300;
/// Of those beyond the places so many stand in the kernel's queue; the others are not answered.
const QUEUE: usize = 1024;
/// A busy machine may need some seconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// Lets this process have a crowd's descriptors, here and at the server, which is in it.
fn raise_descriptors() {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    let needed = CROWD + PLACES + REST;
    assert!(
        hard >= needed,
        "{CROWD} connections need {needed} descriptors, and the hard limit is {hard} (`ulimit -Hn`)"
    );
    setrlimit(Resource::RLIMIT_NOFILE, soft.max(needed), hard).unwrap();
}

fn descriptors() -> u64 {
    std::fs::read_dir("/proc/self/fd").unwrap().count() as u64
}

/// What the phone says, by the server's Unix socket.
async fn hello(desk: &Desk) -> String {
    let said = async {
        let mut socket = UnixStream::connect(desk.path("adb.sock")).await.unwrap();
        socket.write_all(b"0012host:transport-any000fexec:echo hello").await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        answer
    };
    timeout(PATIENCE, said).await.expect("it is answered in time")
}

/// What the server says of itself at its port, once it is somebody's turn.
async fn version(desk: &Desk) -> String {
    let said = async {
        let mut socket = TcpStream::connect(("127.0.0.1", desk.port)).await.unwrap();
        socket.write_all(b"000chost:version").await.unwrap();
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        answer
    };
    timeout(PATIENCE, said).await.expect("it is answered in time")
}

#[test]
fn ten_thousand_half_requests_cost_no_more_than_their_places_and_shut_nobody_else_out() {
    raise_descriptors();
    with_adbd(async |adbd| {
        let desk = Desk::with(&adbd).await;
        let before = descriptors();
        let mut crowd = JoinSet::new();
        let (tell, mut connected) = mpsc::unbounded_channel();
        for _ in 0..CROWD {
            let (socket, port, tell) = (TcpSocket::new_v4().unwrap(), desk.port, tell.clone());
            crowd.spawn(async move {
                // Not all of them are answered before this test ends.
                let mut stream = socket.connect(([127, 0, 0, 1], port).into()).await.unwrap();
                stream.write_all(b"00").await.unwrap();
                tell.send(()).unwrap();
                std::future::pending::<()>().await;
            });
        }
        let queue = async {
            for _ in 0..PLACES as usize + QUEUE {
                connected.recv().await.unwrap();
            }
        };
        timeout(PATIENCE, queue).await.expect("places and queue fill in time");
        let held = descriptors() - before;
        assert!(held >= CROWD, "all of the crowd is there: {held}");
        assert!(held <= CROWD + PLACES + REST, "the server holds its places at most: {}", held - CROWD);
        assert_eq!(hello(&desk).await, "OKAYOKAYhello\n");
        crowd.shutdown().await;
        assert_eq!(version(&desk).await, "OKAY00040029");
        assert_eq!(hello(&desk).await, "OKAYOKAYhello\n");
    });
}
