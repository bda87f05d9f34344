//! The virtual phone, written apart from farmhand's host side, for what Google's adbd can't be asked to do: keys, faults, installs.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use farmhand::adb::auth::KeyRing;
use farmhand::adb::connection::{EndReason, Fault, Waits};
use farmhand::adb::driver::{Adb, ConnectError, ConnectOptions, connect};
use farmhand::adb::message::{Checksums, Command as MessageCommand, Decoder, Framing, Message};
use farmhand::adb::services::install::{InstallFlag, InstallOptions};
use farmhand::adb::services::sync::{PushOptions, RemoteFile, SyncError};
use farmhand::adb::services::{RebootTarget, Source};
use farmhand::adb::tcp::TcpTransport;
use farmhand::phone::{InstallFailureClass, OpenFault};
use handset::{
    AndroidPublicKey, Authorisation, Command, Console, Device, FileSystem as _, Handset, KeyStore, MemoryFiles, Output,
    Profile, UnknownKey,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot, watch};

use crate::adbd::KEYS;

/// A wait that a test lets pass, so that it ends soon; all other waits stay long, however busy the machine is.
const SHORT: Duration = Duration::from_millis(200);

/// What the package manager answers, what it got, and how often the phone was restarted.
pub(crate) struct Phone {
    files: MemoryFiles,
    answer: &'static str,
    pub(crate) installed: Mutex<Option<(Vec<String>, Vec<u8>)>>,
    reboots: Mutex<Vec<String>>,
    /// It goes down for a restart.
    down: Notify,
}

impl Phone {
    pub(crate) fn new(answer: &'static str) -> Arc<Self> {
        let files = MemoryFiles::new(64 << 20, &["/data/local/tmp"]);
        Arc::new(Self { files, answer, installed: Mutex::default(), reboots: Mutex::default(), down: Notify::new() })
    }

    async fn install(&self, arguments: &[&str], console: &mut Console<'_>) -> Output {
        let size = arguments.windows(2).find(|pair| pair[0] == "-S").and_then(|pair| pair[1].parse().ok());
        let mut apk = Vec::new();
        match (size, arguments.last()) {
            (Some(size), _) => {
                console.read_into(size, |bytes| apk.extend_from_slice(bytes)).await;
            }
            (None, Some(path)) => {
                apk = self.files.read(path).expect("the APK was pushed").to_vec();
            }
            (None, None) => return Output::failure(1, "no APK"),
        }
        let arguments = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        *self.installed.lock().unwrap() = Some((arguments, apk));
        Output::success(self.answer)
    }
}

impl Device for Phone {
    type Files = MemoryFiles;

    async fn run(&self, command: Command<'_>, console: &mut Console<'_>) -> Output {
        match command {
            Command::Service(["package", "install", arguments @ ..]) => self.install(arguments, console).await,
            Command::Service(_) => Output::failure(1, "no such service"),
            Command::Line(line) => {
                let line = line.split("; rm").next().unwrap_or_default();
                match line.split(' ').collect::<Vec<_>>().as_slice() {
                    ["cmd", "package", "install", arguments @ ..] | ["pm", "install", arguments @ ..] => {
                        self.install(arguments, console).await
                    }
                    ["echo", words @ ..] => Output::success(words.join(" ") + "\n"),
                    _ => Output::failure(127, "not found"),
                }
            }
        }
    }

    fn files(&self) -> &MemoryFiles {
        &self.files
    }

    fn reboot(&self, target: handset::RebootTarget<'_>) -> Result<(), String> {
        self.reboots.lock().unwrap().push(format!("{target:?}"));
        self.down.notify_one();
        Ok(())
    }
}

/// What a test can do to the phone's cable.
#[derive(Default)]
pub(crate) struct Cable {
    /// The phone stops to do anything, and stays connected.
    hang: Notify,
    /// The phone is gone.
    pub(crate) unplug: Notify,
}

