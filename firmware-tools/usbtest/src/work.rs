//! The part in which one works on phones: each verb of the command line over USB, on Google's adbd and on our own phone, which has
//! what adbd alone has not: a package manager, a screen, a log, and a user who is asked for a key.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::check::{Failure, check, until};
use crate::daemon::{self, Daemon, User};
use crate::own::Own;
use crate::phone;

/// Slots A1 to A6 are the six controllers.
pub(crate) const CONFIG: &str = "/etc/work.toml";
/// Google's phone: its controller.
const GOOGLES: usize = 0;
const OURS: Own = Own { number: 1, serial: "OURS", options: &["--model", "Ours"] };
/// Its user allows this host after this many seconds.
const ASKS: Own = Own { number: 2, serial: "ASKS", options: &["--auth", "ask:5"] };
const TWINS: [Own; 2] = [
    Own { number: 3, serial: "TWIN", options: &["--imei", "490154203237518", "--model", "Left"] },
    Own { number: 4, serial: "TWIN", options: &["--imei", "490154203237526", "--model", "Right"] },
];
/// The controller to which our phone moves, and its slot.
const OTHER_PLACE: (&str, &str) = ("5", "A6");

/// From the plug to ready, in emulation on a busy machine.
const READY_MAX: Duration = Duration::from_secs(40);
/// What a phone does at once, through a command line that takes a second to start in emulation.
const SOON: Duration = Duration::from_secs(20);
/// The file that is pushed, in bytes.
const FILE_BYTES: u64 = 4 << 20;
const APP: &str = "org.example.agent";

pub(crate) fn run() -> Result<(), Failure> {
    phone::make(GOOGLES)?;
    let daemon = Daemon::start("/state", CONFIG, User::Root)?;
    phone::plug(GOOGLES)?;
    OURS.plug()?;
    check("auth", || auth(&daemon));
    for id in [&phone::serial(GOOGLES), OURS.serial] {
        daemon.wait_for(id, &["ready"], READY_MAX)?;
    }
    check("shell", || shell(&daemon));
    check("push_pull", || push_pull(&daemon));
    check("install", || install(&daemon));
    check("install_refused", || install_refused(&daemon));
    check("install_splits", || install_splits(&daemon));
    check("reverse", || reverse(&daemon));
    check("logcat", || logcat(&daemon));
    check("screenshot", || screenshot(&daemon));
    check("leases", || leases(&daemon));
    check("reboot", || reboot(&daemon));
    check("moved", || moved(&daemon));
    check("trace", || trace(&daemon));
    check("twins_work", || twins_work(&daemon));
    daemon.kill()?;
    check("twin_after_restart", twin_after_restart);
    println!("the daemons' log:\n{}", daemon::log());
    Ok(())
}

/// A phone that asks for a key says what to do, and is ready once its user has done it.
fn auth(daemon: &Daemon) -> Result<String, Failure> {
    ASKS.plug()?;
    let (asking, _) = daemon.wait_for(ASKS.serial, &["authorising"], READY_MAX)?;
    if !["unlock", "allow USB debugging"].iter().all(|word| asking.why.contains(word)) {
        return Err(asking.why.into());
    }
    let refused = daemon.refuses(&["phone", ASKS.serial, "shell", "true"], 4, &["phone.offline", "allow"])?;
    let (_, took) = daemon.wait_for(ASKS.serial, &["ready"], READY_MAX)?;
    daemon.order(&["phone", ASKS.serial, "shell", "true"])?;
    Ok(format!("{}; a shell before: {refused}; ready {:.1} s later", asking.why, took.as_secs_f64()))
}

