//! What the daemon calls: events of the bus, and a way to open and reset a handset on it.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, mpsc, watch};
use tokio::task;
use tokio::time;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::allowance::Allowance;
use super::budget::Budget;
use super::calls::Calls;
pub use super::claim::OpenError;
use super::claim::{claim, reset};
use super::engine::{Claimed, Engine, HotplugBackend};
use super::enumerate::AdbInterface;
use super::kernel_log::Remark;
use super::kmsg;
use super::picture::{Clock, Picture};
use super::roster::{BusEvent, Present, SeenState};
use super::scan;
use super::scanner::{LookThread, Scanner};
use super::settle::{self, Verdict};
use super::transport::UsbTransport;
use crate::adb::failure::OpenFault;
use crate::rack::ids::PortPath;

/// Events that wait for the model; when it is full the next scan waits, and nothing is lost since a scan is a whole picture.
const EVENTS_MAX: usize = 256;

/// The longest that opening, claiming and clearing may take: the kernel's own control transfers end after 5 s.
const CLAIM_DEADLINE: Duration = Duration::from_secs(6);

/// The longest that an interface which was ours a moment ago may take to be given back.
const CLOSE_DEADLINE: Duration = Duration::from_secs(6);

/// The longest that a reset may take: the kernel tries the port several times.
const RESET_DEADLINE: Duration = Duration::from_secs(10);

/// The longest that a handset may take to be back on the bus after its reset.
const RETURN_DEADLINE: Duration = Duration::from_secs(10);

