//! Two daemons and one identity: a phone that is carried from one rack to the other and back, or two phones that give the same credential.
//!
//! Lines are real; what each model does for its line is played here: it opens it for a phone that is there, has it answer probes, and
//! closes it when it sees that the phone has left, at the latest when `[central] grace` is over. The central server gives each new
//! registration the place of the one before.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use farmhand::central::catalogue;
use farmhand::central::envelope::{Body, Envelope, View};
use farmhand::central::frame::HEADER;
use farmhand::central::proto::{AccountForceOfflineNoticeMessage, DeviceAuthRspMessage, EnumMsgType as Type};
use farmhand::central::relay::Relay;
use farmhand::central::session::{Output, Session, Settings};
use farmhand::clock::Moment;
use farmhand::config::Ack;
use farmhand::rack::event::{LineCommand, LineEvent, Presence};
use farmhand::rack::snapshot::LineState;
use prost::Message as _;

use crate::world::chance::Chance;

const IMEI: &str = "490154203237518";
const SEEDS: u64 = 200;
const LIFE: Duration = Duration::from_secs(6 * 3600);
/// The way to the server or back.
const WAY: Duration = Duration::from_millis(7);
/// So long both may believe that they are registered: the word that one of them is not any more is on its way.
const NEWS_MAX: Duration = Duration::from_millis(8);
const GRACE_MS: u64 = 90_000;
const AUTHENTICATIONS_MAX: usize = 3;
const WINDOW: Duration = Duration::from_secs(600);

#[derive(Clone, Debug)]
enum Step {
    /// The phone is carried to the other rack.
    Moves,
    Plugged(usize),
    /// The model sees that the phone has left, if it has.
    Missed(usize),
    Hears {
        rack: usize,
        link: u32,
        what: Heard,
    },
}

#[derive(Clone, Debug)]
enum Heard {
    Connected,
    Frame(Bytes),
}

struct Rack {
    relay: Relay,
    /// The connection to the server.
    link: Option<u32>,
    links: u32,
    /// What the line said of itself last.
    state: LineState,
    /// Its phone is there.
    has_phone: bool,
}

struct World {
    now: Moment,
    chance: Chance,
    racks: [Rack; 2],
    queue: BTreeMap<(Moment, u64), Step>,
    queued: u64,
    /// Who holds the identity at the server, by which connection.
    holder: Option<(usize, u32)>,
    authentications: Vec<Moment>,
    heartbeats: u64,
    both_since: Option<Moment>,
}

impl World {
    fn new(seed: u64) -> Self {
        let rack = |number: u64| Rack {
            relay: Relay::new(Session::new(Settings::new(Duration::from_secs(60)), seed * 2 + number), Ack::Auto, 1),
            link: None,
            links: 0,
            state: LineState::Closed,
            has_phone: false,
        };
        Self {
            now: Moment::START,
            chance: Chance::new(seed),
            racks: [rack(0), rack(1)],
            queue: BTreeMap::new(),
            queued: 0,
            holder: None,
            authentications: Vec::new(),
            heartbeats: 0,
            both_since: None,
        }
    }

    fn after(&mut self, pause: Duration, step: Step) {
        self.queued += 1;
        self.queue.insert((self.now + pause, self.queued), step);
    }

    /// Until its end, or the rule that was broken.
    fn live(&mut self) -> Result<(), String> {
        while self.now < Moment::START + LIFE {
            let queued = self.queue.first_key_value().map(|((at, _), _)| *at);
            let due = self.racks.iter().map(|rack| rack.relay.deadline().map(|deadline| deadline.at));
            let first = due.enumerate().filter_map(|(rack, at)| Some((at?, rack))).min();
            match (first, queued) {
                (Some((at, rack)), queued) if queued.is_none_or(|queued| at < queued) => {
                    self.now = self.now.max(at);
                    self.racks[rack].relay.advance(self.now);
                    self.drain(rack)?;
                }
                _ => {
                    let Some(((at, _), step)) = self.queue.pop_first() else { return Ok(()) };
                    self.now = at;
                    self.happen(step)?;
                }
            }
            self.look()?;
        }
        Ok(())
    }

    fn happen(&mut self, step: Step) -> Result<(), String> {
        match step {
            Step::Moves => {
                let from = usize::from(self.racks[1].has_phone);
                self.racks[from].has_phone = false;
                // Mostly the bus tells at once; a hub that hangs does not.
                let seen = if self.chance.one_in(3) { self.chance.millis(100, GRACE_MS) } else { WAY };
                self.after(seen, Step::Missed(from));
                let carried = self.chance.millis(500, 60_000);
                self.after(carried, Step::Plugged(1 - from));
                let stays = self.chance.seconds(300, 3000);
                self.after(carried + stays, Step::Moves);
                Ok(())
            }
            Step::Plugged(rack) => {
                self.racks[rack].has_phone = true;
                let open =
                    LineCommand::Open { credential: IMEI.to_owned(), device: Box::default(), pause: Duration::ZERO };
                self.command(rack, open)
            }
            Step::Missed(rack) if !self.racks[rack].has_phone => {
                self.command(rack, LineCommand::Close { why: "the phone has left".to_owned() })
            }
            Step::Hears { rack, link, what } if self.racks[rack].link == Some(link) => {
                match what {
                    Heard::Connected => self.racks[rack].relay.connected(self.now),
                    Heard::Frame(payload) => self.racks[rack].relay.receive(&payload, self.now),
                }
                self.drain(rack)
            }
            Step::Missed(_) | Step::Hears { .. } => Ok(()),
        }
    }

