//! `[rollout] windows`: the hours in which something may begin, by the clock on a wall in the rack's time zone.
//!
//! A time is in a window if the wall's clock says so then. So an hour that is skipped in spring lets nothing begin, and an hour that comes
//! twice in autumn lets things begin twice.
//!
//! Invariant: between now and [`Windows::next_change`] nothing changes (`tests`).

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use jiff::civil::{Date, DateTime, Weekday};
use jiff::tz::TimeZone;

use crate::clock::UnixMillis;

/// Where no window is named nothing is ever shut. A window that falls into the hour that spring takes is there a week later, and so looks
/// reach over two weeks.
const DAYS_AHEAD: usize = 15;
const DAY_MINUTES: u16 = 24 * 60;
const DAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];
/// How far ahead a time may lie at which something shall begin.
const AHEAD_MAX_MS: i64 = 90 * 86_400_000;

/// The hours in which something may begin. Without a window these are all hours.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Windows {
    /// Each of them.
    pub each: Vec<Window>,
    /// By whose clock.
    pub zone: Zone,
}

/// A time zone, and what its owner calls it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    name: String,
    zone: TimeZone,
}

impl Default for Zone {
    fn default() -> Self {
        Self { name: "UTC".to_owned(), zone: TimeZone::UTC }
    }
}

impl Zone {
    /// That of the host; UTC where it has none.
    #[cfg(feature = "daemon")]
    #[must_use]
    pub fn of_host() -> Self {
        Self { name: "system".to_owned(), zone: TimeZone::try_system().unwrap_or(TimeZone::UTC) }
    }

    /// The zone of this name in the host's database, such as `Europe/Berlin`, or `system`; `None` if it has none.
    #[cfg(feature = "daemon")]
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        if name == "system" {
            return Some(Self::of_host());
        }
        TimeZone::get(name).ok().map(|zone| Self { name: name.to_owned(), zone })
    }

    /// What its owner calls it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// A time as people of this zone say it: `Sat 28 Nov 2026, 22:00 (Europe/Berlin)`.
    #[must_use]
    pub fn say(&self, at: UnixMillis) -> String {
        let Some(time) = stamp(at) else { return format!("{} ms after 1970", at.0) };
        let name = if self.name == "system" { self.zone.iana_name().unwrap_or("the host's time") } else { &self.name };
        format!("{} ({name})", self.zone.to_datetime(time).strftime("%a %-d %b %Y, %H:%M"))
    }

    /// The time that a text names, as seen at `now`: `22:00` for the next one of the clock, `2026-11-28 22:00` by this zone's clock, or
    /// with an offset of its own, `2026-11-28T22:00:00+01:00`. A time that comes twice is the first of the two, and one that is skipped is
    /// as long after the gap as it would have been after its beginning.
    ///
    /// # Errors
    /// It names no time, one that is over, or one more than 90 days ahead.
    pub fn read(&self, text: &str, now: UnixMillis) -> Result<UnixMillis, NoTime> {
        let text = text.trim();
        let at = self.named_time(text, now).ok_or(NoTime::Nonsense)?;
        match at.0.saturating_sub(now.0) {
            ..=0 => Err(NoTime::Over),
            AHEAD_MAX_MS.. => Err(NoTime::TooFar),
            _ => Ok(at),
        }
    }

    fn named_time(&self, text: &str, now: UnixMillis) -> Option<UnixMillis> {
        if let Some(minutes) = clock_time(text).filter(|minutes| *minutes < DAY_MINUTES) {
            let today = self.zone.to_datetime(stamp(now)?).date();
            let of = |date: Date| self.zone.to_timestamp(at_minutes(date, minutes)?).ok().map(millis);
            return of(today).filter(|at| *at > now).or_else(|| of(today.tomorrow().ok()?));
        }
        if let Ok(exact) = text.parse::<Timestamp>() {
            return Some(millis(exact));
        }
        self.zone.to_timestamp(text.parse::<DateTime>().ok()?).ok().map(millis)
    }
}

/// Why a text names no time at which something could begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoTime {
    /// It is none.
    #[error("is no time")]
    Nonsense,
    /// It has passed.
    #[error("is over")]
    Over,
    /// Nobody plans so far ahead; it is a slip of the keyboard.
    #[error("is more than 90 days ahead")]
    TooFar,
}

