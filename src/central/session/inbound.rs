//! What the server's messages lead to: one method for each.

use prost::Message;

use super::{
    Acknowledged, Agent, FOR_THE_OTHER_HOLDER, Heard, Judged, Output, Session, State, UNKNOWN_CODES_MAX, Who, name_of,
};
use crate::central::catalogue::{self, Group};
use crate::central::envelope::View;
use crate::central::policy::{Now, Refusal, Verdict};
use crate::central::proto::{
    AccountForceOfflineNoticeMessage, DeviceAppUpgradeMessage, DeviceAuthRspMessage, EnumErrorCode,
    EnumForceOfflineReason, EnumMsgType, ErrorMessage, PostDeleteDeviceNoticeMessage, RedirectNoticeMessage,
    UpgradeDeviceAppNoticeMessage,
};
use crate::clock::Moment;
use crate::config::FromCentral;
use crate::rack::event::{LineEvent, UpgradeNotice};
use crate::rack::ids::{PackageName, VersionCode};

/// Apps of one UpgradeDeviceAppNotice; a phone has one agent, and a few apps at most.
const APPS_MAX: usize = 64;

impl Session {
    /// A frame came; `payload` is what it holds. Says what it is to an agent on the phone.
    pub fn receive(&mut self, payload: &[u8], now: Moment) -> Heard {
        let view = match View::parse(payload) {
            Ok(view) => view,
            Err(why) => {
                self.corrupt(format_args!("a frame that is no TransportMessage: {why}"), now);
                return Heard::Nothing;
            }
        };
        match self.state {
            State::Authenticating { request, .. } => self.receive_authenticating(&view, request, now),
            State::Registered(_) => return self.receive_registered(&view, now),
            State::Idle | State::Connecting { .. } | State::Waiting { .. } => {}
        }
        Heard::Nothing
    }

    fn receive_authenticating(&mut self, view: &View<'_>, request: i64, now: Moment) {
        let answers_ours = view.ref_message_id == request || view.ref_message_id == 0;
        match EnumMsgType::try_from(view.msg_type) {
            Ok(EnumMsgType::DeviceAuthRsp) if answers_ours => self.on_auth_response(view, now),
            Ok(EnumMsgType::Error) if answers_ours => self.on_auth_error(view, now),
            Ok(EnumMsgType::AccountForceOfflineNotice) => self.on_forced_offline(view, now),
            _ => tracing::warn!("{} came before the answer to DeviceAuthReq: left aside", name_of(view.msg_type)),
        }
    }

    fn receive_registered(&mut self, view: &View<'_>, now: Moment) -> Heard {
        let verdict = self.gate.judge(view.msg_type, view.body(), Now { moment: now, minute: self.minute });
        if let Verdict::Refuse(refusal) = verdict {
            let why = self.sentence(view.msg_type, refusal);
            self.judged(view.msg_type, Some(why.clone()));
            self.refuse(view, EnumErrorCode::NoRight, &why);
            return Heard::Nothing;
        }
        if catalogue::lookup(view.msg_type).is_none_or(|entry| entry.group != Group::Session) {
            self.judged(view.msg_type, None);
        }
        match EnumMsgType::try_from(view.msg_type) {
            Ok(EnumMsgType::MsgReceivedAck) => return self.on_acknowledgement(view.ref_message_id),
            Ok(EnumMsgType::Error) => return self.on_error(view, now),
            Ok(EnumMsgType::DeviceAuthRsp) => tracing::warn!("a second DeviceAuthRsp is left aside"),
            Ok(EnumMsgType::AccountForceOfflineNotice) => self.on_forced_offline(view, now),
            Ok(EnumMsgType::RedirectNotice) => self.on_redirect(view, now),
            Ok(EnumMsgType::UpgradeDeviceAppNotice) => return self.on_upgrade(view),
            Ok(EnumMsgType::PostDeleteDeviceNotice) => self.on_delete(view),
            Ok(EnumMsgType::PhoneActionTask) => return self.on_phone_action(view),
            _ if self.agent != Agent::Away => return Heard::ForAgent,
            Ok(EnumMsgType::TriggerDeviceInfo) => self.on_trigger_device_info(view),
            Ok(EnumMsgType::PhoneStateTask) => self.on_phone_state(view),
            Ok(EnumMsgType::ScreenShotTask) => self.on_screenshot(view),
            _ => return self.on_task_for_an_agent(view),
        }
        Heard::Nothing
    }

