//! An HTTP server that does not behave: it leads in circles, trickles, lies about lengths, breaks off.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// A running server; it ends when it is dropped.
pub(super) struct OddServer {
    address: SocketAddr,
    asked: Arc<Asked>,
    task: JoinHandle<()>,
}

/// How often it was asked, and how often for the rest of something.
#[derive(Debug, Default)]
pub(super) struct Asked {
    pub(super) times: AtomicUsize,
    pub(super) ranges: AtomicUsize,
}

/// Longer requests are none of farmhand's.
const REQUEST_LEN_MAX: usize = 16 << 10;
/// Between two bytes of a trickle.
const TRICKLE: Duration = Duration::from_millis(500);

impl OddServer {
    /// Serves `apk` in its ways: `/loop`, `/trickle`, `/short` (ends before the length that it tells), `/breaks` (ends in the middle,
    /// and resumes), `/moved` (one redirect to the whole), `/whole`; everything else is not there.
    pub(super) async fn start(apk: Vec<u8>) -> io::Result<Self> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
        let address = listener.local_addr()?;
        let (asked, apk) = (Arc::new(Asked::default()), Arc::new(apk));
        let counted = Arc::clone(&asked);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (apk, asked) = (Arc::clone(&apk), Arc::clone(&counted));
                // A connection that breaks is the client's affair.
                tokio::spawn(async move { drop(answer(stream, &apk, &asked).await) });
            }
        });
        Ok(Self { address, asked, task })
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
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

async fn answer(mut stream: TcpStream, apk: &[u8], asked: &Asked) -> io::Result<()> {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") && request.len() < REQUEST_LEN_MAX {
        if stream.read_buf(&mut request).await? == 0 {
            return Ok(());
        }
    }
    asked.times.fetch_add(1, Ordering::Relaxed);
    let text = String::from_utf8_lossy(&request).to_lowercase();
    let path = text.split(' ').nth(1).unwrap_or_default();
    let from = text.split("range: bytes=").nth(1).and_then(|rest| rest.split('-').next()?.parse::<usize>().ok());
    let from = from.filter(|from| *from < apk.len());
    asked.ranges.fetch_add(usize::from(from.is_some()), Ordering::Relaxed);
    let moved =
        |to: &str| format!("HTTP/1.1 302 Found\r\nlocation: {to}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    let whole =
        |len: usize| format!("HTTP/1.1 200 OK\r\netag: \"1\"\r\ncontent-length: {len}\r\nconnection: close\r\n\r\n");
    let half = apk.get(..apk.len() / 2).unwrap_or_default();
    match (path, from) {
        ("/loop", _) => say(&mut stream, &moved("/loop"), &[]).await,
        ("/moved", _) => say(&mut stream, &moved("/whole"), &[]).await,
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

async fn say(stream: &mut TcpStream, head: &str, body: &[u8]) -> io::Result<()> {
    stream.write_all(head.as_bytes()).await?;
    stream.write_all(body).await?;
    stream.flush().await
}
