//! The daemon under test: started, killed, asked over its socket, and counted in /proc.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::check::{Failure, until};

/// The configuration of the package: its recovery stops at opening a phone again.
pub(crate) const CAREFUL: &str = "/etc/farmhand.toml";

/// The same, whose owner has allowed to reset a phone on the bus.
pub(crate) const MAY_RESET: &str = "/etc/may-reset.toml";

/// The log of all daemons of the story, one behind the other.
const LOG: &str = "/tmp/farmhand.log";

/// In emulation on a busy machine a debug build takes seconds to be up.
const UP_MAX: Duration = Duration::from_secs(60);

/// The longest that one answer of the API may take.
const ANSWER_MAX: Duration = Duration::from_secs(20);

/// Who the daemon runs as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum User {
    Root,
    /// As the package runs it: it may open what a group of its own may open.
    Nobody,
}

/// By the thread's name and number.
pub(crate) type Wakeups = BTreeMap<String, u64>;

/// What became of the daemon's own questions to all phones since it started.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answers {
    pub(crate) probes: u64,
    pub(crate) readings: u64,
    /// Of both.
    pub(crate) failed: u64,
}

/// A running daemon; it is killed when this is dropped.
pub(crate) struct Daemon {
    child: Child,
    state: PathBuf,
    config: &'static str,
    user: User,
}

/// One phone as the API shows it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Phone {
    pub(crate) id: String,
    pub(crate) state: String,
    pub(crate) why: String,
    /// Where it is, without `usb:`.
    pub(crate) path: String,
}

impl Daemon {
    /// Starts it on a state directory and waits until it answers.
    pub(crate) fn start(state: &str, config: &'static str, user: User) -> Result<Self, Failure> {
        let daemon = Self { child: spawn(Path::new(state), config, user)?, state: state.into(), config, user };
        until("the daemon answers", UP_MAX, || daemon.phones())?;
        Ok(daemon)
    }

    /// Ends it as `kill -9` does, starts another in its place, and waits until that answers.
    pub(crate) fn restart(&mut self) -> Result<(), Failure> {
        self.child.kill()?;
        self.child.wait()?;
        self.child = spawn(&self.state, self.config, self.user)?;
        until("the next daemon answers", UP_MAX, || self.phones())?;
        Ok(())
    }

