//! The daemon: what dies in a crash. It carries the model's commands to the actors, as the shells do.

use std::time::Duration;

use farmhand::central::pace::Speakers;
use farmhand::clock::{Deadline, Moment};
use farmhand::phone;
use farmhand::rack::event::Command;
use farmhand::rack::ids::{Endpoint, PackageName};
use farmhand::rack::snapshot::PortMode;
use farmhand::rack::{Change, Event, Outcome, Rack, Settings};
use farmhand::rollout::plan::{KeptAgent, Rollouts, Standing};
use farmhand::store::promise::Promise;

use super::actor::{Actor, PACKAGE};
use super::input::Input;
use super::keeper::Keeper;
use super::lines::{self, Lines};
use super::rollouts::{RolloutShell, Word, wanted};
use super::{PLACES, World, checks, endpoint, place_of, trouble};

#[derive(Debug)]
pub(super) struct Daemon {
    pub(super) run: u32,
    pub(super) rack: Rack,
    pub(super) actors: Vec<Actor>,
    pub(super) lines: Lines,
    pub(super) speakers: Speakers,
    pub(super) rollouts: RolloutShell,
    pub(super) keeper: Keeper,
    rack_deadline: Option<Deadline>,
    /// The model's queue keeps the order of what is told.
    told_until: Moment,
    /// Something happened to the model since the last look at it.
    pub(super) touched: bool,
}

/// Whose deadline comes next.
#[derive(Clone, Debug)]
pub(super) enum Due {
    Rack,
    Rollouts,
    Actor(usize),
    Line(farmhand::rack::ids::PhoneId),
}

impl Daemon {
    /// The earliest deadline of all cores.
    pub(super) fn due(&self) -> Option<(Deadline, Due)> {
        let actors = self.actors.iter().enumerate();
        let actors = actors.filter_map(|(place, actor)| Some((actor.deadline()?, Due::Actor(place))));
        let first = [(self.rack_deadline, Due::Rack), (self.rollouts.deadline(), Due::Rollouts)];
        let mut next: Option<(Deadline, Due)> = None;
        for (deadline, due) in first.into_iter().filter_map(|(deadline, due)| Some((deadline?, due))).chain(actors) {
            if next.as_ref().is_none_or(|(known, _)| deadline.at < known.at) {
                next = Some((deadline, due));
            }
        }
        for (phone, line) in &self.lines {
            if let Some(deadline) = line.due()
                && next.as_ref().is_none_or(|(known, _)| deadline.at < known.at)
            {
                next = Some((deadline, Due::Line(phone.clone())));
            }
        }
        next
    }
}

impl World {
    /// The number of the daemon's run; what belongs to an earlier one reaches nobody.
    pub(super) fn run(&self) -> u32 {
        self.daemon.as_ref().map_or(0, |daemon| daemon.run)
    }

    /// Starts the daemon: it knows its configuration and the committed promises, and looks at the bus.
    pub(super) fn start_daemon(&mut self) {
        if self.daemon.is_some() {
            return;
        }
        self.runs += 1;
        let now = self.stage.now;
        let wall = self.epoch;
        let configured = self.temper.settings.agent.as_ref();
        let sha256 = configured.map(|agent| agent.sha256.clone());
        let agent = KeptAgent { package: PackageName::new(PACKAGE), apk: None, sha256 };
        let standing = Standing::of(&self.disk.promises(), &agent);
        let core = Rollouts::restore(self.temper.rollout.clone(), Some(agent), wall, now, self.disk.promises());
        let wanted = configured.map(|configured| wanted(standing, configured));
        let settings = Settings { agent: wanted, ..self.temper.settings.clone() };
        let mut rack = Rack::restore(settings, self.disk.power.clone(), wall, now);
        rack.apply(now, Event::Twins(self.disk.twins.clone()));
        for endpoint in &self.disk.detached {
            rack.apply(now, trouble::detached(endpoint.clone()));
        }
        self.daemon = Some(Daemon {
            run: self.runs,
            rack_deadline: rack.deadline(),
            rack,
            actors: (0..PLACES).map(|_| Actor::default()).collect(),
            lines: Lines::new(),
            speakers: Speakers::default(),
            rollouts: RolloutShell::new(core, wall),
            keeper: Keeper::default(),
            told_until: now,
            touched: true,
        });
        self.watch.daemon_started();
        self.outbox.daemon_started(now);
        for phone in 0..self.handsets.len() {
            if let Some(place) = self.handsets[phone].on_bus {
                self.tell_appeared(phone, place);
            }
        }
        self.drive_rollouts();
    }

