//! The lines of the phones: what the daemon's shell does around the session core, without TCP.

use std::collections::BTreeMap;
use std::time::Duration;

use farmhand::central::pace::Pace;
use farmhand::central::relay::Relay;
use farmhand::central::session::{Output, Session, Settings};
use farmhand::clock::{Deadline, Moment};
use farmhand::config::Ack;
use farmhand::rack::Event;
use farmhand::rack::event::{LineCommand, LineEvent};
use farmhand::rack::ids::PhoneId;
use farmhand::rack::snapshot::LineState;

use super::agents::Agent;
use super::centre::Heard;
use super::input::{Arrival, Input};
use super::{World, checks};

pub(super) type Lines = BTreeMap<PhoneId, LineShell>;

#[derive(Debug)]
pub(super) struct LineShell {
    /// No two lines have the same.
    pub(super) number: u32,
    pub(super) relay: Relay,
    pub(super) pace: Pace,
    pub(super) agent: Agent,
    /// The number of the connection to the centre, once it stands or is made.
    link: Option<u32>,
    /// The handset whose credential it registers with.
    pub(super) handset: Option<usize>,
    /// What it said of itself last.
    pub(super) state: LineState,
    pub(super) deadline: Option<Deadline>,
}

impl LineShell {
    fn new(number: u32, seed: u64, pace: Pace, ack: Ack, per_second: Option<u32>) -> Self {
        let relay = Relay::new(Session::new(Settings::new(Duration::from_secs(60)), seed), ack, 1);
        Self {
            number,
            relay: match per_second {
                Some(per_second) => relay.with_disk(per_second),
                None => relay,
            },
            pace,
            agent: Agent::default(),
            link: None,
            handset: None,
            state: LineState::Closed,
            deadline: None,
        }
    }

    /// When it wants to be called next: by what the relay waits for, or to hear its agent again.
    pub(super) fn due(&self) -> Option<Deadline> {
        let hushed_until = self.pace.hushed_until().filter(|_| self.agent.would_speak());
        let heard = hushed_until.map(|at| Deadline { at, why: "its agent said more than its share" });
        [self.deadline, heard].into_iter().flatten().min_by_key(|deadline| deadline.at)
    }
}

impl World {
    pub(super) fn line_command(&mut self, phone: &PhoneId, command: LineCommand) {
        let Some(daemon) = &mut self.daemon else { return };
        let seed = daemon.lines.len() as u64 + u64::from(daemon.run) * 100;
        let (ack, per_second) = (self.centre.ack(), self.outbox.per_second());
        let (lines, now) = (&mut self.lines, self.stage.now);
        let line = daemon.lines.entry(phone.clone()).or_insert_with(|| {
            *lines += 1;
            LineShell::new(*lines, seed, daemon.speakers.join(now), ack, per_second)
        });
        if let LineCommand::Open { credential, .. } = &command {
            line.handset = self.handsets.iter().position(|handset| handset.imei == *credential);
        }
        line.relay.command(command, self.stage.now);
        self.drain_line(phone);
    }

    pub(super) fn line_arrival(&mut self, phone: &PhoneId, link: u32, arrival: Arrival) {
        let now = self.stage.now;
        let Some(line) = self.line(phone) else { return };
        if line.link != Some(link) {
            return;
        }
        match arrival {
            Arrival::Connected => line.relay.connected(now),
            Arrival::Refused => {
                line.link = None;
                line.relay.connect_failed("connection refused", now);
            }
            Arrival::Frame(payload) => line.relay.receive(&payload, now),
            Arrival::BadLength => line.relay.corrupt("a frame's length is -1, which is negative", now),
            Arrival::Closed => {
                line.link = None;
                line.relay.closed("it was closed by the server", now);
            }
        }
        self.drain_line(phone);
    }

    pub(super) fn advance_line(&mut self, phone: &PhoneId, now: Moment) {
        if let Some(line) = self.line(phone) {
            line.relay.advance(now);
        }
        self.drain_line(phone);
    }

    /// A line's actor takes no more orders: it is ended, and the model hears of it.
    pub(super) fn line_is_stuck(&mut self, number: usize) {
        let Some(daemon) = &mut self.daemon else { return };
        let Some(phone) = daemon.lines.keys().nth(number).cloned() else { return };
        if let Some(link) = daemon.lines.remove(&phone).and_then(|line| line.link) {
            self.centre.left(&phone, link);
        }
        let event = LineEvent::Stuck { why: "32 orders waited for it".to_owned() };
        self.apply(Event::Line { phone, event });
    }

    pub(super) fn line(&mut self, phone: &PhoneId) -> Option<&mut LineShell> {
        self.daemon.as_mut()?.lines.get_mut(phone)
    }

    pub(super) fn drain_line(&mut self, phone: &PhoneId) {
        let run = self.run();
        while let Some(line) = self.line(phone) {
            let Some(output) = line.relay.poll() else {
                if self.agent_hears(phone) || self.agent_is_heard(phone) {
                    continue;
                }
                let Some(line) = self.line(phone) else { return };
                line.deadline = line.relay.deadline();
                if let Err(rule) = checks::reasons::line(phone, line) {
                    self.stage.broke(rule);
                }
                return;
            };
            match output {
                Output::Connect => {
                    self.links += 1;
                    let link = self.links;
                    self.line(phone).into_iter().for_each(|line| line.link = Some(link));
                    self.centre.connect(&mut self.stage, run, phone, link);
                }
                Output::Transmit(frame) => {
                    if let Some(link) = line.link {
                        let heard = self.centre.receive(&mut self.stage, phone, link, &frame);
                        self.watch.heard(&mut self.stage, &self.handsets, phone, &heard);
                        if heard == Heard::Failure && !self.is_calm() && self.stage.chance.one_in(8) {
                            let soon = self.stage.chance.millis(0, 30);
                            self.stage.after(soon, Input::Crash);
                        }
                    }
                }
                Output::Judged(_) | Output::TellAgent { .. } => {}
                Output::Disk(request) => {
                    let number = line.number;
                    self.line_asks_disk(phone, number, request);
                }
                Output::EndAgent { connection } => line.agent.ended(connection),
                Output::Disconnect => {
                    if let Some(link) = line.link.take() {
                        self.centre.left(phone, link);
                    }
                }
                Output::Event(event) => {
                    if let LineEvent::State { state, .. } = &event {
                        line.state = *state;
                    }
                    self.tell_model(Event::Line { phone: phone.clone(), event });
                }
            }
        }
    }
}

impl World {
    /// An agent that reads has what is for it; whether there was anything.
    fn agent_hears(&mut self, phone: &PhoneId) -> bool {
        let now = self.stage.now;
        let Some(line) = self.line(phone) else { return false };
        let Some(frame) = line.agent.reads().and_then(|connection| line.relay.next_for_agent(connection, now)) else {
            return false;
        };
        match line.agent.hears(&frame) {
            Ok(Some(number)) => self.acknowledged(phone, number),
            Ok(None) => {}
            Err(rule) => self.stage.broke(rule),
        }
        true
    }
}

/// The connections of a daemon that died.
pub(super) fn hang_up(lines: &Lines, mut left: impl FnMut(&PhoneId, u32)) {
    for (phone, line) in lines {
        if let Some(link) = line.link {
            left(phone, link);
        }
    }
}