    /// The number of its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its command line, to be run; what it prints can be read.
    pub(crate) fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("farmhand");
        command.arg("--state").arg(&self.state).args(words).env("NO_COLOR", "1").env("COLUMNS", "200");
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Ends it as `kill -9` does.
    pub(crate) fn kill(mut self) -> Result<(), Failure> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Has the command line carry out an order; gives what it prints.
    pub(crate) fn order(&self, words: &[&str]) -> Result<String, Failure> {
        let output = self.command(words).output()?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        Err(format!("farmhand {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr)).into())
    }

    /// Has the command line try what must be refused with this exit code and these words; gives what it says.
    pub(crate) fn refuses(&self, words: &[&str], code: i32, wanted: &[&str]) -> Result<String, Failure> {
        refuses(self.command(words), code, wanted)
    }

    /// The answer to a GET.
    pub(crate) fn read(&self, path: &str) -> Result<Value, Failure> {
        let mut socket = UnixStream::connect(self.state.join("farmhand.sock"))?;
        socket.set_read_timeout(Some(ANSWER_MAX))?;
        write!(socket, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        socket.read_to_end(&mut answer)?;
        let answer = String::from_utf8(answer)?;
        let (_, body) = answer.split_once("\r\n\r\n").ok_or("an answer without a body")?;
        Ok(serde_json::from_str(body)?)
    }

    /// Every phone and place that it shows.
    pub(crate) fn phones(&self) -> Result<Vec<Phone>, Failure> {
        let answer = self.read("/api/phones")?;
        let phones = answer.as_array().ok_or("the phones are no list")?;
        let text = |phone: &Value, key: &str| phone[key].as_str().unwrap_or_default().to_owned();
        let phone = |phone: &Value| Phone {
            id: text(phone, "id"),
            state: text(phone, "state"),
            why: text(phone, "why"),
            path: text(phone, "endpoint").trim_start_matches("usb:").to_owned(),
        };
        Ok(phones.iter().map(phone).collect())
    }

    /// What became of its questions, and how long ago it has read the profile that it will read again first.
    pub(crate) fn answers(&self) -> Result<(Answers, Duration), Failure> {
        let snapshot = self.read("/api/snapshot")?;
        let phones = snapshot["phones"].as_array().ok_or("no phones")?;
        let (mut sum, mut first) = (Answers::default(), i64::MAX);
        for phone in phones {
            let count = |of: &str, result: &str| phone["answers"][of][result].as_u64().ok_or("answers are not counted");
            sum.probes += count("probes", "answered")?;
            sum.readings += count("readings", "answered")?;
            sum.failed += count("probes", "failed")? + count("readings", "failed")?;
            first = first.min(phone["device"]["read"].as_i64().unwrap_or(first));
        }
        let now = snapshot["at"].as_i64().ok_or("no time")?;
        Ok((sum, Duration::from_millis(u64::try_from(now.saturating_sub(first)).unwrap_or_default())))
    }

    /// Waits until the phone or place `id` is in one of `states`, and says how long that took.
    pub(crate) fn wait_for(&self, id: &str, states: &[&str], most: Duration) -> Result<(Phone, Duration), Failure> {
        until(&format!("{id} is {}", states.join(" or ")), most, || {
            let phones = self.phones()?;
            let phone = phones.into_iter().find(|phone| phone.id == id).ok_or("it is not shown")?;
            if states.contains(&phone.state.as_str()) { Ok(phone) } else { Err(format!("{phone:?}").into()) }
        })
    }

    /// How many threads it has.
    pub(crate) fn threads(&self) -> Result<usize, Failure> {
        Ok(fs::read_dir(format!("/proc/{}/task", self.child.id()))?.count())
    }

    /// How often each of its threads has gone to sleep, which is how often it was woken.
    pub(crate) fn wakeups(&self) -> Result<Wakeups, Failure> {
        let mut wakeups = Wakeups::new();
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let path = task?.path();
            let status = fs::read_to_string(path.join("status")).unwrap_or_default();
            let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
            let count = field("voluntary_ctxt_switches:").and_then(|count| count.parse().ok()).unwrap_or_default();
            let id = path.file_name().unwrap_or_default().to_string_lossy();
            wakeups.insert(format!("{} {id}", field("Name:").unwrap_or_default()), count);
        }
        Ok(wakeups)
    }
}

fn spawn(state: &Path, config: &str, user: User) -> Result<Child, Failure> {
    let log = File::options().create(true).append(true).open(LOG)?;
    let mut command = Command::new("farmhand");
    command.arg("--state").arg(state).args(["run", "--config", config]).env("NO_COLOR", "1");
    command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    if user == User::Nobody {
        command.uid(1000).gid(1000);
    }
    Ok(command.spawn()?)
}

/// Runs what must fail with this exit code and these words; gives what it says.
pub(crate) fn refuses(mut command: Command, code: i32, wanted: &[&str]) -> Result<String, Failure> {
    let output = command.output()?;
    // A sentence may be broken into lines.
    let said = String::from_utf8_lossy(&output.stderr).replace('│', " ");
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    let fits = output.status.code() == Some(code) && wanted.iter().all(|word| said.contains(word));
    if fits { Ok(said) } else { Err(format!("{} instead of {code} and {wanted:?}: {said}", output.status).into()) }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        // It may have been killed by the story.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What all daemons of the story have logged.
pub(crate) fn log() -> String {
    fs::read_to_string(LOG).unwrap_or_default()
}
