//! A rack in one thread: the real cores, eight handsets, a central server and a power hub, moved by one queue and one generator.
//!
//! ```text
//!     queue of (moment, input) ─┐              ┌─▶ handsets (device's side of ADB) ─┐
//!     deadlines of the cores ───┴─▶ one step ──┼─▶ central server ──────────────────┼─▶ queue
//!                                       │      └─▶ hub, store, bus ─────────────────┘
//!                                       ▼
//!                        the rules of `checks`, after every step
//! ```
//!
//! Half an hour of trouble is followed by calm, in which the rack must become well by itself ([`checks::well`]).

mod actor;
mod agents;
mod bus;
mod centre;
pub(crate) mod chance;
mod checks;
mod daemon;
mod disk;
mod handset;
mod hub;
mod input;
mod keeper;
mod lines;
mod outbox;
mod rollouts;
mod stage;
mod surprise;
mod temper;
mod trace;
mod trouble;

use std::time::Duration;

use farmhand::clock::{Moment, UnixMillis};
use farmhand::rack::Event;
use farmhand::rack::ids::{Endpoint, PortPath, Serial};

pub(crate) use self::trace::Telling;

use self::agents::Agents;
use self::centre::Centre;
use self::chance::Chance;
use self::checks::Watch;
use self::daemon::{Daemon, Due};
use self::disk::Disk;
use self::handset::Handset;
use self::hub::Hub;
use self::input::{Input, Short};
use self::outbox::Outbox;
use self::stage::Stage;
use self::temper::Temper;
use self::trace::Trace;

/// Handsets, each with a place of its own that a port of the hub feeds.
const PHONES: usize = 8;
/// Two places more, without a slot and without a port.
const PLACES: usize = PHONES + 2;
/// How long trouble is made.
const TROUBLE: Duration = Duration::from_secs(30 * 60);
/// The least that a life is worth, in inputs.
const INPUTS_MIN: u64 = 2000;
/// The longest that the rack may take afterwards: two quarantines of 10 min, or a line that waits for 20 min.
const RECOVERY_MAX: Duration = Duration::from_secs(45 * 60);
/// Deadlines that may fall on one moment before a core counts as stuck.
const SAME_MOMENT_MAX: usize = 200;

/// What became of a seed that lived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lived {
    pub(crate) hash: u64,
    pub(crate) inputs: u64,
    pub(crate) simulated: Duration,
}

/// A rule that was broken.
#[derive(Clone, Debug)]
pub(crate) struct Broken {
    rule: String,
    at: Moment,
    /// The last lines of the trace, where they were kept.
    lines: Vec<String>,
}

/// What happened last in a seed that failed, which rule it broke, and how to replay it: for a person.
pub(crate) fn story(seed: u64) -> String {
    let told = match live(seed, Telling::Lines) {
        Ok(lived) => format!("seed {seed} does not live the same life twice, or is worth little: {lived:?}"),
        Err(broken) => {
            let Broken { rule, at, lines } = *broken;
            format!("{}\n\nseed {seed} broke a rule at {at}: {rule}", lines.join("\n"))
        }
    };
    format!("{told}\nreplay: SEED={seed} SEEDS=1 cargo test --test sim -- --nocapture")
}

/// Lives one seed from its first input to its last.
pub(crate) fn live(seed: u64, telling: Telling) -> Result<Lived, Box<Broken>> {
    surprise::watching(|| World::new(seed, telling).live())
}

#[derive(Debug)]
struct World {
    stage: Stage,
    temper: Temper,
    daemon: Option<Daemon>,
    runs: u32,
    /// Connections that were made, to handsets and to the centre: no two have the same number.
    links: u32,
    /// Lines that were made.
    lines: u32,
    /// The wall time from which moments are counted.
    epoch: UnixMillis,
    /// A look at the whole is due: once in a while is enough.
    look_whether_well: bool,
    disk: Disk,
    handsets: Vec<Handset>,
    centre: Centre,
    agents: Agents,
    outbox: Outbox,
    hub: Hub,
    watch: Watch,
}

impl World {
    fn new(seed: u64, telling: Telling) -> Self {
        let mut stage = Stage::new(Chance::new(seed), Trace::new(telling));
        let temper = Temper::draw(&mut stage.chance);
        let handsets = (0..PHONES).map(|number| Handset::new(number, temper.serial(number))).collect();
        let mut world = Self {
            stage,
            temper,
            daemon: None,
            runs: 0,
            links: 0,
            lines: 0,
            epoch: UnixMillis(1_700_000_000_000),
            look_whether_well: false,
            disk: Disk::default(),
            handsets,
            centre: Centre::new(seed),
            agents: Agents::new(seed),
            outbox: Outbox::new(seed),
            hub: Hub::new(),
            watch: Watch::default(),
        };
        world.set_up();
        world
    }

    fn set_up(&mut self) {
        self.start_daemon();
        for phone in 0..PHONES {
            self.handsets[phone].version = (!self.stage.chance.one_in(3)).then_some(1);
            let after = self.stage.chance.millis(0, 5000);
            self.stage.after(after, Input::Plug { phone, place: phone });
        }
        self.stage.after(Duration::from_millis(500), Input::HubReads);
        self.stage.after(Duration::from_secs(20), Input::Trouble);
        self.stage.at(Moment::START + TROUBLE, Input::Calm);
    }

    fn is_calm(&self) -> bool {
        self.stage.now >= Moment::START + TROUBLE
    }

