//! A hub's serial port: opened for us alone, asked one request at a time, closed when it is gone.

use std::io::{ErrorKind, Read, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use serialport::{ClearBuffer, DataBits, FlowControl, Parity, SerialPort, StopBits, TTYPort};
use tokio_util::sync::CancellationToken;

use super::cambrionix::{HubLineError, Request};
use super::dialogue::{Dialogue, DialogueError};
use crate::clock::Moment;

/// What the manuals say: 115200 8N1, no flow control.
const BAUD: u32 = 115_200;

/// The longest single read: how late a cancelled driver ends.
const READ_SLICE: Duration = Duration::from_millis(50);

/// How much longer than a quiet moment a chattering line is listened to before it is given up.
const CHATTER_FACTOR: u32 = 5;

/// Why a hub could not be asked.
#[derive(Clone, Debug, thiserror::Error)]
pub(super) enum Fault {
    /// The port can't be opened, or ended: it must be opened anew.
    #[error("{0}")]
    Gone(String),
    /// The port is there, the hub does not speak.
    #[error(transparent)]
    Dialogue(#[from] DialogueError),
    /// The hub speaks, and says something else than it should.
    #[error(transparent)]
    Lines(#[from] HubLineError),
    /// The daemon ends.
    #[error("the daemon ends")]
    Cancelled,
}

/// An open serial port.
pub(super) struct Line {
    port: TTYPort,
    opened: Instant,
    cancel: CancellationToken,
}

impl Line {
    /// Opens the port. serialport takes both TIOCEXCL and a lock on the file: root passes the first, another farmhand
    /// respects the second.
    pub(super) fn open(device: &Path, cancel: CancellationToken) -> Result<Self, Fault> {
        let shown = device.display();
        if !device.exists() {
            return Err(Fault::Gone(format!("{shown} is not there: the hub is unplugged, or the path is wrong")));
        }
        let port = serialport::new(device.to_string_lossy(), BAUD)
            .data_bits(DataBits::Eight)
            .parity(Parity::None)
            .stop_bits(StopBits::One)
            .flow_control(FlowControl::None)
            .timeout(READ_SLICE)
            .open_native()
            .map_err(|error| Fault::Gone(format!("{shown} can't be opened: {error}")))?;
        Ok(Self { port, opened: Instant::now(), cancel })
    }

    /// Sends `request` and waits at most `patience` for the whole reply.
    pub(super) fn ask(&mut self, request: Request, patience: Duration) -> Result<Vec<String>, Fault> {
        let mut dialogue = Dialogue::begin(request, self.now(), patience);
        match self.port.write_all(&dialogue.request_bytes()) {
            Ok(()) => {}
            // The deadline below tells of a port that takes no bytes.
            Err(error) if error.kind() == ErrorKind::TimedOut => {}
            Err(error) => return Err(Fault::Gone(format!("the serial port ended: {error}"))),
        }
        loop {
            let mut chunk = [0; 512];
            let bytes = self.read(&mut chunk)?;
            if let Some(lines) = dialogue.receive(bytes)? {
                return Ok(lines);
            }
            dialogue.advance(self.now())?;
        }
    }

    /// Listens until nothing has come for `quiet`, so that a late reply is not taken for the next one's.
    pub(super) fn settle(&mut self, quiet: Duration) -> Result<(), Fault> {
        // What the kernel holds already is dropped at once; a port that can't do so is read empty below.
        let _ = self.port.clear(ClearBuffer::Input);
        let begun = Instant::now();
        let mut last = begun;
        while last.elapsed() < quiet && begun.elapsed() < quiet * CHATTER_FACTOR {
            let mut chunk = [0; 512];
            if !self.read(&mut chunk)?.is_empty() {
                last = Instant::now();
            }
        }
        Ok(())
    }

    /// What comes within one slice; nothing is an empty slice.
    fn read<'a>(&mut self, chunk: &'a mut [u8]) -> Result<&'a [u8], Fault> {
        if self.cancel.is_cancelled() {
            return Err(Fault::Cancelled);
        }
        match self.port.read(chunk) {
            // A serial port that is there never ends: the kernel says so once the device has left.
            Ok(0) => Err(Fault::Gone("the serial port ended: the hub was unplugged".to_owned())),
            Ok(count) => Ok(chunk.get(..count).unwrap_or_default()),
            Err(error) if matches!(error.kind(), ErrorKind::TimedOut | ErrorKind::Interrupted) => Ok(&[]),
            Err(error) => Err(Fault::Gone(format!("the serial port ended: {error}"))),
        }
    }

    fn now(&self) -> Moment {
        Moment::from_start(self.opened.elapsed())
    }
}
