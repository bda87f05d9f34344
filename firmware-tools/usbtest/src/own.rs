//! The part with our own phone behind FunctionFS: what cannot be had of Google's adbd, which asks for no key and is Android only.

use std::time::Duration;

use crate::check::{Failure, check, until};
use crate::daemon::{self, CAREFUL, Daemon, User};
use crate::own_phone::{self, Plug};

/// From the plug to ready, in emulation on a busy machine.
const READY_MAX: Duration = Duration::from_secs(40);
/// From the unplug until it is shown; the look itself takes a while in emulation.
const ABSENT_MAX: Duration = Duration::from_secs(10);
/// From the plug until recovery waits for long enough: two answers to CNXN are waited for in vain.
const RECOVERING_MAX: Duration = Duration::from_secs(60);
/// How long recovery must still wait, for the unplug to come meanwhile.
const RECOVERING_MIN: Duration = Duration::from_millis(1200);

/// One phone: its device controller, its serial, and what it is told to be.
pub(crate) struct Own {
    pub(crate) number: usize,
    pub(crate) serial: &'static str,
    pub(crate) options: &'static [&'static str],
}

const PLAIN: Own = Own { number: 0, serial: "OWN1", options: &["--model", "Own phone"] };
const ASKS: Own = Own { number: 1, serial: "ASKS", options: &["--fault", "refuses-auth"] };
const SILENT: Own = Own { number: 2, serial: "SILENT", options: &[] };
const SIDELOAD: Own = Own { number: 3, serial: "SIDELOAD", options: &["--mode", "sideload"] };
const FASTBOOT: Own = Own { number: 4, serial: "FASTBOOT", options: &["--mode", "fastboot"] };

pub(crate) fn run() -> Result<(), Failure> {
    let daemon = Daemon::start("/state", CAREFUL, User::Root)?;
    // It climbs its ladder while the others are looked at.
    own_phone::plug(SILENT.number, SILENT.serial, Plug::Frozen, SILENT.options)?;

    check("own_phone", || own_phone(&daemon));
    check("sideload", || is_told(&daemon, &SIDELOAD, &["adb sideload", "restart it"]));
    check("fastboot", || is_told(&daemon, &FASTBOOT, &["in fastboot", "`fastboot reboot`"]));
    check("unplug_authorising", || unplug_authorising(&daemon));
    check("unplug_recovering", || unplug_recovering(&daemon));
    println!("the daemon's log:\n{}", daemon::log());
    Ok(())
}

impl Own {
    pub(crate) fn plug(&self) -> Result<(), Failure> {
        own_phone::plug(self.number, self.serial, Plug::Alive, self.options)
    }

    pub(crate) fn unplug(&self) -> Result<(), Failure> {
        own_phone::unplug(self.number)
    }

    /// Has the guest's script do something else with it.
    pub(crate) fn order(&self, verb: &str, words: &[&str]) -> Result<(), Failure> {
        own_phone::order(verb, self.number, words)
    }
}

/// The model is what the phone's getprop says; the descriptors say nothing of it to the daemon.
fn own_phone(daemon: &Daemon) -> Result<String, Failure> {
    PLAIN.plug()?;
    let (phone, took) = daemon.wait_for(PLAIN.serial, &["ready"], READY_MAX)?;
    let view = daemon.read(&format!("/api/phones/{}", phone.id))?;
    let said = format!("{} is {} after {:.1} s, model {}", phone.id, phone.state, took.as_secs_f64(), view["model"]);
    if view["model"] == "Own phone" { Ok(said) } else { Err(said.into()) }
}

/// A handset that is not Android is shown as what it is, with what to do.
fn is_told(daemon: &Daemon, own: &Own, words: &[&str]) -> Result<String, Failure> {
    own.plug()?;
    let (phone, _) = daemon.wait_for(own.serial, &["other_mode"], READY_MAX)?;
    let complete = words.iter().all(|word| phone.why.contains(word));
    own.unplug()?;
    daemon.wait_for(own.serial, &["absent"], ABSENT_MAX)?;
    if complete { Ok(phone.why) } else { Err(format!("{words:?} are not in: {}", phone.why).into()) }
}

/// Nobody allows this host on its screen, and it is unplugged.
fn unplug_authorising(daemon: &Daemon) -> Result<String, Failure> {
    ASKS.plug()?;
    let (before, _) = daemon.wait_for(ASKS.serial, &["authorising"], READY_MAX)?;
    leaves(daemon, &ASKS, &format!("authorising ({})", before.why))
}

/// It answers nothing, is opened again and again, and is unplugged while the next try is waited for.
fn unplug_recovering(daemon: &Daemon) -> Result<String, Failure> {
    let looks = until("the silent phone is recovering", RECOVERING_MAX, || {
        let phone = daemon.read(&format!("/api/phones/{}", SILENT.serial))?;
        let now = daemon.read("/api/snapshot")?["at"].as_i64().ok_or("no time")?;
        let at = phone["deadline"]["at"].as_i64().unwrap_or_default();
        let long_enough = at - now >= i64::try_from(RECOVERING_MIN.as_millis())?;
        let why = phone["why"].as_str().unwrap_or_default().to_owned();
        if phone["state"] == "recovering" && long_enough { Ok(why) } else { Err(phone["state"].to_string().into()) }
    });
    let (why, _) = looks?;
    leaves(daemon, &SILENT, &format!("recovering ({why})"))
}

/// Unplugs, and waits for `absent`. The sentence begins with the state that it must leave over this; transfers that fail before the bus
/// tells of the unplug may have it opened once more in between.
fn leaves(daemon: &Daemon, own: &Own, before: &str) -> Result<String, Failure> {
    own.unplug()?;
    let (_, took) = daemon.wait_for(own.serial, &["absent"], ABSENT_MAX)?;
    let trace = daemon.read(&format!("/api/phones/{}/trace", own.serial))?;
    let states = trace["events"].as_array().into_iter().flatten().filter(|event| event["event"] == "state");
    let states: Vec<&str> = states.map(|event| event["to"].as_str().unwrap_or_default()).collect();
    let said = format!("{before} to absent after {:.1} s", took.as_secs_f64());
    let at = states.iter().rposition(|state| !state.is_empty() && before.starts_with(state));
    match at.map(|at| &states[at + 1..]) {
        Some([between @ .., "absent"]) if between.iter().all(|state| ["claiming", "recovering"].contains(state)) => {
            Ok(said)
        }
        _ => Err(format!("{said}, by {states:?}").into()),
    }
}
