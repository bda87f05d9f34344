//! Which host is let in.

use std::sync::Arc;
use std::time::Duration;

use super::Connection;
use crate::auth::{AndroidPublicKey, Authorisation, KeyStore, TOKEN_BYTES, UnknownKey};
use crate::wire::{Command, Message};

/// First arguments of AUTH.
mod kind {
    pub(super) const TOKEN: u32 = 1;
    pub(super) const SIGNATURE: u32 = 2;
    pub(super) const RSA_PUBLIC_KEY: u32 = 3;
}

/// How far the two have come.
pub(super) enum Phase {
    /// Nothing came yet.
    Silent,
    /// The host must sign this.
    Authorising { keys: Arc<KeyStore>, token: [u8; TOKEN_BYTES] },
    /// The question is on the screen; with `answered_at` the user will allow it.
    Asking { keys: Arc<KeyStore>, key: AndroidPublicKey, answered_at: Option<Duration> },
    /// The host may open streams.
    Online,
    /// The host wants TLS (STLS), which this phone leaves out: a handshake that fails ends the connection.
    Greeted,
}

impl Connection {
    /// When [`advance`](Self::advance) is to be called, if ever.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        match &self.phase {
            Phase::Asking { answered_at, .. } => *answered_at,
            _ => None,
        }
    }

    /// The user has allowed the host that asks, if it is time.
    pub(crate) fn advance(&mut self, now: Duration) {
        if let Phase::Asking { keys, key, answered_at: Some(at) } = &self.phase
            && *at <= now
        {
            keys.allow(key.clone());
            self.go_online();
        }
    }

    /// Lets in who has connected, or demands a signature.
    pub(super) fn welcome(&mut self) {
        match &self.authorisation {
            Authorisation::Off => self.go_online(),
            Authorisation::Keys(keys) => self.demand_signature(Arc::clone(keys)),
        }
    }

    fn demand_signature(&mut self, keys: Arc<KeyStore>) {
        let token = self.offer_token();
        self.phase = Phase::Authorising { keys, token };
    }

    fn offer_token(&mut self) -> [u8; TOKEN_BYTES] {
        let token = (self.tokens)();
        self.send(Command::AUTH, kind::TOKEN, 0, token.to_vec());
        token
    }

    pub(super) fn authenticate(&mut self, message: &Message, now: Duration) {
        let keys = match &self.phase {
            Phase::Authorising { keys, .. } | Phase::Asking { keys, .. } => Arc::clone(keys),
            Phase::Silent | Phase::Online if message.arg0 == kind::SIGNATURE => {
                // Nobody asked. adbd knows no key for it, offers a new token, and goes on as before.
                self.offer_token();
                return;
            }
            Phase::Silent | Phase::Online | Phase::Greeted => return,
        };
        match message.arg0 {
            kind::SIGNATURE => {
                let Phase::Authorising { token, .. } = &self.phase else { return };
                if keys.signed_by_one(token, &message.payload) {
                    self.go_online();
                } else {
                    self.demand_signature(keys);
                }
            }
            kind::RSA_PUBLIC_KEY => match AndroidPublicKey::parse(&message.payload) {
                Ok(key) => {
                    let answered_at = match keys.unknown() {
                        UnknownKey::AcceptAfter(delay) => Some(now + delay),
                        UnknownKey::Ignore => None,
                    };
                    self.phase = Phase::Asking { keys, key, answered_at };
                }
                Err(error) => tracing::debug!(%error, "the host's public key was ignored"),
            },
            kind => tracing::debug!(kind, "an AUTH message of no known kind was ignored"),
        }
    }
}
