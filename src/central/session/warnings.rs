//! When the centre is warned of a phone: once as a reading passes its threshold, and again only after it was well for good.
//!
//! ```text
//!     well ──passed──▶ due ──sent──▶ on its way ──taken──▶ told ──well again, by the margin──▶ well
//!                       ▲                │
//!                       └── line lost ───┘
//! ```
//!
//! Invariant: a reading that swings about its threshold warns once (`a_reading_that_swings_about_its_threshold_warns_once`).
//! Invariant: a reading that nobody has read neither warns nor ends a warning.

use crate::config::Warn;
use crate::rack::event::Condition;

/// A battery is well again this many percent above its threshold.
const BATTERY_MARGIN_PERCENT: u8 = 5;
/// Storage is well again with a tenth of its threshold more.
const STORAGE_MARGIN_DIVISOR: u64 = 10;
/// A battery has cooled down this many degrees below its threshold.
const TEMPERATURE_MARGIN_CELSIUS: f32 = 3.0;
const BYTES_PER_MB: u64 = 1_000_000;

/// The warnings of one phone.
#[derive(Debug)]
pub(super) struct Warnings {
    thresholds: Warn,
    battery: Standing,
    storage: Standing,
    temperature: Standing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Standing {
    Well,
    Due,
    /// In the notice with this Id.
    OnItsWay(i64),
    Told,
}

/// What a reading says of its threshold.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Says {
    Nothing,
    Passed,
    WellAgain,
}

impl Warnings {
    pub(super) fn new(thresholds: Warn) -> Self {
        Self { thresholds, battery: Standing::Well, storage: Standing::Well, temperature: Standing::Well }
    }

    /// Takes a reading in.
    pub(super) fn read(&mut self, condition: &Condition) {
        let says = [self.battery_says(condition), self.storage_says(condition), self.temperature_says(condition)];
        for (standing, says) in self.standings().into_iter().zip(says) {
            *standing = match (*standing, says) {
                (Standing::Well, Says::Passed) => Standing::Due,
                (_, Says::WellAgain) => Standing::Well,
                (standing, _) => standing,
            };
        }
    }

    /// Whether the centre is to be told of something.
    pub(super) fn is_due(&self) -> bool {
        [self.battery, self.storage, self.temperature].contains(&Standing::Due)
    }

    /// The notice `id` tells of all that is due.
    pub(super) fn sent(&mut self, id: i64) {
        self.replace(|standing| (standing == Standing::Due).then_some(Standing::OnItsWay(id)));
    }

    /// The centre has taken the notices whose Id is so.
    pub(super) fn taken(&mut self, is_taken: impl Fn(i64) -> bool) {
        self.replace(|standing| match standing {
            Standing::OnItsWay(id) if is_taken(id) => Some(Standing::Told),
            _ => None,
        });
    }

    /// The registration is over: what was on its way may be lost.
    pub(super) fn lost(&mut self) {
        self.replace(|standing| matches!(standing, Standing::OnItsWay(_)).then_some(Standing::Due));
    }

    fn replace(&mut self, next: impl Fn(Standing) -> Option<Standing>) {
        for standing in self.standings() {
            *standing = next(*standing).unwrap_or(*standing);
        }
    }

    fn standings(&mut self) -> [&mut Standing; 3] {
        [&mut self.battery, &mut self.storage, &mut self.temperature]
    }

    fn battery_says(&self, condition: &Condition) -> Says {
        let (Some(below), Some(battery)) = (self.thresholds.battery_below_percent, condition.battery) else {
            return Says::Nothing;
        };
        // A threshold near 100 % leaves no room for the whole margin.
        let well = below.saturating_add(BATTERY_MARGIN_PERCENT).min(100);
        says(battery.level_percent < below, battery.level_percent >= well)
    }

    fn storage_says(&self, condition: &Condition) -> Says {
        let (Some(below), Some(storage)) = (self.thresholds.storage_below_mb, condition.storage) else {
            return Says::Nothing;
        };
        let below = u64::from(below) * BYTES_PER_MB;
        says(storage.free_bytes < below, storage.free_bytes >= below + below / STORAGE_MARGIN_DIVISOR)
    }

