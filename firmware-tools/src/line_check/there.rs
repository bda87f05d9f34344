//! Notices while the centre is there: they go straight on, and are acknowledged once the centre has shown that it has them.

use std::time::{Duration, Instant};

use farmhand::central::proto::EnumMsgType as Type;

use super::capture::Capture;
use super::rig::{SOON, hears, relayed, tells, tells_and_hears, unacknowledged, within};
use super::yard::{HEARD_WITHIN, Yard, said};
use super::{Place, unwritten};
use crate::check::{Miss, miss, until};
use crate::rack_file::CentralFault;

/// Its points.
pub(super) const POINTS: &[&str] = &[
    "there.straight_on",
    "there.acknowledged_by_the_centre",
    "there.acknowledged_by_the_barrier",
    "there.committed_when_the_connection_ends",
    "there.refused_is_kept",
];

/// What a centre that is late waits before an acknowledgement.
const LATE: Duration = Duration::from_secs(2);

pub(super) async fn look(point: &str, place: &Place) -> Result<String, Miss> {
    match point {
        "there.straight_on" => straight_on(place).await,
        "there.acknowledged_by_the_centre" => by_the_centre(place).await,
        "there.acknowledged_by_the_barrier" => by_the_barrier(place).await,
        "there.committed_when_the_connection_ends" => committed(place).await,
        "there.refused_is_kept" => refused(place).await,
        other => unwritten(other),
    }
}

/// Nothing is stored on the way.
async fn straight_on(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, relayed(place, "")).await?;
    yard.registered("A1").await?;
    let mut agent = yard.agent("A1").await?;
    let (begun, capture) = (Instant::now(), Capture::of(place));
    for number in 0..20 {
        tells_and_hears(&mut agent, &number.to_string()).await?;
    }
    let took = begun.elapsed();
    let expected: Vec<String> = (0..20).map(|number| number.to_string()).collect();
    let line = yard.line("A1").await.map_err(|why| miss("the line", why))?;
    if capture.texts() != expected || !line.outbox.is_empty() {
        return Err(miss("20 notices in order, none stored", format!("{:?}, {:?}", capture.texts(), line.outbox)));
    }
    yard.stop(format!("20 notices one after the other in {took:.1?}, none stored")).await
}

/// The agent hears of it no sooner than the line.
async fn by_the_centre(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, relayed(place, "ack = \"late\"").config("[central]\nack = \"each\"")).await?;
    yard.registered("A1").await?;
    let mut agent = yard.agent("A1").await?;
    let begun = Instant::now();
    tells_and_hears(&mut agent, "late").await?;
    let took = begun.elapsed();
    if took < LATE {
        return Err(miss("an acknowledgement no sooner than the centre's", format!("after {took:?}")));
    }
    yard.stop(format!("a centre that takes 2 s has the agent wait {took:.1?}")).await
}

/// A centre that is silent when all is well shows by the next heartbeat what it has.
async fn by_the_barrier(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, relayed(place, "ack = \"silent\"")).await?;
    yard.registered("A1").await?;
    let mut agent = yard.agent("A1").await?;
    let notice = tells(&mut agent, "silently").await?;
    within("an acknowledgement", agent.acknowledged(notice)).await?;
    let frames = Capture::of(place).frames();
    let of_notice = frames.iter().position(|frame| frame.is_up() && frame.message.msg_type == 1024);
    let behind = frames.iter().skip(of_notice.unwrap_or(frames.len()));
    let beat = behind.clone().find(|frame| frame.is_up() && frame.message.msg_type == Type::HeartBeatReq as i32);
    let beat = beat.ok_or_else(|| miss("a heartbeat behind the notice", "none"))?.message.id;
    let acks: Vec<i64> = behind.filter(|frame| !frame.is_up()).map(|frame| frame.message.ref_message_id).collect();
    if acks.first() != Some(&beat) {
        return Err(miss("only the heartbeat acknowledged", format!("{acks:?}")));
    }
    yard.stop(format!("acknowledged to the agent once heartbeat {beat}, which followed it, was")).await
}

/// The connection ends before anything shows that the centre has it: then it is committed, and acknowledged.
async fn committed(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, relayed(place, "")).await?;
    yard.registered("A1").await?;
    let mut agent = yard.agent("A1").await?;
    tells_and_hears(&mut agent, "before").await?;
    yard.centre()?.set_fault(Some(CentralFault::Silent));
    let notice = tells(&mut agent, "on its way").await?;
    unacknowledged(&mut agent, notice, Duration::from_secs(1)).await?;
    yard.centre()?.stop().await;
    within("its acknowledgement", agent.acknowledged(notice)).await?;
    // The model hears of it beside the agent.
    yard.line_becomes("A1", "one stored notice", HEARD_WITHIN, |line| line.outbox.waiting == 1).await?;
    yard.centre()?.set_fault(None);
    yard.centre_returns().await?;
    yard.texts(&Capture::of(place), 2, HEARD_WITHIN * 2).await?;
    let told = "nothing for the agent while it was open; stored and acknowledged when the connection ended";
    yard.stop(told.to_owned()).await
}

/// A notice that the centre always answers by an Error: four times in all, then aside.
async fn refused(place: &Place) -> Result<String, Miss> {
    let yard = Yard::start(place, relayed(place, "")).await?;
    yard.registered("A1").await?;
    let mut agent = yard.agent("A1").await?;
    yard.centre()?.set_fault(Some(CentralFault::RefusesNotices));
    let notice = tells(&mut agent, "unwanted").await?;
    let told = hears(&mut agent, Type::Error).await?;
    if told.ref_message_id != notice {
        return Err(miss("an Error about the notice", format!("{told:?}")));
    }
    yard.centre()?.set_fault(None);
    tells_and_hears(&mut agent, "wanted").await?;
    let times = Capture::of(place).texts().iter().filter(|text| *text == "unwanted").count();
    if times != 4 {
        return Err(miss("one attempt and three more", times));
    }
    let shown = until(SOON, "the refused notice in `farmhand line`", async || {
        let shown = yard.tell(&["line"]).await.map_err(|miss| miss.to_string())?;
        said(&shown, &["1 refused"]).map_err(|miss| miss.to_string())?;
        shown.lines().last().map(str::to_owned).ok_or_else(|| "nothing".to_owned())
    })
    .await?;
    yard.stop(format!("it went 4 times; {shown}")).await
}
