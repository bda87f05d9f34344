//! A handset: the device's side of ADB, an agent of some version, and moods. It keeps its state when the daemon dies.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use farmhand::adb::message::{Checksums, Command, Message, VERSION_SKIP_CHECKSUM};
use farmhand::clock::Moment;
use farmhand::rack::ids::Serial;

use super::input::{Input, Said};
use super::stage::Stage;

/// Small, so that an install's bytes take several messages.
const PAYLOAD_MAX: u32 = 4096;
const BANNER: &[u8] = b"device::ro.product.model=Sim;features=shell_v2";
/// What is "pushed" in an install.
pub(super) const APK_BYTES: usize = 6000;

/// What the next installs come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mood {
    Fine,
    Slow,
    /// It takes the bytes and never answers.
    Hangs,
    Transient,
    Permanent,
    NeedsHand,
    /// It says Success, and nothing has changed.
    Lies,
}

/// Whether the handset lets this host in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Trust {
    /// As emulators and custom systems do: no AUTH at all.
    Open,
    Known,
    /// Somebody taps on its screen after this time.
    Taps(Duration),
}

#[derive(Debug)]
pub(super) struct Handset {
    pub(super) number: usize,
    pub(super) serial: Serial,
    pub(super) imei: String,
    /// The place where its cable ends.
    pub(super) plugged: Option<usize>,
    /// Off the bus for as long as it restarts.
    pub(super) down_from: Moment,
    pub(super) down_until: Moment,
    /// The place where the host sees it.
    pub(super) on_bus: Option<usize>,
    pub(super) left_bus: Moment,
    pub(super) booted_at: Moment,
    pub(super) version: Option<u64>,
    pub(super) stalled_until: Moment,
    pub(super) garbage_until: Moment,
    pub(super) trust: Trust,
    pub(super) mood: Mood,
    pub(super) battery_percent: u8,
    pub(super) celsius: i16,
    pub(super) free_mib: u64,
    /// When its last answer reached the host.
    pub(super) answered: Moment,
    link: u32,
    streams: BTreeMap<u32, Stream>,
    next: u32,
    last_said: Moment,
}

#[derive(Debug)]
struct Stream {
    host: u32,
    phase: Phase,
}

#[derive(Debug)]
enum Phase {
    /// CLSE follows the acknowledgement.
    Answered,
    Installing {
        version: u64,
        may_go_back: bool,
        have: usize,
    },
}

impl Handset {
    pub(super) fn new(number: usize, serial: Serial) -> Self {
        let zero = Moment::START;
        Self {
            number,
            serial,
            imei: format!("35{number:013}"),
            plugged: None,
            down_from: zero,
            down_until: zero,
            on_bus: None,
            left_bus: zero,
            booted_at: zero,
            version: None,
            stalled_until: zero,
            garbage_until: zero,
            trust: Trust::Known,
            mood: Mood::Fine,
            battery_percent: 80,
            celsius: 25,
            free_mib: 9000,
            answered: zero,
            link: 0,
            streams: BTreeMap::new(),
            next: 0,
            last_said: zero,
        }
    }

    /// A message of the host. One that is stalled takes none.
    pub(super) fn receive(&mut self, stage: &mut Stage, link: u32, message: &Message) {
        if stage.now < self.stalled_until || (link != self.link && message.header.command != Command::Connect) {
            return;
        }
        let (arg0, arg1) = (message.header.arg0, message.header.arg1);
        match message.header.command {
            Command::Connect => self.greet(stage, link),
            Command::Auth => self.authenticate(stage, arg0),
            Command::Open => self.open(stage, arg0, &message.payload),
            Command::Write => self.write(stage, arg1, message.payload.len()),
            Command::Okay => {
                if let Some(Stream { host, phase: Phase::Answered }) = self.streams.get(&arg1) {
                    let close = say(Command::Close, arg1, *host, Bytes::new());
                    self.streams.remove(&arg1);
                    self.say(stage, vec![close]);
                }
            }
            Command::Close => {
                self.streams.remove(&arg1);
            }
            Command::Tls | Command::Sync => {}
        }
    }

