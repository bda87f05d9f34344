//! What comes wrong, from the centre and from agents: it costs a line, and never the daemon, another phone or what was acknowledged.

use std::time::Duration;

use farmhand::central::proto::EnumMsgType as Type;
use farmhand::rack::snapshot::LineState;
use tokio::time::{sleep, timeout};

use super::capture::Capture;
use super::rig::{ACCOUNT, RELAY, SOON, hears, hears_the_end, missed, relayed, site, tells_and_hears, within};
use super::yard::{HEARD_WITHIN, Yard};
use super::{Place, unwritten};
use crate::check::{Daemon, Miss, miss, until};

/// Its points.
pub(super) const POINTS: &[&str] = &[
    "bad_input.two_daemons",
    "bad_input.centre.silent",
    "bad_input.centre.garbage_frame",
    "bad_input.centre.huge_length",
    "bad_input.centre.closes_mid_frame",
    "bad_input.centre.wrong_reference",
    "bad_input.centre.byte_by_byte",
    "bad_input.centre.unknown_code",
    "bad_input.centre.reads_slowly",
    "bad_input.agent.floods",
    "bad_input.agent.never_reads",
    "bad_input.agent.false_acknowledgements",
    "bad_input.agent.garbage",
];

/// Attempts are at most a minute apart.
const BACK_WITHIN: Duration = Duration::from_secs(90);

pub(super) async fn look(point: &str, place: &Place) -> Result<String, Miss> {
    match point {
        "bad_input.two_daemons" => two_daemons(place).await,
        "bad_input.centre.silent" => no_session(place, "silent").await,
        "bad_input.centre.garbage_frame" => no_session(place, "garbage-frame").await,
        "bad_input.centre.huge_length" => no_session(place, "huge-length").await,
        "bad_input.centre.closes_mid_frame" => no_session(place, "closes-mid-frame").await,
        "bad_input.centre.wrong_reference" => wrong_reference(place).await,
        "bad_input.centre.byte_by_byte" => all_the_same(place, "byte-by-byte").await,
        "bad_input.centre.unknown_code" => all_the_same(place, "unknown-code").await,
        "bad_input.centre.reads_slowly" => reads_slowly(place).await,
        "bad_input.agent.floods" => floods(place).await,
        "bad_input.agent.never_reads" => never_reads(place).await,
        "bad_input.agent.false_acknowledgements" => false_acknowledgements(place).await,
        "bad_input.agent.garbage" => garbage(place).await,
        other => unwritten(other),
    }
}

/// No session comes about, the line says why, and there is one once the centre is well.
async fn no_session(place: &Place, fault: &str) -> Result<String, Miss> {
    let yard = Yard::start(place, site(place, 1, &format!("fault = \"{fault}\""))).await?;
    let is = |line: &farmhand::rack::snapshot::LineView| line.state == LineState::Waiting;
    let line = yard.line_becomes("A1", "a line that waits", HEARD_WITHIN * 2, is).await?;
    yard.centre()?.set_fault(None);
    let is = |line: &farmhand::rack::snapshot::LineView| line.state == LineState::Registered;
    yard.line_becomes("A1", "A1 registered", BACK_WITHIN, is).await?;
    yard.stop(format!("{}; registered once the centre was well", line.why)).await
}

/// The session stands in spite of it, and its heart beats.
async fn all_the_same(place: &Place, fault: &str) -> Result<String, Miss> {
    let yard = Yard::start(place, relayed(place, &format!("fault = \"{fault}\""))).await?;
    yard.registered("A1").await?;
    let mut agent = yard.agent("A1").await?;
    for text in ["one", "two", "three"] {
        tells_and_hears(&mut agent, text).await?;
    }
    until(HEARD_WITHIN, "three heartbeats by one session", async || {
        let device = yard.device("A1")?;
        if device.session_heartbeats >= 3 && device.sessions == 1 { Ok(()) } else { Err(format!("{device:?}")) }
    })
    .await?;
    yard.stop("one session, notices and heartbeats go on".to_owned()).await
}

/// Heartbeats whose answers name nothing that was sent count as unanswered.
async fn wrong_reference(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, site(place, 1, "fault = \"wrong-reference\"")).await?;
    let ended = until(HEARD_WITHIN, "the end of a session", async || {
        let device = yard.device("A1")?;
        device.ended_why.clone().filter(|_| device.sessions > 0).ok_or_else(|| format!("{device:?}"))
    })
    .await?;
    yard.centre()?.set_fault(None);
    let before = yard.device("A1").map_err(missed("a record"))?.sessions;
    until(BACK_WITHIN, "a session whose heart beats", async || {
        let device = yard.device("A1")?;
        if device.session_heartbeats >= 2 { Ok(()) } else { Err(format!("{device:?}")) }
    })
    .await?;
    yard.stop(format!("{before} sessions ended ({ended}); it stands once the answers are right")).await
}

/// A centre that reads one message a second holds the agent back, and loses nothing.
async fn reads_slowly(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, relayed(place, "fault = \"reads-slowly\"")).await?;
    yard.registered("A1").await?;
    let mut agent = yard.agent("A1").await?;
    for number in 0..40 {
        within("a notice that is taken", agent.was_told(ACCOUNT, number.to_string().as_bytes())).await?;
    }
    let capture = Capture::of(place);
    yard.texts(&capture, 3, HEARD_WITHIN).await?;
    let slow = capture.texts().len();
    yard.centre()?.set_fault(None);
    yard.texts(&capture, 40, BACK_WITHIN * 2).await?;
    yard.stop(format!("{slow} of 40 while it was slow, all 40 afterwards")).await
}

