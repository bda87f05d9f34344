//! Named places in the code at which a test kills this process, as a power cut would. In a release build they are nothing.
//!
//! `FARMHAND_KILL_AT=install-half:3` kills the process when it comes by the place of that name for the third time.

/// All of them: a proof that does not come by each of them proves less than it says.
pub const ALL: [&str; 11] = [
    RESTORED,
    COMMIT_BEFORE,
    COMMIT_AFTER,
    ORDER_BEFORE,
    ORDER_AFTER,
    INSTALL_BEGUN,
    INSTALL_HALF,
    INSTALL_ENDED,
    INSTALL_READ_BACK,
    ROLLBACK_PROMISED,
    RETURN_PROMISED,
];

/// A rollout core was restored from the store, and has done nothing.
pub const RESTORED: &str = "rollout-restored";
/// A step of a rollout is decided and not promised.
pub const COMMIT_BEFORE: &str = "before-commit";
/// A step of a rollout is promised, and nothing of it was done.
pub const COMMIT_AFTER: &str = "after-commit";
/// An install is about to be ordered.
pub const ORDER_BEFORE: &str = "before-order";
/// An install was ordered.
pub const ORDER_AFTER: &str = "after-order";
/// A phone's actor begins an install.
pub const INSTALL_BEGUN: &str = "install-begun";
/// Some of an APK is on its way to a phone, and some is not.
pub const INSTALL_HALF: &str = "install-half";
/// A phone has said what came of an install.
pub const INSTALL_ENDED: &str = "install-ended";
/// The version was read back, and nobody knows it yet.
pub const INSTALL_READ_BACK: &str = "install-read-back";

/// A rollback is promised, and nobody is on the way back.
pub const ROLLBACK_PROMISED: &str = "rollback-promised";
/// The way back to a version is promised, and its APK was not asked for.
pub const RETURN_PROMISED: &str = "return-promised";

/// Comes by the place of this name.
#[cfg(all(feature = "daemon", not(debug_assertions)))]
pub(crate) const fn at(_name: &str) {}

/// Comes by the place of this name, and may not get past it.
#[cfg(all(feature = "daemon", debug_assertions))]
pub(crate) fn at(name: &str) {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicU32, Ordering};

    static WANTED: OnceLock<Option<(String, u32)>> = OnceLock::new();
    static TIMES: AtomicU32 = AtomicU32::new(0);
    let wanted = WANTED.get_or_init(|| {
        let text = std::env::var("FARMHAND_KILL_AT").ok()?;
        let (name, nth) = text.split_once(':')?;
        Some((name.to_owned(), nth.parse().ok()?))
    });
    let Some((_, nth)) = wanted.as_ref().filter(|(wanted, _)| wanted == name) else { return };
    if TIMES.fetch_add(1, Ordering::SeqCst) + 1 == *nth {
        let _ = nix::sys::signal::raise(nix::sys::signal::Signal::SIGKILL);
    }
}
