//! What happened to a phone, as a ring of typed events: a person reads the phone's story from it.
//!
//! ```text
//!     state, order, answer, failure, line, lease, incident ──▶ Trace (the last 256) ──▶ `farmhand phone A1 trace`, the API
//! ```
//!
//! A quiet phone answers a probe and a reading every half minute; these are counted in one event until something else happens, so
//! that hours of quiet do not push the story out.
//!
//! Invariant: a trace holds at most [`KEPT`] events, and each of their texts at most [`TEXT_MAX`] bytes (`a_trace_is_bounded`).
//! Invariant: the numbers of a trace's events rise, also when older ones are forgotten (`a_trace_is_bounded`).

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::{InstallFailureClass, OpenFault};
use crate::clock::{Moment, UnixMillis};
use crate::config::Rung;
use crate::rack::ids::{PhoneId, RolloutId, SlotName};
use crate::rack::snapshot::{LineState, PhoneState};

/// The events that are kept of one phone.
pub const KEPT: usize = 256;
/// The longest text of an event, in bytes: a phone's error message may be long, and a ring of them must not be.
pub const TEXT_MAX: usize = 240;

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Happening {
    /// It is in another state.
    State {
        /// Before.
        from: PhoneState,
        /// Now.
        to: PhoneState,
        /// Why.
        why: String,
    },
    /// It answered end to end, again and again: nothing else happened meanwhile.
    Alive {
        /// Probes that were answered.
        probes: u32,
        /// Readings of its profile that were answered.
        readings: u32,
    },
    /// Its interface is being opened.
    Opening,
    /// ADB works.
    Opened {
        /// What its banner says that it is.
        model: Option<String>,
    },
    /// It could not be opened.
    OpenFailed {
        /// What kind of failure.
        fault: OpenFault,
        /// What was seen.
        why: String,
    },
    /// It wants its user to allow this host.
    AuthorisationWanted,
    /// The connection ended by itself.
    Lost {
        /// What was seen.
        why: String,
    },
    /// A probe or a reading was not answered.
    Silent {
        /// What was asked, and what was seen.
        why: String,
    },
    /// A rung of the recovery ladder above reopening is tried.
    Rung {
        /// Which.
        rung: Rung,
    },
    /// A rung waits for its turn in the rack's budget.
    RungWaits {
        /// Which.
        rung: Rung,
        /// What the rack allows, and when its turn is expected.
        why: String,
    },
    /// A rung could not be carried out.
    RungRefused {
        /// What was seen.
        why: String,
    },
    /// An install begins.
    Install {
        /// The rollout that wants it; `None` for the configured agent.
        rollout: Option<RolloutId>,
    },
    /// An install is done.
    Installed {
        /// The version that the phone reports.
        version: String,
    },
    /// An install failed.
    InstallFailed {
        /// What to do about it.
        class: InstallFailureClass,
        /// What was seen.
        why: String,
    },
    /// Something was otherwise than the owner wants it, and was set.
    Set {
        /// What, as a list.
        what: String,
    },
    /// Its line to the central server is in another state.
    Line {
        /// Now.
        state: LineState,
        /// Why.
        why: String,
    },
    /// It failed together with others that hang on the same hub or controller, and waits for them.
    Incident {
        /// The incident's number.
        number: u64,
        /// What they all hang on.
        ancestor: String,
    },
    /// The incident is over.
    IncidentOver {
        /// The incident's number.
        number: u64,
        /// How it ended.
        why: String,
    },
    /// Somebody has it to himself, or has given it back.
    Lease {
        /// Who and why, as a sentence.
        what: String,
    },
    /// It sits in another place.
    Moved {
        /// The slot or endpoint before.
        from: String,
        /// The slot or endpoint now.
        to: String,
    },
}

impl Happening {
    fn texts(&mut self) -> Vec<&mut String> {
        match self {
            Self::State { why, .. }
            | Self::OpenFailed { why, .. }
            | Self::Lost { why }
            | Self::Silent { why }
            | Self::RungRefused { why }
            | Self::RungWaits { why, .. }
            | Self::InstallFailed { why, .. }
            | Self::IncidentOver { why, .. }
            | Self::Line { why, .. }
            | Self::Set { what: why }
            | Self::Lease { what: why } => vec![why],
            Self::Incident { ancestor, .. } => vec![ancestor],
            Self::Opened { model } => model.iter_mut().collect(),
            Self::Installed { version } => vec![version],
            Self::Moved { from, to } => vec![from, to],
            Self::Alive { .. }
            | Self::Opening
            | Self::AuthorisationWanted
            | Self::Rung { .. }
            | Self::Install { .. } => Vec::new(),
        }
    }
}

