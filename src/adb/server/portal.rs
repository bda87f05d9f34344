//! The device's side of ADB at a slot's port: whichever phone sits in the slot, the port speaks as it would.
//!
//! ```text
//!   adb connect 127.0.0.1:7401 ──messages──▶ Portal ──Order──▶ a stream of the phone's own connection
//!                              ◀──────────         ◀──Happened──
//! ```
//!
//! `delayed_ack` is not offered, so that one message a stream and direction is under way at most.
//!
//! Where keys are demanded, a client must first sign a token with one, as with a phone:
//!
//! ```text
//!   CNXN ──▶ [Challenge: AUTH with a token] ──signature──▶ [Check] ──admit──▶ CNXN
//!                     ▲                                      │
//!                     └──────── another token ───────────────┘     a public key ──▶ [Unknown: nobody answers]
//! ```
//!
//! Invariant: before it is admitted a client opens nothing (`tests`).
//! Invariant: what waits for a client that does not read is one payload a stream (`tests`).
//! Invariant: a stream of the client is answered once, by OKAY or CLSE, and ends once.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::adb::banner::Banner;
use crate::adb::message::{Checksums, Command, Framing, Message, PAYLOAD_MAX, VERSION_CHECKSUM, VERSION_SKIP_CHECKSUM};

/// The most streams of one connection; one more is refused.
pub const STREAMS_MAX: usize = 64;
/// The shortest maximum of a payload that a client may name, in bytes: that of the oldest ADB.
const PAYLOAD_MIN: usize = 4 << 10;
/// How many signatures a client may try: more keys than anybody has.
const SIGNATURES_MAX: u32 = 64;
/// AUTH with a token, a signature or a public key.
const TOKEN: u32 = 1;
const SIGNATURE: u32 = 2;
const PUBLIC_KEY: u32 = 3;

/// What the shell is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Send it to the client.
    Send(Message),
    /// Make a token of chance and give it to [`Portal::challenge`].
    Challenge,
    /// See whose signature of the last token this is: [`Portal::admit`], or else another challenge.
    Check {
        /// The signature.
        signature: Bytes,
    },
    /// The client has no key that is known and offers this one: it is left waiting, as by a phone that nobody looks at.
    Unknown {
        /// Its public key, with the name of its owner.
        key: Bytes,
    },
    /// Open the service on the phone.
    Open {
        /// As which stream.
        stream: u32,
        /// Which.
        service: String,
    },
    /// The client has taken a stream that the phone opened.
    Begin {
        /// Which.
        stream: u32,
    },
    /// Give it to the phone, then tell [`Portal::taken`].
    Give {
        /// On which stream.
        stream: u32,
        /// What.
        bytes: Bytes,
    },
    /// The client has taken what the phone said: the next bytes may come.
    Continue {
        /// On which stream.
        stream: u32,
    },
    /// The client has closed it.
    End {
        /// Which.
        stream: u32,
        /// What the client waits for, as phones answer: its close, closed.
        answer: Option<Message>,
    },
}

/// Why a connection can't go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PortalError {
    /// It has not said who it is.
    #[error("{0:?} came before CNXN")]
    NotConnected(Command),
    /// It says twice who it is, or wants what no slot's port does.
    #[error("{0:?} can't come now")]
    Unexpected(Command),
    /// It speaks no ADB that is known.
    #[error("version {version:#x} with payloads of {payload_max} bytes is none that phones speak")]
    Greeting {
        /// What it said.
        version: u32,
        /// What it said.
        payload_max: u32,
    },
    /// It tries one signature after the other.
    #[error("none of its {SIGNATURES_MAX} keys is known")]
    NotKnown,
    /// It did not wait until its last message was taken.
    #[error("a second message came on stream {0} before the first was taken")]
    Flood(u32),
}

/// One connection of a client.
#[derive(Debug)]
pub struct Portal {
    banner: String,
    /// Those who must show a key, until they have.
    gate: Option<Gate>,
    /// What was agreed on, once it has.
    framing: Option<Framing>,
    streams: BTreeMap<u32, Standing>,
    last: u32,
}

