//! What a rollout knows of a phone before it chooses: where it sits, what it is, and what it takes to install on it.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

use super::ids::{Label, PhoneId, SlotName};

/// What rollouts know of a phone, beside whether it is here and which version it has. Kept while the phone is away.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Candidate {
    /// Where it sits, or sat last.
    pub slot: Option<SlotName>,
    /// The owner's labels of that slot.
    pub labels: BTreeSet<Label>,
    /// `ro.product.model`; empty until it was read.
    pub model: String,
    /// `ro.build.version.sdk`.
    pub sdk: Option<u32>,
    /// `ro.product.cpu.abilist`, the best first; empty where it was not read.
    pub abis: Vec<String>,
    /// Why an install waits for somebody at its screen, where the phone's own settings say that it does.
    pub asks_its_user: Option<&'static str>,
    /// The hub that it shares with others: the power hub that feeds its slot, else the USB hub that it is plugged into.
    pub hub: Option<String>,
    /// How it is.
    pub readings: Readings,
}

/// How a phone is, as far as an install depends on it, as last read. Rounded to the bad side, so that small changes are none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Readings {
    /// The battery's level.
    pub battery_percent: Option<u8>,
    /// The battery's temperature in degrees Celsius, rounded up.
    pub temperature_celsius: Option<i16>,
    /// The room for apps and their data in MiB, rounded down.
    pub free_mib: Option<u64>,
}

/// Whom an operator means. Each kind that is named narrows the choice, and several of one kind widen it: the phones of either model
/// that sit in either slot.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Choice {
    /// These phones, also those that are away; if empty, all that are ready.
    pub phones: Vec<PhoneId>,
    /// Slots by name; `*` stands for any text.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub slots: Vec<String>,
    /// Slots by label.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub labels: Vec<Label>,
    /// Models, in any case; `*` stands for any text.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<String>,
    /// So much of those that would get the version, 1 to 100, spread evenly over them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<u8>,
    /// The phones of the first wave.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub canary: Vec<PhoneId>,
}

impl Choice {
    /// These phones, or all that are ready if there is none.
    #[must_use]
    pub fn of(phones: Vec<PhoneId>) -> Self {
        Self { phones, ..Self::default() }
    }

    /// Whether a phone is meant, its name aside.
    #[must_use]
    pub fn takes(&self, phone: &Candidate) -> bool {
        let in_slot = |pattern: &String| phone.slot.as_ref().is_some_and(|slot| matches(pattern, slot.as_str()));
        (self.slots.is_empty() || self.slots.iter().any(in_slot))
            && (self.labels.is_empty() || self.labels.iter().any(|label| phone.labels.contains(label)))
            && (self.models.is_empty() || self.models.iter().any(|model| matches(model, &phone.model)))
    }
}

/// Whether `text` is what a pattern says, in any case; each `*` of it stands for any text.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.to_lowercase(), text.to_lowercase());
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut parts = parts.peekable();
    if parts.peek().is_none() {
        return rest.is_empty();
    }
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else { return false };
        rest = rest.get(at + part.len()..).unwrap_or_default();
    }
    true
}

/// Of `total` in a row those that make up `percent` of them, rounded up and spread evenly.
#[must_use]
pub fn spread(total: usize, percent: u8) -> Vec<bool> {
    let wanted = total.saturating_mul(percent.into()).div_ceil(100).min(total);
    (0..total).map(|place| (place + 1) * wanted / total > place * wanted / total).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_text() {
        for (pattern, text) in [("A1", "a1"), ("A*", "A12"), ("*", ""), ("pixel*a", "Pixel 7a"), ("*el*7*", "Pixel 7a")]
        {
            assert!(matches(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [("A1", "A12"), ("A*", "B1"), ("", "A1"), ("a*a", "a"), ("*8*", "Pixel 7a")] {
            assert!(!matches(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn each_kind_narrows_and_several_of_one_kind_widen() {
        let phone = Candidate {
            slot: Some(SlotName::new("A1")),
            labels: [Label::new("top")].into(),
            model: "Pixel 7".into(),
            ..Candidate::default()
        };
        let models =
            |models: &[&str]| Choice { models: models.iter().map(ToString::to_string).collect(), ..Choice::default() };
        assert!(
            models(&[]).takes(&phone) && models(&["FP5", "pixel 7"]).takes(&phone) && !models(&["FP5"]).takes(&phone)
        );
        let both = |label| Choice { labels: vec![Label::new(label)], slots: vec!["A*".into()], ..models(&["*"]) };
        assert!(both("top").takes(&phone) && !both("bottom").takes(&phone));
        assert!(!both("top").takes(&Candidate { slot: None, ..phone }));
    }

    #[test]
    fn a_share_is_rounded_up_and_spread() {
        let places = |total, percent| {
            spread(total, percent).iter().enumerate().filter_map(|(place, is)| is.then_some(place)).collect::<Vec<_>>()
        };
        assert_eq!(places(10, 30), [3, 6, 9]);
        assert_eq!((places(3, 1), places(3, 100), places(0, 50)), (vec![2], vec![0, 1, 2], vec![]));
    }
}
