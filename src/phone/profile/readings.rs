//! What changes on a phone while it lies in the rack: its battery, room, uptime and screen.

use std::time::Duration;

use crate::rack::snapshot::{Battery, BatteryHealth, ScreenSize, ScreenState, Storage};

/// No phone's battery takes or gives more; what is beyond is another unit, or nonsense.
const CURRENT_MILLIAMPS_MAX: i64 = 20_000;
/// No phone's screen has more points on a side.
const SCREEN_POINTS_MAX: u32 = 20_000;

/// The battery in the output of `dumpsys battery`; `None` without a level.
///
/// Samsung's phones tell the current there, in milliampere.
#[must_use]
pub fn battery(dumpsys: &str) -> Option<Battery> {
    let field = |name: &str| {
        dumpsys.lines().find_map(|line| {
            let (key, value) = line.trim().split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim().parse::<i64>().ok())?
        })
    };
    let level = field("level")?;
    let scale = field("scale").filter(|scale| *scale > 0).unwrap_or(100);
    let percent = u8::try_from(level.checked_mul(100)? / scale).ok().filter(|percent| *percent <= 100)?;
    Some(Battery {
        level_percent: percent,
        temperature_celsius: field("temperature")
            .and_then(|tenths| i16::try_from(tenths).ok())
            .map(|t| f32::from(t) / 10.0),
        voltage_millivolts: field("voltage").and_then(|millivolts| u32::try_from(millivolts).ok()),
        current_milliamps: field("current now").and_then(sane_current),
        health: field("health").and_then(health),
        // BatteryManager: 2 charging, 5 full.
        charging: matches!(field("status"), Some(2 | 5)),
    })
}

/// `BatteryManager.BATTERY_HEALTH_*`; 1 is unknown.
fn health(code: i64) -> Option<BatteryHealth> {
    let index = usize::try_from(code.checked_sub(2)?).ok()?;
    BatteryHealth::ALL.get(index).copied()
}

/// The battery's current in the output of `cat …/current_now` or `cmd battery get current_now`.
///
/// The kernel's power supply class and Android's health service speak of microampere; the drivers of Samsung's phones (`brand`) of
/// milliampere.
#[must_use]
pub fn current_milliamps(answer: &str, brand: &str) -> Option<i32> {
    let told: i64 = answer.trim().parse().ok()?;
    sane_current(if brand.eq_ignore_ascii_case("samsung") { told } else { told / 1000 })
}

fn sane_current(milliamps: i64) -> Option<i32> {
    let sane = (-CURRENT_MILLIAMPS_MAX..=CURRENT_MILLIAMPS_MAX).contains(&milliamps);
    sane.then(|| i32::try_from(milliamps).ok())?
}

/// The room on a partition, in the output of `df <folder>` since Android 6: KiB, below a heading that says so.
#[must_use]
pub fn storage(df: &str) -> Option<Storage> {
    let mut lines = df.lines().skip_while(|line| !line.contains("1K-blocks"));
    lines.next()?;
    let mut fields = lines.next()?.split_whitespace().rev();
    let (_mounted_on, _percent) = (fields.next()?, fields.next()?);
    let mut bytes = || fields.next()?.parse::<u64>().ok()?.checked_mul(1024);
    let (free_bytes, _used, total_bytes) = (bytes()?, bytes()?, bytes()?);
    (free_bytes <= total_bytes).then_some(Storage { free_bytes, total_bytes })
}

/// How long the kernel has been up, in the text of `/proc/uptime`: seconds with hundredths, then the idle time.
#[must_use]
pub fn uptime(proc_uptime: &str) -> Option<Duration> {
    let seconds: f64 = proc_uptime.split_whitespace().next()?.parse().ok()?;
    Duration::try_from_secs_f64(seconds).ok()
}

/// The screen's size in the output of `wm size`, as apps see it.
#[must_use]
pub fn screen_size(wm: &str) -> Option<ScreenSize> {
    let (width, height) = in_effect(wm, "size")?.split_once('x')?;
    let points = |text: &str| text.parse().ok().filter(|points| (1..=SCREEN_POINTS_MAX).contains(points));
    Some(ScreenSize { width: points(width)?, height: points(height)? })
}