/// A client that is not admitted yet.
#[derive(Clone, Copy, Debug, Default)]
struct Gate {
    /// The version and the maximum of a payload of its CNXN.
    greeting: Option<(u32, u32)>,
    /// It has a token that it has not answered.
    asked: bool,
    signatures: u32,
}

#[derive(Debug)]
enum Standing {
    /// The phone has not answered yet.
    Asked { theirs: u32 },
    /// The client has not answered yet.
    Offered,
    /// Open; `Giving` while the phone has not taken the client's message.
    Open { theirs: u32, upload: Upload },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Upload {
    Free,
    Giving,
}

impl Portal {
    /// A connection to the phone that has said this of itself.
    #[must_use]
    pub fn new(phone: &Banner) -> Self {
        let named = |key: &str, value: &Option<String>| format!("{key}={};", value.as_deref().unwrap_or_default());
        let features = phone.features.iter().map(String::as_str).filter(|feature| *feature != "delayed_ack");
        let banner = format!(
            "device::{}{}{}features={}",
            named("ro.product.name", &phone.product),
            named("ro.product.model", &phone.model),
            named("ro.product.device", &phone.device),
            features.collect::<Vec<_>>().join(",")
        );
        Self { banner, gate: None, framing: None, streams: BTreeMap::new(), last: 0 }
    }

    /// The same, for a client that must show a key first.
    #[must_use]
    pub fn guarded(phone: &Banner) -> Self {
        Self { gate: Some(Gate::default()), ..Self::new(phone) }
    }

    /// Whether the client is let in, and both have agreed on how to speak.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.framing.is_some()
    }

    /// What the decoder needs to know.
    #[must_use]
    pub fn framing(&self) -> Framing {
        self.framing.unwrap_or(Framing::HANDSHAKE)
    }

    /// A message of the client.
    ///
    /// # Errors
    /// Why the connection ends.
    pub fn receive(&mut self, message: Message) -> Result<Option<Order>, PortalError> {
        let (command, arg0, arg1) = (message.header.command, message.header.arg0, message.header.arg1);
        match command {
            Command::Connect => self.greet(arg0, arg1).map(Some),
            Command::Auth => self.authenticate(arg0, message.payload),
            _ if self.framing.is_none() => Err(PortalError::NotConnected(command)),
            Command::Open => Ok(Some(self.open(arg0, &message.payload))),
            Command::Okay => Ok(self.okay(arg0, arg1)),
            Command::Write => self.write(arg0, arg1, message.payload),
            Command::Close => Ok(self.close(arg1)),
            Command::Tls | Command::Sync => Err(PortalError::Unexpected(command)),
        }
    }

    /// The phone has opened the stream.
    pub fn opened(&mut self, stream: u32) -> Option<Order> {
        let Some(Standing::Asked { theirs }) = self.streams.get(&stream) else { return None };
        let theirs = *theirs;
        self.streams.insert(stream, Standing::Open { theirs, upload: Upload::Free });
        Some(self.send(Command::Okay, stream, theirs, Bytes::new()))
    }

    /// The phone has said something; it says more after [`Order::Continue`]. Never longer than the agreed payload.
    pub fn said(&mut self, stream: u32, bytes: Bytes) -> Option<Order> {
        let Some(Standing::Open { theirs, .. }) = self.streams.get(&stream) else { return None };
        Some(self.send(Command::Write, stream, *theirs, bytes))
    }

    /// The phone has taken what was given.
    pub fn taken(&mut self, stream: u32) -> Option<Order> {
        let Some(Standing::Open { theirs, upload }) = self.streams.get_mut(&stream) else { return None };
        *upload = Upload::Free;
        let theirs = *theirs;
        Some(self.send(Command::Okay, stream, theirs, Bytes::new()))
    }

