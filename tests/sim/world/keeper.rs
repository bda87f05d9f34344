//! The keeper of the power cycles' ledger, as the daemon has it: the newest is committed, what was overtaken is skipped.

use farmhand::rack::event::PowerPromise;
use farmhand::rack::snapshot::PortMode;
use farmhand::rack::{Event, PowerLedger};

use super::World;
use super::input::Input;
use super::trouble::Trouble;

#[derive(Debug, Default)]
pub(super) struct Keeper {
    /// What the store has not committed yet.
    pub(super) committing: Option<(u64, PowerLedger)>,
    newest: Option<(u64, PowerLedger)>,
}

impl World {
    pub(super) fn promise_power(&mut self, number: u64, ledger: PowerLedger) {
        let Some(daemon) = &mut self.daemon else { return };
        daemon.keeper.newest = Some((number, ledger));
        self.drive_keeper();
    }

    pub(super) fn power_committed(&mut self) {
        let Some(daemon) = &mut self.daemon else { return };
        let Some((number, ledger)) = daemon.keeper.committing.take() else { return };
        if daemon.keeper.newest.is_none() {
            self.watch.clock_is_known();
        }
        self.disk.power = ledger;
        self.tell_model(Event::Power(PowerPromise::Kept { number }));
        self.drive_keeper();
    }

    fn drive_keeper(&mut self) {
        let run = self.run();
        let Some(keeper) = self.daemon.as_mut().map(|daemon| &mut daemon.keeper) else { return };
        if keeper.committing.is_some() || keeper.newest.is_none() {
            return;
        }
        keeper.committing = keeper.newest.take();
        let slow = self.stage.now < self.temper.slow_store_until;
        let pause = if slow { self.stage.chance.seconds(1, 30) } else { self.stage.chance.millis(2, 15) };
        self.stage.after(pause, Input::PowerCommitted { run });
    }

    /// The worst moment for a daemon to die is while a port is off by its doing.
    pub(super) fn may_crash_in_the_dark(&mut self, mode: PortMode, why: &str) {
        let is_cycle = mode == PortMode::Off && why.starts_with("recovery");
        if is_cycle && !self.is_calm() && self.temper.kinds.contains(&Trouble::Crash) && self.stage.chance.one_in(3) {
            let after = self.stage.chance.millis(0, 5000);
            self.stage.after(after, Input::Crash);
        }
    }
}
