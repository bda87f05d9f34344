//! The terminal of whoever started this: its size, and every key as it is typed.

use std::io::{self, IsTerminal as _, Write as _};
use std::os::unix::net::UnixStream;

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcgetwinsize, tcsetattr};
use tokio::signal::unix::{SignalKind, signal};

use crate::adb::services::shell::WindowSize;

/// A terminal without a size is taken for this one.
const USUAL: WindowSize = WindowSize { rows: 24, columns: 80 };

/// Whether keys come from a terminal, and text goes to one.
pub(super) fn is_terminal() -> bool {
    io::stdin().is_terminal() && io::stdout().is_terminal()
}

/// Its size by now.
pub(super) fn size() -> WindowSize {
    let told = tcgetwinsize(io::stdout()).ok().filter(|size| size.ws_row > 0 && size.ws_col > 0);
    told.map_or(USUAL, |size| WindowSize { rows: size.ws_row, columns: size.ws_col })
}

/// While this lives, keys come one by one, and none means anything to this host.
pub(super) struct RawMode {
    before: Termios,
}

impl RawMode {
    pub(super) fn enter() -> io::Result<Self> {
        let before = tcgetattr(io::stdin())?;
        let mut raw = before.clone();
        raw.make_raw();
        tcsetattr(io::stdin(), OptionalActions::Drain, &raw)?;
        Ok(Self { before })
    }
}

impl Drop for RawMode {
    fn drop(&mut self) {
        // If the terminal is gone, there is nothing to put back.
        let _ = tcsetattr(io::stdin(), OptionalActions::Drain, &self.before);
    }
}

/// Has a byte for each change of its size from now on, from a thread of its own; nothing is lost by it that more than one are read at
/// once.
pub(super) fn watch_size() -> io::Result<UnixStream> {
    let (resized, mut tell) = UnixStream::pair()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let mut changes = {
        let _context = runtime.enter();
        signal(SignalKind::window_change())?
    };
    let watch = async move {
        while changes.recv().await.is_some() {
            tell.write_all(&[0])?;
        }
        Ok::<_, io::Error>(())
    };
    std::thread::Builder::new().name("window-size".to_owned()).spawn(move || runtime.block_on(watch))?;
    Ok(resized)
}
