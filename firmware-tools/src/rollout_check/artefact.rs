//! Where the APK comes from: a file, an address, the store.

use std::sync::atomic::Ordering;

use farmhand::rack::snapshot::RolloutState;

use super::odd_server::OddServer;
use super::yard::{PACKAGE, Setup, Yard};
use super::{Place, unwritten};
use crate::central::{ServerTls, Upgrade};
use crate::check::{Miss, miss};

/// Its points.
pub(super) const POINTS: &[&str] = &[
    "artefact.resumed_by_range",
    "artefact.redirect_followed",
    "artefact.five_redirects",
    "artefact.https",
    "artefact.proxy",
    "artefact.from_file",
    "artefact.from_store",
    "artefact.unfit_phones_skipped",
    "artefact.last_finished_version",
    "artefact.last_finished_over_restart",
    "artefact.never_what_is_rolled_back",
    "artefact.owners_new_file",
];

pub(super) async fn look(point: &str, place: &Place) -> Result<String, Miss> {
    match point {
        "artefact.from_file" => from_file(place).await,
        "artefact.from_store" => from_store(place).await,
        "artefact.redirect_followed" => from_address(place, "moved-1", 1, 0).await,
        "artefact.five_redirects" => from_address(place, "moved-5", 5, 0).await,
        "artefact.resumed_by_range" => from_address(place, "breaks", 0, 1).await,
        "artefact.https" => by_https(place).await,
        "artefact.proxy" => by_proxy(place).await,
        "artefact.unfit_phones_skipped" => unfit(place).await,
        "artefact.last_finished_version" => last_finished(place).await,
        "artefact.last_finished_over_restart" => over_restart(place).await,
        "artefact.never_what_is_rolled_back" => rolled_back(place).await,
        "artefact.owners_new_file" => owners_new_file(place).await,
        other => unwritten(other),
    }
}

async fn from_file(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, Setup::of(2)).await?;
    yard.begin("agent-2.apk", &["--wait"]).await?;
    yard.expect_versions("A1 A2 on 2")?;
    yard.stop(yard_sum(2)).await
}

fn yard_sum(installs: usize) -> String {
    format!("version 2 on {installs} phones")
}

/// The file is gone once the rollout has begun, and the daemon was killed: the store has it.
async fn from_store(place: &Place) -> Result<String, Miss> {
    let mut yard = Yard::start(place, Setup::of(2)).await?;
    let copy = place.dir.join("gone.apk");
    std::fs::copy(yard.apk("agent-2.apk"), &copy).map_err(|error| miss("a copy", error))?;
    yard.tell(&["rollout", "start", &copy.display().to_string(), "--approve", "first"]).await?;
    std::fs::remove_file(&copy).map_err(|error| miss("the file to go", error))?;
    yard.daemon.kill().await.map_err(|error| miss("the daemon to be killed", error))?;
    yard.daemon.start_again().await.map_err(|error| miss("the daemon to start again", error))?;
    yard.all_ready().await?;
    yard.tell(&["rollout", "approve", "R1"]).await?;
    yard.wait_for("R1", 0).await?;
    yard.expect_versions("A1 A2 on 2")?;
    yard.stop("its file was removed and the daemon killed; it was installed from the store".to_owned()).await
}

/// One download for two phones, led on and resumed so often; each is one more request.
async fn from_address(place: &Place, path: &str, moves: usize, ranges: usize) -> Result<String, Miss> {
    let yard = Yard::start(place, Setup::of(2).central()).await?;
    let server = OddServer::start(apk(&yard)?).await.map_err(|error| miss("a server", error))?;
    offered(&yard, server.url(path)).await?;
    let (times, seen) = (server.asked().times.load(Ordering::Relaxed), server.asked().ranges.load(Ordering::Relaxed));
    let requests = 1 + moves + ranges;
    if (times, seen) == (requests, ranges) {
        return yard.stop(format!("{requests} requests, {ranges} for the rest, for 2 phones")).await;
    }
    Err(miss(&format!("{requests} requests, {ranges} of them for the rest"), format!("{times}, {seen}")))
}

fn apk(yard: &Yard) -> Result<Vec<u8>, Miss> {
    std::fs::read(yard.apk("agent-2.apk")).map_err(|error| miss("an APK", error))
}

/// The centre offers version 2 at an address to both phones, and both get it.
async fn offered(yard: &Yard, url: String) -> Result<(), Miss> {
    let upgrade = Upgrade { package: PACKAGE.to_owned(), version_code: 2, version_name: "2.0".to_owned(), url };
    for slot in ["A1", "A2"] {
        yard.offer(slot, &upgrade).await?;
    }
    yard.settle("R1").await?;
    yard.becomes("R1", RolloutState::Finished).await?;
    yard.expect_versions("A1 A2 on 2")
}

/// The host trusts the authority of the server's certificate.
async fn by_https(place: &Place) -> Result<String, Miss> {
    let dir = place.dir.join("tls");
    let tls = ServerTls::in_dir(&dir, &["127.0.0.1"]).map_err(|error| miss("certificates", error))?;
    let trusts = format!("SSL_CERT_FILE={}", dir.join("ca.pem").display());
    let yard = Yard::start_within(place, Setup::of(2).central(), &["env", &trusts]).await?;
    yard.all_ready().await?;
    let server = OddServer::start_tls(apk(&yard)?, &tls).await.map_err(|error| miss("a server", error))?;
    offered(&yard, server.url("whole")).await?;
    match server.asked().times.load(Ordering::Relaxed) {
        1 => yard.stop("1 request by HTTPS, for 2 phones".to_owned()).await,
        times => Err(miss("1 request", times)),
    }
}

