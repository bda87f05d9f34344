//! What the line sends: exact in code, body and type URL.

use prost::Message;

use super::{Output, Session, State};
use crate::central::catalogue;
use crate::central::envelope::{Body, Envelope};
use crate::central::proto::device_auth_req_message::EnumAuthType;
use crate::central::proto::post_device_info_notice_message::DeviceAppInfoMessage;
use crate::central::proto::{
    DeviceAuthReqMessage, EnumErrorCode, EnumMsgType, ErrorMessage, HeartBeatMessage,
    PhoneStateTaskResultNoticeMessage, PhoneStateWarningNoticeMessage, PostDeviceInfoNoticeMessage,
    ScreenShotTaskMessage, ScreenShotTaskResultNoticeMessage, TaskResultNoticeMessage,
};
use crate::clock::Moment;
use crate::rack::event::{AppVersion, BatteryCondition, DeviceInfo, TaskName};

impl Session {
    pub(super) fn send_auth(&mut self) {
        let Some(wanted) = &self.wanted else { return };
        let auth_type = EnumAuthType::DeviceCode as i32;
        let body = DeviceAuthReqMessage { auth_type, credential: wanted.credential.clone() };
        self.send(EnumMsgType::DeviceAuthReq, &body, 0);
    }

    pub(super) fn send_heartbeat(&mut self, now: Moment) {
        let id = self.next_id;
        let State::Registered(registered) = &mut self.state else { return };
        if registered.unanswered.is_empty() {
            registered.unanswered_since = now;
        }
        registered.unanswered.push(id);
        let imei = self.imei();
        self.send(EnumMsgType::HeartBeatReq, &HeartBeatMessage { imei, ..Default::default() }, 0);
    }

    pub(super) fn send_device_info(&mut self) {
        let Some(wanted) = &self.wanted else { return };
        let body = device_info(&wanted.device);
        self.send(EnumMsgType::PostDeviceInfoNotice, &body, 0);
    }

    pub(super) fn send_task_result(&mut self, task: TaskName, result: Result<(), String>) {
        let (success, code) = match &result {
            Ok(()) => (true, EnumErrorCode::Success),
            Err(_) => (false, EnumErrorCode::InternalError),
        };
        let body = TaskResultNoticeMessage {
            success,
            code: code as i32,
            err_msg: result.err().unwrap_or_default(),
            task_id: task.task_id,
            task_type: task.task_type,
            we_chat_id: task.wechat_id,
        };
        self.send(EnumMsgType::TaskResultNotice, &body, task.message_id);
    }

    pub(super) fn send_phone_state(&mut self, of: i64, wechat_id: String, battery: BatteryCondition) {
        let body = PhoneStateTaskResultNoticeMessage { we_chat_id: wechat_id, ..self.phone_state(battery) };
        self.send(EnumMsgType::PhoneStateTaskResultNotice, &body, of);
    }

    /// The warning tells the state as the answer to PhoneStateTask does.
    pub(super) fn send_warning(&mut self, battery: BatteryCondition) {
        let state = self.phone_state(battery);
        let body = PhoneStateWarningNoticeMessage {
            imei: state.imei,
            battery_level: state.battery_level,
            charging_state: state.charging_state,
            net_type: state.net_type,
            sdcard_free: state.sdcard_free,
            sdcard_total: state.sdcard_total,
            ..Default::default()
        };
        self.send(EnumMsgType::PhoneStateWarningNotice, &body, 0);
    }

    fn phone_state(&self, battery: BatteryCondition) -> PhoneStateTaskResultNoticeMessage {
        let (sdcard_free, sdcard_total) = self.room();
        PhoneStateTaskResultNoticeMessage {
            we_chat_id: String::new(),
            imei: self.imei(),
            battery_level: i32::from(battery.level_percent),
            charging_state: i32::from(battery.charging),
            net_type: self.network(),
            sdcard_free,
            sdcard_total,
        }
    }

