//! What commands write on: tables that fit the terminal, colours where a terminal shows them, ages in words.

use std::fmt::Write as _;
use std::io::IsTerminal;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use crate::clock::UnixMillis;
use crate::rack::snapshot::DeadlineView;

/// Where the output goes, and when.
pub(super) struct Paper {
    /// The terminal's columns; a file has no end of line.
    columns: Option<usize>,
    ink: Ink,
    now: UnixMillis,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ink {
    Colours,
    Plain,
}

/// In which form what is read from the daemon is shown.
#[derive(Clone, Copy, Debug, clap::Args)]
pub(super) struct Form {
    /// Print the API's answer as JSON
    #[arg(long = "json")]
    as_json: bool,
}

impl Form {
    /// For programs, or by `text` for people.
    pub(super) fn of<T: Serialize>(self, value: &T, text: impl FnOnce(&T) -> String) -> String {
        if self.as_json { json(value) } else { text(value) }
    }
}

/// What a word means to the reader.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    Good,
    Busy,
    Bad,
    Quiet,
    Plain,
}

/// One cell of a table.
pub(super) struct Cell(Tone, String);

impl Cell {
    pub(super) fn toned(tone: Tone, text: impl Into<String>) -> Self {
        Self(tone, text.into())
    }
}

impl<T: ToString> From<T> for Cell {
    fn from(text: T) -> Self {
        Self(Tone::Plain, text.to_string())
    }
}

/// Narrower than this, a last column says nothing any more.
const LAST_COLUMN_MIN: usize = 12;
/// Between two columns.
const GAP: &str = "  ";

impl Paper {
    pub(super) fn of_stdout() -> Self {
        let terminal = std::io::stdout().is_terminal();
        let plain = !terminal || std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let columns = terminal_size::terminal_size().filter(|_| terminal).map(|(width, _)| usize::from(width.0));
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        let now = UnixMillis(i64::try_from(now).unwrap_or(i64::MAX));
        Self { columns, ink: if plain { Ink::Plain } else { Ink::Colours }, now }
    }

    /// The terminal's columns; a file has no end of line.
    pub(super) fn columns(&self) -> Option<usize> {
        self.columns
    }

    /// A terminal of so many columns without colours.
    #[cfg(test)]
    pub(super) fn plain(columns: usize) -> Self {
        Self { columns: Some(columns), ink: Ink::Plain, now: UnixMillis(1_000_000_000) }
    }