/// The screen's density in the output of `wm density`, as apps see it, in dots an inch.
#[must_use]
pub fn screen_density(wm: &str) -> Option<u32> {
    in_effect(wm, "density")?.parse().ok().filter(|density| (1..=10_000).contains(density))
}

/// `wm` tells what the hardware has, and then what somebody has set in its place.
fn in_effect<'a>(wm: &'a str, what: &str) -> Option<&'a str> {
    let told = |kind: &str| wm.lines().find_map(|line| line.trim().strip_prefix(&format!("{kind} {what}: ")));
    told("Override").or_else(|| told("Physical")).map(str::trim)
}

/// Whether the screen is on, in the output of `dumpsys power`: what the display was asked to do, else how awake the phone is.
#[must_use]
pub fn screen_state(dumpsys: &str) -> Option<ScreenState> {
    let told = |key: &str| dumpsys.lines().find_map(|line| line.trim().strip_prefix(key)).map(str::trim);
    let display = match told("Display Power: state=") {
        Some("ON" | "BRIGHT" | "DIM" | "VR") => Some(ScreenState::On),
        Some("OFF") => Some(ScreenState::Off),
        Some("DOZE" | "DOZE_SUSPEND" | "ON_SUSPEND") => Some(ScreenState::Dozing),
        _ => None,
    };
    display.or_else(|| match told("mWakefulness=")? {
        "Awake" | "Dreaming" => Some(ScreenState::On),
        "Asleep" => Some(ScreenState::Off),
        "Dozing" => Some(ScreenState::Dozing),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BATTERY: &str = "Current Battery Service state:\n  AC powered: false\n  USB powered: true\n  Max charging current: 500000\n  Charge counter: 3000000\n  status: 2\n  health: 2\n  present: true\n  level: 84\n  scale: 100\n  voltage: 4210\n  temperature: 287\n  technology: Li-ion\n  Charging state: 0\n";

    #[test]
    fn a_battery_is_read_as_android_prints_it() {
        let read = battery(BATTERY).unwrap();
        assert_eq!((read.level_percent, read.voltage_millivolts, read.charging), (84, Some(4210), true));
        assert_eq!((read.temperature_celsius, read.health), (Some(28.7), Some(BatteryHealth::Good)));
        assert_eq!(read.current_milliamps, None);
        let samsung = format!("{BATTERY}  mSecPlugTypeSummary: 2\n  LED Charging: true\n  current now: -312\n");
        assert_eq!(battery(&samsung).unwrap().current_milliamps, Some(-312));
    }

    #[test]
    fn a_health_that_android_does_not_know_is_none() {
        let with = |code: &str| battery(&BATTERY.replace("health: 2", &format!("health: {code}"))).unwrap().health;
        assert_eq!(with("1"), None);
        assert_eq!(with("3"), Some(BatteryHealth::Overheat));
        assert_eq!(with("7"), Some(BatteryHealth::Cold));
        assert_eq!((with("8"), with("-9223372036854775808"), with("x")), (None, None, None));
    }

    #[test]
    fn a_battery_without_a_sane_level_is_no_battery() {
        for text in ["", "level: x", "level: 900\nscale: 100", "level: -1", "level: 9223372036854775807"] {
            assert_eq!(battery(text), None, "{text}");
        }
    }

    #[test]
    fn a_current_is_told_in_the_unit_of_its_maker() {
        assert_eq!(current_milliamps("-312500\n", "Google"), Some(-312));
        assert_eq!(current_milliamps("-312\n", "samsung"), Some(-312));
        assert_eq!(current_milliamps("900\n", "google"), Some(0));
        for text in ["", "null", "cat: current_now: Permission denied", "Unknown get option: current_now"] {
            assert_eq!(current_milliamps(text, "google"), None, "{text}");
        }
        assert_eq!(current_milliamps("312500", "samsung"), None);
    }

    #[test]
    fn the_room_is_read_in_kibibytes_and_only_in_these() {
        let df = "Filesystem     1K-blocks     Used Available Use% Mounted on\n/dev/block/dm-38 112345678 45678901  66535705  41% /data\n";
        assert_eq!(storage(df), Some(Storage { free_bytes: 66_535_705 * 1024, total_bytes: 112_345_678 * 1024 }));
        let toolbox = "Filesystem               Size     Used     Free   Blksize\n/data                   11.9G     3.2G     8.7G   4096\n";
        assert_eq!(storage(toolbox), None);
        assert_eq!(storage(&df.replace("66535705", "18446744073709551615")), None);
        assert_eq!(storage("df: /data: Permission denied\n"), None);
    }

    #[test]
    fn the_uptime_is_the_first_of_two_numbers() {
        assert_eq!(uptime("51804.37 391234.11\n"), Some(Duration::from_millis(51_804_370)));
        for text in ["", "-1 2", "NaN 1", "inf 1", "1e300 1", "cat: /proc/uptime: Permission denied"] {
            assert_eq!(uptime(text), None, "{text}");
        }
    }

    #[test]
    fn what_was_set_for_a_screen_counts_more_than_what_it_has() {
        let size = "Physical size: 1080x2400\nPhysical density: 420\n";
        assert_eq!(screen_size(size), Some(ScreenSize { width: 1080, height: 2400 }));
        assert_eq!(screen_density(size), Some(420));
        let set = format!("{size}Override size: 720x1600\nOverride density: 300\n");
        assert_eq!(screen_size(&set), Some(ScreenSize { width: 720, height: 1600 }));
        assert_eq!(screen_density(&set), Some(300));
        for text in ["", "Error: no display", "Physical size: x", "Physical size: 0x10", "Physical size: 99999x1"] {
            assert_eq!(screen_size(text), None, "{text}");
        }
    }

    #[test]
    fn a_screen_is_on_as_the_display_was_asked_else_as_the_phone_is_awake() {
        let old = "  mWakefulness=Awake\n  mHalInteractiveModeEnabled=true\n\nDisplay Power: state=OFF\n";
        assert_eq!(screen_state(old), Some(ScreenState::Off));
        assert_eq!(screen_state("  mWakefulness=Asleep\n  mWakefulnessChanging=false\n"), Some(ScreenState::Off));
        assert_eq!(screen_state("  mWakefulness=Dozing\n"), Some(ScreenState::Dozing));
        assert_eq!(screen_state("  mWakefulness=Dreaming\n"), Some(ScreenState::On));
        assert_eq!(screen_state("Can't find service: power\n"), None);
    }

    proptest! {
        #[test]
        fn what_is_printed_is_read_back(level in 0..=100u8, health in 2..=7i64, milliamps in -9000..9000i32, kib in 0..1u64 << 40, free in 0..1u64 << 40, width in 1..9000u32) {
            let read = battery(&format!("  health: {health}\r\n  level: {level}\r\n  scale: 100\r\n  current now: {milliamps}\r\n")).unwrap();
            prop_assert_eq!((read.level_percent, read.current_milliamps), (level, Some(milliamps)));
            prop_assert_eq!(read.health, Some(BatteryHealth::ALL[usize::try_from(health).unwrap() - 2]));
            prop_assert_eq!(current_milliamps(&(i64::from(milliamps) * 1000).to_string(), "x"), Some(milliamps));
            let df = storage(&format!("Filesystem 1K-blocks Used Available Use% Mounted on\n/dev/block/dm-1 {kib} 7 {free} 3% /data\n"));
            prop_assert_eq!(df, (free <= kib).then_some(Storage { free_bytes: free * 1024, total_bytes: kib * 1024 }));
            let size = screen_size(&format!("Physical size: {width}x{width}"));
            prop_assert_eq!(size, Some(ScreenSize { width, height: width }));
        }
    }
}
