//! The virtual rack met from outside, as the daemon meets it: over a pty, TCP, MQTT and HTTP.
//!
//! Needs Debian's `mosquitto-clients`.

#![allow(clippy::unwrap_used, reason = "a step that cannot be taken ends the test")]

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::AsFd as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use farmhand::central::proto;
use firmware_tools::check::{Browser, Subscriber, until};
use firmware_tools::hub::LineFault;
use firmware_tools::order::{CentralAct, Order, PhoneAct};
use firmware_tools::ports::Addresses;
use firmware_tools::rack::{Rack, test_apks};
use firmware_tools::rack_file::RackFile;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use prost::Message as _;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Nothing here takes so long on an idle machine; a busy one may need some seconds.
const PATIENCE: Duration = Duration::from_secs(10);

async fn rack(text: &str) -> (Rack, TempDir) {
    let dir = TempDir::new().unwrap();
    let file = RackFile::parse(text, "test.toml").unwrap();
    let rack = Rack::start(file, Addresses::AsWritten, &test_apks(), dir.path()).await.unwrap();
    (rack, dir)
}

/// A terminal on the hub's serial line.
struct Console(File);

impl Console {
    fn open(device: &Path) -> Self {
        Self(File::options().read(true).write(true).open(device).unwrap())
    }

    /// What comes until the prompt, or until nothing has come for `patience`.
    fn ask(&mut self, command: &str, patience: Duration) -> Vec<u8> {
        self.0.write_all(format!("{command}\r").as_bytes()).unwrap();
        let mut seen = Vec::new();
        while !seen.ends_with(b">> ") {
            let mut wait = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
            if poll(&mut wait, PollTimeout::try_from(patience).unwrap()).unwrap() == 0 {
                break;
            }
            let mut buffer = [0; 512];
            let n = self.0.read(&mut buffer).unwrap();
            seen.extend_from_slice(&buffer[..n]);
        }
        seen
    }

    async fn reply(self, command: &str) -> (Self, String) {
        self.reply_within(command, PATIENCE).await
    }

