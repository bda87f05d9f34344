//! What the central server asks for, and what it hears.

use std::collections::BTreeMap;
use std::time::Duration;

use farmhand::central::proto::{EnumMsgType, PostDeleteDeviceNoticeMessage};
use farmhand::rack::snapshot::RolloutState;
use prost::Message as _;

use super::yard::{HEARD_WITHIN, PACKAGE, Setup, Yard, said};
use super::{Place, unwritten};
use crate::central::Upgrade;
use crate::check::{Miss, miss, until};

/// Its points.
pub(super) const POINTS: &[&str] = &[
    "from_central.ask",
    "from_central.auto",
    "from_central.refuse",
    "from_central.received_ack",
    "from_central.gathered",
    "from_central.success_by_device_info",
    "from_central.failure_by_task_result",
    "from_central.device_deleted",
];

/// UpgradeDeviceAppNotice.
const UPGRADE: i32 = 1094;

pub(super) async fn look(point: &str, place: &Place) -> Result<String, Miss> {
    match point {
        "from_central.ask" => ask(place).await,
        "from_central.auto" => auto(place).await,
        "from_central.refuse" => refuse(place).await,
        "from_central.received_ack" => received(place).await,
        "from_central.gathered" => gathered(place).await,
        "from_central.success_by_device_info" => success(place).await,
        "from_central.failure_by_task_result" => failure(place).await,
        "from_central.device_deleted" => deleted(place).await,
        other => unwritten(other),
    }
}

impl Yard {
    /// Offers version 2, from the rack's own HTTP server, to these.
    async fn offers_2(&self, slots: &[&str]) -> Result<BTreeMap<String, i64>, Miss> {
        let files = self.rack.files().ok_or_else(|| miss("an APK server", "none"))?;
        let upgrade = Upgrade {
            package: PACKAGE.to_owned(),
            version_code: 2,
            version_name: "2.0".to_owned(),
            url: files.url("agent-2.apk"),
        };
        let mut notices = BTreeMap::new();
        for slot in slots {
            notices.insert((*slot).to_owned(), self.offer(slot, &upgrade).await?);
        }
        Ok(notices)
    }

    /// Waits until there is a rollout, in this state.
    async fn first_becomes(&self, wanted: RolloutState) -> Result<String, Miss> {
        self.becomes("R1", wanted).await
    }
}

/// By itself a rollout of the centre's waits for the owner.
async fn ask(place: &Place) -> Result<String, Miss> {
    // What the rack agrees to by itself is for rollouts of the owner's: here the default counts.
    let setup = Setup::of(2).central().config("[rollout]\napprove = \"first\"");
    let yard = Yard::start(place, setup).await?;
    yard.offers_2(&["A1", "A2"]).await?;
    let why = yard.first_becomes(RolloutState::WaitingApproval).await?;
    yard.expect_untouched()?;
    yard.tell(&["rollout", "approve", "R1"]).await?;
    yard.wait_for("R1", 0).await?;
    yard.expect_versions("A1 A2 on 2")?;
    yard.stop(format!("it waited ({why}), and went on once approved")).await
}

async fn auto(place: &Place) -> Result<String, Miss> {
    let setup = Setup::of(2).central().config("[rollout]\napprove = \"first\"\nfrom_central = \"auto\"");
    let yard = Yard::start(place, setup).await?;
    yard.offers_2(&["A1", "A2"]).await?;
    let why = yard.first_becomes(RolloutState::Finished).await?;
    yard.expect_versions("A1 A2 on 2")?;
    yard.stop(format!("nobody approved it: {why}")).await
}

async fn refuse(place: &Place) -> Result<String, Miss> {
    let setup = Setup::of(1).central().config("[rollout]\nfrom_central = \"refuse\"");
    let yard = Yard::start(place, setup).await?;
    let notices = yard.offers_2(&["A1"]).await?;
    let result = yard.result_of("A1", notices.get("A1").copied().unwrap_or_default()).await?;
    if result.success || result.error.is_empty() {
        return Err(miss("a failure with a sentence", format!("{result:?}")));
    }
    yard.expect_untouched()?;
    yard.stop(result.error).await
}

/// Each notice is acknowledged before anybody has decided anything.
async fn received(place: &Place) -> Result<String, Miss> {
    let setup = Setup::of(2).central().config("[rollout]\napprove = \"first\"\ngather_s = 30");
    let yard = Yard::start(place, setup).await?;
    let notices = yard.offers_2(&["A1", "A2"]).await?;
    until(Duration::from_secs(10), "an acknowledgement of each notice", async || {
        for (slot, notice) in &notices {
            let device = yard.device(slot)?;
            if !device.acknowledged.contains(notice) {
                return Err(format!("{slot} has acknowledged {:?}", device.acknowledged));
            }
        }
        Ok(())
    })
    .await?;
    let state = yard.view("R1").await.map_err(|why| miss("R1", why))?.state;
    if state != RolloutState::Gathering {
        return Err(miss("acknowledged while notices are still gathered", state.as_str()));
    }
    yard.stop("MsgReceivedAck of both notices, while the rollout still gathers".to_owned()).await
}