impl Windows {
    /// Whether something may begin at this time.
    #[must_use]
    pub fn are_open(&self, at: UnixMillis) -> bool {
        let Some(time) = stamp(at) else { return self.each.is_empty() };
        let local = self.zone.zone.to_datetime(time);
        let minute = u16::from(local.hour().unsigned_abs()) * 60 + u16::from(local.minute().unsigned_abs());
        self.each.is_empty() || self.each.iter().any(|window| window.contains(local.weekday(), minute))
    }

    /// When [`Self::are_open`] next says something else than at `at`; `None` if it does not within two weeks.
    #[must_use]
    pub fn next_change(&self, at: UnixMillis) -> Option<UnixMillis> {
        if self.each.is_empty() {
            return None;
        }
        let zone = &self.zone.zone;
        let now = stamp(at)?;
        let mut day = zone.to_datetime(now).date().yesterday().ok()?;
        let mut turns: BTreeSet<UnixMillis> = BTreeSet::new();
        for _ in 0..=DAYS_AHEAD {
            for minutes in self.each.iter().flat_map(|window| [window.from, window.until]) {
                let Some(civil) = at_minutes(day, minutes) else { continue };
                let either = zone.to_ambiguous_timestamp(civil);
                turns.extend([either.earlier(), either.later()].into_iter().flatten().map(millis));
            }
            day = day.tomorrow().ok()?;
        }
        let last = turns.last().copied()?;
        let jumps = zone.following(now).map(|jump| millis(jump.timestamp()));
        turns.extend(jumps.take_while(|jump| *jump <= last));
        let open = self.are_open(at);
        turns.into_iter().find(|turn| *turn > at && self.are_open(*turn) != open)
    }
}

fn stamp(at: UnixMillis) -> Option<Timestamp> {
    Timestamp::from_millisecond(at.0).ok()
}

fn millis(time: Timestamp) -> UnixMillis {
    UnixMillis(time.as_millisecond())
}

/// So many minutes after midnight by the clock; 1440 is the next midnight.
fn at_minutes(date: Date, minutes: u16) -> Option<DateTime> {
    let date = if minutes < DAY_MINUTES { date } else { date.tomorrow().ok()? };
    let minutes = minutes % DAY_MINUTES;
    let (hour, minute) = (i8::try_from(minutes / 60).ok()?, i8::try_from(minutes % 60).ok()?);
    Some(date.at(hour, minute, 0, 0))
}

/// Minutes after midnight in `22:00`; `24:00` is allowed.
fn clock_time(text: &str) -> Option<u16> {
    let (hour, minute) = text.split_once(':')?;
    let digits = |text: &str| (1..=2).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_digit());
    if !digits(hour) || minute.len() != 2 || !digits(minute) {
        return None;
    }
    let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
    let minutes = hour * 60 + minute;
    (minute < 60 && minutes <= DAY_MINUTES).then_some(minutes)
}

/// Hours of some days of the week: `Mon-Fri 22:00-05:00`, `22:00-05:00` for each day, `Sat,Sun` for whole days. Over midnight where
/// the first time is the later one: then it belongs to the day on which it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// From Monday on.
    days: [bool; 7],
    /// In minutes after midnight, 0 to 1439.
    from: u16,
    /// In minutes after midnight, 1 to 1440.
    until: u16,
}

impl Window {
    fn contains(&self, day: Weekday, minute: u16) -> bool {
        let today = usize::from(day.to_monday_zero_offset().unsigned_abs());
        let on = |day: usize| self.days.get(day % 7).copied().unwrap_or_default();
        if self.from < self.until {
            on(today) && self.from <= minute && minute < self.until
        } else {
            on(today) && self.from <= minute || on(today + 6) && minute < self.until
        }
    }
}

impl FromStr for Window {
    type Err = NoWindow;

    fn from_str(text: &str) -> Result<Self, NoWindow> {
        let words: Vec<&str> = text.split_whitespace().collect();
        let (days, hours) = match words[..] {
            [one] if one.contains(':') => ([true; 7], Some(one)),
            [days] => (read_days(days)?, None),
            [days, hours] => (read_days(days)?, Some(hours)),
            _ => return Err(NoWindow),
        };
        let Some(hours) = hours else { return Ok(Self { days, from: 0, until: DAY_MINUTES }) };
        let (from, until) = hours.split_once('-').ok_or(NoWindow)?;
        match (clock_time(from), clock_time(until)) {
            (Some(from @ ..DAY_MINUTES), Some(until @ 1..)) if from != until => Ok(Self { days, from, until }),
            (Some(from @ 1..DAY_MINUTES), Some(0)) => Ok(Self { days, from, until: DAY_MINUTES }),
            _ => Err(NoWindow),
        }
    }
}

