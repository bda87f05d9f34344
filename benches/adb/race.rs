//! The same work by several programs, in turns.

#![allow(dead_code, reason = "each bench has its own race")]

use std::fs;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use sha2::{Digest as _, Sha256};

use crate::report::{Goal, median, report};

pub(crate) const ROUNDS: usize = 7;
const SHELLS: usize = 200;
/// Shells of one program in a row, before the next one's turn.
const SHELLS_PER_TURN: usize = 20;
const SMALL_FILES: usize = 1000;
const SMALL_FILE_LEN: usize = 4 << 10;

/// How much is carried.
#[derive(Clone, Copy)]
pub(crate) struct Sizes {
    pub(crate) file_len: usize,
}

impl Sizes {
    pub(crate) const TCP: Self = Self { file_len: 256 << 20 };
    pub(crate) const USB: Self = Self { file_len: 64 << 20 };
    /// For who carries a megabyte a second.
    pub(crate) const SLOW: Self = Self { file_len: 4 << 20 };
}

/// What a program is in the race for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// It is farmhand, or what farmhand is measured by.
    Measured,
    /// It is told beside the others, and is no measure.
    Beside,
}

/// A program that does the work, with the server that it needs.
#[derive(Clone)]
pub(crate) struct Contender {
    pub(crate) name: String,
    kind: Kind,
    command: Vec<String>,
    pub(crate) push: Vec<&'static str>,
    /// None where the program does all by itself.
    server: Option<u32>,
    /// The process of the phone's adbd, where it is one of this machine.
    adbd: Option<u32>,
}

/// The way in which Google's adb sends files.
const UNCOMPRESSED: &[&str] = &["push", "-Z"];

impl Contender {
    fn new(name: &str, command: &[&str], server: Option<u32>) -> Self {
        Self {
            name: name.to_owned(),
            kind: Kind::Measured,
            command: command.iter().map(|word| (*word).to_owned()).collect(),
            push: vec!["push"],
            server,
            adbd: None,
        }
    }

    pub(crate) fn farmhand(program: &Path, state: &Path, phone: &str, daemon: u32) -> Self {
        let (program, state) = (program.display().to_string(), state.display().to_string());
        Self::new("farmhand", &[&program, "--state", &state, "phone", phone], Some(daemon))
    }

    pub(crate) fn adb(name: &str, program: &Path, port: u16, serial: &str, server: u32) -> Self {
        let (program, port) = (program.display().to_string(), port.to_string());
        Self::new(name, &[&program, "-P", &port, "-s", serial], Some(server))
    }

    /// The crate `adb_client`, by its own command line: a connection for each command, and no server.
    pub(crate) fn adb_client(program: &Path, address: &str) -> Self {
        // Without a key it makes one each time.
        let key = concat!(env!("CARGO_MANIFEST_DIR"), "/firmware-tools/handset/tests/keys/adbkey");
        let program = program.display().to_string();
        Self { kind: Kind::Beside, ..Self::new("adb_client", &[&program, "tcp", "--private-key", key, address], None) }
    }

    /// The same on USB, where it takes the first handset with these ids, in hexadecimal digits.
    pub(crate) fn adb_client_usb(program: &str, key: &str, vendor: &str, product: &str) -> Self {
        let command = [program, "usb", "--private-key", key, "--vendor-id", vendor, "--product-id", product];
        Self { kind: Kind::Beside, ..Self::new("adb_client", &command, None) }
    }

    /// The same, with a phone whose processor time is known, too.
    pub(crate) fn with_adbd(self, adbd: u32) -> Self {
        Self { adbd: Some(adbd), ..self }
    }

    /// The same, told not to compress.
    pub(crate) fn uncompressed(&self) -> Self {
        Self { name: format!("{} -Z", self.name), push: UNCOMPRESSED.into(), ..self.clone() }
    }

    /// The program itself.
    pub(crate) fn program(&self) -> &str {
        self.command.first().map_or("", String::as_str)
    }

    /// The process of the server that it needs.
    pub(crate) fn server(&self) -> Option<u32> {
        self.server
    }

