//! A host of a few lines and a virtual phone. What Google's adb makes of one is in `tests/google_adb.rs`.

use std::time::Duration;

use bytes::{Buf, Bytes};
use handset::wire::{Codec, Command, HEADER_BYTES, Message, Sums, VERSION_UNCHECKED};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::codec::Decoder as _;

use super::*;

/// The host's end of a connection.
pub(super) struct Host {
    stream: TcpStream,
    codec: Codec,
    bytes: bytes::BytesMut,
    last_id: u32,
}

impl Host {
    pub(super) async fn connect(phone: &VirtualPhone) -> io::Result<Self> {
        let stream = TcpStream::connect(phone.address()).await?;
        let codec = Codec::new(1 << 20, Sums::Unchecked);
        let mut host = Self { stream, codec, bytes: bytes::BytesMut::new(), last_id: 0 };
        host.say(Message::new(Command::CNXN, VERSION_UNCHECKED, 1 << 20, "host::features=cmd")).await?;
        Ok(host)
    }

    /// Connected and past CNXN.
    pub(super) async fn online(phone: &VirtualPhone) -> Self {
        let mut host = Self::connect(phone).await.unwrap();
        assert_eq!(host.hear().await.unwrap().command, Command::CNXN);
        host
    }

    pub(super) async fn say(&mut self, message: Message) -> io::Result<()> {
        let header: [u8; HEADER_BYTES] = message.header(Sums::Checked);
        self.stream.write_all_buf(&mut Buf::chain(&header[..], message.payload)).await
    }

