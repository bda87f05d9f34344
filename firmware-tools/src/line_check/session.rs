//! The session with the centre: TLS, several servers, words of the centre that end or move it, and ways that break.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use farmhand::central::proto::{EnumErrorCode, EnumMsgType as Type, RedirectNoticeMessage};
use farmhand::rack::snapshot::LineState;
use tokio::time::sleep;

use super::proxy::{Proxy, Way};
use super::rig::{SOON, any, missed, relayed, site, tells_many};
use super::yard::{HEARD_WITHIN, Setup, Yard, said};
use super::{Place, unwritten};
use crate::central::{CentralServer, CentralSpec, DeviceRecord, ServerTls};
use crate::check::{Miss, miss, until};
use crate::rack_file::{Allow, CentralAck};

/// Its points.
pub(super) const POINTS: &[&str] = &[
    "session.half_open",
    "session.cut",
    "session.servers_in_order",
    "session.forced_offline",
    "session.delay",
    "session.tls_pin",
    "session.tls_client_certificate",
    "session.tls_unknown_certificate",
    "session.redirect_to_a_listed_server",
    "session.redirect_elsewhere",
];

/// The IMEI of the first phone of a rack.
const A1: &str = "350000000000001";
/// Attempts are at most a minute apart.
const BACK_WITHIN: Duration = Duration::from_secs(90);

pub(super) async fn look(point: &str, place: &Place) -> Result<String, Miss> {
    match point {
        "session.half_open" => half_open(place).await,
        "session.cut" => cut(place).await,
        "session.servers_in_order" => in_order(place).await,
        "session.forced_offline" => forced_offline(place).await,
        "session.delay" => delay(place).await,
        "session.tls_pin" => pin(place).await,
        "session.tls_client_certificate" => client_certificate(place).await,
        "session.tls_unknown_certificate" => unknown_certificate(place).await,
        "session.redirect_to_a_listed_server" => redirect_listed(place).await,
        "session.redirect_elsewhere" => redirect_elsewhere(place).await,
        other => unwritten(other),
    }
}

/// A central server beside the rack's own.
async fn server(tls: Option<ServerTls>) -> Result<CentralServer, Miss> {
    let spec = CentralSpec {
        listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        silence_max: Duration::from_secs(20),
        allow: Allow::Device,
        fault: None,
        ack: CentralAck::Each,
        capture: None,
        tls,
    };
    CentralServer::start(spec).await.map_err(missed("a central server"))
}

/// What a server knows of A1.
fn device(server: &CentralServer) -> DeviceRecord {
    server.record().devices.get(A1).cloned().unwrap_or_default()
}

/// Waits until A1 has told such a server what it is.
async fn arrives(server: &CentralServer, limit: Duration) -> Result<(), Miss> {
    until(limit, "a session of A1", async || {
        let device = device(server);
        if device.connected && device.device_infos > 0 { Ok(()) } else { Err(format!("{:?}", server.record())) }
    })
    .await
}

fn at(place: &Place, servers: &str) -> Setup {
    site(place, 1, "").config(&format!("[central]\n{servers}"))
}

/// A folder with certificates of a server and of a client, which nobody else vouches for.
fn certificates(place: &Place) -> Result<(std::path::PathBuf, ServerTls), Miss> {
    let dir = place.dir.join("tls");
    let tls = ServerTls::in_dir(&dir, &["localhost", "127.0.0.1"]).map_err(missed("certificates"))?;
    Ok((dir, tls))
}

fn spoken_by_tls(place: &Place, server: &CentralServer, keys: &str) -> Setup {
    at(place, &format!("server = \"{}\"", server.address())).config(&format!("[central.tls]\n{keys}"))
}

fn quoted(dir: &Path, name: &str) -> String {
    format!("\"{}\"", dir.join(name).display())
}

async fn pin(place: &Place) -> Result<String, Miss> {
    let (dir, tls) = certificates(place)?;
    let centre = server(Some(tls)).await?;
    let keys = format!("pin = [{}]", quoted(&dir, "server.crt"));
    let yard = Yard::start(place, spoken_by_tls(place, &centre, &keys)).await?;
    arrives(&centre, HEARD_WITHIN).await?;
    let refused = centre.record().bad_handshakes;
    yard.stop(format!("registered over TLS with a pinned certificate, {refused} handshakes refused")).await
}