/// Output, errors, input and exit code.
fn shell(daemon: &Daemon) -> Result<String, Failure> {
    let started = Instant::now();
    let (out, err, code) = fed(daemon, "A1", "cat; echo wrong >&2; exit 7", b"fed\n")?;
    if (out.as_str(), err.as_str(), code) != ("fed\n", "wrong\n", Some(7)) {
        return Err(format!("Google's: {out:?} {err:?} {code:?}").into());
    }
    let googles = started.elapsed();
    let input = vec![b'x'; 100_000];
    let (out, err, code) = fed(daemon, "A2", "cat", &input)?;
    if out.len() != input.len() || code != Some(0) {
        return Err(format!("ours: {} bytes {err:?} {code:?}", out.len()).into());
    }
    let (_, err, code) = fed(daemon, "A2", "ls /nothing", b"")?;
    if code != Some(1) || !err.contains("No such file") {
        return Err(format!("ours: {err:?} {code:?}").into());
    }
    Ok(format!(
        "input, output, errors and exit code 7 after {:.1} s; ours gives {} bytes back",
        googles.as_secs_f64(),
        input.len()
    ))
}

/// What a command on the phone that reads `input` says, and its exit code.
fn fed(daemon: &Daemon, phone: &str, line: &str, input: &[u8]) -> Result<(String, String, Option<i32>), Failure> {
    let mut child = daemon.command(&["phone", phone, "shell", line]).stdin(Stdio::piped()).spawn()?;
    let mut stdin = child.stdin.take().ok_or("no standard input")?;
    let input = input.to_vec();
    let feeding = std::thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output()?;
    // A command that reads nothing may have ended before.
    let _ = feeding.join();
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    Ok((text(output.stdout), text(output.stderr), output.status.code()))
}

/// A file of noise goes to each phone and comes back the same.
fn push_pull(daemon: &Daemon) -> Result<String, Failure> {
    let mut noise = File::open("/dev/urandom")?.take(FILE_BYTES);
    std::io::copy(&mut noise, &mut File::create("/tmp/noise")?)?;
    let sent = sha256("/tmp/noise")?;
    let mut said = Vec::new();
    for (slot, to) in [("A1", "/tmp/noise"), ("A2", "/data/local/tmp/noise")] {
        let start = Instant::now();
        daemon.order(&["phone", slot, "push", "/tmp/noise", to])?;
        let pushed = start.elapsed();
        daemon.order(&["phone", slot, "pull", to, "/tmp/back"])?;
        let pulled = start.elapsed().saturating_sub(pushed);
        let back = sha256("/tmp/back")?;
        fs::remove_file("/tmp/back")?;
        if back != sent {
            return Err(format!("{slot}: {back} came back, {sent} was sent").into());
        }
        said.push(format!("{slot} {:.1} s there, {:.1} s back", pushed.as_secs_f64(), pulled.as_secs_f64()));
    }
    let on_phone = daemon.order(&["phone", "A1", "shell", "sha256sum", "/tmp/noise"])?;
    if !on_phone.starts_with(&sent) {
        return Err(format!("A1 has {on_phone}, {sent} was sent").into());
    }
    daemon.refuses(&["phone", "A2", "pull", "/nothing", "/tmp/x"], 4, &["phone.pull", "No such file"])?;
    Ok(format!("{} MiB, sha256 equal: {}", FILE_BYTES >> 20, said.join("; ")))
}

fn sha256(path: &str) -> Result<String, Failure> {
    let output = Command::new("sha256sum").arg(path).output()?;
    let text = String::from_utf8(output.stdout)?;
    Ok(text.split_whitespace().next().ok_or("no sum")?.to_owned())
}

fn install(daemon: &Daemon) -> Result<String, Failure> {
    let said = daemon.order(&["phone", "A2", "install", "/apks/agent-1.apk"])?;
    let has = daemon.order(&["phone", "A2", "shell", "dumpsys", "package", APP])?;
    let version = has.lines().find(|line| line.contains("versionCode=")).unwrap_or_default().trim().to_owned();
    if version.starts_with("versionCode=1 ") { Ok(format!("{said} {version}")) } else { Err(has.into()) }
}

/// An app with another key is refused by the phone, and what is there stays.
fn install_refused(daemon: &Daemon) -> Result<String, Failure> {
    let order = ["phone", "A2", "install", "/apks/agent-2-other-key.apk"];
    let said = daemon.refuses(&order, 4, &["install.permanent", "INSTALL_FAILED_UPDATE_INCOMPATIBLE"])?;
    let has = daemon.order(&["phone", "A2", "shell", "dumpsys", "package", APP])?;
    if has.contains("versionCode=1 ") { Ok(said) } else { Err(has.into()) }
}

