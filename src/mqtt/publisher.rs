//! The task between the model's snapshots and the broker's connection.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::board::Board;
use super::client::{Client, Link, LinkState, Settings};
use super::outbox::{Fate, OutboxFull, Ticket};
use super::payload::{Message, OFFLINE};
use super::topics::Topics;
use crate::clock::UnixMillis;
use crate::config;
use crate::rack::Snapshot;
use crate::rack::snapshot::{MqttState, MqttView};

/// Between two messages: 100 a second, so that a rack that comes back does not flood a small broker.
const SEND_EVERY: Duration = Duration::from_millis(10);

/// Home Assistant hears from all racks when it starts: each answers at a moment of its own within this.
const BIRTH_JITTER_MAX: Duration = Duration::from_secs(3);

/// How many healths are sent before topics of an earlier run are emptied: a phone that is still there is found by then.
const EARLIER_ROUNDS: u32 = 3;

/// A broker that acknowledges nothing for so long is shown as such: one in order takes milliseconds.
const ACKNOWLEDGE_MAX: Duration = Duration::from_secs(3);

/// Between two attempts to read the password file.
const PASSWORD_RETRY: Duration = Duration::from_secs(10);

/// How long the broker may take to acknowledge `offline` at the end.
const OFFLINE_PATIENCE: Duration = Duration::from_secs(1);

/// Starts publishing `snapshots` of the rack `rack`. Must be called within a tokio runtime. The state of the connection
/// goes to `states`, the newest one if it has no room. On `cancel` the daemon is published as offline, and the task ends
/// within 2 s; aborted, it leaves that to the broker (last will).
pub fn spawn(
    config: config::Mqtt,
    rack: String,
    snapshots: watch::Receiver<Arc<Snapshot>>,
    states: mpsc::Sender<MqttView>,
    cancel: CancellationToken,
) -> JoinHandle<()> {
    tokio::spawn(async move {
        let mut teller = Teller { states, waiting: None, told: None, broker: config.broker.clone() };
        let Some(settings) = settings(&config, &rack, &mut teller, &cancel).await else { return };
        let version = snapshots.borrow().daemon.version.clone();
        let board = Board::new(&rack, &version, config.discovery_prefix.as_deref());
        let client = Client::start(settings);
        let under_way = FuturesUnordered::new();
        let publisher = Publisher {
            board,
            client,
            under_way,
            unheard: None,
            acknowledged: Acknowledged::InTime,
            teller,
            resend_at: None,
            empty_at: None,
            full: false,
            measured: false,
        };
        publisher.run(snapshots, config.health_interval, cancel).await;
    })
}

/// Where to connect; waits for a password file that can't be read yet. `None` once the daemon ends.
async fn settings(
    config: &config::Mqtt,
    rack: &str,
    teller: &mut Teller,
    cancel: &CancellationToken,
) -> Option<Settings> {
    let topics = Topics::new(rack);
    let (host, port) = match host_and_port(&config.broker) {
        Some((host, port)) => (host.to_owned(), port),
        None => {
            warn!(broker = %config.broker, "no MQTT: `[mqtt] broker` is no host:port");
            teller.tell(MqttState::Away, format!("`[mqtt] broker` should be host:port, was `{}`", config.broker));
            teller.until(cancel, None).await;
            return None;
        }
    };
    let user = match &config.user {
        None => None,
        Some((name, file)) => loop {
            match tokio::fs::read_to_string(file).await {
                Ok(password) => break Some((name.clone(), password.trim_end_matches(['\r', '\n']).to_owned())),
                Err(error) => {
                    let why = format!("the password file {} can't be read: {error}", file.display());
                    teller.tell(MqttState::Away, why);
                    if teller.until(cancel, Some(PASSWORD_RETRY)).await == Woken::Cancelled {
                        return None;
                    }
                }
            }
        },
    };
    Some(Settings {
        client_id: topics.client_id(),
        host,
        port,
        user,
        status_topic: topics.status(),
        birth_topic: config.discovery_prefix.as_deref().map(Topics::birth),
        phone_topics: topics.phones(),
    })
}

fn host_and_port(broker: &str) -> Option<(&str, u16)> {
    let (host, port) = broker.rsplit_once(':')?;
    if host.is_empty() { None } else { Some((host, port.parse().ok()?)) }
}

