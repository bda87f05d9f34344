//! A battery that moves: it charges while the phone is plugged in and runs down while it is not.

use std::time::Duration;

/// Percent a minute while plugged in: a rack's port gives a phone little more than it uses.
const CHARGE_PER_MINUTE: f64 = 0.5;

/// Percent a minute while not plugged in, with the screen off.
const DISCHARGE_PER_MINUTE: f64 = 0.1;

/// Microampere-hours of a full battery.
const CAPACITY_UAH: f64 = 4_410_000.0;

/// What the battery service tells of itself.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Reading {
    /// Whole percent.
    pub(super) level: u8,
    /// Tenths of a degree.
    pub(super) temperature: i32,
    pub(super) millivolts: u32,
    pub(super) charge_counter_uah: u32,
    /// Into the battery.
    pub(super) current_ua: i32,
    pub(super) power: Power,
}

/// Where the power comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Power {
    Battery,
    Usb,
}

/// A battery, as of some moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Battery {
    percent: f64,
    as_of: Duration,
    power: Power,
}

impl Battery {
    pub(super) fn new(percent: f64, now: Duration) -> Self {
        Self { percent: percent.clamp(0.0, 100.0), as_of: now, power: Power::Battery }
    }

    pub(super) fn set_percent(&mut self, percent: f64, now: Duration) {
        self.percent = percent.clamp(0.0, 100.0);
        self.as_of = now;
    }

    pub(super) fn set_power(&mut self, power: Power, now: Duration) {
        self.percent = self.percent_at(now);
        self.as_of = now;
        self.power = power;
    }

    pub(super) fn read(&self, now: Duration) -> Reading {
        let percent = self.percent_at(now);
        Reading {
            level: percent as u8,
            temperature: temperature_at(now, self.power),
            millivolts: (3500.0 + 8.5 * percent) as u32,
            charge_counter_uah: (CAPACITY_UAH * percent / 100.0) as u32,
            current_ua: self.current_at(percent),
            power: self.power,
        }
    }

    /// What moves the charge as [`Battery::percent_at`] has it; a full battery takes nothing.
    fn current_at(&self, percent: f64) -> i32 {
        const MINUTES: f64 = 60.0;
        let percent_per_minute = match self.power {
            Power::Usb if percent >= 100.0 => 0.0,
            Power::Usb => CHARGE_PER_MINUTE,
            Power::Battery => -DISCHARGE_PER_MINUTE,
        };
        (CAPACITY_UAH * percent_per_minute / 100.0 * MINUTES) as i32
    }

    fn percent_at(&self, now: Duration) -> f64 {
        let minutes = now.saturating_sub(self.as_of).as_secs_f64() / 60.0;
        let moved = match self.power {
            Power::Usb => CHARGE_PER_MINUTE * minutes,
            Power::Battery => -DISCHARGE_PER_MINUTE * minutes,
        };
        (self.percent + moved).clamp(0.0, 100.0)
    }
}

/// A slow wave of 1.5 degrees around what a phone in a rack has; charging adds two.
fn temperature_at(now: Duration, power: Power) -> i32 {
    const PERIOD_S: f64 = 600.0;
    let wave = (now.as_secs_f64() * std::f64::consts::TAU / PERIOD_S).sin();
    let base = match power {
        Power::Battery => 265.0,
        Power::Usb => 285.0,
    };
    (base + 15.0 * wave) as i32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_charges_when_plugged_in_and_runs_down_when_not() {
        let minutes = |count: u64| Duration::from_secs(60 * count);
        let mut battery = Battery::new(50.0, minutes(0));
        assert_eq!((battery.read(minutes(20)).level, battery.read(minutes(20)).current_ua), (48, -264_600));
        battery.set_power(Power::Usb, minutes(20));
        assert_eq!((battery.read(minutes(40)).level, battery.read(minutes(40)).current_ua), (58, 1_323_000));
        assert_eq!((battery.read(minutes(4000)).level, battery.read(minutes(4000)).current_ua), (100, 0));
        battery.set_percent(7.0, minutes(4000));
        assert_eq!(battery.read(minutes(4000)).level, 7);
        assert_eq!(Battery::new(200.0, minutes(0)).read(minutes(0)).level, 100);
    }
}
