//! The agent speaks through the cable, and neither side sees the other's connections.

use std::path::Path;
use std::time::{Duration, Instant};

use farmhand::central::proto::{EnumErrorCode, EnumMsgType as Type, PhoneStateTaskMessage, WeChatOfflineNoticeMessage};
use farmhand::rack::snapshot::{LineState, LineView};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::capture::Capture;
use super::rig::{
    ACCOUNT, MESSAGES, SOON, any, hears, hears_the_end, missed, relayed, site, talk, tells_and_hears, within,
};
use super::yard::{HEARD_WITHIN, Yard};
use super::{Place, unwritten};
use crate::agent::Agent;
use crate::check::{Miss, miss, until};

/// Its points.
pub(super) const POINTS: &[&str] = &[
    "relay.tunnel_looked_for_each_minute",
    "relay.agent_dies",
    "relay.hold",
    "relay.for_one_phone",
    "relay.tunnel_when_ready",
    "relay.tunnel_again",
    "relay.heartbeats_answered_here",
    "relay.another_identity",
    "relay.centre_back_unseen",
    "relay.agent_back_unseen",
];

/// farmhand looks each minute whether the tunnel is there.
const LOOKED_WITHIN: Duration = Duration::from_secs(90);
/// An agent that is away for so long has left.
const GRACE: Duration = Duration::from_secs(20);

pub(super) async fn look(point: &str, place: &Place) -> Result<String, Miss> {
    match point {
        "relay.tunnel_looked_for_each_minute" => looked_for(place).await,
        "relay.agent_dies" => dies(place).await,
        "relay.hold" => hold(place).await,
        "relay.for_one_phone" => for_one(place).await,
        "relay.tunnel_when_ready" => when_ready(place).await,
        "relay.tunnel_again" => again(place).await,
        "relay.heartbeats_answered_here" => heartbeats(place).await,
        "relay.another_identity" => another(place).await,
        "relay.centre_back_unseen" => centre_back(place).await,
        "relay.agent_back_unseen" => agent_back(place).await,
        other => unwritten(other),
    }
}

/// By itself a line is the rack's alone: no way leads to it from the phone.
async fn hold(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, site(place, 1, "").config(MESSAGES)).await?;
    yard.registered("A1").await?;
    let task = yard.asks_for("A1", Type::TalkToFriendTask, talk("hello")).await?;
    let told = yard.refusal("A1", task, EnumErrorCode::TargetNotOnline).await?;
    match yard.tunnel("A1") {
        None => yard.stop(format!("no tunnel; a task for the agent gets {told}")).await,
        Some(tunnel) => Err(miss("no tunnel in hold", tunnel)),
    }
}

async fn for_one(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, site(place, 2, "").config("[central.modes]\nA2 = \"relay\"")).await?;
    for slot in ["A1", "A2"] {
        yard.registered(slot).await?;
    }
    let _agent = yard.agent("A2").await?;
    match yard.tunnel("A1") {
        None => yard.stop("A2 has a tunnel and an agent, A1 none".to_owned()).await,
        Some(tunnel) => Err(miss("no tunnel on A1", tunnel)),
    }
}

async fn when_ready(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, relayed(place, "")).await?;
    let begun = Instant::now();
    let mut agent = yard.agent("A1").await?;
    let took = begun.elapsed();
    yard.registered("A1").await?;
    tells_and_hears(&mut agent, "hello").await?;
    let has_agent = |line: &LineView| line.agent_since.is_some();
    yard.line_becomes("A1", "`farmhand line` to tell of the agent", HEARD_WITHIN, has_agent).await?;
    yard.stop(format!("tcp:9200 on the phone leads to the line {took:.1?} after the phone was ready")).await
}

