//! Which topic shall show what: snapshots go in, messages for the broker come out.

use std::collections::BTreeMap;

use super::discovery;
use super::outbox::{Fate, Outbox, OutboxFull, Ticket};
use super::payload::{self, Message, ONLINE};
use super::topics::Topics;
use crate::clock::UnixMillis;
use crate::rack::Snapshot;
use crate::rack::ids::PhoneId;

/// The rack as other programs shall see it.
#[derive(Debug)]
pub struct Board {
    topics: Topics,
    /// What each phone's topic shows, apart from the time: only a change is worth a message.
    phones: BTreeMap<PhoneId, Vec<u8>>,
    outbox: Outbox,
}

impl Board {
    /// A board that shows the daemon as online and, under `discovery_prefix`, tells Home Assistant of the rack.
    #[must_use]
    pub fn new(rack: &str, version: &str, discovery_prefix: Option<&str>) -> Self {
        let topics = Topics::new(rack);
        let mut outbox = Outbox::default();
        let status = Message { topic: topics.status(), payload: ONLINE.into() };
        let device = discovery_prefix.map(|prefix| Message {
            topic: topics.discovery(prefix),
            payload: discovery::device(&topics, rack, version),
        });
        for message in [status].into_iter().chain(device) {
            // An empty outbox has room for two topics.
            let _ = outbox.put(message);
        }
        Self { topics, phones: BTreeMap::new(), outbox }
    }

    /// The rack's topics.
    #[must_use]
    pub fn topics(&self) -> &Topics {
        &self.topics
    }

    /// Shows the rack's health.
    ///
    /// # Errors
    /// [`OutboxFull`].
    pub fn show_health(&mut self, snapshot: &Snapshot) -> Result<(), OutboxFull> {
        self.outbox.put(Message { topic: self.topics.health(), payload: payload::health(snapshot) })
    }

    /// Shows the phones that changed, and removes the topics of those that are forgotten.
    ///
    /// # Errors
    /// [`OutboxFull`]: the phones that found no room are tried again with the next snapshot.
    pub fn show_phones(&mut self, snapshot: &Snapshot) -> Result<(), OutboxFull> {
        let mut result = Ok(());
        let mut gone = std::mem::take(&mut self.phones);
        for phone in &snapshot.phones {
            let shown = gone.remove(&phone.id);
            let wanted = payload::phone(phone, UnixMillis::default());
            if shown.as_ref() != Some(&wanted) {
                let message =
                    Message { topic: self.topics.phone(&phone.id), payload: payload::phone(phone, snapshot.at) };
                if let Err(full) = self.outbox.put(message) {
                    result = Err(full);
                    continue;
                }
            }
            self.phones.insert(phone.id.clone(), wanted);
        }
        for phone in gone.keys() {
            self.outbox.put(Message { topic: self.topics.phone(phone), payload: Vec::new() })?;
        }
        result
    }

    /// What the broker has kept of a phone since an earlier run of the daemon: emptied, unless the phone is here now.
    ///
    /// # Errors
    /// There is no room for one more topic.
    pub fn found(&mut self, topic: String) -> Result<(), OutboxFull> {
        if self.outbox.knows(&topic) {
            return Ok(());
        }
        self.outbox.put(Message { topic, payload: Vec::new() })
    }

    /// A connection began on which the broker remembers nothing.
    pub fn reconnected(&mut self) {
        self.outbox.reconnected();
    }

    /// Somebody came who may have missed everything: Home Assistant has started.
    pub fn resend(&mut self) {
        self.outbox.resend();
    }

    /// Whether [`Self::next_message`] has something.
    #[must_use]
    pub fn has_next(&self) -> bool {
        self.outbox.has_next()
    }

    /// The next message to send; tell what became of it by [`Self::settle`].
    pub fn next_message(&mut self) -> Option<(Ticket, Message)> {
        self.outbox.next_message()
    }

    /// Tells what became of a message.
    pub fn settle(&mut self, ticket: &Ticket, fate: Fate) {
        self.outbox.settle(ticket, fate);
    }
}

#[cfg(test)]
#[path = "board_tests.rs"]
mod tests;