    async fn reply_within(mut self, command: &str, patience: Duration) -> (Self, String) {
        let command = command.to_owned();
        tokio::task::spawn_blocking(move || {
            let reply = self.ask(&command, patience);
            (self, String::from_utf8_lossy(&reply).into_owned())
        })
        .await
        .unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_answers_on_its_pty_as_a_real_one_does() {
    let (_rack, dir) = rack("[[hub]]\nname = 'H1'\nports = 2\nserial = 'DB0074F5'\n").await;
    let console = Console::open(&dir.path().join("H1"));
    let (console, reply) = console.reply("id").await;
    assert!(reply.starts_with("id\r\nmfr:cambrionix,") && reply.ends_with(",fc:un\r\n>> "), "{reply:?}");
    let (console, reply) = console.reply("state").await;
    assert_eq!(reply.matches("\r\n").count(), 3, "{reply:?}");
    assert!(reply.contains("\r\n2, 0000, R D S, 0, 0, x, 0.00\r\n"), "{reply:?}");
    let (_console, reply) = console.reply("state 3").await;
    assert!(reply.contains("*E402"), "{reply:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hub_can_be_opened_again_after_its_reader_left() {
    let (_rack, dir) = rack("[[hub]]\nname = 'H1'\nports = 1\n").await;
    for _ in 0..3 {
        let console = Console::open(&dir.path().join("H1"));
        let (_console, reply) = console.reply("id").await;
        assert!(reply.starts_with("id\r\nmfr:"), "{reply:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_line_is_silent_and_a_sick_one_talks_nonsense() {
    let (rack, dir) = rack("[[hub]]\nname = 'H1'\nports = 1\n").await;
    let hub = rack.hub("H1").unwrap();
    let console = Console::open(&dir.path().join("H1"));
    hub.set_fault(LineFault::Cut);
    let (console, reply) = console.reply_within("state", Duration::from_millis(200)).await;
    assert_eq!(reply, "");
    hub.set_fault(LineFault::Garbage);
    let (console, reply) = console.reply_within("state", Duration::from_millis(200)).await;
    assert!(!reply.is_empty() && !reply.contains("state"), "{reply:?}");
    hub.set_fault(LineFault::None);
    let (_console, reply) = console.reply("state").await;
    assert!(reply.starts_with("state\r\n1, "), "{reply:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_port_in_off_takes_its_phone_away_and_a_hand_cannot_bring_it_back() {
    let (rack, dir) =
        rack("[[hub]]\nname = 'H1'\nports = 4\n[[phone]]\nname = 'P1'\nhub = 'H1'\nport = 3\nbattery = 50\n").await;
    let address = rack.file().phones[0].listen;
    let mut connection = TcpStream::connect(address).await.unwrap();

    let console = Console::open(&dir.path().join("H1"));
    let (console, reply) = console.reply("state 3").await;
    assert!(reply.contains(" A S, "), "{reply:?}");
    let (console, _) = console.reply("mode off 3").await;
    assert!(TcpStream::connect(address).await.is_err(), "its address still answers");
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, connection.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "its connection is still open");
    rack.obey(Order::Phone { name: "P1".to_owned(), act: PhoneAct::Plug }).await.unwrap();
    assert!(TcpStream::connect(address).await.is_err(), "a port without power brought a phone back");

    let (console, _) = console.reply("mode sync 3").await;
    TcpStream::connect(address).await.unwrap();
    rack.obey(Order::Phone { name: "P1".to_owned(), act: PhoneAct::Unplug }).await.unwrap();
    let (_console, reply) = console.reply("state 3").await;
    assert!(reply.contains(" D S, "), "{reply:?}");
    assert!(TcpStream::connect(address).await.is_err());
}

/// `TransportMessage` with `Id` 1, `MsgType` DeviceAuthReq and the credential `123456789012345`, byte by byte.
const AUTH: &[u8] = b"\0\0\0\x5e\x08\x01\x18\xf2\x07\x22\x57\x0a\x40type.googleapis.com/Jubo.JuLiao.IM.Wx.Proto.DeviceAuthReqMessage\x12\x13\x08\x01\x12\x0f123456789012345";

async fn frame(stream: &mut TcpStream) -> proto::TransportMessage {
    let frame = async {
        let length = stream.read_u32().await.unwrap();
        let mut bytes = vec![0; usize::try_from(length).unwrap()];
        stream.read_exact(&mut bytes).await.unwrap();
        proto::TransportMessage::decode(bytes.as_slice()).unwrap()
    };
    tokio::time::timeout(PATIENCE, frame).await.unwrap()
}

#[tokio::test]
async fn the_central_server_speaks_the_protocol_and_remembers() {
    let capture = TempDir::new().unwrap();
    let capture = capture.path().join("frames");
    let (rack, _dir) = rack(&format!("[central]\ncapture = '{}'\n", capture.display())).await;
    let central = rack.central().unwrap();
    let mut stream = TcpStream::connect(central.address()).await.unwrap();
    stream.write_all(AUTH).await.unwrap();
    let response = frame(&mut stream).await;
    assert_eq!((response.msg_type, response.ref_message_id), (1011, 1));
    let token = proto::DeviceAuthRspMessage::decode(response.content.unwrap().value.as_slice()).unwrap().access_token;
    let device = central.record().devices["123456789012345"].clone();
    assert!(device.connected && device.registered_at.is_some());

    let heartbeat = proto::TransportMessage { id: 2, access_token: token, msg_type: 1001, ..Default::default() };
    let bytes = heartbeat.encode_to_vec();
    stream.write_u32(u32::try_from(bytes.len()).unwrap()).await.unwrap();
    stream.write_all(&bytes).await.unwrap();
    let ack = frame(&mut stream).await;
    assert_eq!((ack.msg_type, ack.ref_message_id), (1002, 2));
    assert_eq!(central.record().devices["123456789012345"].heartbeats, 1);

    let captured = std::fs::read(&capture).unwrap();
    assert!(captured.starts_with(AUTH), "the capture is not what was on the wire");
    assert!(captured.ends_with(&ack.encode_to_vec()));
}

#[tokio::test]
async fn a_killed_central_server_comes_back_at_its_address() {
    let (rack, _dir) = rack("[central]\n").await;
    let central = rack.central().unwrap();
    let mut stream = TcpStream::connect(central.address()).await.unwrap();
    stream.write_all(AUTH).await.unwrap();
    let _ = frame(&mut stream).await;
    rack.obey(Order::Central { act: CentralAct::Stop }).await.unwrap();
    assert!(TcpStream::connect(central.address()).await.is_err());
    assert!(!central.record().devices["123456789012345"].connected);
    rack.obey(Order::Central { act: CentralAct::Start }).await.unwrap();
    let mut stream = TcpStream::connect(central.address()).await.unwrap();
    stream.write_all(AUTH).await.unwrap();
    let _ = frame(&mut stream).await;
    assert_eq!(central.record().devices["123456789012345"].sessions, 2);
}

#[tokio::test]
async fn a_frame_that_is_too_long_or_no_message_ends_the_connection() {
    let (rack, _dir) = rack("[central]\n").await;
    let central = rack.central().unwrap();
    for bytes in [&b"\xff\xff\xff\xff"[..], &b"\x7f\xff\xff\xff"[..], &b"\0\0\0\x03\xff\xff\xff"[..]] {
        let mut stream = TcpStream::connect(central.address()).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut rest = Vec::new();
        let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "{bytes:x?} did not end the connection");
    }
    assert_eq!(central.record().bad_frames, 3);
}

fn mosquitto(program: &str) -> Command {
    let found = Command::new(program).arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status();
    assert!(found.is_ok(), "{program} is missing: install Debian's package mosquitto-clients");
    Command::new(program)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_broker_keeps_what_is_retained_and_tells_a_last_will() {
    let (rack, _dir) = rack("[broker]\n").await;
    let port = rack.broker().unwrap().address().port().to_string();
    let told = tokio::task::spawn_blocking(move || {
        let to = ["-h", "127.0.0.1", "-p", &port];
        let published =
            mosquitto("mosquitto_pub").args(to).args(["-t", "rack/health", "-r", "-m", "fine", "-q", "1"]).status();
        assert!(published.unwrap().success());
        // A client that is killed: the broker tells its will, and keeps it.
        let mut doomed = mosquitto("mosquitto_sub")
            .args(to)
            .args(["-t", "rack/health", "--will-topic", "rack/status", "--will-payload", "offline", "--will-retain"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut first = [0; 5];
        doomed.stdout.take().unwrap().read_exact(&mut first).unwrap();
        doomed.kill().unwrap();
        doomed.wait().unwrap();
        let told =
            mosquitto("mosquitto_sub").args(to).args(["-t", "rack/#", "-C", "2", "-W", "10", "-v"]).output().unwrap();
        String::from_utf8(told.stdout).unwrap()
    })
    .await
    .unwrap();
    assert!(told.contains("rack/health fine\n") && told.contains("rack/status offline\n"), "{told:?}");
}

#[tokio::test]
async fn an_apk_is_served_and_each_fetch_is_counted() {
    let (rack, _dir) = rack("[files]\n").await;
    let files = rack.files().unwrap();
    let address = files.url("agent-1.apk").trim_start_matches("http://").split('/').next().unwrap().to_owned();
    for (path, status) in [("/agent-1.apk", "200"), ("/..%2fCargo.toml", "404"), ("/agent-9.apk", "404")] {
        let mut stream = TcpStream::connect(&address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: rack\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut response = Vec::new();
        stream.read_to_end(&mut response).await.unwrap();
        let start = String::from_utf8_lossy(&response[..12]).into_owned();
        assert!(start.ends_with(status), "{path}: {start}");
    }
    assert_eq!(files.fetches().into_iter().collect::<Vec<_>>(), [("agent-1.apk".to_owned(), 1)]);
}

#[tokio::test]
async fn the_demo_rack_starts_and_its_daemon_configuration_is_one_that_farmhand_reads() {
    let started = Instant::now();
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/racks/demo.toml")).unwrap();
    let file = RackFile::parse(&text, "demo.toml").unwrap();
    let dir = TempDir::new().unwrap();
    let rack = Rack::start(file, Addresses::AnyFree, &test_apks(), dir.path()).await.unwrap();
    let config: toml::Table = toml::from_str(&std::fs::read_to_string(rack.config_file()).unwrap()).unwrap();
    assert_eq!(config["slot"].as_array().unwrap().len(), 8);
    assert_eq!(config["slot"][2]["port"].as_integer(), Some(3));
    assert_eq!(config["agent"]["package"].as_str(), Some("org.example.agent"));
    assert!(config["hub"][0]["device"].as_str().unwrap().ends_with("/H1"));
    assert!(started.elapsed() < PATIENCE);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_subscriber_of_the_check_tells_retained_from_live() {
    let (rack, _dir) = rack("[broker]\n").await;
    let broker = rack.broker().unwrap().address();
    let publish = |topic: &'static str, payload: &'static str| {
        let port = broker.port().to_string();
        let told = mosquitto("mosquitto_pub")
            .args(["-h", "127.0.0.1", "-p", &port, "-r", "-q", "1", "-t", topic, "-m", payload])
            .status();
        assert!(told.unwrap().success());
    };
    publish("farmhand/demo/status", "online");
    let subscriber = Subscriber::start(broker).unwrap();
    let seen = async |topic: &str| {
        until(PATIENCE, topic, async || subscriber.last(topic).ok_or_else(|| format!("{:?}", subscriber.topics())))
            .await
            .unwrap()
    };
    assert!(seen("farmhand/demo/status").await.retained);
    publish("farmhand/demo/health", "{\"cpu\": 3}");
    let health = seen("farmhand/demo/health").await;
    assert_eq!((health.payload.as_str(), health.retained), ("{\"cpu\": 3}", false));
}

/// A page that changes by itself, as the daemon's does when an event comes.
const PAGE: &str = "data:text/html,<p id=a data-phone=P1 data-state=ready>P1</p>\
                    <script>setTimeout(() => document.getElementById('a').dataset.state = 'absent', 100)</script>";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_browser_of_the_check_sees_a_page_change() {
    let mut browser = Browser::start().await.unwrap();
    browser.open(PAGE).await.unwrap();
    let changed = until(PATIENCE, "absent", async || {
        let state = browser.evaluate("document.querySelector('[data-phone=P1]')?.dataset.state").await;
        match state.unwrap().as_str() {
            Some("absent") => Ok(()),
            other => Err(format!("{other:?}")),
        }
    });
    changed.await.unwrap();
    let error = browser.evaluate("nothing.here").await.unwrap_err();
    assert!(error.to_string().contains("ReferenceError"), "{error}");
    assert!(browser.picture().await.unwrap().starts_with(b"\x89PNG\r\n"));
}
