//! The desk's end: adb on one machine works on the phones of a rack elsewhere.
//!
//! ```text
//!   adb, scrcpy ──▶ 127.0.0.1:5037 ────requests────▶ forward? ──▶ forwards of this desk ──┐
//!                                          └─ all else ──────────────────────────────────┼─TLS, token──▶ the rack
//!   127.0.0.1:6100, a forward ────────────────────────────────────────────────────────────┘
//! ```
//!
//! A forward listens on this desk and not on the rack's host: it is here that the program is which connects to it.
//!
//! Invariant: the token is told to nobody but the server with the certificate that is named in it (`tests/adb/remote.rs`).

mod rack;
mod route;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional_with_sizes, join};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::debug;

use super::answer::{self, OKAY};
use super::devices::Target;
use super::door::{CONNECTIONS_MAX, read_request, tell};
use super::forward::Forwards;
use super::request::{Host, Rebind, Request, TransportReply, about};
use super::socket::{ReadHalf, WriteHalf, tcp_halves};
use super::splice::linger;
use super::tokens::{Sha256Digest, Token};
use crate::accept::accept_all;
use rack::Rack;
use route::RackRoute;

/// The longest between a connection and its first request: clients ask at once.
const REQUEST_MAX: Duration = Duration::from_secs(30);
/// What each direction of a connection holds at most, in bytes: a record of TLS is four to a time.
const BUFFER: usize = 64 << 10;

/// Why the rack can't be reached.
#[derive(Debug, thiserror::Error)]
pub enum ForwarderError {
    /// Nobody answers there.
    #[error("{rack} can't be reached: {reason}")]
    Unreachable {
        /// The rack's address, as given.
        rack: String,
        /// What the system said.
        reason: String,
    },
    /// Somebody else answers there.
    #[error("{rack} is not the rack that is meant: {reason}")]
    Certificate {
        /// The rack's address, as given.
        rack: String,
        /// Which certificate it has.
        reason: String,
    },
    /// It does not let this token in.
    #[error("{rack} says: {reason}")]
    Refused {
        /// The rack's address, as given.
        rack: String,
        /// Its words.
        reason: String,
    },
    /// This desk's port is taken.
    #[error("nothing can listen at {listen}: {reason}")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// What the system said.
        reason: io::Error,
    },
}

/// A way from this desk to a rack.
#[derive(Clone, Debug)]
pub struct Forwarder {
    rack: Arc<Rack>,
    forwards: Forwards<RackRoute>,
}

impl Forwarder {
    /// A way to the rack at `address`, such as `rack.example:5038`, for the owner of `token`, known to be open. The rack's certificate is
    /// `certificate`, or else the one that the token names.
    ///
    /// # Errors
    /// Why there is none.
    pub async fn open(address: &str, token: &Token, certificate: Option<Sha256Digest>) -> Result<Self, ForwarderError> {
        let rack = Arc::new(Rack::new(address, token, certificate.unwrap_or(token.certificate))?);
        rack.ask("host:version").await?.map_err(|reason| rack.refused(reason))?;
        Ok(Self { forwards: Forwards::new(TaskTracker::new()), rack })
    }

    /// Where programs of this desk will find it.
    ///
    /// # Errors
    /// The port is taken.
    pub async fn listen(listen: SocketAddr) -> Result<TcpListener, ForwarderError> {
        TcpListener::bind(listen).await.map_err(|reason| ForwarderError::Listen { listen, reason })
    }

    /// Serves programs of this desk until `cancel`.
    pub async fn serve(self, listener: TcpListener, cancel: CancellationToken) {
        let accept = || async { listener.accept().await.and_then(|(socket, _)| tcp_halves(socket)) };
        let carry = |(reader, writer)| {
            let forwarder = self.clone();
            async move {
                if let Err(error) = forwarder.converse(reader, writer).await {
                    debug!("an adb client broke off: {error}");
                }
            }
        };
        let (permits, mut connections) = (Arc::new(Semaphore::new(CONNECTIONS_MAX)), JoinSet::new());
        let accepting = accept_all("adb client", &permits, &mut connections, accept, carry);
        cancel.run_until_cancelled(accepting).await;
        self.forwards.end_all();
    }