/// An agent that says far more than may wait: the cable holds it back, another phone does not notice, all arrives in order.
async fn floods(place: &Place) -> Result<String, Miss> {
    const MANY: usize = 3000;
    let yard = Yard::start(place, site(place, 2, "").config(RELAY)).await?;
    for slot in ["A1", "A2"] {
        yard.registered(slot).await?;
    }
    let (mut flooding, mut other) = (yard.agent("A1").await?, yard.agent("A2").await?);
    let flood = tokio::spawn(async move {
        for number in 0..MANY {
            flooding.was_told(ACCOUNT, format!("flood {number} {}", "x".repeat(2000)).as_bytes()).await?;
        }
        std::io::Result::Ok(flooding)
    });
    let begun = std::time::Instant::now();
    for number in 0..20 {
        tells_and_hears(&mut other, &format!("calm {number}")).await?;
    }
    let calm = begun.elapsed() / 20;
    let agent = timeout(BACK_WITHIN, flood).await.map_err(missed("an end of the flood"))?;
    let _agent = agent.map_err(missed("a flood that does not break off"))?.map_err(missed("a line that stands"))?;
    let texts = yard.texts(&Capture::of(place), MANY + 20, BACK_WITHIN).await?;
    let number = |text: &String| text.strip_prefix("flood ")?.split(' ').next()?.parse::<usize>().ok();
    let numbers: Vec<usize> = texts.iter().filter_map(number).collect();
    if numbers != (0..MANY).collect::<Vec<_>>() {
        return Err(miss("all of the flood in order", format!("{} of it", numbers.len())));
    }
    yard.stop(format!("{MANY} notices of 2 kB in order; a notice of the other phone took {calm:.1?} meanwhile")).await
}

/// An agent that never reads is let go, and the next one finds the line as it should be.
async fn never_reads(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, relayed(place, "")).await?;
    yard.registered("A1").await?;
    let mut agent = yard.agent("A1").await?;
    let mut beats = 0_u64;
    // Until its own writes no longer go anywhere, or the line ends.
    while let Ok(Ok(_)) = timeout(SOON / 2, agent.beat()).await {
        beats += 1;
        if beats > 5_000_000 {
            return Err(miss("an agent that is held back", format!("{beats} heartbeats taken")));
        }
    }
    let status = yard.tell(&["status"]).await?;
    drop(agent);
    let mut next = yard.agent("A1").await?;
    tells_and_hears(&mut next, "I read").await?;
    yard.stop(format!("held back after {beats} heartbeats, the daemon answers ({} lines)", status.lines().count()))
        .await
}

/// Acknowledgements of what was never sent mean nothing.
async fn false_acknowledgements(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, relayed(place, "")).await?;
    yard.registered("A1").await?;
    let mut agent = yard.agent("A1").await?;
    for id in -10..1000 {
        within("an acknowledgement that is taken", agent.send(Type::MsgReceivedAck as i32, None, id)).await?;
    }
    tells_and_hears(&mut agent, "behind them").await?;
    let device = yard.device("A1").map_err(missed("a record"))?;
    if device.sessions != 1 || !device.acknowledged.is_empty() {
        return Err(miss("none of them at the centre", format!("{:?}", device.acknowledged)));
    }
    yard.stop("1010 of them: none reached the centre, the line goes on".to_owned()).await
}

/// What is no message gets an Error and ends the agent's connection; the centre's session stands.
async fn garbage(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, relayed(place, "")).await?;
    yard.registered("A1").await?;
    let mut agent = yard.agent("A1").await?;
    within("garbage that is taken", agent.send_bytes(vec![0xff; 32])).await?;
    hears(&mut agent, Type::Error).await?;
    hears_the_end(&mut agent).await?;
    let mut next = yard.agent("A1").await?;
    tells_and_hears(&mut next, "in order").await?;
    let sessions = yard.device("A1").map_err(missed("a record"))?.sessions;
    if sessions != 1 {
        return Err(miss("the one session", sessions));
    }
    yard.stop("an Error and an end for the agent, and the next one is let in; one session at the centre".to_owned())
        .await
}

/// One phone at two daemons: whoever came first gives way, and they do not fight.
async fn two_daemons(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, site(place, 1, "")).await?;
    yard.registered("A1").await?;
    let (state, log) = (place.dir.join("state-2"), place.dir.join("farmhand-2.log"));
    let second = Daemon::start(&place.farmhand, &yard.rack.config_file(), &state, &log).await;
    let mut second = second.map_err(missed("a second daemon"))?;
    let is = |line: &farmhand::rack::snapshot::LineView| line.why.contains("another holder");
    let line = yard.line_becomes("A1", "the first one giving way", HEARD_WITHIN * 2, is).await?;
    sleep(Duration::from_secs(30)).await;
    let device = yard.device("A1").map_err(missed("a record"))?;
    second.stop().await;
    if device.sessions != 2 || !device.connected {
        return Err(miss("two authentications, the second one stands", format!("{device:?}")));
    }
    yard.stop(format!("2 authentications in 30 s; the first one: {}", line.why)).await
}