    /// `text` in the colour of its meaning.
    pub(super) fn paint(&self, tone: Tone, text: &str) -> String {
        let code = match tone {
            _ if self.ink == Ink::Plain => return text.to_owned(),
            Tone::Plain => return text.to_owned(),
            Tone::Good => "32",
            Tone::Busy => "33",
            Tone::Bad => "1;31",
            Tone::Quiet => "2",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }

    /// A table with a heading. The last column is cut where the terminal ends.
    pub(super) fn table(&self, heading: &[&str], rows: Vec<Vec<Cell>>) -> String {
        let heading = heading.iter().map(|word| Cell::toned(Tone::Quiet, *word)).collect();
        self.sheet(std::iter::once(heading).chain(rows).collect())
    }

    /// A table without a heading.
    pub(super) fn sheet(&self, rows: Vec<Vec<Cell>>) -> String {
        let mut widths = vec![0; rows.iter().map(Vec::len).max().unwrap_or(0)];
        for row in &rows {
            for (width, cell) in widths.iter_mut().zip(row) {
                *width = (*width).max(cell.1.chars().count());
            }
        }
        if let (Some(columns), Some((last, others))) = (self.columns, widths.split_last_mut()) {
            let taken: usize = others.iter().map(|width| width + GAP.len()).sum();
            *last = (*last).min(columns.saturating_sub(taken).max(LAST_COLUMN_MIN));
        }
        let mut text = String::new();
        for row in rows {
            self.row(&mut text, &widths, &row);
        }
        text
    }

    fn row(&self, text: &mut String, widths: &[usize], row: &[Cell]) {
        for (i, (width, Cell(tone, word))) in widths.iter().zip(row).enumerate() {
            let word = cut(word, *width);
            let last = i + 1 == row.len().min(widths.len());
            let padding = if last { 0 } else { width - word.chars().count() };
            let gap = if last { "" } else { GAP };
            let _ = write!(text, "{}{:padding$}{gap}", self.paint(*tone, &word), "");
        }
        text.truncate(text.trim_end().len());
        text.push('\n');
    }

    /// How long ago `at` was, roughly: `12 s`, `5 min`, `3 h`, `2 d`.
    pub(super) fn age(&self, at: UnixMillis) -> String {
        rough(self.now.0.saturating_sub(at.0).max(0) / 1000)
    }

    /// As [`Self::age`], as something that is over: `12 s ago`, or a dash for what never was.
    pub(super) fn ago_or_dash(&self, at: Option<UnixMillis>) -> String {
        at.map_or_else(|| DASH.to_owned(), |at| format!("{} ago", self.age(at)))
    }

    /// How long it is until `at`: `2 h`.
    pub(super) fn time_left(&self, at: UnixMillis) -> String {
        rough(at.0.saturating_sub(self.now.0).max(0).saturating_add(999) / 1000)
    }

    /// What is waited for, and how long that takes at most from now on: `the next heartbeat, in 12 s`.
    pub(super) fn wait_or_dash(&self, deadline: Option<&DeadlineView>) -> String {
        or_dash(deadline.map(|deadline| match deadline.at.0.saturating_sub(self.now.0) {
            over @ ..=0 => {
                let late = rough(over.saturating_neg() / 1000);
                format!("{}, due {late} ago", deadline.why)
            }
            left => format!("{}, in {}", deadline.why, rough((left.saturating_add(999)) / 1000)),
        }))
    }
}

fn rough(seconds: i64) -> String {
    match seconds {
        ..=119 => format!("{seconds} s"),
        120..=7_199 => format!("{} min", seconds / 60),
        7_200..=172_799 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// Stands for what is not known.
pub(super) const DASH: &str = "–";

/// `text` of something that may not be known.
pub(super) fn or_dash(text: Option<impl ToString>) -> String {
    text.map_or_else(|| DASH.to_owned(), |text| text.to_string())
}

/// As the API writes it, with indentation.
pub(super) fn json(value: &impl Serialize) -> String {
    // Our own types always can be written: their keys are texts.
    serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
}

fn cut(text: &str, width: usize) -> String {
    let text = text.replace(['\n', '\r', '\t', '\x1b'], " ");
    if text.chars().count() <= width {
        return text;
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paper(columns: usize) -> Paper {
        Paper::plain(columns)
    }

    #[test]
    fn the_last_column_ends_where_the_terminal_ends() {
        let row = vec![Cell::from("A1"), Cell::from("it does not answer the probe any more")];
        let text = paper(24).table(&["SLOT", "WHY"], vec![row]);
        assert_eq!(text, "SLOT  WHY\nA1    it does not answe…\n");
    }

    #[test]
    fn a_phone_cannot_paint_on_the_terminal() {
        let text = paper(80).table(&["MODEL"], vec![vec![Cell::from("\x1b[2Jx\ny")]]);
        assert_eq!(text, "MODEL\n [2Jx y\n");
    }

    #[test]
    fn ages_are_read_at_a_glance() {
        let ago = |seconds: i64| paper(80).age(UnixMillis(1_000_000_000 - seconds * 1000));
        let wait = |seconds: i64| {
            let at = UnixMillis(1_000_000_000 + seconds * 1000);
            paper(80).wait_or_dash(Some(&DeadlineView { at, why: "the next attempt".to_owned() }))
        };
        assert_eq!([wait(7), wait(600)], ["the next attempt, in 7 s", "the next attempt, in 10 min"]);
        assert_eq!(wait(-3), "the next attempt, due 3 s ago");
        assert_eq!([ago(-5), ago(0), ago(119), ago(120), ago(7200)], ["0 s", "0 s", "119 s", "2 min", "2 h"]);
    }
}
