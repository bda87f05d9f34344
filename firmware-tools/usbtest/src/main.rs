//! The guest's story: phones are plugged and unplugged, the daemon is started and killed, and what must be seen of it is looked for
//! through the daemon's own API.
//!
//! `usbtest plug` is two phones on dummy_hcd with Google's adbd, `usbtest rack` 32 of them, `usbtest own` our own phone, `usbtest work`
//! and `usbtest wrong` both kinds, worked on and with what can be wrong with them, `usbtest tree` the part on QEMU's hubs, and `race`,
//! `bare`, `many` and `rollout` measure; the guest's init starts the one that the kernel's command line names. Each case prints
//! `CHECK usb.<name> ok|FAIL <what was seen>`, each figure `RESULT <name> <value> <unit> goal <= or >= <number>`.
#![allow(clippy::print_stdout, reason = "what it prints to the guest's console is what it is for")]

mod adb;
mod bare;
mod barred;
mod check;
mod daemon;
mod hub;
mod many;
mod own;
mod own_phone;
mod permission;
mod phone;
mod plug;
mod quiet;
mod race;
mod rack;
mod rollout;
mod shares;
mod tree;
mod work;
mod wrong;

use std::process::ExitCode;

fn main() -> ExitCode {
    let part = std::env::args().nth(1).unwrap_or_default();
    let told = match part.as_str() {
        "plug" => plug::run(),
        "rack" => rack::run(),
        "own" => own::run(),
        "work" => work::run(),
        "wrong" => wrong::run(),
        "race" => race::run(),
        "bare" => bare::run(),
        "many" => many::run(),
        "rollout" => rollout::run(),
        "tree" => tree::run(),
        other => {
            Err(format!("there is no part `{other}`: plug, rack, own, work, wrong, tree, race, bare, many or rollout")
                .into())
        }
    };
    if let Err(why) = told {
        println!("usbtest: part {part} broke off: {why}");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