    /// The daemon dies at once. A batch that was on its way to the disk may have arrived.
    pub(super) fn crash_daemon(&mut self) {
        let Some(mut daemon) = self.daemon.take() else { return };
        let centre = &mut self.centre;
        lines::hang_up(&daemon.lines, |phone, link| centre.left(phone, link));
        for done in self.outbox.daemon_died(self.stage.now) {
            self.look_at_disk(&done);
        }
        if let Some((_, batch)) = daemon.rollouts.committing.take()
            && self.stage.chance.one_in(2)
        {
            self.commit(batch);
        }
        if let Some((_, ledger)) = daemon.keeper.committing.take()
            && self.stage.chance.one_in(2)
        {
            self.disk.power = ledger;
        }
    }

    /// Puts an event into the model's queue.
    pub(super) fn tell_model(&mut self, event: Event) {
        let run = self.run();
        if let Some(at) = self.model_hears_at(Duration::ZERO) {
            self.stage.at(at, Input::Event { run, event });
        }
    }

    /// Puts an event into the model's queue after a while.
    pub(super) fn tell_model_after(&mut self, pause: Duration, event: Event) {
        let run = self.run();
        if self.daemon.is_some() {
            self.stage.after(pause, Input::Event { run, event });
        }
    }

    fn model_hears_at(&mut self, pause: Duration) -> Option<Moment> {
        let daemon = self.daemon.as_mut()?;
        daemon.told_until = daemon.told_until.max(self.stage.now + pause + self.stage.chance.millis(0, 2));
        Some(daemon.told_until)
    }

    pub(super) fn apply(&mut self, event: Event) {
        let Some(daemon) = &mut self.daemon else { return };
        if let Event::ClockSet(epoch) = event {
            self.epoch = epoch;
            self.watch.clock_is_set();
        }
        let outcome = daemon.rack.apply(self.stage.now, event);
        self.carry_out(outcome);
    }

    pub(super) fn advance_rack(&mut self, now: Moment) {
        let Some(daemon) = &mut self.daemon else { return };
        let outcome = daemon.rack.advance(now);
        self.carry_out(outcome);
    }

    fn carry_out(&mut self, outcome: Outcome) {
        for change in &outcome.changes {
            self.stage.tell(format_args!("{change:?}"));
            self.watch.incidents.told(self.stage.now, change);
            if let Change::PortSwitched { port, mode, why, .. } = change {
                if let Err(rule) = self.watch.switched(self.stage.now, *port, *mode, why, &self.disk) {
                    self.stage.broke(rule);
                }
                if why.starts_with("recovery") && *mode == PortMode::Off {
                    self.check_harsh(&endpoint(usize::from(port.0) - 1), "its port's power cut");
                }
                self.may_crash_in_the_dark(*mode, why);
            }
        }
        for command in outcome.commands {
            self.stage.tell(format_args!("{command:?}"));
            if let (Command::Phone { endpoint, command }, Some(daemon)) = (&command, &self.daemon)
                && let Err(rule) = checks::lease::ordered(&daemon.rack, endpoint, command)
                    .and_then(|()| checks::detached::ordered(&daemon.rack, endpoint, command))
            {
                self.stage.broke(rule);
            }
            if let Command::Phone { endpoint, command: order @ (phone::Command::ResetUsb | phone::Command::Reboot) } =
                &command
                && !self.is_restarted_for_the_centre(endpoint)
            {
                self.check_harsh(endpoint, "reset or restarted");
                if let Err(rule) = self.watch.ordered(self.stage.now, endpoint, order) {
                    self.stage.broke(rule);
                }
            }
            self.dispatch(command);
        }
        if let Some(daemon) = &mut self.daemon {
            daemon.rack_deadline = daemon.rack.deadline();
            daemon.touched = true;
        }
    }

    /// What the centre asks for is no recovery, and no budget of it.
    fn is_restarted_for_the_centre(&self, at: &Endpoint) -> bool {
        let standing = self
            .daemon
            .as_ref()
            .and_then(|daemon| daemon.rack.standings().find(|standing| standing.endpoint == Some(at)));
        standing.is_some_and(|standing| standing.why == "it restarts, as the central server asked")
    }

    fn check_harsh(&mut self, at: &Endpoint, what: &str) {
        let Some(daemon) = &self.daemon else { return };
        if let Err(rule) = self.watch.incidents.harsh(self.stage.now, &daemon.rack, at, what) {
            self.stage.broke(rule);
        }
    }

    fn dispatch(&mut self, command: Command) {
        match command {
            Command::Phone { endpoint, command } => match place_of(&endpoint) {
                Some(place) => self.phone_command(place, command),
                None => {
                    self.stage.broke(format!("{endpoint} is no place of this rack, and was ordered to {command:?}"));
                }
            },
            Command::Line { phone, command } => self.line_command(&phone, command),
            Command::SetPort { hub, port, mode } => self.order_port(&hub, port, mode),
            Command::PromisePower { number, ledger } => self.promise_power(number, ledger),
            Command::PromiseTwins(serial) => self.disk.commit(vec![Promise::SharedSerial(serial)], self.stage.now),
            // The audit is the daemon's.
            Command::HoldIsOver(_) => {}
            Command::Rollout(command) => {
                self.rollout_word(Word::Command(command));
            }
        }
    }

