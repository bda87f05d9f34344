//! Talking to the daemon: one HTTP request over its Unix socket.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1;
use hyper::header::{ETAG, HeaderValue, IF_NONE_MATCH};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::failure::{Failure, Refused};
use crate::phone::tools;
use crate::rack::access::{TokenDone, TokenWish};
use crate::rack::request::{self, Done, Refusal};

/// The name of the daemon's socket in its state directory.
pub(super) const SOCKET: &str = "farmhand.sock";
/// The longest wait for an answer: longer than the daemon itself gives an order.
const ANSWER_DEADLINE: Duration = Duration::from_secs(35);
/// The longest answer that is taken: some hundred times a large rack's snapshot.
const ANSWER_MAX: usize = 64 << 20;

/// The daemon of one state directory.
pub(super) struct Client {
    state: PathBuf,
    socket: PathBuf,
}

impl Client {
    pub(super) fn at(state: &Path) -> Self {
        Self { state: state.to_owned(), socket: state.join(SOCKET) }
    }

    /// What stands at `path`.
    pub(super) async fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        let request = Request::get(path).header("host", "localhost").body(Full::default());
        self.ask(path, request).await
    }

    /// What stands at `path` as soon as it is another than was `seen`, which is the daemon's name for it; `None` if it was the same for as long
    /// as the path says.
    pub(super) async fn read_news<T: DeserializeOwned>(
        &self,
        path: &str,
        seen: &mut Option<HeaderValue>,
    ) -> Result<Option<T>, Failure> {
        let mut request = Request::get(path).header("host", "localhost");
        if let Some(seen) = &seen {
            request = request.header(IF_NONE_MATCH, seen);
        }
        let answer = self.answer(path, request.body(Full::default())).await?;
        if answer.status() == StatusCode::NOT_MODIFIED {
            return Ok(None);
        }
        *seen = answer.headers().get(ETAG).cloned();
        understand(path, &answer).map(Some)
    }

    /// Has an order carried out.
    pub(super) async fn order(&self, order: &request::Request) -> Result<Done, Failure> {
        self.post("/api/requests", order).await
    }

    /// Has a token made.
    pub(super) async fn add_token(&self, wish: &TokenWish) -> Result<TokenDone, Failure> {
        self.post("/api/tokens", wish).await
    }

    /// Has the token of this id, or all of this owner, count no more.
    pub(super) async fn revoke_token(&self, name: &str) -> Result<TokenDone, Failure> {
        let path = format!("/api/tokens/{}", segment(name));
        let request = Request::delete(&path).header("host", "localhost").body(Full::default());
        self.ask(&path, request).await
    }

    async fn post<T: DeserializeOwned>(&self, path: &str, body: &impl serde::Serialize) -> Result<T, Failure> {
        let body = serde_json::to_vec(body).map_err(|error| not_understood(path, error))?;
        let request = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header("host", "localhost")
            .header("content-type", "application/json")
            .body(Full::new(body.into()));
        self.ask(path, request).await
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        path: &str,
        request: Result<Request<Full<Bytes>>, hyper::http::Error>,
    ) -> Result<T, Failure> {
        understand(path, &self.answer(path, request).await?)
    }

    async fn answer(
        &self,
        path: &str,
        request: Result<Request<Full<Bytes>>, hyper::http::Error>,
    ) -> Result<Response<Bytes>, Failure> {
        let request = request.map_err(|error| not_understood(path, error))?;
        let answer = timeout(ANSWER_DEADLINE, self.exchange(request)).await;
        answer.map_err(|_| Failure::Slow { socket: self.socket.clone(), seconds: ANSWER_DEADLINE.as_secs() })?
    }

    async fn exchange(&self, request: Request<Full<Bytes>>) -> Result<Response<Bytes>, Failure> {
        let stream = UnixStream::connect(&self.socket).await.map_err(|error| self.unreachable(&error))?;
        let broken = |reason: String| Failure::BrokenOff { socket: self.socket.clone(), reason };
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| broken(error.to_string()))?;
        let talk = async {
            let response = sender.send_request(request).await.map_err(|error| broken(error.to_string()))?;
            let (head, body) = response.into_parts();
            let body = Limited::new(body, ANSWER_MAX).collect().await;
            Ok(Response::from_parts(head, body.map_err(|error| broken(error.to_string()))?.to_bytes()))
        };
        let mut connection = std::pin::pin!(connection);
        let mut talk = std::pin::pin!(talk);
        tokio::select! {
            answer = talk.as_mut() => answer,
            // The connection may end right behind the answer, which then is complete.
            _ = connection.as_mut() => talk.await,
        }
    }

    /// The daemon's other socket, on which work on phones is asked for.
    pub(super) fn tools(&self) -> Result<std::os::unix::net::UnixStream, Failure> {
        let socket = self.state.join(tools::wire::SOCKET);
        std::os::unix::net::UnixStream::connect(&socket).map_err(|error| self.unreachable(&error))
    }

    /// The conversation broke off.
    pub(super) fn broken_off(&self, reason: impl ToString) -> Failure {
        Failure::BrokenOff { socket: self.state.join(tools::wire::SOCKET), reason: reason.to_string() }
    }

    fn unreachable(&self, error: &std::io::Error) -> Failure {
        use std::io::ErrorKind::{ConnectionRefused, NotFound, PermissionDenied};
        match error.kind() {
            NotFound | ConnectionRefused => Failure::NoDaemon { state: self.state.clone() },
            PermissionDenied => Failure::Denied { socket: self.socket.clone() },
            _ => Failure::BrokenOff { socket: self.socket.clone(), reason: error.to_string() },
        }
    }
}

fn understand<T: DeserializeOwned>(path: &str, answer: &Response<Bytes>) -> Result<T, Failure> {
    if answer.status().is_success() {
        return serde_json::from_slice(answer.body()).map_err(|error| not_understood(path, error));
    }
    match serde_json::from_slice::<Refusal>(answer.body()) {
        Ok(refusal) => Err(Refused(refusal).into()),
        Err(_) => Err(not_understood(path, format!("HTTP status {}", answer.status()))),
    }
}

fn not_understood(path: &str, reason: impl ToString) -> Failure {
    Failure::NotUnderstood { path: path.to_owned(), reason: reason.to_string() }
}

/// `name` as one segment of a path.
pub(super) fn segment(name: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte);
    name.bytes().map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_name_is_one_segment() {
        assert_eq!(segment("A1"), "A1");
        assert_eq!(segment("a/b c?"), "a%2Fb%20c%3F");
        assert_eq!(segment("ü"), "%C3%BC");
    }
}