/// Why the bus could not be started on a host that has USB.
#[derive(Debug, thiserror::Error)]
pub enum BusError {
    /// libusb does not work here.
    #[error("libusb could not start although this host has USB: {0} (may this user open a netlink socket?)")]
    Libusb(#[from] rusb::Error),
    /// No thread is to be had.
    #[error("no thread for USB events: {0}")]
    Thread(#[from] io::Error),
}

/// The host's USB. Cheap to clone; the bus goes on until its [`CancellationToken`] ends it, open handsets until they are dropped.
#[derive(Clone, Debug)]
pub struct Bus {
    works: Option<Arc<Works>>,
}

/// What there is on a host with USB.
#[derive(Debug)]
struct Works {
    engine: Arc<Engine>,
    allowance: Allowance,
    calls: Calls,
    kick: Arc<Notify>,
    picture: watch::Sender<Picture>,
    /// For each port that was opened or reset: ended once the interface is given back and the call has ended.
    closings: Mutex<BTreeMap<PortPath, CancellationToken>>,
    clock: Clock,
}

impl Bus {
    /// Starts looking for handsets; call it inside a tokio runtime. A host without USB has an empty bus.
    ///
    /// The events begin with an arrival for each handset that is already there. When their receiver is dropped or `cancel` is
    /// cancelled, the bus is scanned no more; open handsets live on.
    ///
    /// # Errors
    /// The host has USB, and libusb does not work on it.
    pub fn start(cancel: CancellationToken) -> Result<(Self, mpsc::Receiver<BusEvent>), BusError> {
        if !scan::host_has_usb() {
            return Ok(Self::without_usb(cancel));
        }
        let (events, receiver) = mpsc::channel(EVENTS_MAX);
        let kick = Arc::new(Notify::new());
        let engine = Engine::start(rusb::Context::new()?, Arc::clone(&kick))?;
        let budget = Budget::of_usbfs_memory(scan::usbfs_memory_mebibytes());
        tracing::info!(
            hotplug = HotplugBackend::detect().as_str(),
            budget_bytes = budget.total(),
            "looking for handsets on USB"
        );
        let picture = watch::Sender::new(Picture::default());
        let clock = Clock::start();
        let scanner = Scanner {
            kick: Arc::clone(&kick),
            picture: picture.clone(),
            events,
            remarks: follow_kernel_log(&cancel),
            thread: LookThread::start(engine.context().clone())?,
            clock,
            controllers: Vec::new(),
        };
        task::spawn(async move {
            tokio::select! { () = cancel.cancelled() => {}, () = scanner.run() => {} }
        });
        let allowance = Allowance::new(budget);
        let works = Works { engine, allowance, calls: Calls::new(), kick, picture, closings: Mutex::default(), clock };
        Ok((Self { works: Some(Arc::new(works)) }, receiver))
    }

    fn without_usb(cancel: CancellationToken) -> (Self, mpsc::Receiver<BusEvent>) {
        tracing::info!("this host has no USB: no handset will be looked for on it");
        let (events, receiver) = mpsc::channel(1);
        // The events stay open, as on a bus that nobody plugs anything into.
        task::spawn(async move {
            tokio::select! { () = cancel.cancelled() => {}, () = events.closed() => {} }
        });
        (Self { works: None }, receiver)
    }

    /// Opens the handset at `path` and claims its ADB interface. A handset that has just arrived is settling: for
    /// [`settle::SETTLE_TIME`] after its arrival a refusal is not final and is tried again.
    ///
    /// # Errors
    /// What kind of failure, and the sentence for a person.
    pub async fn open(&self, path: &PortPath) -> Result<UsbTransport, OpenError> {
        let works = self.works(path)?;
        loop {
            let closed = works.closed(path).await;
            let present = works.present(path)?;
            let opened = match closed {
                Ok(()) => works.claim(&present).await,
                Err(error) => Err(error),
            };
            let error = match opened {
                Ok(transport) => return Ok(transport),
                Err(error) => error,
            };
            match settle::judge(error.fault, present.since, works.clock.now()) {
                Verdict::Retry(next) => {
                    tracing::debug!(%path, %error, why = next.why, "the handset cannot be opened yet");
                    time::sleep_until(works.clock.instant(next.at)).await;
                }
                Verdict::Show => {
                    works.refused(&present, error.fault);
                    return Err(error);
                }
            }
        }
    }

    /// Resets the handset at `path` and waits until it is back with an ADB interface: a reset may change a phone's mode. Its
    /// transport must have been dropped before.
    ///
    /// # Errors
    /// What kind of failure, and the sentence for a person.
    pub async fn reset(&self, path: &PortPath) -> Result<(), OpenError> {
        let works = self.works(path)?;
        works.closed(path).await?;
        let Present { seen, .. } = works.present(path)?;
        let (engine, guard) = (Arc::clone(&works.engine), works.busy_with(path));
        let call = move || {
            let result = reset(&engine, &seen.handset, seen.node);
            drop(guard);
            result
        };
        works.calls.run(path, "the reset", RESET_DEADLINE, call).await?;
        works.returned(path).await
    }

    fn works(&self, path: &PortPath) -> Result<&Arc<Works>, OpenError> {
        self.works.as_ref().ok_or_else(|| gone(format!("no handset at {path}: this host has no USB")))
    }
}

impl Works {
    fn present(&self, path: &PortPath) -> Result<Present, OpenError> {
        let picture = self.picture.borrow();
        picture.roster.find(path).cloned().ok_or_else(|| gone(format!("there is no handset at {path} any more")))
    }

    /// The next scans look whether what kept it from being opened is still so.
    fn refused(&self, present: &Present, fault: OpenFault) {
        self.picture.send_if_modified(|picture| {
            picture.roster.refused(&present.seen.handset.path, present.seen.node, fault);
            // Nobody waits for a refusal.
            false
        });
    }

    async fn claim(&self, present: &Present) -> Result<UsbTransport, OpenError> {
        let seen = present.seen.clone();
        let path = seen.handset.path.clone();
        let interface = match seen.state {
            SeenState::Configured(interface) => interface,
            SeenState::Unconfigured => {
                return Err(gone(format!("the kernel has not configured the handset at {path}")));
            }
            SeenState::Other(mode) => return Err(gone(format!("the handset at {path} {}", mode.advice()))),
        };
        let (engine, guard) = (Arc::clone(&self.engine), self.busy_with(&path));
        let open = move || claim(&engine, &seen.handset, seen.node, interface, guard);
        let claimed = self.calls.run(&path, "opening", CLAIM_DEADLINE, open).await?;
        Ok(self.transport(claimed, interface))
    }

    /// Has the next call of this port wait until what is given back is dropped: this call goes on when its future is dropped.
    fn busy_with(&self, path: &PortPath) -> DropGuard {
        let closed = CancellationToken::new();
        self.lock_closings().insert(path.clone(), closed.clone());
        closed.drop_guard()
    }

    fn transport(&self, claimed: Claimed, interface: AdbInterface) -> UsbTransport {
        UsbTransport::new(claimed, interface, &self.allowance)
    }

    /// Waits until the interface is given back that an earlier transport at this port has held.
    async fn closed(&self, path: &PortPath) -> Result<(), OpenError> {
        let Some(closed) = self.lock_closings().get(path).cloned() else { return Ok(()) };
        time::timeout(CLOSE_DEADLINE, closed.cancelled()).await.map_err(|_| OpenError {
            // The handset hangs: what helps is a harsher rung, not to wait for another program.
            fault: OpenFault::Protocol,
            why: format!("farmhand's last call to the handset at {path} hangs for {} s more", CLOSE_DEADLINE.as_secs()),
        })?;
        self.lock_closings().remove(path);
        Ok(())
    }

    /// Waits for a scan that was begun after now and has a handset at `path`.
    async fn returned(&self, path: &PortPath) -> Result<(), OpenError> {
        // The scan under way may still show the handset as it was: the one after it counts.
        let fresh = self.picture.borrow().scans + 2;
        let ready = |picture: &Picture| {
            let present = picture.roster.find(path);
            let configured = present.is_some_and(|present| matches!(present.seen.state, SeenState::Configured(_)));
            picture.scans >= fresh && configured
        };
        let back = async {
            while !ready(&self.picture.borrow()) {
                self.kick.notify_one();
                time::sleep(settle::RETRY_INTERVAL).await;
            }
        };
        let late = |_| {
            let seconds = RETURN_DEADLINE.as_secs();
            gone(format!("no ADB interface has come back at {path} within {seconds} s of its reset"))
        };
        time::timeout(RETURN_DEADLINE, back).await.map_err(late)
    }

    fn lock_closings(&self) -> std::sync::MutexGuard<'_, BTreeMap<PortPath, CancellationToken>> {
        self.closings.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the kernel says of USB from the beginning of its log on; nothing where the log cannot be read.
fn follow_kernel_log(cancel: &CancellationToken) -> mpsc::Receiver<Remark> {
    let (remarks, receiver) = mpsc::channel(kmsg::REMARKS_MAX);
    match kmsg::open() {
        Ok(log) => {
            let cancel = cancel.clone();
            task::spawn(async move {
                tokio::select! { () = cancel.cancelled() => {}, () = kmsg::follow(log, remarks) => {} }
            });
        }
        Err(error) => {
            tracing::info!(%error, "the kernel's log cannot be read: ports without a device are shown without its reason");
        }
    }
    receiver
}

fn gone(why: String) -> OpenError {
    OpenError { fault: OpenFault::Gone, why }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_host_without_usb_has_an_empty_bus_that_ends_when_asked() {
        let cancel = CancellationToken::new();
        let (bus, mut events) = Bus::without_usb(cancel.clone());
        assert_eq!(events.try_recv(), Err(mpsc::error::TryRecvError::Empty));
        let error = bus.open(&"1-2".parse().unwrap()).await.unwrap_err();
        assert_eq!(error.fault, OpenFault::Gone);
        assert!(error.why.contains("no USB"), "{error}");
        cancel.cancel();
        assert_eq!(events.recv().await, None);
    }
}