/// What the model was told of the broker's acknowledgements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Acknowledged {
    InTime,
    NotAtAll,
}

struct Publisher {
    board: Board,
    client: Client,
    /// What the broker has not acknowledged yet.
    under_way: FuturesUnordered<BoxFuture<'static, (Ticket, Fate)>>,
    /// Since when the broker has had something to acknowledge and has acknowledged nothing.
    unheard: Option<(Instant, UnixMillis)>,
    acknowledged: Acknowledged,
    teller: Teller,
    /// When everything is sent once more, for a Home Assistant that has started.
    resend_at: Option<Instant>,
    /// When the topics are emptied that an earlier run has left of phones which are not here.
    empty_at: Option<Instant>,
    /// Whether it was told that there are too many topics.
    full: bool,
    /// Whether a health with the processor's share was shown.
    measured: bool,
}

impl Publisher {
    async fn run(
        mut self,
        mut snapshots: watch::Receiver<Arc<Snapshot>>,
        health_interval: Duration,
        cancel: CancellationToken,
    ) {
        let mut link_changes = self.client.link();
        let mut link = Link::default();
        let mut pace = tokio::time::interval(SEND_EVERY);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut health = tokio::time::interval(health_interval.max(SEND_EVERY));
        health.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.show_phones(&mut snapshots);
        loop {
            let overdue_at = self.overdue_at();
            let sending = link.state == LinkState::Up && self.board.has_next();
            tokio::select! {
                () = cancel.cancelled() => break,
                Ok(()) = link_changes.changed() => {
                    let news = link_changes.borrow_and_update().clone();
                    if link.connection == 0 && news.connection > 0 {
                        self.client.listen_for_earlier();
                        self.empty_at = Some(Instant::now() + health_interval.saturating_mul(EARLIER_ROUNDS));
                    }
                    self.link_changed(&link, &news);
                    link = news;
                }
                Ok(()) = snapshots.changed() => self.show_phones(&mut snapshots),
                _ = health.tick() => self.show_health(&snapshots.borrow().clone()),
                Some((ticket, fate)) = self.under_way.next() => {
                    self.board.settle(&ticket, fate);
                    self.heard(fate);
                }
                () = sleep_until(overdue_at), if link.state == LinkState::Up => self.tell_overdue(),
                () = sleep_until(self.resend_at) => {
                    self.resend_at = None;
                    self.board.resend();
                }
                () = sleep_until(self.empty_at) => {
                    self.empty_at = None;
                    self.empty_earlier();
                }
                () = self.teller.room() => {}
                _ = pace.tick(), if sending => self.send_one(),
            }
        }
        if link.state == LinkState::Up {
            self.say_offline().await;
        }
    }

    fn show_phones(&mut self, snapshots: &mut watch::Receiver<Arc<Snapshot>>) {
        let snapshot = snapshots.borrow_and_update().clone();
        let shown = self.board.show_phones(&snapshot);
        self.note_room(shown);
        // The first whole health need not wait for its turn.
        let measured = snapshot.host.as_ref().is_some_and(|host| host.cpu_percent.is_some());
        if measured && !self.measured {
            self.measured = true;
            self.show_health(&snapshot);
        }
    }

    fn empty_earlier(&mut self) {
        for topic in self.client.take_earlier() {
            let emptied = self.board.found(topic);
            self.note_room(emptied);
        }
    }

    fn show_health(&mut self, snapshot: &Snapshot) {
        let shown = self.board.show_health(snapshot);
        self.note_room(shown);
    }

    fn note_room(&mut self, shown: Result<(), OutboxFull>) {
        match shown {
            Ok(()) => self.full = false,
            Err(full) if !self.full => {
                warn!("some phones are not on MQTT: {full}");
                self.full = true;
            }
            Err(_) => {}
        }
    }

    fn link_changed(&mut self, before: &Link, now: &Link) {
        if now.connection != before.connection {
            info!(broker = %self.teller.broker, "connected to the MQTT broker: publishing everything");
            self.client.listen();
            self.board.reconnected();
            self.resend_at = None;
            self.unheard = None;
            self.acknowledged = Acknowledged::InTime;
        }
        if now.births != before.births {
            info!("Home Assistant has started: publishing everything again");
            self.resend_at = Some(Instant::now() + rand::random_range(Duration::ZERO..BIRTH_JITTER_MAX));
        }
        if now.state == before.state && now.connection == before.connection {
            return;
        }
        match &now.state {
            LinkState::Trying => {}
            LinkState::Up => self.tell_connected(),
            LinkState::Down(why) => {
                if before.state == LinkState::Up || before.state == LinkState::Trying {
                    warn!(broker = %self.teller.broker, "no MQTT, it is tried again: {why}");
                }
                let broker = &self.teller.broker;
                let named = if why.contains(broker.as_str()) { why.clone() } else { format!("{broker}: {why}") };
                self.teller.tell(MqttState::Away, named);
            }
        }
    }

