//! From the first CNXN to Online: who is there, may this host in, and what both sides can take.

use bytes::Bytes;

use super::event::{Event, Fault};
use super::stream::Acknowledgement;
use super::{Connection, Life};
use crate::adb::banner::{Banner, host_banner};
use crate::adb::message::{Checksums, Command, Framing, Message, PAYLOAD_MAX, VERSION_CHECKSUM, VERSION_SKIP_CHECKSUM};
use crate::clock::{Deadline, Moment};

/// The kinds of AUTH.
const TOKEN: u32 = 1;
const SIGNATURE: u32 = 2;
const PUBLIC_KEY: u32 = 3;

/// How many tokens are answered at most: a handset that goes on asking refuses.
const TOKENS_MAX: usize = 64;

/// The smallest largest payload: that of the oldest handsets.
const PAYLOAD_MAX_MIN: u32 = 4096;

/// The answer to [`Event::Sign`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthAnswer {
    /// The token's signature by the key to try: RSA, PKCS#1 v1.5, the token as a SHA-1 digest.
    Signature(Bytes),
    /// All keys were tried: this public key is offered, in Android's text form without a NUL.
    PublicKey(String),
    /// There is no key.
    NoKey,
}

/// Where the greeting stands.
#[derive(Debug)]
pub(super) struct Handshake {
    step: Step,
    until: Moment,
    tokens: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    /// CNXN was sent.
    Connecting,
    /// The shell signs.
    Signing,
    /// A signature was sent.
    Proving,
    /// A public key was offered.
    Authorising,
}

impl Handshake {
    pub(super) fn begin(until: Moment) -> Self {
        Self { step: Step::Connecting, until, tokens: 0 }
    }

    pub(super) fn deadline(&self) -> Option<Deadline> {
        let why = match self.step {
            Step::Connecting => "the handset's answer to CNXN",
            Step::Signing => "this host's signature",
            Step::Proving => "the handset's answer to a signature",
            Step::Authorising => "somebody to allow this host's key on the handset's screen",
        };
        Some(Deadline { at: self.until, why })
    }

    /// What ends the connection if `now` is too late.
    pub(super) fn overdue(&self, now: Moment) -> Option<Fault> {
        let deadline = self.deadline().filter(|deadline| deadline.at <= now)?;
        Some(match self.step {
            Step::Authorising => Fault::Unauthorised { why: "nobody allowed it on the handset's screen in time" },
            Step::Connecting | Step::Signing | Step::Proving => Fault::Timeout { why: deadline.why },
        })
    }
}

/// The host's CNXN. It carries its sum, since the handset's version is not known yet.
pub(super) fn hello() -> Message {
    let payload_max = u32::try_from(PAYLOAD_MAX).unwrap_or(u32::MAX);
    let banner = Bytes::from(host_banner());
    Message::new(Command::Connect, VERSION_SKIP_CHECKSUM, payload_max, banner, Checksums::IfPresent)
}

impl Connection {
    /// Answers [`Event::Sign`].
    pub fn answer_auth(&mut self, answer: AuthAnswer, now: Moment) {
        let Life::Greeting(handshake) = &mut self.life else { return };
        if handshake.step != Step::Signing {
            return;
        }
        match answer {
            AuthAnswer::Signature(signature) => {
                handshake.step = Step::Proving;
                handshake.until = now + self.waits.answer;
                self.answer(Command::Auth, SIGNATURE, 0, signature);
            }
            AuthAnswer::PublicKey(text) => {
                handshake.step = Step::Authorising;
                handshake.until = now + self.waits.person;
                self.answer(Command::Auth, PUBLIC_KEY, 0, (text + "\0").into());
                self.events.push_back(Event::AuthorisationWanted);
            }
            AuthAnswer::NoKey => self.fail(Fault::NoKey),
        }
    }

    pub(super) fn receive_greeting(&mut self, message: Message, now: Moment) {
        match message.header.command {
            Command::Connect => self.receive_hello(&message),
            Command::Auth => self.receive_auth(&message, now),
            Command::Tls => self.fail(Fault::WantsTls),
            // What an earlier connection left in the pipe.
            Command::Open | Command::Okay | Command::Write | Command::Close | Command::Sync => {}
        }
    }

    fn receive_hello(&mut self, message: &Message) {
        match agreed(message, self.window) {
            Ok(agreed) => {
                self.online(agreed);
                self.events.push_back(Event::Online(Banner::parse(&message.payload)));
            }
            Err(fault) => self.fail(fault),
        }
    }

    /// The first CNXN was what an earlier connection had asked for and never read; this one is meant. It changes nothing unless
    /// another adbd sends it.
    pub(super) fn receive_hello_again(&mut self, message: &Message) {
        let same = agreed(message, self.window)
            .is_ok_and(|(framing, acknowledgement)| framing == self.framing && acknowledgement == self.acknowledgement);
        if !same {
            self.fail(Fault::Restarted);
        }
    }

    fn receive_auth(&mut self, message: &Message, now: Moment) {
        let Life::Greeting(handshake) = &mut self.life else { return };
        let kind = message.header.arg0;
        let token = match <[u8; 20]>::try_from(message.payload.as_ref()) {
            Ok(token) if kind == TOKEN => token,
            _ => {
                self.fail(Fault::Auth { kind, len: message.payload.len() });
                return;
            }
        };
        // A token after the public key means that the handset could not ask its user yet, as while Android starts, or that an
        // earlier signature was for a stale token: the keys are tried and offered in turn again. One that refuses goes on asking and meets the limit.
        let attempt = handshake.tokens;
        if attempt >= TOKENS_MAX {
            self.fail(Fault::Unauthorised { why: "it goes on asking for other keys" });
            return;
        }
        handshake.tokens += 1;
        handshake.step = Step::Signing;
        handshake.until = now + self.waits.answer;
        self.events.push_back(Event::Sign { token, attempt });
    }
}

/// What a handset's CNXN comes to, beside farmhand's own.
fn agreed(hello: &Message, window: u32) -> Result<(Framing, Acknowledgement), Fault> {
    let (version, payload_max) = (hello.header.arg0, hello.header.arg1);
    if version < VERSION_CHECKSUM {
        return Err(Fault::Version { seen: version });
    }
    if payload_max < PAYLOAD_MAX_MIN {
        return Err(Fault::PayloadMax { seen: payload_max });
    }
    let checksums = if version < VERSION_SKIP_CHECKSUM { Checksums::Verified } else { Checksums::Skipped };
    let delayed = Banner::parse(&hello.payload).offers("delayed_ack");
    let acknowledgement = if delayed { Acknowledgement::Delayed { window } } else { Acknowledgement::Each };
    let payload_max = usize::try_from(payload_max).map_or(PAYLOAD_MAX, |max| max.min(PAYLOAD_MAX));
    Ok((Framing { payload_max, checksums }, acknowledgement))
}
