//! `farmhand rollout watch`: the waves as bars and the phones as cells on a terminal, a line for each change elsewhere.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::super::paper::{Paper, Tone};
use super::super::{Heard, tell};
use super::{progress, tone_of, tone_of_phone};
use crate::rack::ids::{PhoneId, SlotName};
use crate::rack::snapshot::{RolloutPhoneState, RolloutState, RolloutView};

/// The width of a bar, in columns.
const BAR: usize = 24;
/// Phones whose reasons are shown; the others are counted.
const REASONS_MAX: usize = 6;
/// The columns of a terminal that tells none.
const USUAL_COLUMNS: usize = 80;

/// The slots of phones, which people know them by.
pub(super) type Slots = BTreeMap<PhoneId, SlotName>;

/// The sign of a phone's state; the page has the same ones.
const fn sign(state: RolloutPhoneState) -> char {
    match state {
        RolloutPhoneState::Waiting => '○',
        RolloutPhoneState::Parked => '◌',
        RolloutPhoneState::Installing => '◑',
        RolloutPhoneState::Done => '✓',
        RolloutPhoneState::Failed => '✕',
        RolloutPhoneState::NeedsHand => '!',
        RolloutPhoneState::Skipped => '–',
        RolloutPhoneState::RollingBack => '↶',
        RolloutPhoneState::RolledBack => '↩',
    }
}

/// Draws a rollout over and over in the same place of a terminal.
pub(super) struct Screen<'p> {
    paper: &'p Paper,
    slots: Slots,
    lines: usize,
}

impl<'p> Screen<'p> {
    pub(super) fn new(paper: &'p Paper, slots: Slots) -> Self {
        Self { paper, slots, lines: 0 }
    }

    pub(super) fn show(&mut self, view: &RolloutView) -> Heard {
        let frame = frame(view, &self.slots, self.paper);
        let back = if self.lines > 0 { format!("\x1b[{}A\x1b[J", self.lines) } else { String::new() };
        self.lines = frame.lines().count();
        tell(&format!("{back}{frame}"))
    }
}

/// One picture of a rollout. No line is longer than the terminal is wide, or it could not be drawn over.
fn frame(view: &RolloutView, slots: &Slots, paper: &Paper) -> String {
    let columns = paper.columns().unwrap_or(USUAL_COLUMNS);
    let fit = |line: String| line.chars().take(columns).collect::<String>();
    let state = paper.paint(tone_of(view.state), view.state.as_str());
    let head = format!("{}  {} {} ({})  ", view.id, view.package, view.version_name, view.version_code);
    let mut text = format!("{}{state}, {} done\n{}\n", fit(head), progress(view), fit(view.why.clone()));
    for (number, wave) in view.waves.iter().enumerate() {
        let done = wave.phones.iter().filter(|phone| phone.state == RolloutPhoneState::Done).count();
        let settled = wave.phones.iter().filter(|phone| phone.state.is_settled()).count();
        let of = |count: usize| count * BAR / wave.phones.len().max(1);
        let bar = paper.paint(Tone::Good, &"█".repeat(of(done)))
            + &paper.paint(Tone::Bad, &"▒".repeat(of(settled) - of(done)))
            + &paper.paint(Tone::Quiet, &"░".repeat(BAR - of(settled)));
        let count = format!("{done}/{}", wave.phones.len());
        let _ = write!(text, "wave {:<3} {bar} {count:>9}  ", number + 1);
        let room = columns.saturating_sub(9 + BAR + 12).max(8);
        for (row, phones) in wave.phones.chunks(room).enumerate() {
            if row > 0 {
                let _ = write!(text, "{:1$}", "", 9 + BAR + 12);
            }
            for phone in phones {
                text += &paper.paint(tone_of_phone(phone.state), &sign(phone.state).to_string());
            }
            text.push('\n');
        }
    }
    text + &reasons(view, slots, columns) + &fit(legend(view)) + "\n"
}

/// The signs; those of a rollback only where there is one.
fn legend(view: &RolloutView) -> String {
    let has = |state| view.waves.iter().flat_map(|wave| &wave.phones).any(|phone| phone.state == state);
    let of_rollback = [RolloutPhoneState::RollingBack, RolloutPhoneState::RolledBack];
    let shown = RolloutPhoneState::ALL.into_iter().filter(|state| !of_rollback.contains(state) || has(*state));
    let named = shown.map(|state| format!("{} {}", sign(state), state.as_str().replace('_', " ")));
    named.collect::<Vec<_>>().join("  ")
}

/// Why phones failed or wait, the worst first.
fn reasons(view: &RolloutView, slots: &Slots, columns: usize) -> String {
    let order = [
        RolloutPhoneState::Failed,
        RolloutPhoneState::NeedsHand,
        RolloutPhoneState::Waiting,
        RolloutPhoneState::Parked,
    ];
    let phones = || view.waves.iter().flat_map(|wave| &wave.phones);
    let told: Vec<String> = order
        .into_iter()
        .flat_map(|state| phones().filter(move |phone| phone.state == state))
        .filter_map(|phone| {
            Some(format!("{} {}: {}", sign(phone.state), name(&phone.phone, slots), phone.why.as_ref()?))
        })
        .collect();
    let mut text = String::new();
    for line in told.iter().take(REASONS_MAX) {
        let _ = writeln!(text, "{}", line.replace(['\n', '\r', '\x1b'], " ").chars().take(columns).collect::<String>());
    }
    if told.len() > REASONS_MAX {
        let _ = writeln!(text, "and {} more: farmhand rollout show {}", told.len() - REASONS_MAX, view.id);
    }
    text
}