/// A sentence for a person.
impl fmt::Display for Happening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::State { from, to, why } => write!(f, "{} → {}: {why}", from.as_str(), to.as_str()),
            Self::Alive { probes: 0, readings } => write!(f, "answered {}", counted(*readings, "reading")),
            Self::Alive { probes, readings: 0 } => write!(f, "answered {}", counted(*probes, "probe")),
            Self::Alive { probes, readings } => {
                write!(f, "answered {} and {}", counted(*probes, "probe"), counted(*readings, "reading"))
            }
            Self::Opening => f.write_str("its interface is being opened"),
            Self::Opened { model: Some(model) } => write!(f, "ADB works: it calls itself {model}"),
            Self::Opened { model: None } => f.write_str("ADB works"),
            Self::OpenFailed { why, .. } => write!(f, "could not be opened: {why}"),
            Self::AuthorisationWanted => f.write_str("its screen asks whether this host is allowed"),
            Self::Lost { why } => write!(f, "the connection ended: {why}"),
            Self::Silent { why } => f.write_str(why),
            Self::Rung { rung } => write!(f, "recovery tries {}", rung.as_str()),
            Self::RungWaits { rung, why } => write!(f, "recovery waits before {}: {why}", rung.as_str()),
            Self::RungRefused { why } => write!(f, "recovery could not do so: {why}"),
            Self::Install { rollout: None } => f.write_str("the agent is being installed"),
            Self::Install { rollout: Some(rollout) } => write!(f, "rollout {rollout} installs"),
            Self::Installed { version } => write!(f, "version {version} is installed"),
            Self::InstallFailed { why, .. } => write!(f, "the install failed: {why}"),
            Self::Set { what } => write!(f, "was set: {what}"),
            Self::Line { state, why } => write!(f, "line {}: {why}", state.as_str()),
            Self::Incident { number, ancestor } => {
                write!(f, "incident {number} of {ancestor}: it waits for the phones that failed with it")
            }
            Self::IncidentOver { number, why } => write!(f, "incident {number} is over: {why}"),
            Self::Lease { what } => f.write_str(what),
            Self::Moved { from, to } => write!(f, "moved from {from} to {to}"),
        }
    }
}

fn counted(count: u32, what: &str) -> String {
    if count == 1 { format!("a {what}") } else { format!("{count} {what}s") }
}

/// One event of a trace.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Entry {
    number: u64,
    first: Moment,
    last: Moment,
    what: Happening,
}

/// The last events of one phone. A clone shares the events.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trace {
    entries: VecDeque<Arc<Entry>>,
    next: u64,
}

/// One event as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TraceEvent {
    /// Rises with each event of one phone since the daemon started.
    pub number: u64,
    /// When it happened, or happened first.
    pub at: UnixMillis,
    /// When it happened last: the same, but for what happens again and again.
    pub until: UnixMillis,
    /// What.
    #[serde(flatten)]
    pub what: Happening,
}

/// A stretch of a phone's trace, as the API gives it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TracePage {
    /// The phone.
    pub phone: PhoneId,
    /// The slot in which it sits.
    pub slot: Option<SlotName>,
    /// The events, the oldest first.
    pub events: Vec<TraceEvent>,
    /// The number from which the next events are to be asked for.
    pub next: u64,
}

impl Trace {
    /// Adds an event; the oldest one goes when there are [`KEPT`].
    pub fn push(&mut self, now: Moment, mut what: Happening) {
        if self.counted_with_the_last(now, &what) {
            return;
        }
        for text in what.texts() {
            text.truncate(text.floor_char_boundary(TEXT_MAX));
            text.shrink_to_fit();
        }
        self.append(Entry { number: 0, first: now, last: now, what });
    }

    /// Moves the events of `earlier`, which happened before anybody knew whose they were, to the end of this trace.
    pub fn take_over(&mut self, earlier: Self) {
        for entry in earlier.entries {
            self.append(Arc::unwrap_or_clone(entry));
        }
    }