/// A phone that listens; each connection is served until the cable is pulled.
async fn plug(phone: &Arc<Phone>, profile: Profile, authorisation: Authorisation) -> (SocketAddr, Arc<Cable>) {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    let cable = Arc::<Cable>::default();
    let (handset, pulled, phone) = (Handset::new(phone.clone(), profile, authorisation), cable.clone(), phone.clone());
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            let mut serving = Box::pin(handset.serve(socket));
            tokio::select! {
                _ = &mut serving => {}
                () = pulled.unplug.notified() => {}
                () = phone.down.notified() => {}
                () = pulled.hang.notified() => pulled.unplug.notified().await,
            }
        }
    });
    (address, cable)
}

async fn connect_to(address: SocketAddr, options: ConnectOptions) -> Result<Adb, ConnectError> {
    connect(TcpTransport::connect(address).await.unwrap(), KEYS.clone(), options).await
}

/// A phone that lets everyone in.
pub(crate) async fn online(phone: &Arc<Phone>, profile: Profile, waits: Waits) -> (Adb, Arc<Cable>) {
    let (address, cable) = plug(phone, profile, Authorisation::Off).await;
    let adb = connect_to(address, ConnectOptions { waits, ..ConnectOptions::default() }).await.unwrap();
    (adb, cable)
}

pub(crate) fn modern() -> Profile {
    Profile::modern("caiman", "Pixel 9 Pro")
}

#[tokio::test]
async fn the_key_is_allowed_on_the_screen_once_and_works_from_then_on() {
    let keys = KeyStore::new([], UnknownKey::AcceptAfter(Duration::from_millis(20)));
    let (address, _cable) = plug(&Phone::new(""), modern(), Authorisation::Keys(keys.clone())).await;
    let (wanted, mut notice) = oneshot::channel();
    let options = ConnectOptions { authorisation_wanted: Some(wanted), ..ConnectOptions::default() };
    let adb = connect_to(address, options).await.unwrap();
    assert_eq!(notice.try_recv(), Ok(()), "somebody was told that the screen asks");
    assert_eq!(adb.banner().model.as_deref(), Some("Pixel 9 Pro"));
    assert_eq!(keys.count(), 1);
    adb.close();
    assert_eq!(adb.closed().await, Fault::ByUs);

    let (wanted, mut notice) = oneshot::channel();
    let options = ConnectOptions { authorisation_wanted: Some(wanted), ..ConnectOptions::default() };
    connect_to(address, options).await.unwrap();
    assert!(notice.try_recv().is_err(), "the key is known now");
}

#[tokio::test]
async fn nobody_allows_the_key() {
    let keys = KeyStore::new([], UnknownKey::Ignore);
    let (address, _cable) = plug(&Phone::new(""), modern(), Authorisation::Keys(keys)).await;
    let waits = Waits { person: SHORT, ..Waits::default() };
    let error = connect_to(address, ConnectOptions { waits, ..ConnectOptions::default() }).await.unwrap_err();
    assert_eq!(error.kind(), OpenFault::Unauthorised);
    assert!(error.to_string().contains("nobody allowed it on the handset's screen"), "{error}");
}

#[tokio::test]
async fn a_phone_that_knows_only_the_second_key_lets_in_without_asking() {
    let dir = tempfile::tempdir().unwrap();
    let (own, known) = (dir.path().join("adbkey"), KEYS.files().next().unwrap().to_owned());
    let openssl = ["genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out"];
    assert!(std::process::Command::new("openssl").args(openssl).arg(&own).output().unwrap().status.success());
    let allowed = AndroidPublicKey::parse(&std::fs::read(known.with_extension("pub")).unwrap()).unwrap();
    let keys = KeyStore::new([allowed], UnknownKey::Ignore);
    let (address, _cable) = plug(&Phone::new(""), modern(), Authorisation::Keys(keys.clone())).await;
    let waits = Waits { person: SHORT, ..Waits::default() };

    let alone = Arc::new(KeyRing::load(dir.path()).unwrap());
    let options = ConnectOptions { waits, ..ConnectOptions::default() };
    let refused = connect(TcpTransport::connect(address).await.unwrap(), alone, options).await.unwrap_err();
    assert_eq!(refused.kind(), OpenFault::Unauthorised, "the first key is unknown to the phone");

    let mut ring = KeyRing::load(dir.path()).unwrap();
    ring.add_file(&known).unwrap();
    let (wanted, mut notice) = oneshot::channel();
    let options = ConnectOptions { waits, authorisation_wanted: Some(wanted) };
    connect(TcpTransport::connect(address).await.unwrap(), Arc::new(ring), options).await.unwrap();
    assert!(notice.try_recv().is_err(), "nobody was asked");
    assert_eq!(keys.count(), 1, "the phone learnt no key");
}

