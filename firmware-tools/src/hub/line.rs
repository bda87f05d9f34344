//! The hub's serial line on a pty: bytes in, echo, replies, the prompt, and what can go wrong with a line.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::openpty;
use nix::sys::termios::{SetArg, cfmakeraw, tcgetattr, tcsetattr};
use nix::unistd::{read, ttyname, write};
use tokio::runtime::Handle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::board::{Answer, Board, Load, Mode};
use crate::cable::Cable;

/// A hub as the rack file describes it.
#[derive(Clone, Debug)]
pub struct HubSpec {
    /// Its name in the rack, such as `H1`; also the name of the link to its device.
    pub name: String,
    /// What `id` says as `sn`.
    pub serial: String,
    /// How many ports it has.
    pub ports: u8,
}

/// What is wrong with the line.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LineFault {
    /// Nothing.
    #[default]
    None,
    /// It is cut: nothing that is sent arrives.
    Cut,
    /// Each command is answered with bytes that mean nothing.
    Garbage,
}

/// A running hub.
pub struct Hub {
    device: PathBuf,
    link: PathBuf,
    shared: Arc<Shared>,
    stop: CancellationToken,
}

struct Shared {
    name: String,
    board: Mutex<Board>,
    fault: Mutex<LineFault>,
    /// By port, from port 1.
    cables: Vec<Option<Arc<Cable>>>,
    switched_on: Instant,
}

/// The longest command that the firmware takes; longer lines are thrown away.
const COMMAND_BYTES_MAX: usize = 128;
/// While nobody has the device open the pty reports a hang-up for as long as it lasts; look again this often.
const HANGUP_POLL: Duration = Duration::from_millis(20);
/// The thread looks this often whether the hub was dropped.
const READ_POLL_MS: u16 = 50;
/// A reader that leaves the pty's buffer full for so long loses the reply, as on a real line.
const WRITE_TIMEOUT_MS: u16 = 2_000;
const PROMPT: &str = ">> ";

impl Hub {
    /// Opens a pty, links `dir/<name>` to it and answers there. `cables` are the phones by port, from port 1.
    ///
    /// # Errors
    ///
    /// No pty can be had, or the link cannot be made.
    pub fn start(spec: HubSpec, cables: Vec<Option<Arc<Cable>>>, dir: &Path) -> io::Result<Self> {
        let pty = openpty(None, None)?;
        let mut raw = tcgetattr(&pty.slave)?;
        cfmakeraw(&mut raw);
        tcsetattr(&pty.slave, SetArg::TCSANOW, &raw)?;
        let device = ttyname(&pty.slave)?;
        // The other end is not kept open here: whoever opens the device must find it as free as a real one.
        drop(pty.slave);
        let link = dir.join(&spec.name);
        if let Err(error) = std::fs::remove_file(&link)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        std::os::unix::fs::symlink(&device, &link)?;
        let shared = Arc::new(Shared {
            name: spec.name,
            board: Mutex::new(Board::new(&spec.serial, spec.ports)),
            fault: Mutex::default(),
            cables,
            switched_on: Instant::now(),
        });
        let stop = CancellationToken::new();
        let line = Line { shared: Arc::clone(&shared), pty: pty.master, typed: Vec::new(), stop: stop.clone() };
        let runtime = Handle::current();
        std::thread::Builder::new().name(format!("hub {}", shared.name)).spawn(move || line.serve(&runtime))?;
        Ok(Self { device, link, shared, stop })
    }

    /// The pty itself, such as `/dev/pts/7`.
    #[must_use]
    pub fn device(&self) -> &Path {
        &self.device
    }

    /// A name for it that stays the same from run to run.
    #[must_use]
    pub fn link(&self) -> &Path {
        &self.link
    }

    /// From now on the line behaves like this.
    pub fn set_fault(&self, fault: LineFault) {
        *self.shared.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
    }

