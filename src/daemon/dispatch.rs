//! Commands of the model to the actors that carry them out: one mailbox an actor, never waited for.
//!
//! A full mailbox means a stuck actor: it is cancelled. A new one takes the place of a phone's actor at once, and the model's deadlines see
//! to the rest; a line gets its new one when the model opens it the next time, after the phone has left or was quarantined.

use std::collections::BTreeMap;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::central::line::{self, LineSettings};
use crate::phone;
use crate::phone::actor::{self, ActorContext};
use crate::power::hub::PortOrder;
use crate::rack::event::{LineCommand, LineEvent, RolloutCommand};
use crate::rack::ids::{Endpoint, HubName, PhoneId};
use crate::rack::{Command, Event};

/// Commands that wait for a phone's actor: a life has at most one of each kind on its way.
const PHONE_MAILBOX: usize = 16;
/// Commands that wait for a line.
const LINE_MAILBOX: usize = 32;

/// The mailboxes of all actors.
pub(super) struct Dispatch {
    pub(super) phones: Phones,
    pub(super) lines: Option<Lines>,
    pub(super) hubs: BTreeMap<HubName, mpsc::Sender<PortOrder>>,
    pub(super) rollouts: mpsc::Sender<RolloutCommand>,
}

impl Dispatch {
    /// Puts a command in its actor's mailbox.
    pub(super) fn send(&mut self, command: Command) {
        match command {
            Command::Phone { endpoint, command } => self.phones.send(&endpoint, command),
            Command::Line { phone, command } => {
                if let Some(lines) = &mut self.lines {
                    lines.send(&phone, command);
                }
            }
            Command::SetPort { hub, port, mode } => {
                let sent = self.hubs.get(&hub).map(|orders| orders.try_send(PortOrder { port, mode }));
                if !matches!(sent, Some(Ok(()))) {
                    warn!("hub {hub}: the order for port {port} was dropped: its driver takes no more");
                }
            }
            Command::Rollout(command) => {
                if let Err(why) = self.rollouts.try_send(command) {
                    error!("a word for the rollouts was dropped: {why}");
                }
            }
        }
    }
}

/// The actors of the phones, by endpoint.
pub(super) struct Phones {
    context: Arc<ActorContext>,
    cancel: CancellationToken,
    running: BTreeMap<Endpoint, Mailbox<phone::Command>>,
}

struct Mailbox<C> {
    commands: mpsc::Sender<C>,
    cancel: CancellationToken,
}

impl Phones {
    pub(super) fn new(context: Arc<ActorContext>, cancel: CancellationToken) -> Self {
        Self { context, cancel, running: BTreeMap::new() }
    }

    /// Makes sure that the endpoint has an actor: one of a TCP endpoint looks for its phone by itself.
    pub(super) fn watch(&mut self, endpoint: &Endpoint) -> &mpsc::Sender<phone::Command> {
        let mailbox = self.running.entry(endpoint.clone()).or_insert_with(|| {
            let (commands, inbox) = mpsc::channel(PHONE_MAILBOX);
            let cancel = self.cancel.child_token();
            actor::spawn(Arc::clone(&self.context), endpoint.clone(), inbox, cancel.clone());
            Mailbox { commands, cancel }
        });
        &mailbox.commands
    }

    fn send(&mut self, endpoint: &Endpoint, command: phone::Command) {
        if let Err(why) = self.watch(endpoint).try_send(command) {
            error!("{endpoint}: its actor is stuck ({why}); a new one takes its place");
            if let Some(stuck) = self.running.remove(endpoint) {
                stuck.cancel.cancel();
            }
            self.watch(endpoint);
        }
    }
}

/// The lines to the central server, by phone.
pub(super) struct Lines {
    settings: LineSettings,
    events: mpsc::Sender<Event>,
    cancel: CancellationToken,
    running: BTreeMap<PhoneId, Mailbox<LineCommand>>,
}

impl Lines {
    pub(super) fn new(settings: LineSettings, events: mpsc::Sender<Event>, cancel: CancellationToken) -> Self {
        Self { settings, events, cancel, running: BTreeMap::new() }
    }

    fn send(&mut self, phone: &PhoneId, command: LineCommand) {
        let mailbox = self.running.entry(phone.clone()).or_insert_with(|| {
            let (commands, inbox) = mpsc::channel(LINE_MAILBOX);
            let cancel = self.cancel.child_token();
            let events = relabel(self.events.clone(), phone.clone());
            line::spawn(self.settings.clone(), phone.clone(), inbox, events, cancel.clone());
            Mailbox { commands, cancel }
        });
        if let Err(why) = mailbox.commands.try_send(command) {
            error!(
                "line of {phone}: its actor is stuck ({why}); a new one opens it once the phone has left and come back"
            );
            if let Some(stuck) = self.running.remove(phone) {
                stuck.cancel.cancel();
            }
        }
    }
}

/// A channel whose events reach the model with the phone's name on them.
fn relabel(events: mpsc::Sender<Event>, phone: PhoneId) -> mpsc::Sender<LineEvent> {
    let (sender, mut receiver) = mpsc::channel(LINE_MAILBOX);
    tokio::spawn(async move {
        while let Some(event) = receiver.recv().await {
            if events.send(Event::Line { phone: phone.clone(), event }).await.is_err() {
                return;
            }
        }
    });
    sender
}
