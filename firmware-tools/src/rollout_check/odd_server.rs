//! An HTTP server that does not behave: it leads in circles, trickles, lies about lengths, breaks off.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::central::{ServerTls, shake_hands};

/// A running server; it ends when it is dropped.
pub(super) struct OddServer {
    address: SocketAddr,
    scheme: &'static str,
    asked: Arc<Asked>,
    task: JoinHandle<()>,
}

/// How often it was asked, how often for the rest of something, and how often as a proxy.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub(super) times: AtomicUsize,
    pub(super) ranges: AtomicUsize,
    pub(super) proxied: AtomicUsize,
}

/// Longer requests are none of farmhand's.
const REQUEST_LEN_MAX: usize = 16 << 10;
/// Between two bytes of a trickle.
const TRICKLE: Duration = Duration::from_millis(500);

impl OddServer {
    /// Serves `apk` in its ways: `/loop`, `/trickle`, `/short` (ends before the length that it tells), `/breaks` (ends in the middle,
    /// and resumes), `/moved-3` (so many redirects to the whole), `/whole`; everything else is not there. What it is asked as a proxy, for
    /// whatever host, it serves by itself.
    pub(super) async fn start(apk: Vec<u8>) -> io::Result<Self> {
        Self::serve(apk, None).await
    }

    /// The same by HTTPS.
    pub(super) async fn start_tls(apk: Vec<u8>, tls: &ServerTls) -> io::Result<Self> {
        Self::serve(apk, Some(tls)).await
    }

    async fn serve(apk: Vec<u8>, tls: Option<&ServerTls>) -> io::Result<Self> {
        let acceptor = tls.map(ServerTls::acceptor).transpose()?;
        let scheme = if acceptor.is_some() { "https" } else { "http" };
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (asked, apk) = (Arc::new(Asked::default()), Arc::new(apk));
        let counted = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (apk, asked, acceptor) = (Arc::clone(&apk), Arc::clone(&counted), acceptor.clone());
                // A connection that breaks is the client's affair.
                tokio::spawn(async move {
                    if let Ok(stream) = shake_hands(stream, acceptor).await {
                        drop(answer(stream, &apk, &asked).await);
                    }
                });
            }
        });
        Ok(Self { address, scheme, asked, task })
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("{}://{}/{path}", self.scheme, self.address)
    }

    pub(super) fn asked(&self) -> &Asked {
        &self.asked
    }
}

impl Drop for OddServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, apk: &[u8], asked: &Asked) -> io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") && request.len() < REQUEST_LEN_MAX {
        if stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    asked.times.fetch_add(1, Ordering::Relaxed);
    let text = String::from_utf8_lossy(&request).to_lowercase();
    let target = text.split(' ').nth(1).unwrap_or_default();
    let absolute = target.strip_prefix("http://");
    asked.proxied.fetch_add(usize::from(absolute.is_some()), Ordering::Relaxed);
    let path = absolute.map_or(target, |rest| rest.find('/').map_or("/", |at| &rest[at..]));
    let moves = path.strip_prefix("/moved-").and_then(|left| left.parse::<usize>().ok());
    let from = text.split("range: bytes=").nth(1).and_then(|rest| rest.split('-').next()?.parse::<usize>().ok());
    let from = from.filter(|from| *from < apk.len());
    asked.ranges.fetch_add(usize::from(from.is_some()), Ordering::Relaxed);
    let moved =
        |to: &str| format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    let whole =
        |len: usize| format!("HTTP/1.1 200 OK\r\netag: \"1\"\r\ncontent-length: {len}\r\nconnection: close\r\n\r\n");
    let half = apk.get(..apk.len() / 2).unwrap_or_default();
    match (path, from) {
        _ if moves.is_some_and(|left| left > 1) => {
            let left = moves.unwrap_or_default() - 1;
            say(&mut stream, &moved(&format!("/moved-{left}")), &[]).await
        }
        _ if moves == Some(1) => say(&mut stream, &moved("/whole"), &[]).await,
        ("/loop", _) => say(&mut stream, &moved("/loop"), &[]).await,
        ("/whole", _) => say(&mut stream, &whole(apk.len()), apk).await,
        ("/short", _) => say(&mut stream, &whole(apk.len()), half).await,
        ("/breaks", Some(from)) => {
            let rest = apk.get(from..).unwrap_or_default();
            let head = format!(
                "HTTP/1.1 206 Partial Content\r\netag: \"1\"\r\ncontent-range: bytes {from}-{}/{}\r\ncontent-length: {}\r\n\
                 connection: close\r\n\r\n",
                apk.len() - 1,
                apk.len(),
                rest.len()
            );
            say(&mut stream, &head, rest).await
        }
        ("/breaks", None) => say(&mut stream, &whole(apk.len()), half).await,
        ("/trickle", _) => {
            say(&mut stream, &whole(apk.len()), &[]).await?;
            for byte in apk {
                stream.write_all(&[*byte]).await?;
                tokio::time::sleep(TRICKLE).await;
            }
            Ok(())
        }
        _ => say(&mut stream, "HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n", &[]).await,
    }
}

async fn say(stream: &mut (impl AsyncWrite + Unpin), head: &str, body: &[u8]) -> io::Result<()> {
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body).await?;
    stream.flush().await
}
