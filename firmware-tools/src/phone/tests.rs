//! A host of a few lines and a virtual phone. What Google's adb makes of one is in `tests/google_adb.rs`.

use std::time::Duration;

use bytes::{Buf, Bytes};
use handset::wire::{Codec, Command, HEADER_BYTES, Message, Sums, VERSION_UNCHECKED};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::codec::Decoder as _;

use super::*;

/// The host's end of a connection.
struct Host {
    stream: TcpStream,
    codec: Codec,
    bytes: bytes::BytesMut,
    last_id: u32,
}

impl Host {
    async fn connect(phone: &VirtualPhone) -> io::Result<Self> {
        let stream = TcpStream::connect(phone.address()).await?;
        let codec = Codec::new(1 << 20, Sums::Unchecked);
        let mut host = Self { stream, codec, bytes: bytes::BytesMut::new(), last_id: 0 };
        host.say(Message::new(Command::CNXN, VERSION_UNCHECKED, 1 << 20, "host::features=cmd")).await?;
        Ok(host)
    }

    /// Connected and past CNXN.
    async fn online(phone: &VirtualPhone) -> Self {
        let mut host = Self::connect(phone).await.unwrap();
        assert_eq!(host.hear().await.unwrap().command, Command::CNXN);
        host
    }

    async fn say(&mut self, message: Message) -> io::Result<()> {
        let header: [u8; HEADER_BYTES] = message.header(Sums::Checked);
        self.stream.write_all_buf(&mut Buf::chain(&header[..], message.payload)).await
    }

    async fn hear(&mut self) -> Result<Message, String> {
        loop {
            match self.codec.decode(&mut self.bytes) {
                Ok(Some(message)) => return Ok(message),
                Ok(None) => {}
                Err(error) => return Err(error.to_string()),
            }
            match self.stream.read_buf(&mut self.bytes).await {
                Ok(0) => return Err("hung up".to_owned()),
                Ok(_) => {}
                Err(error) => return Err(error.to_string()),
            }
        }
    }

    /// What a service answers to `input`.
    async fn ask(&mut self, service: &str, input: Bytes) -> Result<String, String> {
        self.last_id += 1;
        let id = self.last_id;
        let open = Message::new(Command::OPEN, id, 0, service.as_bytes().to_vec());
        self.say(open).await.map_err(|error| error.to_string())?;
        let mut output = Vec::new();
        loop {
            let message = self.hear().await?;
            if message.arg1 != id {
                continue;
            }
            let answer = match message.command {
                Command::OKAY if output.is_empty() && !input.is_empty() => {
                    Message::new(Command::WRTE, id, message.arg0, input.clone())
                }
                Command::WRTE => {
                    output.extend_from_slice(&message.payload);
                    Message::new(Command::OKAY, id, message.arg0, "")
                }
                Command::CLSE => return Ok(String::from_utf8(output).unwrap()),
                _ => continue,
            };
            // The phone may have hung up after its last word.
            let _ = self.say(answer).await;
        }
    }

    async fn shell(&mut self, line: &str) -> String {
        self.ask(&format!("shell:{line}"), Bytes::new()).await.unwrap()
    }

    async fn install(&mut self, name: &str) -> String {
        let content = apk(name);
        self.ask(&format!("exec:cmd package 'install' '-S' '{}'", content.len()), content).await.unwrap()
    }
}

fn apk(name: &str) -> Bytes {
    Bytes::from(std::fs::read(path(name)).unwrap())
}

fn path(name: &str) -> std::path::PathBuf {
    format!("{}/apks/{name}", env!("CARGO_MANIFEST_DIR")).into()
}

fn spec() -> PhoneSpec {
    PhoneSpec {
        imei: Some("353626072090389".to_owned()),
        reboot_away_s: 0.01,
        boot_s: 0.01,
        ..PhoneSpec::new("A1", "R58M123")
    }
}

