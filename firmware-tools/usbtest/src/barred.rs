//! A handset that the daemon may not open: its owner has no udev rule yet, or another program has it.

use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::check::{Failure, until};
use crate::daemon::Daemon;
use crate::permission::while_permitting;
use crate::phone;

/// Each wait, in emulation on a busy machine: settling takes 3 s, the next look of the bus at most 10 s.
const WAIT_MAX: Duration = Duration::from_secs(40);
/// What the other program pushes over and over.
const BLOB: &str = "/tmp/barred.blob";
/// Named checkpoint: the other program has the phone's interface once this has begun to grow.
const PUSHED: &str = "/tmp/barred.pushed";

/// The permission of the phone's node comes long after the plug, while another program has the phone: it is opened as soon as both let
/// it. The daemon is not root.
pub(crate) fn barred(daemon: &Daemon, number: usize) -> Result<String, Failure> {
    let id = phone::serial(number);
    phone::plug(number)?;
    says(daemon, &id, "the udev rule that allows it")?;
    fs::write(BLOB, vec![0x5a; 16 << 20])?;
    let mut other = Command::new("usb_push");
    other.args([&phone::descriptor_serial(number), BLOB, PUSHED, "1000"]).env("HOME", "/state/home");
    let mut other = other.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let told =
        until("the other program has it", WAIT_MAX, || Ok(fs::metadata(format!("/tmp/phone.{number}/barred.pushed"))?));
    while_permitting(Duration::ZERO, || {
        let told = told.and_then(|_| says(daemon, &id, "another program holds the ADB interface"));
        other.kill()?;
        other.wait()?;
        let tried = told?.as_secs_f64();
        // Google's adbd may take the broken message of the other program as a reason to leave the bus and come back.
        let (_, opened) = daemon.wait_for(&id, &["claiming", "online", "ready"], WAIT_MAX)?;
        let (_, ready) = daemon.wait_for(&id, &["ready"], WAIT_MAX)?;
        Ok(format!(
            "tried {tried:.1} s after its permission came, opened {:.1} s after the other program ended, ready {:.1} s later",
            opened.as_secs_f64(),
            ready.as_secs_f64()
        ))
    })
}

/// Waits until the phone is quarantined and says so.
fn says(daemon: &Daemon, id: &str, words: &str) -> Result<Duration, Failure> {
    let (_, took) = until(&format!("{id} says: {words}"), WAIT_MAX, || {
        let (phone, _) = daemon.wait_for(id, &["quarantined"], WAIT_MAX)?;
        if phone.why.contains(words) { Ok(()) } else { Err(phone.why.into()) }
    })?;
    Ok(took)
}