/// Without the rack's certificate the server lets nobody in, and `farmhand line` says what is missing; with it it does.
async fn client_certificate(place: &Place) -> Result<String, Miss> {
    let (dir, tls) = certificates(place)?;
    let centre = server(Some(ServerTls { clients_of: Some(dir.join("ca.pem")), ..tls })).await?;
    let pin = format!("pin = [{}]", quoted(&dir, "server.crt"));
    let without = Place { dir: place.dir.join("without"), ..place.clone() };
    let yard = Yard::start(&without, spoken_by_tls(&without, &centre, &pin)).await?;
    let is = |line: &farmhand::rack::snapshot::LineView| line.why.contains("certificate");
    let refused = yard.line_becomes("A1", "a line that wants a certificate", HEARD_WITHIN, is).await?.why;
    yard.stop(String::new()).await?;
    let keys = format!("{pin}\ncert = {}\nkey = {}", quoted(&dir, "client.crt"), quoted(&dir, "client.key"));
    let with = Place { dir: place.dir.join("with"), ..place.clone() };
    let yard = Yard::start(&with, spoken_by_tls(&with, &centre, &keys)).await?;
    arrives(&centre, HEARD_WITHIN).await?;
    yard.stop(format!("without one: {refused}; with it registered")).await
}

/// A server whose certificate nobody trusts is told nothing.
async fn unknown_certificate(place: &Place) -> Result<String, Miss> {
    let (_, tls) = certificates(place)?;
    let centre = server(Some(tls)).await?;
    let other = Place { dir: place.dir.join("other"), ..place.clone() };
    let (dir, _) = certificates(&other)?;
    let keys = format!("pin = [{}]", quoted(&dir, "server.crt"));
    let yard = Yard::start(place, spoken_by_tls(place, &centre, &keys)).await?;
    let is = |line: &farmhand::rack::snapshot::LineView| line.why.contains("certificate");
    let why = yard.line_becomes("A1", "a line that names the certificate", HEARD_WITHIN, is).await?.why;
    if !centre.record().devices.is_empty() {
        return Err(miss("nothing told", format!("{:?}", centre.record())));
    }
    yard.stop(why).await
}

/// The next one where the first one is not there; the first one again after a registration ended.
async fn in_order(place: &Place) -> Result<String, Miss> {
    let (first, second) = (server(None).await?, server(None).await?);
    first.stop().await;
    let servers = format!("server = \"{}\"\nfallbacks = [\"{}\"]", first.address(), second.address());
    let yard = Yard::start(place, at(place, &servers)).await?;
    arrives(&second, BACK_WITHIN).await?;
    first.resume().await.map_err(missed("the first server again"))?;
    second.stop().await;
    arrives(&first, BACK_WITHIN).await?;
    yard.stop("the fallback while the first was away, then the first again".to_owned()).await
}

fn redirect(to: SocketAddr) -> Option<prost_types::Any> {
    let (server_url, server_port) = (to.ip().to_string(), i32::from(to.port()));
    any("RedirectNoticeMessage", &RedirectNoticeMessage { server_url, server_port, ..Default::default() })
}

async fn redirect_listed(place: &Place) -> Result<String, Miss> {
    let (first, second) = (server(None).await?, server(None).await?);
    let servers = format!("server = \"{}\"\nfallbacks = [\"{}\"]", first.address(), second.address());
    let yard = Yard::start(place, at(place, &servers)).await?;
    arrives(&first, HEARD_WITHIN).await?;
    let sent = first.send(A1, Type::RedirectNotice as i32, redirect(second.address())).await;
    sent.map_err(missed("a notice sent"))?;
    arrives(&second, BACK_WITHIN).await?;
    let at_first = device(&first).connected;
    if at_first {
        return Err(miss("no session at the first server any more", format!("{:?}", device(&first))));
    }
    yard.stop("it left for the server that the configuration lists".to_owned()).await
}

async fn redirect_elsewhere(place: &Place) -> Result<String, Miss> {
    let other = server(None).await?;
    let yard = Yard::start(place, site(place, 1, "")).await?;
    yard.registered("A1").await?;
    let notice = yard.asks_for("A1", Type::RedirectNotice, redirect(other.address())).await?;
    let told = yard.refusal("A1", notice, EnumErrorCode::NoRight).await?;
    let line = yard.line("A1").await.map_err(missed("the line"))?;
    if line.state != LineState::Registered || other.record().connections != 0 {
        return Err(miss("the session as it was", format!("{line:?}, {:?}", other.record())));
    }
    yard.stop(told).await
}

