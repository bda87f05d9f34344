//! What a single value may be: each function reads one, or says what may stand there.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use toml::de::DeValue;

use super::section::{Typed, Unfit, Value};

/// A text.
pub(super) fn text(value: &Value<'_>) -> Result<String, Unfit> {
    value.get_ref().as_str().map(str::to_owned).ok_or_else(|| unfit(value, "a text in quotes"))
}

/// The longest name that may be given to a thing: an mDNS label and a file name must hold it.
const NAME_MAX: usize = 63;

/// A name for a thing: it becomes part of topics, addresses and commands, so only what needs no quoting there.
pub(super) fn name(value: &Value<'_>) -> Result<String, Unfit> {
    let fits = |name: &str| {
        (1..=NAME_MAX).contains(&name.len()) && name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c))
    };
    match value.get_ref().as_str() {
        Some(name) if fits(name) => Ok(name.to_owned()),
        _ => Err(unfit(value, "a name of letters, digits, `-`, `_` and `.`, in quotes, at most 63 of them")),
    }
}

/// A text that another type reads; `expected` says what it takes.
pub(super) fn parsed<T: FromStr>(expected: &str) -> impl Fn(&Value<'_>) -> Result<T, Unfit> {
    move |value| value.get_ref().as_str().and_then(|text| text.parse().ok()).ok_or_else(|| unfit(value, expected))
}

/// A text that `read` makes something of; `expected` says what it takes.
pub(super) fn made<T>(expected: &str, read: impl Fn(&str) -> Option<T>) -> impl Fn(&Value<'_>) -> Result<T, Unfit> {
    move |value| value.get_ref().as_str().and_then(&read).ok_or_else(|| unfit(value, expected))
}

/// One of a few words.
pub(super) fn word<T: Clone>(words: &[(&str, T)]) -> impl Fn(&Value<'_>) -> Result<T, Unfit> {
    move |value| {
        let typed = value.get_ref().as_str();
        let known = words.iter().find(|(word, _)| Some(*word) == typed);
        known.map(|(_, meaning)| meaning.clone()).ok_or_else(|| {
            let all = words.iter().map(|(word, _)| format!("\"{word}\"")).collect::<Vec<_>>();
            unfit(value, &all.join(" or "))
        })
    }
}

/// `true` or `false`.
pub(super) fn switch<T>(on: T, off: T) -> impl FnOnce(&Value<'_>) -> Result<T, Unfit> {
    move |value| match value.get_ref().as_bool() {
        Some(true) => Ok(on),
        Some(false) => Ok(off),
        None => Err(unfit(value, "true or false, without quotes")),
    }
}

/// A whole number in `range`.
pub(super) fn whole(range: RangeInclusive<i64>) -> impl Fn(&Value<'_>) -> Result<i64, Unfit> {
    move |value| {
        match value.get_ref() {
            DeValue::Integer(typed) => i64::from_str_radix(typed.as_str(), typed.radix()).ok(),
            _ => None,
        }
        .filter(|number| range.contains(number))
        .ok_or_else(|| unfit(value, &format!("a whole number from {} to {}", range.start(), range.end())))
    }
}

/// As [`whole`], as another type that holds the whole range.
pub(super) fn whole_as<T: TryFrom<i64>>(range: RangeInclusive<i64>) -> impl Fn(&Value<'_>) -> Result<T, Unfit> {
    let read = whole(range);
    move |value| read(value).and_then(|number| T::try_from(number).map_err(|_| unfit(value, "a smaller number")))
}

/// A whole number in `range`, or `"off"`.
pub(super) fn whole_or_off<T: TryFrom<i64>>(
    range: RangeInclusive<i64>,
) -> impl Fn(&Value<'_>) -> Result<Option<T>, Unfit> {
    let read = whole_as::<T>(range.clone());
    move |value| match value.get_ref().as_str() {
        Some("off") => Ok(None),
        _ => read(value).map(Some).map_err(|mut unfit| {
            unfit.expected = format!("a whole number from {} to {}, or \"off\"", range.start(), range.end());
            unfit
        }),
    }
}

/// A whole number, or a share in quotes; `expected` says what it takes.
pub(super) fn count_or_share<T: FromStr>(expected: &str) -> impl Fn(&Value<'_>) -> Result<T, Unfit> {
    move |value| {
        let typed = match value.get_ref() {
            DeValue::Integer(typed) if typed.radix() == 10 => Some(typed.as_str()),
            DeValue::String(typed) if typed.ends_with('%') => Some(typed.as_ref()),
            _ => None,
        };
        typed.and_then(|typed| typed.parse().ok()).ok_or_else(|| unfit(value, expected))
    }
}

/// Whole seconds in `range`.
pub(super) fn seconds(range: RangeInclusive<u32>) -> impl Fn(&Value<'_>) -> Result<Duration, Unfit> {
    let read = whole_as::<u32>(i64::from(*range.start())..=i64::from(*range.end()));
    move |value| {
        read(value).map(|seconds| Duration::from_secs(seconds.into())).map_err(|mut unfit| {
            unfit.expected = format!("whole seconds from {} to {}", range.start(), range.end());
            unfit
        })
    }
}

/// A list of what `read` takes, with each one's place.
pub(super) fn list<T>(
    read: impl Fn(&Value<'_>) -> Result<T, Unfit>,
) -> impl FnOnce(&Value<'_>) -> Result<Vec<Typed<T>>, Unfit> {
    move |value| {
        let Some(items) = value.get_ref().as_array() else { return Err(unfit(value, "a list in square brackets")) };
        items.iter().map(|item| Ok(Typed { value: read(item)?, at: item.span() })).collect()
    }
}

/// `host:port`.
pub(super) fn host_and_port(value: &Value<'_>) -> Result<String, Unfit> {
    made("a host and a port such as \"rack.example:9200\"", |text| {
        let (host, port) = text.rsplit_once(':')?;
        let port: u16 = port.parse().ok()?;
        let host_fits = !host.is_empty() && !host.contains(|c: char| c.is_whitespace() || c == '/');
        (host_fits && port != 0).then(|| text.to_owned())
    })(value)
}

/// A file, from `base` on where it is relative.
pub(super) fn file(base: &Path) -> impl Fn(&Value<'_>) -> Result<PathBuf, Unfit> {
    let base = base.to_owned();
    move |value| match value.get_ref().as_str() {
        Some(path) if !path.is_empty() => Ok(base.join(path)),
        _ => Err(unfit(value, "a file's path in quotes")),
    }
}

/// The SHA-256 of a certificate, as tools print it: 64 hex digits, colons allowed.
pub(super) fn sha256(value: &Value<'_>) -> Result<String, Unfit> {
    made("a certificate's SHA-256 in quotes: 64 hex digits", |text| {
        let digits: String = text.chars().filter(|c| *c != ':').collect::<String>().to_lowercase();
        (digits.len() == 64 && digits.chars().all(|c| c.is_ascii_hexdigit())).then_some(digits)
    })(value)
}

fn unfit(value: &Value<'_>, expected: &str) -> Unfit {
    Unfit { at: value.span(), expected: expected.to_owned() }
}
