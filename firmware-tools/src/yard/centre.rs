//! What the central server of a yard has seen, and what it says.

use std::time::Duration;

use super::Yard;
use crate::central::{CentralServer, DeviceRecord, TaskResultRecord, Upgrade};
use crate::check::{Miss, miss, until};

/// From one side of a line to the record of the other.
pub(crate) const HEARD_WITHIN: Duration = Duration::from_secs(30);

impl Yard {
    /// What the centre has seen of the phone in a slot.
    pub(crate) fn device(&self, slot: &str) -> Result<DeviceRecord, String> {
        let imei = self.rack.imei(slot).ok_or_else(|| format!("{slot} has no IMEI"))?;
        let record = self.rack.central().map(CentralServer::record).unwrap_or_default();
        record.devices.get(imei).cloned().ok_or_else(|| format!("the centre has never seen {slot}"))
    }

    /// Lets the centre offer an upgrade to a phone, once its line is there; gives the notice's id.
    pub(crate) async fn offer(&self, slot: &str, upgrade: &Upgrade) -> Result<i64, Miss> {
        until(HEARD_WITHIN, &format!("the line of {slot}"), async || {
            let device = self.device(slot)?;
            if device.connected && device.device_infos > 0 { Ok(()) } else { Err(format!("{device:?}")) }
        })
        .await?;
        let central = self.rack.central().ok_or_else(|| miss("a centre", "none"))?;
        let imei = self.rack.imei(slot).unwrap_or_default();
        central.upgrade(imei, upgrade).await.map_err(|error| miss("a notice sent", error))
    }

    /// What the centre is told of a notice.
    pub(crate) async fn result_of(&self, slot: &str, notice: i64) -> Result<TaskResultRecord, Miss> {
        until(HEARD_WITHIN, &format!("a TaskResultNotice of {slot} for {notice}"), async || {
            let device = self.device(slot)?;
            let results = &device.task_results;
            let found = results.iter().find(|result| result.ref_message_id == notice).cloned();
            found.ok_or_else(|| format!("{results:?}, errors {:?}", device.errors))
        })
        .await
    }
}