    /// The phone has refused or closed the stream.
    pub fn ended(&mut self, stream: u32) -> Option<Order> {
        match self.streams.remove(&stream)? {
            Standing::Asked { theirs } => Some(self.send(Command::Close, 0, theirs, Bytes::new())),
            Standing::Open { theirs, .. } => Some(self.send(Command::Close, stream, theirs, Bytes::new())),
            Standing::Offered => None,
        }
    }

    /// The phone opens a stream to the client's host; nothing if there is no room.
    pub fn offer(&mut self, service: &str) -> Option<(u32, Order)> {
        if self.framing.is_none() || self.streams.len() >= STREAMS_MAX {
            return None;
        }
        let stream = self.number();
        self.streams.insert(stream, Standing::Offered);
        let payload = Bytes::from(format!("{service}\0"));
        Some((stream, self.send(Command::Open, stream, 0, payload)))
    }

    fn greet(&mut self, version: u32, payload_max: u32) -> Result<Order, PortalError> {
        if self.framing.is_some() {
            return Err(PortalError::Unexpected(Command::Connect));
        }
        let agreed = usize::try_from(payload_max).unwrap_or(PAYLOAD_MAX).min(PAYLOAD_MAX);
        if version < VERSION_CHECKSUM || agreed < PAYLOAD_MIN {
            return Err(PortalError::Greeting { version, payload_max });
        }
        if let Some(gate) = &mut self.gate {
            *gate = Gate { greeting: Some((version, payload_max)), asked: false, signatures: gate.signatures };
            return Ok(Order::Challenge);
        }
        let version = version.min(VERSION_SKIP_CHECKSUM);
        let checksums = if version < VERSION_SKIP_CHECKSUM { Checksums::Verified } else { Checksums::Skipped };
        self.framing = Some(Framing { payload_max: agreed, checksums });
        let payload = Bytes::copy_from_slice(self.banner.as_bytes());
        let length = u32::try_from(agreed).unwrap_or(u32::MAX);
        // The client can't know yet what was agreed, and may look for the sum.
        Ok(Order::Send(Message::new(Command::Connect, version, length, payload, Checksums::Verified)))
    }

    /// A token for the client to sign.
    pub fn challenge(&mut self, token: [u8; 20]) -> Option<Order> {
        let gate = self.gate.as_mut().filter(|gate| gate.greeting.is_some())?;
        gate.asked = true;
        let payload = Bytes::copy_from_slice(&token);
        // What the client takes is not agreed on yet.
        Some(Order::Send(Message::new(Command::Auth, TOKEN, 0, payload, Checksums::Verified)))
    }

    /// The signature is that of a key that is let in.
    pub fn admit(&mut self) -> Option<Order> {
        let (version, payload_max) = self.gate.and_then(|gate| gate.greeting)?;
        self.gate = None;
        self.greet(version, payload_max).ok()
    }

    fn authenticate(&mut self, kind: u32, payload: Bytes) -> Result<Option<Order>, PortalError> {
        let Some(gate) = self.gate.as_mut().filter(|gate| gate.greeting.is_some()) else {
            let early = self.framing.is_none();
            return Err(if early {
                PortalError::NotConnected(Command::Auth)
            } else {
                PortalError::Unexpected(Command::Auth)
            });
        };
        match kind {
            SIGNATURE if gate.signatures >= SIGNATURES_MAX => Err(PortalError::NotKnown),
            SIGNATURE if gate.asked => {
                gate.asked = false;
                gate.signatures += 1;
                Ok(Some(Order::Check { signature: payload }))
            }
            PUBLIC_KEY => Ok(Some(Order::Unknown { key: payload })),
            _ => Err(PortalError::Unexpected(Command::Auth)),
        }
    }

    fn open(&mut self, theirs: u32, payload: &[u8]) -> Order {
        let text = payload.strip_suffix(b"\0").unwrap_or(payload);
        match std::str::from_utf8(text) {
            Ok(service) if theirs != 0 && self.streams.len() < STREAMS_MAX => {
                let stream = self.number();
                self.streams.insert(stream, Standing::Asked { theirs });
                Order::Open { stream, service: service.to_owned() }
            }
            _ => self.send(Command::Close, 0, theirs, Bytes::new()),
        }
    }

