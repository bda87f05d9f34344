//! Debian's mosquitto as the broker, and its command-line clients as the other programs.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// Far above what anything here takes; a test that waits so long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// So many free ports in a row are taken by nobody else.
const PORTS_TRIED_MAX: usize = 5;

/// A broker of its own for each test, on a free port of the loopback, without a memory of its own.
pub(crate) struct Broker {
    pub(crate) port: u16,
    dir: tempfile::TempDir,
    process: Option<Child>,
}

impl Broker {
    pub(crate) fn start() -> Self {
        Self::start_with("allow_anonymous true\n", &[])
    }

    /// One that lets in only `user` with `password`.
    pub(crate) fn start_for(user: &str, password: &str) -> Self {
        Self::start_with("allow_anonymous false\npassword_file PASSWORDS\n", &[(user, password)])
    }

    fn start_with(access: &str, users: &[(&str, &str)]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let passwords = dir.path().join("passwords");
        std::fs::File::create(&passwords).unwrap();
        for (user, password) in users {
            let status =
                command("mosquitto_passwd", "mosquitto").arg("-b").arg(&passwords).args([user, password]).status();
            assert!(status.unwrap().success());
        }
        let access = access.replace("PASSWORDS", &passwords.display().to_string());
        let mut broker = Self { port: 0, dir, process: None };
        // Mosquitto takes no "any free port": between the choice and its bind another program may take what was free.
        let mut said = Vec::new();
        for _ in 0..PORTS_TRIED_MAX {
            broker.port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
            // Started by root it would become the user `mosquitto`, who may not read a temporary directory of root's.
            let config = format!("listener {} 127.0.0.1\npersistence false\nuser root\n{access}", broker.port);
            std::fs::write(broker.dir.path().join("mosquitto.conf"), config).unwrap();
            match broker.try_run() {
                Ok(()) => return broker,
                Err(why) => said = why,
            }
        }
        panic!("mosquitto does not run: {said:#?}")
    }

    /// Starts the process again on its port.
    pub(crate) fn run(&mut self) {
        self.try_run().unwrap_or_else(|said| panic!("mosquitto does not run: {said:#?}"));
    }

    /// Starts the process, and waits until it says that it runs; if it ends instead, what it said.
    fn try_run(&mut self) -> Result<(), Vec<String>> {
        let mut process = command("mosquitto", "mosquitto")
            .arg("-c")
            .arg(self.dir.path().join("mosquitto.conf"))
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .expect("mosquitto: install Debian's package `mosquitto`");
        let lines = lines_of(process.stderr.take().unwrap());
        self.process = Some(process);
        let mut said = Vec::new();
        while let Ok(line) = lines.recv_timeout(PATIENCE) {
            if line.contains("running") {
                return Ok(());
            }
            said.push(line);
        }
        self.kill();
        Err(said)
    }

    pub(crate) fn kill(&mut self) {
        let mut process = self.process.take().unwrap();
        process.kill().unwrap();
        process.wait().unwrap();
    }

    /// It takes nothing more, and says nothing: its connections stay open.
    pub(crate) fn hang(&self) {
        let pid = i32::try_from(self.process.as_ref().unwrap().id()).unwrap();
        kill(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
    }

    /// Waits until `least` bytes for the hung broker wait in the kernel on one connection.
    pub(crate) fn wait_for_unread_bytes(&self, least: usize) {
        let local = format!("0100007F:{:04X}", self.port);
        let begun = Instant::now();
        loop {
            let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
            let unread = table.lines().any(|line| {
                let fields: Vec<&str> = line.split_whitespace().collect();
                let unread = fields.get(4).and_then(|queues| usize::from_str_radix(queues.split_once(':')?.1, 16).ok());
                fields.get(1) == Some(&local.as_str()) && unread.is_some_and(|unread| unread >= least)
            });
            if unread {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "fewer than {least} bytes were sent to the hung broker");
            std::thread::yield_now();
        }
    }

    pub(crate) fn subscribe(&self, topic: &str) -> Subscriber {
        let mut process = command("mosquitto_sub", "mosquitto-clients")
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-t", topic, "-q", "1", "-F", "%r %t %p", "-d"])
            .stdout(Stdio::piped())
            .spawn()
            .expect("mosquitto_sub: install Debian's package `mosquitto-clients`");
        let lines = lines_of(process.stdout.take().unwrap());
        Subscriber { process, lines }
    }

    pub(crate) fn publish(&self, topic: &str, payload: &str) {
        let mut process = command("mosquitto_pub", "mosquitto-clients")
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-t", topic, "-q", "1", "-s"])
            .stdin(Stdio::piped())
            .spawn()
            .expect("mosquitto_pub: install Debian's package `mosquitto-clients`");
        process.stdin.take().unwrap().write_all(payload.as_bytes()).unwrap();
        assert!(process.wait().unwrap().success());
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// A message as `mosquitto_sub` prints it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) retained: bool,
    pub(crate) topic: String,
    pub(crate) payload: String,
}

pub(crate) struct Subscriber {
    process: Child,
    lines: Receiver<String>,
}

impl Subscriber {
    /// Waits until the broker has accepted the subscription: what is published now is seen.
    pub(crate) fn subscribed(self) -> Self {
        while !self.line().contains("received SUBACK") {}
        self
    }

    /// The next message that is as wanted.
    pub(crate) fn until(&self, what: &str, wanted: impl Fn(&Seen) -> bool) -> Seen {
        let begun = Instant::now();
        let mut others = Vec::new();
        while begun.elapsed() < PATIENCE {
            if let Some(seen) = parse(&self.line()) {
                if wanted(&seen) {
                    return seen;
                }
                others.push(seen);
            }
        }
        panic!("{what} was not seen, but {others:#?}")
    }

    /// A message of each of these topics, in any order.
    pub(crate) fn until_topics(&self, topics: &[&str]) {
        let mut missing: Vec<&str> = topics.to_vec();
        while !missing.is_empty() {
            let seen = self.until(&format!("{missing:?}"), |seen| missing.contains(&seen.topic.as_str()));
            missing.retain(|topic| *topic != seen.topic);
        }
    }

    pub(crate) fn until_topic(&self, topic: &str) -> Seen {
        self.until(topic, |seen| seen.topic == topic)
    }

    fn line(&self) -> String {
        self.lines.recv_timeout(PATIENCE).expect("mosquitto_sub fell silent")
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// `<retained> <topic> <payload>`; the debug lines between do not begin with a digit.
fn parse(line: &str) -> Option<Seen> {
    let mut parts = line.splitn(3, ' ');
    let retained = match parts.next()? {
        "0" => false,
        "1" => true,
        _ => return None,
    };
    Some(Seen { retained, topic: parts.next()?.to_owned(), payload: parts.next().unwrap_or_default().to_owned() })
}

fn lines_of(stream: impl std::io::Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            // Without a listener the stream is still read, so that the process never blocks on it.
            let _ = sender.send(line);
        }
    });
    lines
}

/// A program of a Debian package, wherever it lies.
fn command(program: &str, package: &str) -> Command {
    let found = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"]
        .iter()
        .map(|dir| std::path::Path::new(dir).join(program))
        .find(|path| path.exists());
    Command::new(found.unwrap_or_else(|| panic!("{program} is missing: apt-get install {package}")))
}
