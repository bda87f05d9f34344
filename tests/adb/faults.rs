//! What can be wrong with a phone × what one does with phones, through a real daemon and its command line.
//!
//! Each cell has a phone of its own. The fault comes; the command ends within [`DEADLINE`] as its row says, and meanwhile another phone
//! answers as ever; the fault goes, the phone is ready again, the same command does what it shall, and nothing is left of the first
//! try: no lease, no part of a file on either side, no second connection.

use std::fs;
use std::time::Duration;

use farmhand::rack::snapshot::PhoneState;
use firmware_tools::order::PhoneAct;
use firmware_tools::phone::Tap;
use futures_util::StreamExt as _;

use crate::desk::{Desk, said};
use crate::google::noise;

/// The longest that a command may take on a phone with a fault: an answer to OPEN is waited for 15 s, the rest is for a busy machine.
const DEADLINE: Duration = Duration::from_secs(25);

/// The longest that one may take on a phone with which nothing is wrong.
const AT_ONCE: Duration = Duration::from_secs(10);

/// Cells at once. Those that wait for a deadline cost nothing meanwhile.
const CELLS: usize = 16;

/// What one does with phones.
const WORKS: [&str; 6] = ["shell", "push", "pull", "install", "logcat", "screenshot"];

/// Which phone it happens to.
#[derive(Clone, Copy, Debug)]
enum Phone {
    /// One of today.
    New,
    /// One that speaks the ADB of Android 6: each payload has its sum.
    Old,
}
use Phone::{New, Old};

/// When it happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    /// While the phone is ready: the command is the first to meet it.
    Ready,
    /// Its cable is put in anew afterwards, and the phone is ready.
    PluggedAgain,
    /// It is not ready any more.
    NotReady,
    /// It was restarted afterwards, and is not ready any more.
    Restarted,
}

