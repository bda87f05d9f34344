//! What no phone may ever see: each is refused with a sentence that says what and why.

use std::time::Duration;

use farmhand::rack::snapshot::RolloutState;

use super::odd_server::OddServer;
use super::yard::{PACKAGE, Setup, Yard, said};
use super::{Place, unwritten};
use crate::central::{Authority, ServerTls, Upgrade};
use crate::check::{Miss, miss, until};

/// Its points.
pub(super) const POINTS: &[&str] = &[
    "refused.trickle",
    "refused.length_lie",
    "refused.truncated",
    "refused.tampered",
    "refused.unsigned",
    "refused.v1_only",
    "refused.wrong_package",
    "refused.wrong_signer",
    "refused.downgrade",
    "refused.zip_bomb",
    "refused.overlapping_entries",
    "refused.http_404",
    "refused.redirect_loop",
    "refused.six_redirects",
    "refused.https_of_nobody",
    "refused.full_disk",
    "refused.notice_lies",
    "refused.threshold",
];

/// A server that trickles is given up after a minute; the connection that broke is resumed five times before.
const GIVEN_UP_WITHIN: Duration = Duration::from_secs(150);
/// UpgradeDeviceAppNotice.
const UPGRADE: i32 = 1094;

pub(super) async fn look(point: &str, place: &Place) -> Result<String, Miss> {
    match point {
        "refused.truncated" => file(place, "agent-2-truncated.apk", &["no whole ZIP archive"]).await,
        "refused.tampered" => file(place, "tampered.apk", &["is refused", "changed"]).await,
        "refused.unsigned" => file(place, "agent-2-unsigned.apk", &["has no APK Signing Block"]).await,
        "refused.v1_only" => file(place, "v1.apk", &["signed by scheme v1 only"]).await,
        "refused.wrong_package" => file(place, "other-package-1.apk", &["org.example.other", "was expected"]).await,
        "refused.wrong_signer" => {
            file(place, "agent-2-other-key.apk", &["is signed by aedc91c8", "does not list"]).await
        }
        "refused.zip_bomb" => file(place, "bomb.apk", &["ZIP bomb"]).await,
        "refused.overlapping_entries" => file(place, "overlapping.apk", &["`a` and `c` overlap"]).await,
        "refused.downgrade" => downgrade(place).await,
        "refused.threshold" => threshold(place).await,
        "refused.http_404" => notice(place, "nowhere", 2, &["answered 404"]).await,
        "refused.six_redirects" => notice(place, "moved-6", 2, &["more than 5 redirects"]).await,
        "refused.https_of_nobody" => https(place).await,
        "refused.redirect_loop" => notice(place, "loop", 2, &["redirect"]).await,
        "refused.length_lie" => notice(place, "short", 2, &["was cut short"]).await,
        "refused.trickle" => notice(place, "trickle", 2, &["bytes"]).await,
        "refused.notice_lies" => notice(place, "whole", 7, &["version", "2", "7"]).await,
        "refused.full_disk" => full_disk(place).await,
        other => unwritten(other),
    }
}

/// A file on this host that is refused at once.
async fn file(place: &Place, apk: &str, words: &[&str]) -> Result<String, Miss> {
    let yard = Yard::start(place, Setup::of(2)).await?;
    let told = yard.refused(&["rollout", "start", &yard.apk(apk)]).await?;
    let told = said(&told, words)?;
    none_began(&yard).await?;
    yard.stop(told).await
}

async fn none_began(yard: &Yard) -> Result<(), Miss> {
    yard.expect_untouched()?;
    match yard.rollouts().await.map_err(|why| miss("the list of rollouts", why))?.as_slice() {
        [] => Ok(()),
        some => Err(miss("no rollout", format!("{some:?}"))),
    }
}

async fn downgrade(place: &Place) -> Result<String, Miss> {
    let newer = "packages = [\"agent-2.apk\"]";
    let yard = Yard::start(place, Setup::of(2).phone(1, newer).phone(2, newer)).await?;
    let told = yard.refused(&["rollout", "start", &yard.apk("agent-1.apk")]).await?;
    none_began(&yard).await?;
    yard.expect_versions("A1 A2 on 2")?;
    if !["downgrade", "newer", "version 2"].iter().any(|word| told.contains(word)) {
        return Err(miss("a sentence that says that the phones have a newer version", told));
    }
    yard.stop(told).await
}

