//! What the owner lets the centre have phones do.

use farmhand::central::proto::{EnumErrorCode, EnumMsgType as Type};
use farmhand::rack::snapshot::LineState;

use super::rig::{MESSAGES, SOON, any, hears, missed, relayed, site, talk, within};
use super::yard::{Yard, said};
use super::{Place, unwritten};
use crate::check::{Miss, miss, until};

/// Its points.
pub(super) const POINTS: &[&str] = &[
    "policy.default_refuses",
    "policy.allowed_by_name",
    "policy.rate_and_burst",
    "policy.quiet_hours",
    "policy.audit",
    "policy.explain",
    "policy.show",
    "policy.reload",
];

/// What no audit may hold.
const CONTENT: &str = "between-two-people";

pub(super) async fn look(point: &str, place: &Place) -> Result<String, Miss> {
    match point {
        "policy.default_refuses" => refuses(place).await,
        "policy.allowed_by_name" => allowed(place).await,
        "policy.rate_and_burst" => rate(place).await,
        "policy.quiet_hours" => quiet(place).await,
        "policy.audit" => audit(place).await,
        "policy.explain" => explain(place).await,
        "policy.show" => show(place).await,
        "policy.reload" => reload(place).await,
        other => unwritten(other),
    }
}

/// A refused task gets its Error alone, and a task for the handset itself passes.
async fn refuses(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, relayed(place, "")).await?;
    yard.registered("A1").await?;
    let _agent = yard.agent("A1").await?;
    let mut told = String::new();
    for code in [Type::TalkToFriendTask, Type::ScreenShotTask, Type::AddFriendsTask] {
        let task = yard.asks_for("A1", code, None).await?;
        told = yard.refusal("A1", task, EnumErrorCode::NoRight).await?;
        if yard.device("A1").map_err(missed("a record"))?.acknowledged.contains(&task) {
            return Err(miss("an Error alone", format!("{task} is acknowledged, too")));
        }
    }
    yard.asks_for("A1", Type::TriggerDeviceInfo, None).await?;
    yard.stop(told).await
}

async fn allowed(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, relayed(place, "").config(MESSAGES)).await?;
    yard.registered("A1").await?;
    let mut agent = yard.agent("A1").await?;
    yard.asks_for("A1", Type::TalkToFriendTask, talk("hello")).await?;
    let given = hears(&mut agent, Type::TalkToFriendTask).await?;
    within("an acknowledgement", agent.take(&given)).await?;
    let other = yard.asks_for("A1", Type::AddFriendsTask, None).await?;
    let refused = yard.refusal("A1", other, EnumErrorCode::NoRight).await?;
    yard.stop(format!("people.messages passes; {refused}")).await
}

/// With a burst of two the third task at once is refused, on each phone by itself.
async fn rate(place: &Place) -> Result<String, Miss> {
    let policy = "[policy]\nallow = [{ group = \"people.messages\", per_minute = 1, burst = 2 }]";
    let yard = Yard::start(place, site(place, 2, "").config(policy)).await?;
    let mut told = String::new();
    for slot in ["A1", "A2"] {
        yard.registered(slot).await?;
        for (number, code) in [EnumErrorCode::TargetNotOnline, EnumErrorCode::TargetNotOnline, EnumErrorCode::NoRight]
            .into_iter()
            .enumerate()
        {
            let task = yard.asks_for(slot, Type::TalkToFriendTask, talk(&number.to_string())).await?;
            told = yard.refusal(slot, task, code).await?;
        }
    }
    yard.stop(format!("two of each phone pass, and the third: {told}")).await
}

async fn quiet(place: &Place) -> Result<String, Miss> {
    // All hours but the minute before midnight of the rack's clock.
    let policy = "[policy]\nquiet_hours = \"00:00-23:59\"\nallow = [{ group = \"people.messages\" }]";
    let yard = Yard::start(place, site(place, 1, "").config(policy)).await?;
    yard.registered("A1").await?;
    let task = yard.asks_for("A1", Type::TalkToFriendTask, talk("late")).await?;
    let told = yard.refusal("A1", task, EnumErrorCode::NoRight).await?;
    said(&told, &["rest during 00:00-23:59"])?;
    let task = yard.asks_for("A1", Type::PhoneStateTask, any("PhoneStateTaskMessage", &state_task())).await?;
    until(SOON, "what is no matter of people to pass", async || {
        let device = yard.device("A1")?;
        let answered = device.others.contains_key(&(Type::PhoneStateTaskResultNotice as i32));
        if answered { Ok(()) } else { Err(format!("{task}: {device:?}")) }
    })
    .await?;
    yard.stop(format!("{told}; PhoneStateTask passes")).await
}

