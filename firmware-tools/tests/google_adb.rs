//! Google's own adb drives virtual phones: what it accepts, a real host accepts. The machine's (29 in Debian 12) and 34, which packs
//! what it pushes and installs by other ways.
//!
//! Each test runs an adb server of its own, on a Unix socket in a home of its own, so it meets neither the user's server nor the
//! user's keys.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test ends by a panic")]

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::LazyLock;
use std::time::Duration;

use firmware_tools::phone::{AdbGeneration, Auth, Fault, PhoneSpec, VirtualPhone};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;

/// Starting a server takes adb a second; on a busy machine some more.
const ADB_DEADLINE: Duration = Duration::from_secs(60);

/// Which of Google's adb.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Version {
    /// The one that is installed on this machine: 29.
    Machine,
    /// 34, started by this command.
    Fetched(PathBuf),
}

/// Where 34 is; fetched once.
static FETCHED: LazyLock<PathBuf> = LazyLock::new(|| {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("fetch-adbd.sh");
    let output = std::process::Command::new(&script).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Path::new(String::from_utf8(output.stdout).unwrap().trim()).with_file_name("start-adb")
});

/// An adb server and its client.
struct Adb {
    version: Version,
    home: TempDir,
    /// The server, where it can't start itself.
    server: Option<std::process::Child>,
}

/// What one call of adb printed, standard error behind standard output.
struct Said {
    text: String,
    code: Option<i32>,
}

impl Adb {
    /// The machine's and 34.
    async fn each() -> [Self; 2] {
        [Self::start(Version::Machine).await, Self::start(Version::Fetched(FETCHED.clone())).await]
    }

    async fn start(version: Version) -> Self {
        let mut adb = Self { version, home: TempDir::new().unwrap(), server: None };
        let wanted = if adb.version == Version::Machine { "Version 29." } else { "Version 34." };
        let said = adb.run(["version"]).await.text;
        assert!(said.lines().any(|line| line.starts_with(wanted)), "another adb than {wanted}: {said}");
        // Before the server, which would make a key of its own when it first needs one.
        std::fs::create_dir(adb.home.path().join(".android")).unwrap();
        let made = adb.run([OsStr::new("keygen"), adb.key().as_ref()]).await;
        assert_eq!(made.code, Some(0), "{}", made.text);
        match adb.version {
            Version::Machine => {
                let started = adb.run(["start-server"]).await;
                assert_eq!(started.code, Some(0), "{}", started.text);
            }
            // Run by a loader of its own it can't find itself, and so can't fork its server.
            Version::Fetched(_) => {
                let mut server = adb.command();
                server.args(["server", "nodaemon"]).stdout(Stdio::null()).stderr(Stdio::null());
                adb.server = Some(server.spawn().unwrap());
                let listens = async {
                    while !adb.home.path().join("server").exists() {
                        tokio::task::yield_now().await;
                    }
                };
                tokio::time::timeout(ADB_DEADLINE, listens).await.expect("adb 34 listens");
            }
        }
        adb
    }

    /// The private key; the public one is beside it.
    fn key(&self) -> PathBuf {
        self.home.path().join(".android/adbkey")
    }

    fn command(&self) -> std::process::Command {
        let mut command = match &self.version {
            Version::Machine => std::process::Command::new("adb"),
            Version::Fetched(start) => std::process::Command::new(start),
        };
        command.env("HOME", self.home.path()).env("TMPDIR", self.home.path()).env("ADB_USB", "0");
        let socket = format!("localfilesystem:{}/server", self.home.path().display());
        command.env_remove("ANDROID_SERIAL").env("ADB_SERVER_SOCKET", socket);
        command.stdin(Stdio::null());
        command
    }