    /// Requests of one connection. Google's adb binds it to a phone first, also where a forward is what it wants.
    async fn converse(&self, mut reader: ReadHalf, mut writer: WriteHalf) -> io::Result<()> {
        let mut bound: Option<Bound> = None;
        loop {
            let Ok(text) = timeout(REQUEST_MAX, read_request(&mut reader)).await else { return Ok(()) };
            let Some(text) = text? else { return Ok(()) };
            let parsed = text.clone().and_then(|text| Request::parse(&text));
            let answer = match (parsed, text) {
                (Ok(Request::Host(Host::Kill)), _) => answer::fail(&format!(
                    "this adb server is the way to farmhand on {}: it is ended where `farmhand adb-server connect` runs",
                    self.rack.address()
                )),
                (Ok(Request::Host(Host::Transport(target, reply))), Ok(text)) => {
                    match self.bind(bound.take(), target, reply, &text).await {
                        Ok((fresh, answer)) => {
                            bound = Some(fresh);
                            tell(&mut writer, &answer).await?;
                            continue;
                        }
                        Err(why) => answer::fail(&why),
                    }
                }
                (Ok(Request::Host(host)), Ok(text)) => {
                    match self.answer(&host, bound.as_ref().map(|bound| &bound.target)).await {
                        Some(answer) => answer.unwrap_or_else(|why| answer::fail(&why)),
                        None => return self.pass_on(bound, &text, reader, writer).await,
                    }
                }
                // The rack has the words for it.
                (_, Ok(text)) => return self.pass_on(bound, &text, reader, writer).await,
                (_, Err(why)) => answer::fail(&why.to_string()),
            };
            tell(&mut writer, &answer).await?;
            linger(reader, writer).await;
            return Ok(());
        }
    }

    /// The answer to what is about forwards, on a connection that is bound to a phone or is not; none to everything else.
    async fn answer(&self, host: &Host, bound: Option<&Target>) -> Option<Result<Vec<u8>, String>> {
        match host {
            Host::Forward { target, rebind, local, remote } => {
                let target = bound.filter(|_| *target == Target::Any).unwrap_or(target);
                Some(self.begin(target, *rebind, local, remote).await)
            }
            Host::KillForward { local } => Some(self.forwards.end(local)),
            Host::KillForwardAll => Some(Ok(self.forwards.end_all())),
            Host::ListForward => Some(Ok(self.forwards.listed())),
            _ => None,
        }
    }

    async fn begin(&self, target: &Target, rebind: Rebind, local: &str, remote: &str) -> Result<Vec<u8>, String> {
        // Which phone it is that was meant is known now, and stays.
        let asked = self.rack.ask(&about(target, "get-serialno")).await;
        let serial = asked.map_err(|error| error.to_string())??;
        let route = RackRoute { serial, remote: remote.to_owned(), rack: Arc::clone(&self.rack) };
        self.forwards.begin(local, rebind, route).await
    }

    /// Has the rack bind a connection to a phone; what it answers is for the client.
    async fn bind(
        &self,
        bound: Option<Bound>,
        target: Target,
        reply: TransportReply,
        request: &[u8],
    ) -> Result<(Bound, Vec<u8>), String> {
        let (mut from_rack, mut to_rack) = match bound {
            Some(bound) => bound.halves,
            None => self.rack.enter().await.map_err(|error| error.to_string())?,
        };
        let asked = async {
            to_rack.write_all(&framed(request)).await?;
            to_rack.flush().await?;
            rack::okay(&mut from_rack).await?.map_err(io::Error::other)?;
            let mut answer = OKAY.to_vec();
            if reply == TransportReply::WithId {
                let mut id = [0; 8];
                from_rack.read_exact(&mut id).await?;
                answer.extend(id);
            }
            io::Result::Ok(answer)
        };
        let answer = timeout(REQUEST_MAX, asked).await.map_err(|_| "the rack does not answer".to_owned())?;
        let answer = answer.map_err(|error| error.to_string())?;
        Ok((Bound { target, halves: (from_rack, to_rack) }, answer))
    }

    /// The rack answers, and all that follows is between both.
    async fn pass_on(
        &self,
        bound: Option<Bound>,
        request: &[u8],
        reader: ReadHalf,
        mut writer: WriteHalf,
    ) -> io::Result<()> {
        let entered = match bound {
            Some(bound) => Ok(bound.halves),
            None => self.rack.enter().await,
        };
        let (from_rack, mut to_rack) = match entered {
            Ok(halves) => halves,
            Err(error) => {
                tell(&mut writer, &answer::fail(&error.to_string())).await?;
                linger(reader, writer).await;
                return Ok(());
            }
        };
        to_rack.write_all(&framed(request)).await?;
        to_rack.flush().await?;
        carry((reader, writer), (from_rack, to_rack)).await;
        Ok(())
    }
}

/// A connection to the rack that is bound to a phone.
struct Bound {
    /// Which, as the client has said it.
    target: Target,
    halves: (ReadHalf, WriteHalf),
}

/// A request with its head: it was read as one, so that its length fits.
fn framed(text: &[u8]) -> Vec<u8> {
    [format!("{:04x}", text.len()).as_bytes(), text].concat()
}

/// Until both have had enough, or one breaks off.
async fn carry(local: (ReadHalf, WriteHalf), rack: (ReadHalf, WriteHalf)) {
    let (mut local, mut rack) = (join(local.0, local.1), join(rack.0, rack.1));
    // Either end may be gone without a farewell: the other one then sees its connection end, too.
    if let Err(error) = copy_bidirectional_with_sizes(&mut local, &mut rack, BUFFER, BUFFER).await {
        debug!("a connection to the rack broke off: {error}");
    }
}