    fn live(mut self) -> Result<Lived, Box<Broken>> {
        let mut inputs = 0;
        let (mut moment, mut at_once) = (Moment::START, 0);
        loop {
            self.step();
            inputs += 1;
            at_once = if self.stage.now == moment { at_once + 1 } else { 0 };
            moment = self.stage.now;
            if at_once > SAME_MOMENT_MAX {
                self.stage.broke("the cores do not get on: 200 steps at one moment".to_owned());
            }
            checks::after_step(&mut self);
            if let Some(rule) = surprise::seen() {
                self.stage.broke(format!("an error was logged: {rule}"));
            }
            if std::mem::take(&mut self.look_whether_well) && self.stage.broken_yet().is_none() {
                match checks::well::rack(&self) {
                    Ok(()) if inputs >= INPUTS_MIN => break,
                    // A rack that is well goes on with its probes and heartbeats.
                    Ok(()) => {}
                    Err(why) if moment >= Moment::START + TROUBLE + RECOVERY_MAX => self.stage.broke(why),
                    Err(_) => {}
                }
            }
            if let Some(rule) = self.stage.broken() {
                return Err(Box::new(Broken { rule, at: moment, lines: self.stage.trace.into_lines() }));
            }
        }
        Ok(Lived { hash: self.stage.trace.hash(), inputs, simulated: moment.since_start() })
    }

    /// The next thing that is due: a core's deadline, or an input.
    fn step(&mut self) {
        let queued = self.stage.due().unwrap_or(Moment::START + TROUBLE + RECOVERY_MAX * 2);
        match self.daemon.as_ref().and_then(Daemon::due) {
            Some((deadline, due)) if deadline.at < queued => {
                self.stage.now = self.stage.now.max(deadline.at);
                self.stage.tell(format_args!("due: {}", deadline.why));
                self.advance(due);
            }
            _ => {
                if let Some(input) = self.stage.take() {
                    self.stage.tell(format_args!("{}", Short(&input)));
                    self.happen(input);
                }
            }
        }
    }

    fn advance(&mut self, due: Due) {
        let now = self.stage.now;
        match due {
            Due::Rack => self.advance_rack(now),
            Due::Rollouts => self.advance_rollouts(now),
            Due::Line(phone) => self.advance_line(&phone, now),
            Due::Actor(place) => {
                if let Some(daemon) = &mut self.daemon {
                    daemon.actors[place].advance(now);
                }
                self.flush_actor(place);
            }
        }
    }

    fn happen(&mut self, input: Input) {
        let run = self.run();
        match input {
            Input::FromPhone { place, link, said } => self.phone_said(place, link, said),
            Input::Cut { place, link } => self.cut(place, link),
            Input::Report { run: of, place, event } if of == run => {
                self.apply(Event::Phone { endpoint: endpoint(place), event });
            }
            Input::Event { run: of, event } if of == run => self.apply(event),
            Input::FromCentre { run: of, phone, link, arrival } if of == run => {
                self.line_arrival(&phone, link, arrival);
            }
            Input::AgentBeats { run: of, phone, times } if of == run => self.agent_beats(&phone, times),
            Input::Committed { run: of } if of == run => self.committed(),
            Input::DiskDone { run: of } if of == run => self.disk_done(),
            Input::PowerCommitted { run: of } if of == run => self.power_committed(),
            Input::Fetched { run: of, fetch } if of == run => self.fetched(fetch),
            Input::InstallEnds { phone, stream, link, version, may_go_back } => {
                self.handsets[phone].install_ends(&mut self.stage, (stream, link), version, may_go_back);
            }
            Input::Bus { phone } => self.look_at_bus(phone),
            Input::LetGo { run: of, place } if of == run => self.let_go(place),
            Input::Plug { phone, place } => self.plug(phone, place),
            Input::Tapped { phone, link } => self.handsets[phone].tapped(&mut self.stage, link),
            Input::HubReads => self.read_hub(),
            Input::PortActs { run: of, port, mode } => self.port_acts(of, port, mode),
            Input::Trouble => self.make_trouble(),
            Input::CentreBack => self.centre.becomes(&mut self.stage, centre::Mood::Up),
            Input::HubBack => self.hub.mood = hub::Mood::Live,
            Input::Notices { version, phones, package } => self.send_notices(version, &phones, package),
            Input::Operator => self.operator(),
            Input::Crash => self.crash_for_a_while(),
            Input::Start => self.start_daemon(),
            Input::Calm => self.calm_down(),
            Input::Report { .. }
            | Input::Event { .. }
            | Input::FromCentre { .. }
            | Input::AgentBeats { .. }
            | Input::Committed { .. }
            | Input::DiskDone { .. }
            | Input::PowerCommitted { .. }
            | Input::Fetched { .. }
            | Input::LetGo { .. } => {}
        }
    }

    fn handset_at(&mut self, place: usize) -> Option<&mut Handset> {
        self.handsets.iter_mut().find(|handset| handset.on_bus == Some(place))
    }
}

/// Two hubs on one controller with four and three places; the others on ports of a second controller.
fn endpoint(place: usize) -> Endpoint {
    let port = |port: usize| u8::try_from(port + 1).unwrap_or(u8::MAX);
    let path = match place {
        0..4 => PortPath::new(1, &[1, port(place)]),
        4..7 => PortPath::new(1, &[2, port(place - 4)]),
        _ => PortPath::new(2, &[port(place - 7)]),
    };
    Endpoint::Usb(path.expect("a sane path"))
}

fn place_of(endpoint: &Endpoint) -> Option<usize> {
    let Endpoint::Usb(path) = endpoint else { return None };
    let (before, port) = match (path.bus(), path.ports()) {
        (1, [1, port]) => (0, port),
        (1, [2, port]) => (4, port),
        (2, [port]) => (7, port),
        _ => return None,
    };
    Some(before + usize::from(*port) - 1).filter(|place| *place < PLACES)
}

fn serial(text: &str) -> Serial {
    Serial::new(text)
}
