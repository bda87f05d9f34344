//! A host that says what a case tells it, and writes down what it hears.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use handset::wire::{Codec, Command, Message, Sums};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::codec::Decoder as _;

use crate::cases::{Acknowledging, Case, Step};

/// How long to listen after each step.
pub(crate) enum Patience {
    /// Until all of a transcript came; then a moment for what should not come.
    Until(String),
    /// Until nothing comes any more.
    Quiet,
}

/// Nothing comes any more when nothing came for so long.
const QUIET: Duration = Duration::from_millis(250);
/// What should not come would come within this.
const MOMENT: Duration = Duration::from_millis(30);
/// What should come comes within this, however busy the machine is.
const DEADLINE: Duration = Duration::from_secs(20);

/// adbd 34 may end a connection that begins while the end of another is still being worked off, and several in a row on a busy machine.
const CONNECTS_MAX: usize = 25;

/// Our id of the first stream; each later one has the next.
const FIRST_ID: u32 = 5;

struct Host {
    stream: TcpStream,
    codec: Codec,
    buffer: BytesMut,
    /// Our id of the stream.
    id: u32,
    /// The peer's id of the stream.
    peer: u32,
    closed: bool,
    heard: Vec<Heard>,
}

/// What came, data of one stream together.
enum Heard {
    Data(Vec<u8>),
    Other(String),
}

/// What a peer answers to a case: a part for each step, between bars.
pub(crate) async fn transcript(peer: SocketAddr, case: &Case, patience: Patience) -> String {
    let mut host = Host::connect(peer, case).await;
    let expected: Vec<String> = match &patience {
        Patience::Until(text) => text.split(" | ").map(str::to_owned).collect(),
        Patience::Quiet => Vec::new(),
    };
    let mut parts = Vec::new();
    for (number, step) in case.steps.iter().enumerate() {
        host.say(step).await;
        host.heard.clear();
        let expected = match &patience {
            Patience::Until(_) => Some(expected.get(number).cloned().unwrap_or_default()),
            Patience::Quiet => None,
        };
        let last = number + 1 == case.steps.len();
        parts.push(host.listen(case, expected.as_deref(), last).await);
    }
    parts.join(" | ")
}

impl Host {
    /// Past CNXN, where the case has one.
    async fn connect(peer: SocketAddr, case: &Case) -> Self {
        for _ in 0..CONNECTS_MAX {
            if let Some(host) = Self::connect_once(peer, case).await {
                return host;
            }
        }
        panic!("{}: the peer hung up {CONNECTS_MAX} times instead of answering CNXN", case.name)
    }

    async fn connect_once(peer: SocketAddr, case: &Case) -> Option<Self> {
        let stream = TcpStream::connect(peer).await.unwrap_or_else(|error| panic!("{}: {error}", case.name));
        stream.set_nodelay(true).unwrap();
        let codec = Codec::new(1 << 20, Sums::Unchecked);
        let mut host =
            Self { stream, codec, buffer: BytesMut::new(), id: FIRST_ID, peer: 1, closed: false, heard: Vec::new() };
        if let Some(hello) = &case.hello {
            host.send(Message::new(Command::CNXN, hello.version, hello.payload_bytes_max, hello.banner())).await;
            let answer = tokio::time::timeout(DEADLINE, host.hear()).await.unwrap()?;
            assert_eq!(answer.command, Command::CNXN, "{}", case.name);
        }
        Some(host)
    }

    async fn send(&mut self, message: Message) {
        let header = message.header(Sums::Checked);
        // A peer that hung up is found out by hearing.
        let _ = self.stream.write_all_buf(&mut Buf::chain(&header[..], message.payload)).await;
    }