    fn greet(&mut self, stage: &mut Stage, link: u32) {
        self.streams.clear();
        self.link = link;
        match self.trust {
            Trust::Open => self.hello(stage),
            Trust::Known | Trust::Taps(_) => self.ask_for_key(stage),
        }
    }

    fn hello(&mut self, stage: &mut Stage) {
        let banner = Bytes::from_static(BANNER);
        self.say(stage, vec![say(Command::Connect, VERSION_SKIP_CHECKSUM, PAYLOAD_MAX, banner)]);
    }

    fn ask_for_key(&mut self, stage: &mut Stage) {
        let token = [7; 20];
        self.say(stage, vec![say(Command::Auth, 1, 0, Bytes::copy_from_slice(&token))]);
    }

    fn authenticate(&mut self, stage: &mut Stage, kind: u32) {
        match (kind, self.trust) {
            (2, Trust::Open | Trust::Known) => self.hello(stage),
            (2, Trust::Taps(_)) => self.ask_for_key(stage),
            (_, Trust::Taps(after)) => stage.after(after, Input::Tapped { phone: self.number, link: self.link }),
            (_, Trust::Open | Trust::Known) => self.hello(stage),
        }
    }

    /// Somebody allowed the host on the screen.
    pub(super) fn tapped(&mut self, stage: &mut Stage, link: u32) {
        self.trust = Trust::Known;
        if link == self.link && self.on_bus.is_some() {
            self.hello(stage);
        }
    }

    fn open(&mut self, stage: &mut Stage, host: u32, service: &[u8]) {
        if stage.now < self.garbage_until && !stage.chance.one_in(3) {
            return self.talk_nonsense(stage, host);
        }
        self.next += 1;
        let local = self.next;
        let opened = say(Command::Okay, local, host, Bytes::new());
        let service = String::from_utf8_lossy(service);
        let words: Vec<&str> = service.trim_end_matches('\0').split(' ').collect();
        match words[..] {
            ["shell:echo", nonce] => self.answer(stage, local, host, nonce.to_owned()),
            ["shell:getprop"] => {
                let booted = u8::from(stage.now >= self.booted_at);
                let agent = self.version.map_or_else(|| "none".to_owned(), |version| version.to_string());
                let how = format!("{} {} {}", self.battery_percent, self.celsius, self.free_mib);
                let text = format!("{} {} {booted} {agent} {how}", self.serial, self.imei);
                self.answer(stage, local, host, text);
            }
            ["shell:inspect"] => {
                let agent = self.version.map_or_else(|| "none".to_owned(), |version| version.to_string());
                self.answer(stage, local, host, agent);
            }
            ["shell:monkey"] => self.answer(stage, local, host, "Events injected: 1".to_owned()),
            ["exec:install", version] => {
                let version = version.parse().unwrap_or_default();
                let phase = Phase::Installing { version, may_go_back: false, have: 0 };
                self.streams.insert(local, Stream { host, phase });
                self.say(stage, vec![opened]);
            }
            ["exec:install", "-d", version] => {
                let version = version.parse().unwrap_or_default();
                let phase = Phase::Installing { version, may_go_back: true, have: 0 };
                self.streams.insert(local, Stream { host, phase });
                self.say(stage, vec![opened]);
            }
            ["reboot:"] => {
                self.say(stage, vec![opened, say(Command::Close, local, host, Bytes::new())]);
                let off = self.last_said + stage.chance.millis(1, 900);
                self.reboot(stage, off);
            }
            _ => self.say(stage, vec![say(Command::Close, 0, host, Bytes::new())]),
        }
    }

    fn answer(&mut self, stage: &mut Stage, local: u32, host: u32, text: String) {
        let opened = say(Command::Okay, local, host, Bytes::new());
        self.streams.insert(local, Stream { host, phase: Phase::Answered });
        self.say(stage, vec![opened, say(Command::Write, local, host, text.into())]);
        self.answered = self.answered.max(self.last_said);
    }

