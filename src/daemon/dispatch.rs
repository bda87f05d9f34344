//! Commands of the model to the actors that carry them out: one mailbox an actor, never waited for.
//!
//! A full mailbox means a stuck actor: it is cancelled. A new one takes the place of a phone's actor at once, and the model's deadlines see
//! to the rest; that of a line is told to the model, which opens the line again after a pause. What the rollouts cannot take now waits in
//! the [`Backlog`]; of the power cycles' ledgers only the newest waits.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::backlog::Backlog;
use super::keeper::Numbered;
use super::leases;
use crate::central::line::{self, LineSettings};
use crate::phone;
use crate::phone::actor::{self, ActorContext};
use crate::power::hub::PortOrder;
use crate::rack::event::{LineCommand, LineEvent};
use crate::rack::ids::{Endpoint, HubName, PhoneId, Serial};
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
    pub(super) power: watch::Sender<Numbered>,
    pub(super) twins: watch::Sender<BTreeSet<Serial>>,
    pub(super) holds: leases::Orders,
    pub(super) rollouts: Backlog,
}

impl Dispatch {
    /// Puts a command in its actor's mailbox; what the model must hear if that cannot be done.
    pub(super) fn send(&mut self, command: Command) -> Option<Event> {
        match command {
            Command::Phone { endpoint, command } => self.phones.send(&endpoint, command),
            Command::Line { phone, command } => return self.lines.as_mut()?.send(&phone, command),
            Command::SetPort { hub, port, mode } => {
                let sent = self.hubs.get(&hub).map(|orders| orders.try_send(PortOrder { port, mode }));
                if !matches!(sent, Some(Ok(()))) {
                    warn!("hub {hub}: the order for port {port} was dropped: its driver takes no more");
                }
            }
            Command::PromisePower { number, ledger } => drop(self.power.send_replace((number, ledger))),
            Command::PromiseTwins(serial) => {
                self.twins.send_if_modified(|known| known.insert(serial));
            }
            Command::HoldIsOver(lease) => leases::is_over(&self.holds, lease),
            Command::Rollout(command) => return self.rollouts.send(command),
        }
        None
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

    fn send(&mut self, phone: &PhoneId, command: LineCommand) -> Option<Event> {
        let mailbox = self.running.entry(phone.clone()).or_insert_with(|| {
            let (commands, inbox) = mpsc::channel(LINE_MAILBOX);
            let cancel = self.cancel.child_token();
            let events = relabel(self.events.clone(), phone.clone());
            line::spawn(self.settings.clone(), phone.clone(), inbox, events, cancel.clone());
            Mailbox { commands, cancel }
        });
        let why = mailbox.commands.try_send(command).err()?;
        error!("line of {phone}: its actor is stuck ({why}) and is ended");
        if let Some(stuck) = self.running.remove(phone) {
            stuck.cancel.cancel();
        }
        let why = match why {
            mpsc::error::TrySendError::Full(_) => format!("{LINE_MAILBOX} orders waited for it"),
            mpsc::error::TrySendError::Closed(_) => "it had ended".to_owned(),
        };
        Some(Event::Line { phone: phone.clone(), event: LineEvent::Stuck { why } })
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::adb::online::OnlinePhones;
    use crate::central::line::{Agents, Server};
    use crate::central::pace::Speakers;
    use crate::central::session::Settings;
    use crate::config::{Ack, AgentPort};
    use crate::rack::event::Presence;
    use crate::store::{StateDir, Store};

    #[tokio::test]
    async fn a_line_that_takes_no_more_orders_is_ended_and_the_model_hears_of_it() {
        let session = Settings::new(Duration::from_secs(60));
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(&StateDir::lock(dir.path()).unwrap()).unwrap();
        let (_owner, policy) = watch::channel(Arc::default());
        let servers = vec![Server::bare("127.0.0.1:9")];
        let agents = Agents { online: OnlinePhones::default(), port: AgentPort::default() };
        let (ack, speakers) = (Ack::default(), Speakers::default());
        let started = tokio::time::Instant::now();
        let settings = LineSettings {
            started,
            servers,
            max_frame: 1 << 20,
            session,
            policy,
            store,
            ack,
            agents,
            speakers,
            storage: None,
        };
        let (events, _inbox) = mpsc::channel(8);
        let mut lines = Lines::new(settings, events, CancellationToken::new());
        let (phone, order) = (PhoneId::new("P1"), LineCommand::Presence(Presence::Answered));
        // On this thread the actor runs only once this test waits.
        for _ in 0..LINE_MAILBOX {
            assert_eq!(lines.send(&phone, order.clone()), None);
        }
        let why = format!("{LINE_MAILBOX} orders waited for it");
        let stuck = Event::Line { phone: phone.clone(), event: LineEvent::Stuck { why } };
        assert_eq!(lines.send(&phone, order.clone()), Some(stuck));
        assert_eq!(lines.send(&phone, order), None, "a new actor takes it");
    }
}
