//! Our own phones on dummy_hcd: gadgets with rackbench behind them, by the guest's script `/own-phone`.

use std::fs;
use std::process::Command;
use std::time::Duration;

use crate::check::{Failure, until};

/// From the plug until the kernel has configured it, in emulation.
const CONFIGURED_MAX: Duration = Duration::from_secs(60);

/// How a phone is plugged in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plug {
    /// It plugs itself in.
    Alive,
    /// It is stopped before, so that it answers nothing.
    Frozen,
}

/// Plugs in, at a device controller, a phone with this serial that is told to be what rackbench's options say.
pub(crate) fn plug(number: usize, serial: &str, plug: Plug, options: &[&str]) -> Result<(), Failure> {
    let verb = if plug == Plug::Alive { "plug" } else { "frozen" };
    order(verb, number, &[&[serial], options].concat())
}

/// Takes it off the bus.
pub(crate) fn unplug(number: usize) -> Result<(), Failure> {
    order("unplug", number, &[])
}

/// Waits until the kernel has configured so many devices whose serial begins so.
pub(crate) fn wait_for_bus(serial: &str, count: usize) -> Result<(), Failure> {
    let look = || {
        let mut configured = 0;
        for device in fs::read_dir("/sys/bus/usb/devices")? {
            let path = device?.path();
            let text = |name: &str| fs::read_to_string(path.join(name)).unwrap_or_default();
            if text("serial").starts_with(serial) && text("bConfigurationValue").trim() == "1" {
                configured += 1;
            }
        }
        if configured == count { Ok(()) } else { Err(format!("{configured} are").into()) }
    };
    until(&format!("{count} {serial}… are on the bus"), CONFIGURED_MAX, look)?;
    Ok(())
}

/// Has the guest's script do something with it.
pub(crate) fn order(verb: &str, number: usize, words: &[&str]) -> Result<(), Failure> {
    let status = Command::new("/own-phone").args([verb, &number.to_string()]).args(words).status()?;
    if status.success() { Ok(()) } else { Err(format!("/own-phone {verb} {number}: {status}").into()) }
}