    fn on_auth_response(&mut self, view: &View<'_>, now: Moment) {
        match body::<DeviceAuthRspMessage>(view) {
            Ok(response) if response.access_token.is_empty() => {
                self.retry(now, "the central server's DeviceAuthRsp has no AccessToken".to_owned());
            }
            Ok(response) => {
                self.extra = response.extra;
                self.registered(response.access_token, now);
            }
            Err(why) => self.retry(now, format!("the central server's DeviceAuthRsp cannot be read: {why}")),
        }
    }

    fn on_auth_error(&mut self, view: &View<'_>, now: Moment) {
        let (code, message) = error_of(view);
        if code != Ok(EnumErrorCode::NoRight) {
            return self.retry(now, format!("the central server could not register this phone: {message}"));
        }
        let credential = self.wanted.as_ref().map(|wanted| wanted.credential.as_str()).unwrap_or_default();
        let why =
            format!("the central server refuses the device {credential}, which must be registered there: {message}");
        let pause = self.backoff.refused_pause();
        self.pause(now, pause, "the central server to know this phone", &why);
    }

    fn on_acknowledgement(&mut self, of: i64) -> Heard {
        let State::Registered(registered) = &mut self.state else { return Heard::Nothing };
        let acknowledged = registered.acknowledge(of);
        let taken = registered.taken(of, acknowledged);
        self.warnings.taken(|id| acknowledged.shows_taken(of, id));
        if acknowledged == Acknowledged::Heartbeat {
            self.outputs.push_back(Output::Event(LineEvent::HeartbeatAcknowledged));
        }
        self.told(taken);
        match acknowledged {
            Acknowledged::Heartbeat => Heard::Barrier { of },
            Acknowledged::Other => Heard::Acknowledged { of },
        }
    }

    fn told(&mut self, taken: Vec<i64>) {
        let told = |message_id| Output::Event(LineEvent::EndTold { message_id });
        self.outputs.extend(taken.into_iter().map(told));
    }

    /// NoRight to a heartbeat means that the token is no longer good; any other error names one message that failed.
    fn on_error(&mut self, view: &View<'_>, now: Moment) -> Heard {
        let (code, message) = error_of(view);
        let State::Registered(registered) = &mut self.state else { return Heard::Nothing };
        let about_the_session = view.ref_message_id == 0 || registered.unanswered.contains(&view.ref_message_id);
        if code == Ok(EnumErrorCode::NoRight) && about_the_session {
            self.registration_lost(now, &format!("the central server answers NoRight: {message}"));
            return Heard::Nothing;
        }
        tracing::warn!(message_id = view.ref_message_id, "the central server refuses a message of ours: {message}");
        if code != Ok(EnumErrorCode::NoRight) {
            // It has read the report, whatever it makes of it.
            let taken = registered.taken(view.ref_message_id, Acknowledged::Other);
            self.warnings.taken(|id| id == view.ref_message_id);
            self.told(taken);
        }
        if about_the_session { Heard::Nothing } else { Heard::Refused { of: view.ref_message_id } }
    }

