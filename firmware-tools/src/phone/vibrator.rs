//! `cmd vibrator` and `cmd vibrator_manager`: what a hand on the phone feels.

use handset::Output;

use super::android::Android;
use super::pm;

/// Android 8 lets a shell use the vibrator.
const SDK_WITH_COMMAND: u32 = 26;
/// Android 9 knows `-f`: also where the phone is not to be disturbed.
const SDK_WITH_FORCE: u32 = 28;
/// Android 12 has a manager of several vibrators in its place.
const SDK_WITH_MANAGER: u32 = 31;
/// The longest vibration, in milliseconds.
const MILLIS_MAX: u64 = 10_000;

/// Runs `cmd <service> <words>`.
pub(super) fn run(android: &Android, service: &str, words: &[&str]) -> Output {
    let sdk = android.spec.sdk;
    match service {
        "vibrator_manager" if sdk >= SDK_WITH_MANAGER => manager(android, words),
        "vibrator" if sdk < SDK_WITH_COMMAND => Output::success("No shell command implementation.\n"),
        "vibrator" if sdk < SDK_WITH_MANAGER => single(android, words),
        _ => Output::failure(20, format!("cmd: Can't find service: {service}\n")),
    }
}

/// `vibrate [-f] duration [description]`
fn single(android: &Android, words: &[&str]) -> Output {
    match words {
        ["vibrate", "-f", rest @ ..] if android.spec.sdk >= SDK_WITH_FORCE => vibrate(android, rest),
        ["vibrate", rest @ ..] => vibrate(android, rest),
        ["cancel"] => Output::default(),
        _ => unknown(words),
    }
}

/// `synced [-f] [-B] [-d description] oneshot [-w delay] [-a] duration [amplitude]`, and `list`
fn manager(android: &Android, words: &[&str]) -> Output {
    let ["synced", rest @ ..] = words else {
        return match words {
            ["list"] => Output::success("0\n"),
            ["cancel"] => Output::default(),
            _ => unknown(words),
        };
    };
    let mut rest = rest;
    while let ["-f" | "-B", more @ ..] | ["-d", _, more @ ..] = rest {
        rest = more;
    }
    let ["oneshot", effect @ ..] = rest else { return unknown(words) };
    let mut effect = effect;
    while let ["-a", more @ ..] | ["-w", _, more @ ..] = effect {
        effect = more;
    }
    vibrate(android, effect)
}

fn vibrate(android: &Android, words: &[&str]) -> Output {
    let Some(duration) = words.first() else {
        return pm::thrown("vibrate", "java.lang.IllegalArgumentException: Argument expected after \"vibrate\"");
    };
    match duration.parse::<u64>() {
        Ok(1..=MILLIS_MAX) => {
            android.state().vibrations += 1;
            Output::default()
        }
        Ok(_) => {
            pm::thrown("vibrate", &format!("java.lang.IllegalArgumentException: maximum duration is {MILLIS_MAX}"))
        }
        Err(_) => pm::thrown("vibrate", &format!("java.lang.NumberFormatException: For input string: \"{duration}\"")),
    }
}

fn unknown(words: &[&str]) -> Output {
    let word = words.first().copied().unwrap_or_default();
    Output::failure(255, format!("Unknown command: {word}\n"))
}
