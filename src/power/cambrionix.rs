//! The command set of Cambrionix-style hubs: what is asked, and what the lines of the answers mean.
//!
//! The manuals ask parsers to tolerate case, white space, extra lines and fields that newer firmware appends. Other makers'
//! charge stations speak the same commands with fewer flags, so nothing here depends on the maker's name.
//!
//! Invariant: nothing is guessed. A line that looks like a reading and can't be read fails the whole answer
//! (`one_unreadable_line_fails_the_whole_set`).

use std::collections::BTreeMap;
use std::fmt;

use crate::rack::event::PortReading;
use crate::rack::ids::HubPort;
use crate::rack::snapshot::PortMode;

/// More than any USB port can feed: a larger figure is a misread line.
const CURRENT_MAX_MILLIAMPS: u32 = 20_000;

/// What a message repeats of an unreadable text, in characters.
const SEEN_MAX_CHARS: usize = 40;

/// A command to a hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Who are you? See [`parse_id`].
    Id,
    /// Voltages and temperature. See [`parse_health`].
    Health,
    /// Every port. See [`parse_state`].
    State,
    /// One port. See [`parse_port`].
    PortState(HubPort),
    /// Switch one port.
    SetMode {
        /// Which.
        port: HubPort,
        /// To what.
        mode: PortMode,
    },
}

impl fmt::Display for Request {
    /// The command as the hub wants it, without the carriage return.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id => f.write_str("id"),
            Self::Health => f.write_str("health"),
            Self::State => f.write_str("state"),
            Self::PortState(port) => write!(f, "state {port}"),
            Self::SetMode { port, mode } => write!(f, "mode {} {port}", mode.as_str()),
        }
    }
}

/// Why an answer can't be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum HubLineError {
    /// The hub understood, and will not.
    #[error("the hub refused: {text}")]
    Refused {
        /// Its own words, such as `*E412: Invalid parameter`.
        text: String,
    },
    /// A field of a line is not what it should be.
    #[error("line {line} of the answer to `{command}`: {field} should be {expected}, was `{seen}`")]
    Field {
        /// What was asked.
        command: &'static str,
        /// Counted from 1.
        line: usize,
        /// Which field.
        field: &'static str,
        /// What is allowed there.
        expected: &'static str,
        /// What stood there, shortened.
        seen: String,
    },
    /// Nothing in the answer is what was asked for.
    #[error("the answer to `{command}` has no {what}")]
    Missing {
        /// What was asked.
        command: &'static str,
        /// What should have been there.
        what: String,
    },
}

/// What a hub says of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Identity {
    /// `mfr`.
    pub maker: Option<String>,
    /// `hw`: the model.
    pub hardware: Option<String>,
    /// `fw`.
    pub firmware: Option<String>,
    /// `sn`.
    pub serial: Option<String>,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<&str> = [&self.maker, &self.hardware].into_iter().flatten().map(String::as_str).collect();
        f.write_str(&names.join(" "))?;
        if let Some(firmware) = &self.firmware {
            write!(f, ", firmware {firmware}")?;
        }
        if let Some(serial) = &self.serial {
            write!(f, ", serial {serial}")?;
        }
        Ok(())
    }
}

/// The hub's own health, each absent where it has no such sensor.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Health {
    /// `Temperature Now (C)`.
    pub temperature_celsius: Option<f32>,
    /// `5V Now (V)`.
    pub supply_volts: Option<f32>,
}

/// Reads the answer to `id`: one line of `key:value` pairs with commas between them.
///
/// # Errors
/// [`HubLineError::Missing`] if no line names a maker or a model.
pub fn parse_id(lines: &[String]) -> Result<Identity, HubLineError> {
    refused(lines)?;
    for line in lines {
        let pairs: BTreeMap<String, String> = line
            .split(',')
            .filter_map(|pair| pair.split_once(':'))
            .map(|(key, value)| (key.trim().to_ascii_lowercase(), value.trim().to_owned()))
            .filter(|(_, value)| !value.is_empty() && value != "-")
            .collect();
        let field = |key: &str| pairs.get(key).cloned();
        let identity =
            Identity { maker: field("mfr"), hardware: field("hw"), firmware: field("fw"), serial: field("sn") };
        if identity.maker.is_some() || identity.hardware.is_some() {
            return Ok(identity);
        }
    }
    Err(HubLineError::Missing { command: "id", what: "line with `mfr:` or `hw:`".to_owned() })
}