fn state_task() -> farmhand::central::proto::PhoneStateTaskMessage {
    farmhand::central::proto::PhoneStateTaskMessage::default()
}

/// Who, when, which type, which phone: and never what was in it.
async fn audit(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, site(place, 1, "").config(MESSAGES)).await?;
    yard.registered("A1").await?;
    let passed = yard.asks_for("A1", Type::TalkToFriendTask, talk(CONTENT)).await?;
    yard.refusal("A1", passed, EnumErrorCode::TargetNotOnline).await?;
    let refused = yard.asks_for("A1", Type::AddFriendsTask, talk(CONTENT)).await?;
    yard.refusal("A1", refused, EnumErrorCode::NoRight).await?;
    let audit = yard.tell(&["audit", "--who", "central server"]).await?;
    let line = said(&audit, &["TalkToFriendTask passed", "AddFriendsTask was refused"])?;
    let everything = yard.tell(&["audit", "--json"]).await?;
    if everything.contains(CONTENT) {
        return Err(miss("no content in the audit", line));
    }
    yard.stop(line).await
}

async fn explain(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, site(place, 1, "")).await?;
    let by_number = yard.tell(&["policy", "explain", "1070"]).await?;
    let by_name = yard.tell(&["policy", "explain", "TalkToFriendTask"]).await?;
    if by_number != by_name {
        return Err(miss("the same by number and by name", format!("{by_number} / {by_name}")));
    }
    let line = said(&by_number, &["people.messages", "refused"])?;
    said(&yard.tell(&["policy", "explain", "PhoneActionTask"]).await?, &["Reboot", "UploadLog", "PhoneCall"])?;
    let nonsense = yard.refused(&["policy", "explain", "TalkToNobody"]).await?;
    said(&nonsense, &["TalkToNobody"])?;
    yard.stop(line).await
}

async fn show(place: &Place) -> Result<String, Miss> {
    let policy =
        "[policy]\nallow = [{ group = \"people.sms\", per_minute = 6, burst = 3, quiet_hours = \"20:00-09:00\" }]";
    let yard = Yard::start(place, site(place, 1, "").config(policy)).await?;
    let shown = yard.tell(&["policy", "show"]).await?;
    let sms = shown.lines().find(|line| line.contains("people.sms")).unwrap_or_default().to_owned();
    said(&sms, &["allowed", "6", "3", "20:00-09:00"])?;
    let money = shown.lines().find(|line| line.contains("people.money")).unwrap_or_default();
    said(money, &["refused"])?;
    yard.stop(sms).await
}

/// SIGHUP: another policy counts at once, a file with a fault changes nothing, and no line is dropped.
async fn reload(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, site(place, 1, "")).await?;
    yard.registered("A1").await?;
    let path = yard.rack.config_file();
    let before = std::fs::read_to_string(&path).map_err(missed("farmhand.toml"))?;
    std::fs::write(&path, format!("{before}\n{MESSAGES}\n")).map_err(missed("farmhand.toml"))?;
    yard.daemon.reload();
    let counts = async |word: &str| {
        until(SOON, &format!("people.messages {word}"), async || {
            let shown = yard.tell(&["policy", "show"]).await.map_err(|miss| miss.to_string())?;
            let line = shown.lines().find(|line| line.contains("people.messages")).unwrap_or_default().to_owned();
            if line.contains(word) { Ok(()) } else { Err(line) }
        })
        .await
    };
    counts("allowed").await?;
    let task = yard.asks_for("A1", Type::TalkToFriendTask, talk("hello")).await?;
    yard.refusal("A1", task, EnumErrorCode::TargetNotOnline).await?;
    std::fs::write(&path, format!("{before}\n[policy]\nquiet_hours = \"never\"\n")).map_err(missed("farmhand.toml"))?;
    yard.daemon.reload();
    let log = until(SOON, "the fault in the log", async || {
        let log = std::fs::read_to_string(yard.daemon.log()).unwrap_or_default();
        let line = log.lines().find(|line| line.contains("quiet_hours")).map(str::to_owned);
        line.ok_or_else(|| log.lines().last().unwrap_or_default().to_owned())
    })
    .await?;
    counts("allowed").await?;
    let line = yard.line("A1").await.map_err(missed("the line"))?;
    let sessions = yard.device("A1").map_err(missed("a record"))?.sessions;
    if sessions != 1 || line.state != LineState::Registered {
        return Err(miss("the one session", format!("{sessions}, {line:?}")));
    }
    yard.stop(format!("it counts at once, one session all the while; a faulty file: {log}")).await
}
