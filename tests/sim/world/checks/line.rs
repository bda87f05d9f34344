//! A line is open only for a phone that is there, and each heartbeat follows an answer of its handset.

use std::time::Duration;

use farmhand::clock::Moment;
use farmhand::rack::Rack;
use farmhand::rack::ids::PhoneId;
use farmhand::rack::snapshot::PhoneState;

use super::super::PHONES;
use super::super::centre::Heard;
use super::super::handset::Handset;
use super::super::lines::{LineShell, Lines};

/// `[central] grace`, and what the queues take.
const ANSWER_AGE_MAX: Duration = Duration::from_secs(91);
/// A probe is asked for each heartbeat, and must be answered within 8 s.
const HEARTBEAT_ANSWER_AGE_MAX: Duration = Duration::from_secs(20);
/// Between the unplug and the model's knowledge of it.
const BUS_LATENCY_MAX: Duration = Duration::from_millis(100);

fn is_open(line: &LineShell) -> bool {
    line.deadline.is_some()
}

/// By the model's own word.
pub(crate) fn only_for_who_is_there(rack: &Rack, lines: &Lines) -> Result<(), String> {
    let mut there = 0;
    for standing in rack.standings() {
        let Some((id, _)) = standing.phone.and_then(|id| lines.get_key_value(id)).filter(|(_, line)| is_open(line))
        else {
            continue;
        };
        there += 1;
        if matches!(standing.state, PhoneState::Absent | PhoneState::Quarantined | PhoneState::Detached) {
            return Err(format!("the line of {id} is open, and the phone is {}", standing.state.as_str()));
        }
    }
    match lines.values().filter(|line| is_open(line)).count() {
        open if open == there => Ok(()),
        open => Err(format!("{open} lines are open, and the model knows the phones of {there}")),
    }
}

/// By the handset's own doing.
pub(crate) fn only_for_who_answers(now: Moment, lines: &Lines, handsets: &[Handset]) -> Result<(), String> {
    let mut open: [Option<&PhoneId>; PHONES] = [None; PHONES];
    for (id, line) in lines.iter().filter(|(_, line)| is_open(line)) {
        let Some(handset) = line.handset.and_then(|number| handsets.get(number)) else {
            return Err(format!("the line of {id} is open for a credential that no handset has"));
        };
        if let Some(other) = open[handset.number].replace(id) {
            return Err(format!("one handset has two open lines: those of {other} and of {id}"));
        }
        let silent = now.since(handset.answered);
        if silent > ANSWER_AGE_MAX {
            return Err(format!("the line of {id} is open, and its handset has not answered for {silent:?}"));
        }
        if handset.on_bus.is_none() && now.since(handset.left_bus) > BUS_LATENCY_MAX {
            return Err(format!("the line of {id} is open, and its handset left at {}", handset.left_bus));
        }
    }
    Ok(())
}

/// What the centre hears is fit to be heard, and true.
pub(crate) fn heard(now: Moment, handsets: &[Handset], phone: &PhoneId, heard: &Heard) -> Result<(), String> {
    match heard {
        Heard::Unreadable => Err(format!("the line of {phone} sent what the centre cannot read")),
        Heard::Overtaken { number } => Err(format!("notice {number} of {phone} came after a later one")),
        Heard::Doubled { doubles } => Err(format!("{doubles} notices of {phone} came a second time by one connection")),
        Heard::WithoutToken { code } => Err(format!("the line of {phone} sent message type {code} without its token")),
        Heard::Unasked { message_id } => {
            Err(format!("the line of {phone} told the end of an act that nobody asked for, {message_id}"))
        }
        Heard::Failure | Heard::Other => Ok(()),
        Heard::Heartbeat { credential } => {
            let handset = handsets.iter().find(|handset| handset.imei == *credential);
            let age = handset.map(|handset| now.since(handset.answered));
            if age.is_some_and(|age| age <= HEARTBEAT_ANSWER_AGE_MAX) {
                return Ok(());
            }
            Err(format!("a heartbeat of {phone} went out, and its handset answered last {age:?} ago"))
        }
    }
}
