//! The driver of one hub: a thread that owns its serial port, reads it in turn, and carries out port orders at once.
//!
//! ```text
//!     closed ──open──▶ unknown ──id──▶ live: state each 2 s, health each 10 s, orders at once
//!        ▲                ▲              │
//!        │ gone           └── settle ────┤ silence, garbage (tried twice, then Stale)
//!        └───────────────────────────────┘ port ended (Stale at once)
//! ```
//!
//! Invariant: after any reply that was late or wrong the line is listened to until it is quiet, and the hub must answer
//! `id` before its readings count again.

use std::io;
use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::cambrionix::{self, Health, Request};
use super::serial::{Fault, Line};
use crate::config;
use crate::rack::event::{HubEvent, HubReading};
use crate::rack::ids::{HubName, HubPort};
use crate::rack::snapshot::PortMode;

/// How often a failed round is tried again before the hub counts as stale: one glitch on the line is no outage.
const TRIES: u32 = 2;

/// After so many failed rounds the port is opened anew, should the kernel not have told that it ended.
const ROUNDS_BEFORE_REOPEN: u32 = 3;

/// Set a port's mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortOrder {
    /// Which.
    pub port: HubPort,
    /// To what.
    pub mode: PortMode,
}

/// Starts the driver of a hub on a thread of its own, named after the hub. It ends once `cancel` is cancelled, or `events`
/// has no receiver any more.
///
/// Within 6 s after the hub fell silent `events` has [`HubEvent::Stale`]. Where `events` is full, readings are replaced by
/// newer ones, everything else waits.
///
/// # Errors
/// If the thread can't be started. A port that can't be opened is no error: it is told as stale, and tried again.
pub fn spawn(
    config: &config::Hub,
    orders: mpsc::Receiver<PortOrder>,
    events: mpsc::Sender<HubEvent>,
    cancel: CancellationToken,
) -> io::Result<JoinHandle<()>> {
    spawn_at(Pace::DEFAULT, config, orders, events, cancel)
}

/// How fast a driver goes; tests go faster.
#[derive(Clone, Copy, Debug)]
struct Pace {
    /// Between two readings of all ports.
    state: Duration,
    /// Between two readings of voltages and temperature.
    health: Duration,
    /// The longest wait for one reply: the longest real one takes some 100 ms at 115200 baud.
    patience: Duration,
    /// How long a line must be silent before it counts as quiet.
    quiet: Duration,
    /// How long a port may take until its own line shows the mode that was set.
    read_back: Duration,
    /// The longest wait before a port is opened again; the first is a sixteenth.
    reopen_max: Duration,
}

impl Pace {
    /// Worst case until stale: 2 s to the next round, two silent tries of 1 s, 1 s of a chattering line between them.
    const DEFAULT: Self = Self {
        state: Duration::from_secs(2),
        health: Duration::from_secs(10),
        patience: Duration::from_secs(1),
        quiet: Duration::from_millis(200),
        read_back: Duration::from_secs(2),
        reopen_max: Duration::from_secs(4),
    };
}

fn spawn_at(
    pace: Pace,
    config: &config::Hub,
    orders: mpsc::Receiver<PortOrder>,
    events: mpsc::Sender<HubEvent>,
    cancel: CancellationToken,
) -> io::Result<JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build()?;
    let driver = Driver {
        name: config.name.clone(),
        device: config.device.clone(),
        pace,
        orders: Some(orders),
        outlet: Outlet { events, waiting: None },
        cancel,
        line: None,
        identity: None,
        health: Health::default(),
        health_due: Instant::now(),
        shown: Shown::Nothing,
        failed_rounds: 0,
    };
    std::thread::Builder::new().name(format!("hub {}", config.name)).spawn(move || driver.run(&runtime))
}

/// What the model was told last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shown {
    Nothing,
    Live,
    /// With the kind of fault, so that a hub that went from silent to unplugged is told again.
    Stale(std::mem::Discriminant<Fault>),
}

