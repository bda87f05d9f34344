//! The task that looks at the bus, and the one thread on which a look may hang.
//!
//! ```text
//!     kick, kernel's log, deadline ──▶ Scanner ──order──▶ thread usb-scan: sysfs, hub ports
//!                                        │  ▲                 │
//!                        roster, ports ◀─┘  └─────look────────┘
//! ```
//!
//! Invariant: there is never more than one look under way: while one hangs, nothing is ordered, and it is waited for.

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, mpsc as std_mpsc};
use std::thread;
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::time;

use super::kernel_log::Remark;
use super::picture::{Clock, Picture};
use super::roster::BusEvent;
use super::scan::{self, Look};
use super::topology;
use crate::clock::Deadline;
use crate::rack::ids::PortPath;
use crate::rack::snapshot::ControllerView;

/// The longest that a look is waited for before that is said; sysfs answers in milliseconds, a hub in reset holds it for a second.
const LOOK_DEADLINE: Duration = Duration::from_secs(5);

/// Ports whose hub is to be asked even if it sleeps.
type Suspicious = BTreeSet<PortPath>;

/// The thread that looks.
#[derive(Debug)]
pub(super) struct LookThread {
    orders: std_mpsc::SyncSender<Suspicious>,
    looks: mpsc::Receiver<io::Result<Look>>,
    under_way: bool,
}

impl LookThread {
    /// Starts it; it ends when this is dropped.
    ///
    /// # Errors
    /// The operating system has no thread left.
    pub(super) fn start(context: rusb::Context) -> io::Result<Self> {
        let (orders, inbox) = std_mpsc::sync_channel::<Suspicious>(1);
        let (outbox, looks) = mpsc::channel(1);
        thread::Builder::new().name("usb-scan".to_owned()).spawn(move || {
            for suspicious in inbox {
                if outbox.blocking_send(scan::look(&context, &suspicious)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { orders, looks, under_way: false })
    }

    /// A look that was begun after this call, or, if the one before still hangs, that one; `None` if it takes too long.
    async fn look(&mut self, suspicious: Suspicious) -> Option<io::Result<Look>> {
        if !self.under_way {
            // The thread takes the next order before it answers, and ends only with this: there is room.
            self.under_way = self.orders.try_send(suspicious).is_ok();
        }
        let look = time::timeout(LOOK_DEADLINE, self.looks.recv()).await.ok()??;
        self.under_way = false;
        Some(look)
    }
}

/// The task that scans the bus.
pub(super) struct Scanner {
    pub(super) kick: Arc<Notify>,
    pub(super) picture: watch::Sender<Picture>,
    pub(super) events: mpsc::Sender<BusEvent>,
    pub(super) remarks: mpsc::Receiver<Remark>,
    pub(super) thread: LookThread,
    pub(super) clock: Clock,
    pub(super) controllers: Vec<ControllerView>,
}

impl Scanner {
    /// Scans at once, at each kick, when the kernel complains of a port, and when the roster wants it; ends when nobody takes the
    /// events any more.
    pub(super) async fn run(mut self) {
        loop {
            for event in self.look().await {
                tell(&event);
                if self.events.send(event).await.is_err() {
                    return;
                }
            }
            let at = self.clock.instant(self.deadline().at);
            tokio::select! {
                () = self.kick.notified() => {}
                Some(remark) = self.remarks.recv() => self.take_in(remark),
                () = time::sleep_until(at) => {}
            }
        }
    }

    fn deadline(&self) -> Deadline {
        let now = self.clock.now();
        let picture = self.picture.borrow();
        let roster = picture.roster.deadline(now);
        Deadline::earlier(picture.ports.deadline(), Some(roster)).unwrap_or(roster)
    }

    /// This remark, and all that wait behind it: a phone that does not enumerate makes a burst of them.
    fn take_in(&mut self, first: Remark) {
        let mut next = Some(first);
        self.picture.send_if_modified(|picture| {
            while let Some(remark) = next.take().or_else(|| self.remarks.try_recv().ok()) {
                picture.ports.remark(remark);
            }
            // Nobody waits for a remark.
            false
        });
    }

    async fn look(&mut self) -> Vec<BusEvent> {
        let suspicious = self.picture.borrow().ports.suspicious();
        let look = match self.thread.look(suspicious).await {
            Some(Ok(look)) => look,
            Some(Err(error)) => {
                tracing::warn!(%error, "the list of USB devices could not be read; it is read again");
                return Vec::new();
            }
            None => {
                let after_s = LOOK_DEADLINE.as_secs();
                tracing::warn!(
                    after_s,
                    "reading the list of USB devices hangs: a hub does not answer; it is waited for"
                );
                return Vec::new();
            }
        };
        let now = self.clock.now();
        let mut events = Vec::new();
        self.picture.send_modify(|picture| {
            picture.scans += 1;
            events.extend(picture.ports.update(&look.ports, now));
            events.extend(picture.roster.update(look.handsets, now));
            let controllers = topology::controllers(&look.devices, &look.controllers, picture.ports.controllers());
            if self.controllers != controllers {
                self.controllers.clone_from(&controllers);
                events.push(BusEvent::Controllers(controllers));
            }
        });
        events
    }
}

fn tell(event: &BusEvent) {
    match event {
        BusEvent::Arrived(handset) => {
            let serial = handset.serial.as_ref().map_or("none", |serial| serial.as_str());
            tracing::info!(path = %handset.path, serial, speed = handset.speed.as_str(), "a handset is on the bus");
        }
        BusEvent::Openable(handset) => {
            tracing::info!(path = %handset.path, "a handset that could not be opened may be opened now");
        }
        BusEvent::Left { path } => tracing::info!(%path, "what was plugged in has left the bus"),
        BusEvent::Unopenable { handset, why } => {
            tracing::warn!(path = %handset.path, why, "a handset cannot be opened");
        }
        BusEvent::OtherMode { handset, why } => tracing::warn!(path = %handset.path, why, "a handset cannot speak ADB"),
        BusEvent::NotEnumerated { path, why } => tracing::warn!(%path, why, "a port has no device"),
        BusEvent::Controllers(controllers) => {
            for controller in controllers {
                let (name, devices, max) = (&controller.name, controller.devices, controller.devices_max);
                tracing::debug!(name, devices, max, endpoints = controller.endpoints, "a USB controller");
            }
        }
    }
}
