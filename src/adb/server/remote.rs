//! The entrance for other machines: TLS, then a token, then the same conversation as at every other entrance.
//!
//! Invariant: nothing is answered, and no phone named, before a token was right (`tests/adb/remote.rs`).
//! Invariant: whoever is not let in within [`GREETING_TIME_MAX`] is left, and takes no place from other addresses meanwhile.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use rustix::net::sockopt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::answer::{self, OKAY};
use super::client::Client;
use super::door::{AdbServer, CONNECTIONS_MAX, read_request, tell};
use super::socket::{ReadHalf, WriteHalf};
use super::splice::linger;
use super::tokens::{GREETING_MAX, Gate, Refused, TokenError};
use crate::accept::accept_all;
use crate::clock::{Moment, UnixMillis};
use crate::rack::access::{TokenBook, TokenRecord};

/// The longest between a connection and its token: some round trips over a bad network.
const GREETING_TIME_MAX: Duration = Duration::from_secs(10);
/// A client that was silent for so long is asked whether it is still there: a laptop that was closed says nothing.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(60);
/// Between two such questions, of which [`KEEPALIVE_COUNT`] may stay without an answer.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(15);
const KEEPALIVE_COUNT: u32 = 4;

/// A wrong token, for the audit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RefusedToken {
    /// When.
    pub at: UnixMillis,
    /// From where.
    pub from: IpAddr,
    /// Why it was refused.
    pub why: TokenError,
    /// So many wrong ones have come from there in a row, with this one.
    pub count: u32,
}

/// Whom tokens let in, and who hears of those that are wrong.
#[derive(Clone, Debug)]
pub struct TokenDoor {
    /// All tokens.
    pub book: watch::Receiver<Arc<TokenBook>>,
    /// For the audit.
    pub refused: mpsc::Sender<RefusedToken>,
}

/// What all connections of the entrance share.
struct Lobby {
    acceptor: TlsAcceptor,
    tokens: TokenDoor,
    gate: Mutex<Gate>,
    started: Instant,
    /// Places of those who were let in.
    places: Arc<Semaphore>,
}

impl AdbServer {
    /// Serves the owners of tokens at a TCP port, by TLS, until `cancel`.
    pub async fn serve_tls(
        self,
        listener: TcpListener,
        acceptor: TlsAcceptor,
        tokens: TokenDoor,
        cancel: CancellationToken,
    ) {
        let (gate, started) = (Mutex::default(), Instant::now());
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let lobby = Arc::new(Lobby { acceptor, tokens, gate, started, places });
        let accept = || async {
            loop {
                let (socket, from) = listener.accept().await?;
                // One that finds no room is closed by its drop.
                if let Some(guest) = Guest::enter(&lobby, from) {
                    return Ok::<_, io::Error>((guest, socket));
                }
            }
        };
        let carry = |(guest, socket): (Guest, TcpStream)| {
            let (server, lobby, from) = (self.clone(), Arc::clone(&lobby), guest.from);
            async move {
                if let Err(error) = server.receive(&lobby, guest, socket).await {
                    debug!("an adb client at {from} broke off: {error}");
                }
            }
        };
        // Who has a place and who is a guest is counted elsewhere; this bounds those who are being told that they have none, too.
        let (permits, mut connections) =
            (Arc::new(Semaphore::new(2 * (CONNECTIONS_MAX + GREETING_MAX))), JoinSet::new());
        let accepting = accept_all("adb client", &permits, &mut connections, accept, carry);
        cancel.run_until_cancelled(accepting).await;
    }

    async fn receive(&self, lobby: &Arc<Lobby>, guest: Guest, socket: TcpStream) -> io::Result<()> {
        let from = guest.from;
        keep_alive(&socket)?;
        let greeted = timeout(GREETING_TIME_MAX, lobby.greet(from, socket)).await;
        // From here on it takes another's place.
        drop(guest);
        let Ok(Some((record, reader, mut writer))) = greeted.unwrap_or(Ok(None)) else { return Ok(()) };
        let Ok(_place) = lobby.places.try_acquire() else {
            let why = format!("{CONNECTIONS_MAX} connections are open already: try again in a moment");
            tell(&mut writer, &answer::fail(&why)).await?;
            linger(reader, writer).await;
            return Ok(());
        };
        tell(&mut writer, OKAY).await?;
        let client = Client::Token { owner: record.owner.clone(), role: record.role };
        tokio::select! {
            ended = self.converse(&client, reader, writer) => ended,
            () = over(&record, lobby.tokens.book.clone()) => {
                info!("{} is cut off: the token {} counts no more", record.owner, record.id);
                Ok(())
            }
        }
    }
}

type Welcome = (TokenRecord, ReadHalf, WriteHalf);

impl Lobby {
    /// Who it is, if he has a token.
    async fn greet(&self, from: SocketAddr, socket: TcpStream) -> io::Result<Option<Welcome>> {
        let stream = self.acceptor.accept(socket).await?;
        let (reader, writer) = tokio::io::split(stream);
        let (mut reader, mut writer): (ReadHalf, WriteHalf) = (Box::new(reader), Box::new(writer));
        let Some(said) = read_request(&mut reader).await? else { return Ok(None) };
        // What is no request is no token either.
        let said = said.unwrap_or_default();
        let now = Moment::from_start(self.started.elapsed());
        let wall = UnixMillis::from(SystemTime::now());
        let book = Arc::clone(&self.tokens.book.borrow());
        let checked = self.gate().check(&book, from.ip(), &said, (now, wall));
        match checked {
            Ok(record) => Ok(Some((record, reader, writer))),
            Err(Refused { why, told }) => {
                warn!("an adb client at {from} is not let in: {why}");
                if let Some(count) = told {
                    let refused = RefusedToken { at: wall, from: from.ip().to_canonical(), why: why.clone(), count };
                    // The daemon that stops keeps no audit any more.
                    let _ = self.tokens.refused.send(refused).await;
                }
                tell(&mut writer, &answer::fail(&why.to_string())).await?;
                linger(reader, writer).await;
                Ok(None)
            }
        }
    }

    fn gate(&self) -> MutexGuard<'_, Gate> {
        // Nothing in here panics half-way through a change.
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A place of those who have not said a token yet; given back when it is dropped.
struct Guest {
    lobby: Arc<Lobby>,
    from: SocketAddr,
}

impl Guest {
    fn enter(lobby: &Arc<Lobby>, from: SocketAddr) -> Option<Self> {
        let entered = lobby.gate().enter(from.ip());
        entered.then(|| Self { lobby: Arc::clone(lobby), from })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.lobby.gate().leave(self.from.ip());
    }
}

/// Ends when the token counts no more.
async fn over(record: &TokenRecord, mut book: watch::Receiver<Arc<TokenBook>>) {
    let revoked = async {
        if book.wait_for(|book| book.find(&record.id) != Some(record)).await.is_err() {
            // The daemon stops, and ends this by itself.
            std::future::pending::<()>().await;
        }
    };
    let expired = async {
        match record.expires {
            Some(at) => {
                let left = at.0.saturating_sub(UnixMillis::from(SystemTime::now()).0);
                sleep(Duration::from_millis(u64::try_from(left).unwrap_or(0))).await;
            }
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = revoked => {}
        () = expired => {}
    }
}

fn keep_alive(socket: &TcpStream) -> io::Result<()> {
    socket.set_nodelay(true)?;
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, KEEPALIVE_IDLE)?;
    sockopt::set_tcp_keepintvl(socket, KEEPALIVE_EVERY)?;
    Ok(sockopt::set_tcp_keepcnt(socket, KEEPALIVE_COUNT)?)
}
