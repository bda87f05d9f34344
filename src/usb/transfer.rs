//! Asynchronous bulk transfers: the only file of farmhand with unsafe code, since rusb offers blocking transfers only.
//!
//! ```text
//!     submit ──▶ Ticket (buffer, permit, a share of the handle) ──▶ libusb ──▶ kernel
//!        │                                                             │
//!        ▼                                                             ▼ on the event thread
//!     InFlight  ◀──────────── Completion (oneshot) ◀──────────── on_completed: the ticket comes back
//!     dropped: libusb_cancel_transfer, and nothing else
//! ```
//!
//! Invariant: from a successful submit until its callback, a transfer and its ticket belong to libusb; the callback comes exactly
//! once, cancelled or not, and only it frees them.
//! Invariant: a ticket owns a share of the handle, so the handle outlives each of its transfers.
#![allow(unsafe_code)]

use std::ffi::c_int;
use std::fs::File;
use std::future::Future;
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context as TaskContext, Poll};

use bytes::{Bytes, BytesMut};
use rusb::constants::{
    LIBUSB_ERROR_NO_DEVICE, LIBUSB_ERROR_NO_MEM, LIBUSB_TRANSFER_ADD_ZERO_PACKET, LIBUSB_TRANSFER_CANCELLED,
    LIBUSB_TRANSFER_COMPLETED, LIBUSB_TRANSFER_ERROR, LIBUSB_TRANSFER_NO_DEVICE, LIBUSB_TRANSFER_OVERFLOW,
    LIBUSB_TRANSFER_STALL,
};
use rusb::{Context, DeviceHandle, UsbContext, ffi};
use tokio::sync::oneshot;

use super::allowance::Permit;
use super::engine::Claimed;

/// What has become of a transfer: the bytes that were read (none for a write), or why not.
pub(super) type Completion = Result<BytesMut, TransferFault>;

/// Why a transfer failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum TransferFault {
    #[error("the handset left the bus")]
    Gone,
    #[error("the handset stalled the endpoint")]
    Stalled,
    #[error("the handset sent more than a packet holds")]
    Overflow,
    #[error("the transfer was cancelled")]
    Cancelled,
    #[error("the kernel has no memory left for USB transfers (usbfs_memory_mb)")]
    NoMemory,
    #[error("the handset took {taken} of {sent} bytes")]
    Short { taken: usize, sent: usize },
    #[error("the transfer failed on the bus: unplugged, or a bad cable or hub")]
    Broken,
    #[error("libusb failed with code {0}")]
    Other(c_int),
}

/// What a transfer carries.
#[derive(Debug)]
pub(super) enum Cargo {
    /// Room for what the handset sends, as long as this is.
    Read(BytesMut),
    /// Bytes for the handset.
    Write(Bytes, WriteEnd),
}

/// How a write ends on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum WriteEnd {
    /// As it is: it is short, or more of the same message follows.
    Plain,
    /// By a zero-length packet: it is the end of a message and a multiple of the packet size.
    ZeroPacket,
}

impl Cargo {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Read(room) => room.len(),
            Self::Write(bytes, _) => bytes.len(),
        }
    }
}

/// A transfer that belongs to libusb. Dropping this cancels it.
#[derive(Debug)]
pub(super) struct InFlight {
    line: Arc<CancelLine>,
    done: oneshot::Receiver<Completion>,
    len: usize,
}

/// The way to cancel a transfer: empty once the transfer has come back.
#[derive(Debug)]
struct CancelLine(Mutex<Option<RawTransfer>>);

#[derive(Debug)]
struct RawTransfer(NonNull<ffi::libusb_transfer>);

// SAFETY: the pointer is only handed to `libusb_cancel_transfer`, which libusb allows from any thread, under the lock of the
// `CancelLine`, which the callback empties before the transfer is freed.
unsafe impl Send for RawTransfer {}

impl CancelLine {
    fn cut(&self) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    fn cancel(&self) {
        if let Some(raw) = &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            // SAFETY: the transfer is not freed while the line holds it, since the callback waits in `cut` for this lock. An
            // error means that it is not in flight (any more): its callback is about to come.
            unsafe { ffi::libusb_cancel_transfer(raw.0.as_ptr()) };
        }
    }
}