struct Driver {
    name: HubName,
    device: PathBuf,
    pace: Pace,
    /// `None` once nobody can order any more.
    orders: Option<mpsc::Receiver<PortOrder>>,
    outlet: Outlet,
    cancel: CancellationToken,
    line: Option<Line>,
    /// What the hub says of itself; `None` until it has answered `id` on this line.
    identity: Option<String>,
    health: Health,
    health_due: Instant,
    shown: Shown,
    failed_rounds: u32,
}

/// Why the driver woke.
enum Wake {
    Due,
    Order(PortOrder),
    End,
}

impl Driver {
    fn run(mut self, runtime: &Runtime) {
        loop {
            let pause = match self.round() {
                Ok(reading) => self.show_live(reading),
                Err(Fault::Cancelled) => return,
                Err(fault) => self.show_stale(runtime, &fault),
            };
            match runtime.block_on(self.wake(Instant::now() + pause)) {
                Wake::Due => {}
                Wake::End => return,
                // The next round follows at once: the model shall see what the switching did to the readings.
                Wake::Order(order) => {
                    let answer = self.carry_out(order);
                    runtime.block_on(self.outlet.tell(answer, &self.cancel));
                }
            }
        }
    }

    async fn wake(&mut self, due: Instant) -> Wake {
        let Self { orders, outlet, cancel, .. } = self;
        let events = outlet.events.clone();
        loop {
            let order = async {
                match orders.as_mut() {
                    Some(orders) => orders.recv().await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = cancel.cancelled() => return Wake::End,
                () = events.closed() => return Wake::End,
                order = order => match order {
                    Some(order) => return Wake::Order(order),
                    None => *orders = None,
                },
                () = outlet.hand_over(), if outlet.waiting.is_some() => {}
                () = tokio::time::sleep_until(due.into()) => return Wake::Due,
            }
        }
    }

    /// One whole set of readings, tried again after a glitch.
    fn round(&mut self) -> Result<HubReading, Fault> {
        let mut tries = 1;
        loop {
            match self.read_all() {
                Err(Fault::Dialogue(_) | Fault::Lines(_)) if tries < TRIES => tries += 1,
                result => return result,
            }
        }
    }

    fn read_all(&mut self) -> Result<HubReading, Fault> {
        let result = self.read_all_once();
        if result.is_err() {
            self.identity = None;
        }
        result
    }

    fn read_all_once(&mut self) -> Result<HubReading, Fault> {
        let pace = self.pace;
        let line = match self.line.take() {
            Some(line) => self.line.insert(line),
            None => self.line.insert(Line::open(&self.device, self.cancel.clone())?),
        };
        let identity = if let Some(identity) = &self.identity {
            identity.clone()
        } else {
            line.settle(pace.quiet)?;
            let identity = cambrionix::parse_id(&line.ask(Request::Id, pace.patience)?)?.to_string();
            self.health_due = Instant::now();
            self.identity.insert(identity).clone()
        };
        if self.health_due <= Instant::now() {
            self.health = match cambrionix::parse_health(&line.ask(Request::Health, pace.patience)?) {
                // Some makers' stations have no such command: that is no reason to distrust their ports.
                Err(cambrionix::HubLineError::Refused { .. }) => Health::default(),
                health => health?,
            };
            self.health_due = Instant::now() + pace.health;
        }
        let ports = cambrionix::parse_state(&line.ask(Request::State, pace.patience)?)?;
        Ok(HubReading {
            identity,
            temperature_celsius: self.health.temperature_celsius,
            supply_volts: self.health.supply_volts,
            ports,
        })
    }

    fn show_live(&mut self, reading: HubReading) -> Duration {
        if self.shown != Shown::Live {
            info!(hub = %self.name, device = %self.device.display(), ports = reading.ports.len(), "the hub answers: {}", reading.identity);
            self.shown = Shown::Live;
        }
        self.failed_rounds = 0;
        self.outlet.show(reading);
        self.pace.state
    }

    /// Tells of the fault if it is a new one; gives how long to wait before the next try.
    fn show_stale(&mut self, runtime: &Runtime, fault: &Fault) -> Duration {
        let shown = Shown::Stale(std::mem::discriminant(fault));
        if self.shown != shown {
            self.shown = shown;
            warn!(hub = %self.name, device = %self.device.display(), "no readings of the hub, it is asked again: {fault}");
            runtime.block_on(self.outlet.tell(HubEvent::Stale { why: fault.to_string() }, &self.cancel));
        }
        self.failed_rounds = self.failed_rounds.saturating_add(1);
        if matches!(fault, Fault::Gone(_)) || self.failed_rounds.is_multiple_of(ROUNDS_BEFORE_REOPEN) {
            self.line = None;
        }
        if self.line.is_some() {
            return self.pace.state;
        }
        let doublings = self.failed_rounds.saturating_sub(1).min(4);
        self.pace.reopen_max / 16 * 2_u32.pow(doublings)
    }

    fn carry_out(&mut self, order: PortOrder) -> HubEvent {
        let PortOrder { port, mode } = order;
        match self.switch(order) {
            Ok(()) => {
                info!(hub = %self.name, %port, "the port is {}: its own line says so", mode.as_str());
                HubEvent::PortSet { port, mode }
            }
            Err(why) => {
                warn!(hub = %self.name, %port, "the port could not be set to {}: {why}", mode.as_str());
                HubEvent::PortRefused { port, why }
            }
        }
    }

    /// Switches, and believes it only when the port's own line says so.
    fn switch(&mut self, PortOrder { port, mode }: PortOrder) -> Result<(), String> {
        let pace = self.pace;
        let (Some(line), Some(_)) = (self.line.as_mut(), &self.identity) else {
            return Err("the hub does not answer".to_owned());
        };
        let mut exchange = || -> Result<PortMode, Fault> {
            cambrionix::parse_mode(&line.ask(Request::SetMode { port, mode }, pace.patience)?)?;
            let begun = Instant::now();
            loop {
                let reading = cambrionix::parse_port(port, &line.ask(Request::PortState(port), pace.patience)?)?;
                if reading.mode == mode || begun.elapsed() >= pace.read_back {
                    return Ok(reading.mode);
                }
                line.settle(pace.quiet)?;
            }
        };
        match exchange() {
            Ok(read) if read == mode => Ok(()),
            Ok(read) => Err(format!("the hub took the order, but the port's own line still says {}", read.as_str())),
            Err(fault) => {
                let refused = matches!(fault, Fault::Lines(cambrionix::HubLineError::Refused { .. }));
                if !refused {
                    self.identity = None;
                }
                if matches!(fault, Fault::Gone(_)) {
                    self.line = None;
                }
                Err(fault.to_string())
            }
        }
    }
}

/// The way to the model: readings give way to newer ones, everything else waits.
struct Outlet {
    events: mpsc::Sender<HubEvent>,
    waiting: Option<HubReading>,
}

impl Outlet {
    /// Offers a reading; what found no room before is dropped for it.
    fn show(&mut self, reading: HubReading) {
        if let Err(mpsc::error::TrySendError::Full(HubEvent::Reading(reading))) =
            self.events.try_send(HubEvent::Reading(reading))
        {
            self.waiting = Some(reading);
        } else {
            self.waiting = None;
        }
    }

    /// Hands the waiting reading over as soon as there is room.
    async fn hand_over(&mut self) {
        let room = self.events.reserve().await;
        // No receiver any more: the driver is about to end.
        if let (Ok(room), Some(reading)) = (room, self.waiting.take()) {
            room.send(HubEvent::Reading(reading));
        }
    }

    /// Waits until the model takes it; a reading that found no room is older, and dropped.
    async fn tell(&mut self, event: HubEvent, cancel: &CancellationToken) {
        self.waiting = None;
        tokio::select! {
            () = cancel.cancelled() => {}
            // No receiver any more: the next wait ends the driver.
            _ = self.events.send(event) => {}
        }
    }
}

#[cfg(test)]
#[path = "hub_tests.rs"]
mod tests;
