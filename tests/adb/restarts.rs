//! `adb root`, `unroot`, `tcpip`, `usb` and `remount` through the daemon: adbd leaves and comes back, and farmhand has it again.

use std::time::Duration;

use farmhand::rack::snapshot::PhoneState;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::desk::Desk;

/// What adbd says at once.
const SOON: Duration = Duration::from_secs(20);

/// What adbd does after it has answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    /// It goes on.
    Stays,
    /// It starts again.
    Leaves,
}
use Then::{Leaves, Stays};

/// What is asked of a phone for developers, one after the other: adbd's words, what it does, and what the phone's shell says of it then.
const STORY: [(&str, &str, Then, &str, &str); 11] = [
    ("unroot:", "adbd not running as root\n", Stays, "id", "uid=2000(shell)"),
    ("remount:", "Not running as root. Try \"adb root\" first.\n", Stays, "mkdir /system/app", "Permission denied"),
    ("root:", "restarting adbd as root\n", Leaves, "id", "uid=0(root)"),
    ("root:", "adbd is already running as root\n", Stays, "getprop service.adb.root", "1"),
    ("remount:", "remount succeeded\n", Stays, "mkdir /system/app; ls /system", "app"),
    ("tcpip:5555", "restarting in TCP mode port: 5555\n", Leaves, "getprop service.adb.tcp.port", "5555"),
    ("tcpip:0", "invalid port 0\n", Stays, "id", "uid=0(root)"),
    ("usb:", "restarting in USB mode\n", Leaves, "getprop service.adb.tcp.port", "0"),
    ("unroot:", "restarting adbd as non root\n", Leaves, "id", "uid=2000(shell)"),
    ("remount:", "Not running as root. Try \"adb root\" first.\n", Stays, "getprop service.adb.root", "0"),
    ("unroot:", "adbd not running as root\n", Stays, "id", "uid=2000(shell)"),
];

/// A phone for developers, and one as it is sold.
const RACK: &str = "[[phone]]\nname = 'A1'\ndebuggable = true\nadbd_away_s = 0.5\n[[phone]]\nname = 'A2'\n";

#[tokio::test]
async fn adbd_starts_again_and_the_daemon_has_it_again() {
    let desk = Desk::start(RACK, "").await;
    desk.look(async {
        let other = desk.ready("A2").await.unwrap();
        for (number, (service, words, then, line, shown)) in STORY.into_iter().enumerate() {
            let step = format!("step {number}, {service}");
            let before = desk.ready("A1").await.unwrap_or_else(|why| panic!("{step}: {why}"));
            assert_eq!(ask(&desk, "A1", service).await, words, "{step}");
            if then == Leaves {
                let left = desk.seen("A1", |phone| phone.state != PhoneState::Ready || phone.since > before.since);
                left.await.unwrap_or_else(|why| panic!("{step}: adbd stays: {why}"));
            }
            let after = desk.ready("A1").await.unwrap_or_else(|why| panic!("{step}: {why}"));
            assert_eq!(after.since > before.since, then == Leaves, "{step}: {}", after.why);
            let output = desk.run("A1", &["shell", line], SOON).await.unwrap();
            let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
            assert!(said.contains(shown), "{step}: {line} says {said}");
            assert_eq!(desk.phone("A1").state().reboots, 0, "{step}: Android goes on");
        }
        let words = "adbd cannot run as root in production builds\n";
        assert_eq!(ask(&desk, "A2", "root:").await, words, "as a phone that was sold");
        assert_eq!(desk.ready("A2").await.unwrap().since, other.since, "nothing happened to it");
    })
    .await;
}

/// What a program of adb's hears that asks the daemon for a service of the phone in a slot.
async fn ask(desk: &Desk, slot: &str, service: &str) -> String {
    let asked = async {
        let mut socket = UnixStream::connect(desk.state().join("adb.sock")).await.unwrap();
        for request in [format!("host:transport:{slot}"), service.to_owned()] {
            socket.write_all(format!("{:04x}{request}", request.len()).as_bytes()).await.unwrap();
            let mut status = [0; 4];
            socket.read_exact(&mut status).await.unwrap();
            assert_eq!(&status, b"OKAY", "{request}");
        }
        let mut answer = String::new();
        socket.read_to_string(&mut answer).await.unwrap();
        answer
    };
    timeout(SOON, asked).await.expect("the answer has an end")
}
