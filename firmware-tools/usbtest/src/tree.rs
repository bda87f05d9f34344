//! The part on QEMU's hubs: a tree of three levels with port power, handsets that offer files only, and a controller that is full.
//!
//! ```text
//!     bus of xhci "tree" ── port 1: hub ── port 2: hub ── ports 1 to 3: handsets (MTP)
//!                                └─ port 1: a handset
//!     bus of xhci "full" (takes 64 devices) ── eight hubs with 57 devices: one more than it takes
//! ```
//!
//! Plugging and unplugging is done by port power, which these hubs really switch: the judge is uhubctl.

use std::fs;
use std::io::Read;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::check::{Failure, check, until};
use crate::daemon::{self, CAREFUL, Daemon, Phone, User};

/// Enumeration of a device that was switched on, the daemon's look every 10 s, and emulation.
const SHOWN_MAX: Duration = Duration::from_secs(40);
/// The enumeration of 64 devices one by one.
const FULL_MAX: Duration = Duration::from_secs(100);
/// The ports that are learnt, in this order.
const PORTS: [u8; 2] = [3, 2];
/// The longest that learning them may take.
const LEARN_MAX: Duration = Duration::from_secs(90);

pub(crate) fn run() -> Result<(), Failure> {
    let daemon = Daemon::start("/state", CAREFUL, User::Root)?;
    let hub = inner_hub()?;
    check("port_paths", || port_paths(&daemon, &hub));
    check("files_only", || files_only(&daemon, &hub));
    check("port_power", || port_power(&daemon, &hub));
    check("slots_learn", || slots_learn(&daemon, &hub));
    check("not_enumerated", || not_enumerated(&daemon));
    println!("the daemon's log:\n{}", daemon::log());
    Ok(())
}

/// The path of the hub on the second level, whatever number its bus got.
fn inner_hub() -> Result<String, Failure> {
    let (hub, _) = until("the inner hub is there", SHOWN_MAX, || {
        let names = fs::read_dir("/sys/bus/usb/devices")?.flatten().map(|entry| entry.file_name().into_string());
        let mut names = names.filter_map(Result::ok);
        let ports =
            |name: &str| fs::read_to_string(format!("/sys/bus/usb/devices/{name}/maxchild")).unwrap_or_default();
        let inner = names.find(|name| name.ends_with("-1.2") && !["", "0"].contains(&ports(name).trim()));
        inner.ok_or_else(|| "no device at port 1.2".into())
    })?;
    Ok(hub)
}

fn shown(daemon: &Daemon, path: &str, state: &str) -> Result<Phone, Failure> {
    let (phone, _) = until(&format!("{path} is {state}"), SHOWN_MAX, || {
        let phone = daemon.phones()?.into_iter().find(|phone| phone.path == path).ok_or("nothing is shown there")?;
        if phone.state == state { Ok(phone) } else { Err(format!("{phone:?}").into()) }
    })?;
    Ok(phone)
}

/// A handset three hubs deep is shown with the hubs on the way.
fn port_paths(daemon: &Daemon, hub: &str) -> Result<String, Failure> {
    let path = format!("{hub}.3");
    let phone = shown(daemon, &path, "other_mode")?;
    let view = daemon.read(&format!("/api/phones/{}", phone.id))?;
    let outer = hub.trim_end_matches(".2");
    let hubs: Vec<&str> = view["usb"]["hubs"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let said = format!("{path} behind {}", hubs.join(" and "));
    if hubs == [outer, hub] { Ok(said) } else { Err(said.into()) }
}

fn files_only(daemon: &Daemon, hub: &str) -> Result<String, Failure> {
    let phone = shown(daemon, &format!("{hub}.1"), "other_mode")?;
    if phone.why.contains("files only") { Ok(phone.why) } else { Err(format!("{phone:?}").into()) }
}

/// One handset more than the controller takes: its port says connected, and the kernel's reason stands with it.
fn not_enumerated(daemon: &Daemon) -> Result<String, Failure> {
    let (phone, _) = until("a port is not enumerated", FULL_MAX, || {
        let phone = daemon.phones()?.into_iter().find(|phone| phone.state == "not_enumerated");
        let controllers = daemon.read("/api/snapshot")?["controllers"].take();
        phone.ok_or_else(|| format!("none is; controllers: {controllers}").into())
    })?;
    let snapshot = daemon.read("/api/snapshot")?;
    let controllers = snapshot["controllers"].as_array().ok_or("no controllers")?;
    let full = controllers.iter().find(|controller| controller["full"].is_string());
    let full = full.ok_or_else(|| format!("no controller is full: {controllers:?}"))?;
    if !phone.why.contains("the kernel: `") {
        return Err(format!("the kernel's reason is missing: {}", phone.why).into());
    }
    Ok(format!("{}: {}; {}: {} of {}", phone.path, phone.why, full["name"], full["devices"], full["devices_max"]))
}

fn switch(hub: &str, port: u8, to: &str) -> Result<(), Failure> {
    let out = Command::new("uhubctl").args(["-l", hub, "-p", &port.to_string(), "-a", to]).output()?;
    if out.status.success() {
        return Ok(());
    }
    let said = [out.stdout, out.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    Err(format!("uhubctl -l {hub} -p {port} -a {to}: {said}").into())
}

/// uhubctl cuts the power of a port: the handset is absent; it switches it on: it is back.
fn port_power(daemon: &Daemon, hub: &str) -> Result<String, Failure> {
    let path = format!("{hub}.2");
    shown(daemon, &path, "other_mode")?;
    switch(hub, 2, "off")?;
    let phone = shown(daemon, &path, "absent")?;
    switch(hub, 2, "on")?;
    shown(daemon, &path, "other_mode")?;
    Ok(format!("{} was absent without power and is back", phone.id))
}

/// Plugs or unplugs by the kernel's own switch: what uhubctl switches off, the kernel may switch on again at the hub's next event.
fn disable(hub: &str, port: u8, word: &str) -> Result<(), Failure> {
    Ok(fs::write(format!("/sys/bus/usb/devices/{hub}:1.0/{hub}-port{port}/disable"), word)?)
}

/// Slots are named by plugging, while other handsets are there all the time.
fn slots_learn(daemon: &Daemon, hub: &str) -> Result<String, Failure> {
    let mut said = String::new();
    for (port, number) in PORTS.into_iter().zip(1..) {
        said += &learn(daemon, hub, port, &format!("A{number}"))?;
    }
    Ok(said)
}

/// Learns one slot: its handset is away when learning begins, and then plugged in.
fn learn(daemon: &Daemon, hub: &str, port: u8, name: &str) -> Result<String, Failure> {
    let path = format!("{hub}.{port}");
    disable(hub, port, "1")?;
    shown(daemon, &path, "absent")?;
    let mut learn = Command::new("farmhand")
        .args(["--state", "/state", "slots", "learn", name])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    // It asks once it has seen who is there already.
    let mut asked = learn.stderr.take().ok_or("no standard error")?;
    asked.read_exact(&mut [0; 1])?;
    std::thread::spawn(move || std::io::copy(&mut asked, &mut std::io::sink()));
    disable(hub, port, "0")?;
    let (status, _) = until("the slot is learnt", LEARN_MAX, || Ok(learn.try_wait()?.ok_or("it still asks")?))?;
    let mut out = String::new();
    learn.stdout.take().ok_or("no standard output")?.read_to_string(&mut out)?;
    let expected = format!("[[slot]]\nname = \"{name}\"\npath = \"{path}\"");
    if status.success() && out.trim() == expected {
        Ok(out)
    } else {
        Err(format!("{status}: {out}; expected {expected}").into())
    }
}
