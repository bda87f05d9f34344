//! Cases and figures, as run.sh reads them from the console.

use std::error::Error;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Why a case failed, or could not be tried.
pub(crate) type Failure = Box<dyn Error>;

/// Between two looks while something is waited for: a look is a request to the daemon, which shares two emulated processors.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Prints how a case went; a case that fails does not end the story.
pub(crate) fn check(name: &str, case: impl FnOnce() -> Result<String, Failure>) {
    match case() {
        Ok(seen) => println!("CHECK usb.{name} ok {}", one_line(&seen)),
        Err(why) => println!("CHECK usb.{name} FAIL {}", one_line(&why.to_string())),
    }
}

/// Measures; what could not be measured is said, and does not end the story.
pub(crate) fn measure(what: &str, work: impl FnOnce() -> Result<(), Failure>) {
    if let Err(why) = work() {
        println!("usbtest: {what}: {}", one_line(&why.to_string()));
    }
}

/// Prints a figure with its goal, such as `<= 8`.
pub(crate) fn result(name: &str, value: impl std::fmt::Display, unit: &str, goal: &str) {
    println!("RESULT {name} {value} {unit} goal {goal}");
}

/// Looks until `look` gives something, and says how long that took.
pub(crate) fn until<T>(
    what: &str,
    most: Duration,
    mut look: impl FnMut() -> Result<T, Failure>,
) -> Result<(T, Duration), Failure> {
    let start = Instant::now();
    loop {
        match look() {
            Ok(seen) => return Ok((seen, start.elapsed())),
            Err(why) if start.elapsed() > most => {
                return Err(format!("{what}: not within {} s: {why}", most.as_secs()).into());
            }
            Err(_) => sleep(LOOK_EVERY),
        }
    }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
