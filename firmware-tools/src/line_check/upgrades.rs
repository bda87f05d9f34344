//! Upgrades that agents carry out by themselves: as a step of a rollout, or as the centre has them.

use std::sync::Arc;
use std::time::Duration;

use farmhand::central::proto::{EnumErrorCode, EnumMsgType as Type};
use farmhand::rack::snapshot::RolloutState;
use tokio::task::JoinHandle;
use tokio::time::sleep;

use super::capture::Capture;
use super::rig::{missed, site};
use super::yard::{HEARD_WITHIN, PACKAGE, Setup, Yard, said};
use super::{Place, unwritten};
use crate::agent::{Agent, App, Home, carry_out};
use crate::cable::Cable;
use crate::central::Upgrade;
use crate::check::{Miss, miss, until};

/// Its points.
pub(super) const POINTS: &[&str] =
    &["upgrade.notice", "upgrade.notice_fails", "upgrade.forward", "upgrade.forward_without_an_agent"];

/// The version is read each minute, and two waves go one after the other.
const DONE_WITHIN: Duration = Duration::from_secs(240);
/// Between two attempts of an agent to find its line.
const RETRY_AFTER: Duration = Duration::from_millis(200);

pub(super) async fn look(point: &str, place: &Place) -> Result<String, Miss> {
    match point {
        "upgrade.notice" => notice(place).await,
        "upgrade.notice_fails" => fails(place).await,
        "upgrade.forward" => forward(place).await,
        "upgrade.forward_without_an_agent" => nobody(place).await,
        other => unwritten(other),
    }
}

fn setup(place: &Place, phones: usize, rollout: &str) -> Setup {
    let usual = "[central]\nmode = \"relay\"\n[rollout]\ngather_s = 1\napprove = \"first\"";
    site(place, phones, "").config(usual).config(&format!("[rollout]\n{rollout}"))
}

/// An agent that upgrades itself when it is told to, and is there again as the new one; it ends when this is dropped.
struct Agency(JoinHandle<()>);

impl Drop for Agency {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Agency {
    fn of(yard: &Yard, slot: &str) -> Result<Self, Miss> {
        let cable = yard.rack.shared_phone(slot).ok_or_else(|| miss("a phone in the rack", slot))?;
        let imei = yard.rack.imei(slot).unwrap_or_default().to_owned();
        Ok(Self(tokio::spawn(live(cable, imei))))
    }
}

async fn live(cable: Arc<Cable>, imei: String) {
    let mut apps = Vec::new();
    loop {
        let line = cable.phone().state().tunnels.get("tcp:9200").map(|tunnel| tunnel.local);
        if let Some(line) = line
            && let Ok(mut agent) = Agent::register(line, &imei).await
        {
            // Its end is that of the connection: it comes back.
            let _ = converse(&mut agent, &cable, &imei, &mut apps).await;
        }
        sleep(RETRY_AFTER).await;
    }
}

async fn converse(agent: &mut Agent, cable: &Cable, imei: &str, apps: &mut Vec<App>) -> std::io::Result<()> {
    if !apps.is_empty() {
        agent.reports(imei, apps).await?;
    }
    while let Some(message) = agent.next().await? {
        agent.take(&message).await?;
        if message.msg_type != Type::UpgradeDeviceAppNotice as i32 {
            continue;
        }
        match carry_out(&message, Home::Here(cable.phone())).await {
            Ok(upgraded) => {
                *apps = upgraded;
                return Ok(());
            }
            Err(why) => drop(agent.could_not_upgrade(message.id, &why.to_string()).await?),
        }
    }
    Ok(())
}

impl Yard {
    /// Version 2 at the rack's own HTTP server.
    fn version_2(&self) -> Result<Upgrade, Miss> {
        let files = self.rack.files().ok_or_else(|| miss("an APK server", "none"))?;
        Ok(Upgrade {
            package: PACKAGE.to_owned(),
            version_code: 2,
            version_name: "2.0".to_owned(),
            url: files.url("agent-2.apk"),
        })
    }

    /// Agents on these phones that their lines know of.
    async fn agencies(&self, slots: &[&str]) -> Result<Vec<Agency>, Miss> {
        let agencies = slots.iter().map(|slot| Agency::of(self, slot)).collect::<Result<_, _>>()?;
        for slot in slots {
            self.registered(slot).await?;
            self.line_becomes(slot, "an agent on its line", HEARD_WITHIN, |line| line.agent_since.is_some()).await?;
        }
        Ok(agencies)
    }