/// After the cable was out the tunnel is made anew, and the agent comes back by it.
async fn again(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, relayed(place, "")).await?;
    let mut agent = yard.agent("A1").await?;
    yard.unplug("A1").await?;
    // A connection that is reset has ended as well.
    let ended = hears_the_end(&mut agent).await;
    if let Some(tunnel) = yard.tunnel("A1") {
        return Err(miss("no tunnel without a cable", format!("{tunnel}; {ended:?}")));
    }
    yard.plug("A1").await?;
    yard.ready(&["A1"]).await?;
    let mut agent = yard.agent("A1").await?;
    yard.registered("A1").await?;
    tells_and_hears(&mut agent, "again").await?;
    yard.stop("the agent's connection ended with the cable, and it is back by a new tunnel".to_owned()).await
}

/// Somebody ends the tunnel by adb; it is there again.
async fn looked_for(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, relayed(place, "")).await?;
    drop(yard.agent("A1").await?);
    let socket = place.dir.join("state").join("adb.sock");
    ends_tunnel(&socket, "A1").await.map_err(missed("a tunnel that adb ends"))?;
    if yard.tunnel("A1").is_some() {
        return Err(miss("no tunnel", "it is still there"));
    }
    let begun = Instant::now();
    until(LOOKED_WITHIN, "the tunnel again", async || yard.tunnel("A1").ok_or_else(|| "none".to_owned())).await?;
    let took = begun.elapsed();
    let _agent = yard.agent("A1").await?;
    yard.stop(format!("it was there again after {took:.0?}")).await
}

/// `adb -s SLOT reverse --remove tcp:9200`
async fn ends_tunnel(socket: &Path, slot: &str) -> std::io::Result<()> {
    let mut stream = UnixStream::connect(socket).await?;
    for request in [format!("host:transport:{slot}"), "reverse:killforward:tcp:9200".to_owned()] {
        stream.write_all(format!("{:04x}{request}", request.len()).as_bytes()).await?;
        let mut verdict = [0; 4];
        timeout(SOON, stream.read_exact(&mut verdict)).await??;
        if &verdict != b"OKAY" {
            let mut why = vec![0; 200];
            let read = timeout(SOON, stream.read(&mut why)).await??;
            why.truncate(read);
            return Err(std::io::Error::other(format!("{request}: {}", String::from_utf8_lossy(&why))));
        }
    }
    // The phone's own answer.
    let mut verdict = [0; 4];
    timeout(SOON, stream.read_exact(&mut verdict)).await??;
    if &verdict == b"OKAY" {
        Ok(())
    } else {
        Err(std::io::Error::other(String::from_utf8_lossy(&verdict).into_owned()))
    }
}

/// The agent is answered although there is no centre at all.
async fn heartbeats(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, relayed(place, "")).await?;
    let mut agent = yard.agent("A1").await?;
    yard.centre()?.stop().await;
    for _ in 0..3 {
        let beat = within("a heartbeat that is taken", agent.beat()).await?;
        within("its acknowledgement", agent.acknowledged(beat)).await?;
    }
    yard.stop("three heartbeats of the agent are answered while there is no centre".to_owned()).await
}

async fn another(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, relayed(place, "")).await?;
    drop(yard.agent("A1").await?);
    let line = yard.tunnel("A1").ok_or_else(|| miss("a tunnel", "none"))?;
    match Agent::register(line, "350000000000999").await {
        Err(why) if why.kind() == std::io::ErrorKind::PermissionDenied => {}
        Err(why) => return Err(miss("Error NoRight", why)),
        Ok(_) => return Err(miss("an agent that is not let in", "it was")),
    }
    let audit = yard.tell(&["audit", "A1"]).await?;
    let refused = audit.lines().find(|line| line.contains("DeviceAuthReq")).map(str::to_owned);
    let refused = refused.ok_or_else(|| miss("the refusal in the audit", audit))?;
    yard.stop(format!("refused, and in the audit: {refused}")).await
}