/// Reads the answer to `health`: lines of `name: value`, of which two are used.
///
/// # Errors
/// [`HubLineError::Field`] if one of the two has no number, [`HubLineError::Missing`] if there is no `name: value` at all.
pub fn parse_health(lines: &[String]) -> Result<Health, HubLineError> {
    refused(lines)?;
    let mut health = Health::default();
    let mut any = false;
    for (index, line) in lines.iter().enumerate() {
        let Some((name, value)) = line.rsplit_once(':') else { continue };
        any = true;
        let name = name.split_whitespace().collect::<Vec<_>>().join(" ").to_ascii_lowercase();
        match name.as_str() {
            "5v now (v)" => health.supply_volts = sensor(index, "the 5 V rail", value, -1.0..=30.0)?,
            "temperature now (c)" => {
                health.temperature_celsius = sensor(index, "the temperature", value, -60.0..=200.0)?;
            }
            _ => {}
        }
    }
    if any {
        Ok(health)
    } else {
        Err(HubLineError::Missing { command: "health", what: "`name: value` line".to_owned() })
    }
}

/// Reads the answer to `state`: a line a port, all ports from 1 on without a gap.
///
/// # Errors
/// [`HubLineError::Field`] for the first line that can't be read, [`HubLineError::Missing`] for a gap or an empty answer.
pub fn parse_state(lines: &[String]) -> Result<Vec<PortReading>, HubLineError> {
    let ports = port_lines("state", lines)?;
    let mut expected = 1_u8;
    for port in ports.keys() {
        if port.0 != expected {
            return Err(HubLineError::Missing { command: "state", what: format!("line for port {expected}") });
        }
        expected = expected.saturating_add(1);
    }
    if ports.is_empty() {
        return Err(HubLineError::Missing { command: "state", what: "line for a port".to_owned() });
    }
    Ok(ports.into_values().collect())
}

/// Reads the answer to `state <port>`: the line of just that port.
///
/// # Errors
/// As [`parse_state`]; [`HubLineError::Missing`] if the port's line is not there.
pub fn parse_port(port: HubPort, lines: &[String]) -> Result<PortReading, HubLineError> {
    let missing = || HubLineError::Missing { command: "state <port>", what: format!("line for port {port}") };
    port_lines("state <port>", lines)?.remove(&port).ok_or_else(missing)
}

/// Reads the answer to `mode`: nothing, or a refusal.
///
/// # Errors
/// [`HubLineError::Refused`] with the hub's words.
pub fn parse_mode(lines: &[String]) -> Result<(), HubLineError> {
    refused(lines)
}

fn refused(lines: &[String]) -> Result<(), HubLineError> {
    match lines.iter().map(|line| line.trim()).find(|line| starts_like_error(line)) {
        Some(line) => Err(HubLineError::Refused { text: shortened(line) }),
        None => Ok(()),
    }
}

fn starts_like_error(line: &str) -> bool {
    matches!(line.as_bytes(), [b'*', b'E' | b'e', ..])
}

fn sensor(
    index: usize,
    field: &'static str,
    text: &str,
    credible: std::ops::RangeInclusive<f32>,
) -> Result<Option<f32>, HubLineError> {
    let text = text.trim();
    if text.starts_with(['<', '>']) {
        // Beyond what the sensor can measure: the hub itself does not know the figure.
        return Ok(None);
    }
    match text.parse::<f32>() {
        Ok(value) if credible.contains(&value) => Ok(Some(value)),
        _ => Err(bad_field("health", index, field, "a credible number", text)),
    }
}

fn port_lines(command: &'static str, lines: &[String]) -> Result<BTreeMap<HubPort, PortReading>, HubLineError> {
    refused(lines)?;
    let mut ports = BTreeMap::new();
    for (index, line) in lines.iter().enumerate() {
        if let Some(reading) = port_line(command, index, line)? {
            let port = reading.port;
            if ports.insert(port, reading).is_some() {
                return Err(bad_field(command, index, "the port", "listed once", &port.to_string()));
            }
        }
    }
    Ok(ports)
}

