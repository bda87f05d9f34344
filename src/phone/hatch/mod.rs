//! The hatch: through it a command on this host has something done on a phone, and hands open files over for it.
//!
//! ```text
//!   farmhand phone A1 push f d ──── Unix socket ────▶ hatch ──▶ the phone's Adb: a stream of its own
//!        │  opens f by its own rights                   ▲
//!        └── the open file itself (SCM_RIGHTS) ─────────┘  read and sent without a copy between the processes
//! ```
//!
//! It is a door of its own beside the API, since HTTP can carry no open files. A connection carries one ask at a time: a frame with
//! the [`wire::Ask`] and its files, then input and output as frames, then one answer. Whoever hangs up has ended what was asked.
//! The daemon opens no file that a command names: the command does, by the rights of whoever started it.
//!
//! Whether an ask may be carried out now is decided in one place, [`Hatch::admit`].
//!
//! Invariant: what was asked ends with its connection, with the phone's connection and with the daemon, whichever is first.
//! Invariant: nothing here waits for the model, and nothing here can slow it: phones are found in its snapshots.

mod line;
mod online;
pub mod wire;
mod work;

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

pub use online::{OnlinePhones, Seat};

use crate::adb::driver::Adb;
use crate::rack::Snapshot;
use crate::rack::request::Refusal;
use crate::rack::snapshot::PhoneView;
use crate::spelling;
use line::{FrameReader, FrameWriter, LineError};
use wire::{Ask, Down, Up};

/// The most connections at once; the next one waits in the kernel's queue.
const CONNECTIONS_MAX: usize = 256;
/// The longest between a connection and its first ask: commands ask at once.
const ASK_MAX: Duration = Duration::from_secs(10);
/// Between two tries when the system gives no more connections.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// What a connection needs.
#[derive(Clone, Debug)]
pub struct Hatch {
    /// The newest snapshot, in which phones are found by slot or id.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// The connections of the phones that are online.
    pub online: OnlinePhones,
}

impl Hatch {
    /// Serves commands until `cancel`.
    pub async fn serve(self, listener: UnixListener, cancel: CancellationToken) {
        let permits = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let mut connections = JoinSet::new();
        loop {
            let accept = async {
                let permit = permits.clone().acquire_owned().await;
                (permit, listener.accept().await)
            };
            tokio::select! {
                () = cancel.cancelled() => return,
                (permit, accepted) = accept => match accepted {
                    Ok((stream, _)) => {
                        let hatch = self.clone();
                        connections.spawn(async move {
                            let _permit = permit;
                            hatch.converse(stream).await;
                        });
                    }
                    Err(error) => {
                        warn!("a command could not be let in: {error}");
                        tokio::time::sleep(ACCEPT_RETRY).await;
                    }
                },
                Some(_) = connections.join_next() => {}
            }
        }
    }

    async fn converse(&self, stream: UnixStream) {
        let (reader, writer) = stream.into_split();
        let (mut reader, mut writer) = (FrameReader::new(reader), FrameWriter::new(writer));
        loop {
            let ended = match timeout(ASK_MAX, reader.next()).await {
                Ok(Ok(Some((Up::Ask(ask), files)))) => self.carry_out(ask, files, &mut reader, &mut writer).await,
                // What a command still said when its work had ended.
                Ok(Ok(Some((Up::Input(_) | Up::EndOfInput | Up::Resize(_) | Up::File(_), _)))) => Ok(()),
                Ok(Ok(None)) | Err(_) => return,
                Ok(Err(error)) => Err(error),
            };
            if let Err(error) = ended {
                debug!("a command broke off: {error}");
                return;
            }
        }
    }

    async fn carry_out(
        &self,
        ask: Ask,
        files: VecDeque<OwnedFd>,
        reader: &mut FrameReader,
        writer: &mut FrameWriter,
    ) -> Result<(), LineError> {
        let result = match self.admit(&ask) {
            Ok(adb) => {
                debug!(phone = ask.phone, work = ask.work.name(), "asked by a command");
                if ask.work.changes_the_phone() {
                    info!("{}: {} ordered on this host", ask.phone, ask.work.name());
                }
                work::carry_out(&adb, ask.work, files, reader, writer).await?
            }
            Err(refusal) => Err(refusal),
        };
        match result {
            Ok(answer) => writer.send(&Down::Done(answer)).await,
            Err(refusal) => writer.send(&Down::Refused(refusal)).await,
        }
    }

    /// The phone's connection, if what is asked may be done now. Whoever holds a phone for himself is asked here, once phones can
    /// be held.
    fn admit(&self, ask: &Ask) -> Result<Adb, Refusal> {
        let snapshot = self.snapshots.borrow();
        let Some(phone) = snapshot.phone(&ask.phone) else { return Err(unknown(&ask.phone, &snapshot)) };
        phone.endpoint.as_ref().and_then(|endpoint| self.online.at(endpoint)).ok_or_else(|| offline(phone))
    }
}

fn unknown(name: &str, snapshot: &Snapshot) -> Refusal {
    let names = |phone: &PhoneView| {
        let slot = phone.slot.as_ref().map(ToString::to_string);
        slot.into_iter().chain([phone.id.to_string()])
    };
    let known: Vec<String> = snapshot.phones.iter().flat_map(names).collect();
    let help = match spelling::nearest(name, known.iter().map(String::as_str)) {
        Some(near) => format!("did you mean `{near}`?"),
        None if known.is_empty() => "there is no phone or slot yet".to_owned(),
        None => format!("there are {}", known.join(", ")),
    };
    Refusal { code: "phone.unknown".to_owned(), what: format!("no phone or slot is called `{name}`"), help: Some(help) }
}

fn offline(phone: &PhoneView) -> Refusal {
    let name = phone.slot.as_ref().map_or_else(|| phone.id.to_string(), ToString::to_string);
    Refusal {
        code: "phone.offline".to_owned(),
        what: format!("{name} can't be talked to: it is {}: {}", phone.state.as_str(), phone.why),
        help: Some(format!("see `farmhand phone {name} show`")),
    }
}