/// A phone that knows the key, and whose answer to an earlier host that died is still in the pipe. Nobody looks at its screen.
async fn phone_with_a_stale_token() -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut decoder = Decoder::aligned(Framing::HANDSHAKE);
        let mut token = [0; 20];
        let ask = |token: [u8; 20]| say(MessageCommand::Auth, 1, 0, &token);
        socket.write_all(&ask(token)).await.unwrap();
        loop {
            let mut chunk = vec![0; decoder.want()];
            let Ok(1..) = socket.read_exact(&mut chunk).await else { return };
            let Some(message) = decoder.push(chunk.into()).unwrap() else { continue };
            match (message.header.command, message.header.arg0) {
                (MessageCommand::Auth, 2) if KEYS.sign(0, &token).as_deref() == Some(&message.payload[..]) => {
                    let hello = say(MessageCommand::Connect, 0x0100_0001, 4096, b"device::");
                    socket.write_all(&hello).await.unwrap();
                }
                (MessageCommand::Connect, _) | (MessageCommand::Auth, 2) => {
                    token[0] += 1;
                    socket.write_all(&ask(token)).await.unwrap();
                }
                _ => {}
            }
        }
    });
    address
}

fn say(command: MessageCommand, arg0: u32, arg1: u32, payload: &[u8]) -> Vec<u8> {
    let message = Message::new(command, arg0, arg1, payload.to_vec().into(), Checksums::IfPresent);
    [&message.header.emit()[..], payload].concat()
}

#[tokio::test]
async fn a_stale_token_does_not_spend_the_key_that_the_phone_knows() {
    let address = phone_with_a_stale_token().await;
    let waits = Waits { person: SHORT, ..Waits::default() };
    connect_to(address, ConnectOptions { waits, ..ConnectOptions::default() }).await.unwrap();
}

/// Something that is no phone: says `bytes`, then nothing, until the host hangs up.
async fn impostor(bytes: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut socket, _)) = listener.accept().await {
            socket.write_all(&bytes).await.unwrap();
            drain(&mut socket).await;
        }
    });
    address
}

async fn drain(socket: &mut TcpStream) {
    let mut buffer = [0; 4096];
    while matches!(socket.read(&mut buffer).await, Ok(1..)) {}
}

#[tokio::test]
async fn silence_and_garbage_end_at_a_deadline_with_its_reason() {
    for bytes in [vec![], b"SSH-2.0-OpenSSH_9.2\r\nCNXNCNXN and so on".to_vec(), vec![b'C'; 100_000]] {
        let address = impostor(bytes).await;
        let waits = Waits { answer: SHORT, ..Waits::default() };
        let error = connect_to(address, ConnectOptions { waits, ..ConnectOptions::default() }).await.unwrap_err();
        assert_eq!(error.fault, Fault::Timeout { why: "the handset's answer to CNXN" });
        assert_eq!(error.kind(), OpenFault::Protocol);
    }
}

#[tokio::test]
async fn garbage_after_the_greeting_is_told_by_its_field() {
    let payload = b"device::";
    let mut bytes = b"stale bytes first".to_vec();
    bytes.extend_from_slice(b"CNXN\x01\x00\x00\x01\x00\x00\x10\x00\x08\x00\x00\x00\x00\x00\x00\x00\xbc\xb1\xa7\xb1");
    bytes.extend_from_slice(payload);
    bytes.extend_from_slice(&[b'?'; 24]);
    let address = impostor(bytes).await;
    let adb = connect_to(address, ConnectOptions::default()).await.unwrap();
    let fault = adb.closed().await;
    assert_eq!(
        fault.to_string(),
        "the handset sent nonsense: the message's command (offset 0) is 0x3f3f3f3f, which is none of ADB's"
    );
}