    fn on_forced_offline(&mut self, view: &View<'_>, now: Moment) {
        let notice = body::<AccountForceOfflineNoticeMessage>(view).unwrap_or_default();
        let by_whom = match notice.reason() {
            EnumForceOfflineReason::FuckedByOtherAuthorizer => "another holder of the same credential registered",
            EnumForceOfflineReason::ByReAlloc => "the central server gave the credential to another",
            EnumForceOfflineReason::NoReason
            | EnumForceOfflineReason::ByDeviceOffline
            | EnumForceOfflineReason::ByWeChatOffline => {
                let reason = notice.reason().as_str_name();
                let why = format!("the central server took the phone off line ({reason}): {}", said(&notice.message));
                self.alert(&why);
                return self.registration_lost(now, &why);
            }
        };
        if let State::Registered(registered) = &self.state {
            self.backoff.lasted(now.since(registered.since));
        }
        let pause = self.backoff.replaced_pause(now);
        let why = format!("{by_whom}, and two racks must not fight over it: {}", said(&notice.message));
        self.alert(&why);
        self.pause(now, pause, FOR_THE_OTHER_HOLDER, &why);
    }

    fn alert(&mut self, why: &str) {
        self.outputs.push_back(Output::Event(LineEvent::ForcedOffline { why: why.to_owned() }));
    }

    /// A registration that stood for a while is made anew on the same connection; one that was lost at once would be lost again.
    fn registration_lost(&mut self, now: Moment, why: &str) {
        match &self.state {
            State::Registered(registered) if now.since(registered.since) >= self.settings.heartbeat => {
                self.tell(crate::rack::snapshot::LineState::Connecting, format!("{why}; registering again"));
                self.authenticate(now);
            }
            _ => self.retry(now, why.to_owned()),
        }
    }

    /// A phone moves among the servers that the owner has listed. It takes its time as after a failure, so that servers which send it to
    /// each other are no hot loop.
    fn on_redirect(&mut self, view: &View<'_>, now: Moment) {
        let notice = match body::<RedirectNoticeMessage>(view) {
            Ok(notice) => notice,
            Err(why) => return self.refuse(view, EnumErrorCode::InvalidParam, &format!("RedirectNotice: {why}")),
        };
        let host = notice.server_url.rsplit("://").next().unwrap_or_default().trim_end_matches('/');
        let wanted = format!("{host}:{}", notice.server_port);
        match self.settings.servers.iter().position(|server| *server == wanted) {
            None => {
                let why = "this rack's owner has listed no such central server to move to";
                self.refuse(view, EnumErrorCode::NoRight, why);
            }
            Some(server) if server == self.server => self.send_acknowledgement(view.id),
            Some(server) => {
                self.send_acknowledgement(view.id);
                self.retry(now, format!("the central server has moved this phone to {wanted}"));
                self.server = server;
            }
        }
    }

    fn on_trigger_device_info(&mut self, view: &View<'_>) {
        self.send_acknowledgement(view.id);
        self.send_device_info();
    }

    fn on_upgrade(&mut self, view: &View<'_>) -> Heard {
        match self.settings.upgrades {
            FromCentral::Ask | FromCentral::Auto | FromCentral::Refuse => self.on_upgrade_by_rack(view),
            FromCentral::Forward => return self.on_task_for_an_agent(view),
        }
        Heard::Nothing
    }

    fn on_upgrade_by_rack(&mut self, view: &View<'_>) {
        let notices = body::<UpgradeDeviceAppNoticeMessage>(view).and_then(|notice| {
            if notice.app_infos.is_empty() || notice.app_infos.len() > APPS_MAX {
                return Err(format!("it names {} apps, and 1 to {APPS_MAX} are taken", notice.app_infos.len()));
            }
            notice.app_infos.into_iter().map(|app| upgrade_of(view.id, app)).collect::<Result<Vec<_>, _>>()
        });
        match notices {
            Ok(notices) => {
                self.send_acknowledgement(view.id);
                self.outputs.extend(notices.into_iter().map(|n| Output::Event(LineEvent::UpgradeNotice(n))));
            }
            Err(why) => self.refuse(view, EnumErrorCode::InvalidParam, &format!("UpgradeDeviceAppNotice: {why}")),
        }
    }