    /// Free and total, in bytes; both 0 where they were not read, which no phone has.
    fn room(&self) -> (i64, i64) {
        let bytes = |bytes: u64| i64::try_from(bytes).unwrap_or(i64::MAX);
        self.condition.storage.map_or((0, 0), |storage| (bytes(storage.free_bytes), bytes(storage.total_bytes)))
    }

    fn imei(&self) -> String {
        self.wanted.as_ref().map(|wanted| wanted.device.imei.clone()).unwrap_or_default()
    }

    fn network(&self) -> String {
        self.wanted.as_ref().map(|wanted| wanted.device.network.clone()).unwrap_or_default()
    }

    pub(super) fn send_screenshot_failure(&mut self, of: i64, task: &ScreenShotTaskMessage, why: &str) {
        let body = ScreenShotTaskResultNoticeMessage {
            we_chat_id: task.we_chat_id.clone(),
            success: false,
            err_msg: why.to_owned(),
            url: String::new(),
            task_id: task.task_id,
        };
        self.send(EnumMsgType::ScreenShotTaskResultNotice, &body, of);
    }

    pub(super) fn send_acknowledgement(&mut self, of: i64) {
        self.transmit(EnumMsgType::MsgReceivedAck, None, of);
    }

    pub(super) fn send_error(&mut self, of: i64, code: EnumErrorCode, why: &str) {
        let body = ErrorMessage { error_code: code as i32, error_msg: why.to_owned() };
        self.send(EnumMsgType::Error, &body, of);
    }

    fn send(&mut self, code: EnumMsgType, body: &impl Message, reference: i64) {
        self.transmit(code, Some(&body.encode_to_vec()), reference);
    }

    fn transmit(&mut self, code: EnumMsgType, body: Option<&[u8]>, reference: i64) {
        let type_name = catalogue::lookup(code as i32).and_then(|entry| entry.body);
        let body = body.zip(type_name).map(|(value, type_name)| Body { type_name, value });
        let access_token = match &self.state {
            State::Registered(registered) => registered.token.as_str(),
            State::Idle | State::Connecting { .. } | State::Authenticating { .. } | State::Waiting { .. } => "",
        };
        let envelope =
            Envelope { id: self.next_id, access_token, msg_type: code as i32, body, ref_message_id: reference };
        self.next_id = self.next_id.wrapping_add(1);
        match envelope.frame() {
            Ok(frame) => self.outputs.push_back(Output::Transmit(frame)),
            Err(why) => tracing::warn!(%why, "{} is not sent", code.as_str_name()),
        }
    }
}

fn device_info(device: &DeviceInfo) -> PostDeviceInfoNoticeMessage {
    let sim = |slot: usize| device.sims.get(slot).cloned().unwrap_or_default();
    let (first, second) = (sim(0), sim(1));
    PostDeviceInfoNoticeMessage {
        phone_brand: device.brand.clone(),
        phone_model: device.model.clone(),
        os_ver_number: i32::try_from(device.sdk).unwrap_or_default(),
        app_infos: device.apps.iter().filter_map(app_info).collect(),
        net_type: device.network.clone(),
        imei: device.imei.clone(),
        imsi1: first.imsi,
        imsi2: second.imsi,
        number1: first.number,
        number2: second.number,
        ..Default::default()
    }
}

/// `VerNumber` has 32 bits; Android's long version codes can be longer, and half a number would be a lie.
fn app_info(app: &AppVersion) -> Option<DeviceAppInfoMessage> {
    let Ok(ver_number) = i32::try_from(app.version_code.0) else {
        tracing::warn!(package = %app.package, version = %app.version_code, "versionCode fits no VerNumber: not told");
        return None;
    };
    Some(DeviceAppInfoMessage {
        package_name: app.package.as_str().to_owned(),
        ver_number,
        version: app.version_name.clone(),
        ..Default::default()
    })
}
