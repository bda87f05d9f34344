//! What operators ask: checked against the model, carried out, answered once it is known what came of it.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::leases::{Orders, Wanted};
use super::{detach, identities};
use crate::config::check_credential;
use crate::rack::detach::DetachEvent;
use crate::rack::event::{HubEvent, RolloutEvent};
use crate::rack::identities::IdentityEvent;
use crate::rack::ids::{HubName, HubPort};
use crate::rack::lease::{HOLD_MAX, LeaseEvent, REASON_MAX};
use crate::rack::request::{Ask, Done, Refusal, Request};
use crate::rack::snapshot::PortMode;
use crate::rack::{Event, Rack};

/// A request, and whoever waits for its answer.
pub(super) type Asking = (Request, Asker);

type Asker = oneshot::Sender<Result<Done, Refusal>>;

/// How long a hub has to confirm a port's new mode: some polls of it.
const CONFIRM_MAX: Duration = Duration::from_secs(8);
/// Port orders that wait for their confirmation, and as many requests to the rollouts; one more is refused.
const WAITING_MAX: usize = 64;

/// Identities that are imported at once: an order's body is bounded, too.
const IMPORT_MAX: usize = 10_000;

/// The requests under way.
pub(super) struct Asked {
    rollouts: mpsc::Sender<(Request, Ask)>,
    leases: Orders,
    identities: mpsc::Sender<(identities::Wanted, Ask)>,
    detachments: mpsc::Sender<(detach::Wanted, Ask)>,
    waiting: BTreeMap<Ask, Waiting>,
    last_ask: u64,
    ports: Vec<PortOrder>,
}

struct Waiting {
    asker: Asker,
    /// Whether the rollouts are to answer, which can break.
    of_rollouts: bool,
}

struct PortOrder {
    hub: HubName,
    port: HubPort,
    mode: PortMode,
    until: Instant,
    answer: Asker,
}

/// What became of an order, for all who gave it.
pub(super) struct Answer {
    asked: Vec<Asker>,
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
    pub(super) fn new(
        rollouts: mpsc::Sender<(Request, Ask)>,
        leases: Orders,
        identities: mpsc::Sender<(identities::Wanted, Ask)>,
        detachments: mpsc::Sender<(detach::Wanted, Ask)>,
    ) -> Self {
        Self { rollouts, leases, identities, detachments, waiting: BTreeMap::new(), last_ask: 0, ports: Vec::new() }
    }

