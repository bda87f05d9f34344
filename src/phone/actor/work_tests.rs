//! The probe on a way that is slow, and on one that is dead, and the restart of the agent. The clock is the test's: nobody waits.

use std::io;
use std::path::Path;

use bytes::{Bytes, BytesMut};
use handset::{Authorisation, Console, Device, Handset, MemoryFiles, Output, Profile as Model};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, ReadHalf, WriteHalf, duplex, split};

use super::*;
use crate::adb::auth::KeyRing;
use crate::adb::driver::{ConnectOptions, connect};
use crate::adb::services::Source;
use crate::adb::services::sync::{PushOptions, RemoteFile};
use crate::adb::transport::{HEADER_LEN, Reader, Writer};

/// What is on the way to the phone at any time, in bytes, and how fast it goes: an answer comes behind nine seconds of it, and every
/// second or so a message is acknowledged.
const ON_THE_WAY: usize = 512 << 10;
const SLOW: usize = 60_000;
const MESSAGE: u32 = 64 << 10;
const FILE: &str = "/data/local/tmp/large";

/// What an Android answers to a line of its shell.
type Answer = Box<dyn Fn(&str) -> Output + Send + Sync>;

struct Android {
    files: MemoryFiles,
    answer: Answer,
}

impl Device for Android {
    type Files = MemoryFiles;

    async fn run(&self, command: handset::Command<'_>, _: &mut Console<'_>) -> Output {
        match command {
            handset::Command::Line(line) => (self.answer)(line),
            handset::Command::Service(_) => Output::failure(1, "no such service"),
        }
    }

    fn files(&self) -> &MemoryFiles {
        &self.files
    }

    fn reboot(&self, _: handset::RebootTarget<'_>) -> Result<(), String> {
        Ok(())
    }
}

/// The host's end of a way in memory.
struct Pipe(DuplexStream);
struct PipeReader(ReadHalf<DuplexStream>);
struct PipeWriter(WriteHalf<DuplexStream>);

impl Transport for Pipe {
    type Reader = PipeReader;
    type Writer = PipeWriter;

    fn split(self) -> (PipeReader, PipeWriter) {
        let (read, write) = split(self.0);
        (PipeReader(read), PipeWriter(write))
    }
}

impl Reader for PipeReader {
    async fn read(&mut self, want: usize) -> io::Result<Bytes> {
        let mut room = BytesMut::with_capacity(want);
        (&mut self.0).take(want as u64).read_buf(&mut room).await?;
        Ok(room.freeze())
    }
}

impl Writer for PipeWriter {
    async fn write(&mut self, header: [u8; HEADER_LEN], payload: Bytes) -> io::Result<()> {
        self.0.write_all(&header).await?;
        self.0.write_all(&payload).await
    }
}

/// A phone that can say `echo`, behind a way that carries so many bytes a second to it.
async fn phone_behind(bytes_per_second: usize) -> Adb {
    let echo: Answer = Box::new(|line| Output::success(line.trim_start_matches("echo ").to_owned() + "\n"));
    phone_that(echo, bytes_per_second).await
}