    async fn run<S: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = S>) -> Said {
        let mut command = Command::from(self.command());
        let output = command.args(arguments).kill_on_drop(true).output();
        let output = tokio::time::timeout(ADB_DEADLINE, output).await.expect("adb ends within its deadline");
        let output = output.unwrap_or_else(|error| {
            panic!("adb can't be run ({error}): these tests need it; apt-get install --no-install-recommends adb")
        });
        let text = [output.stdout, output.stderr].concat();
        Said { text: String::from_utf8_lossy(&text).into_owned(), code: output.status.code() }
    }

    /// Runs adb on a phone.
    async fn on<S: AsRef<OsStr>>(&self, phone: &VirtualPhone, arguments: impl IntoIterator<Item = S>) -> Said {
        let serial = ["-s".into(), phone.address().to_string().into()];
        self.run(serial.into_iter().chain(arguments.into_iter().map(|argument| argument.as_ref().to_owned()))).await
    }

    /// A phone that this adb is connected to.
    async fn connected(&self, spec: PhoneSpec) -> VirtualPhone {
        let phone = VirtualPhone::start(spec).unwrap();
        let said = self.run(["connect", &phone.address().to_string()]).await;
        assert_eq!(said.text, format!("connected to {}\n", phone.address()));
        phone
    }

    /// Waits until `adb devices` shows the phone in this state.
    async fn wait_for(&self, phone: &VirtualPhone, state: &str) {
        let line = format!("{}\t{state}\n", phone.address());
        let shown = async {
            while !self.run(["devices"]).await.text.contains(&line) {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(ADB_DEADLINE, shown).await.unwrap_or_else(|_| panic!("adb devices shows {line}"));
    }
}

impl Drop for Adb {
    fn drop(&mut self) {
        // Without the server nothing is left to end.
        let _ = self.command().arg("kill-server").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if let Some(server) = &mut self.server {
            let _ = server.kill();
            let _ = server.wait();
        }
    }
}

fn spec() -> PhoneSpec {
    PhoneSpec { imei: Some("353626072090389".to_owned()), ..PhoneSpec::new("A1", "R58M123") }
}

fn apk(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("apks").join(name)
}

/// Bytes that do not compress and differ from place to place.
fn noise(count: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_u32;
    std::iter::repeat_with(|| {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as u8
    })
    .take(count)
    .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn adb_connects_lists_and_runs_commands() {
    for adb in Adb::each().await {
        for generation in [AdbGeneration::Modern, AdbGeneration::Old, AdbGeneration::Windowed] {
            let phone = adb.connected(PhoneSpec { adb: generation, ..spec() }).await;
            adb.wait_for(&phone, "device").await;
            let listed = adb.run(["devices", "-l"]).await.text;
            assert!(listed.contains("product:pixel_6a model:Pixel_6a device:pixel_6a"), "{listed}");
            assert_eq!(adb.on(&phone, ["shell", "getprop", "ro.serialno"]).await.text, "R58M123\n");
            let all = adb.on(&phone, ["shell", "getprop"]).await.text;
            assert!(all.contains("[ro.serialno]: [R58M123]\n"), "{all}");
            assert_eq!(adb.on(&phone, ["shell", "-x", "echo", "hello"]).await.text, "hello\n");
            assert_eq!(adb.on(&phone, ["exec-out", "echo raw"]).await.text, "raw\n");
            let disconnected = adb.run(["disconnect", &phone.address().to_string()]).await;
            assert_eq!(disconnected.text, format!("disconnected {}\n", phone.address()));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn adb_sees_exit_codes_where_the_phone_can_tell_them() {
    for adb in Adb::each().await {
        let phone = adb.connected(spec()).await;
        let said = adb.on(&phone, ["shell", "foo"]).await;
        assert_eq!((said.code, said.text.as_str()), (Some(127), "/system/bin/sh: foo: inaccessible or not found\n"));
        let old = adb.connected(PhoneSpec { adb: AdbGeneration::Old, ..spec() }).await;
        assert_eq!(adb.on(&old, ["shell", "foo"]).await.code, Some(0), "before shell_v2 the exit code is lost");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn adb_pushes_and_pulls_what_it_pushed() {
    for adb in Adb::each().await {
        let here = TempDir::new().unwrap();
        let content = noise(3_000_001);
        std::fs::create_dir(here.path().join("folder")).unwrap();
        std::fs::write(here.path().join("folder/big"), &content).unwrap();
        std::fs::write(here.path().join("folder/empty"), b"").unwrap();
        for generation in [AdbGeneration::Modern, AdbGeneration::Old, AdbGeneration::Windowed] {
            let phone = adb.connected(PhoneSpec { adb: generation, ..spec() }).await;
            let folder = here.path().join("folder");
            let said = adb.on(&phone, [OsStr::new("push"), folder.as_ref(), OsStr::new("/sdcard/")]).await;
            assert_eq!(said.code, Some(0), "{generation:?}: {}", said.text);
            let back = here.path().join(format!("{generation:?}"));
            let said = adb.on(&phone, [OsStr::new("pull"), OsStr::new("/sdcard/folder"), back.as_ref()]).await;
            assert_eq!(said.code, Some(0), "{generation:?}: {}", said.text);
            assert!(std::fs::read(back.join("big")).unwrap() == content, "{generation:?}: the bytes differ");
            assert_eq!(std::fs::read(back.join("empty")).unwrap(), b"");

            let said = adb.on(&phone, [OsStr::new("push"), folder.join("big").as_ref(), OsStr::new("/system/x")]).await;
            assert!(said.text.contains("Permission denied"), "{}", said.text);
            let said = adb.on(&phone, ["pull", "/sdcard/nothing"]).await;
            assert!(said.text.contains("remote object '/sdcard/nothing'"), "{}", said.text);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn adb_installs_upgrades_and_is_refused_a_downgrade() {
    for adb in Adb::each().await {
        // By abb_exec, with delayed_ack, and by push and pm install.
        for (generation, sdk) in [(AdbGeneration::Modern, 34), (AdbGeneration::Windowed, 34), (AdbGeneration::Old, 24)]
        {
            let phone = adb.connected(PhoneSpec { adb: generation, sdk, ..spec() }).await;
            let install =
                async |name: &str| adb.on(&phone, [OsStr::new("install"), "-r".as_ref(), apk(name).as_ref()]).await;
            for name in ["agent-1.apk", "agent-2.apk"] {
                let said = install(name).await;
                assert!(
                    said.code == Some(0) && said.text.ends_with("Success\n"),
                    "{generation:?} {name}: {}",
                    said.text
                );
            }
            let said = install("agent-1.apk").await;
            let lost = generation == AdbGeneration::Old;
            assert_eq!(
                said.code,
                Some(if lost { 0 } else { 1 }),
                "without shell_v2 exit codes are lost: {}",
                said.text
            );
            let refusal =
                "[INSTALL_FAILED_VERSION_DOWNGRADE: Downgrade detected: Update version code 1 is older than current 2]";
            assert!(said.text.contains(refusal), "{generation:?}: {}", said.text);
            for (name, refusal) in [
                ("agent-2-other-key.apk", "INSTALL_FAILED_UPDATE_INCOMPATIBLE"),
                ("agent-2-unsigned.apk", "INSTALL_PARSE_FAILED_NO_CERTIFICATES"),
                ("agent-2-truncated.apk", "INSTALL_PARSE_FAILED_NOT_APK"),
            ] {
                let said = install(name).await;
                assert!(said.text.contains(refusal), "{generation:?} {name}: {}", said.text);
            }
            let state = phone.state();
            assert_eq!((state.installs, state.packages["org.example.agent"].0), (2, 2));
            assert_eq!(adb.on(&phone, ["uninstall", "org.example.agent"]).await.text, "Success\n");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_user_allows_adb_once_and_for_all() {
    for adb in Adb::each().await {
        let auth = Auth::Ask { accept_after_s: 0.2 };
        let phone = VirtualPhone::start(PhoneSpec { auth, ..spec() }).unwrap();
        let address = phone.address().to_string();
        adb.run(["connect", &address]).await;
        adb.wait_for(&phone, "device").await;
        assert_eq!(adb.on(&phone, ["shell", "echo", "in"]).await.text, "in\n");

        adb.run(["disconnect", &address]).await;
        assert_eq!(
            adb.run(["connect", &address]).await.text,
            format!("connected to {address}\n"),
            "the key is known now"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_that_knows_the_key_lets_adb_in_and_others_do_not() {
    for adb in Adb::each().await {
        let auth = Auth::Known(vec![adb.key().with_extension("pub")]);
        let known = VirtualPhone::start(PhoneSpec { auth, ..spec() }).unwrap();
        adb.run(["connect", &known.address().to_string()]).await;
        adb.wait_for(&known, "device").await;

        let deaf = VirtualPhone::start(PhoneSpec { auth: Auth::Known(vec![]), ..spec() }).unwrap();
        adb.run(["connect", &deaf.address().to_string()]).await;
        adb.wait_for(&deaf, "unauthorized").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn adb_notices_that_a_phone_is_gone_and_restarts_one() {
    for adb in Adb::each().await {
        let spec = PhoneSpec { reboot_away_s: 0.1, boot_s: 0.1, ..spec() };
        let phone = adb.connected(spec).await;
        assert_eq!(adb.on(&phone, ["reboot"]).await.code, Some(0));
        adb.wait_for(&phone, "offline").await;
        while !phone.state().booted || phone.state().reboots == 0 {
            tokio::task::yield_now().await;
        }
        adb.run(["disconnect", &phone.address().to_string()]).await;
        adb.run(["connect", &phone.address().to_string()]).await;
        adb.wait_for(&phone, "device").await;
        phone.set_fault(Fault::InstallFails { reason: "INSTALL_FAILED_INSUFFICIENT_STORAGE".to_owned() });
        let said = adb.on(&phone, [OsStr::new("install"), apk("agent-1.apk").as_ref()]).await;
        assert!(said.text.contains("[INSTALL_FAILED_INSUFFICIENT_STORAGE]"), "{}", said.text);
        phone.unplug().await;
        adb.wait_for(&phone, "offline").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn adb_installs_an_app_of_several_apks() {
    for adb in Adb::each().await {
        for generation in [AdbGeneration::Modern, AdbGeneration::Windowed] {
            let phone = adb.connected(PhoneSpec { adb: generation, ..spec() }).await;
            let install = async |names: &[&str]| {
                let files = names.iter().map(|name| apk(name).into_os_string());
                adb.on(&phone, ["install-multiple".into(), "-r".into()].into_iter().chain(files)).await
            };
            let said = install(&["agent-2.apk", "agent-2-split-en.apk"]).await;
            assert!(said.code == Some(0) && said.text.contains("Success"), "{generation:?}: {}", said.text);
            let paths = adb.on(&phone, ["shell", "pm", "path", "org.example.agent"]).await.text;
            assert_eq!(paths.lines().count(), 2, "{paths}");
            let said = install(&["agent-2.apk", "agent-2-split-fr-other-key.apk"]).await;
            assert!(said.text.contains("signatures are inconsistent"), "{generation:?}: {}", said.text);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_app_of_the_phone_comes_out_at_adbs_side() {
    for adb in Adb::each().await {
        for generation in [AdbGeneration::Modern, AdbGeneration::Windowed] {
            let phone = adb.connected(PhoneSpec { adb: generation, ..spec() }).await;
            let server = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let here = format!("tcp:{}", server.local_addr().unwrap().port());
            let said = adb.on(&phone, ["reverse", "tcp:8765", &here]).await;
            assert_eq!(said.code, Some(0), "{}", said.text);
            let listed = adb.on(&phone, ["reverse", "--list"]).await.text;
            assert!(listed.contains(&format!("tcp:8765 {here}")), "{listed}");

            let sent = noise(3_000_000);
            let mut app = tokio::net::TcpStream::connect(phone.state().tunnels["tcp:8765"].local).await.unwrap();
            let (mut come_in, _) = server.accept().await.unwrap();
            let (mut heard, mut answer) = (vec![0; sent.len()], [0; 5]);
            let app_side = async {
                app.write_all(&sent).await.unwrap();
                app.read_exact(&mut answer).await.unwrap();
            };
            let host_side = async {
                come_in.read_exact(&mut heard).await.unwrap();
                come_in.write_all(b"thank").await.unwrap();
            };
            tokio::time::timeout(ADB_DEADLINE, async { tokio::join!(app_side, host_side) }).await.unwrap();
            assert!(heard == sent && &answer == b"thank", "{generation:?}: the bytes differ");

            assert_eq!(adb.on(&phone, ["reverse", "--remove", "tcp:8765"]).await.code, Some(0));
            assert!(phone.state().tunnels.is_empty());
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn adb_reads_the_log_and_the_screen() {
    for adb in Adb::each().await {
        let phone = adb.connected(spec()).await;
        let dumped = adb.on(&phone, ["logcat", "-d"]).await.text;
        assert!(dumped.starts_with("--------- beginning of main\n"), "{dumped}");
        let mut following = Command::from(adb.command());
        following.args(["-s", &phone.address().to_string(), "logcat"]).stdout(Stdio::piped()).kill_on_drop(true);
        let mut following = following.spawn().unwrap();
        let mut lines = BufReader::new(following.stdout.take().unwrap()).lines();
        let three = async {
            for _ in 0..4 {
                lines.next_line().await.unwrap().expect("the log goes on");
            }
        };
        tokio::time::timeout(ADB_DEADLINE, three).await.unwrap();
        following.kill().await.unwrap();
        let picture = adb.on(&phone, ["exec-out", "screencap -p"]).await.text;
        assert!(picture.contains("PNG\r\n"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn adb_pushes_and_pulls_what_can_be_packed() {
    let here = TempDir::new().unwrap();
    let text = "the same line again and again\n".repeat(100_000);
    std::fs::write(here.path().join("text"), &text).unwrap();
    for adb in Adb::each().await {
        let phone = adb.connected(PhoneSpec { adb: AdbGeneration::Windowed, ..spec() }).await;
        let file = here.path().join("text");
        let said = adb.on(&phone, [OsStr::new("push"), file.as_ref(), OsStr::new("/sdcard/text")]).await;
        assert_eq!(said.code, Some(0), "{}", said.text);
        let back = here.path().join("back");
        let said = adb.on(&phone, [OsStr::new("pull"), OsStr::new("/sdcard/text"), back.as_ref()]).await;
        assert_eq!(said.code, Some(0), "{}", said.text);
        assert!(std::fs::read_to_string(&back).unwrap() == text, "the bytes differ");
    }
}