    pub(crate) fn pull(&self) -> Vec<&'static str> {
        self.push.iter().map(|word| if *word == "push" { "pull" } else { word }).collect()
    }

    /// Runs it; gives seconds by the wall clock and by the processor.
    pub(crate) fn run(&self, arguments: &[&str]) -> io::Result<Run> {
        let of = |process: Option<u32>| process.map_or(Ok(0.0), process_s);
        let cpu = || Ok::<_, io::Error>([children_s()?, of(self.server)?, of(self.adbd)?]);
        let (before, begun) = (cpu()?, Instant::now());
        let (program, first) = self.command.split_first().expect("a program");
        let output = Command::new(program).args(first).args(arguments).stdin(Stdio::null()).output()?;
        let took = begun.elapsed();
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr);
            return Err(io::Error::other(format!("{} {arguments:?}: {}: {said}", self.name, output.status)));
        }
        let after = cpu()?;
        let [client_s, server_s, adbd_s] = std::array::from_fn(|process| after[process] - before[process]);
        Ok(Run { took, cpu_s: client_s + server_s, server_s, adbd_s })
    }
}

#[derive(Clone, Copy)]
pub(crate) struct Run {
    pub(crate) took: Duration,
    /// Of client and server.
    cpu_s: f64,
    /// Of the server alone.
    pub(crate) server_s: f64,
    /// Of the phone's adbd, where it is known.
    adbd_s: f64,
}

/// All programs on one stage: farmhand first, and last those that are no measure.
pub(crate) struct Race {
    /// How its figures are called.
    pub(crate) bus: String,
    pub(crate) contenders: Vec<Contender>,
    /// A folder that this process and the phone see.
    pub(crate) dir: PathBuf,
    pub(crate) sizes: Sizes,
}

/// A file of random bytes, which this process and the phone see.
pub(crate) struct RandomFile {
    path: PathBuf,
    sum: [u8; 32],
}

impl Race {
    /// Random bytes, which are at `file` in the folder, too.
    pub(crate) fn make_file(&self) -> io::Result<Vec<u8>> {
        let content = noise(self.sizes.file_len)?;
        fs::write(self.dir.join("file"), &content)?;
        Ok(content)
    }

    /// One push of that file by farmhand's whole process, and how long it took.
    pub(crate) fn push_by_farmhand(&self) -> io::Result<Duration> {
        let (from, to) = (self.dir.join("file"), self.dir.join("pushed"));
        let [from_text, to_text] = [&from, &to].map(|path| path.display().to_string());
        let contender = &self.contenders[0];
        let run = contender.run(&[&contender.push[..], &[&from_text, &to_text]].concat())?;
        same(&sha256(&from)?, &to, &contender.name)?;
        fs::remove_file(&to)?;
        Ok(run.took)
    }

    pub(crate) fn run(&self) -> io::Result<()> {
        let file = self.random_file()?;
        let mut cpu = vec![0.0; self.all().len()];
        let pushes = self.pushes(&file)?;
        self.ratio(&format!("adb.push_{}_vs_adb", self.bus), &pushes, if self.bus == "usb" { 1.0 } else { 0.8 })?;
        let pulls = self.pulls(&file)?;
        self.ratio(&format!("adb.pull_{}_vs_adb", self.bus), &pulls, 0.8)?;

        for (cpu, runs) in cpu.iter_mut().zip(pushes.iter().zip(&pulls)) {
            let bytes = (runs.0.len() + runs.1.len()) * self.sizes.file_len;
            *cpu = runs.0.iter().chain(runs.1).map(|run| run.cpu_s).sum::<f64>() / (bytes as f64 / 1e9);
        }
        self.tell("processor, s a GB", &cpu);
        report(&self.figure("cpu_s_per_gb_vs_adb"), cpu[0] / self.best_peer(&cpu), "ratio", Goal::AtMost(0.4))?;
        if self.bus != "tcp" {
            // The others are about the processes, not about the bus.
            return Ok(());
        }
        self.small_files(&self.figure("push_1000_files_vs_adb"))?;
        self.shells()?;
        self.busy_shells()
    }

    /// Google's adb 34.
    pub(crate) fn adb34(&self) -> io::Result<&Contender> {
        let found = self.contenders.iter().find(|contender| contender.name == "adb34");
        found.ok_or_else(|| io::Error::other("adb 34 is not there"))
    }

    /// A large file, for [`Self::pushes`] and [`Self::pulls`].
    pub(crate) fn random_file(&self) -> io::Result<RandomFile> {
        let path = self.dir.join("file");
        fs::write(&path, noise(self.sizes.file_len)?)?;
        Ok(RandomFile { sum: sha256(&path)?, path })
    }

