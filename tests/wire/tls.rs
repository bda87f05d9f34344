//! A line over TLS: whom it trusts, how it shows who it is, and what it does when the way there swallows bytes.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use farmhand::adb::online::OnlinePhones;
use farmhand::central::line::{LineSettings, Server};
use farmhand::central::session::Settings;
use farmhand::config::{self, Central};
use farmhand::rack::event::{LineCommand, LineEvent, Presence};
use farmhand::rack::snapshot::LineState;
use firmware_tools::central::{Authority, CentralServer, CentralSpec, Issued, ServerTls};
use firmware_tools::rack_file::{Allow, CentralAck};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::line::{Line, Office};

const CREDENTIAL: &str = "490154203237518";

/// An authority, and a folder for what it issues.
struct Bench {
    authority: Authority,
    dir: tempfile::TempDir,
}

impl Bench {
    fn set() -> Self {
        let bench = Self { authority: Authority::new("ours").unwrap(), dir: tempfile::tempdir().unwrap() };
        bench.authority.write(&bench.path("ca.pem")).unwrap();
        bench
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// A certificate of an authority that nobody was told of.
    fn foreign(&self, name: &str, stem: &str) -> Issued {
        Authority::new(name).unwrap().issue(&["127.0.0.1"], self.dir.path(), stem).unwrap()
    }

    fn issue(&self, name: &str, stem: &str) -> Issued {
        self.authority.issue(&[name], self.dir.path(), stem).unwrap()
    }

    /// `[central]` with these lines of `[central.tls]`.
    fn central(&self, servers: &[String], tls: &str) -> Central {
        let (first, others) = servers.split_first().unwrap();
        let others: Vec<String> = others.iter().map(|server| format!("\"{server}\"")).collect();
        let head = format!("[central]\nserver = \"{first}\"\nfallbacks = [{}]\nheartbeat_s = 1\n", others.join(", "));
        let text = format!("{head}[central.tls]\n{tls}\n");
        config::parse("farmhand.toml", &text, self.dir.path(), "rack").unwrap().config.central.unwrap()
    }

    async fn line(&self, servers: &[String], tls: &str) -> Line {
        let (mut settings, office) = settings(&self.central(servers, tls));
        settings.session.auth_deadline = Duration::from_secs(5);
        Line::start(settings, office).await
    }

    /// The sentence with which a line gives this server up at first.
    async fn refusal(&self, server: &CentralServer, tls: &str) -> String {
        let why = self.line(&[server.address().to_string()], tls).await.until(LineState::Waiting).await;
        assert!(server.record().devices.is_empty(), "nothing was told to it: {:?}", server.record());
        why
    }
}

fn settings(central: &Central) -> (LineSettings, Office) {
    let (plain, office) = Office::open(central.server.clone(), Settings::new(central.heartbeat));
    let settings = {
        let upgrades = config::FromCentral::Ask;
        LineSettings::new(central, upgrades, plain.policy, plain.store, OnlinePhones::default(), None).unwrap()
    };
    (settings, office)
}

async fn serve(tls: Option<ServerTls>) -> CentralServer {
    let spec = CentralSpec {
        listen: "127.0.0.1:0".parse().unwrap(),
        silence_max: Duration::from_secs(60),
        allow: Allow::Device,
        fault: None,
        ack: CentralAck::Each,
        capture: None,
        tls,
    };
    CentralServer::start(spec).await.unwrap()
}

async fn serve_with(issued: Issued) -> CentralServer {
    serve(Some(ServerTls { cert: issued.cert, key: issued.key, clients_of: None })).await
}

fn sha256(cert: &Path) -> String {
    let certificate = farmhand::tls::certificates(cert).unwrap().remove(0);
    let digest = farmhand::tls::digest(&certificate);
    digest.map(|byte| format!("{byte:02X}")).join(":")
}

#[tokio::test]
async fn a_certificate_of_a_known_authority_is_taken() {
    let bench = Bench::set();
    let server = serve_with(bench.issue("127.0.0.1", "server")).await;
    let mut line = bench.line(&[server.address().to_string()], "ca = \"ca.pem\"").await;
    line.until(LineState::Registered).await;
    assert!(server.record().devices[CREDENTIAL].connected);
}

#[tokio::test]
async fn a_certificate_for_another_name_is_not() {
    let bench = Bench::set();
    let server = serve_with(bench.issue("elsewhere.example", "server")).await;
    let why = bench.refusal(&server, "ca = \"ca.pem\"").await;
    assert!(why.contains("elsewhere.example") && why.contains("and not for 127.0.0.1"), "{why}");
}

#[tokio::test]
async fn one_of_an_unknown_authority_is_not_and_the_keys_that_help_are_named() {
    let bench = Bench::set();
    // The second one calls itself as the one that is known does.
    for name in ["theirs", "ours"] {
        let server = serve_with(bench.foreign(name, "server")).await;
        let why = bench.refusal(&server, "ca = \"ca.pem\"").await;
        assert!(why.contains("nobody whom this rack trusts") && why.contains("`pin`"), "{why}");
    }
}

#[tokio::test]
async fn one_that_is_over_is_not_and_both_times_are_told() {
    let bench = Bench::set();
    let server = serve_with(bench.authority.issue_expired(&["127.0.0.1"], bench.dir.path(), "server").unwrap()).await;
    let why = bench.refusal(&server, "ca = \"ca.pem\"").await;
    assert!(why.contains("good until 2000-01-01T00:00:00Z, and this host's clock says 2"), "{why}");
}

#[tokio::test]
async fn a_pinned_certificate_is_taken_whoever_signed_it_and_no_other() {
    let bench = Bench::set();
    let issued = bench.authority.issue_expired(&["elsewhere.example"], bench.dir.path(), "server").unwrap();
    let server = serve_with(issued.clone()).await;
    for pin in ["server.crt".to_owned(), sha256(&issued.cert)] {
        let mut line = bench.line(&[server.address().to_string()], &format!("pin = [\"{pin}\"]")).await;
        line.until(LineState::Registered).await;
    }
    let other = serve_with(bench.issue("127.0.0.1", "other")).await;
    let why = bench.refusal(&other, "pin = [\"server.crt\"]").await;
    let seen = sha256(&bench.path("other.crt")).replace(':', "").to_lowercase();
    assert!(why.contains(&format!("its certificate is {seen}, and not ")), "{why}");
}

#[tokio::test]
async fn a_rack_that_is_asked_who_it_is_shows_its_certificate() {
    let bench = Bench::set();
    let issued = bench.issue("127.0.0.1", "server");
    let clients_of = Some(bench.path("ca.pem"));
    let server = serve(Some(ServerTls { cert: issued.cert, key: issued.key, clients_of })).await;
    let why = bench.refusal(&server, "ca = \"ca.pem\"").await;
    assert!(why.contains("it wants a certificate of this rack"), "{why}");

    bench.foreign("theirs", "stranger");
    let stranger = "ca = \"ca.pem\"\ncert = \"stranger.crt\"\nkey = \"stranger.key\"";
    let why = bench.refusal(&server, stranger).await;
    assert!(why.contains("it does not take this rack's certificate"), "{why}");

    bench.issue("rack", "rack");
    let right = "ca = \"ca.pem\"\ncert = \"rack.crt\"\nkey = \"rack.key\"";
    bench.line(&[server.address().to_string()], right).await.until(LineState::Registered).await;
    assert_eq!(server.record().bad_handshakes, 2);
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_is_told_nothing() {
    let bench = Bench::set();
    let why = bench.refusal(&serve(None).await, "ca = \"ca.pem\"").await;
    assert!(why.contains("no TLS with 127.0.0.1:"), "{why}");
}

#[tokio::test]
async fn servers_are_tried_in_their_order_and_one_that_is_not_trusted_is_none() {
    let bench = Bench::set();
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let (foreign, right) = (serve_with(bench.foreign("theirs", "foreign")).await, bench.issue("127.0.0.1", "server"));
    let server = serve_with(right).await;
    let list = [closed, foreign.address(), server.address()].map(|address| address.to_string());
    let mut line = bench.line(&list, "ca = \"ca.pem\"").await;
    let why = line.until(LineState::Waiting).await;
    assert!(why.contains(&format!("nobody listens at {closed}")), "{why}");
    let why = line.until(LineState::Waiting).await;
    assert!(why.contains(&foreign.address().to_string()), "{why}");
    line.until(LineState::Registered).await;
    assert_eq!((foreign.record().devices.len(), server.record().devices.len()), (0, 1));
}

#[test]
fn what_is_wrong_with_the_files_is_said_before_any_line_opens() {
    let bench = Bench::set();
    let (one, two) = (bench.issue("a.example", "one"), bench.issue("b.example", "two"));
    std::fs::write(bench.path("empty.pem"), "").unwrap();
    let wrong = |tls: &str| {
        let central = bench.central(&["centre.example:9200".to_owned()], tls);
        Server::all_of(&central).unwrap_err()
    };
    let said = wrong("ca = \"none.pem\"").to_string();
    assert!(said.contains("[central.tls] ca: ") && said.contains("none.pem: "), "{said}");
    let said = wrong("pin = [\"empty.pem\"]").to_string();
    assert!(said.contains("empty.pem: there is no certificate in it"), "{said}");
    let mixed = format!("cert = \"{}\"\nkey = \"{}\"", one.cert.display(), two.key.display());
    let said = wrong(&format!("ca = \"ca.pem\"\n{mixed}")).to_string();
    assert!(said.contains("[central.tls] cert and key can't be used"), "{said}");
}

#[tokio::test]
async fn a_way_that_swallows_everything_ends_the_attempt() {
    let bench = Bench::set();
    let server = serve_with(bench.issue("127.0.0.1", "server")).await;
    let proxy = Proxy::start(server.address().to_string()).await;
    proxy.swallow(true);
    let (mut settings, office) = settings(&bench.central(std::slice::from_ref(&proxy.address), "ca = \"ca.pem\""));
    settings.session.connect_deadline = Duration::from_millis(300);
    let mut line = Line::start(settings, office).await;
    let why = line.until(LineState::Waiting).await;
    assert!(why.contains("did not accept the connection"), "{why}");
    proxy.swallow(false);
    line.until(LineState::Registered).await;
}

#[tokio::test]
async fn a_connection_that_is_half_open_is_noticed_by_its_heartbeats() {
    let bench = Bench::set();
    let server = serve_with(bench.issue("127.0.0.1", "server")).await;
    let proxy = Proxy::start(server.address().to_string()).await;
    let mut line = bench.line(std::slice::from_ref(&proxy.address), "ca = \"ca.pem\"").await;
    line.until(LineState::Registered).await;
    proxy.swallow(true);
    let why = loop {
        match line.event().await {
            LineEvent::HeartbeatDue => line.tell(LineCommand::Presence(Presence::Answered)).await,
            LineEvent::HeartbeatAcknowledged => panic!("nothing comes through"),
            LineEvent::State { state: LineState::Waiting, why } => break why,
            _ => {}
        }
    };
    assert!(why.contains("heartbeats") && why.contains("unanswered"), "{why}");
    proxy.swallow(false);
    line.until(LineState::Registered).await;
    assert_eq!(server.record().devices[CREDENTIAL].sessions, 2);
}

/// A way to a server that can begin to take every byte and pass none on, as a router does that has lost its memory: neither side hears of it.
struct Proxy {
    address: String,
    swallows: Arc<AtomicBool>,
}

impl Proxy {
    async fn start(to: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, swallows) = (listener.local_addr().unwrap().to_string(), Arc::new(AtomicBool::new(false)));
        let shared = Arc::clone(&swallows);
        tokio::spawn(async move {
            while let Ok((near, _)) = listener.accept().await {
                let far = TcpStream::connect(&to).await.unwrap();
                let ((near_in, near_out), (far_in, far_out)) = (near.into_split(), far.into_split());
                tokio::spawn(carry(near_in, far_out, Arc::clone(&shared)));
                tokio::spawn(carry(far_in, near_out, Arc::clone(&shared)));
            }
        });
        Self { address, swallows }
    }

    fn swallow(&self, swallows: bool) {
        self.swallows.store(swallows, Ordering::SeqCst);
    }
}

/// A connection that has lost bytes is never used again: what comes later is swallowed, too.
async fn carry(
    mut from: tokio::net::tcp::OwnedReadHalf,
    mut to: tokio::net::tcp::OwnedWriteHalf,
    swallows: Arc<AtomicBool>,
) {
    let (mut chunk, mut lost) = ([0; 4096], false);
    while let Ok(read @ 1..) = from.read(&mut chunk).await {
        lost |= swallows.load(Ordering::SeqCst);
        if !lost && to.write_all(&chunk[..read]).await.is_err() {
            return;
        }
    }
}