/// How a command ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    /// It does what it shall.
    Well,
    /// It is refused with this code.
    Told(&'static str),
    /// The connection carries nothing: this code, or that of a phone that is not there if farmhand's own question met it first.
    Lost(&'static str),
}
use Ends::{Lost, Told, Well};

/// By fault: how each of [`WORKS`] ends.
const TABLE: [(&str, Phone, When, [Ends; 6]); 16] = [
    ("stalls", New, When::Ready, LOST),
    ("garbage", New, When::Ready, LOST),
    ("wrong-magic", New, When::Ready, LOST),
    ("long-payload", New, When::Ready, LOST),
    ("wrong-checksum", Old, When::Ready, LOST),
    // Nobody looks at sums once both sides have agreed to leave them out.
    ("wrong-checksum", New, When::Ready, WELL),
    ("cnxn-twice", New, When::PluggedAgain, WELL),
    ("short-packets", New, When::PluggedAgain, WELL),
    ("slow-disk:2000", New, When::Ready, WELL),
    ("full-disk", New, When::Ready, [Well, Told("phone.push"), Well, Told("install.transient"), Well, Well]),
    ("asks-before-install", New, When::Ready, [Well, Well, Well, Told("install.needs_hand"), Well, Well]),
    (
        "install-fails:INSTALL_FAILED_OLDER_SDK",
        New,
        When::Ready,
        [Well, Well, Well, Told("install.permanent"), Well, Well],
    ),
    ("refuses-auth", New, When::NotReady, AWAY),
    ("unplugs-after:1", New, When::Ready, LOST),
    // More than the other works say to a phone, and half of the file that is pushed.
    ("unplugs-after:300000", New, When::Ready, [Well, Told("phone.push"), Well, Well, Well, Well]),
    ("never-comes-back", New, When::Restarted, AWAY),
];

const WELL: [Ends; 6] = [Well; 6];

/// Files are looked at before they are copied.
const LOST: [Ends; 6] = [
    Lost("phone.shell"),
    Lost("phone.stat"),
    Lost("phone.stat"),
    Lost("install.transient"),
    Lost("phone.shell"),
    Lost("phone.screenshot"),
];

const AWAY: [Ends; 6] = [Told("phone.offline"); 6];

/// What is pushed, and what is pulled, in bytes.
const PUSHED: usize = 600_000;
const PULLED: usize = 100_000;

/// The phone with which nothing is wrong.
const OTHER: &str = "other";

/// A cell's phone: its row and its work.
struct Cell {
    phone: String,
    fault: &'static str,
    when: When,
    work: &'static str,
    ends: Ends,
}

fn cells() -> Vec<(Phone, Cell)> {
    let rows = TABLE.into_iter().enumerate();
    let cells = rows.flat_map(|(row, (fault, kind, when, ends))| {
        WORKS.into_iter().zip(ends).map(move |(work, ends)| {
            let phone = format!("{row:02}-{work}");
            (kind, Cell { phone, fault, when, work, ends })
        })
    });
    cells.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_wrong_with_a_phone_each_command_ends_as_it_shall_and_the_phone_is_back() {
    let mut rack = format!("[[phone]]\nname = '{OTHER}'\n");
    for (kind, cell) in cells() {
        let old = match kind {
            New => "",
            Old => "adb = 'old'\nsdk = 24\n",
        };
        rack += &format!("[[phone]]\nname = '{}'\n{old}", cell.phone);
    }
    let desk = Desk::start(&rack, "").await;
    fs::write(desk.path("pushed"), noise(PUSHED)).unwrap();
    fs::write(desk.path("pulled"), noise(PULLED)).unwrap();
    let wrong: Vec<String> = desk.look(table(&desk)).await;
    assert!(wrong.is_empty(), "{} cells:\n{}", wrong.len(), wrong.join("\n"));
    let Desk { mut daemon, .. } = desk;
    daemon.stop().await;
    let log = fs::read_to_string(daemon.log()).unwrap();
    assert!(!log.contains("panicked"), "{log}");
}

/// What is wrong with the table.
async fn table(desk: &Desk) -> Vec<String> {
    let before = desk.ready(OTHER).await.unwrap();
    let done = cells().into_iter().map(async |(_, cell)| {
        let ended = cell.is_played(desk).await;
        ended.err().map(|why| format!("{} × {} on {}: {why}", cell.fault, cell.work, cell.phone))
    });
    let done: Vec<_> = futures_util::stream::iter(done).buffer_unordered(CELLS).collect().await;
    let after = desk.ready(OTHER).await.unwrap();
    assert_eq!((after.since, after.why), (before.since, before.why), "nothing happened to the other phone");
    assert_eq!(desk.phone(OTHER).state().connections, 1);
    done.into_iter().flatten().collect()
}

impl Cell {
    async fn is_played(&self, desk: &Desk) -> Result<(), String> {
        desk.ready(&self.phone).await?;
        if self.work == "pull" {
            let from = desk.path("pulled");
            desk.done(&self.phone, &["push", from.to_str().unwrap(), KEPT], DEADLINE).await?;
        }
        self.goes_wrong(desk).await?;
        let (ended, answered) = tokio::join!(self.is_worked_on(desk), other_answers(desk));
        answered?;
        let ended = ended?;
        if let Err(why) = &ended
            && desk.path(&self.phone).exists()
        {
            return Err(format!("half a file is left: {why}"));
        }
        self.has_ended(ended)?;
        self.is_mended(desk).await?;
        let again = desk.comes("the same command does what it shall", async || {
            desk.ready(&self.phone).await?;
            self.does(desk).await?
        });
        again.await?;
        self.leaves_nothing(desk).await
    }

    async fn goes_wrong(&self, desk: &Desk) -> Result<(), String> {
        let name = &self.phone;
        desk.fault(name, self.fault).await?;
        match self.when {
            When::Ready => {}
            When::PluggedAgain => {
                desk.act(name, PhoneAct::Unplug).await?;
                desk.seen(name, |view| view.state != PhoneState::Ready).await?;
                desk.act(name, PhoneAct::Plug).await?;
                desk.ready(name).await?;
            }
            When::NotReady => drop(desk.seen(name, |view| view.state == PhoneState::Authorising).await?),
            When::Restarted => {
                desk.done(name, &["reboot"], AT_ONCE).await?;
                let gone = desk.comes("farmhand knows that it is away", async || {
                    let output = desk.run(name, &["shell", "true"], AT_ONCE).await?;
                    if said(&output).starts_with("phone.offline ") { Ok(()) } else { Err(said(&output)) }
                });
                gone.await?;
            }
        }
        Ok(())
    }

    /// Does the work, and what it is refused with. Somebody who is asked on the screen taps on "cancel".
    async fn is_worked_on(&self, desk: &Desk) -> Result<Result<(), String>, String> {
        if self.ends != Told("install.needs_hand") {
            return self.does(desk).await;
        }
        let tapped = async {
            let question =
                desk.comes("the question is on the screen", async || match desk.phone(&self.phone).state().questions {
                    0 => Err("no question".to_owned()),
                    _ => Ok(()),
                });
            question.await?;
            desk.act(&self.phone, PhoneAct::Tap { tap: Tap::Deny }).await
        };
        let (ended, tapped) = tokio::join!(self.does(desk), tapped);
        tapped.and(ended)
    }

    /// What comes of the work: the inner error is what the command says.
    async fn does(&self, desk: &Desk) -> Result<Result<(), String>, String> {
        let (phone, pushed, here) = (&self.phone, desk.path("pushed"), desk.path(&self.phone));
        let apk = firmware_tools::rack::test_apks().join("agent-1.apk");
        let (pushed, here, apk) = (pushed.to_str().unwrap(), here.to_str().unwrap(), apk.to_str().unwrap());
        let words: &[&str] = match self.work {
            "shell" => &["shell", "getprop", "ro.serialno"],
            "push" => &["push", pushed, "/data/local/tmp/pushed"],
            "pull" => &["pull", KEPT, here],
            "install" => &["install", apk],
            "logcat" => &["logcat", "-d"],
            _ => &["screenshot", here],
        };
        let output = desk.run(phone, words, DEADLINE).await?;
        if !output.status.success() {
            return Ok(Err(format!("ends with {:?}: {}", output.status.code(), said(&output))));
        }
        let file = |path| fs::read(path).unwrap_or_default();
        let is_done = match self.work {
            "shell" => output.stdout == format!("VIRTUAL{phone}\n").as_bytes(),
            "push" => desk.phone(phone).file("/data/local/tmp/pushed").is_some_and(|there| there == file(pushed)),
            "pull" => file(here) == noise(PULLED),
            "install" => desk.phone(phone).state().packages.contains_key("org.example.agent"),
            "logcat" => output.stdout.starts_with(b"--------- beginning of main\n"),
            _ => file(here).starts_with(b"\x89PNG"),
        };
        if is_done { Ok(Ok(())) } else { Err("says that it was done, and it was not".to_owned()) }
    }

    /// Whether the command's end is that of the table.
    fn has_ended(&self, ended: Result<(), String>) -> Result<(), String> {
        let is_refusal = |said: &str, code: &str| said.starts_with(&format!("ends with Some(4): {code} "));
        match (self.ends, ended) {
            (Well, Ok(())) => Ok(()),
            (Told(code) | Lost(code), Err(said)) if is_refusal(&said, code) => Ok(()),
            (Lost(_), Err(said)) if is_refusal(&said, "phone.offline") => Ok(()),
            (expected, Ok(())) => Err(format!("expected {expected:?}, and it does what it shall")),
            (expected, Err(said)) => Err(format!("expected {expected:?}, it {said}")),
        }
    }

    async fn is_mended(&self, desk: &Desk) -> Result<(), String> {
        if self.fault.starts_with("unplugs-after") && self.ends != Well {
            desk.comes("its cable is out", async || match desk.phone(&self.phone).is_plugged() {
                false => Ok(()),
                true => Err("it is in".to_owned()),
            })
            .await?;
        }
        desk.act(&self.phone, PhoneAct::Clear).await?;
        desk.act(&self.phone, PhoneAct::Plug).await
    }

    async fn leaves_nothing(&self, desk: &Desk) -> Result<(), String> {
        let phone = desk.phone(&self.phone);
        desk.seen(&self.phone, |view| view.leases.is_empty() && view.state == PhoneState::Ready).await?;
        desk.comes("one connection", async || match phone.state().connections {
            1 => Ok(()),
            open => Err(open.to_string()),
        })
        .await?;
        let listed = desk.done(&self.phone, &["shell", "ls", "/data/local/tmp"], AT_ONCE).await?;
        let listed = String::from_utf8_lossy(&listed).into_owned();
        let left: Vec<&str> = listed.lines().filter(|name| !["pushed", "kept"].contains(name)).collect();
        let parts = fs::read_dir(desk.path("")).map_err(|error| error.to_string())?.flatten();
        let names = parts.map(|entry| entry.file_name().to_string_lossy().into_owned());
        let here: Vec<_> = names.filter(|name| name.contains(&self.phone) && *name != self.phone).collect();
        if left.is_empty() && here.is_empty() { Ok(()) } else { Err(format!("left are {left:?} there, {here:?} here")) }
    }
}

/// A file that is on the phone before anything goes wrong.
const KEPT: &str = "/data/local/tmp/kept";

/// A phone with which nothing is wrong does not feel what is wrong with another one.
async fn other_answers(desk: &Desk) -> Result<(), String> {
    let said = desk.done(OTHER, &["shell", "echo", "fine"], AT_ONCE).await?;
    if said == b"fine\n" { Ok(()) } else { Err(format!("the other phone says {said:?}")) }
}