/// `port, current_mA, flags, …`; `None` for a line that is no port's (blank, a title).
fn port_line(command: &'static str, index: usize, line: &str) -> Result<Option<PortReading>, HubLineError> {
    let line = line.trim();
    let title = !line.contains(',') || line.to_ascii_lowercase().starts_with("port");
    if title && !line.starts_with(|c: char| c.is_ascii_digit()) {
        return Ok(None);
    }
    let bad = |field, expected, seen: &str| bad_field(command, index, field, expected, seen);
    let mut fields = line.split(',').map(str::trim);
    let port = fields.next().unwrap_or_default();
    let port = match port.parse() {
        Ok(number @ 1..) => HubPort(number),
        _ => return Err(bad("the port", "a number from 1 to 255", port)),
    };
    let current = fields.next().unwrap_or_default();
    let current_milliamps = match current.parse() {
        Ok(figure @ 0..=CURRENT_MAX_MILLIAMPS) => figure,
        _ => return Err(bad("the current", "milliampere from 0 to 20000", current)),
    };
    let flags = fields.next().unwrap_or_default();
    let attached = one_of(flags, |flag| match flag {
        'A' => Some(true),
        'D' => Some(false),
        _ => None,
    })
    .ok_or_else(|| bad("the flags", "letters with exactly one of A and D", flags))?;
    let mode = one_of(flags, mode_of_flag)
        .ok_or_else(|| bad("the flags", "letters with exactly one of O, S, B, I, P, C and F", flags))?;
    Ok(Some(PortReading { port, current_milliamps, mode, attached }))
}

/// Idle, profiling, charging and finished are what a port in the mode `charge` goes through.
fn mode_of_flag(flag: char) -> Option<PortMode> {
    match flag {
        'O' => Some(PortMode::Off),
        'S' => Some(PortMode::Sync),
        'B' => Some(PortMode::Biased),
        'I' | 'P' | 'C' | 'F' => Some(PortMode::Charge),
        _ => None,
    }
}

/// The meaning of the only flag that has one; `None` if none has, several have, or something is no single letter.
/// Letters without a meaning here (E, R, r, T, those of newer firmware) are passed over.
fn one_of<T>(flags: &str, meaning: impl Fn(char) -> Option<T>) -> Option<T> {
    let mut found = None;
    for flag in flags.split_whitespace() {
        let mut letters = flag.chars();
        let letter = letters.next().filter(char::is_ascii_alphabetic)?;
        if letters.next().is_some() {
            return None;
        }
        if let Some(value) = meaning(letter.to_ascii_uppercase())
            && found.replace(value).is_some()
        {
            return None;
        }
    }
    found
}

fn bad_field(
    command: &'static str,
    index: usize,
    field: &'static str,
    expected: &'static str,
    seen: &str,
) -> HubLineError {
    HubLineError::Field { command, line: index + 1, field, expected, seen: shortened(seen) }
}

/// A text for a message: short, and without characters that a terminal would obey.
pub(crate) fn shortened(text: &str) -> String {
    text.chars().take(SEEN_MAX_CHARS).map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// What the fuzz target and its replay in the tests call: any lines, through every parser, must end without a panic, and
/// a set that is read must be a set that a hub can have sent.
pub fn fuzz_hub_lines(bytes: &[u8]) {
    let lines: Vec<String> = String::from_utf8_lossy(bytes).lines().map(str::to_owned).collect();
    let _ = parse_id(&lines);
    let _ = parse_health(&lines);
    if let Ok(ports) = parse_state(&lines) {
        assert!(ports.iter().zip(1..).all(|(reading, number)| reading.port.0 == number), "ports without a gap");
        assert!(ports.iter().all(|reading| reading.current_milliamps <= CURRENT_MAX_MILLIAMPS), "credible currents");
    }
    let _ = parse_port(HubPort(1), &lines);
    let _ = parse_mode(&lines);
}

#[cfg(test)]
#[path = "cambrionix_tests.rs"]
mod tests;