/// `Mon-Fri`, `Sat,Sun`, `Fri-Mon`.
fn read_days(text: &str) -> Result<[bool; 7], NoWindow> {
    let named = |name: &str| DAYS.iter().position(|day| day.eq_ignore_ascii_case(name)).ok_or(NoWindow);
    let mut days = [false; 7];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (named(first)?, named(last)?);
        for day in first..=first + (last + 7 - first) % 7 {
            if let Some(day) = days.get_mut(day % 7) {
                *day = true;
            }
        }
    }
    Ok(days)
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.days != [true; 7] {
            let named = DAYS.iter().zip(self.days).filter(|(_, is_on)| *is_on).map(|(day, _)| *day);
            write!(f, "{} ", named.collect::<Vec<_>>().join(","))?;
        }
        let (from, until) = (self.from, self.until);
        write!(f, "{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, until / 60, until % 60)
    }
}

/// A text names no hours of days.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a window is written as 22:00-05:00, Mon-Fri 22:00-05:00, or Sat,Sun")]
pub struct NoWindow;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOUR: i64 = 3_600_000;

    /// Berlin's rule, without a database.
    fn windows(each: &[&str]) -> Windows {
        let zone = TimeZone::posix("CET-1CEST,M3.5.0,M10.5.0/3").unwrap();
        let zone = Zone { name: "Berlin".to_owned(), zone };
        Windows { each: each.iter().map(|text| text.parse().unwrap()).collect(), zone }
    }

    fn at(text: &str) -> UnixMillis {
        millis(text.parse().unwrap())
    }

    fn change(windows: &Windows, text: &str) -> String {
        let next = windows.next_change(at(text)).unwrap();
        stamp(next).unwrap().to_string()
    }

    #[test]
    fn a_window_over_midnight_belongs_to_the_day_on_which_it_begins() {
        let nights = windows(&["Fri 22:00-05:00"]);
        // 27 November 2026 is a Friday.
        assert!(!nights.are_open(at("2026-11-27T20:59:59Z")) && nights.are_open(at("2026-11-27T21:00:00Z")));
        assert!(nights.are_open(at("2026-11-28T03:59:59Z")) && !nights.are_open(at("2026-11-28T04:00:00Z")));
        assert!(!nights.are_open(at("2026-11-28T21:30:00Z")), "not on Saturday");
        assert_eq!(change(&nights, "2026-11-26T12:00:00Z"), "2026-11-27T21:00:00Z");
        assert_eq!(change(&nights, "2026-11-27T23:00:00Z"), "2026-11-28T04:00:00Z");
    }

    #[test]
    fn an_hour_that_spring_takes_lets_nothing_begin() {
        // 28 March 2027: 02:00 CET is 03:00 CEST.
        let early = windows(&["02:15-02:45"]);
        assert_eq!(change(&early, "2027-03-27T12:00:00Z"), "2027-03-29T00:15:00Z", "the day after");
        let gap = windows(&["02:30-04:00"]);
        assert_eq!(change(&gap, "2027-03-28T00:30:00Z"), "2027-03-28T01:00:00Z", "at the jump, 03:00");
        assert_eq!(change(&gap, "2027-03-28T01:00:00Z"), "2027-03-28T02:00:00Z");
        let weekly = windows(&["Sun 02:15-02:45"]);
        assert_eq!(change(&weekly, "2027-03-22T00:00:00Z"), "2027-04-04T00:15:00Z", "a week later");
    }

    #[test]
    fn an_hour_that_comes_twice_lets_things_begin_twice() {
        // 25 October 2026: 03:00 CEST is 02:00 CET.
        let fold = windows(&["02:10-02:20"]);
        for (from, until) in
            [("2026-10-24T12:00:00Z", "2026-10-25T00:10:00Z"), ("2026-10-25T00:20:00Z", "2026-10-25T01:10:00Z")]
        {
            assert_eq!(change(&fold, from), until);
        }
        assert!(fold.are_open(at("2026-10-25T00:15:00Z")) && fold.are_open(at("2026-10-25T01:15:00Z")));
        assert!(!fold.are_open(at("2026-10-25T00:45:00Z")));
    }

    #[test]
    fn windows_that_are_always_open_never_change() {
        assert_eq!(windows(&[]).next_change(at("2026-11-27T12:00:00Z")), None);
        assert_eq!(windows(&["Mon-Sun"]).next_change(at("2026-11-27T12:00:00Z")), None);
        assert!(windows(&["Mon-Fri", "Sat,Sun"]).are_open(at("2026-11-28T12:00:00Z")));
    }

    #[test]
    fn a_window_is_read_as_it_is_said_and_nonsense_is_refused() {
        for (text, said) in [
            ("22:00-05:00", "22:00-05:00"),
            ("mon-fri 22:00-5:00", "Mon,Tue,Wed,Thu,Fri 22:00-05:00"),
            ("Sat,Sun", "Sat,Sun 00:00-24:00"),
            ("Fri-Mon 8:00-00:00", "Mon,Fri,Sat,Sun 08:00-24:00"),
        ] {
            let window: Window = text.parse().unwrap();
            assert_eq!(window.to_string(), said);
            assert_eq!(said.parse(), Ok(window));
        }
        for text in [
            "",
            "22-5",
            "Mon-",
            "Mun 1:00-2:00",
            "1:00-1:00",
            "25:00-26:00",
            "1:60-2:00",
            "Mon 1:00-2:00 x",
            "0:00-0:00",
            "24:00-1:00",
        ] {
            assert_eq!(text.parse::<Window>(), Err(NoWindow), "{text}");
        }
    }

    #[test]
    fn a_time_is_named_by_the_clock_by_the_calendar_or_exactly() {
        let zone = windows(&[]).zone;
        let now = at("2026-11-27T12:00:00Z");
        let read = |text| zone.read(text, now).map(|at| stamp(at).unwrap().to_string());
        assert_eq!(read("22:00").unwrap(), "2026-11-27T21:00:00Z");
        assert_eq!(read("13:00").unwrap(), "2026-11-28T12:00:00Z", "13:00 is now, so that tomorrow's is meant");
        assert_eq!(read("2026-11-28 02:30").unwrap(), "2026-11-28T01:30:00Z");
        assert_eq!(read("2026-11-28T02:30:00+09:00").unwrap(), "2026-11-27T17:30:00Z");
        assert_eq!(read("2026-11-27 12:00"), Err(NoTime::Over));
        assert_eq!(read("2027-11-27 12:00"), Err(NoTime::TooFar));
        for text in ["", "tonight", "24:00", "22", "2026-13-01 00:00"] {
            assert_eq!(read(text), Err(NoTime::Nonsense), "{text}");
        }
        let spring = zone.read("2:30", at("2027-03-27T12:00:00Z")).map(|at| stamp(at).unwrap().to_string());
        assert_eq!(spring.unwrap(), "2027-03-28T01:30:00Z", "03:30: there is no 02:30");
        assert_eq!(zone.say(now), "Fri 27 Nov 2026, 13:00 (Berlin)");
    }

    proptest! {
        #[test]
        fn nothing_changes_before_the_next_change(day in 0..800i64, minute in 0..1440i64, hours in prop::collection::vec((0..24u8, 0..60u8, 0..24u8, 0..60u8, 0..7usize), 1..3)) {
            let text = |(from, minute, until, other, day): &(u8, u8, u8, u8, usize)| format!("{} {from}:{minute:02}-{until}:{other:02}", DAYS[*day]);
            let each: Vec<String> = hours.iter().map(text).filter(|text| text.parse::<Window>().is_ok()).collect();
            prop_assume!(!each.is_empty());
            let windows = windows(&each.iter().map(String::as_str).collect::<Vec<_>>());
            let now = UnixMillis(at("2026-01-01T00:00:00Z").0 + day * 24 * HOUR + minute * 60_000);
            let next = windows.next_change(now).unwrap();
            prop_assert!(next > now && windows.are_open(next) != windows.are_open(now));
            let step = (next.0 - now.0) / 997 + 1;
            for before in (now.0..next.0).step_by(usize::try_from(step).unwrap()) {
                prop_assert_eq!(windows.are_open(UnixMillis(before)), windows.are_open(now));
            }
        }
    }
}