async fn phone_that(answer: Answer, bytes_per_second: usize) -> Adb {
    let (ours, mut hub) = duplex(ON_THE_WAY);
    let (mut hub_below, theirs) = duplex(64 << 10);
    tokio::spawn(async move {
        let android = Android { files: MemoryFiles::new(64 << 20, &["/data/local/tmp"]), answer };
        let model = Model { payload_bytes_max: MESSAGE, ..Model::modern("caiman", "Pixel 9 Pro").with("delayed_ack") };
        let handset = Handset::new(Arc::new(android), model, Authorisation::Off);
        handset.serve(theirs).await
    });
    tokio::spawn(async move {
        let (mut from_host, mut to_host) = split(&mut hub);
        let (mut from_phone, mut to_phone) = split(&mut hub_below);
        let slowly = async {
            let mut bytes = vec![0; 32 << 10];
            loop {
                let len: usize = from_host.read(&mut bytes).await?;
                tokio::time::sleep(Duration::from_secs_f64(len as f64 / bytes_per_second as f64)).await;
                to_phone.write_all(&bytes[..len]).await?;
                if len == 0 {
                    return Ok(0);
                }
            }
        };
        let back = tokio::io::copy(&mut from_phone, &mut to_host);
        tokio::select! {
            ended = slowly => ended,
            ended = back => ended,
        }
    });
    let keys =
        KeyRing::load_or_create(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/firmware-tools/handset/tests/keys")));
    connect(Pipe(ours), Arc::new(keys.unwrap()), ConnectOptions::default()).await.unwrap()
}

async fn push_much(adb: Adb) {
    let to = RemoteFile { path: FILE.to_owned(), mode: 0o644, mtime_s: 0 };
    let much = vec![7; 32 << 20];
    let _ = adb.push(Source::from(&much[..]), &to, &PushOptions::default()).await;
}

#[tokio::test(start_paused = true)]
async fn a_phone_whose_answer_comes_behind_a_push_is_alive() {
    let adb = phone_behind(SLOW).await;
    let push = tokio::spawn(push_much(adb.clone()));
    tokio::time::sleep(Duration::from_secs(20)).await;
    let asked = tokio::time::Instant::now();
    assert_eq!(probe(adb).await, Event::ProbeAnswered);
    assert!(asked.elapsed() > PROBE_MAX, "the push was not in the way: {:?}", asked.elapsed());
    push.abort();
}

#[tokio::test(start_paused = true)]
async fn a_phone_that_is_silent_for_five_seconds_is_not() {
    // What it acknowledges next is minutes away.
    let dead = phone_behind(1000).await;
    let asked = tokio::time::Instant::now();
    let _push = tokio::spawn(push_much(dead.clone()));
    tokio::time::sleep(Duration::from_secs(1)).await;
    let why = "the probe was not answered: it was silent for 5 s".to_owned();
    assert_eq!(probe(dead).await, Event::ProbeFailed { why });
    assert!(asked.elapsed() < Duration::from_secs(7));
}

/// Restarts the agent of a phone of this SDK that answers its start so: what came of it, and the lines that the phone was given.
async fn restart(start: &Start, sdk: u32, said: &'static str) -> (Result<(), String>, Vec<String>) {
    let (lines_in, mut lines) = tokio::sync::mpsc::unbounded_channel();
    let answer: Answer = Box::new(move |line| {
        lines_in.send(line.to_owned()).unwrap();
        Output::success(match line {
            "getprop ro.build.version.sdk" => format!("{sdk}\n"),
            "am force-stop org.example.agent" => String::new(),
            _ => said.to_owned(),
        })
    });
    let adb = phone_that(answer, 1 << 20).await;
    let result = start_again(&adb, &PackageName::new("org.example.agent"), start).await;
    (result, std::iter::from_fn(|| lines.try_recv().ok()).collect())
}

#[tokio::test(start_paused = true)]
async fn the_agent_is_ended_and_started_in_its_owners_way() {
    const ENDED: [&str; 2] = ["getprop ro.build.version.sdk", "am force-stop org.example.agent"];
    for (start, sdk, started, said) in [
        ("launcher", 34, "monkey -p org.example.agent -c android.intent.category.LAUNCHER 1", "Events injected: 1\n"),
        (
            "activity:.Main",
            34,
            "am start -n 'org.example.agent/.Main'",
            "Starting: Intent { cmp=org.example.agent/.Main }\n",
        ),
        (
            "service:.Sync",
            34,
            "am start-foreground-service -n 'org.example.agent/.Sync'",
            "Starting service: Intent { }\n",
        ),
        ("service:.Sync", 25, "am startservice -n 'org.example.agent/.Sync'", "Starting service: Intent { }\n"),
        (
            "broadcast:.Wake",
            34,
            "am broadcast --include-stopped-packages -n 'org.example.agent/.Wake'",
            "Broadcast completed: result=0\n",
        ),
    ] {
        let (result, lines) = restart(&Start::parse(start).unwrap(), sdk, said).await;
        assert_eq!(result, Ok(()), "{start}");
        assert_eq!(lines, [&ENDED[..], &[started]].concat(), "{start}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_could_not_be_started_is_told_in_the_phones_own_words() {
    for (start, said, last) in [
        (
            "launcher",
            "** No activities found to run, monkey aborted.\n",
            "** No activities found to run, monkey aborted.",
        ),
        (
            "activity:.Gone",
            "Starting: Intent { }\nError type 3\nError: Activity class does not exist.\n\n",
            "Error: Activity class does not exist.",
        ),
        (
            "service:.Gone",
            "Starting service: Intent { }\nError: Not found; no service started.\n",
            "Error: Not found; no service started.",
        ),
        (
            "broadcast:.Wake",
            "java.lang.SecurityException: Permission Denial\n",
            "java.lang.SecurityException: Permission Denial",
        ),
    ] {
        let (result, _) = restart(&Start::parse(start).unwrap(), 34, said).await;
        let why = format!("the agent was ended and could not be started again; the phone said: {last}");
        assert_eq!(result, Err(why), "{start}");
    }
}