    pub(super) async fn hear(&mut self) -> Result<Message, String> {
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

    /// From now on a wrong sum is an error.
    pub(super) fn check_sums(&mut self) {
        self.codec = Codec::new(1 << 20, Sums::Checked);
    }

    /// What a service answers to `input`.
    pub(super) async fn ask(&mut self, service: &str, input: Bytes) -> Result<String, String> {
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

    pub(super) async fn shell(&mut self, line: &str) -> String {
        self.ask(&format!("shell:{line}"), Bytes::new()).await.unwrap()
    }

    pub(super) async fn install(&mut self, name: &str) -> String {
        let content = apk(name);
        self.ask(&format!("exec:cmd package 'install' '-S' '{}'", content.len()), content).await.unwrap()
    }
}

pub(super) fn apk(name: &str) -> Bytes {
    Bytes::from(std::fs::read(path(name)).unwrap())
}

pub(super) fn path(name: &str) -> std::path::PathBuf {
    format!("{}/apks/{name}", env!("CARGO_MANIFEST_DIR")).into()
}

pub(super) fn spec() -> PhoneSpec {
    PhoneSpec {
        imei: Some("353626072090389".to_owned()),
        adbd_away_s: 0.01,
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
async fn a_phone_tells_how_it_is_as_its_android_does() {
    const KERNEL: &str = "cat /sys/class/power_supply/battery/current_now 2>/dev/null || cmd battery get current_now";
    for (brand, sdk, current) in [
        ("samsung", 26, "1323\n"),
        ("google", 27, "1323000\n"),
        ("google", 33, "Unknown get option: current_now\n"),
        ("google", 35, "1323000\n"),
    ] {
        let phone = VirtualPhone::start(PhoneSpec { brand: brand.to_owned(), sdk, ..spec() }).unwrap();
        let mut host = Host::online(&phone).await;
        assert_eq!(host.shell(KERNEL).await, current, "{brand} {sdk}");
        let told = host.shell("dumpsys battery").await.contains("\n  current now: 1323\n");
        assert_eq!(told, brand == "samsung");
        let power = host.shell("dumpsys power").await;
        assert!(power.contains("\n  mWakefulness=Awake\n"), "{power}");
        assert_eq!(power.contains("\nDisplay Power: state=ON\n"), sdk <= 30, "{power}");
        assert_eq!(host.shell("wm size; wm density").await, "Physical size: 270x600\nPhysical density: 160\n");
    }
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

#[tokio::test]
async fn an_app_of_several_apks_is_installed_by_a_session() {
    let phone = VirtualPhone::start(spec()).unwrap();
    let mut host = Host::online(&phone).await;
    let created = host.shell("cmd package install-create -r -S 16558").await;
    let session = created.split(['[', ']']).nth(1).unwrap().to_owned();
    assert_eq!(created, format!("Success: created install session [{session}]\n"));
    for name in ["agent-2.apk", "agent-2-split-en.apk"] {
        let content = apk(name);
        let service = format!("exec:cmd package install-write -S {} {session} {name} -", content.len());
        let written = host.ask(&service, content.clone()).await.unwrap();
        assert_eq!(written, format!("Success: streamed {} bytes\n", content.len()));
    }
    assert_eq!(host.shell(&format!("cmd package install-commit {session}")).await, "Success\n");
    let paths = host.shell("pm path org.example.agent").await;
    assert!(paths.lines().count() == 2 && paths.ends_with("/split_config.en.apk\n"), "{paths}");
    let late = host.shell(&format!("cmd package install-commit {session}")).await;
    assert!(late.contains("java.lang.SecurityException: Caller has no access to session"), "{late}");

    let created = host.shell("pm install-create").await;
    let session = created.split(['[', ']']).nth(1).unwrap();
    assert_eq!(host.shell(&format!("pm install-abandon {session}")).await, "Success\n");
    assert!(host.shell("pm install-write -S 5 9 base -").await.contains("SecurityException"));
}

#[tokio::test]
async fn what_is_set_and_started_is_seen() {
    let phone = VirtualPhone::start(PhoneSpec { packages: vec![path("agent-1.apk")], ..spec() }).unwrap();
    let mut host = Host::online(&phone).await;
    assert_eq!(host.shell("settings put global x 7; settings get global x").await, "7\n");
    assert_eq!(host.shell("settings delete global x; settings get global x").await, "Deleted 1 rows\nnull\n");
    assert_eq!(host.shell("setprop debug.x 1; getprop debug.x").await, "1\n");
    assert!(host.shell("setprop ro.x 1").await.starts_with("Failed to set property"));
    assert_eq!(
        host.shell("am start -n org.example.agent/.Main").await,
        "Starting: Intent { cmp=org.example.agent/.Main }\n"
    );
    assert!(host.shell("am start -n nobody/.Main").await.contains("does not exist"));
    let tap = |package: &str| format!("monkey -p {package} -c android.intent.category.LAUNCHER 1");
    assert!(host.shell(&tap("org.example.agent")).await.contains("Events injected: 1\n"));
    assert!(host.shell(&tap("nobody")).await.contains("monkey aborted"));
    assert_eq!(host.shell("mkdir /sdcard/a; ls /sdcard; rm -rf /sdcard/a; ls /sdcard").await, "a\n");
    assert!(host.shell("df /data").await.contains(" /data\n"));
    assert_eq!(host.shell("false; exit 3; echo never").await, "");
}

#[tokio::test]
async fn the_vibrator_is_there_where_android_lets_a_shell_use_it() {
    const NEW: &str = "cmd vibrator_manager synced -f -d test oneshot 700";
    const FORCED: &str = "cmd vibrator vibrate -f 700 test";
    const OLD: &str = "cmd vibrator vibrate 700 test";
    for (sdk, works) in [(34, NEW), (31, NEW), (30, FORCED), (28, FORCED), (27, OLD), (26, OLD)] {
        let phone = VirtualPhone::start(PhoneSpec { sdk, ..spec() }).unwrap();
        let mut host = Host::online(&phone).await;
        assert_eq!(host.shell(&format!("{works} && echo felt")).await, "felt\n", "{sdk} {works}");
        assert_eq!(phone.state().vibrations, 1);
        for other in [NEW, FORCED].into_iter().filter(|other| *other != works && !(sdk < 31 && *other == OLD)) {
            let said = host.shell(&format!("{other} 2>/dev/null || echo not here")).await;
            assert_eq!(said, "not here\n", "{sdk} {other}");
        }
    }
    let phone = VirtualPhone::start(PhoneSpec { sdk: 25, ..spec() }).unwrap();
    let said = Host::online(&phone).await.shell(&format!("{OLD} && echo it says so")).await;
    assert_eq!(said, "No shell command implementation.\nit says so\n", "Android 7 takes that for success");
    assert_eq!(phone.state().vibrations, 0);
}

#[tokio::test]
async fn keys_switch_the_screen() {
    let phone = VirtualPhone::start(spec()).unwrap();
    let mut host = Host::online(&phone).await;
    assert!(phone.state().screen_on);
    for (key, on) in [("KEYCODE_SLEEP", false), ("26", true), ("KEYCODE_POWER", false), ("KEYCODE_WAKEUP", true)] {
        assert_eq!(host.shell(&format!("input keyevent {key}")).await, "");
        assert_eq!(phone.state().screen_on, on, "{key}");
        let power = host.shell("dumpsys power").await;
        assert_eq!(power.contains("mWakefulness=Awake"), on, "{power}");
        assert!(power.contains("mIsPowered=true"));
    }
}

#[tokio::test]
async fn groups_and_rounds_are_run_in_order() {
    let phone = VirtualPhone::start(spec()).unwrap();
    let mut host = Host::online(&phone).await;
    assert_eq!(host.shell("for n in 1 2 3; do echo a; sleep 0; done; echo b").await, "a\na\na\nb\n");
    assert_eq!(host.shell("{ false || echo c; foo; } 2>/dev/null && echo d; echo e").await, "c\ne\n");
    assert_eq!(host.shell("for n in 1 2; do echo f; exit 3; done; echo g").await, "f\n");
    assert_eq!(host.shell("{ echo h; } >/dev/null; sleep x 2>&1 || echo i").await, "sleep: bad number 'x'\ni\n");
    assert!(host.shell("for n in 1; do").await.contains("unexpected 'EOF'"));
}

#[tokio::test]
async fn the_log_goes_on_and_the_screen_is_a_picture() {
    let phone = VirtualPhone::start(spec()).unwrap();
    let mut host = Host::online(&phone).await;
    let dumped = host.shell("logcat -d").await;
    assert!(
        dumped.starts_with("--------- beginning of main\n01-01 00:00:00.000  1000  1042 I ActivityManager: "),
        "{dumped}"
    );
    host.say(Message::new(Command::OPEN, 77, 0, "shell:logcat")).await.unwrap();
    let mut lines = 0;
    let mut local = 0;
    while lines < 3 {
        let message = host.hear().await.unwrap();
        if message.command == Command::OKAY {
            local = message.arg0;
        }
        if message.command == Command::WRTE {
            lines += message.payload.iter().filter(|&&byte| byte == b'\n').count();
            host.say(Message::new(Command::OKAY, 77, message.arg0, "")).await.unwrap();
        }
    }
    host.say(Message::new(Command::CLSE, 77, local, "")).await.unwrap();
    while host.hear().await.unwrap().command != Command::CLSE {}

    host.say(Message::new(Command::OPEN, 78, 0, "exec:screencap -p")).await.unwrap();
    host.hear().await.unwrap();
    let picture = host.hear().await.unwrap().payload;
    assert!(picture.starts_with(b"\x89PNG\r\n\x1a\n"));
}

#[tokio::test]
async fn a_tunnel_comes_out_at_the_host_and_stands_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let tunnels = Arc::new(Tunnels::written_to(folder.path().join("tunnels")));
    let phone = VirtualPhone::start_among(spec(), tunnels).unwrap();
    let mut host = Host::online(&phone).await;
    assert_eq!(host.ask("reverse:forward:tcp:8765;tcp:7100", Bytes::new()).await.unwrap(), "OKAY00048765");
    assert_eq!(host.ask("reverse:list-forward", Bytes::new()).await.unwrap(), "0019host-1 tcp:8765 tcp:7100\n");
    let tunnel = phone.state().tunnels["tcp:8765"].clone();
    assert_eq!((tunnel.local.port(), tunnel.remote.as_str()), (8765, "tcp:7100"));
    let text = std::fs::read_to_string(folder.path().join("tunnels")).unwrap();
    assert_eq!(text, format!("A1 {} tcp:7100\n", tunnel.local));

    let mut app = TcpStream::connect(tunnel.local).await.unwrap();
    let open = loop {
        let message = host.hear().await.unwrap();
        if message.command == Command::OPEN {
            break message;
        }
    };
    assert_eq!(open.payload, "tcp:7100\0");
    host.say(Message::new(Command::OKAY, 500, open.arg0, "")).await.unwrap();
    host.say(Message::new(Command::WRTE, 500, open.arg0, "to the app")).await.unwrap();
    app.write_all(b"to the host").await.unwrap();
    let mut heard = [0; 10];
    app.read_exact(&mut heard).await.unwrap();
    assert_eq!(&heard, b"to the app");
    let data = loop {
        let message = host.hear().await.unwrap();
        if message.command == Command::WRTE {
            break message.payload;
        }
    };
    assert_eq!(data, "to the host");

    phone.unplug().await;
    assert!(phone.state().tunnels.is_empty(), "a tunnel lives as long as its connection");
    assert_eq!(std::fs::read_to_string(folder.path().join("tunnels")).unwrap(), "");
}

#[tokio::test]
async fn a_build_for_developers_gives_root() {
    let phone = VirtualPhone::start(PhoneSpec { debuggable: true, ..spec() }).unwrap();
    let mut host = Host::online(&phone).await;
    assert_eq!(host.ask("root:", Bytes::new()).await.unwrap(), "restarting adbd as root\n");
    assert!(host.hear().await.is_err(), "adbd starts again");
    let mut host = back(&phone).await;
    assert!(host.shell("id").await.starts_with("uid=0(root)"));
    assert_eq!(host.ask("root:", Bytes::new()).await.unwrap(), "adbd is already running as root\n");
    let remount = "Not running as root. Try \"adb root\" first.\n";
    assert_eq!(host.ask("remount:", Bytes::new()).await.unwrap(), "remount succeeded\n");
    assert_eq!(host.shell("mkdir /system/app; ls /system").await, "app\n");
    assert_eq!(host.ask("unroot:", Bytes::new()).await.unwrap(), "restarting adbd as non root\n");
    let mut host = back(&phone).await;
    assert_eq!(host.ask("remount:", Bytes::new()).await.unwrap(), remount);
    assert_eq!(host.shell("remount").await, remount, "as adb asks where remount_shell is offered");
}

/// Connected once adbd is back.
async fn back(phone: &VirtualPhone) -> Host {
    loop {
        if let Ok(mut host) = Host::connect(phone).await
            && host.hear().await.is_ok_and(|hello| hello.command == Command::CNXN)
            // Somebody whom it let in just before it went away is thrown out.
            && host.ask("shell:true", Bytes::new()).await.is_ok()
        {
            return host;
        }
        tokio::task::yield_now().await;
    }
}
