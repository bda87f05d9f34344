//! What waits for the broker: the newest value of each topic, in turn, and what is under way.
//!
//! ```text
//!     put ──▶ queued ──next──▶ under way ──delivered──▶ shown
//!               ▲                 │ lost, or a newer value was put meanwhile
//!               └─────────────────┘           (reconnected: everything queues again)
//! ```
//!
//! Invariant: of one topic at most one message is under way, and what is sent last is what was put last
//! (`the_last_value_put_is_the_last_one_delivered`).

use std::collections::{BTreeMap, VecDeque};

use super::payload::Message;

/// The most topics that are kept: a rack of hundreds of phones has a tenth of it.
pub const TOPICS_MAX: usize = 4096;

/// The most messages under way at once: enough to fill the time of a round trip, few enough to be resent at no cost.
pub const UNDER_WAY_MAX: usize = 32;

/// There are [`TOPICS_MAX`] topics already.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("more than {TOPICS_MAX} MQTT topics")]
pub struct OutboxFull;

/// Names a message that was given out by [`Outbox::next_message`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ticket {
    topic: String,
    connection: u64,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The broker acknowledged it.
    Delivered,
    /// Nobody knows: it is sent again.
    Lost,
}

/// The queue; see the module.
#[derive(Debug, Default)]
pub struct Outbox {
    entries: BTreeMap<String, Entry>,
    queue: VecDeque<String>,
    under_way: usize,
    connection: u64,
    arrivals: u64,
}

#[derive(Debug)]
struct Entry {
    payload: Vec<u8>,
    stage: Stage,
    /// The place among all topics when everything is sent again.
    arrival: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Queued,
    UnderWay,
    /// Under way with an older value, or wanted once more.
    UnderWayAgain,
    Shown,
}

impl Outbox {
    /// Wants `message` shown; what its topic was to show before is forgotten.
    ///
    /// # Errors
    /// [`OutboxFull`]: a new topic beyond the limit is refused, those that are known go on.
    pub fn put(&mut self, message: Message) -> Result<(), OutboxFull> {
        let Message { topic, payload } = message;
        if let Some(entry) = self.entries.get_mut(&topic) {
            entry.payload = payload;
            self.requeue(&topic);
            return Ok(());
        }
        if self.entries.len() >= TOPICS_MAX {
            return Err(OutboxFull);
        }
        self.arrivals += 1;
        let entry = Entry { payload, stage: Stage::Queued, arrival: self.arrivals };
        self.entries.insert(topic.clone(), entry);
        self.queue.push_back(topic);
        Ok(())
    }

    /// Whether the topic has a value, shown or not.
    #[must_use]
    pub fn knows(&self, topic: &str) -> bool {
        self.entries.contains_key(topic)
    }

    /// Whether [`Self::next_message`] has something.
    #[must_use]
    pub fn has_next(&self) -> bool {
        !self.queue.is_empty() && self.under_way < UNDER_WAY_MAX
    }

    /// The next message to send. Tell what became of it by [`Self::settle`].
    pub fn next_message(&mut self) -> Option<(Ticket, Message)> {
        if !self.has_next() {
            return None;
        }
        let topic = self.queue.pop_front()?;
        let entry = self.entries.get_mut(&topic)?;
        entry.stage = Stage::UnderWay;
        self.under_way += 1;
        let message = Message { topic: topic.clone(), payload: entry.payload.clone() };
        Some((Ticket { topic, connection: self.connection }, message))
    }

    /// Tells what became of a message. One of an earlier connection is out of date and passed over.
    pub fn settle(&mut self, ticket: &Ticket, fate: Fate) {
        let Some(entry) = self.entries.get_mut(&ticket.topic) else { return };
        let under_way = matches!(entry.stage, Stage::UnderWay | Stage::UnderWayAgain);
        if ticket.connection != self.connection || !under_way {
            return;
        }
        self.under_way -= 1;
        if entry.stage == Stage::UnderWayAgain || fate == Fate::Lost {
            entry.stage = Stage::Queued;
            self.queue.push_back(ticket.topic.clone());
        } else if entry.payload.is_empty() {
            self.entries.remove(&ticket.topic);
        } else {
            entry.stage = Stage::Shown;
        }
    }

    /// A connection began on which the broker remembers nothing: everything is sent, in the order of first arrival.
    pub fn reconnected(&mut self) {
        self.connection += 1;
        self.under_way = 0;
        let mut topics: Vec<(u64, String)> = Vec::with_capacity(self.entries.len());
        for (topic, entry) in &mut self.entries {
            entry.stage = Stage::Queued;
            topics.push((entry.arrival, topic.clone()));
        }
        topics.sort_unstable();
        self.queue = topics.into_iter().map(|(_, topic)| topic).collect();
    }

    /// Sends everything once more on the connection that there is.
    pub fn resend(&mut self) {
        let mut topics: Vec<(u64, String)> =
            self.entries.iter().map(|(topic, entry)| (entry.arrival, topic.clone())).collect();
        topics.sort_unstable();
        for (_, topic) in topics {
            self.requeue(&topic);
        }
    }

