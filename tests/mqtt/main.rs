//! The rack on a real broker, as other programs see it.
#![expect(clippy::expect_used, reason = "a test fails by panicking")]

mod broker;
mod deaf;

use std::sync::Arc;
use std::time::Duration;

use broker::{Broker, PATIENCE};
use farmhand::clock::UnixMillis;
use farmhand::config;
use farmhand::rack::Snapshot;
use farmhand::rack::ids::PhoneId;
use farmhand::rack::snapshot::{DaemonView, HostHealth, MqttState, MqttView, PhoneState, PhoneView};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const STATUS: &str = "farmhand/rack-1/status";
const HEALTH: &str = "farmhand/rack-1/health";
const PHONE: &str = "farmhand/rack-1/phones/P1";
const DISCOVERY: &str = "homeassistant/device/farmhand_rack-1/config";
/// Health comes so often that no test waits for it.
const OFTEN: Duration = Duration::from_millis(100);
/// Health comes once in a test, after the connection.
const SELDOM: Duration = Duration::from_secs(3600);

#[tokio::test(flavor = "multi_thread")]
async fn the_rack_is_there_for_whoever_subscribes() {
    let broker = Broker::start();
    let mut farmhand = Farmhand::start(&broker);
    farmhand.connected().await;

    let early = broker.subscribe("#");
    let health = early.until("health with the host", |seen| seen.topic == HEALTH);
    let health: serde_json::Value = serde_json::from_str(&health.payload).unwrap();
    assert_eq!(health["host"]["cpu_percent"], 12.5);
    assert_eq!(health["phones"]["ready"], 2);
    broker.subscribe("#").until_topics(&[STATUS, DISCOVERY, PHONE, "farmhand/rack-1/phones/P2"]);

    farmhand.phone(0).state = PhoneState::Recovering;
    farmhand.show();
    early.until("the change", |seen| seen.topic == PHONE && seen.payload.contains(r#""state":"recovering""#));
    let late = broker.subscribe("farmhand/rack-1/#");
    let phone = late.until_topic(PHONE);
    assert!(phone.retained && phone.payload.contains("recovering"), "{phone:?}");
    assert_eq!(broker.subscribe(STATUS).until_topic(STATUS).payload, "online");
}

#[tokio::test(flavor = "multi_thread")]
async fn health_comes_again_and_again() {
    let broker = Broker::start();
    let mut farmhand = Farmhand::start(&broker);
    farmhand.connected().await;
    let subscriber = broker.subscribe(HEALTH);
    for _ in 0..3 {
        subscriber.until_topic(HEALTH);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forgotten_phone_leaves_no_topic() {
    let broker = Broker::start();
    let mut farmhand = Farmhand::start(&broker);
    let subscriber = broker.subscribe("farmhand/rack-1/phones/#");
    subscriber.until("the phone", |seen| seen.topic == PHONE);
    farmhand.rack.phones.remove(0);
    farmhand.show();
    subscriber.until("an empty message", |seen| seen.topic == PHONE && seen.payload.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_phone_that_left_while_no_daemon_ran_is_not_shown_as_it_was() {
    let broker = Broker::start();
    let mut earlier = Farmhand::start(&broker);
    earlier.connected().await;
    broker.subscribe(PHONE).until("the phone", |seen| seen.payload.contains(r#""state":"ready""#));
    drop(earlier);

    let subscriber = broker.subscribe("farmhand/rack-1/phones/#").subscribed();
    let mut later = Farmhand::start_with(&broker, |rack| drop(rack.phones.remove(0)));
    later.connected().await;
    subscriber.until("an empty message", |seen| seen.topic == PHONE && seen.payload.is_empty());
    broker.subscribe("farmhand/rack-1/phones/#").until_topic("farmhand/rack-1/phones/P2");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_dies_is_offline() {
    let broker = Broker::start();
    let mut farmhand = Farmhand::start(&broker);
    farmhand.connected().await;
    let subscriber = broker.subscribe(STATUS);
    subscriber.until("online", |seen| seen.payload == "online");
    farmhand.task.abort();
    subscriber.until("the last will", |seen| seen.payload == "offline");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_daemon_that_ends_says_so_itself() {
    let broker = Broker::start();
    let mut farmhand = Farmhand::start(&broker);
    let subscriber = broker.subscribe(STATUS);
    subscriber.until("online", |seen| seen.payload == "online");
    farmhand.connected().await;
    farmhand.cancel.cancel();
    tokio::time::timeout(PATIENCE, &mut farmhand.task).await.expect("it ends in time").unwrap();
    subscriber.until("offline", |seen| seen.payload == "offline");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_comes_back_without_memory_is_told_everything() {
    let mut broker = Broker::start();
    let mut farmhand = Farmhand::start(&broker);
    farmhand.connected().await;
    broker.subscribe("#").until_topic(PHONE);
    broker.kill();
    let why = farmhand.away().await;
    assert!(why.contains(&farmhand.broker), "{why}");
    farmhand.phone(0).state = PhoneState::Absent;
    farmhand.show();
    broker.run();
    farmhand.connected().await;
    let subscriber = broker.subscribe("#");
    subscriber.until("the change", |seen| seen.topic == PHONE && seen.payload.contains(r#""state":"absent""#));
    broker.subscribe("#").until_topics(&[STATUS, HEALTH, DISCOVERY, "farmhand/rack-1/phones/P2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_hung_broker_swallowed_arrives_after_its_restart() {
    let mut broker = Broker::start();
    let mut farmhand = Farmhand::start_of(&broker, None, rack(), SELDOM);
    farmhand.connected().await;
    broker.subscribe("#").until_topics(&[STATUS, HEALTH, DISCOVERY, PHONE, "farmhand/rack-1/phones/P2"]);

    broker.hang();
    let why = "swallowed ".repeat(10);
    farmhand.phone(0).why.clone_from(&why);
    farmhand.show();
    // Health is not due, and an acknowledgement is shorter: so many bytes are the phone's.
    broker.wait_for_unread_bytes(why.len());
    broker.kill();
    broker.run();
    let subscriber = broker.subscribe("#");
    subscriber.until("what was swallowed", |seen| seen.topic == PHONE && seen.payload.contains(&why));
    broker.subscribe(STATUS).until("online", |seen| seen.payload == "online");
}

#[tokio::test(flavor = "multi_thread")]
async fn home_assistant_is_told_of_the_rack_when_it_starts() {
    let broker = Broker::start();
    let mut farmhand = Farmhand::start(&broker);
    farmhand.connected().await;
    let subscriber = broker.subscribe("#").subscribed();
    // farmhand subscribes before it publishes: once something new has come, it listens.
    subscriber.until("health, live", |seen| seen.topic == HEALTH && !seen.retained);
    broker.publish("homeassistant/status", "online");
    subscriber.until_topic("homeassistant/status");
    subscriber.until("discovery, sent anew", |seen| seen.topic == DISCOVERY && !seen.retained);
    subscriber.until("a phone, sent anew", |seen| seen.topic == PHONE && !seen.retained);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_said_and_a_right_one_lets_in() {
    let broker = Broker::start_for("farmhand", "secret");
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("password");
    std::fs::write(&file, "wrong\n").unwrap();
    let mut farmhand = Farmhand::start_as(&broker, Some(("farmhand".to_owned(), file.clone())));
    let why = farmhand.away().await;
    assert!(why.contains("refuses this user and password"), "{why}");
    std::fs::write(&file, "secret\n").unwrap();
    let mut farmhand = Farmhand::start_as(&broker, Some(("farmhand".to_owned(), file)));
    farmhand.connected().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broker_that_acknowledges_nothing_is_shown_as_such_until_it_does() {
    let broker = deaf::Deaf::start().await;
    let mut farmhand = Farmhand::start_at(broker.port, None, rack(), OFTEN);
    let connected = farmhand.view(MqttState::Connected).await;
    let deaf = farmhand.view(MqttState::Unacknowledged).await;
    assert!(deaf.why.contains(&farmhand.broker) && deaf.why.contains("acknowledges nothing"), "{}", deaf.why);
    assert!(deaf.since >= connected.since, "since the first message that was not acknowledged");
    broker.cure();
    farmhand.connected().await;
}

/// The publisher under test, with what the model would hold.
struct Farmhand {
    broker: String,
    rack: Snapshot,
    snapshots: watch::Sender<Arc<Snapshot>>,
    states: mpsc::Receiver<MqttView>,
    cancel: CancellationToken,
    task: JoinHandle<()>,
}

impl Farmhand {
    fn start(broker: &Broker) -> Self {
        Self::start_as(broker, None)
    }

    fn start_as(broker: &Broker, user: Option<(String, std::path::PathBuf)>) -> Self {
        Self::start_of(broker, user, rack(), OFTEN)
    }

    fn start_with(broker: &Broker, change: impl FnOnce(&mut Snapshot)) -> Self {
        let mut rack = rack();
        change(&mut rack);
        Self::start_of(broker, None, rack, OFTEN)
    }

    fn start_of(
        broker: &Broker,
        user: Option<(String, std::path::PathBuf)>,
        rack: Snapshot,
        health_interval: Duration,
    ) -> Self {
        Self::start_at(broker.port, user, rack, health_interval)
    }

    fn start_at(
        port: u16,
        user: Option<(String, std::path::PathBuf)>,
        rack: Snapshot,
        health_interval: Duration,
    ) -> Self {
        let address = format!("127.0.0.1:{port}");
        let config = config::Mqtt {
            broker: address.clone(),
            user,
            discovery_prefix: Some("homeassistant".to_owned()),
            health_interval,
        };
        let (snapshots, snapshots_rx) = watch::channel(Arc::new(rack.clone()));
        let (states_tx, states) = mpsc::channel(1);
        let cancel = CancellationToken::new();
        let task = farmhand::mqtt::spawn(config, "rack-1".to_owned(), snapshots_rx, states_tx, cancel.clone());
        Self { broker: address, rack, snapshots, states, cancel, task }
    }

    fn phone(&mut self, index: usize) -> &mut PhoneView {
        &mut self.rack.phones[index]
    }

    fn show(&mut self) {
        self.rack.revision += 1;
        self.snapshots.send_replace(Arc::new(self.rack.clone()));
    }

    async fn connected(&mut self) {
        self.state(MqttState::Connected).await;
    }

    async fn away(&mut self) -> String {
        self.state(MqttState::Away).await
    }

    async fn state(&mut self, wanted: MqttState) -> String {
        self.view(wanted).await.why
    }

    async fn view(&mut self, wanted: MqttState) -> MqttView {
        loop {
            let view = tokio::time::timeout(PATIENCE, self.states.recv()).await.expect("a state").expect("a publisher");
            if view.state == wanted {
                return view;
            }
        }
    }
}

impl Drop for Farmhand {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn rack() -> Snapshot {
    let phone = |id| PhoneView { state: PhoneState::Ready, ..PhoneView::unknown(PhoneId::new(id)) };
    Snapshot {
        daemon: DaemonView { rack: "rack-1".to_owned(), version: "0.1.0".to_owned(), started: UnixMillis(0) },
        host: Some(HostHealth { cpu_percent: Some(12.5), ..HostHealth::default() }),
        phones: vec![phone("P1"), phone("P2")],
        ..Snapshot::default()
    }
}
