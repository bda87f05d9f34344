//! What udev does with the node of a handset, in the testbed, which has no udev.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, sleep};
use std::time::{Duration, Instant};

/// How often the nodes are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Lets everybody open each node of the USB buses, `late` after it is there, as long as `story` lasts: those of handsets that leave
/// and come back meanwhile, too, as a rule does.
pub(crate) fn while_permitting<T>(late: Duration, story: impl FnOnce() -> T) -> T {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| permit(late, &over));
        let told = story();
        over.store(true, Ordering::Relaxed);
        told
    })
}

fn permit(late: Duration, over: &AtomicBool) {
    let mut seen: Vec<(PathBuf, Instant, bool)> = Vec::new();
    while !over.load(Ordering::Relaxed) {
        let buses = fs::read_dir("/dev/bus/usb").into_iter().flatten().flatten();
        let nodes: Vec<PathBuf> = buses
            .flat_map(|bus| fs::read_dir(bus.path()).into_iter().flatten().flatten())
            .map(|node| node.path())
            .collect();
        seen.retain(|(node, ..)| nodes.contains(node));
        for node in nodes {
            if !seen.iter().any(|(known, ..)| *known == node) {
                seen.push((node, Instant::now(), false));
            }
        }
        for (node, since, done) in &mut seen {
            if !*done && since.elapsed() >= late {
                *done = fs::set_permissions(node.as_path(), fs::Permissions::from_mode(0o666)).is_ok();
            }
        }
        sleep(LOOK_EVERY);
    }
}
