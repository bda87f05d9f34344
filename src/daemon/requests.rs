//! What operators ask: checked against the model, carried out, answered once it is known what came of it.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::rack::event::HubEvent;
use crate::rack::ids::{HubName, HubPort};
use crate::rack::request::{Done, Refusal, Request};
use crate::rack::snapshot::PortMode;
use crate::rack::{Event, Rack};

/// A request, and whoever waits for its answer.
pub(super) type Ask = (Request, oneshot::Sender<Result<Done, Refusal>>);

/// How long a hub has to confirm a port's new mode: some polls of it.
const CONFIRM_MAX: Duration = Duration::from_secs(8);
/// Port orders that wait for their confirmation; one more is refused.
const WAITING_MAX: usize = 64;

/// The requests under way.
pub(super) struct Asked {
    rollouts: mpsc::Sender<Ask>,
    ports: Vec<PortOrder>,
}

struct PortOrder {
    hub: HubName,
    port: HubPort,
    mode: PortMode,
    until: Instant,
    answer: oneshot::Sender<Result<Done, Refusal>>,
}

impl Asked {
    pub(super) fn new(rollouts: mpsc::Sender<Ask>) -> Self {
        Self { rollouts, ports: Vec::new() }
    }

    /// The event that carries a request out, if it makes sense now and is the model's to carry out.
    pub(super) fn take_in(&mut self, (request, answer): Ask, rack: &Rack) -> Option<Event> {
        let Request::SetPort { hub, port, mode } = request else {
            if let Err(error) = self.rollouts.try_send((request, answer)) {
                let (_, answer) = error.into_inner();
                refuse(
                    answer,
                    "rollout.busy",
                    "the rollouts' queue is full or has ended",
                    Some("try again; see the log"),
                );
            }
            return None;
        };
        if let Err(refusal) = rack.check_port(&hub, port) {
            // Whoever asked may have hung up.
            let _ = answer.send(Err(refusal));
            return None;
        }
        if self.ports.len() >= WAITING_MAX {
            refuse(answer, "hub.busy", "too many port orders wait for their hub", Some("try again in some seconds"));
            return None;
        }
        self.ports.push(PortOrder { hub: hub.clone(), port, mode, until: Instant::now() + CONFIRM_MAX, answer });
        Some(Event::SetPort { hub, port, mode })
    }

    /// Answers those whose order this event confirms or refuses.
    pub(super) fn answer(&mut self, event: &Event) {
        let Event::Hub { hub, event } = event else { return };
        let (port, result) = match event {
            HubEvent::PortSet { port, mode } => (*port, Ok(*mode)),
            HubEvent::PortRefused { port, why } => (*port, Err(why.clone())),
            HubEvent::Reading(_) | HubEvent::Stale { .. } => return,
        };
        let is_meant = |order: &mut PortOrder| {
            order.hub == *hub && order.port == port && result.as_ref().map_or(true, |mode| *mode == order.mode)
        };
        for order in self.ports.extract_if(.., is_meant) {
            let told = match &result {
                Ok(mode) => Ok(Done { what: format!("hub {hub} port {port} is {}", mode.as_str()), rollout: None }),
                Err(why) => Err(Refusal {
                    code: "hub.refused".to_owned(),
                    what: format!("hub {hub} did not switch port {port}: {why}"),
                    help: None,
                }),
            };
            let _ = order.answer.send(told);
        }
    }

    /// Tells those who waited too long.
    pub(super) fn give_up_on_old(&mut self) {
        let now = Instant::now();
        for order in self.ports.extract_if(.., |order| order.until <= now) {
            let what =
                format!("hub {} has not confirmed port {} in {} s", order.hub, order.port, CONFIRM_MAX.as_secs());
            refuse(order.answer, "hub.silent", &what, Some("see `farmhand hubs`"));
        }
    }
}

fn refuse(answer: oneshot::Sender<Result<Done, Refusal>>, code: &str, what: &str, help: Option<&str>) {
    let refusal = Refusal { code: code.to_owned(), what: what.to_owned(), help: help.map(str::to_owned) };
    // Whoever asked may have hung up.
    let _ = answer.send(Err(refusal));
}