/// The host of the address is known to nobody but the proxy that the daemon's environment names.
async fn by_proxy(place: &Place) -> Result<String, Miss> {
    let bytes = std::fs::read(place.apks.join("agent-2.apk")).map_err(|error| miss("an APK", error))?;
    let server = OddServer::start(bytes).await.map_err(|error| miss("a server", error))?;
    let proxy = server.url("");
    let (upper, lower) = (format!("HTTP_PROXY={proxy}"), format!("http_proxy={proxy}"));
    let before = ["env", "NO_PROXY=", "no_proxy=", &upper, &lower];
    let yard = Yard::start_within(place, Setup::of(2).central(), &before).await?;
    yard.all_ready().await?;
    offered(&yard, "http://apks.example/whole".to_owned()).await?;
    match server.asked().proxied.load(Ordering::Relaxed) {
        1 => yard.stop("1 request for http://apks.example, through the proxy, for 2 phones".to_owned()).await,
        times => Err(miss("1 request to the proxy", times)),
    }
}

async fn unfit(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, Setup::of(2).phone(2, "sdk = 23")).await?;
    yard.begin("agent-2.apk", &[]).await?;
    yard.wait_for("R1", 10).await?;
    yard.expect_versions("A1 on 2, A2 on none")?;
    let row = yard.row("R1", "A2").await.map_err(|why| miss("a row of A2", why))?;
    let why = row.why.unwrap_or_default();
    if row.state != "skipped" || !why.contains("SDK 23") {
        return Err(miss("A2 skipped with its SDK", format!("{} ({why})", row.state)));
    }
    yard.stop(format!("A2 skipped: {why}")).await
}

/// A1, and A2 that nobody has seen yet; phones without the agent get version 1 by `[agent]`.
async fn half_a_rack(place: &Place, first: &str) -> Result<Yard, Miss> {
    let packages = format!("packages = [\"{first}\"]\ndebuggable = true");
    let setup = Setup::of(2).phone(1, &packages).phone(2, "faults = [\"stalls\"]");
    let yard = Yard::start_unready(place, setup.rack("[daemon]\nagent = \"agent-1.apk\"")).await?;
    yard.ready(&["A1"]).await?;
    Ok(yard)
}

/// A2 comes for the first time.
async fn comes(yard: &Yard) -> Result<(), Miss> {
    yard.phone("A2")?.clear_faults();
    yard.unplug("A2").await?;
    yard.plug("A2").await?;
    yard.ready(&["A2"]).await
}

/// A phone that is plugged in while version 3 is in trial gets version 2, which last finished its rollout.
async fn last_finished(place: &Place) -> Result<String, Miss> {
    let yard = half_a_rack(place, "agent-1.apk").await?;
    yard.begin("agent-2.apk", &["--phone", "A1", "--wait"]).await?;
    yard.begin("agent-3.apk", &["--phone", "A1", "--approve", "first"]).await?;
    comes(&yard).await?;
    yard.expect_versions("A1 A2 on 2")?;
    yard.stop("a new phone got version 2, which finished, not 3, which waits for approval".to_owned()).await
}

/// The same after a kill -9, with the operator's file gone.
async fn over_restart(place: &Place) -> Result<String, Miss> {
    let mut yard = half_a_rack(place, "agent-1.apk").await?;
    let copy = place.dir.join("gone.apk");
    std::fs::copy(yard.apk("agent-2.apk"), &copy).map_err(|error| miss("a copy", error))?;
    yard.tell(&["rollout", "start", &copy.display().to_string(), "--phone", "A1", "--wait"]).await?;
    std::fs::remove_file(&copy).map_err(|error| miss("the file to go", error))?;
    yard.daemon.kill().await.map_err(|error| miss("the daemon to be killed", error))?;
    yard.daemon.start_again().await.map_err(|error| miss("the daemon to start again", error))?;
    yard.ready(&["A1"]).await?;
    comes(&yard).await?;
    yard.expect_versions("A1 A2 on 2")?;
    yard.stop("after a kill -9 a new phone got version 2 from the store".to_owned()).await
}

/// What is rolled back no phone gets any more, and the one before it again.
async fn rolled_back(place: &Place) -> Result<String, Miss> {
    let yard = half_a_rack(place, "agent-1.apk").await?;
    for apk in ["agent-2.apk", "agent-3.apk"] {
        yard.begin(apk, &["--phone", "A1", "--wait"]).await?;
    }
    yard.tell(&["rollout", "rollback", "R2", "--reason", "it drains the battery"]).await?;
    yard.becomes("R2", RolloutState::RolledBack).await?;
    comes(&yard).await?;
    yard.expect_versions("A1 A2 on 2")?;
    yard.stop("a new phone got version 2, since 3 was rolled back".to_owned()).await
}

/// The owner names another file after version 2 has finished: who spoke last decides.
async fn owners_new_file(place: &Place) -> Result<String, Miss> {
    let mut yard = half_a_rack(place, "agent-1.apk").await?;
    yard.begin("agent-2.apk", &["--phone", "A1", "--wait"]).await?;
    yard.daemon.kill().await.map_err(|error| miss("the daemon to be killed", error))?;
    let config = yard.rack.config_file();
    let written = std::fs::read_to_string(&config).map_err(|error| miss("farmhand.toml", error))?;
    let changed = written.replace("agent-1.apk", "agent-3.apk");
    std::fs::write(&config, changed).map_err(|error| miss("farmhand.toml", error))?;
    yard.daemon.start_again().await.map_err(|error| miss("the daemon to start again", error))?;
    yard.ready(&["A1"]).await?;
    comes(&yard).await?;
    yard.expect_versions("A1 on 2, A2 on 3")?;
    yard.stop("a new phone got version 3, which [agent] apk names since version 2 has finished".to_owned()).await
}
