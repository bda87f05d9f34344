//! The two threads of USB for the whole rack: one that handles libusb's events, one that closes handles.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use rusb::{Context, Device, DeviceHandle, Hotplug, HotplugBuilder, UsbContext};
use tokio::sync::Notify;
use tokio_util::sync::DropGuard;

/// Between two attempts when libusb's event handling fails at once each time: it must not become a busy loop.
const EVENTS_FAILED_PAUSE: Duration = Duration::from_millis(100);

/// libusb's context with its threads. It ends when the bus and every handle are gone, and so never before a transfer has come
/// back.
#[derive(Debug)]
pub(super) struct Engine {
    context: Context,
    stopping: Arc<AtomicBool>,
    closer: mpsc::Sender<Closing>,
}

/// A handle to be closed.
#[derive(Debug)]
struct Closing {
    /// Closed first.
    handle: DeviceHandle<Context>,
    /// The node under it.
    node: File,
    /// Dropped last, which tells that both are closed.
    closed: DropGuard,
}

impl Closing {
    fn close(self) {
        let Self { handle, node, closed } = self;
        drop(handle);
        drop(node);
        drop(closed);
    }
}

/// A handset whose ADB interface is ours. The interface is given back when the last owner is gone: the transport's halves, and
/// each transfer that is still in flight.
#[derive(Debug)]
pub(super) struct Claimed {
    engine: Arc<Engine>,
    /// `Some` until the drop.
    open: Option<Closing>,
}

impl Claimed {
    /// Owns `handle`, which was made of `node`. `closed` is dropped once both are closed.
    pub(super) fn new(engine: &Arc<Engine>, handle: DeviceHandle<Context>, node: File, closed: DropGuard) -> Self {
        Self { engine: Arc::clone(engine), open: Some(Closing { handle, node, closed }) }
    }

    /// libusb's handle.
    #[expect(clippy::expect_used, reason = "taken out only by drop, after which there is no `&self`")]
    pub(super) fn handle(&self) -> &DeviceHandle<Context> {
        &self.open.as_ref().expect("a claimed handset is open").handle
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        if let Some(closing) = self.open.take() {
            self.engine.close(closing);
        }
    }
}

impl Engine {
    /// Starts the threads; `kick` is notified at each arrival and departure.
    ///
    /// # Errors
    /// The operating system has no thread left.
    pub(super) fn start(context: Context, kick: Arc<Notify>) -> io::Result<Arc<Self>> {
        let stopping = Arc::new(AtomicBool::new(false));
        let (closer, closings) = mpsc::channel::<Closing>();
        // Closing waits for the kernel to release the interface: not on the event thread, where the last transfer may end.
        thread::Builder::new().name("usb-close".to_owned()).spawn(move || {
            closings.into_iter().for_each(Closing::close);
        })?;
        let events = EventThread { context: context.clone(), stopping: Arc::clone(&stopping) };
        thread::Builder::new().name("usb-events".to_owned()).spawn(move || events.run(kick))?;
        Ok(Arc::new(Self { context, stopping, closer }))
    }

    /// libusb's context.
    pub(super) fn context(&self) -> &Context {
        &self.context
    }

    /// Has a handle closed on the thread that may wait for it.
    fn close(&self, closing: Closing) {
        // The thread ends only after this sender; should it be gone all the same, the handle is closed here.
        if let Err(mpsc::SendError(closing)) = self.closer.send(closing) {
            closing.close();
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::Release);
        self.context.interrupt_handle_events();
    }
}

struct EventThread {
    context: Context,
    stopping: Arc<AtomicBool>,
}

impl EventThread {
    fn run(self, kick: Arc<Notify>) {
        // Registered once for the life of the process: registering again races with libusb's own list (libusb issue 1859).
        let registration = HotplugBuilder::new().register(&self.context, Box::new(Kick(kick)));
        if let Err(error) = &registration {
            tracing::warn!(%error, "libusb does not tell of arrivals; handsets are found by the rescan only");
        }
        while !self.stopping.load(Ordering::Acquire) {
            match self.context.handle_events(None) {
                Ok(()) | Err(rusb::Error::Interrupted) => {}
                Err(error) => {
                    tracing::warn!(%error, "libusb could not handle its events; trying again");
                    thread::park_timeout(EVENTS_FAILED_PAUSE);
                }
            }
        }
        drop(registration);
    }
}

/// The hotplug callback: in it libusb allows next to nothing, so it only asks for a scan.
struct Kick(Arc<Notify>);

impl Hotplug<Context> for Kick {
    fn device_arrived(&mut self, _: Device<Context>) {
        self.0.notify_one();
    }

    fn device_left(&mut self, _: Device<Context>) {
        self.0.notify_one();
    }
}

/// From whom libusb hears of arrivals, as it was built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HotplugBackend {
    /// udev, after it has set the node's permissions.
    Udev,
    /// The kernel's netlink, before udev has.
    Netlink,
}

impl HotplugBackend {
    /// Looks which one is in this program: libusb's udev backend brings the library libudev with it, the other nothing.
    pub(super) fn detect() -> Self {
        Self::of_maps(&std::fs::read_to_string("/proc/self/maps").unwrap_or_default())
    }

    fn of_maps(maps: &str) -> Self {
        if maps.contains("/libudev.so") { Self::Udev } else { Self::Netlink }
    }

    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Udev => "libudev",
            Self::Netlink => "netlink",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_backend_is_told_by_the_library_that_it_needs() {
        let maps = "7f00-7f01 r-xp 0 08:01 42 /usr/lib/x86_64-linux-gnu/libc.so.6\n";
        assert_eq!(HotplugBackend::of_maps(maps), HotplugBackend::Netlink);
        let maps = format!("{maps}7f02-7f03 r-xp 0 08:01 43 /usr/lib/x86_64-linux-gnu/libudev.so.1.7.5\n");
        assert_eq!(HotplugBackend::of_maps(&maps), HotplugBackend::Udev);
    }
}