/// Four notices are one rollout, and one download.
async fn gathered(place: &Place) -> Result<String, Miss> {
    let slots = ["A1", "A2", "A3", "A4"];
    let setup = Setup::of(4).central().config("[rollout]\ngather_s = 5\napprove = \"first\"");
    let yard = Yard::start(place, setup).await?;
    yard.offers_2(&slots).await?;
    yard.first_becomes(RolloutState::WaitingApproval).await?;
    let rollouts = yard.rollouts().await.map_err(|why| miss("the list", why))?;
    let phones: usize = rollouts.iter().flat_map(|one| &one.waves).map(|wave| wave.phones.len()).sum();
    let fetches = yard.rack.files().map_or(0, |files| files.fetches().get("agent-2.apk").copied().unwrap_or(0));
    match (rollouts.len(), phones, fetches) {
        (1, 4, 1) => yard.stop("4 notices, 1 rollout of 4 phones, 1 download".to_owned()).await,
        other => Err(miss("1 rollout of 4 phones, 1 download", format!("{other:?}"))),
    }
}

async fn success(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, Setup::of(1).central()).await?;
    let notices = yard.offers_2(&["A1"]).await?;
    yard.settle("R1").await?;
    yard.first_becomes(RolloutState::Finished).await?;
    let told = until(HEARD_WITHIN, "PostDeviceInfoNotice with version 2", async || {
        let device = yard.device("A1")?;
        let apps = device.device_info.map(|info| info.apps).unwrap_or_default();
        match apps.iter().find(|app| app.package == PACKAGE) {
            Some(app) if app.version_code == 2 => {
                Ok(format!("PostDeviceInfoNotice: {} {}", app.package, app.version_name))
            }
            other => Err(format!("{other:?}")),
        }
    })
    .await?;
    let failed = yard.device("A1").map_err(|why| miss("A1", why))?.task_results;
    if failed.iter().any(|result| notices.values().any(|id| *id == result.ref_message_id) && !result.success) {
        return Err(miss("no failure told", format!("{failed:?}")));
    }
    yard.stop(told).await
}

async fn failure(place: &Place) -> Result<String, Miss> {
    let setup = Setup::of(1).central().fault(1, "install-fails:INSTALL_FAILED_NO_MATCHING_ABIS");
    let yard = Yard::start(place, setup).await?;
    let notices = yard.offers_2(&["A1"]).await?;
    yard.settle("R1").await?;
    let result = yard.result_of("A1", notices.get("A1").copied().unwrap_or_default()).await?;
    if result.success || result.task_type != UPGRADE {
        return Err(miss("a failure of task type 1094", format!("{result:?}")));
    }
    let told = said(&result.error, &["INSTALL_FAILED_NO_MATCHING_ABIS"])?;
    yard.stop(format!("TaskResultNotice for the notice: {told}")).await
}

/// The line ends, does not come back by itself, and nothing is wiped.
async fn deleted(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, Setup::of(1).central()).await?;
    until(HEARD_WITHIN, "the line of A1", async || {
        let device = yard.device("A1")?;
        if device.connected { Ok(()) } else { Err(format!("{device:?}")) }
    })
    .await?;
    let imei = yard.rack.imei("A1").unwrap_or_default().to_owned();
    let content = prost_types::Any {
        type_url: "type.googleapis.com/Jubo.JuLiao.IM.Wx.Proto.PostDeleteDeviceNoticeMessage".to_owned(),
        value: PostDeleteDeviceNoticeMessage { imei: imei.clone() }.encode_to_vec(),
    };
    let central = yard.rack.central().ok_or_else(|| miss("a centre", "none"))?;
    let sent = central.send(&imei, EnumMsgType::PostDeleteDeviceNotice as i32, Some(content)).await;
    sent.map_err(|error| miss("a notice sent", error))?;
    until(HEARD_WITHIN, "the line closed", async || {
        let device = yard.device("A1")?;
        if device.connected { Err("it is open".to_owned()) } else { Ok(()) }
    })
    .await?;
    yard.expect_versions("A1 on 1")?;
    let phones = yard.phones().await.map_err(|why| miss("the phones", why))?;
    let why = phones.get("A1").map(|phone| phone.line.why.clone()).unwrap_or_default();
    yard.stop(format!("its line is closed ({why}), its app is still there")).await
}
