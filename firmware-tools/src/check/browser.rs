//! A headless Chromium, driven by the DevTools protocol over its WebSocket.

use std::io;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::until::until;

/// A browser with one page; it is killed when it is dropped.
pub struct Browser {
    _child: Child,
    /// Its profile; the directory goes with it.
    _profile: TempDir,
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    next_id: u64,
    /// The page's session on the browser's one socket.
    session: Option<String>,
}

/// What went wrong with the browser.
#[derive(Debug, thiserror::Error)]
pub enum BrowserError {
    /// The program is missing.
    #[error("chromium could not be started ({error}): install Debian's package chromium")]
    Missing {
        /// Why.
        error: io::Error,
    },
    /// It did not open its DevTools socket.
    #[error("chromium did not open its DevTools socket: {why}")]
    NoSocket {
        /// What was seen instead.
        why: String,
    },
    /// The socket broke, or an answer did not come.
    #[error("chromium did not answer {method}: {why}")]
    NoAnswer {
        /// The method that was called.
        method: String,
        /// What was seen instead.
        why: String,
    },
    /// It answered with an error.
    #[error("chromium refused {method}: {why}")]
    Refused {
        /// The method that was called.
        method: String,
        /// What it said.
        why: String,
    },
}

/// Without these Chromium looks for Google's hosts at each start, which a closed network refuses one by one.
const FLAGS: [&str; 10] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
    "--remote-debugging-port=0",
];

/// A cold start on a busy machine of two cores.
const START_TIMEOUT: Duration = Duration::from_secs(30);
/// One call of the DevTools protocol.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);

impl Browser {
    /// Starts a browser with a fresh profile and one empty page.
    ///
    /// # Errors
    ///
    /// Chromium is not installed, or does not come up.
    pub async fn start() -> Result<Self, BrowserError> {
        let profile = TempDir::new().map_err(|error| BrowserError::Missing { error })?;
        let child = Command::new("chromium")
            .args(FLAGS)
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| BrowserError::Missing { error })?;
        let url = socket_url(profile.path()).await?;
        let no_socket = |why: String| BrowserError::NoSocket { why };
        let (socket, _) = timeout(CALL_TIMEOUT, connect_async(&url))
            .await
            .map_err(|_| no_socket(format!("{url} does not answer")))?
            .map_err(|error| no_socket(error.to_string()))?;
        let mut browser = Self { _child: child, _profile: profile, socket, next_id: 1, session: None };
        browser.attach().await?;
        Ok(browser)
    }

    async fn attach(&mut self) -> Result<(), BrowserError> {
        let target = self.call("Target.createTarget", json!({ "url": "about:blank" })).await?;
        let attached = json!({ "targetId": target["targetId"], "flatten": true });
        let attached = self.call("Target.attachToTarget", attached).await?;
        self.session = attached["sessionId"].as_str().map(str::to_owned);
        let screen = json!({ "width": 1280, "height": 800, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", screen).await?;
        Ok(())
    }

    /// Opens `url` in the page. What it shows comes later.
    ///
    /// # Errors
    ///
    /// The browser does not answer, or cannot reach the address.
    pub async fn open(&mut self, url: &str) -> Result<(), BrowserError> {
        let opened = self.call("Page.navigate", json!({ "url": url })).await?;
        match opened["errorText"].as_str() {
            Some(why) => {
                Err(BrowserError::Refused { method: "Page.navigate".to_owned(), why: format!("{url}: {why}") })
            }
            None => Ok(()),
        }
    }

    /// The value of a JavaScript expression in the page.
    ///
    /// # Errors
    ///
    /// The browser does not answer, or the expression throws.
    pub async fn evaluate(&mut self, expression: &str) -> Result<Value, BrowserError> {
        let method = "Runtime.evaluate";
        let mut answer = self.call(method, json!({ "expression": expression, "returnByValue": true })).await?;
        match answer.get("exceptionDetails") {
            Some(details) => Err(BrowserError::Refused { method: method.to_owned(), why: details.to_string() }),
            None => Ok(answer["result"]["value"].take()),
        }
    }

    /// A picture of the page as PNG.
    ///
    /// # Errors
    ///
    /// The browser does not answer.
    pub async fn picture(&mut self) -> Result<Vec<u8>, BrowserError> {
        let method = "Page.captureScreenshot";
        let answer = self.call(method, json!({ "format": "png" })).await?;
        let bad = |why: String| BrowserError::Refused { method: method.to_owned(), why };
        let data = answer["data"].as_str().ok_or_else(|| bad("no picture".to_owned()))?;
        BASE64.decode(data).map_err(|error| bad(error.to_string()))
    }

    async fn call(&mut self, method: &str, params: Value) -> Result<Value, BrowserError> {
        let no_answer = |why: String| BrowserError::NoAnswer { method: method.to_owned(), why };
        match timeout(CALL_TIMEOUT, self.exchange(method, params)).await {
            Ok(Ok(mut answer)) => match answer.get("error") {
                Some(error) => Err(BrowserError::Refused { method: method.to_owned(), why: error.to_string() }),
                None => Ok(answer["result"].take()),
            },
            Ok(Err(why)) => Err(no_answer(why)),
            Err(_) => Err(no_answer(format!("nothing within {CALL_TIMEOUT:?}"))),
        }
    }

    async fn exchange(&mut self, method: &str, params: Value) -> Result<Value, String> {
        let id = self.next_id;
        self.next_id += 1;
        let mut call = json!({ "id": id, "method": method, "params": params });
        if let Some(session) = &self.session {
            call["sessionId"] = json!(session);
        }
        self.socket.send(Message::text(call.to_string())).await.map_err(|error| error.to_string())?;
        while let Some(message) = self.socket.next().await {
            let Message::Text(text) = message.map_err(|error| error.to_string())? else { continue };
            let answer: Value = serde_json::from_str(&text).map_err(|error| error.to_string())?;
            // Everything else is an event that nobody asked for.
            if answer["id"] == json!(id) {
                return Ok(answer);
            }
        }
        Err("it closed the socket".to_owned())
    }
}

/// Chromium writes the port and the path of its socket into its profile once it listens.
async fn socket_url(profile: &Path) -> Result<String, BrowserError> {
    let file = profile.join("DevToolsActivePort");
    let found = until(START_TIMEOUT, "DevToolsActivePort in the profile", async || {
        let text = tokio::fs::read_to_string(&file).await.map_err(|error| error.to_string())?;
        match text.lines().collect::<Vec<_>>().as_slice() {
            [port, path] => Ok(format!("ws://127.0.0.1:{port}{path}")),
            _ => Err(format!("{text:?}")),
        }
    });
    found.await.map_err(|miss| BrowserError::NoSocket { why: miss.to_string() })
}
