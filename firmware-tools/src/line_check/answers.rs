//! What the rack answers by itself: without an agent, and while one is away.

use std::path::Path;

use farmhand::central::proto::{
    EnumErrorCode, EnumMsgType as Type, EnumPhoneAction, PhoneActionTaskMessage, PhoneStateTaskMessage,
    PhoneStateTaskResultNoticeMessage, PhoneStateWarningNoticeMessage, PostDeleteDeviceNoticeMessage,
    ScreenShotTaskMessage, ScreenShotTaskResultNoticeMessage,
};
use farmhand::rack::snapshot::LineState;

use super::capture::{Capture, Frame};
use super::rig::{SOON, any, hears, missed, relayed, site, within};
use super::yard::{HEARD_WITHIN, PACKAGE, Setup, Yard, said};
use super::{Place, unwritten};
use crate::check::{Miss, miss, proof, until};

/// Its points.
pub(super) const POINTS: &[&str] = &[
    "rack.reboot",
    "rack.battery_falls",
    "rack.device_info",
    "rack.phone_state",
    "rack.restart_of_the_agent",
    "rack.picture_without_a_place",
    "rack.trigger_device_info",
    "rack.delete_device",
    "rack.agent_is_asked_while_it_is_there",
    "rack.warnings",
    "rack.warnings_off",
    "protocol.another_implementation",
];

pub(super) async fn look(point: &str, place: &Place) -> Result<String, Miss> {
    match point {
        "rack.reboot" => reboot(place).await,
        "rack.battery_falls" => battery_falls(place).await,
        "rack.device_info" => device_info(place).await,
        "rack.phone_state" => phone_state(place).await,
        "rack.restart_of_the_agent" => restart(place).await,
        "rack.picture_without_a_place" => picture(place).await,
        "rack.trigger_device_info" => trigger(place).await,
        "rack.delete_device" => delete(place).await,
        "rack.agent_is_asked_while_it_is_there" => agent_first(place).await,
        "rack.warnings" => warnings(place).await,
        "rack.warnings_off" => warnings_off(place).await,
        "protocol.another_implementation" => decoded(place).await,
        other => unwritten(other),
    }
}

/// The answer of a phone to a message of the centre.
async fn answer(capture: &Capture, code: Type, to: i64) -> Result<Frame, Miss> {
    until(HEARD_WITHIN, &format!("{} about {to}", code.as_str_name()), async || {
        let said = capture.said(code);
        said.into_iter().find(|frame| frame.message.ref_message_id == to).ok_or_else(|| "none".to_owned())
    })
    .await
}

fn action(action: EnumPhoneAction) -> Option<prost_types::Any> {
    any("PhoneActionTaskMessage", &PhoneActionTaskMessage { action: action as i32, task_id: 41, ..Default::default() })
}

fn state_task() -> Option<prost_types::Any> {
    any("PhoneStateTaskMessage", &PhoneStateTaskMessage::default())
}

async fn device_info(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, site(place, 1, "")).await?;
    yard.registered("A1").await?;
    let info = yard.device("A1").map_err(missed("a record"))?.device_info.unwrap_or_default();
    let apps: Vec<(&str, i32)> = info.apps.iter().map(|app| (app.package.as_str(), app.version_code)).collect();
    let seen = (info.brand.as_str(), info.model.as_str(), info.sdk, info.imei.as_str(), info.network.as_str());
    if seen != ("google", "Pixel 4a", 33, "350000000000001", "wifi") || apps != [(PACKAGE, 1)] {
        return Err(miss("what the phone is", format!("{info:?}")));
    }
    yard.stop(format!("{seen:?}, {apps:?}")).await
}

async fn phone_state(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, site(place, 1, "")).await?;
    yard.registered("A1").await?;
    let task = yard.asks_for("A1", Type::PhoneStateTask, state_task()).await?;
    let result: PhoneStateTaskResultNoticeMessage = answer(&Capture::of(place), Type::PhoneStateTaskResultNotice, task)
        .await?
        .body()
        .map_err(missed("its body"))?;
    let is_so = (75..=85).contains(&result.battery_level) && result.net_type == "wifi" && result.sdcard_total > 0;
    if !is_so {
        return Err(miss("battery 80, wifi and room", format!("{result:?}")));
    }
    let room = format!("{} of {} free", result.sdcard_free, result.sdcard_total);
    yard.stop(format!("battery {} %, {}, {room}", result.battery_level, result.net_type)).await
}

