//! The host of these tests: it says what it is told to, lies included.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use futures_util::StreamExt as _;
use handset::wire::{Codec, Command as Kind, Message, Sums, VERSION_UNCHECKED};
use handset::{
    Authorisation, Command, Console, Device, Handset, MemoryFiles, Output, Profile, RebootTarget, SessionError,
};
use rsa::pkcs8::DecodePrivateKey as _;
use rsa::{Pkcs1v15Sign, PrivateKey};
use tokio::io::{AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf};
use tokio::task::JoinHandle;
use tokio_util::codec::FramedRead;

/// A device with five commands.
pub(crate) struct Desk {
    files: MemoryFiles,
}

impl Device for Desk {
    type Files = MemoryFiles;

    async fn run(&self, command: Command<'_>, console: &mut Console<'_>) -> Output {
        let line = match command {
            Command::Service(arguments) => return Output::success(arguments[1..].join("|")),
            Command::Line(line) => line,
        };
        match line.split_once(' ').unwrap_or((line, "")) {
            ("echo", words) => Output::success(format!("{words}\n")),
            ("zeros", count) => Output::success(vec![0; count.parse().unwrap()]),
            ("count", wanted) => {
                let mut seen = 0;
                console.read_into(wanted.parse().unwrap(), |bytes| seen += bytes.len()).await;
                Output::success(format!("{seen} bytes"))
            }
            ("hang", _) => std::future::pending().await,
            _ => Output::failure(1, "no\n"),
        }
    }

    fn files(&self) -> &MemoryFiles {
        &self.files
    }

    fn reboot(&self, _: RebootTarget<'_>) -> Result<(), String> {
        Ok(())
    }
}

pub(crate) type Phone = Handset<Desk>;

/// The host's end of a connection.
pub(crate) struct Host {
    messages: FramedRead<ReadHalf<DuplexStream>, Codec>,
    writing: WriteHalf<DuplexStream>,
    heard: Option<Option<Message>>,
    last_id: u32,
}

impl Host {
    /// Plugged into a phone of its own.
    pub(crate) fn new(profile: Profile, authorisation: Authorisation) -> (Self, JoinHandle<Result<(), SessionError>>) {
        Self::to(&phone(profile, authorisation))
    }

    /// Plugged into this phone.
    pub(crate) fn to(phone: &Arc<Phone>) -> (Self, JoinHandle<Result<(), SessionError>>) {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let phone = Arc::clone(phone);
        let served = tokio::spawn(async move { phone.serve(theirs).await });
        let (reading, writing) = tokio::io::split(ours);
        (
            Self {
                messages: FramedRead::new(reading, Codec::new(1 << 20, Sums::Unchecked)),
                writing,
                heard: None,
                last_id: 1000,
            },
            served,
        )
    }

    /// Past CNXN.
    pub(crate) async fn connected(profile: Profile, banner: &'static str) -> Self {
        let (mut host, _) = Self::new(profile, Authorisation::Off);
        host.say(Message::new(Kind::CNXN, VERSION_UNCHECKED, 1 << 20, banner)).await;
        assert_eq!(host.hear().await.unwrap().command, Kind::CNXN);
        host
    }

    pub(crate) async fn say(&mut self, message: Message) {
        self.write(message.header(Sums::Checked), message.payload).await;
    }

    pub(crate) async fn say_without_sum(&mut self, message: Message) {
        self.write(message.header(Sums::Unchecked), message.payload).await;
    }

    async fn write(&mut self, header: [u8; 24], payload: Bytes) {
        // A phone that hung up is found out by hearing.
        let _ = self.writing.write_all_buf(&mut header.chain(payload)).await;
    }

    /// The next message; `None` when the phone hung up.
    pub(crate) async fn hear(&mut self) -> Option<Message> {
        match self.heard.take() {
            Some(heard) => heard,
            None => self.messages.next().await.map(|message| message.expect("the phone speaks ADB")),
        }
    }

    /// Whether nothing comes for so long.
    pub(crate) async fn silent_for(&mut self, time: Duration) -> bool {
        if self.heard.is_some() {
            return false;
        }
        let Ok(heard) = tokio::time::timeout(time, self.hear()).await else { return true };
        self.heard = Some(heard);
        false
    }

    /// All that a service says; `None` if it was refused.
    pub(crate) async fn stream_to(&mut self, service: &'static str) -> Option<Vec<u8>> {
        self.last_id += 1;
        let id = self.last_id;
        self.say(Message::new(Kind::OPEN, id, 0, service)).await;
        loop {
            // An answer to an OKAY that came after the end of an earlier stream may still be under way.
            match self.hear().await? {
                Message { command: Kind::OKAY, arg0, arg1, .. } if arg1 == id => {
                    return Some(self.drain(id, arg0).await);
                }
                Message { command: Kind::CLSE, arg1, .. } if arg1 == id => return None,
                _ => {}
            }
        }
    }

    /// All that the stream says until it is closed.
    pub(crate) async fn drain(&mut self, id: u32, local: u32) -> Vec<u8> {
        let mut all = Vec::new();
        loop {
            let message = self.hear().await.expect("the phone stays");
            match message.command {
                Kind::WRTE if message.arg1 == id => {
                    all.extend_from_slice(&message.payload);
                    self.say(Message::new(Kind::OKAY, id, local, "")).await;
                }
                Kind::CLSE if message.arg1 == id => return all,
                _ => {}
            }
        }
    }
}

/// A phone that several hosts can meet.
pub(crate) fn phone(profile: Profile, authorisation: Authorisation) -> Arc<Phone> {
    let files = MemoryFiles::new(1 << 20, &["/sdcard"]);
    Arc::new(Handset::new(Arc::new(Desk { files }), profile, authorisation))
}

/// A key pair made by Google's `adb keygen`: the private key, and the public one as it is offered.
pub(crate) fn key_pair() -> (PrivateKey, Vec<u8>) {
    let private = PrivateKey::from_pkcs8_pem(include_str!("../keys/adbkey")).unwrap();
    (private, [include_bytes!("../keys/adbkey.pub"), &b"\0"[..]].concat())
}

/// The token, signed as a SHA-1 digest.
pub(crate) fn sign(key: &PrivateKey, token: &[u8]) -> Vec<u8> {
    key.sign(Pkcs1v15Sign::new::<sha1::Sha1>(), token).unwrap()
}