    /// The file to the phone by each, in turns.
    pub(crate) fn pushes(&self, file: &RandomFile) -> io::Result<Vec<Vec<Run>>> {
        self.carries(file, "pushed", |contender| contender.push.clone())
    }

    /// The file from the phone by each, in turns.
    pub(crate) fn pulls(&self, file: &RandomFile) -> io::Result<Vec<Vec<Run>>> {
        self.carries(file, "pulled", Contender::pull)
    }

    fn carries(
        &self,
        file: &RandomFile,
        name: &str,
        words: impl Fn(&Contender) -> Vec<&'static str>,
    ) -> io::Result<Vec<Vec<Run>>> {
        let carried = self.dir.join(name);
        let (from, to) = (file.path.display().to_string(), carried.display().to_string());
        rounds(&self.all(), ROUNDS, |contender| {
            let run = contender.run(&[&words(contender)[..], &[&from, &to]].concat())?;
            same(&file.sum, &carried, &contender.name)?;
            fs::remove_file(&carried)?;
            Ok(run)
        })
    }

    fn figure(&self, name: &str) -> String {
        if self.bus == "tcp" { format!("adb.{name}") } else { format!("adb.{name}_{}", self.bus) }
    }

    /// A folder of 1,000 files.
    pub(crate) fn small_files(&self, figure: &str) -> io::Result<()> {
        let folder = self.dir.join("small");
        fs::create_dir(&folder)?;
        for (n, content) in noise(SMALL_FILES * SMALL_FILE_LEN)?.chunks(SMALL_FILE_LEN).enumerate() {
            fs::write(folder.join(format!("{n}.bin")), content)?;
        }
        let there = self.dir.join("there");
        let (from, to) = (folder.display().to_string(), there.display().to_string());
        let runs = self.rounds(ROUNDS, |contender| {
            let run = contender.run(&[&contender.push[..], &[&from, &to]].concat())?;
            for n in [0, SMALL_FILES / 2, SMALL_FILES - 1] {
                let name = format!("{n}.bin");
                same(&sha256(&folder.join(&name))?, &there.join(&name), &contender.name)?;
            }
            assert_eq!(fs::read_dir(&there)?.count(), SMALL_FILES, "{}", contender.name);
            fs::remove_dir_all(&there)?;
            Ok(run)
        })?;
        self.ratio(figure, &runs, 0.9)
    }

    fn shells(&self) -> io::Result<()> {
        let all = self.all();
        let mut runs = vec![Vec::new(); all.len()];
        for _ in 0..SHELLS / SHELLS_PER_TURN {
            for (runs, contender) in runs.iter_mut().zip(&all) {
                for _ in 0..SHELLS_PER_TURN {
                    runs.push(contender.run(&["shell", "true"])?);
                }
            }
        }
        self.ratio(&self.figure("shell_vs_adb"), &runs, 0.7)
    }

    /// How long a question takes while a file goes to the same phone.
    fn busy_shells(&self) -> io::Result<()> {
        let (from, to) = (self.dir.join("file").display().to_string(), self.dir.join("busy").display().to_string());
        let mut worst = Vec::new();
        for contender in self.measured() {
            let done = AtomicBool::new(false);
            let took = std::thread::scope(|scope| {
                let pushing = scope.spawn(|| {
                    while !done.load(Ordering::Relaxed) {
                        contender.run(&[&contender.push[..], &[&from, &to]].concat())?;
                    }
                    Ok::<_, io::Error>(())
                });
                let asked: io::Result<Vec<f64>> = (0..SHELLS)
                    .map(|_| Ok(contender.run(&["shell", "getprop", "ro.product.model"])?.took.as_secs_f64() * 1e3))
                    .collect();
                done.store(true, Ordering::Relaxed);
                pushing.join().expect("the pushing thread").and(asked)
            });
            let mut took = took?;
            took.sort_unstable_by(f64::total_cmp);
            worst.push(took[SHELLS * 99 / 100 - 1]);
        }
        self.tell("getprop during a push, 99 of 100 within ms", &worst);
        report(&self.figure("getprop_p99_during_push_ms"), worst[0], "ms", Goal::AtMost(50.0))
    }

