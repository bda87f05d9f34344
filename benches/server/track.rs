//! From the end of a phone's connection to the line that a tracker reads, at farmhand's daemon and at Google's server.
//!
//! Both have the phone behind a cable that can be cut: a proxy in front of adbd.

use std::fs;
use std::io;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::report::{Goal, median, report};
use crate::stage::{ADBD, until};
use crate::talk::{asked, asked_within, say, text};

const UNPLUGS: usize = 15;
/// From `adb connect` to a phone that is online.
const GREETING: Duration = Duration::from_secs(3);
const FARMHAND_PORT: u16 = 5041;
const GOOGLE_PORT: u16 = 5042;

/// A cable to adbd.
struct Cable {
    address: String,
    /// Both ends of each connection over it.
    ends: Arc<Mutex<Vec<TcpStream>>>,
}

impl Cable {
    fn lay() -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?.to_string();
        let ends = Arc::<Mutex<Vec<TcpStream>>>::default();
        let plugged = Arc::clone(&ends);
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                // A server tries again; the cable stays.
                let Ok(far) = TcpStream::connect(ADBD) else { continue };
                for (mut from, mut to) in [(&near, &far), (&far, &near)].map(pair) {
                    std::thread::spawn(move || {
                        let _ = io::copy(&mut from, &mut to);
                        let _ = to.shutdown(Shutdown::Both);
                    });
                }
                plugged.lock().unwrap_or_else(PoisonError::into_inner).extend([near, far]);
            }
        });
        Ok(Self { address, ends })
    }

    fn cut(&self) {
        for end in self.ends.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            let _ = end.shutdown(Shutdown::Both);
        }
    }
}

fn pair((from, to): (&TcpStream, &TcpStream)) -> (TcpStream, TcpStream) {
    (from.try_clone().expect("a descriptor"), to.try_clone().expect("a descriptor"))
}

/// A server with its one phone; it ends with it.
struct Server {
    name: &'static str,
    port: u16,
    child: Child,
    cable: Cable,
    /// Its client, by which it is told of its phone; none where it knows.
    google: Option<PathBuf>,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn farmhand(dir: &Path) -> io::Result<Self> {
        let cable = Cable::lay()?;
        let config = dir.join("farmhand.toml");
        let text = format!(
            "[usb]\nscan = false\n[web]\nlisten = \"off\"\n[adb_server]\nlisten = \"127.0.0.1:{FARMHAND_PORT}\"\n[[slot]]\nname = \"A1\"\nendpoint = \"tcp:{}\"\n",
            cable.address
        );
        fs::write(&config, text)?;
        let mut command = Command::new(env!("CARGO_BIN_EXE_farmhand"));
        command.arg("run").arg("--config").arg(&config).arg("--state").arg(dir.join("state"));
        let child = quiet(&mut command).spawn()?;
        Ok(Self { name: "farmhand", port: FARMHAND_PORT, child, cable, google: None })
    }

    fn google(program: &Path, dir: &Path) -> io::Result<Self> {
        let cable = Cable::lay()?;
        let mut command = Command::new(program);
        command.args(["-L", &format!("tcp:{GOOGLE_PORT}"), "server", "nodaemon"]).env("HOME", dir);
        // Otherwise it finds adbd by itself, without the cable, and takes it for an emulator.
        command.env("ADB_LOCAL_TRANSPORT_MAX_PORT", "5553");
        let child = quiet(&mut command).spawn()?;
        let google = Some(program.to_owned());
        Ok(Self { name: "google's server 34", port: GOOGLE_PORT, child, cable, google })
    }

    fn until_online(&self) -> io::Result<()> {
        let mut told: Option<Instant> = None;
        until(&format!("{} has its phone", self.name), || {
            // Google's server may take a request for a phone that then never answers it.
            if asked_within(GREETING, self.port, &["host:transport-any", "shell:true"]).is_ok() {
                return true;
            }
            // It does not always look again by itself, and one that is told so in the middle of a greeting begins anew.
            if let Some(adb) = &self.google
                && told.is_none_or(|at| at.elapsed() > GREETING)
            {
                for word in ["disconnect", "connect"] {
                    let mut command = Command::new(adb);
                    command.args(["-P", &self.port.to_string(), word, &self.cable.address]);
                    let _ = quiet(&mut command).status();
                }
                told = Some(Instant::now());
            }
            false
        })
    }

    /// Milliseconds from the cut to the line that has the phone no more as `device`.
    fn unplug(&self) -> io::Result<f64> {
        self.until_online()?;
        let mut tracker = asked(self.port, &["host:track-devices"])?;
        let mut shown = text(&mut tracker)?;
        while !shown.contains("\tdevice") {
            shown = text(&mut tracker)?;
        }
        let begun = Instant::now();
        self.cable.cut();
        while shown.contains("\tdevice") {
            shown = text(&mut tracker)?;
        }
        Ok(begun.elapsed().as_secs_f64() * 1e3)
    }
}

fn quiet(command: &mut Command) -> &mut Command {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null())
}

pub(crate) fn measure(google: &Path) -> io::Result<()> {
    let dir = tempfile::Builder::new().prefix("farmhand-bench").tempdir_in("/dev/shm")?;
    let mut took = [Vec::new(), Vec::new()];
    for round in 0..UNPLUGS {
        // Each time a server that knows nothing of the times before: a phone that goes away again and again is given up.
        let dir = dir.path().join(round.to_string());
        fs::create_dir(&dir)?;
        took[0].push(Server::farmhand(&dir)?.unplug()?);
        took[1].push(Server::google(google, &dir)?.unplug()?);
    }
    let [ours, googles] = took.map(median);
    say(&format!(
        "from the end of a phone's connection to a tracker's line, median, ms: farmhand {ours:.2}, google's server 34 {googles:.2}"
    ));
    report("server.track_latency_ms", ours, "ms", Goal::AtMost(20.0))
}