    fn phone_command(&mut self, place: usize, command: phone::Command) {
        let now = self.stage.now;
        let there = self.handset_at(place).is_some();
        let trouble = !self.is_calm() && self.stage.chance.one_in(40);
        let run = self.run();
        self.links += 1;
        let number = self.links;
        let Some(daemon) = &mut self.daemon else { return };
        let actor = &mut daemon.actors[place];
        match command {
            phone::Command::Open => {
                actor.disconnect();
                match self.handsets.iter().find(|handset| handset.on_bus == Some(place)) {
                    Some(_) if trouble => {
                        let fault = phone::OpenFault::Busy;
                        actor.reports.push(phone::Event::OpenFailed { fault, why: "another has it".to_owned() });
                        let lets_go = self.stage.chance.seconds(1, 900);
                        self.stage.after(lets_go, Input::LetGo { place, run });
                    }
                    Some(_) => actor.open(now, number),
                    None => {
                        let fault = phone::OpenFault::Gone;
                        actor.reports.push(phone::Event::OpenFailed { fault, why: "it is not there".to_owned() });
                    }
                }
            }
            phone::Command::Close | phone::Command::Leave => actor.disconnect(),
            phone::Command::Reboot if there => actor.reboot(now, number),
            phone::Command::ResetUsb if there => {
                actor.disconnect();
                actor.reports.push(phone::Event::Acted { result: Ok(()) });
                self.reset_usb(place);
            }
            phone::Command::Reboot | phone::Command::ResetUsb => {
                actor.disconnect();
                actor.reports.push(phone::Event::Acted { result: Err("it is not there".to_owned()) });
            }
            phone::Command::ReadProfile => actor.read_profile(now),
            phone::Command::Probe => actor.probe(now),
            phone::Command::Inspect { rollout, within } => actor.inspect(now, rollout, within),
            phone::Command::Upkeep => actor.look_after(now),
            phone::Command::RestartAgent => actor.restart_agent(now),
            phone::Command::Provision { agent } => {
                let configured = self.temper.settings.agent.as_ref();
                if let Err(rule) = checks::standing::given(&agent, configured, &self.disk, now) {
                    self.stage.broke(rule);
                }
                actor.provision(now, agent.version_code);
            }
            phone::Command::Install { order } => {
                let at = endpoint(place);
                let phone = daemon.rack.standings().find(|standing| standing.endpoint == Some(&at));
                let phone = phone.and_then(|standing| standing.phone);
                if let Some(Err(rule)) = phone.map(|phone| checks::promised::install(phone, &order, &self.disk)) {
                    self.stage.broke(rule);
                }
                actor.install(now, order);
            }
        }
        self.flush_actor(place);
    }

    /// Half of the stalls are cured by a reset; all of them end the connection.
    fn reset_usb(&mut self, place: usize) {
        let cured = self.stage.chance.one_in(2) && self.stage.now >= self.temper.incurable_until;
        let (now, back) = (self.stage.now, self.stage.chance.millis(200, 3000));
        if let Some(handset) = self.handset_at(place) {
            if cured {
                handset.stalled_until = now;
            }
            handset.down_from = now;
            handset.down_until = now + back;
            let phone = handset.number;
            self.stage.after(Duration::ZERO, Input::Bus { phone });
            self.stage.after(back, Input::Bus { phone });
        }
    }

    /// Brings what an actor sent to its handset, and what it reports to the model's queue.
    pub(super) fn flush_actor(&mut self, place: usize) {
        let Some(actor) = self.daemon.as_mut().map(|daemon| &mut daemon.actors[place]) else { return };
        let (sent, reports) = (std::mem::take(&mut actor.sent), std::mem::take(&mut actor.reports));
        let link = actor.link();
        let broken = actor.broken.take().or_else(|| checks::reasons::actor(place, actor).err());
        if let Some(rule) = broken {
            self.stage.broke(format!("place {place}: {rule}"));
        }
        if let (Some(link), Some(handset)) =
            (link, self.handsets.iter_mut().find(|handset| handset.on_bus == Some(place)))
        {
            for message in sent {
                handset.receive(&mut self.stage, link, &message);
            }
        }
        let run = self.run();
        for event in reports {
            if let Some(at) = self.model_hears_at(Duration::ZERO) {
                self.stage.at(at, Input::Report { run, place, event });
            }
        }
    }

    pub(super) fn tell_appeared(&mut self, phone: usize, place: usize) {
        let serial = Some(self.handsets[phone].serial.clone());
        let event = Event::Appeared { endpoint: endpoint(place), serial };
        let pause = Duration::from_millis(40);
        self.tell_model_after(pause, event);
    }
}
