//! A configuration that was read anew while the daemon runs: the policy counts at once, the rest from the next start on.

use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tracing::{info, warn};

use crate::config::{Config, Policy};

/// Takes over each of `reloads` until there are no more; then keeps what counted last.
pub(super) async fn serve(mut running: Config, mut reloads: mpsc::Receiver<Config>, owner: watch::Sender<Arc<Policy>>) {
    while let Some(config) = reloads.recv().await {
        if config.policy == running.policy {
            info!("the configuration was read again: the policy is as before");
        } else {
            info!("the configuration was read again: its policy counts from now on");
            running.policy = config.policy.clone();
            owner.send_replace(Arc::new(config.policy.clone()));
        }
        if config != running {
            warn!("other sections of the configuration have changed, too: they count from the next start on");
        }
    }
    // Whoever reads the policy goes on reading it.
    owner.closed().await;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{PolicyGroup, observing};

    #[tokio::test]
    async fn a_policy_that_was_read_anew_is_everybodys_at_once() {
        let (owner, mut policy) = watch::channel(Arc::new(Policy::default()));
        let (reloads, inbox) = mpsc::channel(1);
        tokio::spawn(serve(observing(), inbox, owner));
        let mut changed = Config { rack_name: "another".to_owned(), ..observing() };
        reloads.send(changed.clone()).await.unwrap();
        changed.policy.allowed.insert(PolicyGroup::Unknown, crate::config::Allowance::default());
        reloads.send(changed.clone()).await.unwrap();
        policy.changed().await.unwrap();
        assert_eq!(**policy.borrow(), changed.policy);
    }
}