fn install_splits(daemon: &Daemon) -> Result<String, Failure> {
    daemon.order(&["phone", "A2", "install", "/apks/agent-2.apk", "/apks/agent-2-split-en.apk"])?;
    let paths = daemon.order(&["phone", "A2", "shell", "pm", "path", APP])?;
    let whole = paths.lines().count() == 2 && paths.contains("base.apk") && paths.contains("split_config.en.apk");
    if whole { Ok(paths) } else { Err(paths.into()) }
}

/// A port of each phone comes out at a port of this host, by farmhand's own adb server.
fn reverse(daemon: &Daemon) -> Result<String, Failure> {
    let host = TcpListener::bind("127.0.0.1:0")?;
    let at = host.local_addr()?.port();
    let mut said = Vec::new();
    for (serial, port) in [(phone::serial(GOOGLES), 7001), (OURS.serial.to_owned(), 7002)] {
        // A tunnel of ours lives as long as the phone's connection; of both it is asked for by one client.
        let mut adb = AdbClient::bound_to(&serial)?;
        adb.ask(&format!("reverse:forward:tcp:{port};tcp:{at}"))?;
        let local = match serial == OURS.serial {
            true => kept_by_ours(port)?,
            false => SocketAddr::from(([127, 0, 0, 1], port)),
        };
        let mut app = TcpStream::connect(local)?;
        app.write_all(b"up")?;
        let (mut came, _) = host.accept()?;
        let mut up = [0; 2];
        came.read_exact(&mut up)?;
        came.write_all(b"down")?;
        let mut down = [0; 4];
        app.read_exact(&mut down)?;
        if (&up, &down) != (b"up", b"down") {
            return Err(format!("{serial}: {up:?} {down:?}").into());
        }
        drop((app, came));
        AdbClient::bound_to(&serial)?.ask(&format!("reverse:killforward:tcp:{port}"))?;
        until("the phone's port is closed", SOON, || match TcpStream::connect(local) {
            Err(_) => Ok(()),
            Ok(_) => Err("it is open".into()),
        })?;
        said.push(format!("{serial} {local} to {at} and back"));
    }
    // The daemon is asked once more: nothing of it hangs.
    daemon.phones()?;
    Ok(said.join(", "))
}

/// Where our phone listens for an app that connects to its port.
fn kept_by_ours(port: u16) -> Result<SocketAddr, Failure> {
    let (local, _) = until("our phone has the tunnel", SOON, || {
        let kept = fs::read_to_string(format!("/tmp/own.{}.tunnels", OURS.number))?;
        let local = kept.lines().find_map(|line| line.split(' ').nth(1)).ok_or("no tunnel")?;
        Ok(local.parse::<SocketAddr>()?)
    })?;
    if local.port() == port { Ok(local) } else { Err(format!("it listens at {local}").into()) }
}

/// A client of farmhand's adb server, as Google's adb is one.
struct AdbClient(UnixStream);

impl AdbClient {
    fn bound_to(serial: &str) -> Result<Self, Failure> {
        let socket = UnixStream::connect("/state/adb.sock")?;
        socket.set_read_timeout(Some(SOON))?;
        let mut client = Self(socket);
        client.ask(&format!("host:transport:{serial}"))?;
        Ok(client)
    }

    /// Sends a request; the answer is OKAY, or the reason of the failure.
    fn ask(&mut self, request: &str) -> Result<(), Failure> {
        write!(self.0, "{:04x}{request}", request.len())?;
        let mut answer = [0; 4];
        self.0.read_exact(&mut answer)?;
        if &answer == b"OKAY" {
            return Ok(());
        }
        let mut why = String::new();
        self.0.read_to_string(&mut why)?;
        Err(format!("{request}: {} {why}", answer.escape_ascii()).into())
    }
}

