//! The tool server: through it a command on this host has something done on a phone, and hands open files over for it.
//!
//! ```text
//!   farmhand phone A1 push f d ──── Unix socket ────▶ tools ──▶ the phone's Adb: a stream of its own
//!        │  opens f by its own rights                   ▲
//!        └── the open file itself (SCM_RIGHTS) ─────────┘  read and sent without a copy between the processes
//! ```
//!
//! It is a door of its own beside the API, since HTTP can carry no open files. A connection carries one ask at a time: a frame with
//! the [`wire::Ask`] and its files, then input and output as frames, then one answer. Whoever hangs up has ended what was asked.
//! The daemon opens no file that a command names: the command does, by the rights of whoever started it.
//!
//! Whether an ask may be carried out now is decided in one place, [`ToolServer::admit`].
//!
//! Invariant: what was asked ends with its connection, with the phone's connection and with the daemon, whichever is first.
//! Invariant: nothing here waits for the model without a deadline, and nothing here can slow it: phones are found in its
//! snapshots.

mod lease;
mod line;
pub mod wire;
mod work;

use std::collections::VecDeque;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::accept::accept_all;
use crate::adb::driver::Adb;
use crate::adb::online::OnlinePhones;
use crate::adb::services::RebootTarget;
use crate::rack::ids::PhoneId;
use crate::rack::request::Refusal;
use crate::rack::snapshot::PhoneView;
use crate::rack::{Event, Snapshot};
use crate::{peer, spelling};
use line::{FrameReader, FrameWriter, LineError};
use wire::{Answer, Ask, Down, Up, Work};

/// The most connections at once; the next one waits in the kernel's queue.
const CONNECTIONS_MAX: usize = 256;
/// The longest between a connection and its first ask: commands ask at once.
const ASK_MAX: Duration = Duration::from_secs(10);
/// The longest that the model may take to take an order.
const TELL_MAX: Duration = Duration::from_secs(5);

/// What a connection needs.
#[derive(Clone, Debug)]
pub struct ToolServer {
    /// The newest snapshot, in which phones are found by slot or id.
    pub snapshots: watch::Receiver<Arc<Snapshot>>,
    /// The connections of the phones that are online.
    pub online: OnlinePhones,
    /// To the model: who uses a phone, and what was changed on it.
    pub events: mpsc::Sender<Event>,
}

impl ToolServer {
    /// Serves commands until `cancel`.
    pub async fn serve(self, listener: UnixListener, cancel: CancellationToken) {
        let carry = |(stream, _)| {
            let server = self.clone();
            async move { server.converse(stream).await }
        };
        let (permits, mut connections) = (Arc::new(Semaphore::new(CONNECTIONS_MAX)), JoinSet::new());
        let accepting = accept_all("command", &permits, &mut connections, || listener.accept(), carry);
        cancel.run_until_cancelled(accepting).await;
    }

    async fn converse(&self, stream: UnixStream) {
        let user = peer::user_of(&stream);
        let (reader, writer) = stream.into_split();
        let (mut reader, mut writer) = (FrameReader::new(reader), FrameWriter::new(writer));
        loop {
            let ended = match timeout(ASK_MAX, reader.next()).await {
                Ok(Ok(Some((Up::Ask(ask), files)))) => {
                    self.carry_out(&user, ask, files, &mut reader, &mut writer).await
                }
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
        user: &str,
        ask: Ask,
        files: VecDeque<OwnedFd>,
        reader: &mut FrameReader,
        writer: &mut FrameWriter,
    ) -> Result<(), LineError> {
        let result = match self.admit(user, &ask) {
            Ok((phone, adb)) => {
                debug!(phone = ask.phone, work = ask.work.name(), "asked by a command");
                if ask.work.changes_the_phone() {
                    info!("{}: {} ordered by {user}", ask.phone, ask.work.name());
                }
                let take = lease::Taking { phone: phone.clone(), who: user.to_owned(), work: ask.work.clone() };
                let keep = lease::keep(take, &self.online, self.events.clone());
                tokio::select! {
                    result = self.work(&phone, &adb, ask.work, files, reader, writer) => result?,
                    never = keep => match never {},
                }
            }
            Err(refusal) => Err(refusal),
        };
        match result {
            Ok(answer) => writer.send(&Down::Done(answer)).await,
            Err(refusal) => writer.send(&Down::Refused(refusal)).await,
        }
    }

    async fn work(
        &self,
        phone: &PhoneId,
        adb: &Adb,
        work: Work,
        files: VecDeque<OwnedFd>,
        reader: &mut FrameReader,
        writer: &mut FrameWriter,
    ) -> Result<Result<Answer, Refusal>, LineError> {
        if matches!(work, Work::Reboot { target: RebootTarget::System }) {
            // The model restarts it, for it knows then that the phone is to come back.
            return Ok(self.tell(Event::Restart { phone: phone.clone() }).await.map(|()| Answer::Done));
        }
        let installs = matches!(work, Work::Install { .. });
        let result = work::carry_out(adb, work, files, reader, writer).await?;
        if installs && result.is_ok() {
            return Ok(self.tell(Event::Changed { phone: phone.clone() }).await.and(result));
        }
        Ok(result)
    }

    async fn tell(&self, event: Event) -> Result<(), Refusal> {
        match self.events.send_timeout(event, TELL_MAX).await {
            Ok(()) => Ok(()),
            Err(_) => Err(Refusal {
                code: "daemon.busy".to_owned(),
                what: format!("the daemon did not take the order in {} s", TELL_MAX.as_secs()),
                help: Some("see `farmhand status` and the log".to_owned()),
            }),
        }
    }

    /// The phone and its connection, if what is asked may be done now: it is online, and nobody else holds it.
    fn admit(&self, user: &str, ask: &Ask) -> Result<(PhoneId, Adb), Refusal> {
        let snapshot = self.snapshots.borrow();
        let Some(phone) = snapshot.phone(&ask.phone) else { return Err(unknown(&ask.phone, &snapshot)) };
        if let Some(hold) = phone.held_against(user) {
            return Err(Refusal {
                code: "lease.held".to_owned(),
                what: format!("{} is taken: {}", ask.phone, hold.sentence()),
                help: Some(format!("ask there, or end the hold with `farmhand phone {} release`", ask.phone)),
            });
        }
        let adb =
            phone.endpoint.as_ref().and_then(|endpoint| self.online.at(endpoint)).ok_or_else(|| offline(phone))?;
        Ok((phone.id.clone(), adb.for_person(user)))
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
