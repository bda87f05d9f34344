//! What a row of looks at a phone tells: how each thing that is wanted stands, how often it was lost, and whether restarts took it.

use super::snapshot::{SettingState, SettingView, UpkeepView};
use crate::clock::{Moment, UnixMillis};
use crate::phone::upkeep::{AimResult, Report};

/// What is known of a phone's upkeep since the daemon started.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Upkept {
    looked: Option<Moment>,
    recipes: Vec<String>,
    entries: Vec<Entry>,
}

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    view: SettingView,
    /// When it was last as wanted, and when the phone's kernel had started then.
    good: Option<Good>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Good {
    started: Option<UnixMillis>,
}

impl Upkept {
    /// Takes in a look at a phone whose kernel had `started` then. What is wanted no more is forgotten; a look that came to nothing at all
    /// tells nothing.
    pub(super) fn take_in(&mut self, now: Moment, started: Option<UnixMillis>, report: Report) {
        if report.results.is_empty() {
            return;
        }
        let mut before = std::mem::take(&mut self.entries);
        self.looked = Some(now);
        self.recipes = report.recipes;
        for (name, result) in report.results {
            let known = before.iter().position(|entry| entry.view.name == name);
            let mut entry = known.map_or_else(|| Entry::new(name), |index| before.swap_remove(index));
            entry.take_in(started, result);
            self.entries.push(entry);
        }
    }

    /// As everyone sees it; `wall` makes wall time of a moment.
    pub(super) fn view(&self, wall: impl Fn(Moment) -> UnixMillis) -> UpkeepView {
        UpkeepView {
            looked: self.looked.map(wall),
            recipes: self.recipes.clone(),
            settings: self.entries.iter().map(|entry| entry.view.clone()).collect(),
        }
    }
}

impl Entry {
    fn new(name: String) -> Self {
        let (state, why) = (SettingState::Unread, String::new());
        let view = SettingView { name, state, why, drifts: 0, lost_by_restart: 0, restarts_outlived: 0 };
        Self { view, good: None }
    }

    fn take_in(&mut self, started: Option<UnixMillis>, result: AimResult) {
        let restarted =
            self.good.is_some_and(|good| good.started.is_some() && started.is_some() && good.started != started);
        let (state, why) = match result {
            AimResult::Kept => (SettingState::Kept, String::new()),
            AimResult::Set { was } => (SettingState::Set, was),
            AimResult::Refused { was: _, why } => (SettingState::Refused, why),
            AimResult::Unread { why } => (SettingState::Unread, why),
            AimResult::NotHere { why } => (SettingState::NotHere, why),
            AimResult::Hand { what } => (SettingState::Hand, what),
        };
        if state == SettingState::Kept && restarted {
            self.view.restarts_outlived += 1;
        }
        if matches!(state, SettingState::Set | SettingState::Refused) && self.good.is_some() {
            self.view.drifts += 1;
            self.view.lost_by_restart += u32::from(restarted);
        }
        self.good = match state {
            SettingState::Kept | SettingState::Set => Some(Good { started }),
            // Nothing is known anew.
            SettingState::Unread => self.good,
            SettingState::Refused | SettingState::NotHere | SettingState::Hand => None,
        };
        (self.view.state, self.view.why) = (state, why);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const FIRST: Option<UnixMillis> = Some(UnixMillis(1_000));
    const SECOND: Option<UnixMillis> = Some(UnixMillis(900_000));

    fn set() -> AimResult {
        AimResult::Set { was: "it was `ignore`".to_owned() }
    }

    fn refused() -> AimResult {
        AimResult::Refused {
            was: "it was `ignore`".to_owned(),
            why: "it was `ignore` also after it was set".to_owned(),
        }
    }

    fn unread() -> AimResult {
        AimResult::Unread { why: "no answer in 10 s".to_owned() }
    }

    /// How it stands after these looks: drifts, of them by a restart, and restarts outlived.
    fn counts(looks: &[(Option<UnixMillis>, AimResult)]) -> (u32, u32, u32) {
        let mut upkept = Upkept::default();
        for (started, result) in looks {
            let report = Report { recipes: Vec::new(), results: vec![("autostart".to_owned(), result.clone())] };
            upkept.take_in(Moment::START, *started, report);
        }
        let view = upkept.view(|_| UnixMillis(0)).settings.remove(0);
        (view.drifts, view.lost_by_restart, view.restarts_outlived)
    }

    #[test]
    fn the_first_time_that_it_is_set_is_no_drift() {
        assert_eq!(counts(&[(FIRST, set()), (FIRST, AimResult::Kept)]), (0, 0, 0));
    }

    #[test]
    fn what_a_restart_took_is_told_from_what_went_by_itself() {
        assert_eq!(counts(&[(FIRST, set()), (FIRST, set())]), (1, 0, 0));
        assert_eq!(counts(&[(FIRST, set()), (SECOND, set())]), (1, 1, 0));
        assert_eq!(counts(&[(FIRST, set()), (SECOND, AimResult::Kept), (SECOND, AimResult::Kept)]), (0, 0, 1));
        assert_eq!(counts(&[(FIRST, set()), (None, set())]), (1, 0, 0), "nobody knows whether it restarted");
    }

    #[test]
    fn what_never_was_as_wanted_cannot_be_lost() {
        assert_eq!(counts(&[(FIRST, refused()), (FIRST, refused()), (SECOND, refused())]), (0, 0, 0));
        assert_eq!(counts(&[(FIRST, set()), (FIRST, refused()), (FIRST, refused())]), (1, 0, 0), "it is lost once");
    }

    #[test]
    fn what_could_not_be_read_changes_nothing() {
        assert_eq!(counts(&[(FIRST, set()), (FIRST, unread()), (SECOND, set())]), (1, 1, 0));
        assert_eq!(counts(&[(FIRST, unread()), (FIRST, set())]), (0, 0, 0));
    }

    #[test]
    fn what_is_wanted_no_more_is_forgotten() {
        let mut upkept = Upkept::default();
        let report = |names: &[&str]| Report {
            recipes: Vec::new(),
            results: names.iter().map(|name| ((*name).to_owned(), AimResult::Kept)).collect(),
        };
        upkept.take_in(Moment::START, FIRST, report(&["a", "b", "c"]));
        upkept.take_in(Moment::START, FIRST, report(&["c", "a"]));
        let names: Vec<String> = upkept.view(|_| UnixMillis(7)).settings.into_iter().map(|one| one.name).collect();
        assert_eq!(names, ["c", "a"]);
        let before = upkept.clone();
        upkept.take_in(Moment::START, SECOND, Report::default());
        assert_eq!(upkept, before, "its connection was gone");
    }

    proptest! {
        #[test]
        fn no_row_of_looks_counts_more_than_it_has(looks in proptest::collection::vec(
            (0i64..4, prop_oneof![Just(AimResult::Kept), Just(set()), Just(refused()), Just(unread())]),
            1..40,
        )) {
            let looks: Vec<_> = looks.into_iter().map(|(started, result)| (Some(UnixMillis(started)), result)).collect();
            let (drifts, by_restart, outlived) = counts(&looks);
            let changed = looks.iter().filter(|(_, result)| matches!(result, AimResult::Set { .. } | AimResult::Refused { .. })).count();
            let kept = looks.iter().filter(|(_, result)| *result == AimResult::Kept).count();
            prop_assert!(by_restart <= drifts && drifts as usize <= changed && outlived as usize <= kept);
        }
    }
}