/// The log as far as it is written, and as it is written; who reads it has the phone.
fn logcat(daemon: &Daemon) -> Result<String, Failure> {
    let dumped = daemon.order(&["phone", "A2", "logcat", "-d"])?;
    if !dumped.starts_with("--------- beginning of main") {
        return Err(dumped.into());
    }
    let mut reading = daemon.command(&["phone", "A2", "logcat", "-T", "1"]).spawn()?;
    // It stays open until the end: a reader who has gone away ends the reading.
    let mut lines = BufReader::new(reading.stdout.take().ok_or("no standard output")?).lines();
    let told = (|| {
        // It says something twice a second: six lines take so long that they were not there before.
        let seen = lines.by_ref().take(6).collect::<Result<Vec<_>, _>>()?;
        let (lease, _) = until("the log's reader has the phone", SOON, || Ok(logs_lease(daemon)?.ok_or("no lease")?))?;
        Ok::<_, Failure>((seen, lease))
    })();
    reading.kill()?;
    reading.wait()?;
    let (seen, lease) = told?;
    until("the phone is given back", SOON, || match logs_lease(daemon)? {
        None => Ok(()),
        Some(lease) => Err(lease.into()),
    })?;
    Ok(format!("{} lines; then {} as they came, with {lease}", dumped.lines().count(), seen.len()))
}

/// The lease of who reads the log of our phone. That of a client of the adb server, which stands for a while, is another one.
fn logs_lease(daemon: &Daemon) -> Result<Option<String>, Failure> {
    let phone = daemon.read(&format!("/api/phones/{}", OURS.serial))?;
    let leases = phone["leases"].as_array().ok_or("no list of leases")?;
    Ok(leases
        .iter()
        .find(|lease| lease["tool"] == "logcat")
        .map(|lease| format!("a lease for logcat of {}", lease["who"])))
}

fn screenshot(daemon: &Daemon) -> Result<String, Failure> {
    let said = daemon.order(&["phone", "A2", "screenshot", "/tmp/screen.png"])?;
    let picture = fs::read("/tmp/screen.png")?;
    let whole = picture.starts_with(b"\x89PNG\r\n\x1a\n") && picture.ends_with(b"IEND\xaeB`\x82");
    daemon.refuses(&["phone", "A1", "screenshot", "/tmp/none.png"], 4, &["phone.screenshot"])?;
    if whole { Ok(said) } else { Err(format!("{} bytes that are no PNG", picture.len()).into()) }
}

/// Who holds a phone has it alone until it is given back; others are told who and why.
fn leases(daemon: &Daemon) -> Result<String, Failure> {
    daemon.order(&["phone", "A2", "hold", "--for", "5m", "--reason", "a new battery"])?;
    let maras = |words: &[&str]| {
        let mut command = daemon.command(words);
        command.uid(1000).gid(0);
        command
    };
    let told = daemon::refuses(maras(&["phone", "A2", "shell", "true"]), 4, &["lease.held", "root", "a new battery"])?;
    daemon::refuses(maras(&["phone", "A2", "push", "/init", "/data/local/tmp/x"]), 4, &["lease.held", "root"])?;
    daemon.order(&["phone", "A2", "shell", "true"])?;
    if !maras(&["phone", "A1", "shell", "true"]).status()?.success() {
        return Err("mara has no shell on the other phone either".into());
    }
    daemon.order(&["phone", "A2", "release"])?;
    let output = maras(&["phone", "A2", "shell", "true"]).output()?;
    let after = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(format!("mara was told: {told}")) } else { Err(after.into()) }
}

/// It leaves the bus, comes back and is ready; nothing of recovery is spent on it.
fn reboot(daemon: &Daemon) -> Result<String, Failure> {
    let before = daemon.order(&["phone", "A2", "shell", "cat", "/proc/uptime"])?;
    daemon.order(&["phone", "A2", "reboot"])?;
    let (gone, left) = daemon.wait_for(OURS.serial, &["restarting", "recovering", "absent"], SOON)?;
    let (_, took) = daemon.wait_for(OURS.serial, &["ready"], READY_MAX)?;
    let after = daemon.order(&["phone", "A2", "shell", "cat", "/proc/uptime"])?;
    let uptime = |text: &str| text.split(' ').next().and_then(|word| word.parse::<f64>().ok());
    let said = format!("{} after {:.1} s, ready {:.1} s later", gone.why, left.as_secs_f64(), took.as_secs_f64());
    if uptime(&after) < uptime(&before) { Ok(said) } else { Err(format!("{said}; up {before} and {after}").into()) }
}

