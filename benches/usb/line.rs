//! A device's pair of bulk endpoints by nusb, a library that farmhand does not use, in a loop that does nothing else: what everything on
//! the bus is measured against.

use std::io;
use std::time::Duration;

use nusb::transfer::{Buffer, Bulk, Completion, Direction, In, Out};
use nusb::{Endpoint, Interface, MaybeFuture as _};

/// Bytes of a transfer.
pub(crate) const TRANSFER_LEN: usize = 256 << 10;
/// Transfers in flight.
pub(crate) const TRANSFERS: usize = 4;
/// Past this the bus is dead.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// An interface that is claimed.
pub(crate) struct Line {
    pub(crate) output: Endpoint<Bulk, Out>,
    pub(crate) input: Endpoint<Bulk, In>,
    _interface: Interface,
}

impl Line {
    /// Claims the first interface of the device with this serial.
    pub(crate) fn open(serial: &str) -> io::Result<Self> {
        let mut devices = nusb::list_devices().wait()?;
        let device = devices.find(|device| device.serial_number() == Some(serial));
        let device = device.ok_or_else(|| io::Error::other(format!("{serial} is not on the bus")))?.open().wait()?;
        let interface = device.claim_interface(0).wait()?;
        let setting = interface.descriptor().ok_or_else(|| io::Error::other("no descriptor"))?;
        let address = |direction| {
            let endpoint = setting.endpoints().find(|endpoint| endpoint.direction() == direction);
            endpoint.map(|endpoint| endpoint.address()).ok_or_else(|| io::Error::other(format!("no {direction:?}")))
        };
        let (output, input) = (address(Direction::Out)?, address(Direction::In)?);
        Ok(Self { output: interface.endpoint(output)?, input: interface.endpoint(input)?, _interface: interface })
    }

    /// Sends so many bytes.
    pub(crate) fn push(&mut self, len: usize) -> io::Result<()> {
        let mut spare: Vec<Buffer> = Vec::new();
        for _ in 0..len / TRANSFER_LEN {
            if self.output.pending() == TRANSFERS {
                spare.push(self.written()?);
            }
            self.output.submit(spare.pop().unwrap_or_else(|| vec![0x5a; TRANSFER_LEN].into()));
        }
        self.flush()
    }

    /// Waits until all that was submitted has left.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        while self.output.pending() > 0 {
            self.written()?;
        }
        Ok(())
    }

    /// Waits for the first transfer out, and gives its buffer, to be filled anew.
    pub(crate) fn written(&mut self) -> io::Result<Buffer> {
        done(self.output.wait_next_complete(PATIENCE)).map(|done| done.buffer)
    }

    /// Takes so many bytes.
    pub(crate) fn pull(&mut self, len: usize) -> io::Result<()> {
        let mut submitted = 0;
        let mut taken = 0;
        let mut spare: Vec<Buffer> = Vec::new();
        while taken < len {
            while submitted < len && self.input.pending() < TRANSFERS {
                self.input.submit(spare.pop().unwrap_or_else(|| Buffer::new(TRANSFER_LEN)));
                submitted += TRANSFER_LEN;
            }
            let mut read = done(self.input.wait_next_complete(PATIENCE))?;
            taken += read.actual_len;
            read.buffer.clear();
            spare.push(read.buffer);
        }
        Ok(())
    }
}

/// What has come back, if it went well.
pub(crate) fn done(completion: Option<Completion>) -> io::Result<Completion> {
    let completion = completion.ok_or_else(|| io::Error::other(format!("no transfer ended in {PATIENCE:?}")))?;
    completion.status.map_err(io::Error::other)?;
    Ok(completion)
}