#[tokio::test]
async fn a_phone_tells_who_it_is() {
    let phone = VirtualPhone::start(spec()).unwrap();
    let mut host = Host::online(&phone).await;
    let properties = host.shell("getprop").await;
    for line in ["[ro.serialno]: [R58M123]", "[ro.product.model]: [Pixel 6a]", "[sys.boot_completed]: [1]"] {
        assert!(properties.lines().any(|seen| seen == line), "{line} in {properties}");
    }
    assert_eq!(host.shell("getprop ro.build.version.release").await, "14\n");
    assert_eq!(host.shell("getprop no.such.thing").await, "\n");
    assert_eq!(host.shell("settings get secure android_id").await.trim().len(), 16);
    assert_eq!(host.shell("settings get global nothing").await, "null\n");
    assert!(host.shell("service call iphonesubinfo 1 s16 com.android.shell").await.contains("'........3.5.3.6.'"));
    let battery = host.shell("dumpsys battery").await;
    assert!(battery.contains("\n  USB powered: true\n") && battery.contains("\n  level: 80\n"), "{battery}");
    assert_eq!(host.shell("foo bar").await, "/system/bin/sh: foo: inaccessible or not found\n");
    assert_eq!(host.shell("echo 'one  two'; false || echo three").await, "one  two\nthree\n");
    assert_eq!(host.shell("foo 2>/dev/null; ls /sdcard >/dev/null 2>&1; echo fine").await, "fine\n");
    assert!(phone.state().shells >= 10);
}

#[tokio::test]
async fn apps_are_installed_told_and_removed() {
    let mut spec = spec();
    spec.packages = vec![path("other-package-1.apk")];
    let phone = VirtualPhone::start(spec).unwrap();
    let mut host = Host::online(&phone).await;
    assert_eq!(host.install("agent-1.apk").await, "Success\n");
    assert_eq!(host.install("agent-2.apk").await, "Success\n");
    assert_eq!(
        host.install("agent-1.apk").await,
        "Failure [INSTALL_FAILED_VERSION_DOWNGRADE: Downgrade detected: Update version code 1 is older than current 2]\n"
    );
    assert_eq!(
        host.shell("cmd package list packages --show-versioncode").await,
        "package:org.example.agent versionCode:2\npackage:org.example.other versionCode:1\n"
    );
    let dump = host.shell("dumpsys package org.example.agent").await;
    assert!(dump.contains("\n    versionCode=2 minSdk=24 targetSdk=29\n    versionName=2.0\n"), "{dump}");
    assert!(host.shell("pm path org.example.agent").await.starts_with("package:/data/app/~~"));
    assert_eq!(host.shell("pm path org.example.nobody").await, "");
    let state = phone.state();
    assert_eq!((state.installs, state.installs_failed), (2, 1));
    assert_eq!(state.packages["org.example.agent"], (2, "2.0".to_owned()));
    assert_eq!(host.shell("pm uninstall org.example.agent").await, "Success\n");
    assert_eq!(host.shell("pm uninstall org.example.agent").await, "Failure [DELETE_FAILED_INTERNAL_ERROR]\n");
}

#[tokio::test]
async fn an_apk_also_comes_by_abb_and_by_file() {
    let phone = VirtualPhone::start(spec()).unwrap();
    let mut host = Host::online(&phone).await;
    let content = apk("agent-1.apk");
    let service = format!("abb_exec:package\0install\0-S\0{}", content.len());
    assert_eq!(host.ask(&service, content.clone()).await.unwrap(), "Success\n");
    let file = handset::NewNode::File(content.into());
    handset::FileSystem::write(&phone.android.files, "/data/local/tmp/a.apk", 0o644, 0, file).unwrap();
    assert_eq!(host.shell("pm install -r /data/local/tmp/a.apk").await, "Success\n");
    assert!(host.shell("pm install /nowhere.apk").await.starts_with("Error: failed to open /nowhere.apk"));
    assert_eq!(host.shell("rm /data/local/tmp/a.apk && ls /data/local/tmp").await, "");
}

#[tokio::test]
async fn a_phone_without_cable_is_gone_at_once_and_back_on_the_same_port() {
    let phone = VirtualPhone::start(spec()).unwrap();
    for _ in 0..3 {
        let mut host = Host::online(&phone).await;
        assert_eq!(phone.state().connections, 1);
        phone.unplug().await;
        assert!(host.hear().await.is_err());
        assert!(TcpStream::connect(phone.address()).await.is_err());
        assert_eq!((phone.is_plugged(), phone.state().connections), (false, 0));
        phone.plug().await.unwrap();
    }
    Host::online(&phone).await;
}

