//! Tasks that the rack answers or carries out by itself, with no agent's help.

use super::inbound::body;
use super::{Heard, Output, Session, name_of};
use crate::central::envelope::View;
use crate::central::proto::{
    EnumErrorCode, EnumMsgType, EnumPhoneAction, PhoneActionTaskMessage, PhoneStateTaskMessage, ScreenShotTaskMessage,
};
use crate::rack::event::{Act, Asked, LineEvent, TaskName};

impl Session {
    pub(super) fn on_phone_state(&mut self, view: &View<'_>) {
        let task: PhoneStateTaskMessage = match body(view) {
            Ok(task) => task,
            Err(why) => return self.refuse_task(view, EnumErrorCode::InvalidParam, &why),
        };
        if let Err(why) = self.is_this_phone(&task.imei) {
            return self.refuse_task(view, EnumErrorCode::InvalidParam, &why);
        }
        match self.condition.battery {
            Some(battery) => {
                self.send_acknowledgement(view.id);
                self.send_phone_state(view.id, task.we_chat_id, battery);
            }
            None => self.refuse_task(view, EnumErrorCode::InternalError, "the phone does not tell of its battery"),
        }
    }

    pub(super) fn on_phone_action(&mut self, view: &View<'_>) -> Heard {
        let task: PhoneActionTaskMessage = match body(view) {
            Ok(task) => task,
            Err(why) => {
                self.refuse_task(view, EnumErrorCode::InvalidParam, &why);
                return Heard::Nothing;
            }
        };
        if let Err(why) = self.is_this_phone(&task.imei) {
            self.refuse_task(view, EnumErrorCode::InvalidParam, &why);
            return Heard::Nothing;
        }
        let act = match task.action() {
            EnumPhoneAction::Reboot => Act::Restart,
            EnumPhoneAction::RestartSelf => Act::RestartAgent,
            EnumPhoneAction::None
            | EnumPhoneAction::UploadLog
            | EnumPhoneAction::UploadFile
            | EnumPhoneAction::CleanAppCache
            | EnumPhoneAction::CleanWxCache
            | EnumPhoneAction::CleanFileUrlCache
            | EnumPhoneAction::PhoneCall
            | EnumPhoneAction::RestartWx => return self.on_task_for_an_agent(view),
        };
        self.send_acknowledgement(view.id);
        let task = TaskName {
            message_id: view.id,
            task_type: EnumMsgType::PhoneActionTask as i32,
            task_id: task.task_id,
            wechat_id: task.we_chat_id,
        };
        self.outputs.push_back(Output::Event(LineEvent::Asked(Asked { act, task })));
        Heard::Nothing
    }

    /// The answer has room for an address only, and no place is known where a picture could be uploaded to.
    pub(super) fn on_screenshot(&mut self, view: &View<'_>) {
        match body::<ScreenShotTaskMessage>(view) {
            Ok(task) => {
                self.send_acknowledgement(view.id);
                self.send_screenshot_failure(view.id, &task, "uploads are not configured on this rack");
            }
            Err(why) => self.refuse_task(view, EnumErrorCode::InvalidParam, &why),
        }
    }

    /// A message that names no phone means that of its line.
    ///
    /// # Errors
    /// It names another one.
    pub(super) fn is_this_phone(&self, named: &str) -> Result<(), String> {
        let ours = self.wanted.as_ref().map(|wanted| wanted.credential.as_str()).unwrap_or_default();
        if named.is_empty() || named == ours { Ok(()) } else { Err(format!("it names {named}, and this is {ours}")) }
    }

    fn refuse_task(&mut self, view: &View<'_>, code: EnumErrorCode, why: &str) {
        self.refuse(view, code, &format!("{}: {why}", name_of(view.msg_type)));
    }
}