async fn push<'a>(adb: &Adb, source: impl Into<Source<'a>>) -> Result<u64, SyncError> {
    adb.push(source, &remote(), &PushOptions::default()).await
}

fn remote() -> RemoteFile {
    RemoteFile { path: "/data/local/tmp/file".to_owned(), mode: 0o644, mtime_s: 1_700_000_000 }
}

/// A source of 32 MiB that pulls at the cable half-way.
fn source(pull: impl Fn() + Unpin) -> impl tokio::io::AsyncRead + Unpin {
    let half = tokio::io::repeat(7).take(16 << 20);
    half.chain(Pulling(pull)).chain(tokio::io::repeat(7).take(16 << 20))
}

/// Nothing to read, but something happens.
struct Pulling<F>(F);

impl<F: Fn() + Unpin> tokio::io::AsyncRead for Pulling<F> {
    fn poll_read(
        self: std::pin::Pin<&mut Self>,
        _context: &mut std::task::Context,
        _to: &mut tokio::io::ReadBuf,
    ) -> std::task::Poll<io::Result<()>> {
        (self.0)();
        std::task::Poll::Ready(Ok(()))
    }
}

#[tokio::test]
async fn an_unplug_in_the_middle_of_a_push_ends_it_with_the_connections_reason() {
    for profile in [modern(), modern().with("delayed_ack"), Profile::old("hammerhead", "Nexus 5")] {
        let (adb, cable) = online(&Phone::new(""), profile, Waits::default()).await;
        let error = push(&adb, Source::stream(source(|| cable.unplug.notify_one()))).await.unwrap_err();
        let fault = adb.closed().await;
        assert!(matches!(fault, Fault::Ended | Fault::Io(_)), "{fault}");
        assert!(matches!(&error, SyncError::Stream(error) if error.reason == EndReason::Lost(fault)), "{error}");
    }
}

#[tokio::test]
async fn a_phone_that_stalls_in_the_middle_of_a_push_meets_a_deadline() {
    for profile in [modern(), modern().with("delayed_ack")] {
        let (adb, cable) = online(&Phone::new(""), profile, Waits { acknowledgement: SHORT, ..Waits::default() }).await;
        let error = push(&adb, Source::stream(source(|| cable.hang.notify_one()))).await.unwrap_err();
        let why = "the acknowledgement of what was written";
        assert!(matches!(&error, SyncError::Stream(error) if error.reason == EndReason::Timeout { why }), "{error}");
    }
}

#[tokio::test]
async fn a_file_arrives_on_phones_of_every_age() {
    let file: Vec<u8> = (0..3_000_001_u32).map(|n| (n % 251) as u8).collect();
    for profile in [modern(), modern().with("delayed_ack"), Profile::old("hammerhead", "Nexus 5")] {
        let phone = Phone::new("");
        let (adb, _cable) = online(&phone, profile, Waits::default()).await;
        push(&adb, file.as_slice()).await.unwrap();
        assert!(phone.files.read(&remote().path).unwrap() == file, "the bytes differ");
        assert_eq!(adb.stat(&remote().path).await.unwrap().map(|stat| stat.size), Some(file.len() as u64));
        assert_eq!(adb.stat("/data/local/tmp/nothing").await.unwrap(), None);
    }
}

#[tokio::test]
async fn a_full_phone_says_so() {
    let (adb, _cable) = online(&Phone::new(""), modern(), Waits::default()).await;
    let error = push(&adb, Source::stream(tokio::io::repeat(1).take(100 << 20))).await.unwrap_err();
    assert!(matches!(&error, SyncError::Failed(why) if why.contains("No space left")), "{error}");
}

#[tokio::test]
async fn an_old_phone_tells_no_status() {
    let (adb, _cable) = online(&Phone::new(""), Profile::old("hammerhead", "Nexus 5"), Waits::default()).await;
    let output = adb.shell("echo hello").await.unwrap();
    assert_eq!((output.text().as_str(), output.exit), ("hello", None));
}

/// An APK as far as its bytes matter: they must arrive whole.
fn apk() -> (tempfile::TempDir, PathBuf, Vec<u8>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("agent.apk");
    let bytes: Vec<u8> = (0..2_500_000_u32).map(|n| (n % 253) as u8).collect();
    std::fs::write(&path, &bytes).unwrap();
    (dir, path, bytes)
}

