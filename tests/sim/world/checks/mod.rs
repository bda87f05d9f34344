//! The rules that hold after every step, each in a file of its own.

pub(super) mod budget;
pub(super) mod dark;
pub(super) mod detached;
pub(super) mod forecast;
pub(super) mod incident;
pub(super) mod lease;
pub(super) mod limits;
pub(super) mod line;
pub(super) mod pace;
pub(super) mod place;
pub(super) mod promised;
pub(super) mod reasons;
pub(super) mod standing;
pub(super) mod well;

use farmhand::clock::Moment;
use farmhand::phone::Command;
use farmhand::rack::ids::{Endpoint, HubPort, PhoneId};
use farmhand::rack::snapshot::PortMode;

use self::budget::Budget;
use self::dark::Dark;
use self::incident::Incidents;
use self::pace::Paces;
use super::World;
use super::centre::Heard;
use super::disk::Disk;
use super::handset::Handset;
use super::stage::Stage;

/// What the checks remember from step to step.
#[derive(Debug, Default)]
pub(super) struct Watch {
    budget: Budget,
    pub(super) dark: Dark,
    /// The wall clock was set, and the disk does not know it yet: what it says of times is worth nothing.
    clock_unknown: bool,
    pub(super) incidents: Incidents,
    pub(super) paces: Paces,
}

impl Watch {
    /// A new daemon knows what the one before has switched, unless the clock was set under it at the last moment.
    pub(super) fn daemon_started(&mut self) {
        self.incidents = Incidents::default();
        self.paces = Paces::default();
        self.dark.daemon_started();
        self.budget.daemon_started();
        if std::mem::take(&mut self.clock_unknown) {
            self.budget = Budget::default();
        }
    }

    pub(super) fn clock_is_set(&mut self) {
        self.clock_unknown = true;
    }

    pub(super) fn clock_is_known(&mut self) {
        self.clock_unknown = false;
    }

    /// The model switches a port; `why` says on whose account.
    pub(super) fn switched(
        &mut self,
        now: Moment,
        port: HubPort,
        mode: PortMode,
        why: &str,
        disk: &Disk,
    ) -> Result<(), String> {
        self.budget.switched(now, format!("port {port}"), mode, why)?;
        self.dark.switched(port, mode, why, disk)
    }

    /// The model orders something of the phone at `at`.
    pub(super) fn ordered(&mut self, now: Moment, at: &Endpoint, command: &Command) -> Result<(), String> {
        self.budget.ordered(now, at, command)
    }

    /// What the centre heard from a line.
    pub(super) fn heard(&mut self, stage: &mut Stage, handsets: &[Handset], phone: &PhoneId, heard: &Heard) {
        if let Err(rule) = line::heard(stage.now, handsets, phone, heard) {
            stage.broke(rule);
        }
    }
}

/// Looks at everything that a step may have changed.
pub(super) fn after_step(world: &mut World) {
    let now = world.stage.now;
    let Some(daemon) = &mut world.daemon else { return };
    let mut broken = line::only_for_who_answers(now, &daemon.lines, &world.handsets);
    if std::mem::take(&mut daemon.touched) {
        broken = broken
            .and_then(|()| place::each_phone_once(&daemon.rack))
            .and_then(|()| reasons::phones(&daemon.rack))
            .and_then(|()| world.watch.incidents.look(now, &daemon.rack, &world.hub))
            .and_then(|()| line::only_for_who_is_there(&daemon.rack, &daemon.lines));
    }
    if let Err(rule) = broken {
        world.stage.broke(rule);
    }
}
