//! What the hub's firmware does with a command: text in, text out, and the ports' modes.
//!
//! The command set is the one of the public Cambrionix manual; `hub::line` gives it its bytes, its echo and its prompt.

use std::fmt::Write as _;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What a port does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// No power, no data.
    Off,
    /// Power and data.
    #[default]
    Sync,
    /// Power without data.
    Charge,
    /// Power only to detect a device.
    Biased,
}

impl Mode {
    fn parse(word: &str) -> Option<Self> {
        match word {
            "o" | "off" => Some(Self::Off),
            "s" | "sync" => Some(Self::Sync),
            "c" | "charge" => Some(Self::Charge),
            "b" | "biased" => Some(Self::Biased),
            _ => None,
        }
    }

    /// The flag that `state` shows for it.
    const fn flag(self) -> char {
        match self {
            Self::Off => 'O',
            Self::Sync => 'S',
            Self::Charge => 'C',
            Self::Biased => 'B',
        }
    }
}

/// What hangs on a port, as the hub can measure it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Load {
    /// No cable, or nothing at its end.
    #[default]
    Empty,
    /// A phone with this much in its battery.
    Phone {
        /// 0 to 100.
        battery_percent: u8,
    },
}

/// The firmware's state.
#[derive(Clone, Debug)]
pub struct Board {
    serial: String,
    rebooted: bool,
    ports: Vec<Port>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Port {
    mode: Mode,
    /// Since when it charges, by the hub's own clock.
    charging_since: Duration,
}

/// The reply to one command line, and what it did to the ports.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// Lines that end `\r\n`, without the prompt.
    pub text: String,
    /// The ports (counted from 1) whose mode was set, in order.
    pub switched: Vec<(u8, Mode)>,
}

/// A refusal, as the firmware words it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    NotRecognised,
    TooManyParameters,
    BadParameter,
    MissingParameter,
}

impl Refusal {
    const fn text(self) -> &'static str {
        match self {
            Self::NotRecognised => "*E400: Command not recognised",
            Self::TooManyParameters => "*E401: Too many parameters",
            Self::BadParameter => "*E402: Parameter not valid",
            Self::MissingParameter => "*E404: Mandatory parameter missing",
        }
    }
}

/// The current that a phone with an empty battery draws from a port in `charge`, in milliampere.
const CHARGE_MILLIAMPS_MAX: u32 = 2_400;
/// The same in `sync`, where USB's own limit holds.
const SYNC_MILLIAMPS_MAX: u32 = 900;
/// What a full phone still draws.
const IDLE_MILLIAMPS: u32 = 20;

impl Board {
    /// A board that was just switched on: every port in `sync`, the rebooted flag set.
    #[must_use]
    pub fn new(serial: &str, ports: u8) -> Self {
        Self { serial: serial.to_owned(), rebooted: true, ports: vec![Port::default(); usize::from(ports)] }
    }

    /// The mode of the port (counted from 1), if there is one.
    #[must_use]
    pub fn mode(&self, port: u8) -> Option<Mode> {
        self.ports.get(usize::from(port).checked_sub(1)?).map(|port| port.mode)
    }

    /// Carries out one command line. `up` is the time since the board was switched on; `loads` says what hangs on each port.
    #[must_use]
    pub fn answer(&mut self, command: &str, up: Duration, loads: &[Load]) -> Answer {
        let words: Vec<String> = command.split_ascii_whitespace().map(str::to_ascii_lowercase).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let result = match words.as_slice() {
            [] => Ok(Answer::default()),
            ["id", rest @ ..] => Self::alone(rest, || self.id()),
            ["system", rest @ ..] => Self::alone(rest, || self.system()),
            ["health", rest @ ..] => Self::alone(rest, || self.health(up)),
            ["limits", rest @ ..] => Self::alone(rest, limits),
            ["crf"] => {
                self.rebooted = false;
                Ok(Answer::default())
            }
            ["crf", ..] => Err(Refusal::TooManyParameters),
            ["state", rest @ ..] => self.state(rest, up, loads),
            ["mode", rest @ ..] => self.set_mode(rest, up),
            _ => Err(Refusal::NotRecognised),
        };
        result.unwrap_or_else(|refusal| Answer { text: format!("{}\r\n", refusal.text()), switched: Vec::new() })
    }

    fn alone(rest: &[&str], text: impl FnOnce() -> String) -> Result<Answer, Refusal> {
        if !rest.is_empty() {
            return Err(Refusal::TooManyParameters);
        }
        Ok(Answer { text: text(), switched: Vec::new() })
    }

