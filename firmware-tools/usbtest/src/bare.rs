//! The part with our own phones beside functions that only take and give bytes, one and 32 of each.

use std::fs;
use std::process::Command;

use crate::check::{Failure, measure, result};
use crate::own_phone::{self, Plug, wait_for_bus};

/// As many as dummy_hcd takes.
const MANY: usize = 32;
/// Where the files are, in memory.
const DIR: &str = "/tmp/bare";
/// What all transfers may hold, in MiB: 32 times four of 256 KiB, and as much again.
const USBFS_MEMORY: &str = "64";

/// What all serials begin with.
const SERIAL: &str = "OWN";

pub(crate) fn run() -> Result<(), Failure> {
    fs::create_dir_all(DIR)?;
    measure("one beside a bare function", one);
    fs::write("/sys/module/usbcore/parameters/usbfs_memory_mb", USBFS_MEMORY)?;
    measure("32 beside 32 bare functions", many);
    Ok(())
}

fn one() -> Result<(), Failure> {
    plug(0, &[])?;
    plug(1, &["--mode", "bare"])?;
    wait_for_bus(SERIAL, 2)?;
    usb_bench(&["bare", &serial(0), &serial(1), DIR])?;
    own_phone::unplug(0)?;
    own_phone::unplug(1)
}

fn many() -> Result<(), Failure> {
    let own = at_once("own", &[])?;
    let bare = at_once("bare", &["--mode", "bare"])?;
    println!("# 32 at once: farmhand {own:.1} MB/s, bare {bare:.1} MB/s");
    result("usb.push_32_at_once_vs_bare_32", format!("{:.3}", own / bare), "ratio", ">= 0.7");
    Ok(())
}

fn serial(number: usize) -> String {
    format!("{SERIAL}{number:02}")
}

fn plug(number: usize, options: &[&str]) -> Result<(), Failure> {
    own_phone::plug(number, &serial(number), Plug::Alive, options)
}

/// Plugs all in, has something sent to all of them at once, and gives the MB a second of all together.
fn at_once(what: &str, options: &[&str]) -> Result<f64, Failure> {
    for number in 0..MANY {
        plug(number, options)?;
    }
    wait_for_bus(SERIAL, MANY)?;
    let serials: Vec<String> = (0..MANY).map(serial).collect();
    let words: Vec<&str> = ["at-once", what, DIR].into_iter().chain(serials.iter().map(String::as_str)).collect();
    let said = usb_bench(&words)?;
    for number in 0..MANY {
        own_phone::unplug(number)?;
    }
    let figure = said.lines().find_map(|line| line.strip_prefix("# at_once")?.rsplit(' ').next());
    Ok(figure.ok_or("it said no figure")?.parse()?)
}

/// Runs the bench's own program, shows what it says, and gives it.
fn usb_bench(words: &[&str]) -> Result<String, Failure> {
    let output = Command::new("usb-bench").args(words).env("HOME", "/state/home").output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    print!("{said}");
    if output.status.success() {
        return Ok(said);
    }
    Err(format!("usb-bench {}: {}: {}", words[0], output.status, String::from_utf8_lossy(&output.stderr)).into())
}