    /// The events with a number from `from` on, the oldest first, in wall time that is counted from `epoch`.
    pub fn since(&self, from: u64, epoch: UnixMillis) -> impl Iterator<Item = TraceEvent> + '_ {
        let shown = move |entry: &Arc<Entry>| TraceEvent {
            number: entry.number,
            at: epoch.plus(entry.first.since_start()),
            until: epoch.plus(entry.last.since_start()),
            what: entry.what.clone(),
        };
        self.entries.iter().filter(move |entry| entry.number >= from).map(shown)
    }

    /// Whether nothing has happened yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    fn append(&mut self, entry: Entry) {
        if self.entries.len() == KEPT {
            self.entries.pop_front();
        }
        self.entries.push_back(Arc::new(Entry { number: self.next, ..entry }));
        self.next += 1;
    }

    fn counted_with_the_last(&mut self, now: Moment, what: &Happening) -> bool {
        let Happening::Alive { probes: more_probes, readings: more_readings } = what else { return false };
        let Some(last) = self.entries.back_mut() else { return false };
        let Happening::Alive { probes, readings } = last.what else { return false };
        let probes = probes.saturating_add(*more_probes);
        let readings = readings.saturating_add(*more_readings);
        *last = Arc::new(Entry {
            number: last.number,
            first: last.first,
            last: now,
            what: Happening::Alive { probes, readings },
        });
        true
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const PROBE: Happening = Happening::Alive { probes: 1, readings: 0 };
    const READING: Happening = Happening::Alive { probes: 0, readings: 1 };

    fn at(seconds: u64) -> Moment {
        Moment::from_start(Duration::from_secs(seconds))
    }

    fn lost(why: &str) -> Happening {
        Happening::Lost { why: why.to_owned() }
    }

    fn shown(trace: &Trace, from: u64) -> Vec<TraceEvent> {
        trace.since(from, UnixMillis(0)).collect()
    }

    #[test]
    fn hours_of_quiet_are_one_event() {
        let mut trace = Trace::default();
        trace.push(at(1), Happening::Opening);
        for half_minute in 1..=100 {
            trace.push(at(half_minute * 30), PROBE);
            trace.push(at(half_minute * 30 + 1), READING);
        }
        trace.push(at(4000), lost("it was unplugged"));
        trace.push(at(4001), PROBE);
        let told: Vec<_> = shown(&trace, 0).into_iter().map(|event| (event.at.0, event.until.0, event.what)).collect();
        assert_eq!(
            told,
            [
                (1_000, 1_000, Happening::Opening),
                (30_000, 3_001_000, Happening::Alive { probes: 100, readings: 100 }),
                (4_000_000, 4_000_000, lost("it was unplugged")),
                (4_001_000, 4_001_000, PROBE),
            ]
        );
    }

    #[test]
    fn whoever_follows_asks_from_the_next_number_on() {
        let mut trace = Trace::default();
        trace.push(at(1), lost("a"));
        trace.push(at(2), lost("b"));
        let seen = shown(&trace, 0).last().unwrap().number;
        trace.push(at(3), lost("c"));
        let news: Vec<_> = shown(&trace, seen + 1).into_iter().map(|event| event.what).collect();
        assert_eq!(news, [lost("c")]);
    }

    #[test]
    fn what_happened_before_the_phone_was_known_belongs_to_it() {
        let (mut place, mut phone) = (Trace::default(), Trace::default());
        assert!(place.is_empty());
        phone.push(at(1), lost("long ago"));
        place.push(at(5), Happening::Opening);
        phone.take_over(place);
        let told: Vec<_> = shown(&phone, 0).into_iter().map(|event| (event.number, event.what)).collect();
        assert_eq!(told, [(0, lost("long ago")), (1, Happening::Opening)]);
    }

    #[test]
    fn an_event_is_flat_json() {
        let mut trace = Trace::default();
        trace.push(at(1), Happening::Rung { rung: Rung::ResetUsb });
        let text = serde_json::to_string(&shown(&trace, 0)).unwrap();
        assert_eq!(text, r#"[{"number":0,"at":1000,"until":1000,"event":"rung","rung":"reset-usb"}]"#);
        assert_eq!(serde_json::from_str::<Vec<TraceEvent>>(&text).unwrap(), shown(&trace, 0));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn a_trace_is_bounded(
            letters in proptest::collection::vec(proptest::sample::select(vec!["a", "ß", "\u{20ac}", "\u{1f4f1}"]), 0..600),
            length in 0usize..300,
        ) {
            let mut trace = Trace::default();
            let texts: Vec<String> = letters.iter().map(|letter| letter.repeat(length)).collect();
            for (second, text) in (0u64..).zip(&texts) {
                trace.push(at(second), lost(text));
            }
            let shown = shown(&trace, 0);
            prop_assert_eq!(shown.len(), texts.len().min(KEPT));
            for (event, number) in shown.iter().rev().zip((0..texts.len()).rev()) {
                prop_assert_eq!(event.number, number as u64);
                let Happening::Lost { why } = &event.what else { panic!("{event:?}") };
                prop_assert!(why.len() <= TEXT_MAX && why.len() + 4 > TEXT_MAX.min(texts[number].len()));
                prop_assert!(texts[number].starts_with(why.as_str()));
            }
        }
    }
}