    fn id(&self) -> String {
        format!(
            "mfr:cambrionix,mode:main,hw:PPU{}S,hwid:0x13,fw:1.83,bl:0.12,sn:{},group:-,fc:un\r\n",
            self.ports.len(),
            self.serial
        )
    }

    fn system(&self) -> String {
        let ports = self.ports.len();
        format!(
            "cambrionix PPU{ports}S {ports} Port USB Charge+Sync\r\nHardware: PPU{ports}S\r\nFirmware: 1.83\r\nCompiled: Jun 08 2015 18:20:09\r\nGroup: -\r\nPanel ID: Absent\r\n"
        )
    }

    /// The supply sinks a little and the board warms up with each port that feeds something; both drift with the time.
    fn health(&self, up: Duration) -> String {
        let fed = self.ports.iter().filter(|port| port.mode != Mode::Off).count();
        let fed = u32::try_from(fed).unwrap_or(0);
        let drift = f64::from(wobble(up, 0, 10)) / 100.0;
        let volts = 5.25 - f64::from(fed) * 0.01 + drift / 10.0;
        let celsius = 30.0 + f64::from(fed) * 0.8 + drift * 10.0;
        let rebooted = if self.rebooted { "R" } else { "" };
        format!(
            "5V Now (V):  {volts:.2}\r\n5V Min (V):  5.12\r\n5V Max (V):  5.26\r\n5V Flags:    \r\n\
             Temperature Now (C):  {celsius:.1}\r\nTemperature Min (C):  28.0\r\nTemperature Max (C):  {celsius:.1}\r\nTemperature Flags:    \r\n\
             Rebooted:  {rebooted}\r\n"
        )
    }

    fn state(&self, rest: &[&str], up: Duration, loads: &[Load]) -> Result<Answer, Refusal> {
        let wanted = match rest {
            [] => None,
            [port] => Some(self.port_number(port)?),
            _ => return Err(Refusal::TooManyParameters),
        };
        let mut text = String::new();
        for (number, port) in (1_u8..).zip(&self.ports) {
            if wanted.is_none_or(|wanted| wanted == number) {
                let load = loads.get(usize::from(number) - 1).copied().unwrap_or_default();
                self.state_line(&mut text, number, *port, load, up);
            }
        }
        Ok(Answer { text, switched: Vec::new() })
    }

    fn state_line(&self, text: &mut String, number: u8, port: Port, load: Load, up: Duration) {
        let current = current_milliamps(port.mode, load, up, number);
        let attached = if load != Load::Empty && port.mode != Mode::Off { 'A' } else { 'D' };
        let rebooted = if self.rebooted { "R " } else { "" };
        let charging = if current > IDLE_MILLIAMPS { up.saturating_sub(port.charging_since) } else { Duration::ZERO };
        let energy = f64::from(current) * 5.0 * charging.as_secs_f64() / 3_600_000.0;
        let mode = port.mode.flag();
        let seconds = charging.as_secs();
        let _ = write!(text, "{number}, {current:04}, {rebooted}{attached} {mode}, 0, {seconds}, x, {energy:.2}\r\n");
    }

    fn set_mode(&mut self, rest: &[&str], up: Duration) -> Result<Answer, Refusal> {
        let (mode, ports) = match rest {
            [] => return Err(Refusal::MissingParameter),
            [mode] => (*mode, None),
            [mode, port] | [mode, port, _] => (*mode, Some(self.port_number(port)?)),
            _ => return Err(Refusal::TooManyParameters),
        };
        let mode = Mode::parse(mode).ok_or(Refusal::BadParameter)?;
        let mut switched = Vec::new();
        for (number, port) in (1_u8..).zip(&mut self.ports) {
            if ports.is_none_or(|wanted| wanted == number) {
                *port = Port { mode, charging_since: up };
                switched.push((number, mode));
            }
        }
        Ok(Answer { text: String::new(), switched })
    }

    fn port_number(&self, word: &str) -> Result<u8, Refusal> {
        let port: u8 = word.parse().map_err(|_| Refusal::BadParameter)?;
        self.mode(port).map(|_| port).ok_or(Refusal::BadParameter)
    }
}

fn limits() -> String {
    "Attach threshold: 10mA\r\nDetach threshold: 5mA\r\nMax port current: 2400mA\r\nMax board current: 16000mA\r\n"
        .to_owned()
}

