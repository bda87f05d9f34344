//! A bar for work that takes its time, on standard error, where that is a terminal.

use std::io::{IsTerminal as _, stderr};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Drawn so often at most: more can't be read.
const DRAWS_PER_S: u8 = 10;

/// What is done sooner shows no bar.
const SHOWN_AFTER: Duration = Duration::from_millis(500);

/// Between two turns of a bar's wheel, while no byte goes.
const TURN: Duration = Duration::from_millis(100);

/// A bar of bytes, where somebody sees it.
pub(super) struct Progress(Option<Shown>);

struct Shown {
    bar: ProgressBar,
    /// Dropped at the end, which ends the wait before the bar is shown.
    _ended: Option<Sender<()>>,
}

impl Progress {
    /// Begins; `what` is shown beside it.
    pub(super) fn of(total: u64, what: &str) -> Self {
        Self::begin(
            Some(total),
            what,
            "{msg} {bar:24} {percent:>3} % {bytes}/{total_bytes} {binary_bytes_per_sec} {eta}",
        )
    }

    /// Of work whose end nobody knows.
    pub(super) fn endless(what: &str) -> Self {
        Self::begin(None, what, "{spinner} {msg} {bytes} {binary_bytes_per_sec} {elapsed}")
    }

    fn begin(total: Option<u64>, what: &str, style: &str) -> Self {
        if !stderr().is_terminal() {
            return Self(None);
        }
        let bar = ProgressBar::with_draw_target(total, ProgressDrawTarget::hidden());
        if let Ok(style) = ProgressStyle::with_template(style) {
            bar.set_style(style);
        }
        bar.set_message(what.to_owned());
        Self(Some(Shown { _ended: show_later(bar.clone()), bar }))
    }

    /// So many bytes have gone by now.
    pub(super) fn at(&self, bytes: u64) {
        if let Some(Shown { bar, .. }) = &self.0 {
            bar.set_position(bytes);
        }
    }

    /// All bytes are there, and something is waited for.
    pub(super) fn waits(&self, what: &str) {
        if let Some(Shown { bar, .. }) = &self.0 {
            bar.set_message(what.to_owned());
        }
    }
}

/// Shows the bar, unless what this gives is dropped before.
fn show_later(bar: ProgressBar) -> Option<Sender<()>> {
    let (ended, end) = channel();
    let show = move || {
        if end.recv_timeout(SHOWN_AFTER) == Err(RecvTimeoutError::Timeout) {
            bar.set_draw_target(ProgressDrawTarget::stderr_with_hz(DRAWS_PER_S));
            bar.enable_steady_tick(TURN);
        }
    };
    // Without a thread there is no bar, and the work goes on.
    std::thread::Builder::new().name("progress".to_owned()).spawn(show).ok().map(|_| ended)
}

impl Drop for Shown {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}
