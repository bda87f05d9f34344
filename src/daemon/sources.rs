//! Sources on their way to the model: each speaks its own words, and here they become events.

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{info, warn};

use crate::rack::Event;
use crate::rack::event::HubEvent;
use crate::rack::ids::{Endpoint, HubName};
use crate::usb::BusEvent;

/// Where sources send their events, and what ends them.
pub(super) struct Sources {
    pub(super) events: mpsc::Sender<Event>,
    pub(super) tasks: TaskTracker,
    pub(super) cancel: CancellationToken,
}

impl Sources {
    /// A queue of `capacity` whose values reach the model as events. When the model's queue is full, this one fills.
    pub(super) fn relay<T: Send + 'static>(
        &self,
        capacity: usize,
        event: impl Fn(T) -> Event + Send + 'static,
    ) -> mpsc::Sender<T> {
        let (sender, mut receiver) = mpsc::channel(capacity);
        let (events, cancel) = (self.events.clone(), self.cancel.clone());
        self.tasks.spawn(async move {
            loop {
                let value = tokio::select! {
                    () = cancel.cancelled() => return,
                    value = receiver.recv() => value,
                };
                let Some(value) = value else { return };
                if events.send(event(value)).await.is_err() {
                    return;
                }
            }
        });
        sender
    }

    /// The way to the model for the driver of a hub.
    pub(super) fn hub(&self, hub: HubName) -> mpsc::Sender<HubEvent> {
        self.relay(8, move |event| Event::Hub { hub: hub.clone(), event })
    }

    /// Takes in what happens on the bus.
    pub(super) fn usb(&self, mut bus: mpsc::Receiver<BusEvent>) {
        let (events, cancel) = (self.events.clone(), self.cancel.clone());
        self.tasks.spawn(async move {
            loop {
                let event = tokio::select! {
                    () = cancel.cancelled() => return,
                    event = bus.recv() => event,
                };
                let Some(event) = event.map(arrival) else { return };
                if events.send(event).await.is_err() {
                    return;
                }
            }
        });
    }
}

fn arrival(event: BusEvent) -> Event {
    match event {
        BusEvent::Arrived(handset) => {
            info!("a handset is on USB at {}", handset.path);
            Event::Appeared { endpoint: Endpoint::Usb(handset.path), serial: handset.serial }
        }
        BusEvent::Left { path } => Event::Gone { endpoint: Endpoint::Usb(path), why: "it left the bus".to_owned() },
        BusEvent::Unopenable { handset, why } => {
            warn!("the handset on USB at {} cannot be opened: {why}", handset.path);
            // Opening it fails with the same reason, which then stands with the phone on every surface.
            Event::Appeared { endpoint: Endpoint::Usb(handset.path), serial: handset.serial }
        }
    }
}
