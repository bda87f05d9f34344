//! The bus: cables, power, and what the host sees of both.

use std::time::Duration;

use farmhand::rack::Event;

use super::input::{Input, Said};
use super::{World, endpoint};

impl World {
    /// Puts a handset's cable into a place, or into none if another is there.
    pub(super) fn plug(&mut self, phone: usize, place: usize) {
        let taken = self.handsets.iter().any(|other| other.number != phone && other.plugged == Some(place));
        if !taken {
            self.handsets[phone].plugged = Some(place);
            self.look_at_bus(phone);
        }
    }

    pub(super) fn unplug(&mut self, phone: usize) {
        self.handsets[phone].plugged = None;
        self.look_at_bus(phone);
    }

    /// The kernel sees what has changed: cable, power or restart.
    pub(super) fn look_at_bus(&mut self, phone: usize) {
        let now = self.stage.now;
        let handset = &mut self.handsets[phone];
        let seen = handset.plugged.filter(|place| self.hub.feeds(*place) && handset.is_up(now));
        if seen == handset.on_bus {
            return;
        }
        if let Some(place) = handset.on_bus.take() {
            handset.left_bus = now;
            self.left_bus(place);
        }
        if let Some(place) = seen {
            self.handsets[phone].on_bus = Some(place);
            self.tell_appeared(phone, place);
        }
    }

    /// Whoever had the handset in this place has let it go: the bus sees that with its next look.
    pub(super) fn let_go(&mut self, place: usize) {
        if let Some(phone) = self.handset_at(place).map(|handset| handset.number) {
            self.tell_appeared(phone, place);
        }
    }

    /// The actor's transfers fail, and the bus tells; either may be first.
    fn left_bus(&mut self, place: usize) {
        if let Some(link) = self.daemon.as_ref().and_then(|daemon| daemon.actors[place].link()) {
            let pause = self.stage.chance.millis(0, 60);
            self.stage.after(pause, Input::Cut { place, link });
        }
        let event = Event::Gone { endpoint: endpoint(place), why: "it was unplugged".to_owned() };
        self.tell_model_after(Duration::from_millis(30), event);
    }

    pub(super) fn cut(&mut self, place: usize, link: u32) {
        let Some(actor) = self.daemon.as_mut().map(|daemon| &mut daemon.actors[place]) else { return };
        if actor.link() == Some(link) {
            actor.cut(self.stage.now);
            self.flush_actor(place);
        }
    }

    /// Bytes of a handset reach whoever holds the place now: what an earlier connection left in the pipe, too.
    pub(super) fn phone_said(&mut self, place: usize, link: u32, said: Said) {
        let stale_reaches = self.temper.stale_bytes;
        let Some(actor) = self.daemon.as_mut().map(|daemon| &mut daemon.actors[place]) else { return };
        if actor.link().is_some_and(|current| current == link || stale_reaches) {
            actor.receive(self.stage.now, said);
            self.flush_actor(place);
        }
    }
}