#[tokio::test]
async fn a_restart_takes_the_phone_away_and_android_comes_later() {
    let mut spec = spec();
    spec.boot_s = 1e6;
    let phone = VirtualPhone::start(spec).unwrap();
    let mut host = Host::online(&phone).await;
    host.ask("reboot:", Bytes::new()).await.ok();
    while host.hear().await.is_ok() {}
    let mut host = loop {
        if let Ok(host) = Host::connect(&phone).await {
            break host;
        }
        tokio::task::yield_now().await;
    };
    host.hear().await.unwrap();
    assert_eq!(host.shell("getprop sys.boot_completed").await, "\n");
    assert_eq!(host.shell("cmd package list packages").await, "cmd: Can't find service: package\n");
    assert_eq!((phone.state().booted, phone.state().reboots), (false, 1));
}

#[tokio::test]
async fn a_fault_lasts_until_it_is_cleared() {
    let phone = VirtualPhone::start(spec()).unwrap();
    let mut host = Host::online(&phone).await;

    phone.set_fault(Fault::InstallFails { reason: "INSTALL_FAILED_INSUFFICIENT_STORAGE".to_owned() });
    assert_eq!(host.install("agent-1.apk").await, "Failure [INSTALL_FAILED_INSUFFICIENT_STORAGE]\n");
    phone.clear_faults();
    assert_eq!(host.install("agent-1.apk").await, "Success\n");

    phone.set_fault(Fault::Stalls);
    tokio::task::yield_now().await;
    let stalled = tokio::time::timeout(Duration::from_millis(50), host.ask("shell:echo a", Bytes::new())).await;
    assert!(stalled.is_err(), "a phone that hangs says nothing");
    phone.clear_faults();
    let mut host = Host::online(&phone).await;
    assert_eq!(host.shell("echo again").await, "again\n");

    phone.set_fault(Fault::Garbage);
    tokio::task::yield_now().await;
    let error = host.ask("shell:echo a", Bytes::new()).await.unwrap_err();
    assert!(error.contains("announces"), "{error}");
}

#[tokio::test]
async fn a_phone_that_refuses_authorisation_asks_for_ever() {
    let phone = VirtualPhone::start(spec()).unwrap();
    let mut host = Host::online(&phone).await;
    phone.set_fault(Fault::RefusesAuth);
    assert!(host.hear().await.is_err(), "revoking ends the connection");
    let mut host = Host::connect(&phone).await.unwrap();
    assert_eq!(host.hear().await.unwrap().command, Command::AUTH);
    phone.clear_faults();
    assert!(host.hear().await.is_err());
    Host::online(&phone).await;
}

#[tokio::test]
async fn what_cannot_be_started_is_named() {
    let why = |spec| VirtualPhone::start(spec).map(drop).unwrap_err().to_string();
    assert!(
        why(PhoneSpec { packages: vec![path("agent-2-truncated.apk")], ..spec() })
            .contains("agent-2-truncated.apk: INSTALL_PARSE")
    );
    assert!(why(PhoneSpec { packages: vec![path("none.apk")], ..spec() }).contains("none.apk: No such file"));
    assert!(
        why(PhoneSpec { auth: Auth::Known(vec![path("README.md")]), ..spec() })
            .contains("README.md: no Android public key")
    );
    let taken = VirtualPhone::start(spec()).unwrap();
    assert!(why(PhoneSpec { listen: taken.address(), ..spec() }).contains(&taken.address().to_string()));
}

#[tokio::test]
async fn an_old_phone_has_no_cmd() {
    let old = PhoneSpec { sdk: 23, adb: AdbGeneration::Old, ..spec() };
    let phone = VirtualPhone::start(old).unwrap();
    let mut host = Host::online(&phone).await;
    assert_eq!(host.shell("cmd package list packages").await, "/system/bin/sh: cmd: not found\n");
    assert_eq!(host.shell("pm list packages").await, "");
}