    /// What is wrong with the line now.
    #[must_use]
    pub fn fault(&self) -> LineFault {
        *self.shared.fault.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The mode of each port, from port 1.
    #[must_use]
    pub fn modes(&self) -> Vec<Mode> {
        let board = self.shared.board.lock().unwrap_or_else(PoisonError::into_inner);
        (1..=u8::MAX).map_while(|port| board.mode(port)).collect()
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        self.stop.cancel();
        let _ = std::fs::remove_file(&self.link);
    }
}

struct Line {
    shared: Arc<Shared>,
    pty: OwnedFd,
    /// What was typed since the last `\r`.
    typed: Vec<u8>,
    stop: CancellationToken,
}

impl Line {
    fn serve(mut self, runtime: &Handle) {
        let mut buffer = [0; 256];
        while !self.stop.is_cancelled() {
            match self.read(&mut buffer) {
                Ok(n) => {
                    for byte in buffer.iter().copied().take(n) {
                        if let Err(error) = self.take(byte, runtime) {
                            tracing::warn!(hub = %self.shared.name, %error, "a reply was lost: nobody reads the line");
                        }
                    }
                }
                Err(_hang_up) => {
                    self.typed.clear();
                    std::thread::sleep(HANGUP_POLL);
                }
            }
        }
    }

    /// What was sent within one look; nothing is no error.
    fn read(&self, buffer: &mut [u8]) -> nix::Result<usize> {
        let mut wait = [PollFd::new(self.pty.as_fd(), PollFlags::POLLIN)];
        if poll(&mut wait, PollTimeout::from(READ_POLL_MS))? == 0 {
            return Ok(0);
        }
        read(&self.pty, buffer)
    }

    fn take(&mut self, byte: u8, runtime: &Handle) -> nix::Result<()> {
        let fault = *self.shared.fault.lock().unwrap_or_else(PoisonError::into_inner);
        match (fault, byte) {
            (LineFault::Cut, _) => {
                self.typed.clear();
                Ok(())
            }
            (LineFault::Garbage, b'\r') => {
                self.typed.clear();
                self.write(&garbage(self.shared.switched_on.elapsed()))
            }
            (LineFault::Garbage, _) | (LineFault::None, b'\n') => Ok(()),
            (LineFault::None, b'\r') => {
                let command = String::from_utf8_lossy(&std::mem::take(&mut self.typed)).into_owned();
                let reply = runtime.block_on(self.shared.carry_out(&command));
                self.write(format!("\r\n{reply}{PROMPT}").as_bytes())
            }
            (LineFault::None, _) if self.typed.len() >= COMMAND_BYTES_MAX => {
                self.typed.clear();
                Ok(())
            }
            (LineFault::None, _) => {
                self.typed.push(byte);
                self.write(&[byte])
            }
        }
    }

    fn write(&self, mut bytes: &[u8]) -> nix::Result<()> {
        while !bytes.is_empty() {
            let mut wait = [PollFd::new(self.pty.as_fd(), PollFlags::POLLOUT)];
            if poll(&mut wait, PollTimeout::from(WRITE_TIMEOUT_MS))? == 0 {
                return Err(nix::errno::Errno::ETIMEDOUT);
            }
            let n = write(&self.pty, bytes)?;
            bytes = bytes.get(n..).unwrap_or_default();
        }
        Ok(())
    }
}

impl Shared {
    /// The reply to one command, after its effect on the phones.
    async fn carry_out(&self, command: &str) -> String {
        let mut loads = Vec::with_capacity(self.cables.len());
        for cable in &self.cables {
            loads.push(match cable {
                Some(cable) => cable.load().await,
                None => Load::Empty,
            });
        }
        let up = self.switched_on.elapsed();
        let Answer { text, switched } =
            self.board.lock().unwrap_or_else(PoisonError::into_inner).answer(command, up, &loads);
        for (port, mode) in switched {
            tracing::info!(hub = %self.name, port, ?mode, "the port was switched");
            if let Some(Some(cable)) = self.cables.get(usize::from(port) - 1)
                && let Err(error) = cable.feed(mode).await
            {
                tracing::warn!(hub = %self.name, port, %error, "the phone on the port could not be plugged in again");
            }
        }
        text
    }
}

/// Bytes that are no reply, different each time.
fn garbage(seed: Duration) -> Vec<u8> {
    let mut x = seed.as_nanos() as u64 | 1;
    (0..40)
        .map(|_| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x.to_le_bytes()[3]
        })
        .collect()
}