async fn reboot(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, site(place, 1, "")).await?;
    yard.registered("A1").await?;
    let task = yard.asks_for("A1", Type::PhoneActionTask, action(EnumPhoneAction::Reboot)).await?;
    let result = yard.result_of("A1", task).await?;
    let reboots = yard.seen("A1")?.reboots;
    if !result.success || result.task_type != Type::PhoneActionTask as i32 || reboots != 1 {
        return Err(miss("one restart, told as done", format!("{result:?}, {reboots} restarts")));
    }
    yard.registered("A1").await?;
    yard.stop("restarted once, told once the phone was back".to_owned()).await
}

async fn restart(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, site(place, 1, "")).await?;
    yard.registered("A1").await?;
    let task = yard.asks_for("A1", Type::PhoneActionTask, action(EnumPhoneAction::RestartSelf)).await?;
    let result = yard.result_of("A1", task).await?;
    if !result.success || yard.seen("A1")?.reboots != 0 {
        return Err(miss("the app restarted and not the phone", format!("{result:?}")));
    }
    yard.stop("the agent's app is ended and started, the phone is not restarted".to_owned()).await
}

async fn picture(place: &Place) -> Result<String, Miss> {
    let setup = site(place, 1, "").config("[policy]\nallow = [{ group = \"people.read\" }]");
    let yard = Yard::start(place, setup).await?;
    yard.registered("A1").await?;
    let content = any("ScreenShotTaskMessage", &ScreenShotTaskMessage { task_id: 7, ..Default::default() });
    let task = yard.asks_for("A1", Type::ScreenShotTask, content).await?;
    let result: ScreenShotTaskResultNoticeMessage = answer(&Capture::of(place), Type::ScreenShotTaskResultNotice, task)
        .await?
        .body()
        .map_err(missed("its body"))?;
    if result.success || result.err_msg != "uploads are not configured on this rack" {
        return Err(miss("Success false, and why", format!("{result:?}")));
    }
    yard.stop(result.err_msg).await
}

async fn trigger(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, site(place, 1, "")).await?;
    yard.registered("A1").await?;
    let before = yard.device("A1").map_err(missed("a record"))?.device_infos;
    yard.asks_for("A1", Type::TriggerDeviceInfo, None).await?;
    until(SOON, "another PostDeviceInfoNotice", async || {
        let now = yard.device("A1")?.device_infos;
        if now > before { Ok(()) } else { Err(now.to_string()) }
    })
    .await?;
    yard.stop("PostDeviceInfoNotice anew".to_owned()).await
}

/// The line ends, and nothing is wiped.
async fn delete(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, site(place, 1, "")).await?;
    yard.registered("A1").await?;
    let imei = yard.rack.imei("A1").unwrap_or_default().to_owned();
    let content = any("PostDeleteDeviceNoticeMessage", &PostDeleteDeviceNoticeMessage { imei });
    yard.asks_for("A1", Type::PostDeleteDeviceNotice, content).await?;
    let is = |line: &farmhand::rack::snapshot::LineView| line.state == LineState::Closed;
    let line = yard.line_becomes("A1", "a closed line", SOON, is).await?;
    yard.expect_versions("A1 on 1")?;
    yard.stop(format!("closed: {}; the app is still there", line.why)).await
}

/// While an agent speaks the state is its to tell; once it has gone the rack answers.
async fn agent_first(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, relayed(place, "")).await?;
    yard.registered("A1").await?;
    let mut agent = yard.agent("A1").await?;
    let task = yard.asks_for("A1", Type::PhoneStateTask, state_task()).await?;
    let given = hears(&mut agent, Type::PhoneStateTask).await?;
    within("an acknowledgement", agent.take(&given)).await?;
    let result = PhoneStateTaskResultNoticeMessage { battery_level: 3, ..Default::default() };
    let content = any("PhoneStateTaskResultNoticeMessage", &result);
    within("a result", agent.send(Type::PhoneStateTaskResultNotice as i32, content, given.id)).await?;
    let capture = Capture::of(place);
    let by_agent: PhoneStateTaskResultNoticeMessage =
        answer(&capture, Type::PhoneStateTaskResultNotice, task).await?.body().map_err(missed("its body"))?;
    drop(agent);
    yard.line_becomes("A1", "no agent", SOON, |line| line.agent_since.is_none()).await?;
    let task = yard.asks_for("A1", Type::PhoneStateTask, state_task()).await?;
    let by_rack: PhoneStateTaskResultNoticeMessage =
        answer(&capture, Type::PhoneStateTaskResultNotice, task).await?.body().map_err(missed("its body"))?;
    match (by_agent.battery_level, by_rack.battery_level) {
        (3, 75..=85) => yard.stop("the agent's answer while it is there, the rack's afterwards".to_owned()).await,
        other => Err(miss("3 % by the agent, 80 % by the rack", format!("{other:?}"))),
    }
}

/// The warnings that the centre has got.
fn warned(place: &Place) -> Vec<PhoneStateWarningNoticeMessage> {
    let said = Capture::of(place).said(Type::PhoneStateWarningNotice);
    said.iter().filter_map(|frame| frame.body().ok()).collect()
}