    fn temperature_says(&self, condition: &Condition) -> Says {
        let read = condition.battery.and_then(|battery| battery.temperature_celsius);
        let (Some(above), Some(read)) = (self.thresholds.temperature_above_celsius, read) else {
            return Says::Nothing;
        };
        let above = f32::from(above);
        says(read > above, read <= above - TEMPERATURE_MARGIN_CELSIUS)
    }
}

fn says(passed: bool, well: bool) -> Says {
    match (passed, well) {
        (true, _) => Says::Passed,
        (false, true) => Says::WellAgain,
        (false, false) => Says::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rack::event::BatteryCondition;
    use crate::rack::snapshot::Storage;
    use proptest::prelude::*;

    fn battery(level_percent: u8, celsius: f32) -> Condition {
        let battery = BatteryCondition { level_percent, charging: false, temperature_celsius: Some(celsius) };
        Condition { battery: Some(battery), storage: None }
    }

    fn room(megabytes: u64) -> Condition {
        let storage = Storage { free_bytes: megabytes * BYTES_PER_MB, total_bytes: 1 << 40 };
        Condition { battery: None, storage: Some(storage) }
    }

    fn warnings() -> Warnings {
        Warnings::new(Warn::default())
    }

    /// Sends what is due and has it taken; how often that was.
    fn told(warnings: &mut Warnings, readings: impl IntoIterator<Item = Condition>) -> usize {
        let tell = |condition: Condition| {
            warnings.read(&condition);
            let due = warnings.is_due();
            if due {
                warnings.sent(1);
                warnings.taken(|id| id == 1);
            }
            due
        };
        readings.into_iter().map(tell).filter(|due| *due).count()
    }

    #[test]
    fn a_reading_that_swings_about_its_threshold_warns_once() {
        assert_eq!(told(&mut warnings(), [21, 20, 19, 20, 19, 24, 19].map(|level| battery(level, 30.0))), 1);
        assert_eq!(told(&mut warnings(), [45.0, 45.1, 44.9, 45.1, 42.1, 45.1].map(|t| battery(80, t))), 1);
        assert_eq!(told(&mut warnings(), [501, 499, 501, 499, 549, 499].map(room)), 1);
    }

    #[test]
    fn what_was_well_again_by_the_margin_warns_anew() {
        assert_eq!(told(&mut warnings(), [19, 25, 19].map(|level| battery(level, 30.0))), 2);
        assert_eq!(told(&mut warnings(), [46.0, 42.0, 46.0].map(|t| battery(80, t))), 2);
        assert_eq!(told(&mut warnings(), [499, 550, 499].map(room)), 2);
    }

    #[test]
    fn what_was_on_its_way_when_the_line_ended_is_due_again() {
        let mut warnings = warnings();
        warnings.read(&battery(5, 30.0));
        warnings.sent(7);
        warnings.taken(|id| id < 7);
        assert!(!warnings.is_due());
        warnings.lost();
        assert!(warnings.is_due());
        warnings.sent(9);
        warnings.taken(|id| id < 10);
        warnings.lost();
        assert!(!warnings.is_due(), "the centre has taken it");
    }

    #[test]
    fn what_nobody_has_read_says_nothing() {
        let mut warnings = warnings();
        warnings.read(&Condition::default());
        assert!(!warnings.is_due());
        warnings.read(&battery(5, 30.0));
        warnings.read(&Condition::default());
        assert!(warnings.is_due());
    }

    #[test]
    fn a_threshold_that_is_off_is_never_passed() {
        let off = Warn { battery_below_percent: None, storage_below_mb: None, temperature_above_celsius: None };
        assert_eq!(told(&mut Warnings::new(off), [battery(0, 99.0), room(0)]), 0);
        let full = Warn { battery_below_percent: Some(100), ..off };
        assert_eq!(told(&mut Warnings::new(full), [99, 100, 99].map(|level| battery(level, 30.0))), 2);
    }

    proptest! {
        #[test]
        fn each_warning_follows_a_reading_that_passed_and_one_that_was_well(levels in prop::collection::vec(0..=100u8, 1..80)) {
            let mut crossings = 0;
            let mut is_low = false;
            for level in &levels {
                if *level < 20 && !is_low {
                    crossings += 1;
                }
                is_low = *level < 20 || is_low && *level < 25;
            }
            let told = told(&mut warnings(), levels.into_iter().map(|level| battery(level, 30.0)));
            prop_assert_eq!(told, crossings);
        }
    }
}
