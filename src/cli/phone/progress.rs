//! A bar for work that takes its time, on standard error, where that is a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Drawn so often at most: more can't be read.
const DRAWS_PER_S: u8 = 10;

/// A bar of so many bytes.
pub(super) struct Progress(ProgressBar);

impl Progress {
    /// Begins; `what` is shown beside it.
    pub(super) fn of(total: u64, what: &str) -> Self {
        let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr_with_hz(DRAWS_PER_S));
        let style = "{msg} {bar:24} {percent:>3} % {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}";
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        Self(bar)
    }

    /// So many bytes have gone by now.
    pub(super) fn at(&self, bytes: u64) {
        self.0.set_position(bytes);
    }

    /// All bytes are there, and something is waited for.
    pub(super) fn waits(&self, what: &str) {
        self.0.set_message(what.to_owned());
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
