//! The rack's health on the broker, read by `mosquitto_sub`.

use std::time::Duration;

use serde_json::Value;

use super::super::stage::{PHONES, Stage, miss};
use super::super::subscriber::Subscriber;
use super::super::until::{Miss, until};
use super::nothing_left;

/// Some rounds of the demo's health messages.
const TOLD_WITHIN: Duration = Duration::from_secs(15);
/// A broker sends what it keeps right after the subscription.
const KEPT_WITHIN: Duration = Duration::from_secs(2);
/// A killed process closes its socket at once; the broker tells its last will then.
const WILL_WITHIN: Duration = Duration::from_secs(5);

/// What a subscriber that comes now gets as JSON, kept by the broker.
fn kept(subscriber: &Subscriber, topic: &str) -> Result<Value, String> {
    let message =
        subscriber.last(topic).ok_or_else(|| format!("nothing on {topic}; there are {:?}", subscriber.topics()))?;
    if !message.retained {
        return Err(format!("{topic} came, but was not retained"));
    }
    serde_json::from_str(&message.payload).map_err(|error| format!("{topic} is no JSON ({error}): {}", message.payload))
}

/// A subscriber that comes late.
fn latecomer(stage: &Stage) -> Result<Subscriber, Miss> {
    let broker = stage.rack.broker().ok_or_else(|| miss("[broker] in the rack file", "none"))?;
    Subscriber::start(broker.address()).map_err(|error| miss("mosquitto_sub to start", error))
}

fn topic(stage: &Stage, rest: &str) -> String {
    format!("farmhand/{}/{rest}", stage.rack.file().rack.name)
}

/// Host readings and the count of phones are retained; Home Assistant finds one device.
pub(super) async fn health(stage: &Stage) -> Result<(), Miss> {
    stage.all_ready(&PHONES).await?;
    let health = topic(stage, "health");
    let name = &stage.rack.file().rack.name;
    until(
        TOLD_WITHIN,
        "retained: health with eight phones ready and the host's memory, status, one device",
        async || {
            // A new one each time: what is wanted is what the broker keeps.
            let subscriber = latecomer(stage).map_err(|miss| miss.to_string())?;
            until(KEPT_WITHIN, "it", async || {
                let health = kept(&subscriber, &health)?;
                if health["phones"]["ready"] != 8 || health["phones"]["total"] != 8 {
                    return Err(format!("phones: {}", health["phones"]));
                }
                if health["host"]["memory_total_bytes"].as_u64().unwrap_or(0) == 0 {
                    return Err(format!("host: {}", health["host"]));
                }
                let status = subscriber.last(&topic(stage, "status")).map(|message| message.payload);
                if status.as_deref() != Some("online") {
                    return Err(format!("status: {status:?}"));
                }
                let device = kept(&subscriber, &format!("homeassistant/device/farmhand_{name}/config"))?;
                if device.is_object() { Ok(()) } else { Err(format!("the device: {device}")) }
            })
            .await
            .map_err(|miss| miss.seen)
        },
    )
    .await
}

/// One retained topic a phone, which follows its battery and state.
pub(super) async fn phone(stage: &Stage) -> Result<(), Miss> {
    stage.all_ready(&PHONES).await?;
    let subscriber = latecomer(stage)?;
    until(TOLD_WITHIN, "a retained topic for each phone, ready and registered", async || {
        let mut left = Vec::new();
        for (name, view) in stage.phones().await? {
            let topic = topic(stage, &format!("phones/{}", view.id));
            let told = subscriber.last(&topic).and_then(|message| serde_json::from_str::<Value>(&message.payload).ok());
            let told = told.unwrap_or_default();
            let slot = view.slot.as_ref().map(|slot| slot.as_str());
            if told["state"] != "ready" || told["line"]["state"] != "registered" || told["slot"].as_str() != slot {
                left.push(format!("{name} on {topic}: {told}"));
            }
        }
        nothing_left(left)
    })
    .await?;
    let late = latecomer(stage)?;
    until(TOLD_WITHIN, "eight topics of phones kept by the broker", async || {
        let prefix = topic(stage, "phones/");
        let topics: Vec<String> = late.topics().into_iter().filter(|topic| topic.starts_with(&prefix)).collect();
        if topics.len() != PHONES.len() {
            return Err(format!("{topics:?}"));
        }
        topics.iter().try_for_each(|topic| kept(&late, topic).map(drop))
    })
    .await
}

/// Kill -9: the broker tells the last will. A new start is online again.
pub(super) async fn offline(stage: &mut Stage) -> Result<(), Miss> {
    let status = topic(stage, "status");
    status_is(stage, &status, "online", TOLD_WITHIN).await?;
    stage.daemon.kill().await.map_err(|error| miss("the daemon to be killed", error))?;
    let offline = status_is(stage, &status, "offline", WILL_WITHIN).await;
    stage.daemon.start_again().await.map_err(|error| miss("the daemon to start again", error))?;
    offline?;
    status_is(stage, &status, "online", TOLD_WITHIN).await
}

async fn status_is(stage: &Stage, topic: &str, wanted: &str, limit: Duration) -> Result<(), Miss> {
    until(limit, &format!("{wanted} on {topic}"), async || match stage.subscriber.last(topic) {
        Some(message) if message.payload == wanted => Ok(()),
        other => Err(format!("{other:?}")),
    })
    .await
}