fn warning(place: &Place, thresholds: &str) -> Setup {
    site(place, 1, "").config(&format!("[central.warn]\n{thresholds}"))
}

/// Each of the three thresholds raises one.
async fn warnings(place: &Place) -> Result<String, Miss> {
    let mut told = Vec::new();
    for (name, thresholds) in [
        ("battery", "battery_below = 100\nstorage_below_mb = \"off\"\ntemperature_above = \"off\""),
        ("storage", "battery_below = \"off\"\nstorage_below_mb = 4000000\ntemperature_above = \"off\""),
        ("temperature", "battery_below = \"off\"\nstorage_below_mb = \"off\"\ntemperature_above = 1"),
    ] {
        let inner = Place { dir: place.dir.join(name), ..place.clone() };
        let yard = Yard::start(&inner, warning(&inner, thresholds)).await?;
        yard.registered("A1").await?;
        let one = until(HEARD_WITHIN, &format!("PhoneStateWarningNotice of {name}"), async || {
            warned(&inner).first().cloned().ok_or_else(|| "none".to_owned())
        })
        .await?;
        told.push(format!("{name}: battery {} %, {} bytes free", one.battery_level, one.sdcard_free));
        yard.stop(String::new()).await?;
    }
    Ok(told.join("; "))
}

async fn warnings_off(place: &Place) -> Result<String, Miss> {
    let off = "battery_below = \"off\"\nstorage_below_mb = \"off\"\ntemperature_above = \"off\"";
    let yard = Yard::start(place, warning(place, off)).await?;
    yard.registered("A1").await?;
    yard.phone("A1")?.set_battery(1.0);
    // Whatever was read is in this answer.
    let task = yard.asks_for("A1", Type::PhoneStateTask, state_task()).await?;
    answer(&Capture::of(place), Type::PhoneStateTaskResultNotice, task).await?;
    match warned(place).len() {
        0 => yard.stop("nothing is warned of".to_owned()).await,
        some => Err(miss("no warning", some)),
    }
}

/// A battery that falls is warned of once, at the next reading.
async fn battery_falls(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, warning(place, "battery_below = 20")).await?;
    yard.registered("A1").await?;
    if !warned(place).is_empty() {
        return Err(miss("no warning at 80 %", format!("{:?}", warned(place))));
    }
    yard.phone("A1")?.set_battery(12.0);
    let one = until(HEARD_WITHIN * 3, "PhoneStateWarningNotice", async || {
        warned(place).first().cloned().ok_or_else(|| "none".to_owned())
    })
    .await?;
    if one.battery_level >= 20 {
        return Err(miss("a level below 20", format!("{one:?}")));
    }
    yard.stop(format!("warned of {} %", one.battery_level)).await
}

/// Python's protobuf, by protoc's descriptors, reads all that was on the wire: the rack's own words and those that it carried.
async fn decoded(place: &Place) -> Result<String, Miss> {
    let setup = relayed(place, "").config("[central.warn]\nbattery_below = 100");
    let yard = Yard::start(place, setup).await?;
    yard.registered("A1").await?;
    let refused = yard.asks_for("A1", Type::TalkToFriendTask, super::rig::talk("no")).await?;
    yard.refusal("A1", refused, EnumErrorCode::NoRight).await?;
    let capture = Capture::of(place);
    for (code, content) in [
        (Type::PhoneStateTask, state_task()),
        (Type::PhoneActionTask, action(EnumPhoneAction::RestartSelf)),
        (Type::TriggerDeviceInfo, None),
    ] {
        yard.asks_for("A1", code, content).await?;
    }
    let mut agent = yard.agent("A1").await?;
    super::rig::tells_many(&mut agent, "carried", 20).await?;
    until(HEARD_WITHIN, "a warning and a result", async || {
        let result = capture.said(Type::TaskResultNotice).len();
        let warnings = warned(place).len();
        if result > 0 && warnings > 0 { Ok(()) } else { Err(format!("{result} results, {warnings} warnings")) }
    })
    .await?;
    let frames = capture.frames();
    let kinds: std::collections::BTreeSet<i32> =
        frames.iter().filter(|frame| frame.is_up()).map(|frame| frame.message.msg_type).collect();
    yard.stop(String::new()).await?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/peers/decode_capture.py");
    let (script, file) = (script.display().to_string(), place.dir.join("capture").display().to_string());
    let output = proof::output("/usr/bin/python3", &[&script, &file], &[]).await?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        return Err(miss("frames that decode", format!("{text} {}", proof::end_of(&output.stderr))));
    }
    said(&text, &["frames decoded"]).map(|text| format!("{text}, {} types of the rack's among them", kinds.len()))
}