/// On the command line and in farmhand.toml.
async fn threshold(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, Setup::of(2)).await?;
    let apk = yard.apk("agent-2.apk");
    let mut told = Vec::new();
    for (option, value) in
        [("--max-failures", "5x"), ("--gate", "agent=often"), ("--waves", "1,much"), ("--share", "0%")]
    {
        let refused = yard.refused(&["rollout", "start", &apk, option, value]).await?;
        told.push(said(&refused, &["invalid value"])?);
    }
    let config = place.dir.join("bad.toml");
    std::fs::write(&config, "[rollout]\nmax_failures = \"some\"\n").map_err(|error| miss("a file", error))?;
    let refused = yard.refused(&["config", "check", &config.display().to_string()]).await?;
    said(&refused, &["max_failures"])?;
    none_began(&yard).await?;
    let first = told.into_iter().next().unwrap_or_default();
    yard.stop(format!("{first}; so are bad --gate, --waves, --share and [rollout] max_failures")).await
}

/// What the centre offers, and can't be had or is not what it says: the rollout is given up and each phone's line tells why.
async fn notice(place: &Place, path: &str, version_code: i32, words: &[&str]) -> Result<String, Miss> {
    let yard = Yard::start(place, Setup::of(2).central()).await?;
    let server = OddServer::start(apk(&yard)?).await.map_err(|error| miss("a server", error))?;
    offered_in_vain(yard, &server, path, version_code, words).await
}

fn apk(yard: &Yard) -> Result<Vec<u8>, Miss> {
    std::fs::read(yard.apk("agent-2.apk")).map_err(|error| miss("an APK", error))
}

/// A server whose certificate is of an authority that the host does not know.
async fn https(place: &Place) -> Result<String, Miss> {
    let cannot = |error| miss("certificates", error);
    let (its, known) = (place.dir.join("tls"), place.dir.join("known.pem"));
    let tls = ServerTls::in_dir(&its, &["127.0.0.1"]).map_err(cannot)?;
    Authority::new("another authority").and_then(|authority| authority.write(&known)).map_err(cannot)?;
    let trusts = format!("SSL_CERT_FILE={}", known.display());
    let yard = Yard::start_within(place, Setup::of(2).central(), &["env", &trusts]).await?;
    yard.all_ready().await?;
    let server = OddServer::start_tls(apk(&yard)?, &tls).await.map_err(|error| miss("a server", error))?;
    offered_in_vain(yard, &server, "whole", 2, &["certificate", "UnknownIssuer"]).await
}

/// The same where the store has no room for an APK: a file system of two pages is mounted over it.
async fn full_disk(place: &Place) -> Result<String, Miss> {
    let apks = place.dir.join("state/apks");
    let mount =
        format!("mkdir -p '{0}' && mount -t tmpfs -o size=8k tmpfs '{0}' && exec \"$0\" \"$@\"", apks.display());
    let before = ["unshare", "--mount", "--map-root-user", "sh", "-c", mount.as_str()];
    let yard = Yard::start_within(place, Setup::of(2).central(), &before).await?;
    yard.all_ready().await?;
    let server = OddServer::start(apk(&yard)?).await.map_err(|error| miss("a server", error))?;
    offered_in_vain(yard, &server, "whole", 2, &["is full", "has no room"]).await
}

async fn offered_in_vain(
    yard: Yard,
    server: &OddServer,
    path: &str,
    version_code: i32,
    words: &[&str],
) -> Result<String, Miss> {
    let upgrade =
        Upgrade { package: PACKAGE.to_owned(), version_code, version_name: "2.0".to_owned(), url: server.url(path) };
    let mut notices = Vec::new();
    for slot in ["A1", "A2"] {
        notices.push((slot, yard.offer(slot, &upgrade).await?));
    }
    let why = until(GIVEN_UP_WITHIN, "the rollout given up", async || {
        let view = yard.view("R1").await?;
        if view.state == RolloutState::Aborted {
            Ok(view.why)
        } else {
            Err(format!("{} ({})", view.state.as_str(), view.why))
        }
    })
    .await?;
    let why = said(&why, words)?;
    for (slot, notice) in notices {
        let result = yard.result_of(slot, notice).await?;
        if result.success || result.task_type != UPGRADE || result.error.is_empty() {
            return Err(miss("a TaskResultNotice with a sentence", format!("{result:?}")));
        }
    }
    yard.expect_untouched()?;
    yard.stop(why).await
}