fn name(phone: &PhoneId, slots: &Slots) -> String {
    slots.get(phone).map_or_else(|| phone.to_string(), |slot| format!("{slot} ({phone})"))
}

/// Says a line for each change, for files and pipes.
#[derive(Default)]
pub(super) struct Lines {
    slots: Slots,
    rollout: Option<(RolloutState, String)>,
    phones: BTreeMap<PhoneId, RolloutPhoneState>,
}

impl Lines {
    pub(super) fn new(slots: Slots) -> Self {
        Self { slots, ..Self::default() }
    }

    pub(super) fn show(&mut self, view: &RolloutView) -> Heard {
        let text = self.changes(view);
        if text.is_empty() { Heard::Yes } else { tell(&text) }
    }

    fn changes(&mut self, view: &RolloutView) -> String {
        let mut text = String::new();
        for phone in view.waves.iter().flat_map(|wave| &wave.phones) {
            let before = self.phones.insert(phone.phone.clone(), phone.state);
            let is_news = before.map_or(phone.state != RolloutPhoneState::Waiting, |before| before != phone.state);
            if is_news {
                let why = phone.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
                let state = phone.state.as_str().replace('_', " ");
                let _ = writeln!(text, "{} {} {state}{why}", view.id, name(&phone.phone, &self.slots));
            }
        }
        let now = (view.state, view.why.clone());
        if self.rollout.as_ref() != Some(&now) {
            let state = view.state.as_str().replace('_', " ");
            let _ = writeln!(text, "{} {state}, {} done: {}", view.id, progress(view), view.why);
            self.rollout = Some(now);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::UnixMillis;
    use crate::rack::ids::{PackageName, RolloutId, VersionCode};
    use crate::rack::snapshot::{RolloutPhoneView, WaveView};

    fn view(states: &[&[RolloutPhoneState]]) -> RolloutView {
        let phone = |(place, state): (usize, &RolloutPhoneState)| RolloutPhoneView {
            phone: PhoneId::new(format!("P{}", place + 1)),
            state: *state,
            why: (*state == RolloutPhoneState::Failed).then(|| "its storage is full".to_owned()),
            attempts: 1,
        };
        RolloutView {
            id: RolloutId::new("R7"),
            state: RolloutState::Running,
            why: "wave 2 of 2: 1 of 3 phones done".to_owned(),
            package: PackageName::new("org.example.agent"),
            version_code: VersionCode(2),
            version_name: "2.0".to_owned(),
            created: UnixMillis(0),
            waves: states
                .iter()
                .map(|wave| WaveView { phones: wave.iter().enumerate().map(phone).collect() })
                .collect(),
        }
    }

    #[test]
    fn a_picture_has_a_bar_for_each_wave_and_a_cell_for_each_phone() {
        use RolloutPhoneState::{Done, Failed, Installing, Waiting};
        let view = view(&[&[Done], &[Done, Failed, Installing, Waiting]]);
        let text = frame(&view, &Slots::new(), &Paper::plain(80));
        let expected = "\
R7  org.example.agent 2.0 (2)  running, 2/5 done
wave 2 of 2: 1 of 3 phones done
wave 1   ████████████████████████       1/1  ✓
wave 2   ██████▒▒▒▒▒▒░░░░░░░░░░░░       1/4  ✓✕◑○
✕ P2: its storage is full
○ waiting  ◌ parked  ◑ installing  ✓ done  ✕ failed  ! needs hand  – skipped
";
        assert_eq!(text, expected);
    }

    #[test]
    fn a_long_wave_goes_on_in_the_next_line_and_no_line_is_too_long() {
        let many = [RolloutPhoneState::Waiting; 100];
        let text = frame(&view(&[&many]), &Slots::new(), &Paper::plain(80));
        assert_eq!(text.chars().filter(|sign| *sign == '○').count(), 101, "and one in the legend");
        assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    }

    #[test]
    fn elsewhere_each_change_is_a_line_once() {
        use RolloutPhoneState::{Done, Installing, Waiting};
        let mut lines = Lines::new([(PhoneId::new("P1"), SlotName::new("A1"))].into());
        let first = lines.changes(&view(&[&[Installing, Waiting]]));
        assert_eq!(first, "R7 A1 (P1) installing\nR7 running, 0/2 done: wave 2 of 2: 1 of 3 phones done\n");
        assert_eq!(lines.changes(&view(&[&[Installing, Waiting]])), "");
        assert_eq!(lines.changes(&view(&[&[Done, Waiting]])), "R7 A1 (P1) done\n");
    }
}
