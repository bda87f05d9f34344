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

/// What became of an order, for all who gave it.
pub(super) struct Answer {
    asked: Vec<oneshot::Sender<Result<Done, Refusal>>>,
    told: Result<Done, Refusal>,
}

impl Answer {
    /// Sends it. Whoever asked may have hung up.
    pub(super) fn send(self) {
        for asked in self.asked {
            let _ = asked.send(self.told.clone());
        }
    }
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

    /// The answer to those whose order this event confirms or refuses, to be sent once the event has been taken in.
    pub(super) fn answer_to(&mut self, event: &Event) -> Option<Answer> {
        let Event::Hub { hub, event } = event else { return None };
        let (port, result) = match event {
            HubEvent::PortSet { port, mode } => (*port, Ok(*mode)),
            HubEvent::PortRefused { port, why } => (*port, Err(why.clone())),
            HubEvent::Reading(_) | HubEvent::Stale { .. } => return None,
        };
        let is_meant = |order: &mut PortOrder| {
            order.hub == *hub && order.port == port && result.as_ref().map_or(true, |mode| *mode == order.mode)
        };
        let asked: Vec<_> = self.ports.extract_if(.., is_meant).map(|order| order.answer).collect();
        let told = match result {
            Ok(mode) => Ok(Done { what: format!("hub {hub} port {port} is {}", mode.as_str()), rollout: None }),
            Err(why) => Err(Refusal {
                code: "hub.refused".to_owned(),
                what: format!("hub {hub} did not switch port {port}: {why}"),
                help: None,
            }),
        };
        (!asked.is_empty()).then_some(Answer { asked, told })
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
