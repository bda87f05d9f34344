//! The demo's MQTT broker: crate `mqtt5`, in this process.

use std::net::SocketAddr;
use std::time::Duration;

use mqtt5::broker::{BrokerConfig, MqttBroker};
use tokio::task::JoinHandle;

/// A running broker; it ends when it is dropped.
pub struct Broker {
    address: SocketAddr,
    task: JoinHandle<()>,
}

/// Retained messages are small; more than this is a mistake of the sender. Without a limit that it knows, the crate refuses the
/// v5 clients of Python's paho.
const PACKET_BYTES_MAX: usize = 1 << 20;
const START_TIMEOUT: Duration = Duration::from_secs(5);

/// Why there is no broker.
#[derive(Debug, thiserror::Error)]
#[error("the MQTT broker could not be started on {listen}: {why}")]
pub struct BrokerError {
    listen: SocketAddr,
    why: String,
}

impl Broker {
    /// Starts a broker that takes anybody and keeps nothing on disk.
    ///
    /// # Errors
    ///
    /// The address is taken.
    pub async fn start(listen: SocketAddr) -> Result<Self, BrokerError> {
        let failed = |why: String| BrokerError { listen, why };
        let mut config = BrokerConfig::new()
            .with_bind_address(listen)
            .with_max_packet_size(PACKET_BYTES_MAX)
            .with_sys_topics_enabled(false);
        config.auth_config.allow_anonymous = true;
        config.storage_config.enable_persistence = false;
        let mut broker = MqttBroker::with_config(config).await.map_err(|error| failed(error.to_string()))?;
        let address = broker.local_addr().ok_or_else(|| failed("it has no address".to_owned()))?;
        let mut ready = broker.ready_receiver();
        let task = tokio::spawn(async move {
            if let Err(error) = broker.run().await {
                tracing::warn!(%error, "the MQTT broker ended");
            }
        });
        match tokio::time::timeout(START_TIMEOUT, ready.wait_for(|ready| *ready)).await {
            Ok(Ok(_)) => Ok(Self { address, task }),
            _ => Err(failed("it did not become ready".to_owned())),
        }
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.task.abort();
    }
}