/// A battery that fills draws less and less; no reading stands still.
fn current_milliamps(mode: Mode, load: Load, up: Duration, port: u8) -> u32 {
    let most = match mode {
        Mode::Off | Mode::Biased => return 0,
        Mode::Sync => SYNC_MILLIAMPS_MAX,
        Mode::Charge => CHARGE_MILLIAMPS_MAX,
    };
    match load {
        Load::Empty => 0,
        Load::Phone { battery_percent } => {
            let missing = u32::from(100 - battery_percent.min(100));
            IDLE_MILLIAMPS + (most - IDLE_MILLIAMPS) * missing / 100 + wobble(up, port, 9)
        }
    }
}

/// A number below `span` that changes each second and differs from port to port.
fn wobble(up: Duration, port: u8, span: u32) -> u32 {
    let second = u32::try_from(up.as_secs() & 0xffff).unwrap_or(0);
    (second.wrapping_add(u32::from(port)).wrapping_mul(2_654_435_761) >> 16) % span.max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    fn ask(board: &mut Board, command: &str) -> String {
        let loads = [Load::Phone { battery_percent: 50 }, Load::Empty, Load::Phone { battery_percent: 100 }];
        board.answer(command, MINUTE, &loads).text
    }

    #[test]
    fn id_is_one_line_of_keys_and_values() {
        let mut board = Board::new("DB0074F5", 3);
        assert_eq!(
            ask(&mut board, "id"),
            "mfr:cambrionix,mode:main,hw:PPU3S,hwid:0x13,fw:1.83,bl:0.12,sn:DB0074F5,group:-,fc:un\r\n"
        );
    }

    #[test]
    fn state_has_a_line_for_each_port_or_for_one() {
        let mut board = Board::new("X", 3);
        assert_eq!(ask(&mut board, "crf"), "");
        let all = ask(&mut board, "STATE");
        let lines: Vec<&str> = all.lines().collect();
        assert_eq!(lines.len(), 3);
        assert!(lines[0].starts_with("1, 04") && lines[0].contains(", A S, 0, 60, x, "), "{all}");
        assert_eq!(lines[1], "2, 0000, D S, 0, 0, x, 0.00");
        assert_eq!(ask(&mut board, "state 2"), "2, 0000, D S, 0, 0, x, 0.00\r\n");
    }

    #[test]
    fn the_rebooted_flag_stays_until_it_is_cleared() {
        let mut board = Board::new("X", 1);
        assert!(ask(&mut board, "state").contains(", R A S,"));
        let _ = ask(&mut board, "crf");
        assert!(ask(&mut board, "state").contains(", A S,"));
    }

    #[test]
    fn a_port_in_off_feeds_nothing_and_sees_nothing() {
        let mut board = Board::new("X", 3);
        let answer = board.answer("mode off 1", MINUTE, &[]);
        assert_eq!(answer, Answer { text: String::new(), switched: vec![(1, Mode::Off)] });
        assert!(ask(&mut board, "state 1").starts_with("1, 0000, R D O,"));
        let all = board.answer("mode s", MINUTE, &[]);
        assert_eq!(all.switched, [(1, Mode::Sync), (2, Mode::Sync), (3, Mode::Sync)]);
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_a_number() {
        let mut board = Board::new("X", 3);
        for (command, code) in [
            ("fly", "*E400"),
            ("id 7", "*E401"),
            ("state 4", "*E402"),
            ("state 0", "*E402"),
            ("state nine", "*E402"),
            ("mode wild 1", "*E402"),
            ("mode", "*E404"),
            ("mode off 1 2 3", "*E401"),
        ] {
            let answer = board.answer(command, MINUTE, &[]);
            assert!(answer.text.starts_with(code), "{command}: {}", answer.text);
            assert!(answer.switched.is_empty(), "{command}");
        }
    }

    #[test]
    fn currents_and_temperature_move() {
        let mut board = Board::new("X", 1);
        let load = [Load::Phone { battery_percent: 40 }];
        let readings: std::collections::BTreeSet<String> =
            (0..30).map(|second| board.answer("state 1", Duration::from_secs(second), &load).text).collect();
        assert!(readings.len() > 10, "{readings:?}");
        let full = current_milliamps(Mode::Sync, Load::Phone { battery_percent: 100 }, MINUTE, 1);
        let empty = current_milliamps(Mode::Sync, Load::Phone { battery_percent: 0 }, MINUTE, 1);
        assert!(full < 50 && empty >= SYNC_MILLIAMPS_MAX, "{full} {empty}");
    }
}