/// What travels with a transfer through libusb and comes back in the callback.
struct Ticket {
    cargo: Cargo,
    line: Arc<CancelLine>,
    done: oneshot::Sender<Completion>,
    permit: Permit,
    claimed: Arc<Claimed>,
}

/// Hands a transfer to libusb.
///
/// # Errors
/// What libusb said; the cargo is lost then.
pub(super) fn submit(
    claimed: &Arc<Claimed>,
    endpoint: u8,
    cargo: Cargo,
    permit: Permit,
) -> Result<InFlight, TransferFault> {
    let len = cargo.len();
    let length = c_int::try_from(len).map_err(|_| TransferFault::NoMemory)?;
    // SAFETY: no precondition; null is looked for.
    let raw = NonNull::new(unsafe { ffi::libusb_alloc_transfer(0) }).ok_or(TransferFault::NoMemory)?;
    let line = Arc::new(CancelLine(Mutex::new(Some(RawTransfer(raw)))));
    let (done, receiver) = oneshot::channel();
    let mut ticket = Box::new(Ticket { cargo, line: Arc::clone(&line), done, permit, claimed: Arc::clone(claimed) });
    let (buffer, flags) = match &mut ticket.cargo {
        Cargo::Read(room) => (room.as_mut_ptr(), 0),
        Cargo::Write(bytes, WriteEnd::Plain) => (bytes.as_ptr().cast_mut(), 0),
        Cargo::Write(bytes, WriteEnd::ZeroPacket) => (bytes.as_ptr().cast_mut(), LIBUSB_TRANSFER_ADD_ZERO_PACKET),
    };
    let handle = claimed.handle().as_raw();
    let ticket = Box::into_raw(ticket);
    // SAFETY: `raw` is a fresh transfer that nobody else knows. The buffer is heap memory of the cargo, which does not move with
    // the ticket and lives until the callback, and nobody else has that part of it; libusb only reads the buffer of an OUT transfer, so `Bytes` is not written to. The
    // handle lives as long as the ticket's share of it.
    let code = unsafe {
        let user_data = ticket.cast();
        ffi::libusb_fill_bulk_transfer(raw.as_ptr(), handle, endpoint, buffer, length, on_completed, user_data, 0);
        (*raw.as_ptr()).flags = flags;
        ffi::libusb_submit_transfer(raw.as_ptr())
    };
    if code == 0 {
        return Ok(InFlight { line, done: receiver, len });
    }
    line.cut();
    // SAFETY: a transfer whose submit failed is not in flight: there will be no callback, so both are ours again, once.
    unsafe {
        ffi::libusb_free_transfer(raw.as_ptr());
        drop(Box::from_raw(ticket));
    }
    Err(match code {
        LIBUSB_ERROR_NO_DEVICE => TransferFault::Gone,
        LIBUSB_ERROR_NO_MEM => TransferFault::NoMemory,
        other => TransferFault::Other(other),
    })
}

/// libusb's callback, on the event thread: takes the ticket back, frees the transfer and tells whoever waits. It must not block,
/// and it must not unwind into C: nothing in it can panic.
extern "system" fn on_completed(raw: *mut ffi::libusb_transfer) {
    // SAFETY: libusb calls this exactly once for each submitted transfer, with the transfer that `submit` has filled; until now
    // the ticket behind `user_data` belonged to it.
    let (ticket, status, actual) = unsafe {
        let ticket = Box::from_raw((*raw).user_data.cast::<Ticket>());
        (ticket, (*raw).status, usize::try_from((*raw).actual_length).unwrap_or(0))
    };
    ticket.line.cut();
    // SAFETY: the transfer has come back and, the line being cut, nobody else can reach it. libusb does not look at it after
    // the callback, since the flag to free it by itself is not set.
    unsafe { ffi::libusb_free_transfer(raw) };
    let Ticket { cargo, done, permit, claimed, .. } = *ticket;
    let completion = judge(cargo, status, actual);
    drop(permit);
    // Nobody may be waiting: the transfer was cancelled by dropping its `InFlight`.
    let _ = done.send(completion);
    drop(claimed);
}