fn without(feature: &str) -> Profile {
    let mut profile = modern();
    profile.features.retain(|known| known != feature);
    profile
}

#[tokio::test]
async fn an_install_goes_the_way_that_the_phone_offers() {
    let (_dir, path, bytes) = apk();
    let ways = [
        (modern(), "-r --referrer farmhand:install -t -S 2500000"),
        (without("abb_exec"), "-r --referrer farmhand:install -t -S 2500000"),
        (
            Profile::old("hammerhead", "Nexus 5"),
            "-r --referrer farmhand:install -t /data/local/tmp/farmhand-install.apk",
        ),
    ];
    for (profile, expected) in ways {
        let phone = Phone::new("Success\n");
        let (adb, _cable) = online(&phone, profile, Waits::default()).await;
        let (progress, seen) = watch::channel(0);
        let flags = [InstallFlag::TestOnly].into();
        let options = InstallOptions { flags, progress: Some(progress), ..InstallOptions::default() };
        adb.install(&path, &options).await.unwrap();
        let (arguments, installed) = phone.installed.lock().unwrap().take().unwrap();
        assert_eq!(arguments.join(" "), expected);
        assert!(installed == bytes, "the bytes differ");
        assert_eq!(*seen.borrow(), 2_500_000);
    }
}

#[tokio::test]
async fn a_refused_install_is_told_by_what_to_do() {
    let (_dir, path, _) = apk();
    let answers = [
        ("Failure [INSTALL_FAILED_VERSION_DOWNGRADE: older]\n", InstallFailureClass::Permanent),
        ("Failure [INSTALL_FAILED_USER_RESTRICTED]\n", InstallFailureClass::NeedsHand),
        ("cmd: Can't find service: package\n", InstallFailureClass::Transient),
    ];
    for (answer, class) in answers {
        for profile in [modern(), Profile::old("hammerhead", "Nexus 5")] {
            let (adb, _cable) = online(&Phone::new(answer), profile, Waits::default()).await;
            assert_eq!(adb.install(&path, &InstallOptions::default()).await.unwrap_err().class, class, "{answer}");
        }
    }
}

#[tokio::test]
async fn an_install_that_is_cut_off_or_can_not_begin_is_told_apart() {
    let (_dir, path, _) = apk();
    let (adb, cable) = online(&Phone::new("Success\n"), modern(), Waits { open: SHORT, ..Waits::default() }).await;
    cable.hang.notify_one();
    let stalled = adb.install(&path, &InstallOptions::default()).await.unwrap_err();
    assert_eq!(stalled.class, InstallFailureClass::Transient);
    cable.unplug.notify_one();
    adb.closed().await;
    let lost = adb.install(&path, &InstallOptions::default()).await.unwrap_err();
    assert_eq!(lost.class, InstallFailureClass::Transient);
    assert!(lost.why.contains("the connection ended"), "{}", lost.why);
    let missing = adb.install(&path.with_extension("none"), &InstallOptions::default()).await.unwrap_err();
    assert_eq!(missing.class, InstallFailureClass::Permanent);
}

#[tokio::test]
async fn a_phone_restarts_to_where_it_shall() {
    let phone = Phone::new("");
    let (adb, _cable) = online(&phone, modern(), Waits::default()).await;
    adb.reboot(RebootTarget::System).await.unwrap();
    let (adb, _cable) = online(&phone, modern(), Waits::default()).await;
    adb.reboot(RebootTarget::Recovery).await.unwrap();
    assert_eq!(*phone.reboots.lock().unwrap(), ["Android", "Other(\"recovery\")"]);
}

#[tokio::test]
async fn whoever_drops_the_last_handle_ends_the_connection() {
    let (adb, _cable) = online(&Phone::new(""), modern(), Waits::default()).await;
    let stream = adb.open("shell:").await.unwrap();
    let watching = adb.clone();
    let closed = tokio::spawn(async move { watching.closed().await });
    drop(stream);
    adb.close();
    assert_eq!(closed.await.unwrap(), Fault::ByUs);
}
