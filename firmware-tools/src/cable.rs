//! The cable of one phone: held by a hand at one end and by a hub's port at the other.
//!
//! Invariant: the phone is plugged in exactly while the hand holds it in *and* its port (where it hangs on a hub) is in `sync`.

use std::sync::Arc;

use tokio::sync::Mutex;

use crate::hub::{Load, Mode};
use crate::phone::VirtualPhone;

/// See the module.
pub struct Cable {
    phone: Arc<VirtualPhone>,
    ends: Mutex<Ends>,
}

#[derive(Clone, Copy)]
struct Ends {
    hand: Hand,
    port: Mode,
}

/// What a person does with the plug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hand {
    /// The plug is in.
    In,
    /// The plug is out.
    Out,
}

impl Cable {
    /// A cable that is plugged in, on a port in `sync` or straight on the host.
    #[must_use]
    pub fn new(phone: Arc<VirtualPhone>) -> Self {
        Self { phone, ends: Mutex::new(Ends { hand: Hand::In, port: Mode::Sync }) }
    }

    /// The phone at its end.
    #[must_use]
    pub fn phone(&self) -> &VirtualPhone {
        &self.phone
    }

    /// A person plugs it in or pulls it out.
    ///
    /// # Errors
    ///
    /// The phone's address could not be bound again.
    pub async fn hold(&self, hand: Hand) -> std::io::Result<()> {
        let mut ends = self.ends.lock().await;
        ends.hand = hand;
        self.settle(*ends).await
    }

    /// The hub's port changes its mode.
    ///
    /// # Errors
    ///
    /// The phone's address could not be bound again.
    pub async fn feed(&self, mode: Mode) -> std::io::Result<()> {
        let mut ends = self.ends.lock().await;
        ends.port = mode;
        self.settle(*ends).await
    }

    /// What the hub can measure of it.
    pub async fn load(&self) -> Load {
        match self.ends.lock().await.hand {
            Hand::In => Load::Phone { battery_percent: self.phone.state().battery_percent },
            Hand::Out => Load::Empty,
        }
    }

    async fn settle(&self, ends: Ends) -> std::io::Result<()> {
        let wanted = ends.hand == Hand::In && ends.port == Mode::Sync;
        match (wanted, self.phone.is_plugged()) {
            (true, false) => self.phone.plug().await,
            (false, true) => {
                self.phone.unplug().await;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
