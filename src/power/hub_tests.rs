//! The driver against a scripted hub on a real pseudo-terminal.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::Path;
use std::sync::{Arc, Mutex};

use serialport::{SerialPort, TTYPort};

use super::*;
use crate::rack::event::PortReading;

#[tokio::test]
async fn a_hub_is_read_as_it_says() {
    let bench = Bench::new(Script::default());
    let reading = bench.driver(8).reading().await;
    assert_eq!(reading.identity, "cambrionix PP4S, firmware 1.83, serial 42");
    assert_eq!((reading.temperature_celsius, reading.supply_volts), (Some(37.8), Some(5.25)));
    let expected = |port, current_milliamps, attached| PortReading {
        port: HubPort(port),
        current_milliamps,
        mode: PortMode::Sync,
        attached,
    };
    assert_eq!(
        reading.ports,
        [expected(1, 491, true), expected(2, 491, true), expected(3, 491, true), expected(4, 491, true)]
    );
}

#[tokio::test]
async fn a_port_counts_as_switched_once_its_own_line_says_so() {
    let bench = Bench::new(Script::default());
    let mut driver = bench.driver(8);
    driver.reading().await;

    driver.order(3, PortMode::Off).await;
    assert_eq!(driver.answer().await, HubEvent::PortSet { port: HubPort(3), mode: PortMode::Off });
    assert_eq!(driver.reading().await.ports[2].mode, PortMode::Off);
    driver.order(3, PortMode::Sync).await;
    assert_eq!(driver.answer().await, HubEvent::PortSet { port: HubPort(3), mode: PortMode::Sync });
    driver.order(2, PortMode::Charge).await;
    assert_eq!(driver.answer().await, HubEvent::PortSet { port: HubPort(2), mode: PortMode::Charge });
}

#[tokio::test]
async fn a_hub_that_says_yes_and_does_nothing_is_not_believed() {
    let bench = Bench::new(Script { deaf: true, ..Script::default() });
    let mut driver = bench.driver(8);
    driver.reading().await;
    driver.order(3, PortMode::Off).await;
    let HubEvent::PortRefused { port: HubPort(3), why } = driver.answer().await else { panic!("it was believed") };
    assert_eq!(why, "the hub took the order, but the port's own line still says sync");
}

#[tokio::test]
async fn a_refusal_is_told_in_the_hubs_words_and_the_readings_go_on() {
    let bench = Bench::new(Script::default());
    let mut driver = bench.driver(8);
    driver.reading().await;
    driver.order(9, PortMode::Off).await;
    let HubEvent::PortRefused { port: HubPort(9), why } = driver.answer().await else { panic!("there is no port 9") };
    assert_eq!(why, "the hub refused: *E412: no such port");
    driver.reading().await;
}

#[tokio::test]
async fn garbage_silence_and_half_a_line_are_stale_until_it_speaks_again() {
    let bench = Bench::new(Script::default());
    let mut driver = bench.driver(8);
    driver.reading().await;
    for (behaviour, expected) in [
        (Behaviour::Garbage, "is no text"),
        (Behaviour::Silent, "no whole reply to `"),
        (Behaviour::HalfLine, "the current should be milliampere from 0 to 20000, was ``"),
    ] {
        bench.behave(behaviour);
        let why = driver.stale().await;
        assert!(why.contains(expected), "{behaviour:?}: {why}");
        driver.order(1, PortMode::Off).await;
        assert_eq!(
            driver.answer().await,
            HubEvent::PortRefused { port: HubPort(1), why: "the hub does not answer".to_owned() }
        );
        bench.behave(Behaviour::Good);
        assert_eq!(driver.reading().await.ports.len(), 4);
    }
}

#[tokio::test]
async fn a_cut_line_is_stale_at_once_and_read_again_when_the_path_is_back() {
    let mut bench = Bench::new(Script::default());
    let mut driver = bench.driver(8);
    driver.reading().await;
    bench.cut();
    let why = driver.stale().await;
    assert!(why.contains("ended") || why.contains("is not there"), "{why}");
    bench.plug();
    driver.reading().await;
}

#[tokio::test]
async fn a_hub_that_is_not_there_yet_is_waited_for() {
    let mut bench = Bench::new(Script::default());
    bench.cut();
    let mut driver = bench.driver(8);
    assert!(driver.stale().await.contains("is not there"));
    bench.plug();
    driver.reading().await;
}

