//! The rules that hold after every step, each in a file of its own.

pub(super) mod budget;
pub(super) mod incident;
pub(super) mod line;
pub(super) mod place;
pub(super) mod promised;
pub(super) mod reasons;
pub(super) mod well;

use farmhand::rack::ids::PhoneId;

use self::budget::Budget;
use self::incident::Incidents;
use super::World;
use super::centre::Heard;
use super::handset::Handset;
use super::stage::Stage;

/// What the checks remember from step to step.
#[derive(Debug, Default)]
pub(super) struct Watch {
    pub(super) budget: Budget,
    pub(super) incidents: Incidents,
}

impl Watch {
    /// A new daemon has a new budget, as it has forgotten what it switched.
    pub(super) fn daemon_started(&mut self) {
        self.budget = Budget::default();
        self.incidents = Incidents::default();
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
