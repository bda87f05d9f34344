//! `mosquitto_sub` as a child process: what another program sees of the rack on MQTT.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncBufReadExt as _, BufReader};
use tokio::process::{Child, Command};

/// A subscriber of every topic; it ends when it is dropped.
pub struct Subscriber {
    _child: Child,
    seen: Arc<Mutex<BTreeMap<String, Message>>>,
}

/// The last message of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// What it carries.
    pub payload: String,
    /// Whether the broker had kept it from before the subscription.
    pub retained: bool,
}

/// Why there is no subscriber.
#[derive(Debug, thiserror::Error)]
pub enum SubscriberError {
    /// The program is missing.
    #[error("mosquitto_sub could not be started ({error}): install Debian's package mosquitto-clients")]
    Missing {
        /// Why.
        error: io::Error,
    },
}

impl Subscriber {
    /// Subscribes to everything on `broker`.
    ///
    /// # Errors
    ///
    /// `mosquitto_sub` is not installed.
    pub fn start(broker: SocketAddr) -> Result<Self, SubscriberError> {
        let port = broker.port().to_string();
        let mut child = Command::new("mosquitto_sub")
            .args(["-h", &broker.ip().to_string(), "-p", &port, "-q", "1", "-t", "#"])
            // Retained (1 or 0), topic, payload: a topic has no blank here, a payload no line break.
            .args(["-F", "%r %t %p"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| SubscriberError::Missing { error })?;
        let seen = Arc::new(Mutex::new(BTreeMap::new()));
        if let Some(output) = child.stdout.take() {
            let seen = Arc::clone(&seen);
            tokio::spawn(async move {
                let mut lines = BufReader::new(output).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    if let Some((topic, message)) = parse(&line) {
                        seen.lock().unwrap_or_else(PoisonError::into_inner).insert(topic, message);
                    }
                }
            });
        }
        Ok(Self { _child: child, seen })
    }

    /// The last message of `topic`.
    #[must_use]
    pub fn last(&self, topic: &str) -> Option<Message> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).get(topic).cloned()
    }

    /// Every topic that had a message.
    #[must_use]
    pub fn topics(&self) -> Vec<String> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).keys().cloned().collect()
    }
}

fn parse(line: &str) -> Option<(String, Message)> {
    let mut parts = line.splitn(3, ' ');
    let retained = parts.next()? == "1";
    let topic = parts.next()?.to_owned();
    Some((topic, Message { payload: parts.next().unwrap_or_default().to_owned(), retained }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_message() {
        let (topic, message) = parse("1 farmhand/demo/status {\"a\": 1}").unwrap();
        assert_eq!(topic, "farmhand/demo/status");
        assert_eq!(message, Message { payload: "{\"a\": 1}".to_owned(), retained: true });
        assert_eq!(parse("0 t ").unwrap().1.payload, "");
        assert_eq!(parse("nonsense"), None);
    }
}
