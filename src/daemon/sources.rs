//! Sources on their way to the model: each speaks its own words, and here they become events.

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::rack::Event;
use crate::rack::event::HubEvent;
use crate::rack::ids::{Endpoint, HubName};
use crate::usb::{BusEvent, Handset};

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
                let Some(event) = event else { return };
                for event in seen(event) {
                    if events.send(event).await.is_err() {
                        return;
                    }
                }
            }
        });
    }
}

fn seen(event: BusEvent) -> Vec<Event> {
    let usb = |handset: &Handset| Event::Usb { endpoint: Endpoint::Usb(handset.path.clone()), usb: handset.view() };
    match event {
        // Opening one that is unopenable fails with the same reason, which then stands with the phone on every surface.
        BusEvent::Arrived(handset) | BusEvent::Openable(handset) | BusEvent::Unopenable { handset, .. } => {
            let view = usb(&handset);
            vec![view, Event::Appeared { endpoint: Endpoint::Usb(handset.path), serial: handset.serial }]
        }
        BusEvent::OtherMode { handset, why } => {
            let view = usb(&handset);
            vec![view, Event::OtherMode { endpoint: Endpoint::Usb(handset.path), serial: handset.serial, why }]
        }
        BusEvent::NotEnumerated { path, why } => vec![Event::NotEnumerated { endpoint: Endpoint::Usb(path), why }],
        BusEvent::Controllers(controllers) => vec![Event::Controllers(controllers)],
        BusEvent::Left { path } => {
            vec![Event::Gone { endpoint: Endpoint::Usb(path), why: "it left the bus".to_owned() }]
        }
    }
}
