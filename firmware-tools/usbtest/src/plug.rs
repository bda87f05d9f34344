//! The least part on dummy_hcd: two phones are plugged in and out.

use std::time::Duration;

use crate::check::{Failure, check};
use crate::daemon::{CAREFUL, Daemon, User};
use crate::phone;

/// The phones are numbers 0 and 1.
const PHONES: usize = 2;
/// From the plug to ready, in emulation on a busy machine.
const READY_MAX: Duration = Duration::from_secs(40);
/// From the unplug until it is shown; the look itself takes a while in emulation.
const ABSENT_MAX: Duration = Duration::from_secs(10);

pub(crate) fn run() -> Result<(), Failure> {
    for number in 0..PHONES {
        phone::make(number)?;
    }
    let daemon = Daemon::start("/state", CAREFUL, User::Root)?;
    check("plugged", || {
        for number in 0..PHONES {
            phone::plug(number)?;
        }
        all_become(&daemon, "ready", READY_MAX)
    });
    check("unplugged", || {
        for number in 0..PHONES {
            phone::unplug(number)?;
        }
        all_become(&daemon, "absent", ABSENT_MAX)
    });
    println!("the daemon's log:\n{}", crate::daemon::log());
    Ok(())
}

/// Waits until every phone is in `state`, and says which one was seen where, after how long.
fn all_become(daemon: &Daemon, state: &str, most: Duration) -> Result<String, Failure> {
    let mut seen = Vec::new();
    for number in 0..PHONES {
        let (phone, took) = daemon.wait_for(&phone::serial(number), &[state], most)?;
        seen.push(format!("{} at {} {state} after {:.1} s", phone.id, phone.path, took.as_secs_f64()));
    }
    Ok(seen.join(", "))
}