    /// The line ends and its token is forgotten; nothing on the phone is touched.
    fn on_delete(&mut self, view: &View<'_>) {
        let named = body::<PostDeleteDeviceNoticeMessage>(view).and_then(|notice| self.is_this_phone(&notice.imei));
        match named {
            Ok(()) => {
                self.send_acknowledgement(view.id);
                self.close(
                    "the central server deleted this device: it is unregistered, and nothing is wiped".to_owned(),
                );
            }
            Err(why) => self.refuse(view, EnumErrorCode::InvalidParam, &format!("PostDeleteDeviceNotice: {why}")),
        }
    }

    pub(super) fn on_task_for_an_agent(&mut self, view: &View<'_>) -> Heard {
        if self.agent != Agent::Away {
            return Heard::ForAgent;
        }
        let why = format!("{}: no agent is connected on this phone", name_of(view.msg_type));
        self.refuse(view, EnumErrorCode::TargetNotOnline, &why);
        Heard::Nothing
    }

    pub(super) fn refuse(&mut self, view: &View<'_>, code: EnumErrorCode, why: &str) {
        self.counters.refused += 1;
        tracing::warn!(msg_type = view.msg_type, message_id = view.id, error = code.as_str_name(), "refused: {why}");
        self.send_error(view.id, code, why);
    }

    /// Says why the policy refuses a message, and counts codes that nobody knows.
    fn sentence(&mut self, code: i32, refusal: Refusal) -> String {
        if refusal == Refusal::Group(Group::Unknown) {
            self.count_unknown(code);
        }
        format!("{}: {}", name_of(code), refusal.sentence())
    }

    fn judged(&mut self, msg_type: i32, refused: Option<String>) {
        self.outputs.push_back(Output::Judged(Judged { who: Who::Centre, msg_type, refused }));
    }

    fn count_unknown(&mut self, code: i32) {
        let known = self.counters.unknown.contains_key(&code);
        if known || self.counters.unknown.len() < UNKNOWN_CODES_MAX {
            *self.counters.unknown.entry(code).or_default() += 1;
        } else {
            self.counters.unknown_beyond += 1;
        }
    }
}

/// The body as the catalogue names it, from a Content with any prefix of the type URL, or none.
pub(super) fn body<M: Message + Default>(view: &View<'_>) -> Result<M, String> {
    let expected = catalogue::lookup(view.msg_type).and_then(|entry| entry.body).unwrap_or_default();
    let seen = view.content.map(|content| content.type_name()).unwrap_or_default();
    if !seen.is_empty() && seen != expected {
        return Err(format!("its content is a {seen}, expected {expected}"));
    }
    M::decode(view.body()).map_err(|why| format!("its content is no {expected}: {why}"))
}

/// The error's code, and a sentence that names it.
fn error_of(view: &View<'_>) -> (Result<EnumErrorCode, i32>, String) {
    let error = body::<ErrorMessage>(view).unwrap_or_default();
    let code = EnumErrorCode::try_from(error.error_code).map_err(|_| error.error_code);
    let name = code.map_or_else(|number| format!("error {number}"), |code| code.as_str_name().to_owned());
    (code, format!("{name}, {}", said(&error.error_msg)))
}

fn said(message: &str) -> String {
    if message.is_empty() { "without a word".to_owned() } else { format!("\"{}\"", message.escape_debug()) }
}

fn upgrade_of(message_id: i64, app: DeviceAppUpgradeMessage) -> Result<UpgradeNotice, String> {
    let version = u64::try_from(app.ver_number).ok().filter(|version| *version > 0);
    let version = version.ok_or_else(|| format!("VerNumber {} is no versionCode", app.ver_number))?;
    if app.package_name.is_empty() || app.package_url.is_empty() {
        return Err("an app without PackageName or PackageUrl".to_owned());
    }
    Ok(UpgradeNotice {
        message_id,
        package: PackageName::new(app.package_name),
        version_code: VersionCode(version),
        version_name: app.version,
        url: app.package_url,
    })
}
