//! The kernel's log, followed without a thread of its own: `/dev/kmsg` gives one record a read and can be waited for.

use std::fs::OpenOptions;
use std::io;
use std::os::unix::fs::OpenOptionsExt;

use tokio::net::unix::pipe::Receiver;
use tokio::sync::mpsc;

use super::kernel_log::{Remark, remark};

const KMSG: &str = "/dev/kmsg";

/// The longest record, as the kernel's documentation says.
const RECORD_MAX: usize = 8192;

/// Remarks that wait for the next scan; further ones are dropped, since each port complains more than once.
pub(super) const REMARKS_MAX: usize = 256;

/// Opens the log, so that what it says from its beginning on can be followed.
///
/// # Errors
/// Most often that this user may not read it: that takes `CAP_SYSLOG`.
pub(super) fn open() -> io::Result<Receiver> {
    let file = OpenOptions::new().read(true).custom_flags(nix::libc::O_NONBLOCK).open(KMSG)?;
    // It is no pipe, but like one it can be polled and read, and more is not done with it.
    Receiver::from_file_unchecked(file)
}

/// Sends each remark on USB until nobody takes them any more, or the log ends.
pub(super) async fn follow(log: Receiver, remarks: mpsc::Sender<Remark>) {
    let mut record = vec![0; RECORD_MAX];
    loop {
        // Not its `AsyncRead`: that takes a short read for the end of what is there, and every record is one.
        match log.try_read(&mut record) {
            Ok(0) => return,
            Ok(len) => {
                let remark = record.get(..len).and_then(remark);
                if let Some(remark) = remark
                    && let Err(mpsc::error::TrySendError::Closed(_)) = remarks.try_send(remark)
                {
                    return;
                }
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if log.readable().await.is_err() {
                    return;
                }
            }
            // The kernel has overwritten what was not read yet: the next read goes on behind it.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                tracing::warn!(%error, "the kernel's log cannot be read any more; it will say nothing of ports in trouble");
                return;
            }
        }
    }
}