#[tokio::test]
async fn a_full_queue_delays_no_hub_and_gets_the_newest_reading() {
    let bench = Bench::new(Script::default());
    let mut driver = bench.driver(1);
    bench.asked_for_state_more_than(4).await;
    bench.script.lock().unwrap().current = 77;
    let asked = bench.script.lock().unwrap().asked_for_state;
    bench.asked_for_state_more_than(asked + 2).await;
    assert_eq!(driver.reading().await.ports[0].current_milliamps, 491, "the one that was queued");
    assert_eq!(driver.reading().await.ports[0].current_milliamps, 77, "then the newest");
}

#[tokio::test]
async fn of_readings_that_find_no_room_only_the_newest_waits() {
    let (events, mut received) = mpsc::channel(1);
    let mut outlet = Outlet { events, waiting: None };
    let reading = |name: &str| HubReading { identity: name.to_owned(), ..HubReading::default() };
    for name in ["first", "second", "third"] {
        outlet.show(reading(name));
    }
    assert_eq!(received.recv().await, Some(HubEvent::Reading(reading("first"))));
    outlet.hand_over().await;
    assert_eq!(received.recv().await, Some(HubEvent::Reading(reading("third"))));
    assert_eq!(outlet.waiting, None);
}

#[tokio::test]
async fn answers_that_come_one_too_late_are_never_believed() {
    let bench = Bench::new(Script::default());
    let mut driver = bench.driver(8);
    driver.reading().await;
    bench.behave(Behaviour::OneLate);
    driver.stale().await;
    bench.asked_more_than(bench.asked() + 20).await;
    bench.script.lock().unwrap().current = 77;
    bench.behave(Behaviour::Good);
    // Between stale and good nothing was read; what is read now is what the hub says now.
    assert_eq!(driver.reading().await.ports[0].current_milliamps, 77);
}

#[test]
fn the_default_pace_tells_a_cut_line_within_six_seconds() {
    let pace = Pace::DEFAULT;
    let chatter = pace.quiet * 5;
    assert!(pace.state + (pace.patience + chatter) * TRIES <= Duration::from_secs(6) + chatter);
    assert!(pace.state + pace.patience * TRIES + chatter < Duration::from_secs(6));
}

/// How the scripted hub answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Behaviour {
    Good,
    Garbage,
    Silent,
    HalfLine,
    /// Each command gets the answer of the one before.
    OneLate,
}

struct Script {
    behaviour: Behaviour,
    /// It takes orders and does not carry them out.
    deaf: bool,
    current: u32,
    modes: BTreeMap<u8, char>,
    asked_for_state: u32,
    asked: u32,
    late: Vec<u8>,
}

impl Default for Script {
    fn default() -> Self {
        let modes = (1..=4).map(|port| (port, 'S')).collect();
        let behaviour = Behaviour::Good;
        Self { behaviour, deaf: false, current: 491, modes, asked_for_state: 0, asked: 0, late: Vec::new() }
    }
}

impl Script {
    fn reply(&mut self, command: &str) -> Vec<u8> {
        let words: Vec<&str> = command.split_whitespace().collect();
        let body = match words.as_slice() {
            ["id"] => "mfr:cambrionix,mode:main,hw:PP4S,hwid:0x13,fw:1.83,bl:0.12,sn:42,group:-,fc:un\r\n".to_owned(),
            ["health"] => "5V Now (V):  5.25\r\nTemperature Now (C):  37.8\r\n".to_owned(),
            ["state"] => {
                self.asked_for_state += 1;
                self.modes.keys().map(|port| self.line(*port)).collect()
            }
            ["state", port] => self.line(port.parse().unwrap()),
            ["mode", mode, port] => self.set(mode, port.parse().unwrap()),
            _ => "*E400: what?\r\n".to_owned(),
        };
        self.asked += 1;
        let whole = format!("{command}\r\n{body}>>").into_bytes();
        match self.behaviour {
            Behaviour::Good => whole,
            Behaviour::OneLate => std::mem::replace(&mut self.late, whole),
            Behaviour::Garbage => b"\xf0\x9f\x00\x1b[2J\r\n>>".to_vec(),
            Behaviour::Silent => Vec::new(),
            Behaviour::HalfLine if command == "state" => format!("{command}\r\n1, 0000, A S\r\n2,\r\n>>").into_bytes(),
            Behaviour::HalfLine => whole,
        }
    }

    fn line(&self, port: u8) -> String {
        format!("{port}, {:04}, R A {}, 0, 0, x, 0.00\r\n", self.current, self.modes[&port])
    }

    fn set(&mut self, mode: &str, port: u8) -> String {
        if !self.modes.contains_key(&port) {
            return "*E412: no such port\r\n".to_owned();
        }
        if !self.deaf {
            let flag = if mode == "charge" { 'P' } else { mode.to_ascii_uppercase().chars().next().unwrap() };
            self.modes.insert(port, flag);
        }
        String::new()
    }
}

