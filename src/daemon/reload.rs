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
        let others = changed(&running, &config);
        if !others.is_empty() {
            warn!("{} of the configuration changed, too, and counts from the next start on", others.join(", "));
        }
    }
    // Whoever reads the policy goes on reading it.
    owner.closed().await;
}

/// The sections but the policy in which two configurations differ, as the file calls them.
fn changed(running: &Config, read: &Config) -> Vec<&'static str> {
    let Config { rack_name, slots, hubs, agent, central, policy: _, mqtt, web, adb_server, recovery, rollout, usb } =
        running;
    let sections = [
        ("[rack]", *rack_name != read.rack_name),
        ("[[slot]]", *slots != read.slots),
        ("[[hub]]", *hubs != read.hubs),
        ("[agent]", *agent != read.agent),
        ("[central]", *central != read.central),
        ("[mqtt]", *mqtt != read.mqtt),
        ("[web]", *web != read.web),
        ("[adb_server]", *adb_server != read.adb_server),
        ("[recovery]", *recovery != read.recovery),
        ("[rollout]", *rollout != read.rollout),
        ("[usb]", *usb != read.usb),
    ];
    sections.into_iter().filter(|(_, differs)| *differs).map(|(section, _)| section).collect()
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

    #[test]
    fn what_waits_for_a_restart_is_named() {
        let mut read = Config { rack_name: "another".to_owned(), ..observing() };
        read.web = None;
        read.policy.allowed.clear();
        assert_eq!(changed(&observing(), &read), ["[rack]", "[web]"]);
        assert!(changed(&read, &read).is_empty());
    }
}