    fn okay(&mut self, theirs: u32, stream: u32) -> Option<Order> {
        match self.streams.get_mut(&stream)? {
            known @ Standing::Offered => {
                *known = Standing::Open { theirs, upload: Upload::Free };
                Some(Order::Begin { stream })
            }
            Standing::Open { theirs: known, .. } if *known == theirs => Some(Order::Continue { stream }),
            Standing::Open { .. } | Standing::Asked { .. } => None,
        }
    }

    fn write(&mut self, theirs: u32, stream: u32, bytes: Bytes) -> Result<Option<Order>, PortalError> {
        match self.streams.get_mut(&stream) {
            Some(Standing::Open { theirs: known, upload }) if *known == theirs => {
                if *upload == Upload::Giving {
                    return Err(PortalError::Flood(stream));
                }
                *upload = Upload::Giving;
                Ok(Some(Order::Give { stream, bytes }))
            }
            // It may have been closed meanwhile.
            _ => Ok(None),
        }
    }

    fn close(&mut self, stream: u32) -> Option<Order> {
        let answer = match self.streams.remove(&stream)? {
            Standing::Open { theirs, .. } => Some(self.message(Command::Close, stream, theirs, Bytes::new())),
            Standing::Asked { .. } | Standing::Offered => None,
        };
        Some(Order::End { stream, answer })
    }

    fn send(&self, command: Command, arg0: u32, arg1: u32, payload: Bytes) -> Order {
        Order::Send(self.message(command, arg0, arg1, payload))
    }

    fn message(&self, command: Command, arg0: u32, arg1: u32, payload: Bytes) -> Message {
        Message::new(command, arg0, arg1, payload, self.framing().checksums)
    }

    /// A number that no stream has: 0 stands for none.
    fn number(&mut self) -> u32 {
        loop {
            self.last = self.last.wrapping_add(1);
            if self.last != 0 && !self.streams.contains_key(&self.last) {
                return self.last;
            }
        }
    }
}

/// What the fuzzer calls: messages of any kind, and what happens on streams, in any order.
pub fn fuzz_portal(bytes: &[u8]) {
    fuzz_one(Portal::new(&Banner::default()), bytes);
    fuzz_one(Portal::guarded(&Banner::default()), bytes);
}

fn fuzz_one(mut portal: Portal, bytes: &[u8]) {
    for step in bytes.chunks(4) {
        let [kind, a, b, ..] = *step else { return };
        let (arg0, arg1) = (u32::from(a), u32::from(b));
        let message =
            |command, arg0, arg1| Message::new(command, arg0, arg1, Bytes::copy_from_slice(step), Checksums::Skipped);
        let commands = [Command::Open, Command::Okay, Command::Write, Command::Close, Command::Auth];
        let was_guarded = portal.gate.is_some();
        let received = match kind % 12 {
            0 => portal.receive(message(Command::Connect, VERSION_SKIP_CHECKSUM, 4096 * (arg0 + 1))),
            kind @ 1..=5 => {
                let command = commands.get(usize::from(kind) - 1).copied().unwrap_or(Command::Sync);
                portal.receive(message(command, arg0, arg1))
            }
            6 => Ok(portal.opened(arg0)),
            7 => Ok(portal.taken(arg0)),
            8 => Ok(portal.ended(arg0)),
            10 => Ok(portal.challenge([a; 20])),
            11 => Ok(portal.admit()),
            _ => Ok(portal.offer("tcp:1").map(|(_, order)| order)),
        };
        let is_admitted = kind % 12 == 11;
        assert!(!was_guarded || is_admitted || portal.framing.is_none(), "nobody is let in without a key");
        assert!(portal.gate.is_none() || portal.streams.is_empty(), "nothing is open before");
        assert!(portal.streams.len() <= STREAMS_MAX, "no more streams than there may be");
        if received.is_err() {
            return;
        }
    }
}

#[cfg(test)]
#[path = "portal_tests.rs"]
mod tests;