    async fn hear(&mut self) -> Option<Message> {
        loop {
            if let Some(message) = self.codec.decode(&mut self.buffer).expect("the peer speaks ADB") {
                return Some(message);
            }
            match self.stream.read_buf(&mut self.buffer).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => return None,
            }
        }
    }

    async fn say(&mut self, step: &Step) {
        if matches!(step, Step::Again { .. }) {
            (self.id, self.peer, self.closed) = (self.id + 1, 1, false);
        }
        let (id, peer) = (self.id, self.peer);
        let message = match step {
            Step::Again { service } => Message::new(Command::OPEN, id, 0, service.clone()),
            Step::Open { service, window } => Message::new(Command::OPEN, id, *window, service.clone()),
            Step::Write(bytes) => Message::new(Command::WRTE, id, peer, bytes.clone()),
            Step::Okay(bytes) => Message::new(Command::OKAY, id, peer, bytes.clone()),
            Step::Close => Message::new(Command::CLSE, id, peer, Bytes::new()),
            Step::OfStream { command, arg0, payload } => Message::new(*command, *arg0, peer, payload.clone()),
            Step::Message(message) => message.clone(),
            Step::Bytes(bytes) => {
                let _ = self.stream.write_all(bytes).await;
                return;
            }
        };
        self.send(message).await;
    }

    async fn listen(&mut self, case: &Case, expected: Option<&str>, last: bool) -> String {
        let deadline = tokio::time::Instant::now() + DEADLINE;
        loop {
            let shown = self.shown(case);
            let wait = match expected {
                None => QUIET,
                Some(expected) if expected == shown && last => MOMENT,
                Some(expected) if expected == shown => return shown,
                Some(_) => deadline.saturating_duration_since(tokio::time::Instant::now()),
            };
            match tokio::time::timeout(wait, self.hear()).await {
                Err(_) => return shown,
                Ok(None) => {
                    if !matches!(self.heard.last(), Some(Heard::Other(last)) if last == "hung up") {
                        self.heard.push(Heard::Other("hung up".to_owned()));
                    }
                    return self.shown(case);
                }
                Ok(Some(message)) => self.note(message, case).await,
            }
        }
    }

    async fn note(&mut self, message: Message, case: &Case) {
        let Message { command, arg0, arg1, payload } = message;
        if command == Command::OKAY && arg1 == self.id && self.peer == 1 {
            self.peer = arg0;
        }
        if command == Command::WRTE {
            match self.heard.last_mut() {
                Some(Heard::Data(data)) => data.extend_from_slice(&payload),
                _ => self.heard.push(Heard::Data(payload.to_vec())),
            }
            if case.acknowledging == Acknowledging::Always && !self.closed {
                let bytes = if case.delayed_ack() { (payload.len() as u32).to_le_bytes().to_vec() } else { Vec::new() };
                self.send(Message::new(Command::OKAY, self.id, arg0, bytes)).await;
            }
            return;
        }
        // A stream that is gone refuses each OKAY that crossed its end; how many did is chance.
        let of_before = (FIRST_ID..self.id).contains(&arg1);
        if command == Command::CLSE && (of_before || arg1 == self.id && std::mem::replace(&mut self.closed, true)) {
            return;
        }
        let name = |id: u32| if id == self.peer && id > 0 { "p".to_owned() } else { id.to_string() };
        let shown = match command {
            Command::CNXN => format!("CNXN {arg0:#x} {arg1} {}", String::from_utf8_lossy(&payload)),
            Command::AUTH => format!("AUTH {arg0} {arg1} of {} bytes", payload.len()),
            command if payload.is_empty() => format!("{command:?} {} {arg1}", name(arg0)),
            command => format!("{command:?} {} {arg1} {}", name(arg0), payload.escape_ascii()),
        };
        self.heard.push(Heard::Other(shown));
    }

    fn shown(&self, case: &Case) -> String {
        let part = |heard: &Heard| match heard {
            Heard::Data(data) => format!("WRTE {}", case.mask.of(data).escape_ascii()),
            Heard::Other(text) => text.clone(),
        };
        let parts: Vec<String> = self.heard.iter().map(part).collect();
        if parts.is_empty() { "nothing".to_owned() } else { parts.join(", ") }
    }
}