/// The centre is restarted while an agent speaks.
async fn centre_back(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, relayed(place, "")).await?;
    yard.registered("A1").await?;
    let mut agent = yard.agent("A1").await?;
    tells_and_hears(&mut agent, "before").await?;
    yard.centre()?.stop().await;
    yard.line_becomes("A1", "the line ended", HEARD_WITHIN, |line| line.state != LineState::Registered).await?;
    yard.centre_returns().await?;
    yard.registered("A1").await?;
    // By the same connection and token.
    tells_and_hears(&mut agent, "after").await?;
    let sessions = yard.device("A1").map_err(missed("the centre's record"))?.sessions;
    if sessions != 2 {
        return Err(miss("two sessions of the centre", sessions));
    }
    yard.stop("two sessions at the centre, one connection of the agent".to_owned()).await
}

/// The agent restarts while the centre's session stands.
async fn agent_back(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, relayed(place, "")).await?;
    yard.registered("A1").await?;
    for text in ["first", "second", "third"] {
        let mut agent = yard.agent("A1").await?;
        within("an account on line", agent.is_online(ACCOUNT)).await?;
        tells_and_hears(&mut agent, text).await?;
    }
    let device = yard.device("A1").map_err(missed("the centre's record"))?;
    let capture = Capture::of(place);
    let (seen, offline) = (capture.texts(), capture.said(Type::WeChatOfflineNotice).len());
    if (device.sessions, offline) != (1, 0) || seen != ["first", "second", "third"] {
        return Err(miss(
            "one session, nobody off line",
            format!("{} sessions, {offline} off line, {seen:?}", device.sessions),
        ));
    }
    yard.stop("three connections of the agent, one session at the centre, no account off line".to_owned()).await
}

/// An agent that does not come back takes its accounts off line, and the rack speaks alone again.
async fn dies(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, relayed(place, "").config(MESSAGES)).await?;
    yard.registered("A1").await?;
    let mut agent = yard.agent("A1").await?;
    for account in [ACCOUNT, "wxid_second"] {
        let notice = within("an account on line", agent.is_online(account)).await?;
        within("its acknowledgement", agent.acknowledged(notice)).await?;
    }
    let task = yard.asks_for("A1", Type::TalkToFriendTask, talk("under way")).await?;
    hears(&mut agent, Type::TalkToFriendTask).await?;
    drop(agent);
    let under_way = yard.refusal("A1", task, EnumErrorCode::TargetNotOnline).await?;
    let task = yard.asks_for("A1", Type::TalkToFriendTask, talk("too late")).await?;
    yard.refusal("A1", task, EnumErrorCode::TargetNotOnline).await?;
    let capture = Capture::of(place);
    let offline = until(GRACE + SOON, "WeChatOfflineNotice of both accounts", async || {
        let said = capture.said(Type::WeChatOfflineNotice);
        let bodies = said.iter().map(super::capture::Frame::body::<WeChatOfflineNoticeMessage>);
        let mut accounts =
            bodies.map(|body| body.map(|body| body.we_chat_id)).collect::<Result<Vec<String>, String>>()?;
        accounts.sort_unstable();
        if accounts == [ACCOUNT, "wxid_second"] { Ok(accounts) } else { Err(format!("{accounts:?}")) }
    })
    .await?;
    let line = yard.registered("A1").await?;
    if line.agent_since.is_some() {
        return Err(miss("a line that the rack holds", format!("{line:?}")));
    }
    let task = yard
        .asks_for("A1", Type::PhoneStateTask, any("PhoneStateTaskMessage", &PhoneStateTaskMessage::default()))
        .await?;
    let answered = until(SOON, "the rack's own answer", async || {
        let said = capture.said(Type::PhoneStateTaskResultNotice);
        said.iter().find(|frame| frame.message.ref_message_id == task).map(|_| ()).ok_or_else(|| "none".to_owned())
    });
    answered.await?;
    yard.stop(format!("{} off line, {under_way}, then the rack answers PhoneStateTask", offline.join(" and "))).await
}