    /// Waits until the centre has heard of version 2 from the phone's agent, which names no brand.
    async fn hears_of_2(&self, capture: &Capture, slot: &str) -> Result<(), Miss> {
        let imei = self.rack.imei(slot).unwrap_or_default();
        until(HEARD_WITHIN, &format!("PostDeviceInfoNotice of the agent of {slot}"), async || {
            let said = capture.said(Type::PostDeviceInfoNotice);
            let bodies = said
                .iter()
                .filter_map(|frame| frame.body::<farmhand::central::proto::PostDeviceInfoNoticeMessage>().ok());
            let mut of_agent = bodies.filter(|info| info.imei == imei && info.phone_brand.is_empty());
            let has_2 = of_agent.any(|info| info.app_infos.iter().any(|app| app.ver_number == 2));
            if has_2 { Ok(()) } else { Err(format!("{} of any kind", said.len())) }
        })
        .await
    }
}

/// Two waves of one phone: each agent is told in its turn, installs, and the phone's own report of the version ends it.
async fn notice(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, setup(place, 2, "delivery = \"notice\"\nwaves = [1]")).await?;
    let _agencies = yard.agencies(&["A1", "A2"]).await?;
    let upgrade = yard.version_2()?;
    for slot in ["A1", "A2"] {
        yard.offer(slot, &upgrade).await?;
    }
    yard.settle("R1").await?;
    until(DONE_WITHIN, "the first phone done", async || {
        let done = yard.rows("R1").await?.into_iter().filter(|row| row.state == "done").count();
        if done > 0 { Ok(()) } else { Err(format!("{:?}", yard.rows("R1").await?)) }
    })
    .await?;
    let why = until(DONE_WITHIN, "R1 finished", async || {
        let view = yard.view("R1").await?;
        if view.state == RolloutState::Finished {
            Ok(view.why)
        } else {
            Err(format!("{} ({})", view.state.as_str(), view.why))
        }
    })
    .await?;
    yard.expect_versions("A1 A2 on 2")?;
    let capture = Capture::of(place);
    for slot in ["A1", "A2"] {
        yard.hears_of_2(&capture, slot).await?;
        let seen = yard.seen(slot)?;
        if seen.installs != 1 {
            return Err(miss("one install, by the agent", format!("{} on {slot}", seen.installs)));
        }
    }
    let fetches = yard.rack.files().map_or(0, |files| files.fetches().get("agent-2.apk").copied().unwrap_or(0));
    let results = capture.said(Type::TaskResultNotice).len();
    if (fetches, results) != (3, 0) {
        return Err(miss("the rack's fetch and one of each agent, no failure told", format!("{fetches}, {results}")));
    }
    yard.stop(format!("A1, then A2, by their agents; {why}")).await
}

/// What an agent can't install stops the wave, and the centre is told of its own notice.
async fn fails(place: &Place) -> Result<String, Miss> {
    let setup = setup(place, 2, "delivery = \"notice\"\nwaves = [1]\nretries = 0");
    let setup = setup.fault(1, "install-fails:INSTALL_FAILED_INSUFFICIENT_STORAGE");
    let setup = setup.fault(2, "install-fails:INSTALL_FAILED_INSUFFICIENT_STORAGE");
    let yard = Yard::start(place, setup).await?;
    let _agencies = yard.agencies(&["A1", "A2"]).await?;
    let upgrade = yard.version_2()?;
    let mut notices = Vec::new();
    for slot in ["A1", "A2"] {
        notices.push((slot, yard.offer(slot, &upgrade).await?));
    }
    yard.settle("R1").await?;
    let why = yard.becomes("R1", RolloutState::Paused).await?;
    let rows = yard.rows("R1").await.map_err(missed("the phones of R1"))?;
    let failed =
        rows.iter().find(|row| row.state == "failed").ok_or_else(|| miss("a failed phone", format!("{rows:?}")))?;
    let reason = failed.why.clone().unwrap_or_default();
    said(&reason, &["the agent says", "INSTALL_FAILED_INSUFFICIENT_STORAGE"])?;
    let slot = failed.slot.clone().unwrap_or_default();
    let notice = notices.iter().find(|(name, _)| *name == slot).map_or(0, |(_, id)| *id);
    let told = yard.result_of(&slot, notice).await?;
    let untold = rows.iter().filter(|row| row.state == "waiting").count();
    if told.success || untold != 1 {
        return Err(miss("one phone failed, told so, and the other not asked", format!("{told:?}, {rows:?}")));
    }
    yard.stop(format!("{why}: {reason}")).await
}

/// The centre's notice goes to the agent as it came, and there is no rollout of it.
async fn forward(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, setup(place, 1, "from_central = \"forward\"")).await?;
    let _agencies = yard.agencies(&["A1"]).await?;
    let notice = yard.offer("A1", &yard.version_2()?).await?;
    yard.hears_of_2(&Capture::of(place), "A1").await?;
    yard.expect_versions("A1 on 2")?;
    let acknowledged = yard.device("A1").map_err(missed("a record"))?.acknowledged.contains(&notice);
    let rollouts = yard.rollouts().await.map_err(missed("the rollouts"))?.len();
    if (acknowledged, rollouts) != (true, 0) {
        return Err(miss("an acknowledgement and no rollout", format!("{acknowledged}, {rollouts}")));
    }
    yard.stop("acknowledged, installed and told by the agent; no rollout".to_owned()).await
}

async fn nobody(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, setup(place, 1, "from_central = \"forward\"")).await?;
    yard.registered("A1").await?;
    let notice = yard.offer("A1", &yard.version_2()?).await?;
    let told = yard.refusal("A1", notice, EnumErrorCode::TargetNotOnline).await?;
    yard.expect_versions("A1 on 1")?;
    yard.stop(told).await
}
