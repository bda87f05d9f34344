//! The rack's control socket: one JSON order a line in, one JSON answer a line out.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::order::Order;
use crate::rack::Rack;

/// A control socket that listens; it ends when it is dropped.
pub struct Control {
    socket: PathBuf,
    task: JoinHandle<()>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Answer {
    Done(Value),
    Refused(String),
}

/// A rack answers at once, but for a phone that is plugged in and binds its address.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// An asker that says nothing for so long is let go.
const ASK_TIMEOUT: Duration = Duration::from_secs(60);

/// Where the control socket of the rack in `dir` is.
#[must_use]
pub fn socket_of(dir: &Path) -> PathBuf {
    dir.join("rackbench.sock")
}

impl Control {
    /// Listens in `dir` for orders to `rack`.
    ///
    /// # Errors
    ///
    /// The socket cannot be made.
    pub fn start(rack: Arc<Rack>, dir: &Path) -> io::Result<Self> {
        let socket = socket_of(dir);
        if let Err(error) = std::fs::remove_file(&socket)
            && error.kind() != io::ErrorKind::NotFound
        {
            return Err(error);
        }
        let listener = UnixListener::bind(&socket)?;
        let task = tokio::spawn(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        let rack = Arc::clone(&rack);
                        tokio::spawn(async move {
                            if let Err(error) = serve(stream, &rack).await {
                                tracing::debug!(%error, "whoever gave orders to the rack left");
                            }
                        });
                    }
                    Err(error) => tracing::warn!(%error, "nobody can give orders to the rack"),
                }
            }
        });
        Ok(Self { socket, task })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.task.abort();
        let _ = std::fs::remove_file(&self.socket);
    }
}

async fn serve(stream: UnixStream, rack: &Rack) -> io::Result<()> {
    let (reader, mut writer) = stream.into_split();
    let mut lines = BufReader::new(reader).lines();
    while let Some(line) = timeout(ASK_TIMEOUT, lines.next_line()).await?? {
        let answer = match serde_json::from_str::<Order>(&line) {
            Ok(order) => match rack.obey(order).await {
                Ok(done) => Answer::Done(done),
                Err(refused) => Answer::Refused(refused.to_string()),
            },
            Err(error) => Answer::Refused(format!("this is no order: {error}")),
        };
        let mut text = serde_json::to_string(&answer)?;
        text.push('\n');
        writer.write_all(text.as_bytes()).await?;
    }
    Ok(())
}

/// Gives one order to the rack that runs in `dir`.
///
/// # Errors
///
/// No rack runs there, it does not answer, or it refuses.
pub async fn give(dir: &Path, order: &Order) -> io::Result<Value> {
    let mut stream = UnixStream::connect(socket_of(dir)).await?;
    let mut text = serde_json::to_string(order)?;
    text.push('\n');
    stream.write_all(text.as_bytes()).await?;
    let mut line = String::new();
    timeout(ANSWER_TIMEOUT, BufReader::new(stream).read_line(&mut line)).await??;
    match serde_json::from_str(&line)? {
        Answer::Done(done) => Ok(done),
        Answer::Refused(why) => Err(io::Error::other(why)),
    }
}
