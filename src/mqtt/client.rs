//! The connection to the broker, over rumqttc: the only file that knows that crate.
//!
//! One task does nothing but poll; it never publishes and never waits for the publisher, or both would stand still. What it
//! learns goes through a `watch`, topics of an earlier run through a queue that drops what it has no room for. A publish that
//! rumqttc took is not yet at the broker: what counts is the notice that it gives, which also tells of messages that a lost
//! connection swallowed.

use std::time::Duration;

use futures_util::future::BoxFuture;
use rumqttc::{
    AsyncClient, Broker, ConnectReturnCode, ConnectionError, Event, EventLoop, LastWill, MqttOptions, Packet, Publish,
    PublishOptions, QoS,
};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::outbox::{Fate, TOPICS_MAX};
use super::payload::{Message, OFFLINE};
use crate::reason;

/// A silent broker is noticed after two of these.
const KEEP_ALIVE_S: u16 = 15;

/// What rumqttc may hold; more than [`super::outbox::UNDER_WAY_MAX`], so that room is never waited for.
const REQUESTS_MAX: usize = 64;

/// The longest message either way; rumqttc's own 10 KiB would end the connection at a long discovery.
const PACKET_MAX_BYTES: usize = 256 * 1024;

/// The first wait after a failed connection; it doubles.
const RETRY_MIN: Duration = Duration::from_millis(250);

/// The longest wait after a failed connection, before jitter.
const RETRY_MAX: Duration = Duration::from_secs(8);

/// How long the broker may take at the end to acknowledge what is under way.
const CLOSE_PATIENCE: Duration = Duration::from_millis(500);

/// Where and as whom to connect.
pub(super) struct Settings {
    pub(super) client_id: String,
    pub(super) host: String,
    pub(super) port: u16,
    /// User and password.
    pub(super) user: Option<(String, String)>,
    /// Where the last will goes.
    pub(super) status_topic: String,
    /// Where Home Assistant tells that it has started.
    pub(super) birth_topic: Option<String>,
    /// What the topics of phones begin with.
    pub(super) phone_topics: String,
}

/// The state of the connection.
#[derive(Clone, Debug, Default)]
pub(super) struct Link {
    /// Counts connections.
    pub(super) connection: u64,
    /// Whether there is one now; else why not, as a sentence, once it was tried.
    pub(super) state: LinkState,
    /// Counts how often Home Assistant told that it has started.
    pub(super) births: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) enum LinkState {
    #[default]
    Trying,
    Up,
    Down(String),
}

/// rumqttc has no room; the message stays in the outbox.
pub(super) struct NoRoom;

/// The connection. Dropped, it ends without a word, so that the broker publishes the last will.
pub(super) struct Client {
    requests: AsyncClient,
    link: watch::Receiver<Link>,
    birth_topic: Option<String>,
    /// All topics of phones, as a filter.
    phones_filter: String,
    earlier: mpsc::Receiver<String>,
    poller: JoinHandle<()>,
}

impl Client {
    /// Begins to connect, and goes on for ever.
    pub(super) fn start(settings: Settings) -> Self {
        let address = format!("{}:{}", settings.host, settings.port);
        let mut options = MqttOptions::new(settings.client_id, Broker::tcp(settings.host, settings.port));
        options
            .set_keep_alive(KEEP_ALIVE_S)
            .set_clean_session(true)
            .set_max_packet_size(PACKET_MAX_BYTES, PACKET_MAX_BYTES)
            .set_last_will(LastWill::new(settings.status_topic, OFFLINE, QoS::AtLeastOnce, true));
        if let Some((user, password)) = settings.user {
            options.set_credentials(user, password);
        }
        let (requests, eventloop) = AsyncClient::builder(options).capacity(REQUESTS_MAX).build();
        let (link_tx, link) = watch::channel(Link::default());
        let birth_topic = settings.birth_topic;
        let phones_filter = format!("{}+", settings.phone_topics);
        let (earlier_tx, earlier) = mpsc::channel(TOPICS_MAX);
        let ears = Ears { birth_topic: birth_topic.clone(), phone_topics: settings.phone_topics, earlier: earlier_tx };
        let poller = tokio::spawn(poll(address, eventloop, link_tx, ears));
        Self { requests, link, birth_topic, phones_filter, earlier, poller }
    }

    /// The state of the connection, now and as it changes.
    pub(super) fn link(&self) -> watch::Receiver<Link> {
        self.link.clone()
    }

