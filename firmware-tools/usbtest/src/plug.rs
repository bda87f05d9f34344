//! The least part on dummy_hcd: two phones are plugged in and out, one is given to another program, and one may not be opened at first.

use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::barred::barred;
use crate::check::{Failure, check, until};
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
    let mut daemon = Daemon::start("/state", CAREFUL, User::Root)?;
    check("plugged", || {
        for number in 0..PHONES {
            phone::plug(number)?;
        }
        all_become(&daemon, "ready", READY_MAX)
    });
    check("detached", || {
        let busy = push_by_another_program();
        let id = phone::serial(0);
        daemon.order(&["phone", &id, "detach"])?;
        let (_, took) = daemon.wait_for(&id, &["detached"], ABSENT_MAX)?;
        push_by_another_program()?;
        let busy = busy.err().ok_or("another program had the interface beside the daemon")?;
        Ok(format!("after {:.1} s another program pushes by it, which had said before: {busy}", took.as_secs_f64()))
    });
    check("doctor", doctor_finds_who_holds_it);
    daemon.kill()?;
    daemon = Daemon::start("/state", CAREFUL, User::Root)?;
    check("detached_over_a_restart", || {
        let id = phone::serial(0);
        daemon.wait_for(&phone::serial(1), &["ready"], READY_MAX)?;
        daemon.wait_for(&id, &["detached"], ABSENT_MAX)?;
        // It leaves the bus and comes back when its adbd has dropped the connection of the program before.
        until("another program pushes", READY_MAX, push_by_another_program)?;
        daemon.order(&["phone", &id, "attach"])?;
        let (_, took) = daemon.wait_for(&id, &["ready"], READY_MAX)?;
        Ok(format!(
            "it stays with the other program after a kill; attached, it is ready after {:.1} s",
            took.as_secs_f64()
        ))
    });
    check("unplugged", || {
        for number in 0..PHONES {
            phone::unplug(number)?;
        }
        all_become(&daemon, "absent", ABSENT_MAX)
    });
    daemon.kill()?;
    let daemon = Daemon::start("/state.nobody", CAREFUL, User::Nobody)?;
    check("barred", || barred(&daemon, 0));
    println!("the daemon's log:\n{}", crate::daemon::log());
    Ok(())
}

/// Pushes a file to phone 0 by a program that claims the interface for itself.
fn push_by_another_program() -> Result<(), Failure> {
    std::fs::write("/tmp/blob", vec![0x5a; 1 << 20])?;
    let mut push = Command::new("usb_push");
    push.args([&phone::descriptor_serial(0), "/tmp/blob", "/tmp/pushed"]).env("HOME", "/state/home");
    let output = push.stdin(Stdio::null()).output()?;
    if output.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&output.stderr).into_owned().into()) }
}

/// A program that has the interface of phone 0 for seconds.
fn push_many_times() -> Result<Child, Failure> {
    let mut push = Command::new("usb_push");
    push.args([&phone::descriptor_serial(0), "/tmp/blob", "/tmp/pushed", "40"]).env("HOME", "/state/home");
    Ok(push.stdin(Stdio::null()).stdout(Stdio::null()).spawn()?)
}

/// A program that has the interface of phone 0 is named with what ends it, and is no more once it has ended.
fn doctor_finds_who_holds_it() -> Result<String, Failure> {
    let diagnose = || -> Result<Option<String>, Failure> {
        let output = Command::new("farmhand").args(["doctor", "--json"]).output()?;
        let findings: serde_json::Value = serde_json::from_slice(&output.stdout)?;
        let findings = findings.as_array().ok_or("no list of findings")?;
        let held = findings.iter().find(|finding| finding["code"] == "doctor.phones_held");
        Ok(held.map(|finding| format!("{} {}", finding["what"], finding["help"])))
    };
    if let Some(before) = diagnose()? {
        return Err(format!("it was told before anybody held one: {before}").into());
    }
    let mut push = push_many_times()?;
    let told = until("it is told who holds the phone", READY_MAX, || {
        if push.try_wait()?.is_some() {
            // adbd may still be busy with the end of the last program that had the interface.
            push = push_many_times()?;
        }
        let told = diagnose()?.ok_or("nobody")?;
        if told.contains(&format!("`kill {}`", push.id())) { Ok(told) } else { Err(told.into()) }
    });
    // Killed in the middle it would leave a phone that waits for the rest of a message.
    push.wait()?;
    let (told, _) = told?;
    match diagnose()? {
        None => Ok(told),
        Some(after) => Err(format!("it is told also afterwards: {after}").into()),
    }
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