/// In another port it is the same phone in another slot.
fn moved(daemon: &Daemon) -> Result<String, Failure> {
    let marker = daemon::log().len();
    OURS.order("move", &[OTHER_PLACE.0])?;
    let (_, took) = until("our phone is ready in its new slot", READY_MAX, || {
        let phone = daemon.read(&format!("/api/phones/{}", OURS.serial))?;
        let here = phone["slot"] == OTHER_PLACE.1 && phone["state"] == "ready";
        if here { Ok(()) } else { Err(format!("{} {} {}", phone["slot"], phone["state"], phone["why"]).into()) }
    })?;
    let app = daemon.order(&["phone", OTHER_PLACE.1, "shell", "pm", "path", APP])?;
    let known = daemon.phones()?.into_iter().filter(|phone| phone.id.starts_with(OURS.serial)).count();
    let log = daemon::log();
    let told = log[marker..].lines().find(|line| line.contains("A2") && line.contains(OTHER_PLACE.1));
    let told = told.ok_or("the log does not tell both places")?;
    let said = format!("ready in {} after {:.1} s: {told}", OTHER_PLACE.1, took.as_secs_f64());
    if known == 1 && app.contains(APP) { Ok(said) } else { Err(format!("{said}; {known} phones; {app}").into()) }
}

/// The story of our phone so far: plugged in, restarted, moved.
fn trace(daemon: &Daemon) -> Result<String, Failure> {
    let story = daemon.order(&["phone", OTHER_PLACE.1, "trace"])?;
    let told = ["ready", "restart", "A6"].iter().all(|word| story.contains(word));
    let events = daemon.read(&format!("/api/phones/{}/trace", OURS.serial))?;
    let count = events["events"].as_array().map_or(0, Vec::len);
    let readies = story.lines().filter(|line| line.contains("ready")).count();
    let last = story.lines().last().unwrap_or_default();
    if told && (1..=256).contains(&count) && readies >= 3 {
        Ok(format!("{count} events, {readies} times ready; {last}"))
    } else {
        Err(story.into())
    }
}

fn twin(at: usize) -> String {
    format!("{}~{}", TWINS[at].serial, TWINS[at].options[1])
}

/// Two phones with one serial have a name each, and each name is a phone.
fn twins_work(daemon: &Daemon) -> Result<String, Failure> {
    for twin in &TWINS {
        twin.plug()?;
    }
    let mut said = Vec::new();
    for (at, model) in ["Left", "Right"].into_iter().enumerate() {
        let id = twin(at);
        daemon.wait_for(&id, &["ready"], READY_MAX)?;
        let here = daemon.order(&["phone", &id, "shell", "getprop", "ro.product.model"])?;
        if here.trim() != model {
            return Err(format!("{id} is {here}, not {model}").into());
        }
        said.push(format!("{id} is {model}"));
    }
    daemon.refuses(&["phone", "TWIN", "shell", "true"], 4, &["phone.unknown"])?;
    Ok(said.join(", "))
}

/// A twin that is alone when the next daemon starts is called as before.
fn twin_after_restart() -> Result<String, Failure> {
    TWINS[0].unplug()?;
    let daemon = Daemon::start("/state", CONFIG, User::Root)?;
    let (phone, _) = daemon.wait_for(&twin(1), &["ready"], READY_MAX)?;
    let names: Vec<String> = daemon.phones()?.into_iter().map(|phone| phone.id).collect();
    if names.contains(&"TWIN".to_owned()) {
        Err(format!("{names:?}").into())
    } else {
        Ok(format!("{} at {}", phone.id, phone.path))
    }
}