/// A hub that can be unplugged, at a path that stays.
struct Bench {
    script: Arc<Mutex<Script>>,
    plugged: Option<CancellationToken>,
    dir: tempfile::TempDir,
}

impl Bench {
    fn new(script: Script) -> Self {
        let mut bench = Self { script: Arc::new(Mutex::new(script)), plugged: None, dir: tempfile::tempdir().unwrap() };
        bench.plug();
        bench
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("hub")
    }

    fn plug(&mut self) {
        let (master, slave) = TTYPort::pair().unwrap();
        std::os::unix::fs::symlink(Path::new(&slave.name().unwrap()), self.path()).unwrap();
        let plugged = CancellationToken::new();
        self.plugged = Some(plugged.clone());
        let script = self.script.clone();
        std::thread::spawn(move || serve(master, slave, &plugged, &script));
    }

    fn cut(&mut self) {
        std::fs::remove_file(self.path()).unwrap();
        self.plugged.take().unwrap().cancel();
    }

    fn behave(&self, behaviour: Behaviour) {
        self.script.lock().unwrap().behaviour = behaviour;
    }

    fn asked(&self) -> u32 {
        self.script.lock().unwrap().asked
    }

    async fn asked_more_than(&self, count: u32) {
        while self.asked() <= count {
            tokio::task::yield_now().await;
        }
    }

    async fn asked_for_state_more_than(&self, count: u32) {
        while self.script.lock().unwrap().asked_for_state <= count {
            tokio::task::yield_now().await;
        }
    }

    fn driver(&self, queue: usize) -> Driven {
        let pace = Pace {
            state: Duration::from_millis(20),
            health: Duration::from_millis(60),
            patience: Duration::from_millis(150),
            quiet: Duration::from_millis(5),
            read_back: Duration::from_millis(50),
            reopen_max: Duration::from_millis(160),
        };
        let config = config::Hub { name: HubName::new("H1"), device: self.path() };
        let (orders, orders_rx) = mpsc::channel(4);
        let (events, events_rx) = mpsc::channel(queue);
        let cancel = CancellationToken::new();
        let thread = spawn_at(pace, &config, orders_rx, events, cancel.clone()).unwrap();
        Driven { orders, events: events_rx, cancel, thread: Some(thread) }
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if let Some(plugged) = self.plugged.take() {
            plugged.cancel();
        }
    }
}

fn serve(mut master: TTYPort, slave: TTYPort, plugged: &CancellationToken, script: &Mutex<Script>) {
    master.set_timeout(Duration::from_millis(5)).unwrap();
    let mut typed = Vec::new();
    while !plugged.is_cancelled() {
        let mut chunk = [0; 64];
        let count = master.read(&mut chunk).unwrap_or(0);
        typed.extend_from_slice(&chunk[..count]);
        while let Some(end) = typed.iter().position(|byte| *byte == b'\r') {
            let command: Vec<u8> = typed.drain(..=end).collect();
            let reply = script.lock().unwrap().reply(String::from_utf8_lossy(&command).trim());
            master.write_all(&reply).unwrap();
        }
    }
    drop(slave);
}

/// The driver under test, with what the model would hold.
struct Driven {
    orders: mpsc::Sender<PortOrder>,
    events: mpsc::Receiver<HubEvent>,
    cancel: CancellationToken,
    thread: Option<JoinHandle<()>>,
}

impl Driven {
    async fn next(&mut self) -> HubEvent {
        tokio::time::timeout(Duration::from_secs(10), self.events.recv()).await.expect("an event").expect("a driver")
    }

    async fn reading(&mut self) -> HubReading {
        loop {
            if let HubEvent::Reading(reading) = self.next().await {
                return reading;
            }
        }
    }

    async fn stale(&mut self) -> String {
        loop {
            if let HubEvent::Stale { why } = self.next().await {
                return why;
            }
        }
    }

    async fn answer(&mut self) -> HubEvent {
        loop {
            match self.next().await {
                HubEvent::Reading(_) | HubEvent::Stale { .. } => {}
                answer => return answer,
            }
        }
    }

    async fn order(&self, port: u8, mode: PortMode) {
        self.orders.send(PortOrder { port: HubPort(port), mode }).await.unwrap();
    }
}

impl Drop for Driven {
    fn drop(&mut self) {
        self.cancel.cancel();
        self.thread.take().unwrap().join().unwrap();
    }
}
