//! `logcat`: what the phone's parts say, dumped or as a stream that goes on.

use std::time::Duration;

use handset::{Console, Output};

use super::android::Android;

/// How often the phone says something.
const PERIOD: Duration = Duration::from_millis(500);

/// Lines that a phone remembers.
const LINES_MAX: u64 = 200;

const SAYINGS: [(&str, char, &str); 5] = [
    ("ActivityManager", 'I', "Background concurrent copying GC freed memory of cached apps"),
    ("BatteryService", 'D', "battery changed"),
    ("WifiHAL", 'D', "scan finished"),
    ("chatty", 'I', "uid=1000(system) expire 3 lines"),
    ("ThermalService", 'V', "temperature within limits"),
];

/// Runs `logcat <words>`: with `-d` it ends after what was said, with `-c` it forgets, else it goes on until the host closes.
pub(super) async fn run(android: &Android, words: &[&str], console: &mut Console<'_>) -> Output {
    if words.contains(&"-c") {
        let said = said(android);
        android.state().log_cleared = said;
        return Output::default();
    }
    let mut next = first(android, words);
    let mut text = String::from("--------- beginning of main\n");
    loop {
        let now = said(android);
        text.extend((next..now).map(line));
        next = now.max(next);
        if words.contains(&"-d") {
            return Output::success(text);
        }
        if console.print(text.as_bytes()).await.is_err() {
            return Output::default();
        }
        text.clear();
        tokio::select! {
            () = tokio::time::sleep(PERIOD) => {}
            () = console.closed() => return Output::default(),
        }
    }
}

/// How many lines the phone has said.
fn said(android: &Android) -> u64 {
    1 + (android.now().as_millis() / PERIOD.as_millis()) as u64
}

/// The number of the first line that is told.
fn first(android: &Android, words: &[&str]) -> u64 {
    let said = said(android);
    let count = words.iter().skip_while(|word| !matches!(**word, "-T" | "-t")).nth(1);
    let wanted = count.and_then(|text| text.parse().ok()).unwrap_or(LINES_MAX).min(LINES_MAX);
    said.saturating_sub(wanted).max(android.state().log_cleared)
}

/// A line in the form `threadtime`. The phone never heard of the time: its clock began in 1970.
fn line(number: u64) -> String {
    let millis = number * PERIOD.as_millis() as u64;
    let (seconds, millis) = (millis / 1000, millis % 1000);
    let (hours, minutes, seconds) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    let (tag, level, text) = SAYINGS[(number % SAYINGS.len() as u64) as usize];
    format!("01-01 {hours:02}:{minutes:02}:{seconds:02}.{millis:03}  1000  1042 {level} {tag}: {text} ({number})\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_looks_as_logcat_prints_it() {
        assert_eq!(
            line(0),
            "01-01 00:00:00.000  1000  1042 I ActivityManager: Background concurrent copying GC freed memory of cached apps (0)\n"
        );
        assert!(line(7203).starts_with("01-01 01:00:01.500  1000  1042 I chatty: "));
    }
}
