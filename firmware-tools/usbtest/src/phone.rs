//! Phones of the part on dummy_hcd: gadgets with Google's adbd behind them, by the guest's script `/phone`.

use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::check::Failure;

/// How many phones there are: as many as dummy_hcd takes.
pub(crate) const PHONES: usize = 32;

/// How many scripts run at once.
const AT_ONCE: usize = 4;

/// Between two plugs by the same hand.
const BETWEEN_PLUGS: Duration = Duration::from_millis(1500);

/// The two that have one serial.
pub(crate) const TWINS: [usize; 2] = [30, 31];

/// The one whose USB descriptor has another serial than Android.
pub(crate) const MISLABELLED: usize = 29;

/// What Android of phone `number` says its serial is.
pub(crate) fn serial(number: usize) -> String {
    if TWINS.contains(&number) { "TWIN".to_owned() } else { plain_serial(number) }
}

/// What the USB descriptor of phone `number` says.
pub(crate) fn descriptor_serial(number: usize) -> String {
    if number == MISLABELLED { "LABEL".to_owned() } else { serial(number) }
}

/// Builds a phone; it is not plugged in yet.
pub(crate) fn make(number: usize) -> Result<(), String> {
    phone(&["make", &number.to_string(), &descriptor_serial(number), &serial(number)])
}

/// What every phone says its serial is that was built by [`make_plain`].
pub(crate) fn plain_serial(number: usize) -> String {
    format!("PHONE{number:02}")
}

/// Builds a phone that is no twin and has no label of its own.
pub(crate) fn make_plain(number: usize) -> Result<(), String> {
    let serial = plain_serial(number);
    phone(&["make", &number.to_string(), &serial, &serial])
}

/// The same with a product id of its own, in hexadecimal digits, for a program that picks a handset by that.
pub(crate) fn make_product(number: usize, product: &str) -> Result<(), String> {
    let serial = plain_serial(number);
    phone(&["make", &number.to_string(), &serial, &serial, product])
}

/// Builds all phones; none is plugged in yet.
pub(crate) fn make_all() -> Result<(), Failure> {
    each(make)
}

/// Plugs a phone in.
pub(crate) fn plug(number: usize) -> Result<(), Failure> {
    phone(&["plug", &number.to_string()]).map_err(Into::into)
}

/// Unplugs it.
pub(crate) fn unplug(number: usize) -> Result<(), Failure> {
    phone(&["unplug", &number.to_string()]).map_err(Into::into)
}

/// Plugs all in, two a second and more.
pub(crate) fn plug_all() -> Result<(), Failure> {
    each(|number| {
        let plugged = phone(&["plug", &number.to_string()]);
        thread::sleep(BETWEEN_PLUGS);
        plugged
    })
}

/// Unplugs all.
pub(crate) fn unplug_all() -> Result<(), Failure> {
    each(|number| phone(&["unplug", &number.to_string()]))
}

/// Lets its Android start for ever, or be there.
pub(crate) fn booted(number: usize, word: &str) -> Result<(), Failure> {
    phone(&["booted", &number.to_string(), word]).map_err(Into::into)
}

/// Stops its adbd where it is, so that it answers nothing.
pub(crate) fn freeze(number: usize) -> Result<(), Failure> {
    phone(&["freeze", &number.to_string()]).map_err(Into::into)
}

/// A few at a time: 32 at once on two emulated processors and every wait of adbd and farmhand runs out.
pub(crate) fn each(act: impl Fn(usize) -> Result<(), String> + Sync) -> Result<(), Failure> {
    let (act, next) = (&act, AtomicUsize::new(0));
    let work = || -> Vec<String> {
        let mut failures = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= PHONES {
                return failures;
            }
            failures.extend(act(number).err());
        }
    };
    let failures: Vec<String> = thread::scope(|scope| {
        let workers: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        workers.into_iter().filter_map(|worker| worker.join().ok()).flatten().collect()
    });
    if failures.is_empty() { Ok(()) } else { Err(failures.join("; ").into()) }
}

fn phone(words: &[&str]) -> Result<(), String> {
    let status = Command::new("/phone").args(words).status().map_err(|error| format!("/phone: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("/phone {}: {status}", words.join(" "))) }
}
