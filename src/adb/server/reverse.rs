//! Tunnels from a phone to this host (`adb reverse`): only what a client asked for is connected.

use tokio::sync::OwnedSemaphorePermit;
use tracing::{debug, warn};

use super::keeper::Keeper;
use super::socket::HostAddress;
use super::splice::splice;
use super::uses::Family;
use crate::adb::driver::{Adb, Incoming};
use crate::rack::ids::PhoneId;

/// The address on this host that a service has the phone connect to; none if it makes no tunnel.
pub(super) fn host_address(service: &str) -> Result<Option<(HostAddress, String)>, String> {
    let Some(pair) = service.strip_prefix("reverse:forward:") else { return Ok(None) };
    let pair = pair.strip_prefix("norebind:").unwrap_or(pair);
    // What is no pair the phone refuses in its own words.
    let Some((_, local)) = pair.split_once(';') else { return Ok(None) };
    HostAddress::parse(local).map(|address| Some((address, local.to_owned())))
}

/// A tunnel that may be used.
pub(super) struct Tunnel {
    pub(super) incoming: Incoming,
    pub(super) address: HostAddress,
    pub(super) adb: Adb,
    pub(super) phone: PhoneId,
    pub(super) who: String,
    pub(super) keeper: Keeper,
    /// Gives its place to another tunnel when it ends.
    pub(super) _permit: OwnedSemaphorePermit,
}

impl Tunnel {
    /// Connects what the phone opens, until its connection ends or another tunnel to the same address takes over.
    pub(super) async fn run(mut self) {
        let mut connections = tokio::task::JoinSet::new();
        loop {
            let stream = tokio::select! {
                stream = self.incoming.next() => stream,
                Some(_) = connections.join_next() => continue,
            };
            let Some(stream) = stream else { break };
            let (address, piece_max) = (self.address.clone(), self.adb.piece_max());
            let (keeper, phone, who) = (self.keeper.clone(), self.phone.clone(), self.who.clone());
            connections.spawn(async move {
                let tally = match keeper.begin(&phone, &who, Family::of("reverse:")).await {
                    Ok(tally) => tally,
                    Err(why) => return warn!("a connection from {phone} is not let in: {why}"),
                };
                match address.connect().await {
                    Ok((reader, writer)) => splice(reader, writer, stream, piece_max, &tally).await,
                    Err(error) => debug!("a tunnel to {address:?} leads nowhere: {error}"),
                }
            });
        }
        // A later tunnel has the next connections; these go on.
        while connections.join_next().await.is_some() {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_tunnel_names_an_address_of_this_host() {
        let scrcpy = "reverse:forward:localabstract:scrcpy;tcp:27183";
        assert_eq!(host_address(scrcpy), Ok(Some((HostAddress::Tcp(27183), "tcp:27183".to_owned()))));
        let kept = "reverse:forward:norebind:tcp:1;localabstract:x";
        assert_eq!(host_address(kept).unwrap().unwrap().0, HostAddress::Abstract("x".to_owned()));
        for service in ["reverse:list-forward", "reverse:killforward:tcp:1", "shell:x;tcp:1", "reverse:forward:tcp:1"] {
            assert_eq!(host_address(service), Ok(None), "{service}");
        }
        assert!(host_address("reverse:forward:tcp:1;tcp:10.0.0.1:80").is_err());
        assert!(host_address("reverse:forward:tcp:1;localfilesystem:/run/x").is_err());
    }
}
