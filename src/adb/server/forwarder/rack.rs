//! Connections to the rack: TCP, TLS with the one certificate, the token.

use std::io;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::ForwarderError;
use crate::adb::server::request::{HEAD_LEN, Request, text_len};
use crate::adb::server::socket::{ReadHalf, WriteHalf};
use crate::adb::server::tls;
use crate::adb::server::tokens::{Sha256Digest, Token};

/// The longest that each step of getting in may take: name and connection, handshake, token.
const STEP_MAX: Duration = Duration::from_secs(10);
/// The most connections at once whose token was not answered yet: half of what a rack takes from one address.
const GREETING_MAX: usize = 16;
/// The longest that the rack may take over an answer of its own.
const ANSWER_MAX: Duration = Duration::from_secs(30);

/// The rack's server, and what it wants to hear.
pub(super) struct Rack {
    address: String,
    connector: TlsConnector,
    greeting: String,
    places: Semaphore,
}

/// The greeting stands in no log.
impl std::fmt::Debug for Rack {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Rack").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Rack {
    pub(super) fn new(address: &str, token: &Token, certificate: Sha256Digest) -> Result<Self, ForwarderError> {
        let connector = tls::connector(certificate)
            .map_err(|error| ForwarderError::Unreachable { rack: address.to_owned(), reason: error.to_string() })?;
        let places = Semaphore::new(GREETING_MAX);
        Ok(Self { address: address.to_owned(), connector, greeting: token.request(), places })
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    /// A connection on which the rack has said OKAY to the token.
    pub(super) async fn enter(&self) -> Result<(ReadHalf, WriteHalf), ForwarderError> {
        // It is never closed.
        let _place = self.places.acquire().await;
        let reached = step("it takes no connection", TcpStream::connect(&self.address)).await;
        let socket = reached.map_err(|error| self.unreachable(&error))?;
        socket.set_nodelay(true).map_err(|error| self.unreachable(&error))?;
        let shaken = step("it says nothing of TLS", self.connector.connect(tls::server_name(), socket)).await;
        let stream = shaken.map_err(|error| self.not_meant(&error))?;
        let (reader, writer) = tokio::io::split(stream);
        let (mut reader, mut writer): (ReadHalf, WriteHalf) = (Box::new(reader), Box::new(writer));
        let greeted = step("it does not answer to the token", async {
            say(&mut writer, &self.greeting).await?;
            okay(&mut reader).await
        });
        match greeted.await {
            Ok(Ok(())) => Ok((reader, writer)),
            Ok(Err(why)) => Err(self.refused(why)),
            Err(error) => Err(self.unreachable(&error)),
        }
    }

    /// The rack's answer to a question that is answered by a text.
    pub(super) async fn ask(&self, question: &str) -> Result<Result<String, String>, ForwarderError> {
        let (mut reader, mut writer) = self.enter().await?;
        let asked = async {
            say(&mut writer, question).await?;
            match okay(&mut reader).await? {
                Ok(()) => text(&mut reader).await.map(Ok),
                Err(why) => Ok(Err(why)),
            }
        };
        let answer = timeout(ANSWER_MAX, asked).await.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
        answer.map_err(|error| self.unreachable(&error))
    }

    /// A stream of a phone's service.
    pub(super) async fn open(&self, serial: &str, service: &str) -> Result<(ReadHalf, WriteHalf), ForwarderError> {
        let (mut reader, mut writer) = self.enter().await?;
        let bind = format!("host:transport:{serial}");
        for request in [bind.as_str(), service] {
            let asked = step("it does not answer", async {
                say(&mut writer, request).await?;
                okay(&mut reader).await
            });
            asked.await.map_err(|error| self.unreachable(&error))?.map_err(|why| self.refused(why))?;
        }
        Ok((reader, writer))
    }

    pub(super) fn refused(&self, reason: String) -> ForwarderError {
        ForwarderError::Refused { rack: self.address.clone(), reason }
    }

    fn unreachable(&self, error: &io::Error) -> ForwarderError {
        ForwarderError::Unreachable { rack: self.address.clone(), reason: error.to_string() }
    }

    fn not_meant(&self, error: &io::Error) -> ForwarderError {
        let (rack, reason) = (self.address.clone(), error.to_string());
        let is_tls = error.get_ref().is_some_and(|inner| inner.is::<rustls::Error>());
        if is_tls { ForwarderError::Certificate { rack, reason } } else { ForwarderError::Unreachable { rack, reason } }
    }
}

async fn step<T>(what: &'static str, future: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = || io::Error::new(io::ErrorKind::TimedOut, format!("{what} within {} s", STEP_MAX.as_secs()));
    timeout(STEP_MAX, future).await.unwrap_or_else(|_| Err(late()))
}

async fn say(writer: &mut WriteHalf, request: &str) -> io::Result<()> {
    writer.write_all(&Request::emit(request)).await?;
    writer.flush().await
}

/// `OKAY`, or the words behind `FAIL`.
pub(super) async fn okay(reader: &mut ReadHalf) -> io::Result<Result<(), String>> {
    let mut word = [0; 4];
    reader.read_exact(&mut word).await?;
    match &word {
        b"OKAY" => Ok(Ok(())),
        b"FAIL" => text(reader).await.map(Err),
        _ => Err(io::Error::other("it does not speak as an adb server does")),
    }
}

async fn text(reader: &mut ReadHalf) -> io::Result<String> {
    let mut head = [0; HEAD_LEN];
    reader.read_exact(&mut head).await?;
    let len = text_len(head).unwrap_or(0);
    let mut text = Vec::new();
    reader.take(len as u64).read_to_end(&mut text).await?;
    Ok(String::from_utf8_lossy(&text).into_owned())
}