    fn write(&mut self, stage: &mut Stage, local: u32, len: usize) {
        let Some(Stream { host, phase: Phase::Installing { version, may_go_back, have } }) =
            self.streams.get_mut(&local)
        else {
            return;
        };
        *have += len;
        let (host, version, may_go_back, whole) = (*host, *version, *may_go_back, *have >= APK_BYTES);
        self.say(stage, vec![say(Command::Okay, local, host, Bytes::new())]);
        if whole {
            let time = match self.mood {
                Mood::Slow => stage.chance.seconds(60, 340),
                Mood::Hangs => return,
                _ => stage.chance.millis(300, 20_000),
            };
            let (phone, link) = (self.number, self.link);
            stage.after(time, Input::InstallEnds { phone, stream: local, link, version, may_go_back });
        }
    }

    /// An install ends. One whose host has gone may have taken effect all the same.
    pub(super) fn install_ends(
        &mut self,
        stage: &mut Stage,
        (stream, link): (u32, u32),
        version: u64,
        may_go_back: bool,
    ) {
        let watched = link == self.link && self.streams.contains_key(&stream);
        if !watched && (stage.now < self.down_until || stage.chance.one_in(2)) {
            return;
        }
        let installed = self.version;
        let text = match self.mood {
            Mood::Transient => "Failure transient".to_owned(),
            Mood::Permanent => "Failure permanent".to_owned(),
            Mood::NeedsHand => "Failure hand".to_owned(),
            _ if !may_go_back && installed > Some(version) => "Failure permanent".to_owned(),
            Mood::Lies => format!("Success {}", installed.unwrap_or_default()),
            Mood::Fine | Mood::Slow | Mood::Hangs => {
                self.version = Some(version);
                format!("Success {version}")
            }
        };
        if watched && let Some(known) = self.streams.get_mut(&stream) {
            known.phase = Phase::Answered;
            let answer = say(Command::Write, stream, known.host, text.into());
            self.say(stage, vec![answer]);
            self.answered = self.answered.max(self.last_said);
        }
    }

    /// Off the bus at `off`, back after some time, and Android still later.
    pub(super) fn reboot(&mut self, stage: &mut Stage, off: Moment) {
        self.down_from = off;
        self.down_until = off + stage.chance.seconds(5, 60);
        self.booted_at = self.down_until + stage.chance.seconds(0, 60);
        self.stalled_until = off;
        self.garbage_until = off;
        stage.at(off, Input::Bus { phone: self.number });
        stage.at(self.down_until, Input::Bus { phone: self.number });
    }

    /// Whether the host could see it now, were there power on its port.
    pub(super) fn is_up(&self, now: Moment) -> bool {
        now < self.down_from || now >= self.down_until
    }

    fn talk_nonsense(&mut self, stage: &mut Stage, host: u32) {
        let said = match stage.chance.below(5) {
            0 => Said::Nonsense,
            1 => Said::Messages(vec![say(Command::Write, 9, host, Bytes::from_static(b"early"))]),
            2 => Said::Messages(vec![
                say(Command::Okay, 9, host, Bytes::new()),
                say(Command::Write, 9, host, Bytes::from_static(b"one")),
                say(Command::Write, 9, host, Bytes::from_static(b"two")),
            ]),
            3 => Said::Messages(vec![
                say(Command::Open, 77, 0, Bytes::from_static(b"tcp:5000\0")),
                say(Command::Okay, 9, host, Bytes::new()),
                say(Command::Write, 9, host, Bytes::from_static(b"nonsense")),
                say(Command::Close, 9, host, Bytes::new()),
            ]),
            _ => Said::Messages(vec![say(Command::Close, 0, host, Bytes::new())]),
        };
        self.send(stage, said);
    }

    fn say(&mut self, stage: &mut Stage, messages: Vec<Message>) {
        self.send(stage, Said::Messages(messages));
    }

    /// Messages of one handset keep their order.
    fn send(&mut self, stage: &mut Stage, said: Said) {
        let Some(place) = self.on_bus else { return };
        self.last_said = self.last_said.max(stage.now + stage.chance.millis(1, 20));
        stage.at(self.last_said, Input::FromPhone { place, link: self.link, said });
    }
}

fn say(command: Command, arg0: u32, arg1: u32, payload: Bytes) -> Message {
    Message::new(command, arg0, arg1, payload, Checksums::Skipped)
}