    fn command(&mut self, rack: usize, command: LineCommand) -> Result<(), String> {
        self.racks[rack].relay.command(command, self.now);
        self.drain(rack)
    }

    fn drain(&mut self, rack: usize) -> Result<(), String> {
        while let Some(output) = self.racks[rack].relay.poll() {
            match output {
                Output::Connect => {
                    let ours = &mut self.racks[rack];
                    ours.links += 1;
                    ours.link = Some(ours.links);
                    let link = ours.links;
                    self.after(WAY * 2, Step::Hears { rack, link, what: Heard::Connected });
                }
                Output::Disconnect => {
                    let link = self.racks[rack].link.take();
                    self.holder.take_if(|(holder, of)| *holder == rack && Some(*of) == link);
                }
                Output::Transmit(frame) => self.centre_hears(rack, &frame)?,
                Output::Event(LineEvent::State { state, .. }) => self.racks[rack].state = state,
                Output::Event(LineEvent::HeartbeatDue) => {
                    let there = self.racks[rack].has_phone;
                    let presence = if there { Presence::Answered } else { Presence::Silent };
                    self.racks[rack].relay.command(LineCommand::Presence(presence), self.now);
                }
                _ => {}
            }
        }
        Ok(())
    }

    fn centre_hears(&mut self, rack: usize, frame: &[u8]) -> Result<(), String> {
        let view = frame.get(HEADER..).map(View::parse);
        let (Some(Ok(view)), Some(link)) = (view, self.racks[rack].link) else {
            return Err(format!("rack {rack} sent what cannot be read, or into the void"));
        };
        if view.msg_type == Type::DeviceAuthReq as i32 {
            self.authentications.push(self.now);
            if let Some((other, of)) = self.holder.replace((rack, link)) {
                let notice = AccountForceOfflineNoticeMessage { reason: 1, ..Default::default() };
                self.centre_says((other, of), Type::AccountForceOfflineNotice, &notice.encode_to_vec(), 0);
            }
            let response = DeviceAuthRspMessage { access_token: "token".to_owned(), ..Default::default() };
            self.centre_says((rack, link), Type::DeviceAuthRsp, &response.encode_to_vec(), view.id);
        } else if view.msg_type == Type::HeartBeatReq as i32 {
            if !self.racks[rack].has_phone {
                return Err(format!("rack {rack} sends heartbeats for a phone that has left"));
            }
            self.heartbeats += 1;
            self.centre_says((rack, link), Type::MsgReceivedAck, &[], view.id);
        }
        Ok(())
    }

    fn centre_says(&mut self, (rack, link): (usize, u32), code: Type, value: &[u8], reference: i64) {
        let type_name = catalogue::lookup(code as i32).and_then(|entry| entry.body).unwrap_or_default();
        let body = Some(Body { type_name, value });
        let mut payload = BytesMut::new();
        Envelope { id: 1, access_token: "", msg_type: code as i32, body, ref_message_id: reference }
            .encode(&mut payload);
        self.after(WAY, Step::Hears { rack, link, what: Heard::Frame(payload.freeze()) });
    }

    /// Never two lines, and few authentications.
    fn look(&mut self) -> Result<(), String> {
        let both = self.racks.iter().all(|rack| rack.state == LineState::Registered);
        self.both_since = both.then(|| self.both_since.unwrap_or(self.now));
        if self.both_since.is_some_and(|since| self.now.since(since) > NEWS_MAX) {
            return Err("two lines are registered at once".to_owned());
        }
        let from = self.authentications.partition_point(|at| self.now.since(*at) > WINDOW);
        match self.authentications.len() - from {
            0..=AUTHENTICATIONS_MAX => Ok(()),
            many => Err(format!("{many} authentications within 10 minutes")),
        }
    }
}

fn lives(begin: impl Fn(&mut World)) {
    for seed in 1..=SEEDS {
        let mut world = World::new(seed);
        begin(&mut world);
        if let Err(rule) = world.live() {
            panic!("seed {seed} broke a rule at {}: {rule}; authentications: {:?}", world.now, world.authentications);
        }
        assert!(world.authentications.len() > 4 && world.heartbeats > 20, "seed {seed} is worth little");
    }
}

#[test]
fn a_phone_that_is_carried_between_two_racks_has_one_line() {
    lives(|world| {
        world.after(Duration::ZERO, Step::Plugged(0));
        let first = world.chance.seconds(300, 1200);
        world.after(first, Step::Moves);
    });
}

#[test]
fn two_racks_with_one_identity_do_not_fight() {
    lives(|world| {
        world.after(Duration::ZERO, Step::Plugged(0));
        let second = world.chance.millis(0, 1_200_000);
        world.after(second, Step::Plugged(1));
    });
}
