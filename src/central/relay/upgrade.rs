//! An upgrade that the rack asks of the agent by itself: `UpgradeDeviceAppNotice` as from the centre, whose answers go no further than here.
//!
//! Invariant: what the agent says of the rack's own notice is not the centre's (`what_the_agent_says_of_the_racks_own_notice_stays_here`).
//! Invariant: a notice that the agent did not acknowledge before it left is told as failed, and not given to the next one.

use prost::Message as _;

use super::Relay;
use crate::central::envelope::View;
use crate::central::proto::{
    DeviceAppUpgradeMessage, EnumMsgType, ErrorMessage, TaskResultNoticeMessage, UpgradeDeviceAppNoticeMessage,
};
use crate::central::session::Output;
use crate::clock::Moment;
use crate::rack::delivery::{UpgradeByAgent, UpgradeFailed};
use crate::rack::event::LineEvent;
use crate::rack::ids::RolloutId;

/// The newest notice of the rack's own.
#[derive(Debug)]
pub(super) struct Noticed {
    /// Towards the agent.
    id: i64,
    rollout: RolloutId,
    acknowledged: bool,
}

impl Relay {
    /// Asks the agent that is connected; [`LineEvent::UpgradeFailed`] if it can't be asked, or says no.
    pub(super) fn upgrade(&mut self, upgrade: UpgradeByAgent, now: Moment) {
        let rollout = upgrade.rollout.clone();
        match self.notice(upgrade) {
            Ok(notice) => {
                self.noticed = Some(Noticed { id: self.down.next_id(), rollout, acknowledged: false });
                self.tell_agent(EnumMsgType::UpgradeDeviceAppNotice, Some(&notice.encode_to_vec()), 0, now);
            }
            Err(why) => self.upgrade_failed(rollout, why.to_owned()),
        }
    }

    fn notice(&self, upgrade: UpgradeByAgent) -> Result<UpgradeDeviceAppNoticeMessage, &'static str> {
        let agent = self.agent.as_ref().ok_or("no agent is connected on this phone")?;
        if !agent.has_room() {
            return Err("the agent on this phone takes nothing more now");
        }
        let ver_number = i32::try_from(upgrade.version_code.0).map_err(|_| "its versionCode fits no VerNumber")?;
        let app = DeviceAppUpgradeMessage {
            ver_number,
            version: upgrade.version_name,
            package_name: upgrade.package.as_str().to_owned(),
            package_url: upgrade.url,
        };
        let imei = self.session.credential().unwrap_or_default().to_owned();
        Ok(UpgradeDeviceAppNoticeMessage { imei, app_infos: vec![app], ..Default::default() })
    }

    /// Whether an answer of the agent is about a notice of the rack's own, which the centre knows nothing of: then it is heard here.
    pub(super) fn hears_of_upgrade(&mut self, view: &View<'_>, now: Moment) -> bool {
        let about_it = |noticed: &&mut Noticed| view.ref_message_id != 0 && noticed.id == view.ref_message_id;
        let Some(noticed) = self.noticed.as_mut().filter(about_it) else { return false };
        noticed.acknowledged = true;
        match EnumMsgType::try_from(view.msg_type) {
            Ok(EnumMsgType::MsgReceivedAck) => {}
            Ok(EnumMsgType::Error) => {
                let error = ErrorMessage::decode(view.body()).unwrap_or_default();
                self.agent_failed(&format!("{}, {}", error.error_code().as_str_name(), error.error_msg));
            }
            Ok(EnumMsgType::TaskResultNotice) => {
                match TaskResultNoticeMessage::decode(view.body()) {
                    Ok(result) if result.success => {}
                    Ok(result) => self.agent_failed(&result.err_msg),
                    Err(why) => self.agent_failed(&why.to_string()),
                }
                self.tell_agent(EnumMsgType::MsgReceivedAck, None, view.id, now);
            }
            // Such as what the phone has now, which is the centre's as well.
            _ => return false,
        }
        true
    }

    /// The agent is gone.
    pub(super) fn forsake_upgrade(&mut self) {
        if let Some(noticed) = self.noticed.take_if(|noticed| !noticed.acknowledged) {
            self.upgrade_failed(noticed.rollout, "the agent left before it acknowledged the notice".to_owned());
        }
    }

    fn agent_failed(&mut self, what: &str) {
        if let Some(noticed) = self.noticed.take() {
            self.upgrade_failed(noticed.rollout, format!("the agent says that it failed: {}", what.escape_debug()));
        }
    }

    fn upgrade_failed(&mut self, rollout: RolloutId, why: String) {
        self.outputs.push_back(Output::Event(LineEvent::UpgradeFailed(UpgradeFailed { rollout, why })));
    }
}
