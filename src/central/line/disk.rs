//! The way of one line to the outbox that all lines share.

use std::future::pending;

use tokio::sync::mpsc;

use crate::store::outbox::{Answer, Outbox, Reply, Request};

/// Answers that may wait for the line: it has one write, one load and one restoring under way.
const ANSWERS_MAX: usize = 8;

/// Where a line stores what the centre cannot take.
#[derive(Clone, Debug)]
pub struct Storage {
    /// The outbox.
    pub outbox: Outbox,
    /// Stored notices of one phone that go to the centre in a second, at most.
    pub per_second: u32,
}

/// One line's end of it.
pub(super) struct Disk {
    outbox: Option<Outbox>,
    to: mpsc::Sender<Reply>,
    answers: mpsc::Receiver<Reply>,
}

impl Disk {
    pub(super) fn new(storage: Option<Storage>) -> Self {
        let (to, answers) = mpsc::channel(ANSWERS_MAX);
        Self { outbox: storage.map(|storage| storage.outbox), to, answers }
    }

    /// Waits only while very much waits for the disk; the answer comes by [`Self::answer`].
    pub(super) async fn ask(&self, request: Request) {
        if let Some(outbox) = &self.outbox {
            outbox.ask(request, self.to.clone()).await;
        }
    }

    /// The next answer, and whose notices it is about. Cancel-safe.
    pub(super) async fn answer(&mut self) -> (String, Answer) {
        match self.answers.recv().await {
            Some(reply) => *reply,
            None => pending().await,
        }
    }
}