fn judge(cargo: Cargo, status: c_int, actual: usize) -> Completion {
    match (status, cargo) {
        (LIBUSB_TRANSFER_COMPLETED, Cargo::Read(mut room)) => {
            room.truncate(actual);
            Ok(room)
        }
        (LIBUSB_TRANSFER_COMPLETED, Cargo::Write(bytes, _)) if bytes.len() == actual => Ok(BytesMut::new()),
        (LIBUSB_TRANSFER_COMPLETED, Cargo::Write(bytes, _)) => {
            Err(TransferFault::Short { taken: actual, sent: bytes.len() })
        }
        (LIBUSB_TRANSFER_NO_DEVICE, _) => Err(TransferFault::Gone),
        (LIBUSB_TRANSFER_STALL, _) => Err(TransferFault::Stalled),
        (LIBUSB_TRANSFER_OVERFLOW, _) => Err(TransferFault::Overflow),
        (LIBUSB_TRANSFER_CANCELLED, _) => Err(TransferFault::Cancelled),
        (LIBUSB_TRANSFER_ERROR, _) => Err(TransferFault::Broken),
        (other, _) => Err(TransferFault::Other(other)),
    }
}

impl InFlight {
    /// The bytes that it carries, or has room for.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// What has become of it, if it has come back.
    pub(super) fn try_done(&mut self) -> Option<Completion> {
        match self.done.try_recv() {
            Ok(completion) => Some(completion),
            Err(oneshot::error::TryRecvError::Empty) => None,
            Err(oneshot::error::TryRecvError::Closed) => Some(Err(TransferFault::Cancelled)),
        }
    }
}

impl Future for InFlight {
    type Output = Completion;

    fn poll(mut self: Pin<&mut Self>, cx: &mut TaskContext<'_>) -> Poll<Completion> {
        let done = Pin::new(&mut self.done).poll(cx);
        done.map(|completion| completion.unwrap_or(Err(TransferFault::Cancelled)))
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.line.cancel();
    }
}

/// Makes a handle of an open device node: the way in that does not depend on what libusb has heard of the device.
///
/// # Errors
/// What libusb said.
pub(super) fn wrap_node(context: &Context, node: &File) -> rusb::Result<DeviceHandle<Context>> {
    // SAFETY: the descriptor is open; `Claimed` keeps the file until after the handle is closed.
    unsafe { context.open_device_with_fd(node.as_raw_fd()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_read_gives_what_has_come_and_a_write_must_be_taken_whole() {
        let room = || Cargo::Read(BytesMut::zeroed(512));
        let bytes = || Cargo::Write(Bytes::from_static(b"abcd"), WriteEnd::Plain);
        assert_eq!(judge(room(), LIBUSB_TRANSFER_COMPLETED, 24).unwrap().len(), 24);
        assert_eq!(judge(room(), LIBUSB_TRANSFER_COMPLETED, 0).unwrap().len(), 0);
        assert_eq!(judge(bytes(), LIBUSB_TRANSFER_COMPLETED, 4), Ok(BytesMut::new()));
        assert_eq!(judge(bytes(), LIBUSB_TRANSFER_COMPLETED, 3), Err(TransferFault::Short { taken: 3, sent: 4 }));
    }

    #[test]
    fn each_status_is_a_fault_of_its_own() {
        let fault = |status| judge(Cargo::Read(BytesMut::zeroed(4)), status, 0).unwrap_err();
        assert_eq!(fault(LIBUSB_TRANSFER_NO_DEVICE), TransferFault::Gone);
        assert_eq!(fault(LIBUSB_TRANSFER_STALL), TransferFault::Stalled);
        assert_eq!(fault(LIBUSB_TRANSFER_OVERFLOW), TransferFault::Overflow);
        assert_eq!(fault(LIBUSB_TRANSFER_CANCELLED), TransferFault::Cancelled);
        assert_eq!(fault(LIBUSB_TRANSFER_ERROR), TransferFault::Broken);
        assert_eq!(fault(77), TransferFault::Other(77));
    }
}