    /// Each program once a round, whose turn is first changes.
    pub(crate) fn rounds(
        &self,
        count: usize,
        once: impl FnMut(&Contender) -> io::Result<Run>,
    ) -> io::Result<Vec<Vec<Run>>> {
        rounds(&self.measured(), count, once)
    }

    fn all(&self) -> Vec<&Contender> {
        self.contenders.iter().collect()
    }

    fn measured(&self) -> Vec<&Contender> {
        self.contenders.iter().filter(|contender| contender.kind == Kind::Measured).collect()
    }

    /// The best of what all but the first have.
    fn best_peer(&self, values: &[f64]) -> f64 {
        values.iter().take(self.measured().len()).skip(1).copied().fold(f64::INFINITY, f64::min)
    }

    /// Tells how fast files go, for who is no measure.
    pub(crate) fn tell_speeds(&self) -> io::Result<()> {
        let file = self.random_file()?;
        let megabytes = self.sizes.file_len as f64 / 1e6;
        for (what, runs) in [("push", self.pushes(&file)?), ("pull", self.pulls(&file)?)] {
            let speed = |runs: &Vec<Run>| megabytes / median(runs.iter().map(|run| run.took.as_secs_f64()).collect());
            self.tell(&format!("{what} of {megabytes:.1} MB, MB/s"), &runs.iter().map(speed).collect::<Vec<_>>());
        }
        Ok(())
    }

    pub(crate) fn ratio(&self, figure: &str, runs: &[Vec<Run>], goal: f64) -> io::Result<()> {
        let times: Vec<f64> =
            runs.iter().map(|runs| median(runs.iter().map(|run| run.took.as_secs_f64() * 1e3).collect())).collect();
        self.tell(&format!("{figure}: median, ms"), &times);
        report(figure, times[0] / self.best_peer(&times), "ratio", Goal::AtMost(goal))
    }

    /// What each process took of the processors. That of client and adbd no server can spare.
    pub(crate) fn tell_processors(&self, what: &str, runs: &[Vec<Run>]) {
        let medians = |of: fn(&Run) -> f64| -> Vec<f64> {
            runs.iter().map(|runs| median(runs.iter().map(|run| of(run) * 1e3).collect())).collect()
        };
        self.tell(&format!("processor of the client, a {what}, ms"), &medians(|run| run.cpu_s - run.server_s));
        self.tell(&format!("processor of the server, a {what}, ms"), &medians(|run| run.server_s));
        self.tell(&format!("processor of adbd, a {what}, ms"), &medians(|run| run.adbd_s));
    }

    #[allow(clippy::print_stdout, reason = "printing is what a bench is for")]
    pub(crate) fn tell(&self, what: &str, values: &[f64]) {
        let values = self.all().into_iter().zip(values);
        let values = values.map(|(contender, value)| format!("{} {value:.2}", contender.name));
        println!("# {what}: {}", values.collect::<Vec<_>>().join(", "));
    }
}

fn rounds(
    contenders: &[&Contender],
    count: usize,
    mut once: impl FnMut(&Contender) -> io::Result<Run>,
) -> io::Result<Vec<Vec<Run>>> {
    let mut runs = vec![Vec::new(); contenders.len()];
    for round in 0..count {
        for turn in 0..contenders.len() {
            let index = (round + turn) % contenders.len();
            runs[index].push(once(contenders[index])?);
        }
    }
    Ok(runs)
}

/// Bytes that nothing makes smaller.
pub(crate) fn noise(len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    Ok(bytes)
}

pub(crate) fn sha256(path: &Path) -> io::Result<[u8; 32]> {
    Ok(sha256_of(&fs::read(path)?))
}

pub(crate) fn sha256_of(content: &[u8]) -> [u8; 32] {
    Sha256::digest(content).into()
}

pub(crate) fn same(sum: &[u8; 32], path: &Path, who: &str) -> io::Result<()> {
    if sha256(path)? == *sum { Ok(()) } else { Err(io::Error::other(format!("{who}: {} differs", path.display()))) }
}

/// Processor seconds of all children that have ended.
fn children_s() -> io::Result<f64> {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN)?;
    let microseconds = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(microseconds as f64 / 1e6)
}

/// Processor seconds of a running process, all threads that ever were.
fn process_s(pid: u32) -> io::Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // Behind the name in parentheses, which may hold anything.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks: f64 = fields.iter().skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    Ok(ticks / 100.0)
}
