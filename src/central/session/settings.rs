//! What the owner set for all lines.

use std::time::Duration;

use crate::config::{FromCentral, Policy, Warn};

/// A shorter interval would be a flood.
const HEARTBEAT_MIN: Duration = Duration::from_secs(1);

/// What the owner set for all lines.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The servers, `host:port`, in the order in which they are tried: the shell has an address for each. None is as one.
    pub servers: Vec<String>,
    /// Between heartbeats.
    pub heartbeat: Duration,
    /// The longest that a connection may take to be made.
    pub connect_deadline: Duration,
    /// The longest that the answer to `DeviceAuthReq` may take: a server that does not know a device may stay silent.
    pub auth_deadline: Duration,
    /// The longest that [`LineCommand::Presence`] may take after [`LineEvent::HeartbeatDue`].
    pub presence_deadline: Duration,
    /// What the centre may do.
    pub policy: Policy,
    /// Which readings the centre is warned of.
    pub warn: Warn,
    /// What becomes of upgrade notices.
    pub upgrades: FromCentral,
}

impl Settings {
    /// The usual deadlines around this heartbeat interval, and the default policy.
    #[must_use]
    pub fn new(heartbeat: Duration) -> Self {
        Self {
            servers: Vec::new(),
            heartbeat: heartbeat.max(HEARTBEAT_MIN),
            connect_deadline: Duration::from_secs(10),
            auth_deadline: Duration::from_secs(10),
            presence_deadline: Duration::from_secs(15),
            policy: Policy::default(),
            warn: Warn::default(),
            upgrades: FromCentral::default(),
        }
    }
}