    fn requeue(&mut self, topic: &str) {
        let Some(entry) = self.entries.get_mut(topic) else { return };
        match entry.stage {
            Stage::Queued | Stage::UnderWayAgain => {}
            Stage::UnderWay => entry.stage = Stage::UnderWayAgain,
            Stage::Shown => {
                entry.stage = Stage::Queued;
                self.queue.push_back(topic.to_owned());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn message(topic: &str, payload: &str) -> Message {
        Message { topic: topic.to_owned(), payload: payload.as_bytes().to_vec() }
    }

    fn drain(outbox: &mut Outbox) -> Vec<String> {
        let mut sent = Vec::new();
        while let Some((ticket, message)) = outbox.next_message() {
            sent.push(format!("{}={}", message.topic, String::from_utf8_lossy(&message.payload)));
            outbox.settle(&ticket, Fate::Delivered);
        }
        sent
    }

    #[test]
    fn while_the_broker_is_away_only_the_newest_value_waits() {
        let mut outbox = Outbox::default();
        for value in 0..1000 {
            outbox.put(message("a", &value.to_string())).unwrap();
        }
        outbox.put(message("b", "x")).unwrap();
        assert_eq!(drain(&mut outbox), ["a=999", "b=x"]);
        assert_eq!(drain(&mut outbox), [""; 0]);
    }

    #[test]
    fn a_newer_value_waits_for_the_older_one_under_way() {
        let mut outbox = Outbox::default();
        outbox.put(message("a", "1")).unwrap();
        let (first, _) = outbox.next_message().unwrap();
        outbox.put(message("a", "2")).unwrap();
        outbox.put(message("a", "3")).unwrap();
        assert_eq!(outbox.next_message(), None);
        outbox.settle(&first, Fate::Delivered);
        assert_eq!(drain(&mut outbox), ["a=3"]);
    }

    #[test]
    fn what_was_lost_is_sent_again() {
        let mut outbox = Outbox::default();
        outbox.put(message("a", "1")).unwrap();
        let (ticket, _) = outbox.next_message().unwrap();
        outbox.settle(&ticket, Fate::Lost);
        assert_eq!(drain(&mut outbox), ["a=1"]);
    }

    #[test]
    fn a_new_connection_shows_everything_in_order_and_forgets_what_was_under_way() {
        let mut outbox = Outbox::default();
        for topic in ["status", "discovery", "a"] {
            outbox.put(message(topic, "1")).unwrap();
        }
        let (late, _) = outbox.next_message().unwrap();
        outbox.put(message("a", "2")).unwrap();
        outbox.reconnected();
        outbox.settle(&late, Fate::Lost);
        assert_eq!(drain(&mut outbox), ["status=1", "discovery=1", "a=2"]);
        outbox.resend();
        assert_eq!(drain(&mut outbox), ["status=1", "discovery=1", "a=2"]);
    }

    #[test]
    fn a_removed_topic_is_emptied_once_and_forgotten() {
        let mut outbox = Outbox::default();
        outbox.put(message("a", "1")).unwrap();
        drain(&mut outbox);
        outbox.put(message("a", "")).unwrap();
        assert_eq!(drain(&mut outbox), ["a="]);
        outbox.reconnected();
        assert_eq!(drain(&mut outbox), [""; 0]);
    }

    #[test]
    fn both_limits_hold() {
        let mut outbox = Outbox::default();
        for topic in 0..TOPICS_MAX {
            outbox.put(message(&topic.to_string(), "1")).unwrap();
        }
        assert_eq!(outbox.put(message("one more", "1")), Err(OutboxFull));
        assert_eq!(outbox.put(message("7", "2")), Ok(()), "known topics go on");
        assert_eq!(std::iter::from_fn(|| outbox.next_message()).count(), UNDER_WAY_MAX);
    }

    #[derive(Clone, Debug)]
    enum Step {
        Put(u8, u8),
        Next,
        Settle(usize, bool),
        Reconnected,
        Resend,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0_u8..4, any::<u8>()).prop_map(|(topic, value)| Step::Put(topic, value)),
            4 => Just(Step::Next),
            4 => (0_usize..8, any::<bool>()).prop_map(|(which, ok)| Step::Settle(which, ok)),
            1 => Just(Step::Reconnected),
            1 => Just(Step::Resend),
        ]
    }

    proptest! {
        #[test]
        fn the_last_value_put_is_the_last_one_delivered(steps in proptest::collection::vec(step(), 0..80)) {
            let mut outbox = Outbox::default();
            let mut wanted = BTreeMap::new();
            let mut broker = BTreeMap::new();
            let mut tickets: Vec<(Ticket, Message)> = Vec::new();
            for step in steps {
                match step {
                    Step::Put(topic, value) => {
                        let payload = if value == 0 { String::new() } else { value.to_string() };
                        wanted.insert(topic.to_string(), payload.clone().into_bytes());
                        outbox.put(message(&topic.to_string(), &payload)).unwrap();
                    }
                    Step::Next => tickets.extend(outbox.next_message()),
                    Step::Settle(which, arrived) if which < tickets.len() => {
                        let (ticket, message) = tickets.remove(which);
                        if arrived {
                            broker.insert(message.topic, message.payload);
                        }
                        outbox.settle(&ticket, if arrived { Fate::Delivered } else { Fate::Lost });
                    }
                    Step::Settle(..) => {}
                    Step::Reconnected => {
                        tickets.clear();
                        outbox.reconnected();
                    }
                    Step::Resend => outbox.resend(),
                }
                prop_assert!(tickets.len() <= UNDER_WAY_MAX);
            }
            for (ticket, message) in tickets {
                broker.insert(message.topic.clone(), message.payload);
                outbox.settle(&ticket, Fate::Delivered);
            }
            while let Some((ticket, message)) = outbox.next_message() {
                broker.insert(message.topic.clone(), message.payload);
                outbox.settle(&ticket, Fate::Delivered);
            }
            prop_assert_eq!(broker, wanted);
        }
    }
}