/// Another holder of the credential: no attempt for five minutes, and the line says so.
async fn forced_offline(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start_unready(place, site(place, 1, "fault = \"forces-offline\"")).await?;
    let is = |line: &farmhand::rack::snapshot::LineView| {
        line.state == LineState::Waiting && line.why.contains("another holder")
    };
    let line = yard.line_becomes("A1", "a line that gives way", HEARD_WITHIN, is).await?;
    yard.centre()?.set_fault(None);
    // Far longer than the usual pause after one failure.
    sleep(Duration::from_secs(20)).await;
    let sessions = yard.device("A1").map_err(missed("a record"))?.sessions;
    if sessions != 1 {
        return Err(miss("one attempt", sessions));
    }
    let log = std::fs::read_to_string(yard.daemon.log()).unwrap_or_default();
    said(&log, &["another holder"])?;
    yard.stop(format!("{}; no attempt in 20 s", line.why)).await
}

/// The rack's own centre behind a proxy.
async fn behind(place: &Place) -> Result<(Yard, Proxy), Miss> {
    let proxy = Proxy::start().await.map_err(missed("a proxy"))?;
    let setup = relayed(place, "").config(&format!("[central]\nserver = \"{}\"", proxy.address()));
    let yard = Yard::start_unready(place, setup).await?;
    proxy.leads_to(yard.centre()?.address());
    yard.all_ready().await?;
    let is = |line: &farmhand::rack::snapshot::LineView| line.state == LineState::Registered;
    yard.line_becomes("A1", "A1 registered", BACK_WITHIN, is).await?;
    Ok((yard, proxy))
}

/// The way swallows everything, and each end confirms what the other sends: heartbeats show it.
async fn half_open(place: &Place) -> Result<String, Miss> {
    let (yard, proxy) = behind(place).await?;
    proxy.is_now(Way::HalfOpen);
    let begun = Instant::now();
    let is = |line: &farmhand::rack::snapshot::LineView| line.state != LineState::Registered;
    let line = yard.line_becomes("A1", "a line that notices it", HEARD_WITHIN, is).await?;
    let took = begun.elapsed();
    proxy.is_now(Way::Open);
    let is = |line: &farmhand::rack::snapshot::LineView| line.state == LineState::Registered;
    yard.line_becomes("A1", "A1 registered again", BACK_WITHIN, is).await?;
    yard.stop(format!("noticed after {took:.1?} with a heartbeat of 2 s ({}), then registered again", line.why)).await
}

/// Cut in the middle of notices: nothing is lost, and what comes twice is counted.
async fn cut(place: &Place) -> Result<String, Miss> {
    let (yard, proxy) = behind(place).await?;
    let capture = super::capture::Capture::of(place);
    let mut agent = yard.agent("A1").await?;
    for round in 0..3 {
        tells_many(&mut agent, &format!("before cut {round}"), 20).await?;
        proxy.is_now(Way::Cut);
        tells_many(&mut agent, &format!("after cut {round}"), 20).await?;
        proxy.is_now(Way::Open);
        yard.texts(&capture, (round + 1) * 40, BACK_WITHIN * 2).await?;
    }
    let texts = capture.texts().len();
    let twice = yard.line("A1").await.map_err(missed("the line"))?.outbox.maybe_twice;
    yard.stop(format!("120 notices over 3 cuts, {} twice, {twice} counted as maybe", texts - 120)).await
}

/// A second and a half each way: later than heartbeats follow each other, and the line stands.
async fn delay(place: &Place) -> Result<String, Miss> {
    let (yard, proxy) = behind(place).await?;
    // The daemon may have come before the proxy knew whereto.
    let before = proxy.connections();
    proxy.is_now(Way::Delayed(Duration::from_millis(750)));
    let mut agent = yard.agent("A1").await?;
    let begun = Instant::now();
    tells_many(&mut agent, "slowly", 20).await?;
    let took = begun.elapsed();
    sleep(SOON).await;
    let line = yard.line("A1").await.map_err(missed("the line"))?;
    if proxy.connections() != before || line.state != LineState::Registered {
        return Err(miss("the one connection", format!("{} more, {line:?}", proxy.connections() - before)));
    }
    yard.stop(format!("750 ms each way: 20 notices in {took:.1?}, one connection all the while")).await
}