    /// When the broker is to be shown as one that acknowledges nothing.
    fn overdue_at(&self) -> Option<Instant> {
        let (unheard, _) = self.unheard.filter(|_| self.acknowledged == Acknowledged::InTime)?;
        Some(unheard + ACKNOWLEDGE_MAX)
    }

    fn tell_overdue(&mut self) {
        self.acknowledged = Acknowledged::NotAtAll;
        let since = self.unheard.map_or_else(wall_now, |(_, since)| since);
        let why = format!("{} is connected and acknowledges nothing of what is published", self.teller.broker);
        warn!("{why}");
        self.teller.tell_since(MqttState::Unacknowledged, why, since);
    }

    /// What became of a message. One that a lost connection swallowed says nothing of the broker.
    fn heard(&mut self, fate: Fate) {
        if fate == Fate::Delivered {
            self.unheard = (!self.under_way.is_empty()).then(|| (Instant::now(), wall_now()));
            if self.acknowledged == Acknowledged::NotAtAll {
                info!(broker = %self.teller.broker, "the MQTT broker acknowledges again");
                self.acknowledged = Acknowledged::InTime;
                self.tell_connected();
            }
        }
    }

    fn tell_connected(&mut self) {
        self.teller.tell(MqttState::Connected, format!("connected to {}", self.teller.broker));
    }

    fn send_one(&mut self) {
        let Some((ticket, message)) = self.board.next_message() else { return };
        match self.client.publish(message) {
            Ok(fate) => {
                self.unheard.get_or_insert_with(|| (Instant::now(), wall_now()));
                self.under_way.push(Box::pin(async move { (ticket, fate.await) }));
            }
            Err(_) => self.board.settle(&ticket, Fate::Lost),
        }
    }

    async fn say_offline(self) {
        let message = Message { topic: self.board.topics().status(), payload: OFFLINE.into() };
        if let Ok(fate) = self.client.publish(message) {
            // A broker that does not acknowledge it publishes the last will in a moment.
            let _ = tokio::time::timeout(OFFLINE_PATIENCE, fate).await;
        }
        self.client.close().await;
    }
}

fn wall_now() -> UnixMillis {
    UnixMillis::default().plus(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

async fn sleep_until(moment: Option<Instant>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// Tells the model of the connection; where the queue has no room, a newer state replaces the one that waits.
struct Teller {
    states: mpsc::Sender<MqttView>,
    waiting: Option<MqttView>,
    told: Option<(MqttState, UnixMillis)>,
    broker: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Woken {
    Due,
    Cancelled,
}

impl Teller {
    fn tell(&mut self, state: MqttState, why: String) {
        self.tell_since(state, why, wall_now());
    }

    /// A state that goes on has begun when it was told first.
    fn tell_since(&mut self, state: MqttState, why: String, since: UnixMillis) {
        let since = match self.told {
            Some((told, begun)) if told == state => begun,
            _ => since,
        };
        self.told = Some((state, since));
        self.waiting = Some(MqttView { state, why, since });
    }

    /// Ends once a waiting state was taken; never, while none waits.
    async fn room(&mut self) {
        if self.waiting.is_none() {
            return std::future::pending().await;
        }
        let room = self.states.reserve().await;
        // No receiver any more: the model has ended, the daemon is about to.
        if let (Ok(room), Some(view)) = (room, self.waiting.take()) {
            room.send(view);
        }
    }

    async fn until(&mut self, cancel: &CancellationToken, pause: Option<Duration>) -> Woken {
        let due = sleep_until(pause.map(|pause| Instant::now() + pause));
        tokio::pin!(due);
        loop {
            tokio::select! {
                () = cancel.cancelled() => return Woken::Cancelled,
                () = &mut due => return Woken::Due,
                () = self.room() => {}
            }
        }
    }
}