    /// The event that carries a request out, if it makes sense now and is the model's to carry out.
    pub(super) fn take_in(&mut self, (request, answer): Asking, rack: &Rack) -> Option<Event> {
        let (hub, port, mode) = match request {
            Request::SetPort { hub, port, mode } => (hub, port, mode),
            Request::Hold { .. } | Request::Release { .. } => {
                self.ask_for_lease(request, answer, rack);
                return None;
            }
            Request::IdentitySet { .. } | Request::IdentityForget { .. } | Request::IdentitiesImport { .. } => {
                self.ask_for_identity(request, answer, rack);
                return None;
            }
            Request::Detach { .. } | Request::Attach { .. } => {
                self.ask_for_interface(request, answer, rack);
                return None;
            }
            other => {
                self.ask_rollouts(other, answer);
                return None;
            }
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

    fn ask_for_lease(&mut self, request: Request, answer: Asker, rack: &Rack) {
        let busy = ("lease.busy", "too many holds wait for the store");
        self.hand_over(checked(request, rack), answer, busy, |asked, wanted, ask| {
            asked.leases.try_send((wanted, Some(ask))).is_ok()
        });
    }

    fn ask_for_identity(&mut self, request: Request, answer: Asker, rack: &Rack) {
        let busy = ("identity.busy", "too many identities wait for the store");
        self.hand_over(checked_identity(request, rack), answer, busy, |asked, wanted, ask| {
            asked.identities.try_send((wanted, ask)).is_ok()
        });
    }

    fn ask_for_interface(&mut self, request: Request, answer: Asker, rack: &Rack) {
        let busy = ("phone.store_busy", "too many orders wait for the store");
        self.hand_over(checked_interface(request, rack), answer, busy, |asked, wanted, ask| {
            asked.detachments.try_send((wanted, ask)).is_ok()
        });
    }

    fn ask_rollouts(&mut self, request: Request, answer: Asker) {
        let busy = ("rollout.busy", "the rollouts' queue is full or has ended");
        self.hand_over(Ok(request), answer, busy, |asked, request, ask| {
            asked.rollouts.try_send((request, ask)).is_ok()
        });
        if let Some(waiting) = self.waiting.get_mut(&Ask(self.last_ask)) {
            waiting.of_rollouts = true;
        }
    }

    /// Gives what makes sense to whoever keeps it, whose event is the answer.
    fn hand_over<W>(
        &mut self,
        wanted: Result<W, Refusal>,
        answer: Asker,
        (code, what): (&str, &str),
        give: impl FnOnce(&Self, W, Ask) -> bool,
    ) {
        let wanted = match wanted {
            Ok(wanted) => wanted,
            Err(refusal) => {
                // Whoever asked may have hung up.
                let _ = answer.send(Err(refusal));
                return;
            }
        };
        // Who has hung up waits for nothing.
        self.waiting.retain(|_, waiting| !waiting.asker.is_closed());
        self.last_ask += 1;
        let ask = Ask(self.last_ask);
        if self.waiting.len() < WAITING_MAX && give(self, wanted, ask) {
            self.waiting.insert(ask, Waiting { asker: answer, of_rollouts: false });
            return;
        }
        refuse(answer, code, what, Some("try again; see `farmhand status` and the log"));
    }

    /// The answer to those whose request this event answers, to be sent once the event has been taken in and is shown.
    pub(super) fn answer_to(&mut self, event: &Event) -> Option<Answer> {
        match event {
            Event::Hub { hub, event } => self.port_answer(hub, event),
            Event::Lease { event, ask: Some(ask) } => {
                let asked = vec![self.waiting.remove(ask)?.asker];
                Some(Answer { asked, told: told_of(event) })
            }
            Event::Detach { event, ask: Some(ask) } => {
                let asked = vec![self.waiting.remove(ask)?.asker];
                Some(Answer { asked, told: told_of_interface(event) })
            }
            Event::Identity { event, ask: Some(ask) } => {
                let asked = vec![self.waiting.remove(ask)?.asker];
                Some(Answer { asked, told: told_of_identity(event) })
            }
            Event::Rollout(RolloutEvent::Answer { ask, result }) => {
                let asked = vec![self.waiting.remove(ask)?.asker];
                Some(Answer { asked, told: result.clone() })
            }
            Event::Rollout(RolloutEvent::Restarted) => {
                let broken = self.waiting.extract_if(.., |_, waiting| waiting.of_rollouts);
                let asked = broken.map(|(_, waiting)| waiting.asker).collect();
                let told = Err(Refusal {
                    code: "rollout.restarted".to_owned(),
                    what: "the rollouts broke and began anew: this may have been carried out or not".to_owned(),
                    help: Some("see `farmhand rollout list`, and the log for what broke".to_owned()),
                });
                Some(Answer { asked, told })
            }
            _ => None,
        }
    }

    fn port_answer(&mut self, hub: &HubName, event: &HubEvent) -> Option<Answer> {
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
            Ok(mode) => Ok(Done { what: format!("hub {hub} port {port} is {}", mode.as_str()), ..Done::default() }),
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

/// What a person wants with a phone, if it makes sense now.
fn checked(request: Request, rack: &Rack) -> Result<Wanted, Refusal> {
    let bad = |code: &str, what: String| Err(Refusal { code: code.to_owned(), what, help: None });
    match request {
        Request::Hold { seconds, .. } if seconds == 0 || seconds > HOLD_MAX.as_secs() => {
            bad("lease.time", format!("a hold lasts from 1 s to {} days", HOLD_MAX.as_secs() / 86_400))
        }
        Request::Hold { reason, .. } if reason.trim().is_empty() || reason.len() > REASON_MAX => {
            bad("lease.reason", format!("a reason has 1 to {REASON_MAX} bytes: others read it"))
        }
        Request::Hold { phone, seconds, reason, who } => {
            let phone = rack.check_hold(&phone, &who)?;
            Ok(Wanted::Hold { phone, who, reason, lasts: Duration::from_secs(seconds) })
        }
        Request::Release { phone, who } => Ok(Wanted::Release { phone: rack.check_release(&phone)?, who }),
        other => bad("request.malformed", format!("{other:?} is no request for a phone")),
    }
}

/// What a person wants with a phone's interface, if it makes sense now.
fn checked_interface(request: Request, rack: &Rack) -> Result<detach::Wanted, Refusal> {
    let (who, interface, change) = match request {
        Request::Detach { phone, who } => {
            let interface = rack.check_detach(&phone, &who)?;
            (who, interface, detach::Change::Detach)
        }
        Request::Attach { phone, who } => (who, rack.check_attach(&phone)?, detach::Change::Attach),
        other => {
            let what = format!("{other:?} is no request for an interface");
            return Err(Refusal { code: "request.malformed".to_owned(), what, help: None });
        }
    };
    Ok(detach::Wanted { who, interface, change })
}

/// What a person wants phones to be, if it makes sense now.
fn checked_identity(request: Request, rack: &Rack) -> Result<identities::Wanted, Refusal> {
    let bad = |what: String| Refusal { code: "identity.credential".to_owned(), what, help: None };
    let (who, change) = match request {
        Request::IdentitySet { phone, credential, who } => {
            check_credential(&credential).map_err(bad)?;
            let phone = rack.check_phone(&phone)?;
            (who, identities::Change::Set(BTreeMap::from([(phone.to_string(), credential)])))
        }
        Request::IdentityForget { phone, who } => (who, identities::Change::Forget(rack.check_identity(&phone)?)),
        Request::IdentitiesImport { phones, who } => {
            if phones.is_empty() || phones.len() > IMPORT_MAX {
                return Err(bad(format!("{} phones cannot be imported at once, only 1 to {IMPORT_MAX}", phones.len())));
            }
            phones.values().try_for_each(|credential| check_credential(credential)).map_err(bad)?;
            (who, identities::Change::Set(phones))
        }
        other => return Err(bad(format!("{other:?} sets no identity"))),
    };
    if let identities::Change::Set(entries) = &change {
        rack.check_identities(entries)?;
    }
    Ok(identities::Wanted { who, change })
}

fn told_of_identity(event: &IdentityEvent) -> Result<Done, Refusal> {
    let what = match event {
        IdentityEvent::Set(entries) => match entries.first_key_value() {
            Some((name, _)) if entries.len() == 1 => format!("the identity of {name} is set"),
            _ => format!("the identities of {} phones are set", entries.len()),
        },
        IdentityEvent::Forgotten { phone } => format!("what was set for {phone} no longer counts"),
        IdentityEvent::NotKept { why } => {
            let help = Some("nothing has changed; look for room in the state directory".to_owned());
            return Err(Refusal { code: "identity.store".to_owned(), what: why.clone(), help });
        }
    };
    Ok(Done { what, ..Done::default() })
}

fn told_of_interface(event: &DetachEvent) -> Result<Done, Refusal> {
    let what = match event {
        DetachEvent::Detached(detachment) => {
            format!("{} is free for another program until it is attached again", detachment.endpoint)
        }
        DetachEvent::Attached { endpoint, .. } => format!("{endpoint} is farmhand's again"),
        DetachEvent::NotKept { why } => {
            let help = Some("nothing has changed; look for room in the state directory".to_owned());
            return Err(Refusal { code: "phone.store".to_owned(), what: why.clone(), help });
        }
    };
    Ok(Done { what, ..Done::default() })
}

fn told_of(event: &LeaseEvent) -> Result<Done, Refusal> {
    let what = match event {
        LeaseEvent::Taken(lease) => format!("{}: {}", lease.phone, lease.sentence()),
        LeaseEvent::Ended { phone, .. } => format!("{phone} is given back"),
        LeaseEvent::NotKept { why } => {
            let help = Some("nothing has changed; look for room in the state directory".to_owned());
            return Err(Refusal { code: "lease.store".to_owned(), what: why.clone(), help });
        }
    };
    Ok(Done { what, ..Done::default() })
}

fn refuse(answer: Asker, code: &str, what: &str, help: Option<&str>) {
    let refusal = Refusal { code: code.to_owned(), what: what.to_owned(), help: help.map(str::to_owned) };
    // Whoever asked may have hung up.
    let _ = answer.send(Err(refusal));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rack::ids::RolloutId;

    fn ask(asked: &mut Asked, rack: &Rack) -> oneshot::Receiver<Result<Done, Refusal>> {
        let (asker, answer) = oneshot::channel();
        let request = Request::RolloutPause { rollout: RolloutId::new("R1") };
        assert_eq!(asked.take_in((request, asker), rack), None);
        answer
    }

    fn rack() -> Rack {
        Rack::new((&crate::config::observing()).into(), crate::clock::UnixMillis(0), crate::clock::Moment::START)
    }

    #[test]
    fn an_answer_of_the_rollouts_waits_for_whoever_asked_until_its_event_is_taken_in() {
        let (rollouts, mut inbox) = mpsc::channel(4);
        let (mut asked, rack) =
            (Asked::new(rollouts, mpsc::channel(1).0, mpsc::channel(1).0, mpsc::channel(1).0), rack());
        let mut answer = ask(&mut asked, &rack);
        let (_, ask) = inbox.try_recv().unwrap();
        let done = Done { what: "R1 is paused".to_owned(), ..Done::default() };
        let event = Event::Rollout(RolloutEvent::Answer { ask, result: Ok(done.clone()) });
        let told = asked.answer_to(&event).unwrap();
        assert!(answer.try_recv().is_err(), "not before it is shown");
        told.send();
        assert_eq!(answer.try_recv().unwrap(), Ok(done));
        assert!(asked.answer_to(&event).is_none(), "once");
    }

    #[test]
    fn whoever_asked_rollouts_that_broke_is_told_so() {
        let (rollouts, _inbox) = mpsc::channel(4);
        let (mut asked, rack) =
            (Asked::new(rollouts, mpsc::channel(1).0, mpsc::channel(1).0, mpsc::channel(1).0), rack());
        let mut answer = ask(&mut asked, &rack);
        let (identities, _kept) = mpsc::channel(1);
        asked.identities = identities;
        let (asker, mut of_another) = oneshot::channel();
        let phones = BTreeMap::from([("A1".to_owned(), "860000000000001".to_owned())]);
        let import = Request::IdentitiesImport { phones, who: "ann".to_owned() };
        assert_eq!(asked.take_in((import, asker), &rack), None);
        asked.answer_to(&Event::Rollout(RolloutEvent::Restarted)).unwrap().send();
        assert_eq!(answer.try_recv().unwrap().unwrap_err().code, "rollout.restarted");
        assert!(
            of_another.try_recv().is_err_and(|why| why == oneshot::error::TryRecvError::Empty),
            "its keeper is well"
        );
    }
}