    /// Asks to hear of Home Assistant's start; needed once a connection.
    pub(super) fn listen(&self) {
        if let Some(topic) = &self.birth_topic {
            // Only a full queue refuses, and right after a connection it is empty.
            let _ = self.requests.try_subscribe(topic.clone(), QoS::AtLeastOnce);
        }
    }

    /// Asks what the broker has kept of phones.
    pub(super) fn listen_for_earlier(&self) {
        let _ = self.requests.try_subscribe(self.phones_filter.clone(), QoS::AtLeastOnce);
    }

    /// What it has kept, as topics. It is not asked any longer: everything published now would come back.
    pub(super) fn take_earlier(&mut self) -> Vec<String> {
        let _ = self.requests.try_unsubscribe(self.phones_filter.clone());
        std::iter::from_fn(|| self.earlier.try_recv().ok()).collect()
    }

    /// Sends a retained message; the future tells what became of it.
    pub(super) fn publish(&self, message: Message) -> Result<BoxFuture<'static, Fate>, NoRoom> {
        let options = PublishOptions::at_least_once().retained();
        let notice = self.requests.try_publish_tracked(message.topic, message.payload, options).map_err(|_| NoRoom)?;
        Ok(Box::pin(async move {
            match notice.wait_completion_async().await {
                Ok(()) => Fate::Delivered,
                Err(_) => Fate::Lost,
            }
        }))
    }

    /// Ends the connection properly, after what is under way; the broker does not publish the last will.
    pub(super) async fn close(mut self) {
        if self.requests.try_disconnect_with_timeout(CLOSE_PATIENCE).is_ok() {
            // Beyond that the broker is hung, and dropping the connection is all that is left.
            let _ = tokio::time::timeout(CLOSE_PATIENCE * 2, &mut self.poller).await;
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.poller.abort();
    }
}

/// What is listened for.
struct Ears {
    birth_topic: Option<String>,
    phone_topics: String,
    earlier: mpsc::Sender<String>,
}

impl Ears {
    fn hear(&self, message: &Publish, link: &watch::Sender<Link>) {
        let topic = String::from_utf8_lossy(&message.topic);
        // A retained birth message is an old one: it comes with each subscription.
        if !message.retain && self.birth_topic.as_deref() == Some(&*topic) && &message.payload[..] == b"online" {
            link.send_modify(|link| link.births += 1);
        }
        if message.retain && topic.starts_with(&self.phone_topics) {
            // What finds no room is asked for again by the next run.
            let _ = self.earlier.try_send(topic.into_owned());
        }
    }
}

async fn poll(address: String, mut eventloop: EventLoop, link: watch::Sender<Link>, ears: Ears) {
    let mut failures = 0_u32;
    loop {
        // rumqttc's own deadlines hold inside: 5 s for a connection, two keep-alives for a silent broker.
        match eventloop.poll().await {
            Ok(Event::Incoming(Packet::ConnAck(_))) => {
                failures = 0;
                link.send_modify(|link| {
                    link.connection += 1;
                    link.state = LinkState::Up;
                });
            }
            Ok(Event::Incoming(Packet::Publish(message))) => ears.hear(&message, &link),
            Ok(_) => {}
            Err(ConnectionError::RequestsDone | ConnectionError::DisconnectTimeout) => return,
            Err(error) => {
                link.send_modify(|link| link.state = LinkState::Down(sentence(&address, &error)));
                tokio::time::sleep(retry_after(failures)).await;
                failures = failures.saturating_add(1);
            }
        }
    }
}

fn retry_after(failures: u32) -> Duration {
    let wait = RETRY_MIN.saturating_mul(2_u32.saturating_pow(failures.min(8))).min(RETRY_MAX);
    wait.mul_f64(rand::random_range(0.75..1.25))
}

fn sentence(address: &str, error: &ConnectionError) -> String {
    match error {
        ConnectionError::ConnectionRefused(
            ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized,
        ) => "the broker refuses this user and password: see `[mqtt] user` and its password file".to_owned(),
        ConnectionError::ConnectionRefused(code) => format!("the broker refuses the connection: {code:?}"),
        ConnectionError::Io(error) => format!("the broker can't be reached: {}", reason::connecting(address, error)),
        ConnectionError::NetworkTimeout => "the broker did not answer in time".to_owned(),
        error => format!("the connection to the broker was lost: {error}"),
    }
}
